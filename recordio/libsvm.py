"""libsvm text: ``label[:weight] [qid:query] column:value …`` a line, to sparse batches and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from typing import BinaryIO, Final, cast

import numpy as np

from .. import native
from ..errors import DataError
from .batch import CSR, Array, Batch, concatenate
from .text import float32, line_blocks, nudged, parse_cells, shorten

__all__ = ["read_libsvm", "read_libsvm_body", "scan_width", "write_libsvm"]

ENDS = b" :\n"
SPACE, COLON, NEWLINE = ENDS
LARGEST = 1 << 53
LONGEST_QUERY = 18  # digits; what has no more fits into int64

_UNLABELLED: Final = re.compile(rb"\n(?=[^ \n]*:)")  # before a tidy line that begins with a feature
_QUERY: Final = re.compile(rb"(\n[^ \n]+) qid:([0-9]{1,%d})(?=[ \n])" % LONGEST_QUERY)


def read_libsvm(
    stream: BinaryIO, *, first_index: int = 1, width: int | None = None, block_bytes: int = 1 << 20
) -> Iterator[Batch]:
    r"""Read sparse rows, as float32, in the order in which they stand; nothing is sorted or added up.

    What follows ``#`` is a comment, and lines with nothing else are skipped. Either all rows have a weight or none,
    and either all have a query number (``qid:``) or none.

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
    batches = _batches(stream, _Form(first_index, width), block_bytes)
    if width is not None:
        yield from batches
    elif parts := list(batches):
        yield _join(parts)


def read_libsvm_body(body: bytes, *, first_index: int = 1) -> Batch:
    r"""Read all rows of a request, where a label may be left out: a row may begin with its first ``column:value``.

    So there is no place for weights. An empty line between two others is a row without values. The batch is as wide as
    its largest column.

    Raises
    ------
    DataError
        With the line; or when there are no rows.

    Examples
    --------
    >>> batch = read_libsvm_body(b"0:1 3:2.5\n1:7\n", first_index=0)
    >>> batch.dense(), batch.labels
    (array([[1. , 0. , 0. , 2.5],
           [0. , 7. , 0. , 0. ]], dtype=float32), None)
    """
    body = re.sub(rb"(?m)^[ \t\r]*$", b"nan", body.strip()) if body.strip() else b""  # a row that is but a label
    parts = list(_batches(BytesIO(body), _Form(first_index, None, labelled=False), 1 << 20))
    if not parts:
        raise DataError("the body has no rows")
    batch = _join(parts)
    return replace(batch, labels=None) if np.isnan(cast(Array, batch.labels)).all() else batch


def scan_width(stream: BinaryIO, *, first_index: int = 1, block_bytes: int = 1 << 20) -> int:
    r"""Read a stream to its end to find the number of columns, in bounded memory.

    Examples
    --------
    >>> from io import BytesIO
    >>> scan_width(BytesIO(b"1 1:0.5 3:2\n-1 2:7\n"))
    3
    """
    return max((batch.width for batch in _batches(stream, _Form(first_index, None), block_bytes)), default=0)


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
    queries = [""] * len(batch) if batch.queries is None else [f" qid:{query}" for query in batch.queries.tolist()]
    counts = np.diff(rows.indptr).tolist()
    template = "".join(head + query + " %d:%.9g" * count + "\n" for query, count in zip(queries, counts, strict=True))
    return (template % tuple(numbers.tolist())).encode()


@dataclass(frozen=True, slots=True)
class _Form:
    """What a line has to look like.

    Parameters
    ----------
    first_index
        The number of the first column.
    width
        The number of columns, None for any.
    labelled
        Whether every row begins with a label; without, a row may.
    weighted
        Whether rows have weights, None where no row has been seen.
    queried
        Whether they have query numbers, likewise.
    """

    first_index: int
    width: int | None
    labelled: bool = True
    weighted: bool | None = None
    queried: bool | None = None

    def after(self, batch: Batch) -> _Form:
        """The same for the lines that follow the rows of `batch`."""
        return replace(self, weighted=batch.weights is not None, queried=batch.queries is not None)


def _batches(stream: BinaryIO, form: _Form, block_bytes: int) -> Iterator[Batch]:
    for line, block in line_blocks(stream, block_bytes):
        batch = _compiled(block, form)
        if batch is None:
            tidy = _tidy(block)
            if not tidy:
                continue
            batch = _parse(tidy, form)
        if batch is None:
            batch = _parse_one_by_one(block, line, form)
        if len(batch):
            form = form.after(batch)
            yield batch


def _compiled(block: bytes, form: _Form) -> Batch | None:
    """The rows of a block by the kernel; None where it is not there, or leaves anything unusual to its twin."""
    kernels = native.kernels
    if kernels is None or form.weighted or form.queried:
        return None
    if b"#" in block:
        block = _uncommented(block)
    rows, pairs = kernels.libsvm_shape(block)
    labels, indptr = np.empty(rows, np.float32), np.empty(rows + 1, np.int64)
    indices, values = np.empty(pairs, np.int64), np.empty(pairs, np.float32)
    columns = -1 if form.width is None else form.width
    found = kernels.libsvm_rows(block, labels, indptr, indices, values, form.first_index, columns, form.labelled)
    if found is None:
        return None
    rows, pairs, width = found
    shape = (rows, width if form.width is None else form.width)
    return Batch(CSR(indptr[: rows + 1], indices[:pairs], values[:pairs], shape), labels[:rows])


def _uncommented(block: bytes) -> bytes:
    return re.sub(rb"#[^\n]*", b"", block)


