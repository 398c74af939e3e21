"""numpy's own files, read and written in blocks: ``.npy``, and ``.npz`` with dense or sparse rows.

A ``.npy`` file has one array with a row for each record, labels first, as in CSV. A dense ``.npz`` file has the
arrays ``features`` and, where rows have labels, ``labels``. A sparse one is what ``scipy.sparse.save_npz`` writes
for a CSR matrix, again with ``labels`` beside it.
"""

from __future__ import annotations

import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfileobj
from typing import IO, Any, BinaryIO, Final

import numpy as np

from ..errors import DataError
from .batch import CSR, Array, Batch

__all__ = ["npy_writer", "npz_writer", "read_npy", "read_npz"]

_BLOCK: Final = 1 << 20
_HEADER: Final = 128  # bytes; enough for any shape of ours, so it can be written again when the shape is known
_SPARSE: Final = {"indices", "indptr", "format", "shape", "data"}


def read_npy(stream: IO[bytes], *, label_size: int = 0, block_bytes: int = _BLOCK) -> Iterator[Batch]:
    """Batches of the rows of a ``.npy`` stream, the first `label_size` columns being labels.

    An array of one dimension is a single column; those beyond the second are flattened, so images become rows. An
    array stored column by column is read as a whole.

    Raises
    ------
    DataError
        When the stream is cut, or is no array of numbers.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> np.save(file, np.array([[1, 0.5, 2], [0, 3, 4]]))
    >>> _ = file.seek(0)
    >>> [batch] = read_npy(file, label_size=1)
    >>> batch.features.tolist(), batch.labels.tolist()
    ([[0.5, 2.0], [3.0, 4.0]], [1.0, 0.0])
    """
    array = _Member.open(stream, "the array")
    if label_size < 0 or label_size >= array.width:
        raise DataError(f"label_size is {label_size}, but rows have {array.width} values: no features are left")
    for rows in array.blocks(block_bytes):
        labels = rows[:, 0] if label_size == 1 else rows[:, :label_size]
        yield Batch(rows[:, label_size:], labels if label_size else None)


def read_npz(stream: IO[bytes], *, block_bytes: int = _BLOCK) -> Iterator[Batch]:
    """Batches of the rows of a ``.npz`` file, dense or sparse.

    Raises
    ------
    DataError
        When it is no ``.npz`` file, is damaged, or its arrays are not those described above.
    """
    try:
        with zipfile.ZipFile(stream) as archive, ExitStack() as stack:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            arrays = {
                key: _Member.open(stack.enter_context(archive.open(name)), repr(key))
                for key, name in members.items()
                if key in _SPARSE | {"features", "labels"}
            }
            if arrays.keys() >= _SPARSE:
                yield from _read_sparse(arrays, block_bytes)
            elif "features" in arrays:
                yield from _read_dense(arrays, block_bytes)
            else:
                raise DataError(f"no array named 'features' in the file, only {', '.join(members) or 'none at all'}")
    except zipfile.BadZipFile as error:
        raise DataError(f"no .npz file, or a damaged one: {error}") from error


@contextmanager
def npy_writer(stream: BinaryIO) -> Iterator[Callable[[Batch], None]]:
    """A function that adds rows to a ``.npy`` file, which is complete when the block has ended well.

    `stream` has to be seekable: the header tells the number of rows.
    """
    column = _Column(stream)
    stream.write(bytes(_HEADER))

    def add(batch: Batch) -> None:
        labels = [] if batch.labels is None else [batch.labels]
        column.write(np.column_stack([*labels, batch.dense()]))

    yield add
    stream.seek(0)
    stream.write(column.header())


