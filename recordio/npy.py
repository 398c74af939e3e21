"""numpy's own files, read and written in blocks: ``.npy``, and ``.npz`` with dense or sparse rows.

A ``.npy`` file has one array with a row for each record, labels first, as in CSV. A dense ``.npz`` file has the
arrays ``features`` and, where rows have labels, ``labels``. A sparse one is what ``scipy.sparse.save_npz`` writes
for a CSR matrix, again with ``labels`` beside it.
"""

from __future__ import annotations

import struct
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfileobj
from typing import IO, Any, BinaryIO, Final

import numpy as np

from ..errors import DataError
from .batch import CSR, Array, Batch

__all__ = ["read_npy", "read_npz", "write_npy", "write_npz"]

_BLOCK: Final = 1 << 20
_HEADER: Final = 128  # bytes; enough for any shape of ours, so it can be written again when the shape is known
_SPARSE: Final = {"indices", "indptr", "format", "shape", "data"}


def read_npy(stream: IO[bytes], *, label_size: int = 0, block_bytes: int = _BLOCK) -> Iterator[Batch]:
    """Batches of the rows of a ``.npy`` stream, the first `label_size` columns being labels.

    An array of one dimension is a single column; those beyond the second are flattened, so images become rows.

    Raises
    ------
    DataError
        When the stream is cut, or is no array of numbers with rows one after the other.

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


def write_npy(stream: BinaryIO, batches: Iterable[Batch]) -> int:
    """Write labels, where there are any, and features side by side; give the number of rows.

    `stream` has to be seekable: the shape is written at the end.
    """
    column = _Column(stream)
    stream.write(bytes(_HEADER))
    for batch in batches:
        labels = [] if batch.labels is None else [batch.labels.reshape(len(batch), -1)]
        column.write(np.hstack([*labels, batch.dense()]))
    header = column.header()
    stream.seek(0)
    stream.write(header)
    stream.seek(0, 2)
    return column.rows


def write_npz(stream: BinaryIO, batches: Iterable[Batch], *, folder: Path | None = None) -> int:
    """Write a ``.npz`` file, sparse where the first batch is; give the number of rows.

    Parameters
    ----------
    folder
        Where the rows are kept until their number is known, on disk; by default the system's temporary folder.
    """
    with ExitStack() as stack:
        columns: dict[str, _Column] = {}

        def write(name: str, array: Array) -> None:
            if name not in columns:
                columns[name] = _Column(stack.enter_context(tempfile.TemporaryFile(dir=folder)))
            columns[name].write(array)

        rows = width = used = 0
        for batch in batches:
            if batch.labels is None and "labels" in columns or batch.labels is not None and rows and "labels" not in columns:
                raise DataError(f"from row {rows} on, rows have {'no ' * (batch.labels is None)}labels")
            if isinstance(batch.features, CSR) and "features" not in columns:
                features = batch.features
                write("indptr", features.indptr[0 if not rows else 1 :] + used)
                write("indices", features.indices)
                write("data", features.values)
                used += len(features.values)
            else:
                write("features", batch.dense())
            if batch.labels is not None:
                write("labels", batch.labels)
            rows, width = rows + len(batch), batch.width
        _zip(stream, columns, (rows, width))
    return rows