def _tidy(block: bytes) -> bytes:
    """Drop comments, empty lines and all spaces but one between two tokens."""
    if b"#" in block:
        block = _uncommented(block)
    block = block.translate(bytes.maketrans(b"\t\r", b"  "))
    while b"  " in block:
        block = block.replace(b"  ", b" ")
    block = block.replace(b" \n", b"\n").replace(b"\n ", b"\n")
    while b"\n\n" in block:
        block = block.replace(b"\n\n", b"\n")
    return block.lstrip(b" \n")


def _parse(block: bytes, form: _Form) -> Batch | None:
    """All rows of a tidy block at once; None where anything is wrong."""
    if not form.labelled:
        block = _UNLABELLED.sub(b"\nnan ", b"\n" + block)[1:]
    block, queries = _take_queries(block)
    if form.queried is not None and form.queried != (queries is not None):
        return None
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
    if np.count_nonzero(heavy) != (0 if form.weighted is False else rows if form.weighted or heavy[0] else 0):
        return None
    indices = numbers[column] - form.first_index
    if len(indices) and (indices.min() < 0 or indices.max() >= (LARGEST if form.width is None else form.width)):
        return None
    indptr = np.append(np.searchsorted(np.flatnonzero(value), np.flatnonzero(label)), len(indices))
    return _batch(indptr, indices, numbers[value], form.width, numbers[label], numbers[weight], queries)


def _take_queries(block: bytes) -> tuple[bytes, Array | None]:
    """The block without its query numbers, and these; the block as it is where not every row has one in its place."""
    if b"qid:" not in block:
        return block, None
    parts = _QUERY.split(b"\n" + block)  # what is between the matches, a label, its query number, and again
    found = parts[2::3]
    if len(found) != block.count(b"\n"):
        return block, None
    del parts[2::3]
    return b"".join(parts)[1:], np.array(found).astype(np.int64)


def _batch(
    indptr: Array,
    indices: Array,
    values: Array,
    width: int | None,
    labels: Array,
    weights: Array,
    queries: Array | None,
) -> Batch:
    if width is None:
        width = int(indices.max()) + 1 if len(indices) else 0
    rows = CSR(indptr.astype(np.int64), indices.astype(np.int64), float32(values), (len(labels), width))
    return Batch(rows, float32(labels), float32(weights) if len(weights) else None, queries=queries)


def _join(parts: list[Batch]) -> Batch:
    """One batch, as wide as the widest of the parts."""
    width = max(part.width for part in parts)
    return concatenate([_widen(part, width) for part in parts])


def _widen(batch: Batch, width: int) -> Batch:
    rows = cast(CSR, batch.features)
    return replace(batch, features=replace(rows, shape=(len(rows), width)))


def _number(text: bytes) -> float:
    if b"_" in text:
        raise ValueError("digits are not grouped")
    return float(text)


def _parse_one_by_one(block: bytes, line: int, form: _Form) -> Batch:
    """The same as `_parse`, slowly, with errors that name the line."""
    lengths, labels = [0], []
    weights: list[float] = []
    queries: list[int] = []
    pairs: list[tuple[int, float]] = []
    for number, text in enumerate(block.split(b"\n"), line):
        tokens = text.partition(b"#")[0].split()
        if not tokens:
            continue
        place = f"line {number}"
        if not form.labelled and b":" in tokens[0]:
            tokens.insert(0, b"nan")
        label, colon, weight = tokens[0].partition(b":")
        queried = len(tokens) > 1 and tokens[1].startswith(b"qid:")
        form = _agreed(form, place, weighted=bool(colon), queried=queried)
        labels.append(_value(label, place))
        if colon:
            weights.append(_value(weight, place))
        if queried:
            queries.append(_query(tokens.pop(1), place))
        pairs += [_pair(token, place, form) for token in tokens[1:]]
        lengths.append(len(tokens) - 1)
    indices, values = np.array(pairs).reshape(-1, 2).T
    numbers = np.array(queries, np.int64) if form.queried else None
    return _batch(np.cumsum(lengths), indices, values, form.width, np.array(labels), np.array(weights), numbers)


def _agreed(form: _Form, place: str, *, weighted: bool, queried: bool) -> _Form:
    """The form, completed by what a row has; an error where the rows before it had something else."""
    for what, before, now in (("weight", form.weighted, weighted), ("query number (qid:)", form.queried, queried)):
        if before not in (None, now):
            raise DataError(f"{place} has {'a' if now else 'no'} {what}, unlike the lines before it")
    return replace(form, weighted=weighted, queried=queried)


def _query(token: bytes, place: str) -> int:
    """The number in ``qid:number``."""
    number = token.removeprefix(b"qid:")
    if not number.isdigit() or len(number) > LONGEST_QUERY:
        raise DataError(f"{place}: {shorten(token)} is no query number: write qid: and a whole number")
    return int(number)


def _pair(token: bytes, place: str, form: _Form) -> tuple[int, float]:
    """Column, from zero, and value of ``column:value``."""
    column, colon, value = token.partition(b":")
    if column == b"qid":
        raise DataError(f"{place}: {shorten(token)} is at the wrong place: a query number follows the label, once")
    if not colon or not column.isdigit() or len(column) > 15:
        raise DataError(f"{place}: {shorten(token)} is not column:value")
    index = int(column) - form.first_index
    if index < 0:
        raise DataError(f"{place}: column {int(column)}, but columns count from {form.first_index}; use first_index=0")
    if form.width is not None and index >= form.width:
        raise DataError(f"{place}: column {int(column)} is beyond the last of {form.width} columns")
    return index, _value(value, place)


def _value(text: bytes, place: str) -> float:
    try:
        return nudged(text, _number(text))
    except ValueError as error:
        raise DataError(f"{place}: {shorten(text)} is not a number") from error
