"""The names of the SageMaker Python SDK v2 for RecordIO-protobuf, which its v3 no longer has.

What they write is the same, byte for byte; errors are `DataError`, which is a ``ValueError`` as there. Code moves
over by its import line::

    from sagemaker.amazon.common import write_numpy_to_dense_tensor    # SDK v2
    from clary.recordio import write_numpy_to_dense_tensor

`RecordSerializer` and `RecordDeserializer` serve a predictor of SDK v2 and an ``Endpoint`` of SDK v3. Neither SDK is
needed or imported here.
"""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from ..errors import DataError
from .batch import CSR, Array, Batch, concatenate
from .framing import read_frames
from .reader import read_batches
from .record import parse_record
from .writer import write_batch

if TYPE_CHECKING:
    from .record_pb2 import Record

__all__ = [
    "RecordDeserializer",
    "RecordSerializer",
    "read_records",
    "read_spmatrix",
    "write_numpy_to_dense_tensor",
    "write_spmatrix_to_sparse_tensor",
]

_MEDIA_TYPE: Final = "application/x-recordio-protobuf"


def write_numpy_to_dense_tensor(file: BinaryIO, array: Any, labels: Any = None) -> None:
    """Write each row of an array as one record.

    Parameters
    ----------
    file
        Binary, writable.
    array
        Shape (n, d); float32, float64, int64 or int32, the last two written as int32.
    labels
        Shape (n,), of one of these dtypes; or None.

    Raises
    ------
    DataError
        For another shape or dtype.

    Examples
    --------
    >>> file = io.BytesIO()
    >>> write_numpy_to_dense_tensor(file, np.array([[1., 2.]], np.float32), labels=np.array([1.], np.float32))
    >>> _ = file.seek(0)
    >>> read_records(file)[0].features["values"].float32_tensor.values
    [1.0, 2.0]
    """
    rows = np.asarray(array)
    write_batch(file, Batch(rows, _labels(rows.shape, labels)))


def write_spmatrix_to_sparse_tensor(file: BinaryIO, array: Any, labels: Any = None) -> None:
    """Write each row of a sparse matrix as one record.

    Parameters
    ----------
    file
        Binary, writable.
    array
        Any scipy.sparse matrix or array of two dimensions, or our `CSR`; dtypes as for dense ones.
    labels
        Dense, shape (n,); or None.

    Raises
    ------
    TypeError
        When `array` is not sparse.
    DataError
        For another shape or dtype.

    Examples
    --------
    >>> file = io.BytesIO()
    >>> write_spmatrix_to_sparse_tensor(file, CSR.from_dense(np.array([[0., 7.]])))
    >>> _ = file.seek(0)
    >>> read_records(file)[0].features["values"].float64_tensor.keys
    [1]
    """
    if not isinstance(array, CSR) and not hasattr(array, "tocsr"):
        raise TypeError("Array must be sparse")
    column = _labels(array.shape, labels)
    write_batch(file, Batch(array if isinstance(array, CSR) else CSR.from_scipy(array), column))


def read_records(file: BinaryIO) -> list[Record]:
    """All records of a file as protobuf messages.

    `read_batches` is the fast way to the numbers alone.

    Raises
    ------
    CorruptRecordError
        When a record is cut or odd; the SDK ends silently after some cuts.
    """
    return [parse_record(frame) for frame in read_frames(file)]


def read_spmatrix(file: BinaryIO) -> tuple[Any, Array | None]:
    """All records of a file as a ``scipy.sparse.csr_matrix``, and their labels where they have any.

    Raises
    ------
    MissingExtraError
        When scipy is not installed.
    DataError
        When there is no record, or one is cut or odd.

    Examples
    --------
    >>> file = io.BytesIO()
    >>> write_spmatrix_to_sparse_tensor(file, CSR.from_dense(np.eye(2)), labels=np.array([0., 1.]))
    >>> _ = file.seek(0)
    >>> matrix, labels = read_spmatrix(file)
    >>> matrix.toarray().tolist(), labels.tolist()
    ([[1.0, 0.0], [0.0, 1.0]], [0.0, 1.0])
    """
    batch = concatenate(list(read_batches(file)))
    rows = batch.features if isinstance(batch.features, CSR) else CSR.from_dense(batch.features)
    return rows.to_scipy(), batch.labels


class RecordSerializer:
    """Serialises the data of an inference request.

    Parameters
    ----------
    content_type
        What the request's Content-Type says.

    Examples
    --------
    >>> RecordSerializer().serialize(np.array([1., 2., 3.], np.float32)).read()[:4].hex(" ")
    '0a 23 d7 ce'
    """

    def __init__(self, content_type: str = _MEDIA_TYPE) -> None:
        self.content_type = content_type
        _register(type(self), "sagemaker.core.serializers.base", "BaseSerializer")

    @property
    def CONTENT_TYPE(self) -> str:  # noqa: N802 the SDK's name
        """The media type of what `serialize` makes."""
        return self.content_type

    def serialize(self, data: Any) -> io.BytesIO:
        """Rows as records, in a buffer to be read from its beginning.

        Parameters
        ----------
        data
            Shape (n, d), or (d,) for a single row; a sparse matrix is written as one.

        Raises
        ------
        DataError
            For another shape or dtype.
        """
        buffer = io.BytesIO()
        if isinstance(data, CSR) or hasattr(data, "tocsr"):
            write_spmatrix_to_sparse_tensor(buffer, data)
        else:
            rows = np.asarray(data)
            if rows.ndim not in (1, 2):
                raise DataError(f"Expected a 1D or 2D array, but got a {rows.ndim}D array instead.")
            write_numpy_to_dense_tensor(buffer, np.atleast_2d(rows))
        buffer.seek(0)
        return buffer


class RecordDeserializer:
    """Deserialises the answer to an inference request.

    Parameters
    ----------
    accept
        What the request's Accept says: a media type, or several.
    """

    def __init__(self, accept: str | tuple[str, ...] = _MEDIA_TYPE) -> None:
        self.accept = accept
        _register(type(self), "sagemaker.core.deserializers.base", "BaseDeserializer")

    @property
    def ACCEPT(self) -> tuple[str, ...]:  # noqa: N802 the SDK's name
        """The media types that `deserialize` understands."""
        return (self.accept,) if isinstance(self.accept, str) else self.accept

    def deserialize(self, stream: BinaryIO, content_type: str | None = None) -> list[Record]:  # noqa: ARG002 the SDK's
        """All records of an answer; its stream is closed.

        Raises
        ------
        CorruptRecordError
            When a record is cut or odd.
        """
        try:
            return read_records(stream)
        finally:
            stream.close()


def _labels(shape: tuple[int, ...], labels: Any) -> Array | None:
    """Labels that fit rows of a shape, which have to be a matrix."""
    if len(shape) != 2:
        raise DataError("Array must be a Matrix")
    if labels is None:
        return None
    column = np.asarray(labels)
    if column.ndim != 1:
        raise DataError("Labels must be a Vector")
    if len(column) != shape[0]:
        raise DataError(f"Label shape {column.shape} not compatible with array shape {shape}")
    return column


def _register(ours: type, module: str, base: str) -> None:
    """Let `ours` pass as a `base` of SDK v3, whose ``Endpoint`` asks for one, where that SDK is in use."""
    if module in sys.modules:
        getattr(sys.modules[module], base).register(ours)
