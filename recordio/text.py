"""What the text formats share: cutting a stream into lines, and parsing the numbers of many lines at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import cache
from math import inf, isfinite, nextafter
from typing import BinaryIO, Final

import numpy as np

from ..errors import DataError
from .batch import Array

__all__ = ["BYTE_ORDER_MARK", "float32", "in_doubt", "line_blocks", "nudged", "parse_cells", "shorten"]

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
LONGEST_LINE = 64 << 20

END, DOT, MINUS, OTHER = range(4)  # what a byte that is no digit does to a cell
POWERS = 10 ** np.arange(20, dtype=np.uint64)
FLOAT_POWERS = 10.0 ** np.arange(20)  # all exact
_TINY: Final = float(np.finfo(np.float32).tiny)


def line_blocks(stream: BinaryIO, block_bytes: int = 1 << 20) -> Iterator[tuple[int, bytes]]:
    r"""Cut a stream into blocks of whole lines, each with the number of its first line, counted from one.

    Every block ends with a newline, also where the stream does not; a UTF-8 byte order mark is dropped.

    Raises
    ------
    DataError
        When a line is longer than 64 MiB.

    Examples
    --------
    >>> import io
    >>> list(line_blocks(io.BytesIO(b"one\ntwo\nthree"), block_bytes=9))
    [(1, b'one\ntwo\n'), (3, b'three\n')]
    """
    line = 1
    held: list[bytes] = []
    size = 0
    block = b""
    while piece := stream.read(block_bytes):
        line += block.count(b"\n")  # only now, as most requests are one block, after which nobody asks
        block = b""
        cut = piece.rfind(b"\n") + 1
        if cut:
            block = b"".join((*held, piece[:cut]))
            yield line, block.removeprefix(BYTE_ORDER_MARK) if line == 1 else block
            held, size = [], 0
        held.append(piece[cut:])
        size += len(piece) - cut
        if size > LONGEST_LINE:
            raise DataError(f"line {line} is longer than {LONGEST_LINE >> 20} MiB: lines end with a newline byte")
    if rest := b"".join(held):
        line += block.count(b"\n")
        yield line, (rest.removeprefix(BYTE_ORDER_MARK) if line == 1 else rest) + b"\n"


def float32(values: Array) -> Array:
    """Round to float32; what is out of its range becomes infinite.

    Examples
    --------
    >>> float32(np.array([0.1, 1e39]))
    array([0.1, inf], dtype=float32)
    """
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def in_doubt(values: Array) -> Array:
    """Whether each of some float64, the nearest to their texts, may round to another float32 than its text does.

    It may in the middle between two float32 values, as the text may lie a little beside it; and where float32 has
    fewer digits than usual, no more is asked.

    Examples
    --------
    >>> in_doubt(np.array([0.1, 16777217, 1e-40]))
    array([False,  True,  True])
    """
    middle = values.view(np.uint64) & np.uint64(0x1FFFFFFF) == 0x10000000  # of the bits that float32 has not
    doubtful: Array = middle | ((np.abs(values) < _TINY) & (values != 0))
    return doubtful


def nudged(text: bytes, value: float) -> float:
    """The float64 nearest to a text, which may stand in quotes, or the one beside it that rounds to float32 as it does.

    Examples
    --------
    >>> nudged(b"16777217.000000000000001", 16777217.0) > 16777217
    True
    """
    if not value or not isfinite(value):
        return value
    exact, near = Decimal(text.strip(b'" \t\r\n\v\f').decode()), Decimal(value)
    return value if exact == near else nextafter(value, inf if exact > near else -inf)


def shorten(text: bytes) -> str:
    """Quote text of the input for an error, without spaces at its ends and at most 40 characters of it.

    Examples
    --------
    >>> shorten(b" 12;5 ")
    "'12;5'"
    """
    shown = text[:200].decode("utf-8", "replace").strip()
    return repr(shown if len(shown) <= 40 else shown[:39] + "…")


def parse_cells(block: bytes, ends: bytes, number: Callable[[bytes], float]) -> tuple[Array, Array, Array]:
    r"""Parse all numbers of a block at once.

    Cells of the form ``-12.34`` with up to 19 digits are parsed by arithmetic on all of them together, exact after
    rounding to float32; `number` parses each of the others, and what it raises passes through.

    Parameters
    ----------
    block
        Cells, each followed by a byte that ends it.
    ends
        The bytes that end a cell; newline must be one of them.

    Returns
    -------
    tuple
        The values (float64), the byte after each, and which consist of digits only.

    Examples
    --------
    >>> parse_cells(b"-1.25,3e2,7\n", b",\n", float)
    (array([ -1.25, 300. ,   7. ]), array([44, 44, 10], dtype=uint8), array([False, False,  True]))
    """
    text = b"\n" + block + bytes(8)  # a border before the first cell; room to load words at the last one
    chars = np.frombuffer(text, np.uint8, len(block) + 1)
    marks = np.flatnonzero(chars - np.uint8(48) > 9)  # wraps below "0": everything that is no digit
    role = _roles(ends)[chars[marks]]
    last = np.flatnonzero(role == END)
    start, stop = marks[last[:-1]], marks[last[1:]]
    words: Array = np.ndarray((len(text) - 7,), "<u8", text, strides=(1,))  # the eight bytes from each place on
    if len(last) == len(marks):
        length = stop - start - 1
        mantissa = _digits(words, stop, length)
        values = mantissa.astype(np.float64)
        odd, counts = (length == 0) | (length > 19), length > 0
        _mark_doubtful(values, mantissa, 0, odd)
    else:
        values, odd, counts = _decimals(words, marks, role, last)
    others = np.flatnonzero(odd)
    for cell in others.tolist():
        values[cell] = number(text[start[cell] + 1 : stop[cell]])
    for cell in others[in_doubt(values[others])].tolist():
        values[cell] = nudged(text[start[cell] + 1 : stop[cell]], float(values[cell]))
    return values, chars[stop], counts


@cache
def _roles(ends: bytes) -> Array:
    """What each byte that is no digit does to a cell."""
    roles = np.full(256, OTHER, np.uint8)
    roles[ord(".")], roles[ord("-")] = DOT, MINUS
    roles[list(ends)] = END
    return roles


def _decimals(words: Array, marks: Array, role: Array, last: Array) -> tuple[Array, Array, Array]:
    """Values of cells ``[-]digits[.digits]``; which cells are odd, not of that form; which have digits only."""
    start, stop = marks[last[:-1]], marks[last[1:]]
    first, final = last[:-1] + 1, last[1:] - 1  # first and final mark inside a cell; where it has none, a border
    negative = (role[first] == MINUS) & (marks[first] == start + 1)
    dotted = role[final] == DOT
    inside = final - first + 1
    point = np.where(dotted, marks[final], stop)
    whole = point - start - 1 - negative
    part = stop - point - dotted
    odd = (inside != negative.astype(np.int64) + dotted) | (whole + part == 0) | (whole + part > 19)
    whole[odd] = part[odd] = 0
    mantissa = _digits(words, point, whole) * POWERS[part] + _digits(words, stop, part)
    values = mantissa / FLOAT_POWERS[part]
    np.negative(values, out=values, where=negative)
    _mark_doubtful(values, mantissa, part, odd)
    return values, odd, (inside == 0) & (whole > 0)


def _digits(words: Array, stop: Array, length: Array) -> Array:
    """The integers, uint64, that `length` digits before `stop` spell; right for up to 19 digits."""
    low = np.minimum(length, 8)
    total = _eight_digits(words[stop - low], low)
    for done in (8, 16):
        longer = np.flatnonzero(length > done)
        if len(longer):
            size = np.minimum(length[longer] - done, 8)
            total[longer] += _eight_digits(words[stop[longer] - done - size], size) * POWERS[done]
    return total


def _eight_digits(word: Array, length: Array) -> Array:
    """The integers that the first `length` characters of each word spell: pairs of digits, then fours, then eights."""
    word = (word << ((8 - length) << 3).astype(np.uint64)) & np.uint64(0x0F0F0F0F0F0F0F0F)
    word = (word * np.uint64(10) + (word >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    word = (word * np.uint64(100) + (word >> np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    return (word * np.uint64(10000) + (word >> np.uint64(32))) & np.uint64(0xFFFFFFFF)


def _mark_doubtful(values: Array, mantissa: Array, part: Array | int, odd: Array) -> None:
    """Mark as odd the values whose error of one float64 step could change how they round to float32.

    There is no error where the mantissa is exact and a value with up to 12 digits after the point lies in the middle
    between two float32 values: to be beside it, mantissa × 2**i and middle × 10**part would have to be different
    integers, and less than 2**-53 of themselves apart, but that middle has 25 bits and 5**12 has 28.
    """
    long = np.flatnonzero((mantissa >> np.uint64(53) != 0) | (part > 12))
    below = values[long].view(np.uint64) & np.uint64(0x1FFFFFFF)  # the bits that float32 has not
    odd[long[np.abs(below.astype(np.int64) - 0x10000000) <= 2]] = True
