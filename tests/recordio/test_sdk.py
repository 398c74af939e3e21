"""The names of the SageMaker SDK v2, and the package that offers them."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import clary.recordio
from clary.errors import CorruptRecordError, DataError
from clary.recordio import (
    CSR,
    Batch,
    RecordDeserializer,
    RecordSerializer,
    read_batches,
    read_records,
    read_spmatrix,
    write_batch,
    write_numpy_to_dense_tensor,
    write_spmatrix_to_sparse_tensor,
)

DENSE = np.array([[0.0, 1.5, 0.0], [0.0, 0.0, 0.0], [2.5, 0.0, 3.5]])
LABELS = np.array([1.0, 0.0, 1.0], np.float32)


def made(write: Callable[..., None], *arguments: Any) -> io.BytesIO:
    """Return what a function writes, to be read from its beginning."""
    stream = io.BytesIO()
    write(stream, *arguments)
    stream.seek(0)
    return stream


def run(code: str) -> str:
    """Return what a fresh Python prints."""
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def test_dense_rows() -> None:
    """Each row of an array is a record with its label."""
    records = read_records(made(write_numpy_to_dense_tensor, DENSE, LABELS))
    assert [list(record.features["values"].float64_tensor.values) for record in records] == DENSE.tolist()
    assert [list(record.label["values"].float32_tensor.values) for record in records] == [[1.0], [0.0], [1.0]]


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_matrix", "coo_array", "lil_array", "ours"])
def test_sparse_rows(kind: str) -> None:
    """Sparse matrices of every kind are written alike, an empty row as its shape alone."""
    sparse = pytest.importorskip("scipy.sparse")
    matrix = CSR.from_dense(DENSE) if kind == "ours" else getattr(sparse, kind)(DENSE)
    tensors = [
        record.features["values"].float64_tensor
        for record in read_records(made(write_spmatrix_to_sparse_tensor, matrix, LABELS))
    ]
    assert [list(tensor.keys) for tensor in tensors] == [[1], [], [0, 2]]
    assert [list(tensor.values) for tensor in tensors] == [[1.5], [], [2.5, 3.5]]
    assert [list(tensor.shape) for tensor in tensors] == [[3], [3], [3]]


@pytest.mark.parametrize("write", [write_numpy_to_dense_tensor, write_spmatrix_to_sparse_tensor])
@pytest.mark.parametrize(
    ("array", "labels", "message"),
    [
        (DENSE, np.ones(2), r"Label shape \(2,\) not compatible with array shape \(3, 3\)"),
        (DENSE[:2], np.ones(3), r"Label shape \(3,\) not compatible with array shape \(2, 3\)"),
        (DENSE, np.ones((3, 1)), "Labels must be a Vector"),
        (DENSE.astype(np.float32) > 1, None, "Unsupported dtype bool on array"),
        (DENSE, LABELS > 0, "Unsupported dtype bool on array"),
    ],
)
def test_refused(write: Callable[..., None], array: Any, labels: Any, message: str) -> None:
    """Shapes and dtypes that do not fit are a ValueError with the SDK's text."""
    rows = CSR.from_dense(array) if write is write_spmatrix_to_sparse_tensor else array
    with pytest.raises(ValueError, match=message):
        write(io.BytesIO(), rows, labels)


@pytest.mark.parametrize("array", [np.ones(3), np.ones((1, 2, 3)), np.float32(1)])
def test_only_matrices(array: Any) -> None:
    """A dense tensor is written of two dimensions only."""
    with pytest.raises(DataError, match="Array must be a Matrix"):
        write_numpy_to_dense_tensor(io.BytesIO(), array)


def test_only_sparse_ones() -> None:
    """A dense array is no sparse matrix."""
    with pytest.raises(TypeError, match="Array must be sparse"):
        write_spmatrix_to_sparse_tensor(io.BytesIO(), DENSE)


@pytest.mark.parametrize("write", [write_numpy_to_dense_tensor, write_spmatrix_to_sparse_tensor])
def test_back_to_scipy(write: Callable[..., None]) -> None:
    """Dense and sparse records become a scipy matrix and labels."""
    pytest.importorskip("scipy.sparse")
    rows = CSR.from_dense(DENSE) if write is write_spmatrix_to_sparse_tensor else DENSE
    matrix, labels = read_spmatrix(made(write, rows, LABELS))
    assert labels is not None
    assert matrix.format == "csr"
    assert np.array_equal(matrix.toarray(), DENSE)
    assert np.array_equal(labels, LABELS)


