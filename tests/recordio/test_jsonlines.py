"""JSON and JSON Lines in."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from clary.errors import DataError
from clary.recordio.batch import CSR, concatenate
from clary.recordio.jsonlines import read_json, read_jsonlines
from clary.recordio.text import line_blocks

SPARSE = {"keys": [2, 0], "shape": [3], "values": [4, 1.5]}

DENSE_FORMS = [
    {"features": [1.5, 0, 4]},
    {"features": {"values": [1.5, 0, 4]}},
    {"data": {"features": [1.5, 0, 4]}},
    {"data": {"features": {"values": [1.5, 0, 4]}}},
    {"data": {"features": {"values": [1.5, 0, 4]}}, "configuration": {"anything": None}},
]
SPARSE_FORMS = [{"data": {"features": SPARSE}}, {"features": SPARSE}]


def body(*instances: Any) -> bytes:
    """A JSON request with these instances."""
    return json.dumps({"instances": instances}).encode()


def lines(*instances: Any) -> bytes:
    """A JSON Lines request with these instances."""
    return "".join(json.dumps(instance) + "\n" for instance in instances).encode()


def refusal(text: bytes) -> str:
    """What the error says that reading this JSON raises."""
    with pytest.raises(DataError) as caught:
        read_json(text)
    return str(caught.value)


def refusal_of_lines(text: bytes, block: int = 1 << 20) -> str:
    """What the error says that reading these JSON Lines raises."""
    with pytest.raises(DataError) as caught:
        list(read_jsonlines(text, block_bytes=block))
    return str(caught.value)


@pytest.mark.parametrize("instance", DENSE_FORMS)
def test_dense_forms(instance: Any) -> None:
    """Every dense form means the same row of float32, in JSON and in JSON Lines."""
    [batch] = read_jsonlines(lines(instance))
    for features in (read_json(body(instance)).features, batch.features):
        assert isinstance(features, np.ndarray)
        assert features.dtype == np.float32
        assert features.tolist() == [[1.5, 0, 4]]


@pytest.mark.parametrize("instance", SPARSE_FORMS)
def test_sparse_forms(instance: Any) -> None:
    """Keys and values become a sparse row with as many columns as the shape says, in the order given."""
    features = read_json(body(instance)).features
    assert isinstance(features, CSR)
    assert features.indices.tolist() == [2, 0]
    assert features.toarray().tolist() == [[1.5, 0, 4]]


def test_mixed_forms() -> None:
    """Sparse and dense instances in one request become sparse rows."""
    instances = DENSE_FORMS + SPARSE_FORMS
    batch = read_json(body(*instances))
    assert isinstance(batch.features, CSR)
    assert batch.dense().tolist() == [[1.5, 0, 4]] * len(instances)


def test_empty_sparse_row() -> None:
    """A sparse instance without keys is a row of zeros."""
    assert read_json(body({"features": {"keys": [], "shape": [2], "values": []}})).dense().tolist() == [[0, 0]]


def test_no_labels() -> None:
    """Requests have neither labels nor weights."""
    batch = read_json(body(*DENSE_FORMS))
    assert (batch.labels, batch.weights, batch.ids) == (None, None, None)


def test_large_numbers() -> None:
    """What is out of float32's range becomes infinite; JSON's byte order mark is dropped."""
    batch = read_json(b"\xef\xbb\xbf" + body({"features": [1e300, -(10**40)]}))
    assert batch.dense().tolist() == [[float("inf"), float("-inf")]]


@pytest.mark.parametrize(
    "text, words",
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b"\xff\xfe\xff", "the body is not JSON"),
        (b"1" * 5000, "the body"),
        (b"[" * 200_000, "the body is JSON nested too deeply"),
        (b"[[1, 2]]", 'the body has no "instances"'),
        (b'{"inputs": [[1]]}', 'the body has no "instances"'),
        (b'{"instances": {}}', '"instances" is an object, not a list'),
        (b'{"instances": []}', '"instances" is empty'),
    ],
)
def test_bad_bodies(text: bytes, words: str) -> None:
    """A body that is not JSON, or has no instances, is refused in one sentence."""
    assert refusal(text).startswith(words)


@pytest.mark.parametrize(
    "instance, reason",
    [
        ([1, 2], " has no features: write "),
        (None, " has no features: write "),
        ({"values": [1]}, " has no features: write "),
        ({"data": [1]}, " has no features: write "),
        ({"features": 5}, ': "features" is a number, not a list of numbers nor {"values": [...]}'),
        ({"features": {}}, ': "features" is an object, not a list'),
        ({"features": []}, " has no values"),
        ({"features": {"values": "1,2"}}, ': "values" is a string, not a list of numbers'),
        ({"features": [1, "2"]}, ": value 1 is a string, not a number"),
        ({"features": [True, 2]}, ": value 0 is true, not a number"),
        ({"features": [1, None]}, ": value 1 is null, not a number"),
        ({"features": [[1, 2]]}, ": value 0 is a list, not a number"),
        ({"features": [10**400, 1]}, " has an integer that is too large"),
        ({"features": [1, 2]}, " has 2 features, those before it have 3"),
        ({"features": {**SPARSE, "shape": [9]}}, " has 9 features, those before it have 3"),
        ({"features": {"keys": [0], "values": [1]}}, ' has "keys", so it needs "shape"'),
        ({"features": {**SPARSE, "shape": [0]}}, ' has "keys", so it needs "shape"'),
        ({"features": {**SPARSE, "shape": [1, 3]}}, ' has "keys", so it needs "shape"'),
        ({"features": {**SPARSE, "shape": [True]}}, ' has "keys", so it needs "shape"'),
        ({"features": {**SPARSE, "shape": [10**30]}}, ' has "keys", so it needs "shape"'),
        ({"features": {**SPARSE, "keys": [1]}}, " has 1 keys, but 2 values"),
        ({"features": {**SPARSE, "keys": [1, 3]}}, ": key 3 is outside shape [3]"),
        ({"features": {**SPARSE, "keys": [-1, 1]}}, ": key -1 is outside shape [3]"),
        ({"features": {**SPARSE, "keys": [0.0, 1]}}, ': "keys" is not a list of integers'),
        ({"features": {**SPARSE, "keys": 1}}, ': "keys" is not a list of integers'),
    ],
)
def test_bad_instances(instance: Any, reason: str) -> None:
    """A bad instance is named: by its number from zero in JSON, by its line in JSON Lines."""
    good = DENSE_FORMS[0]
    assert refusal(body(good, instance)).startswith("instances[1]" + reason)
    assert refusal_of_lines(lines(good, instance)).startswith("line 2" + reason)


@pytest.mark.parametrize("line", [b"{", b"[" * 200_000, b"\xff"])
def test_bad_line(line: bytes) -> None:
    """A line that is not JSON is refused by its number, empty lines counted."""
    assert refusal_of_lines(b'{"features": [1]}\n\n' + line + b"\n", block=10).startswith("line 3 is ")


def test_width_holds_over_blocks() -> None:
    """All instances of a stream have the same width, also where it is read in several blocks."""
    text = lines({"features": [1, 2]}, {"features": [1, 2]}, {"features": [1]})
    assert refusal_of_lines(text, block=25) == "line 3 has 1 features, those before it have 2"


def test_no_lines() -> None:
    """A stream without instances gives no batch."""
    assert list(read_jsonlines(b"")) == list(read_jsonlines(b"\n \r\n")) == []


@given(
    table=arrays.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 3)), elements=st.floats(width=32)),
    block=st.integers(1, 60),
    newline=st.booleans(),
)
def test_block_size_does_not_matter(table: np.ndarray[Any, Any], block: int, newline: bool) -> None:
    """JSON Lines give the rows that JSON gives, in blocks of any size, with and without a last newline."""
    rows = [{"features": row} for row in table.tolist()]
    text = lines(*rows)[: None if newline else -1]
    batch = concatenate(list(read_jsonlines(BytesIO(text), block_bytes=block)))
    np.testing.assert_array_equal(batch.dense(), table)
    np.testing.assert_array_equal(read_json(body(*rows)).dense(), table)


@given(text=st.binary().map(lambda text: text.replace(b"\x00", b"\n")), block=st.integers(1, 9))
def test_line_blocks(text: bytes, block: int) -> None:
    """Blocks put together are the stream, each ends with a newline, and their line numbers are right."""
    parts = list(line_blocks(BytesIO(b"x" + text), block))
    whole = b"".join(part for _, part in parts)
    assert whole == b"x" + text + (b"" if text.endswith(b"\n") else b"\n")
    starts = np.cumsum([1] + [part.count(b"\n") for _, part in parts])
    assert [line for line, _ in parts] == starts[:-1].tolist()
    assert all(part.endswith(b"\n") for _, part in parts)
