"""Pickled Boosters, read without running them."""

import gzip
import os
import pickle
import struct
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.algorithms.pickled import is_pickle, read_booster
from clary.errors import ArtifactError

OLD = Path(__file__).parents[1] / "golden" / "xgboost" / "old"
PICKLES = sorted(path.name for path in OLD.glob("*.p?.gz"))
STATE = {"handle": bytearray(b"\0\xe9binf"), "feature_names": ["a", "é"], "best_iteration": 7, "best_score": 0.5}
SMALL = b"\x80\x03cxgboost.core\nBooster\n)\x81}(X\x01\0\0\0aK\x01X\x01\0\0\0b]q\0(K\x02K\x03eub."


@pytest.fixture
def booster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Makes objects whose class calls itself ``xgboost.core.Booster``, as old files have it."""

    class Booster:
        def __init__(self, **state: Any) -> None:
            self.__dict__.update(state)

    module = types.ModuleType("xgboost.core")
    Booster.__module__, Booster.__qualname__ = module.__name__, "Booster"
    module.Booster = Booster  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "xgboost", types.ModuleType("xgboost"))
    monkeypatch.setitem(sys.modules, "xgboost.core", module)
    yield Booster


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_protocols(booster: Callable[..., Any], protocol: int) -> None:
    """The state of a Booster is read from each protocol of Python 3."""
    data = pickle.dumps(booster(**STATE, plain=b"\xff", empty=b"", none=None, yes=True, big=1 << 70), protocol)
    assert is_pickle(data)
    found = read_booster(data)
    assert dict(found) == {**STATE, "plain": b"\xff", "empty": b"", "none": None, "yes": True, "big": 1 << 70}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nested(booster: Callable[..., Any], protocol: int) -> None:
    """What is nested is left out, and so is what holds itself."""
    loop: list[Any] = []
    loop.append(loop)
    state = {"deep": [[1]], "dict": {"a": 1}, "loop": loop, "tuple": (1, 2)}
    assert read_booster(pickle.dumps(booster(**state), protocol)) == {"tuple": (1, 2)}


@pytest.mark.parametrize("name", PICKLES)
def test_real(name: str) -> None:
    """Pickles that real versions of xgboost wrote, in Python 2.7 to 3.8, hold a model."""
    data = gzip.decompress((OLD / name).read_bytes())
    assert is_pickle(data)
    assert len(read_booster(data)["handle"]) > 300


def test_is_pickle() -> None:
    """A model in another format is no pickle, even where its base score begins with the same byte."""
    others = [b'{"learner"', b"{L\0\0", b"binf\0\0\0\x3f", b"c\x80\3\x3f\6\0\0\0", b"\x80\3\0\x3f\6\0\0\0", b""]
    assert not any(is_pickle(data) for data in others)


class Call:
    """Pickled as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("function", "wanted"),
    [(os.system, f"{os.system.__module__}.system"), (eval, r"\w+\.eval"), (open, "open"), (getattr, "getattr")],
)
def test_calls(
    booster: Callable[..., Any], tmp_path: Path, protocol: int, function: Callable[..., Any], wanted: str
) -> None:
    """What a pickle wants to call is named and not called, wherever it stands."""
    marker = tmp_path / "marker"
    call = Call(function, f"touch {marker}" if function is os.system else f"open({str(marker)!r}, 'w')", "w")
    for value in (call, booster(handle=call), [call]):
        with pytest.raises(ArtifactError, match=f"the pickle asks for .*{wanted}.*: only a Booster is read"):
            read_booster(pickle.dumps(value, protocol))
    assert not marker.exists()


def u(text: str) -> bytes:
    """A text in a pickle."""
    return b"X" + struct.pack("<I", len(text)) + text.encode()