def test_records_of_a_cut_file() -> None:
    """A cut file is an error, where the SDK would end silently."""
    data = made(write_numpy_to_dense_tensor, DENSE).getvalue()
    with pytest.raises(CorruptRecordError, match="record 3"):
        read_records(io.BytesIO(data + data[:3]))


@pytest.mark.parametrize("data", [DENSE, DENSE[0], DENSE.astype(np.float32), DENSE.tolist(), [0.0, 1.5, 0.0]])
def test_serializer(data: Any) -> None:
    """An array of one or two dimensions becomes records, one dimension a single one."""
    (batch,) = read_batches(RecordSerializer().serialize(data))
    assert np.array_equal(batch.dense(), np.atleast_2d(np.asarray(data)))


def test_serializer_of_sparse_rows() -> None:
    """A sparse matrix stays one."""
    (batch,) = read_batches(RecordSerializer().serialize(CSR.from_dense(DENSE)))
    assert isinstance(batch.features, CSR)


def test_serializer_refuses() -> None:
    """An array of three dimensions is refused with the SDK's text."""
    with pytest.raises(ValueError, match="Expected a 1D or 2D array, but got a 3D array instead"):
        RecordSerializer().serialize(np.ones((1, 1, 1)))


def test_media_types() -> None:
    """Predictors find the media types where they look for them."""
    serializer, deserializer = RecordSerializer(), RecordDeserializer()
    assert (serializer.CONTENT_TYPE, serializer.content_type) == ("application/x-recordio-protobuf",) * 2
    assert deserializer.ACCEPT == ("application/x-recordio-protobuf",)
    assert RecordSerializer(content_type="a/b").CONTENT_TYPE == "a/b"
    assert RecordDeserializer(accept=("a/b", "c/d")).ACCEPT == ("a/b", "c/d")


def test_deserializer() -> None:
    """An answer becomes a list of records, and its stream is closed."""
    stream = RecordSerializer().serialize(DENSE)
    records = RecordDeserializer().deserialize(stream, "application/x-recordio-protobuf")
    assert [list(record.features["values"].float64_tensor.values) for record in records] == DENSE.tolist()
    assert stream.closed


def test_deserializer_closes_after_an_error() -> None:
    """The stream is closed, also when it cannot be read."""
    stream = io.BytesIO(b"no records")
    with pytest.raises(DataError):
        RecordDeserializer().deserialize(stream, "text/plain")
    assert stream.closed


def test_every_name_is_there() -> None:
    """The package offers each name that it lists, and no other."""
    assert all(getattr(clary.recordio, name) is not None for name in clary.recordio.__all__)
    assert set(clary.recordio.__all__) <= set(dir(clary.recordio))
    with pytest.raises(AttributeError, match="no attribute 'read_everything'"):
        clary.recordio.read_everything  # noqa: B018  # pyright: ignore


def test_import_is_light() -> None:
    """Importing the package loads neither numpy nor protobuf; reading dense rows loads no protobuf, and never scipy."""
    loaded = "print([m for m in ('numpy', 'google.protobuf', 'scipy') if m in sys.modules])"
    assert run(f"import sys, clary.recordio; {loaded}") == "[]"
    data = made(write_batch, Batch(DENSE)).getvalue()
    read = f"from clary.recordio import read_batches; assert len(list(read_batches(io.BytesIO({data!r})))) == 1"
    assert run(f"import io, sys; {read}; {loaded}") == "['numpy']"


THEIRS = """
from google.protobuf import descriptor_pb2, descriptor_pool
file = descriptor_pb2.FileDescriptorProto(name="record.proto", package="aialgs.data")
file.message_type.add(name="Record").field.add(name="other", number=9, label=1, type=5)
descriptor_pool.Default().Add(file)
assert descriptor_pool.Default().FindMessageTypeByName("aialgs.data.Record").fields[0].name == "other"
"""
OURS = """
from clary.recordio.record_pb2 import Record
assert Record.FromString(Record(uid="a").SerializeToString()).uid == "a"
"""


@pytest.mark.parametrize("code", [THEIRS + OURS, OURS + THEIRS], ids=["theirs_first", "ours_first"])
def test_messages_of_the_same_name(code: str) -> None:
    """Another library may register messages of the same names in this process, before us or after."""
    run(code)
