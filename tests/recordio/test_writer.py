"""The writer: the bytes are those of the SageMaker SDK."""

from __future__ import annotations

import hashlib
import io
import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clary.errors import DataError
from clary.recordio.batch import CSR, Array, Batch
from clary.recordio.framing import read_frames
from clary.recordio.reader import read_batches
from clary.recordio.record import parse_record
from clary.recordio.writer import encode_columns, write_batch

GOLDEN = Path(__file__).parent / "golden"
MAKER = runpy.run_path(str(GOLDEN / "make_golden.py"))
SUMS: dict[str, str] = json.loads((GOLDEN / "sums.json").read_text())


def written(features: Array | CSR, labels: Array | None = None) -> bytes:
    """Return rows as a stream."""
    stream = io.BytesIO()
    write_batch(stream, Batch(features, labels))
    return stream.getvalue()


def ours() -> dict[str, bytes]:
    """Return what we write for the arrays of the golden files."""
    dense = {name: written(array, labels) for name, array, labels in MAKER["dense_cases"]()}
    return dense | {name: written(CSR(**parts), labels) for name, parts, labels in MAKER["sparse_cases"]()}


def test_checksums_of_the_sdk() -> None:
    """Each output has the checksum of what the SDK wrote."""
    found = {name: hashlib.sha256(data).hexdigest()[:32] for name, data in ours().items()}
    assert found == SUMS


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.rec")), ids=lambda path: path.stem)
def test_bytes_of_the_sdk(path: Path) -> None:
    """The outputs that are stored whole are the same, byte for byte."""
    assert ours()[path.stem] == path.read_bytes()


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.rec")), ids=lambda path: path.stem)
def test_what_the_sdk_wrote_can_be_read(path: Path) -> None:
    """The SDK's files hold as many rows as it was given."""
    assert sum(len(batch) for batch in read_batches(io.BytesIO(path.read_bytes()))) == MAKER["ROWS"]


def test_more_rows_than_a_block() -> None:
    """Rows of several blocks are the rows one by one."""
    rows = np.arange(3000 * 200, dtype=np.float32).reshape(3000, 200)
    labels = np.arange(3000, dtype=np.float64)
    assert written(rows, labels) == b"".join(written(rows[i : i + 1], labels[i : i + 1]) for i in range(3000))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_order_in_memory(dtype: str) -> None:
    """Columns of a larger array, or an array in Fortran order, are written row by row."""
    rows = np.arange(24).reshape(4, 6).astype(dtype)
    assert written(rows[:, ::2]) == written(rows[:, ::2].copy())
    assert written(np.asfortranarray(rows)) == written(rows)


def test_slices() -> None:
    """A slice of sparse rows is written as its rows are."""
    csr = CSR.from_dense(np.arange(24.0).reshape(4, 6) % 5)
    assert written(csr) == b"".join(written(csr[i : i + 1]) for i in range(4))


@pytest.mark.parametrize(
    "features", [np.empty((0, 3), np.float32), np.empty((0, 3), np.int64), CSR.from_dense(np.empty((0, 3)))]
)
def test_no_rows(features: Array | CSR) -> None:
    """No rows are no bytes."""
    assert written(features, np.empty(0)) == b""


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (np.ones((1, 1), np.float16), None, "Unsupported dtype float16 on array"),
        (np.ones((1, 1), bool), None, "Unsupported dtype bool on array"),
        (np.ones((1, 1), ">f4"), None, "Unsupported dtype >f4 on array"),
        (np.ones((1, 1)), np.ones(1, np.uint8), "Unsupported dtype uint8 on array"),
        (CSR.from_dense(np.ones((1, 1), np.int8)), None, "Unsupported dtype int8 on array"),
        (np.array([[2**31]]), None, "integers beyond 32 bits"),
        (np.ones((3, 1)), np.ones(2), "2 labels for 3 rows"),
        (np.ones((3, 1), np.int64), np.ones(4), "4 labels for 3 rows"),
    ],
)
def test_refused(features: Any, labels: Any, message: str) -> None:
    """What the format cannot hold is refused, and nothing is written."""
    stream = io.BytesIO()
    with pytest.raises(DataError, match=message):
        write_batch(stream, Batch(features, labels))
    assert stream.getvalue() == b""


def test_columns() -> None:
    """Answers are records with a label of each name, float32, and no features."""
    data = encode_columns({"closest_cluster": np.array([3, 1]), "projection": np.array([[0.5, 1], [2, 4]])})
    record = parse_record(list(read_frames(io.BytesIO(data)))[1])
    assert {name: list(value.float32_tensor.values) for name, value in record.label.items()} == {
        "closest_cluster": [1.0],
        "projection": [2.0, 4.0],
    }
    assert not record.features


def test_columns_with_ids() -> None:
    """Answers repeat the identity of their records."""
    data = encode_columns({"score": np.array([0.5, 1.5])}, ids=(("u-1", ""), ("", '{"a": 1}')))
    records = [parse_record(frame) for frame in read_frames(io.BytesIO(data))]
    assert [(record.uid, record.metadata) for record in records] == [("u-1", ""), ("", '{"a": 1}')]
    assert [record.label["score"].float32_tensor.values[0] for record in records] == [0.5, 1.5]


def test_no_columns_of_rows() -> None:
    """Answers to no rows are no bytes."""
    assert encode_columns({"score": np.empty(0)}) == b""
