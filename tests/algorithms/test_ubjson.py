"""Universal Binary JSON as XGBoost writes it."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.algorithms.booster import Booster, Matrix
from clary.algorithms.booster_legacy import ubjson
from clary.algorithms.ubjson import read_ubjson
from clary.errors import ArtifactError


def test_values_by_hand() -> None:
    """Each kind of value is read: objects, arrays of one type, counted and open arrays, words and all numbers."""
    data = (
        b"{i\x01aSU\x02hi"
        + b"i\x01b[$l#i\x02"
        + struct.pack(">2i", 1, -2)
        + b"i\x01c[#i\x02TF"
        + b"i\x01d[ZI\x01\x00]"
        + b"i\x01eD"
        + struct.pack(">d", 0.5)
        + b"}"
    )
    found = read_ubjson(data)
    assert [*found] == ["a", "b", "c", "d", "e"]
    assert found["a"] == "hi"
    assert found["b"].tolist() == [1, -2]
    assert (found["c"], found["d"], found["e"]) == ([True, False], [None, 256], 0.5)


@pytest.mark.parametrize("kind", ["gbtree", "gblinear", "dart"])
def test_models(kind: str) -> None:
    """What the library writes as UBJSON has the values that it writes as JSON."""
    matrix = Matrix(np.eye(4, dtype=np.float32), np.arange(4))
    booster = Booster({"booster": kind}, [matrix])
    for i in range(3):
        booster.update(matrix, i)
    found, expected = read_ubjson(booster.to_bytes()), json.loads(booster.to_bytes("json"))

    def same(one: object, other: object) -> bool:
        if isinstance(other, dict):
            assert isinstance(one, dict)
            return [*one] == [*other] and all(same(one[key], value) for key, value in other.items())
        if isinstance(other, list):
            assert isinstance(one, (list, np.ndarray))
            return len(one) == len(other) and all(map(same, one, other))
        return (
            one == other if isinstance(other, str) else bool(np.isclose(float(str(one)), float(str(other)), rtol=1e-6))
        )

    assert same(found, expected)


@given(st.dictionaries(st.text(max_size=4), st.text(max_size=5), max_size=4))
def test_there_and_back(value: dict[str, str]) -> None:
    """What is written is read again."""
    assert read_ubjson(ubjson(value)) == value


@given(st.binary(max_size=60))
def test_anything_is_a_value_or_an_error(data: bytes) -> None:
    """Whatever the bytes, there is a value or an ArtifactError."""
    for document in (data, b"{" + data, b"[" + data, b"[$" + data):
        try:
            read_ubjson(document)
        except ArtifactError as error:
            assert "the UBJSON is damaged at byte" in str(error)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "begins no value"),
        (b"{i\x01", "a size of 1 is more than there is"),
        (b"{i\x05ab", "more than there is"),
        (b"{i\xffab", "a size of -1"),
        (b"{L\x7f\xff\xff\xff\xff\xff\xff\xff", "more than there is"),
        (b"[$l#L\x00\x00\x00\x00\x10\x00\x00\x00", "more than there is"),
        (b"[$l#i\x04" + bytes(8), "longer than what is left"),
        (b"[$S#i\x01", "is no type of numbers"),
        (b"{i\x01aTi\x01aT}", "is there twice"),
        (b"[" * 100, "more than 64 deep"),
        (b"{}x", "behind its end"),
        (b"{i\x01\xffT}", "cut or damaged"),
        (b"{i\x01aI\x00", "cut or damaged"),
    ],
)
def test_damaged(data: bytes, told: str) -> None:
    """What is cut, too deep or too large is an error that names the byte."""
    with pytest.raises(ArtifactError, match=told):
        read_ubjson(data)