@contextmanager
def npz_writer(stream: BinaryIO, folder: Path | None = None) -> Iterator[Callable[[Batch], None]]:
    """A function that adds rows to a ``.npz`` file, which is written when the block has ended well.

    It is sparse where the first rows are. Until then the rows are on disk in `folder`, or where the system keeps its
    temporary files.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> with npz_writer(file) as add:
    ...     add(Batch(np.array([[0.5, 2]]), np.array([1.])))
    ...     add(Batch(np.array([[3., 4]]), np.array([0.])))
    >>> _ = file.seek(0)
    >>> [(name, array.tolist()) for name, array in np.load(file).items()]
    [('features', [[0.5, 2.0], [3.0, 4.0]]), ('labels', [1.0, 0.0])]
    """
    with ExitStack() as files:
        rows = _Rows(folder, files)
        yield rows.add
        with zipfile.ZipFile(stream, "w") as archive:
            rows.zip(archive)


@dataclass(frozen=True, slots=True)
class _Member:
    """An array whose header has been read: `stream` stands at its first number."""

    stream: IO[bytes]
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    by_column: bool

    @classmethod
    def open(cls, stream: IO[bytes], name: str) -> _Member:
        try:
            version = np.lib.format.read_magic(stream)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"version {version} of the format")
            one = version == (1, 0)
            read = np.lib.format.read_array_header_1_0 if one else np.lib.format.read_array_header_2_0
            shape, by_column, dtype = read(stream)
        except ValueError as error:
            raise DataError(f"{name} cannot be read: {error}") from error
        if dtype.kind not in "biufSU" or (dtype.kind in "SU" and shape):
            raise DataError(f"{name} has the dtype {dtype}: it has to be one of numbers")
        return cls(stream, name, shape, dtype, by_column and len(shape) > 1)

    @property
    def width(self) -> int:
        """Values of a row."""
        return int(np.prod(self.shape[1:], dtype=np.int64))

    def read(self, count: int) -> Array:
        """The next `count` rows, shape (count, width) or, where the array has one dimension, (count,)."""
        wanted = count * self.width * self.dtype.itemsize
        chunks = []
        while wanted and (chunk := self.stream.read(min(wanted, _BLOCK))):
            chunks.append(chunk)
            wanted -= len(chunk)
        if wanted:
            raise DataError(f"{self.name} is cut: {wanted} bytes are missing of its next {count} rows")
        values = np.frombuffer(b"".join(chunks), self.dtype)
        native = values.astype(self.dtype.newbyteorder("="), copy=False)
        return native if len(self.shape) < 2 else native.reshape(count, self.width)

    def blocks(self, block_bytes: int) -> Iterator[Array]:
        """All rows, shape (n, width), in blocks of about so many bytes; in a single one where columns are stored."""
        if self.by_column:
            yield self.read(self.shape[0]).reshape(self.shape[::-1]).T.reshape(self.shape[0], -1)
            return
        step = max(1, block_bytes // max(1, self.width * self.dtype.itemsize))
        for start in range(0, self.shape[0], step):
            yield self.read(min(step, self.shape[0] - start)).reshape(-1, self.width)


def _read_dense(arrays: Mapping[str, _Member], block_bytes: int) -> Iterator[Batch]:
    features, labels = arrays["features"], arrays.get("labels")
    if not features.shape:
        raise DataError("'features' is a single number")
    _check_labels(labels, features.shape[0])
    for rows in features.blocks(block_bytes):
        yield Batch(rows, None if labels is None else labels.read(len(rows)))


def _read_sparse(arrays: Mapping[str, _Member], block_bytes: int) -> Iterator[Batch]:
    kind = arrays["format"].read(1).tolist()
    if kind not in ([b"csr"], ["csr"]):
        raise DataError(f"the sparse matrix has the format {kind[0]!r}: save its tocsr()")
    count, width = (int(size) for size in arrays["shape"].read(2))
    indptr = arrays["indptr"].read(arrays["indptr"].shape[0]).astype(np.int64)
    stored = {arrays["data"].shape, arrays["indices"].shape}
    if stored != {(int(indptr[-1]),)} or len(indptr) != count + 1 or indptr[0] or (np.diff(indptr) < 0).any():
        raise DataError("'indptr', 'indices' and 'data' do not fit each other")
    labels = arrays.get("labels")
    _check_labels(labels, count)
    start = 0
    while start < count:
        enough = int(np.searchsorted(indptr, indptr[start] + block_bytes // 16, side="right")) - 1
        stop = min(count, max(start + 1, min(enough, start + block_bytes // 16)))
        used = int(indptr[stop] - indptr[start])
        indices = arrays["indices"].read(used).astype(np.int64)
        if used and not 0 <= indices.min() <= indices.max() < width:
            raise DataError(f"a column index in rows {start} to {stop - 1} is outside of 0 to {width - 1}")
        rows = CSR(indptr[start : stop + 1] - indptr[start], indices, arrays["data"].read(used), (stop - start, width))
        yield Batch(rows, None if labels is None else labels.read(len(rows)))
        start = stop


def _check_labels(labels: _Member | None, count: int) -> None:
    if labels is not None and (not labels.shape or labels.shape[0] != count):
        raise DataError(f"'labels' has the shape {labels.shape} for {count} rows")


class _Column:
    """The rows of one array, written behind each other."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.rows = 0
        self._tail: tuple[int, ...] = ()
        self._dtype: np.dtype[Any] = np.dtype(np.float32)

    def write(self, rows: Array) -> None:
        """Add rows; the dtype and width are those of the first ones."""
        if not self.rows:
            self._tail, self._dtype = rows.shape[1:], rows.dtype
        if rows.shape[1:] != self._tail:
            raise DataError(f"rows of {rows.shape[1:]} values after rows of {self._tail}")
        self.stream.write(np.ascontiguousarray(rows, self._dtype).data)
        self.rows += len(rows)

    def header(self) -> bytes:
        """The beginning of a ``.npy`` file with all rows so far, always of the same length."""
        return _header(self._dtype, (self.rows, *self._tail))


class _Rows:
    """Rows on their way to a ``.npz`` file, which needs each array as a whole."""

    def __init__(self, folder: Path | None, files: ExitStack) -> None:
        self._folder = folder
        self._files = files
        self._count = self._width = self._stored = 0
        self._columns: dict[str, _Column] = {}

    def add(self, batch: Batch) -> None:
        """Take the rows of a batch."""
        if self._count and (batch.labels is not None) != ("labels" in self._columns):
            without = "have no label" if batch.labels is None else "have a label"
            raise DataError(f"rows from number {self._count} on {without}, unlike those before")
        sparse = "data" in self._columns if self._count else isinstance(batch.features, CSR)
        if sparse:
            self._add_sparse(batch.features if isinstance(batch.features, CSR) else CSR.from_dense(batch.features))
        else:
            self._write("features", batch.dense())
        if batch.labels is not None:
            self._write("labels", batch.labels)
        self._count, self._width = self._count + len(batch), batch.width

    def zip(self, archive: zipfile.ZipFile) -> None:
        """Write all arrays; the same rows make the same bytes."""
        for name, column in self._columns.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                member.write(column.header())
                column.stream.seek(0)
                copyfileobj(column.stream, member, _BLOCK)
        if "data" in self._columns:
            shape = np.array([self._count, self._width])
            archive.writestr(zipfile.ZipInfo("shape.npy"), _header(shape.dtype, shape.shape) + shape.tobytes())
            archive.writestr(zipfile.ZipInfo("format.npy"), _header(np.dtype("S3"), ()) + b"csr")

    def _add_sparse(self, rows: CSR) -> None:
        if self._count and rows.shape[1] != self._width:
            raise DataError(f"rows of {rows.shape[1]} columns after rows of {self._width}")
        self._write("indptr", rows.indptr[1 if self._count else 0 :] + self._stored)
        self._write("indices", rows.indices)
        self._write("data", rows.values)
        self._stored += len(rows.values)

    def _write(self, name: str, rows: Array) -> None:
        if name not in self._columns:
            raw = self._files.enter_context(tempfile.TemporaryFile(dir=self._folder))  # noqa: SIM115  # the stack closes it
            self._columns[name] = _Column(raw)
        self._columns[name].write(rows)


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    content = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    prefix = b"\x93NUMPY\x01\x00" + struct.pack("<H", _HEADER - 10)
    return prefix + repr(content).encode().ljust(_HEADER - 11) + b"\n"