HOSTILE = {
    "GLOBAL": (b"cos\nsystem\n(S'true'\ntR.", r"os\.system"),
    "STACK_GLOBAL": (b"\x80\x04" + u("os") + u("system") + b"\x93" + u("true") + b"\x85R.", r"os\.system"),
    "class in class": (b"\x80\x04" + u("xgboost.core") + u("Booster.save_model") + b"\x93.", r"Booster\.save_model"),
    "other class": (b"\x80\x03cxgboost.sklearn\nXGBModel\n)\x81.", r"xgboost\.sklearn\.XGBModel"),
    "copyreg of eval": (b"ccopyreg\n_reconstructor\n(c__builtin__\neval\n", r"eval"),
    "copyreg of object": (b"ccopyreg\n_reconstructor\n(c__builtin__\nobject\nc__builtin__\nobject\nNtR.", "calls"),
    "call of a Booster": (b"cxgboost.core\nBooster\n(tR.", "calls xgboost.core.Booster"),
    "new bytes": (b"\x80\x03cbuiltins\nbytes\n)\x81.", "new builtins.bytes"),
    "new with arguments": (b"\x80\x03cxgboost.core\nBooster\nK\x01\x85\x81.", "new"),
    "INST": (b"(S'true'\nios\nsystem\n.", "INST"),
    "OBJ": (b"(cxgboost.core\nBooster\no.", "OBJ"),
    "NEWOBJ_EX": (b"\x80\x04cxgboost.core\nBooster\n)}\x92.", "NEWOBJ_EX"),
    "PERSID": (b"P1\n.", "PERSID"),
    "BINPERSID": (b"K\x01Q.", "BINPERSID"),
    "EXT1": (b"\x82\x01.", "EXT1"),
    "NEXT_BUFFER": (b"\x80\x05\x97.", "NEXT_BUFFER"),
    "set": (b"\x80\x04\x8f.", "EMPTY_SET"),
    "2^60 bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"abc", "cut or damaged"),
    "2^64 bytes": (b"\x80\x04\x8e" + b"\xff" * 8, "cut or damaged"),
    "2^31 digits": (b"\x80\x02\x8b" + struct.pack("<i", (1 << 31) - 1), "cut or damaged"),
    "many digits": (b"I" + b"9" * 100_000 + b"\n.", "cut or damaged"),
    "bytes of a number": (b"\x80\x03cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.", "neither bytes nor text"),
    "other encoding": (b"c_codecs\nencode\n(" + u("a") + u("zip") + b"tR.", "neither bytes nor text"),
    "too few arguments": (b"ccopyreg\n_reconstructor\n(tR.", "cut or damaged"),
    "no Booster": (b"\x80\x03K\x01.", "a int is where it cannot be"),
    "mark at the end": (b"(.", "a mark is where it cannot be"),
    "nothing": (b"\x80\x03.", "cut or damaged"),
    "no memo": (b"h\x05.", "cut or damaged"),
    "odd dictionary": (b"\x80\x03}(K\x01u.", "a key that is no text"),
    "key of a number": (b"\x80\x03}K\x01K\x01s.", "a key that is no text"),
    "state of a list": (b"\x80\x03cxgboost.core\nBooster\n)\x81]b.", "a list is where it cannot be"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(name: str) -> None:
    """Each other instruction, name or size is refused, and told."""
    data, message = HOSTILE[name]
    with pytest.raises(ArtifactError, match=message):
        read_booster(data)


@pytest.mark.parametrize("made", [b"t", b"l"], ids=["tuples", "lists"])
def test_doubling(made: bytes) -> None:
    """A value that holds the one before it twice, a thousand times over, costs nothing, and is no key."""
    bomb = b"K\x01q\x000" + (b"(h\0h\0" + made + b"q\x000") * 1000 + b"h\0"
    start = b"\x80\x03cxgboost.core\nBooster\n)\x81}"
    assert read_booster(start + u("a") + bomb + b"sb.") == {}
    with pytest.raises(ArtifactError, match="a key that is no text"):
        read_booster(start + bomb + b"K\x01sb.")


def test_deep() -> None:
    """A tuple in a tuple, a hundred thousand deep, is left out."""
    deep = b")" + b"\x85" * 100_000
    assert read_booster(b"\x80\x03cxgboost.core\nBooster\n)\x81}" + u("a") + deep + b"sb.") == {}


def test_decoded_again() -> None:
    """A long text cannot become bytes again and again."""
    call = b"c__builtin__\nbytearray\nh\0h\1\x86R0"
    data = b"\x80\x02" + u("x" * 10_000) + b"q\0" + u("latin-1") + b"q\1" + call * 100
    with pytest.raises(ArtifactError, match="again and again"):
        read_booster(data)


def test_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickle of too many instructions is given up."""
    monkeypatch.setattr("clary.algorithms.pickled._MOST_STEPS", 1000)
    with pytest.raises(ArtifactError, match="more than 1000 instructions"):
        read_booster(b"N0" * 600)


@pytest.mark.parametrize("name", ["0.72.1-forest.p0.gz", "0.72.1-logistic.p2.gz", "1.2.1-aft.p4.gz"])
def test_cut(name: str) -> None:
    """A pickle that ends early, anywhere, is damaged."""
    data = gzip.decompress((OLD / name).read_bytes())
    for length in [*range(400), *range(400, len(data), 61), *range(len(data) - 200, len(data))]:
        with pytest.raises(ArtifactError):
            read_booster(data[:length])


@given(st.data())
def test_flipped(data: st.DataObject) -> None:
    """With any bytes changed it is a state or refused."""
    changed = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(SMALL) - 1))] = data.draw(st.integers(0, 255))
    refused_or_read(bytes(changed))


@given(st.binary(max_size=64), st.sampled_from([b"", b"\x80\x04", SMALL[:30]]))
def test_random(tail: bytes, head: bytes) -> None:
    """So are any bytes."""
    refused_or_read(head + tail)


def test_flipped_real() -> None:
    """So is a real pickle with changed bytes."""
    data = gzip.decompress((OLD / "0.72.1-forest.p0.gz").read_bytes())
    chance = np.random.default_rng(1)
    for _ in range(300):
        changed = bytearray(data)
        changed[chance.integers(len(data))] = chance.integers(256)
        refused_or_read(bytes(changed))


def refused_or_read(data: bytes) -> None:
    """Read it; there is no other error than `ArtifactError`."""
    try:
        found = read_booster(data)
    except ArtifactError:
        return
    assert isinstance(found, dict)
