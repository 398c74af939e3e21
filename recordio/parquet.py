"""Parquet files of numbers to batches, through pyarrow, which is imported when the first one is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from gzip import GzipFile
from io import BytesIO
from typing import Any, BinaryIO, Final

import numpy as np

from ..errors import DataError
from ._extras import require
from .batch import Batch, concatenate, split_labels

__all__ = ["read_parquet", "read_parquet_body"]

_CELLS: Final = 1 << 20
"""Numbers a batch has at most, unless a row has more."""
_BUFFER: Final = 1 << 16
"""Bytes read ahead of each column; without a limit, all of its part of a row group."""
_LARGEST_BODY: Final = 1 << 26
"""Numbers a request may have: a few bytes of Parquet can say "zero, a billion times"."""


def read_parquet(stream: BinaryIO, *, label_size: int = 0) -> Iterator[Batch]:
    """Read rows of numbers, as float32; missing ones become NaN, and those out of float32's range infinite.

    Integers, floats, decimals and booleans count as numbers. The index that pandas writes beside the columns of a
    table is left out.

    Parameters
    ----------
    stream
        A file; its row groups are read in portions, one after the other. What cannot seek, or only slowly (a FIFO,
        gzip), is read as a whole first, because Parquet has its table of contents at the end.
    label_size
        How many columns, from the left, are labels: none for 0; shape (n,) for 1; shape (n, label_size) for more.

    Raises
    ------
    DataError
        When it is no Parquet file, is damaged, or has a column of something else.
    MissingExtraError
        When pyarrow is not installed.

    Examples
    --------
    >>> import pyarrow, pyarrow.parquet
    >>> file = BytesIO()
    >>> pyarrow.parquet.write_table(pyarrow.table({"y": [1, 0], "a": [0.5, None], "b": [True, False]}), file)
    >>> [batch] = read_parquet(BytesIO(file.getvalue()), label_size=1)
    >>> batch.features.tolist(), batch.labels.tolist()
    ([[0.5, 1.0], [nan, 0.0]], [1.0, 0.0])
    """
    whole = isinstance(stream, GzipFile) or not stream.seekable()
    source = BytesIO(stream.read()) if whole else stream
    with _open(source) as file:
        columns = _columns(file.schema_arrow)
        yield from _batches(file, columns, label_size)


def read_parquet_body(body: bytes, *, label_size: int = 0) -> Batch:
    """Read all rows of a request.

    Raises
    ------
    DataError
        As `read_parquet`; also where there are no rows, or more than memory should hold.

    Examples
    --------
    >>> import pyarrow, pyarrow.parquet
    >>> file = BytesIO()
    >>> pyarrow.parquet.write_table(pyarrow.table({"a": [0.5, 2], "b": [True, False]}), file)
    >>> read_parquet_body(file.getvalue()).features.tolist()
    [[0.5, 1.0], [2.0, 0.0]]
    """
    with _open(BytesIO(body)) as file:
        columns = _columns(file.schema_arrow)
        numbers = file.metadata.num_rows * len(columns)
        if numbers > _LARGEST_BODY:
            raise DataError(f"the body has {numbers} numbers, at most {_LARGEST_BODY} are read: send fewer rows")
        batches = list(_batches(file, columns, label_size))
    if not batches:
        raise DataError("the body has no rows")
    return batches[0] if len(batches) == 1 else concatenate(batches)


@contextmanager
def _open(source: BinaryIO) -> Iterator[Any]:
    """A ``pyarrow.parquet.ParquetFile``; what is wrong with it becomes a `DataError`."""
    arrow = require("pyarrow", package="pyarrow", extra="parquet")
    parquet = require("pyarrow.parquet", package="pyarrow", extra="parquet")
    try:
        with parquet.ParquetFile(source, pre_buffer=False, buffer_size=_BUFFER) as file:
            yield file
    except DataError:
        raise  # a ValueError too
    except (arrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's, not the data's
        raise DataError(f"no Parquet file, or a damaged one: {_sentence(error)}") from error


def _sentence(error: Exception) -> str:
    """The first line of what pyarrow says, without a full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _columns(schema: Any) -> list[int]:
    """Places of the columns that are data, all of which have to be numbers."""
    index = _index_names(schema.pandas_metadata)
    columns = [place for place, name in enumerate(schema.names) if name not in index]
    for place in columns:
        field = schema.field(place)
        if not _is_number(field.type):
            raise DataError(f"column {field.name!r} is of type {field.type}: only numbers and booleans can be read")
    return columns


def _index_names(pandas: Any) -> set[str]:
    """Names of the columns in which pandas keeps a table's index."""
    names = pandas.get("index_columns") if isinstance(pandas, dict) else None
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()


def _is_number(kind: Any) -> bool:
    """Whether a column's type is one of numbers, or that of a column where all are missing."""
    types = require("pyarrow", package="pyarrow", extra="parquet").types
    tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null)
    return any(test(kind) for test in tests)


def _batches(file: Any, columns: list[int], label_size: int) -> Iterator[Batch]:
    arrow = require("pyarrow", package="pyarrow", extra="parquet")
    size = max(1, _CELLS // max(1, len(columns)))
    for part in file.iter_batches(size, use_threads=False):
        rows = np.empty((part.num_rows, len(columns)), np.float32)
        for place, column in enumerate(columns):
            numbers = part.column(column).cast(arrow.float32(), safe=False)
            rows[:, place] = numbers.to_numpy(zero_copy_only=False)
        if len(rows):
            yield split_labels(rows, label_size)
