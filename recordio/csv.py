"""CSV: a stream of bytes to batches, arrays to rows of text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from typing import BinaryIO, Final

import numpy as np

from .. import native
from ..errors import DataError
from .batch import Array, Batch, concatenate, split_labels
from .text import BYTE_ORDER_MARK, float32, in_doubt, line_blocks, nudged, parse_cells, shorten

__all__ = ["AUTO", "find_delimiter", "format_csv", "read_csv", "read_csv_body", "write_csv"]

AUTO = "auto"
DELIMITERS = b",\t;|"  # in the order in which they are looked for

_BLOCK: Final = 1 << 20
_FLOAT32: Final = np.dtype(np.float32)
_NOTHING: Final = np.empty((0, 0), _FLOAT32)


def read_csv(
    stream: BinaryIO, *, label_size: int = 1, delimiter: str = ",", block_bytes: int = _BLOCK
) -> Iterator[Batch]:
    r"""Read rows of comma-separated numbers in bounded memory.

    Cells may be quoted or padded with spaces; an empty cell is NaN. Lines with nothing in them are skipped. Numbers
    become the nearest float32; those out of its range become infinite.

    Parameters
    ----------
    stream
        Anything with ``read``: a file, a FIFO, a ``BytesIO``.
    label_size
        How many columns, from the left, are labels: none for 0; shape (n,) for 1; shape (n, label_size) for more.
    delimiter
        The character between cells; ``auto`` for what `find_delimiter` finds in the first line that is not blank.
        With a space, any number of spaces and tabs stands between two cells, and no cell is empty.
    block_bytes
        How much is read and parsed at once.

    Raises
    ------
    DataError
        With the line: for a header, for text that is no number, for rows of different lengths.

    Examples
    --------
    >>> [batch] = read_csv(BytesIO(b"1,0.5,2\n0,,1e3\n"))
    >>> batch.features, batch.labels
    (array([[5.e-01, 2.e+00],
           [   nan, 1.e+03]], dtype=float32), array([1., 0.], dtype=float32))
    """
    width: int | None = None
    for line, block in line_blocks(stream, block_bytes):
        if delimiter == AUTO:
            first = block.lstrip(b"\r\n ").partition(b"\n")[0]
            if not first:
                continue
            delimiter = find_delimiter(first)
        compiled = read_compiled(block, delimiter.encode(), width, label_size)
        if compiled is not None:
            labels, features = compiled
            if len(features):
                width = features.shape[1] + label_size
                yield Batch(features, labels)
            continue
        tidy = _tidy(block if delimiter == "," else _with_commas(block, delimiter.encode()))
        if not tidy:
            continue
        rows = _rows(tidy, width)
        if rows is None:
            rows = _rows_one_by_one(block, line, width, delimiter.encode())  # to raise an error that names the place
        width = rows.shape[1]
        yield split_labels(float32(rows), label_size)


def read_csv_body(body: bytes, *, label_size: int = 0, delimiter: str = ",") -> Batch:
    r"""Read all rows of a request, as `read_csv` does; a small one is a single block.

    Raises
    ------
    DataError
        With the line; or when there are no rows.

    Examples
    --------
    >>> read_csv_body(b"1,0.5\n0,").features
    array([[1. , 0.5],
           [0. , nan]], dtype=float32)
    """
    if len(body) <= _BLOCK and delimiter != AUTO:
        block = body.removeprefix(BYTE_ORDER_MARK)
        compiled = read_compiled(
            block if block.endswith(b"\n") else block + b"\n", delimiter.encode(), None, label_size
        )
        if compiled is not None and len(compiled[1]):
            return Batch(compiled[1], compiled[0])
    batches = list(read_csv(BytesIO(body), label_size=label_size, delimiter=delimiter))
    if not batches:
        raise DataError("the body has no rows")
    return concatenate(batches)


def find_delimiter(line: bytes) -> str:
    r"""The character that stands between the cells of a line: comma, tab, semicolon or bar, or else spaces.

    A line that has several of them has the first; one that has none is a single cell, and comma will do.

    Examples
    --------
    >>> [find_delimiter(line) for line in (b"1;2;3", b"1, 2", b"1\t2", b" 1 2", b"7")]
    [';', ',', '\t', ' ', ',']
    """
    for delimiter in DELIMITERS:
        if delimiter in line:
            return chr(delimiter)
    return " " if len(line.split()) > 1 else ","


def write_csv(stream: BinaryIO, batches: Iterable[Batch]) -> int:
    r"""Write labels, where there are any, then features; give the number of rows. Record ids are left out.

    Examples
    --------
    >>> stream = BytesIO()
    >>> write_csv(stream, [Batch(np.array([[0.5, 2]]), np.array([3]))])
    1
    >>> stream.getvalue()
    b'3,0.5,2.0\n'
    """
    total = 0
    for batch in batches:
        if batch.weights is not None:
            raise DataError("CSV has no column for weights: write RecordIO or libsvm")
        if batch.queries is not None:
            raise DataError("CSV has no column for query numbers: write libsvm")
        step = max(1, (1 << 20) // max(1, batch.width))
        for start in range(0, len(batch), step):
            part = batch[start : start + step]
            columns = [] if part.labels is None else [part.labels]
            stream.write(format_csv([*columns, part.dense()]))
        total += len(batch)
    return total


def format_csv(columns: Sequence[Array]) -> bytes:
    r"""Rows of text, one a line, from columns of shape (n,) or (n, m) that stand side by side.

    Integers are written as such, float64 by the fewest digits that give it back, everything else by as many
    significant digits as give back all of a column's float32 values: nine at most, and six for most people's data.

    Examples
    --------
    >>> format_csv([np.array([7, 8]), np.array([[0.5, 2.1], [1e-9, np.nan]], np.float32)])
    b'7,0.5,2.1\n8,1e-09,nan\n'
    """
    tables = [column[:, None] if column.ndim == 1 else column for column in columns]
    template = ",".join(word for table in tables for word in [_spelling(table)] * table.shape[1]) + "\n"
    step = max(1, (1 << 16) // (template.count(",") + 1))
    lines = []
    for start in range(0, len(tables[0]), step):
        parts = [table[start : start + step].tolist() for table in tables]
        cells = tuple(cell for row in zip(*parts, strict=True) for part in row for cell in part)
        lines.append((template * len(parts[0])) % cells)
    return "".join(lines).encode()


def read_compiled(
    block: bytes, delimiter: bytes, width: int | None, label_size: int
) -> tuple[Array | None, Array] | None:
    """Labels and features of a block by the kernel; None where it is not there, or leaves something to its twin."""
    kernels = native.kernels
    if kernels is None:
        return None
    if delimiter not in DELIMITERS:
        block, delimiter = _with_commas(block, delimiter), b","
    code = ord(delimiter)
    most, first = kernels.csv_shape(block, code)
    if not most:
        return None, _NOTHING
    if first != (width or first) or not 0 <= label_size < first:
        return None
    labels = np.empty((most, label_size), _FLOAT32) if label_size else _NOTHING
    features = np.empty((most, first - label_size), _FLOAT32)
    rows = kernels.csv_rows(block, labels, features, code, first, label_size)
    if rows is None:
        return None
    if rows < most:  # some lines are empty
        labels, features = labels[:rows], features[:rows]
    return (labels[:, 0] if label_size == 1 else labels) if label_size else None, features


def _with_commas(block: bytes, delimiter: bytes) -> bytes:
    """The block with commas between its cells, and with colons, which no number has, for commas."""
    if delimiter == b" ":
        block = block.translate(bytes.maketrans(b"\t\r", b"  "))
        while b"  " in block:
            block = block.replace(b"  ", b" ")
        block = block.replace(b" \n", b"\n").replace(b"\n ", b"\n").lstrip(b" ")
    return block.translate(bytes.maketrans(delimiter + b",", b",:"))


def _tidy(block: bytes) -> bytes:
    """Drop carriage returns, spaces after commas, empty lines, and the quotes of blocks where all cells have them."""
    if b"\r" in block:  # to look for one byte is much faster than for two
        block = block.replace(b"\r\n", b"\n")
    if b" " in block:
        block = block.replace(b", ", b",")
    while _has_empty_line(block):
        block = block.replace(b"\n\n", b"\n")
    block = block.removeprefix(b"\n")
    if b'"' in block and b'""' not in block:  # `_number` drops quotes too, where not all cells have them
        sides = sum(map((b"\n" + block).count, (b'\n"', b',"', b'",', b'"\n')))
        if sides == block.count(b'"') == 2 * (block.count(b",") + block.count(b"\n")):
            block = block.replace(b'"', b"")
    return block


def _has_empty_line(block: bytes) -> bool:
    """Whether two newlines stand together."""
    newlines = np.frombuffer(block, np.uint8) == ord("\n")
    return bool((newlines[1:] & newlines[:-1]).any())


def _rows(block: bytes, width: int | None) -> Array | None:
    """All rows at once, shape (n, width); None where a cell is no number or a row has another width."""
    sample = block[: 1 << 13]
    powers = (sample.count(b"e") + sample.count(b"E")) * 8 > sample.count(b",")
    if (sample == block or powers) and b"\r" not in block:  # which would end a row
        with suppress(ValueError):  # small blocks and powers of ten are faster this way, if no cell is empty
            rows = np.loadtxt(BytesIO(block), delimiter=",", comments=None, ndmin=2)
            if rows.shape[1] != (width or rows.shape[1]):
                return None
            if not in_doubt(rows).any():
                return rows
    try:
        values, after, _ = parse_cells(block, b",\n", _number)
    except ValueError:
        return None
    ends = np.flatnonzero(after == ord("\n"))
    width = width or int(ends[0]) + 1
    if len(ends) * width != len(after) or not np.array_equal(ends, np.arange(1, len(ends) + 1) * width - 1):
        return None
    return values.reshape(len(ends), width)


def _number(cell: bytes) -> float:
    """The number in a cell, which may be quoted; NaN where there is nothing."""
    cell = cell.strip()
    if len(cell) > 1 and cell[:1] == cell[-1:] == b'"':
        cell = cell[1:-1].strip()
    if b"_" in cell:
        raise ValueError("digits are not grouped")
    return float(cell) if cell else np.nan


def _rows_one_by_one(block: bytes, line: int, width: int | None, delimiter: bytes) -> Array:
    """The same as `_rows`, slowly, with errors that name the line."""
    rows: list[list[float]] = []
    for number, text in enumerate(block.replace(b"\r\n", b"\n").split(b"\n"), line):
        cells = text.split() if delimiter == b" " else text.split(delimiter) if text else []
        if not cells:
            continue
        if width is None:
            _refuse_header(cells, number)
        elif len(cells) != width:
            raise DataError(f"line {number} has {len(cells)} fields, the lines before it have {width}")
        rows.append(_row(cells, number, first=width is None))
        width = len(cells)
    return np.array(rows)


def _row(cells: list[bytes], line: int, *, first: bool) -> list[float]:
    row: list[float] = []
    for column, cell in enumerate(cells, 1):
        try:
            row.append(nudged(cell, _number(cell)))
        except ValueError as error:
            hint = " (if this line is a header, remove it: SageMaker's CSV has none)" if first else ""
            raise DataError(f"line {line}, column {column}: {shorten(cell)} is not a number{hint}") from error
    return row


def _refuse_header(cells: list[bytes], line: int) -> None:
    filled = [cell for cell in cells if cell.strip(b' \t"')]
    if filled and all(map(_is_name, filled)):
        names = ", ".join(map(shorten, cells[:3])) + (", …" if len(cells) > 3 else "")
        raise DataError(f"line {line} looks like a header ({names}): SageMaker's CSV has none, remove it")


def _is_name(cell: bytes) -> bool:
    """Whether a cell has a letter and is no number."""
    try:
        _number(cell)
    except ValueError:
        return any(map(str.isalpha, cell.decode("utf-8", "replace")))
    return False


def _spelling(table: Array) -> str:
    """How the numbers of a table are written."""
    if table.dtype.kind in "biu":
        return "%d"
    if table.dtype == np.float64:
        return "%r"
    cells = table.ravel()
    for digits in (6, 7, 8):
        if _gives_back(cells[:64], digits) and _gives_back(cells, digits):
            return f"%.{digits}g"
    return "%.9g"


def _gives_back(cells: Array, digits: int) -> bool:
    """Whether that many significant digits are enough for each of the cells."""
    step = 1 << 16
    for start in range(0, len(cells), step):
        part = cells[start : start + step].tolist()
        again = np.array([float(f"{cell:.{digits}g}") for cell in part], np.float32)
        if not np.array_equal(again, cells[start : start + step].astype(np.float32), equal_nan=True):
            return False
    return True
