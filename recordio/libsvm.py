"""libsvm text: ``label[:weight] column:value …`` a line, to sparse batches and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import BinaryIO, cast

import numpy as np

from ..errors import DataError
from .batch import CSR, Array, Batch, concatenate
from .text import float32, line_blocks, parse_cells, shorten

__all__ = ["read_libsvm", "scan_width", "write_libsvm"]

ENDS = b" :\n"
SPACE, COLON, NEWLINE = ENDS
LARGEST = 1 << 53


def read_libsvm(
    stream: BinaryIO, *, first_index: int = 1, width: int | None = None, block_bytes: int = 1 << 20
) -> Iterator[Batch]:
    r"""Read sparse rows, as float32, in the order in which they stand; nothing is sorted or added up.

    What follows ``#`` is a comment, and lines with nothing else are skipped. Either all rows have a weight or none.
    Query numbers (``qid:``) are refused, as batches do not carry them.

    Parameters
    ----------
    stream
        Anything with ``read``: a file, a FIFO, a ``BytesIO``.
    first_index
        The number of the first column: 1, or 0 where a file counts from zero.
    width
        The number of columns, for reading in bounded memory. Without it, everything becomes one batch, as wide as its
        largest column. `scan_width` finds it where a file can be read twice.
    block_bytes
        How much is read and parsed at once.

    Raises
    ------
    DataError
        With the line.

    Examples
    --------
    >>> from io import BytesIO
    >>> [batch] = read_libsvm(BytesIO(b"1 1:0.5 3:2 # a comment\n-1 2:7\n"))
    >>> batch.features.toarray(), batch.labels
    (array([[0.5, 0. , 2. ],
           [0. , 7. , 0. ]], dtype=float32), array([ 1., -1.], dtype=float32))
    """
    batches = _batches(stream, first_index, width, block_bytes)
    if width is not None:
        yield from batches
        return
    parts = list(batches)
    if parts:
        width = max(part.width for part in parts)
        yield concatenate([_widen(part, width) for part in parts])


def scan_width(stream: BinaryIO, *, first_index: int = 1, block_bytes: int = 1 << 20) -> int:
    r"""Read a stream to its end to find the number of columns, in bounded memory.

    Examples
    --------
    >>> from io import BytesIO
    >>> scan_width(BytesIO(b"1 1:0.5 3:2\n-1 2:7\n"))
    3
    """
    return max((batch.width for batch in _batches(stream, first_index, None, block_bytes)), default=0)


def write_libsvm(stream: BinaryIO, batches: Iterable[Batch], *, first_index: int = 1) -> int:
    r"""Write rows without their zeros; give their number. A missing label is written as 0; record ids are left out.

    Examples
    --------
    >>> from io import BytesIO
    >>> stream = BytesIO()
    >>> write_libsvm(stream, [Batch(np.array([[0, 0.5], [7, 0]], np.float32), np.array([1, -1]))])
    2
    >>> stream.getvalue()
    b'1 2:0.5\n-1 1:7\n'
    """
    total = 0
    for batch in batches:
        if batch.labels is not None and batch.labels.ndim > 1:
            raise DataError("libsvm has one label a row: write RecordIO or CSV")
        step = max(1, (1 << 20) // max(1, batch.width)) if not isinstance(batch.features, CSR) else 1 << 12
        for start in range(0, len(batch), step):
            stream.write(_format(batch[start : start + step], first_index))
        total += len(batch)
    return total


def _format(batch: Batch, first_index: int) -> bytes:
    rows = batch.features if isinstance(batch.features, CSR) else CSR.from_dense(batch.features)
    labels = np.zeros(len(batch)) if batch.labels is None else batch.labels
    heads = labels[:, None] if batch.weights is None else np.column_stack([labels, batch.weights])
    size = heads.shape[1]
    places = rows.indptr[:-1] * 2 + np.arange(len(batch)) * size  # of each label among all numbers
    numbers = np.empty(heads.size + 2 * len(rows.values))
    pairs = np.ones(len(numbers), bool)
    for column in range(size):
        numbers[places + column] = heads[:, column]
        pairs[places + column] = False
    numbers[pairs] = np.column_stack([rows.indices + first_index, rows.values]).ravel()
    head = "%.9g" if size == 1 else "%.9g:%.9g"
    template = "".join(head + " %d:%.9g" * count + "\n" for count in np.diff(rows.indptr).tolist())
    return (template % tuple(numbers.tolist())).encode()


def _batches(stream: BinaryIO, first_index: int, width: int | None, block_bytes: int) -> Iterator[Batch]:
    weighted: bool | None = None
    for line, block in line_blocks(stream, block_bytes):
        tidy = _tidy(block)
        if not tidy:
            continue
        batch = _parse(tidy, first_index, width, weighted)
        if batch is None:
            batch = _parse_one_by_one(block, line, first_index, width, weighted)
        weighted = batch.weights is not None
        yield batch


def _tidy(block: bytes) -> bytes:
    """Drop comments, empty lines and all spaces but one between two tokens."""
    if b"#" in block:
        block = re.sub(rb"#[^\n]*", b"", block)
    block = block.translate(bytes.maketrans(b"\t\r", b"  "))
    while b"  " in block:
        block = block.replace(b"  ", b" ")
    block = block.replace(b" \n", b"\n").replace(b"\n ", b"\n")
    while b"\n\n" in block:
        block = block.replace(b"\n\n", b"\n")
    return block.lstrip(b" \n")


def _parse(block: bytes, first_index: int, width: int | None, weighted: bool | None) -> Batch | None:
    """All rows at once; None where anything is wrong."""
    try:
        numbers, after, counts = parse_cells(block, ENDS, _number)
    except ValueError:
        return None
    before = np.concatenate([after[-1:], after[:-1]])  # the last one is a newline
    label, column = before == NEWLINE, before == SPACE
    heavy = label & (after == COLON)
    weight = np.concatenate([heavy[-1:], heavy[:-1]])
    value = (before == COLON) & ~weight
    rows = np.count_nonzero(label)
    if not np.array_equal(column, (after == COLON) & ~heavy) or not counts[column].all():
        return None
    if np.count_nonzero(heavy) != (0 if weighted is False else rows if weighted or heavy[0] else 0):
        return None
    indices = numbers[column] - first_index
    if len(indices) and (indices.min() < 0 or indices.max() >= (LARGEST if width is None else width)):
        return None
    indptr = np.append(np.searchsorted(np.flatnonzero(value), np.flatnonzero(label)), len(indices))
    return _batch(indptr, indices, numbers[value], width, numbers[label], numbers[weight])


def _batch(indptr: Array, indices: Array, values: Array, width: int | None, labels: Array, weights: Array) -> Batch:
    if width is None:
        width = int(indices.max()) + 1 if len(indices) else 0
    rows = CSR(indptr.astype(np.int64), indices.astype(np.int64), float32(values), (len(labels), width))
    return Batch(rows, float32(labels), float32(weights) if len(weights) else None)


def _widen(batch: Batch, width: int) -> Batch:
    rows = cast(CSR, batch.features)
    return replace(batch, features=replace(rows, shape=(len(rows), width)))


def _number(text: bytes) -> float:
    if b"_" in text:
        raise ValueError("digits are not grouped")
    return float(text)


def _parse_one_by_one(block: bytes, line: int, first_index: int, width: int | None, weighted: bool | None) -> Batch:
    """The same as `_parse`, slowly, with errors that name the line."""
    lengths, labels, weights = [0], [], []
    indices: list[int] = []
    values: list[float] = []
    for number, text in enumerate(block.split(b"\n"), line):
        tokens = text.partition(b"#")[0].split()
        if not tokens:
            continue
        place = f"line {number}"
        label, colon, weight = tokens[0].partition(b":")
        labels.append(_value(label, place))
        if weighted is not None and weighted != bool(colon):
            raise DataError(f"{place} has {'a' if colon else 'no'} weight, unlike the lines before it")
        weighted = bool(colon)
        if colon:
            weights.append(_value(weight, place))
        for token in tokens[1:]:
            index, value = _pair(token, place, first_index, width)
            indices.append(index)
            values.append(value)
        lengths.append(len(tokens) - 1)
    return _batch(np.cumsum(lengths), np.array(indices), np.array(values), width, np.array(labels), np.array(weights))


def _pair(token: bytes, place: str, first_index: int, width: int | None) -> tuple[int, float]:
    """Column, from zero, and value of ``column:value``."""
    column, colon, value = token.partition(b":")
    if column == b"qid":
        raise DataError(f"{place}: query numbers ({shorten(token)}) are not supported, remove them")
    if not colon or not column.isdigit() or len(column) > 15:
        raise DataError(f"{place}: {shorten(token)} is not column:value")
    index = int(column) - first_index
    if index < 0:
        raise DataError(f"{place}: column {int(column)}, but columns count from {first_index}; use first_index=0")
    if width is not None and index >= width:
        raise DataError(f"{place}: column {int(column)} is beyond the last of {width} columns")
    return index, _value(value, place)


def _value(text: bytes, place: str) -> float:
    try:
        return _number(text)
    except ValueError as error:
        raise DataError(f"{place}: {shorten(text)} is not a number") from error
