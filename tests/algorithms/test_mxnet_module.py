"""Modules as MXNet saves them: the ZIP and the graph in it."""

import io
import json
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.algorithms.mxnet_module import Node, dump_symbol, head_op, load_object, member, pack, unpack
from clary.errors import ArtifactError

MEMBERS = {"manifest.json": b"{}", "params": bytes(range(256)) * 4, "empty": b""}


def zipped(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """A ZIP made by other means."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that come twice
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def test_pack() -> None:
    """Members are stored as they are, in their order, and nothing of the clock or the machine is told."""
    data = pack(MEMBERS)
    assert data == pack(MEMBERS)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == list(MEMBERS)
        assert {(info.compress_type, info.date_time, info.create_system) for info in archive.infolist()} == {
            (zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0), 3)
        }
        assert {info.external_attr >> 16 for info in archive.infolist()} == {0o100644}
    assert MEMBERS["params"] in data


@given(st.dictionaries(st.text(st.characters(categories=["L", "N"]), min_size=1), st.binary()))
def test_round_trip(members: dict[str, bytes]) -> None:
    """What was packed is unpacked, in its order."""
    assert list(unpack(pack(members)).items()) == list(members.items())


def test_deflated() -> None:
    """Members that somebody compressed are read up to a limit for all of them together."""
    data = zipped([("a", b"\0" * 600), ("b", b"\0" * 400)], zipfile.ZIP_DEFLATED)
    assert unpack(data, most_deflated=1000) == {"a": b"\0" * 600, "b": b"\0" * 400}
    with pytest.raises(ArtifactError, match="have 1000 bytes, 999 are allowed"):
        unpack(data, most_deflated=999)


def changed(data: bytes, signature: bytes, at: int, form: str, *values: int) -> bytes:
    """The bytes with numbers written behind the first place of a signature."""
    place = data.index(signature) + at
    new = struct.pack(form, *values)
    return data[:place] + new + data[place + len(new) :]


LOCAL, CENTRAL, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
ONE = pack({"a": b"12345"})
HOSTILE = {
    "empty": b"",
    "not a ZIP": b"\x12\1" + b"\0" * 200,
    "name twice": zipped([("a", b"1"), ("a", b"2")]),
    "other method": zipped([("a", b"1")], zipfile.ZIP_BZIP2),
    "encrypted": changed(changed(ONE, LOCAL, 6, "<H", 1), CENTRAL, 8, "<H", 1),
    "other bytes": ONE.replace(b"12345", b"12354"),
    "larger than the file": changed(ONE, CENTRAL, 24, "<I", 1 << 30),
    "size beyond the end": changed(ONE, CENTRAL, 20, "<II", 99, 99),
    "place beyond the end": changed(ONE, CENTRAL, 42, "<I", 1 << 30),
    "directory before the start": changed(ONE, END, 16, "<I", 1 << 30),
    "other name": changed(ONE, LOCAL, 30, "<B", 98),
    "later version": changed(ONE, CENTRAL, 6, "<H", 99),
    "patched": changed(ONE, CENTRAL, 8, "<H", 0x20),
    "damaged stream": zipped([("a", bytes(100))], zipfile.ZIP_DEFLATED).replace(b"c`", b"\xff\xff"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile(what: str) -> None:
    """A ZIP that is none, damaged, or has what no model has is an ArtifactError."""
    with pytest.raises(ArtifactError):
        unpack(HOSTILE[what])


def test_overlapping() -> None:
    """Members that all lie in the same place have no more bytes than the file."""
    one = pack({"a": b"\0" * 500})
    place, end = one.index(CENTRAL), one.index(END)
    entry = one[place : end - 1]  # without its name
    entries = b"".join(entry + name.encode() for name in "0123456789abcdef")
    ending = END + struct.pack("<HHHHIIH", 0, 0, 16, 16, len(entries), place, 0)
    with pytest.raises(ArtifactError, match=r"the ZIP has \d+ bytes, its members 8000"):
        unpack(one[:place] + entries + ending)


def test_cut_anywhere() -> None:
    """A ZIP cut at any byte is an error."""
    data = pack(MEMBERS)
    for size in range(len(data)):
        with pytest.raises(ArtifactError):
            unpack(data[:size])


def test_any_damage() -> None:
    """Changed bytes give an ArtifactError or what the ZIP held: by another name at most."""
    rng = np.random.default_rng(0)
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        whole = zipped(list(MEMBERS.items()), method)
        for _ in range(1000):
            data = bytearray(whole)
            for place in rng.integers(len(data), size=rng.integers(1, 5)).tolist():
                data[place] = int(rng.integers(256))
            try:
                assert set(unpack(bytes(data)).values()) <= set(MEMBERS.values())
            except ArtifactError as error:
                assert str(error)


GRAPH = [
    Node("null", "data"),
    Node("null", "fc0_weight", attrs={"__shape__": "(14, 1)"}),
    Node("dot", "dot39", ["data", "fc0_weight"]),
    Node("null", "fc0_bias", attrs={"__shape__": "(1, 1)", "__lr_mult__": "10.0"}),
    Node("broadcast_add", "broadcast_plus39", ["dot39", "fc0_bias"]),
    Node("null", "out_label"),
    Node("LogisticRegressionOutput", "logisticregressionoutput39", ["broadcast_plus39", "out_label"]),
]


def test_symbol_of_amazon(shared_data: Callable[[str], Path]) -> None:
    """A graph is written byte for byte as Amazon's container wrote it."""
    with tarfile.open(shared_data("aws_artifacts/linear_learner_binary/model.tar.gz")) as archive:
        file = archive.extractfile("model_algo-1")
        assert file is not None
        members = unpack(file.read())
    assert dump_symbol(GRAPH) == members["mx-mod-symbol.json"]
    assert unpack(pack(members)) == members


def test_symbol_lines() -> None:
    """Up to ten numbers stand on one line, more below one another; quotes in attributes are escaped."""
    nodes = [Node("null", f"x{i}", attrs={"__init__": '["zero", {}]'}) for i in range(9)]
    short = dump_symbol(nodes).decode()
    assert '"node_row_ptr": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], \n' in short
    assert '"attrs": {"__init__": "[\\"zero\\", {}]"}, \n' in short
    long = dump_symbol([*nodes, Node("null", "x9")]).decode()
    assert '  "node_row_ptr": [\n    0, \n    1, \n' in long
    assert "    9, \n    10\n  ], \n" in long
    assert json.loads(long)["arg_nodes"] == list(range(10))


def test_head() -> None:
    """The head of a graph is the operation that it computes."""
    assert head_op(json.loads(dump_symbol(GRAPH))) == "LogisticRegressionOutput"


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"heads": 1}',
        '{"heads": []}',
        '{"heads": {"0": 1}}',
        '{"heads": [[7]], "nodes": [{"op": "dot"}]}',
        '{"heads": [["a"]], "nodes": {"a": 1}}',
        '{"heads": [[0]], "nodes": [{"op": null}]}',
    ],
)
def test_no_head(text: str) -> None:
    """What is no graph has no head."""
    with pytest.raises(ArtifactError, match="symbol"):
        head_op(json.loads(text))


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe\xff", b"[1]", b'"text"', b"[" * 100_000, b"9" * 5000])
def test_no_object(text: bytes) -> None:
    """A member that is no JSON object is an error with its name."""
    with pytest.raises(ArtifactError, match=r"meta\.json is"):
        load_object({"meta.json": text}, "meta.json")


def test_missing() -> None:
    """A member that is missing is named, and so are those that are there."""
    with pytest.raises(ArtifactError, match="the model has no params, only a, b"):
        member({"a": b"", "b": b""}, "params")


def test_unwanted_members() -> None:
    """Members that nobody wants are not read, however large they would become."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("params", b"x")
        archive.writestr("bomb", b"\0" * 5000)
    assert unpack(file.getvalue(), ("params", "meta.json"), most_deflated=1) == {"params": b"x"}
