"""The protobuf wire format of many records at once.

A `Cursor` stands in every record of a block at the same time and reads field after field with array operations:
the layout that Amazon's writers produce takes about thirty of them, however many records there are. A record that
is laid out in another way is marked and left to the protobuf library.

References
----------
.. [1] Protocol Buffers documentation, "Encoding": tags, varints, packed fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from .batch import Array

__all__ = [
    "FLOAT32",
    "FLOAT64",
    "INT32",
    "NONE",
    "SLACK",
    "Layout",
    "Tensors",
    "VarintError",
    "decode_varints",
    "encode_varints",
    "parse",
]

SLACK: Final = 16
"""Bytes that have to be readable after the last record, as loads may reach beyond it."""

NONE, FLOAT32, FLOAT64, INT32 = range(4)
"""Kinds of tensor."""

_FEATURES: Final = 0x0A  # Record.features, a map entry
_LABEL: Final = 0x12  # Record.label, a map entry
_KEY: Final = np.frombuffer(b"\x0a\x06values", np.uint8)  # the entry's key
_VALUE: Final = 0x12  # the entry's value
_KINDS: Final = {0x12: FLOAT32, 0x1A: FLOAT64, 0x3A: INT32}  # fields 2, 3 and 7 of Value
_LONGEST: Final = 10  # bytes of a varint
_TENSOR_VALUES, _TENSOR_KEYS, _TENSOR_SHAPE = 0x0A, 0x12, 0x1A


class VarintError(Exception):
    """A varint is longer than 64 bits need; `at` is the position of its last byte."""

    def __init__(self, at: int) -> None:
        super().__init__(f"a number of more than {_LONGEST} bytes")
        self.at = at


@dataclass(frozen=True, slots=True)
class Tensors:
    """One tensor in each of n records; all arrays have shape (n,).

    Parameters
    ----------
    kind
        NONE, FLOAT32, FLOAT64 or INT32.
    at, size
        Place and length in bytes of the values.
    keys_at, keys_size
        Place and length in bytes of the keys; length 0 where there are none.
    shape
        The one size of the shape; -1 where there is no shape.
    """

    kind: Array
    at: Array
    size: Array
    keys_at: Array
    keys_size: Array
    shape: Array


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything stands in n records; `known` is False where the layout is another one."""

    known: Array
    features: Tensors
    label: Tensors


class Cursor:
    """One reading position in each of n records.

    Parameters
    ----------
    block
        uint8; has to be readable `SLACK` bytes beyond the records.
    at
        First byte of each record, int64, shape (n,).
    end
        Byte after each record, shape (n,).
    """

    def __init__(self, block: Array, at: Array, end: Array) -> None:
        self.block = block
        self.at = at
        self.end = end
        self.ok = np.ones(len(at), bool)
        self.last = len(block) - SLACK

    def skip(self, count: Array | int, where: Array | None = None) -> None:
        """Move on; positions stay inside the block whatever the data say."""
        step = count if where is None else np.where(where, count, 0)
        self.at = np.minimum(self.at + step, self.last)

    def byte(self) -> Array:
        """The byte at each position, without moving."""
        found: Array = self.block[self.at]
        return found

    def expect(self, byte: int, where: Array) -> None:
        """Step over `byte`; a record with another one there is not of this layout."""
        self.ok &= (self.byte() == byte) | ~where
        self.skip(1, where)

    def optional(self, byte: int, end: Array, where: Array) -> Array:
        """Step over `byte` where it stands before `end`; tells where."""
        found: Array = where & (self.at < end) & (self.byte() == byte)
        self.skip(1, found)
        return found

    def varint(self, where: Array) -> Array:
        """A number of up to five bytes; 0 where not asked for."""
        first = self.byte().astype(np.int64)
        value = np.where(where, first & 0x7F, 0)
        more = where & (first >= 0x80)
        self.skip(1, where)
        for shift in (7, 14, 21, 28):
            if not more.any():
                break
            byte = self.byte().astype(np.int64)
            value |= np.where(more, (byte & 0x7F) << shift, 0)
            self.skip(1, more)
            more = more & (byte >= 0x80)
        self.ok &= ~more
        return value

    def nested(self, end: Array, where: Array) -> Array:
        """The end of a nested message, which has to lie within `end`."""
        inner = self.varint(where) + self.at
        self.ok &= (inner <= end) | ~where
        end_of_message: Array = np.minimum(inner, self.last)
        return end_of_message


def parse(block: Array, starts: Array, lengths: Array) -> Layout:
    """Find the tensors of many records.

    Parameters
    ----------
    block
        uint8, with `SLACK` readable bytes after the last record.
    starts, lengths
        Place and length of each payload, shape (n,).
    """
    cursor = Cursor(block, starts, starts + lengths)
    everywhere = np.ones(len(starts), bool)
    features = _entry(cursor, _FEATURES, everywhere)
    labelled = cursor.at < cursor.end
    label = _entry(cursor, _LABEL, labelled)
    known = cursor.ok & (cursor.at == cursor.end) & (label.keys_size == 0) & ((label.shape < 0) | ~labelled)
    return Layout(known, features, label)


def _entry(cursor: Cursor, tag: int, where: Array) -> Tensors:
    """One map entry with the key "values" and a tensor for value."""
    cursor.expect(tag, where)
    end = cursor.nested(cursor.end, where)
    name = cursor.block[cursor.at[:, None] + np.arange(len(_KEY))]  # (n, 8)
    cursor.ok &= (name == _KEY).all(axis=1) | ~where
    cursor.skip(len(_KEY), where)
    cursor.expect(_VALUE, where)
    cursor.ok &= (cursor.nested(end, where) == end) | ~where
    tag_byte = cursor.byte()
    kind = np.zeros(len(where), np.int64)
    for byte, number in _KINDS.items():
        kind[where & (tag_byte == byte)] = number
    cursor.ok &= (kind != NONE) | ~where
    cursor.skip(1, where)
    cursor.ok &= (cursor.nested(end, where) == end) | ~where
    at, size = _packed(cursor, _TENSOR_VALUES, end, where)
    keys_at, keys_size = _packed(cursor, _TENSOR_KEYS, end, where)
    shape = _shape(cursor, end, where)
    cursor.ok &= (cursor.at == end) | ~where
    return Tensors(kind, at, size, keys_at, keys_size, shape)


def _packed(cursor: Cursor, tag: int, end: Array, where: Array) -> tuple[Array, Array]:
    """Place and length of an optional packed field."""
    found = cursor.optional(tag, end, where)
    inner = cursor.nested(end, found)
    at = cursor.at
    size = np.where(found, inner - at, 0)
    cursor.skip(size)
    return at, size


def _shape(cursor: Cursor, end: Array, where: Array) -> Array:
    """The size in a shape of one dimension; -1 where there is none."""
    found = cursor.optional(_TENSOR_SHAPE, end, where)
    inner = cursor.nested(end, found)
    size = cursor.varint(found)
    cursor.ok &= (cursor.at == inner) | ~found  # more dimensions are another layout
    return np.where(found, size, -1)


def decode_varints(data: Array) -> tuple[Array, Array]:
    """Numbers of a run of varints.

    Parameters
    ----------
    data
        uint8, shape (m,): varints back to back.

    Returns
    -------
    numbers
        uint64, shape (n,).
    ends
        Position after each, int64, shape (n,).

    Raises
    ------
    VarintError
        When one is too long.

    Examples
    --------
    >>> decode_varints(np.array([0x05, 0xAC, 0x02], np.uint8))
    (array([  5, 300], dtype=uint64), array([1, 3]))
    """
    ends = np.flatnonzero(data < 0x80) + 1
    starts = np.zeros_like(ends)
    starts[1:] = ends[:-1]
    lengths = ends - starts
    longest = int(lengths.max(initial=1))
    if longest <= 4:
        return _decode_short(data, starts, lengths), ends
    if longest > _LONGEST:
        raise VarintError(int(ends[np.flatnonzero(lengths > _LONGEST)[0]]) - 1)
    numbers = np.zeros(len(ends), np.uint64)
    for i in range(longest):
        more = np.flatnonzero(lengths > i)
        numbers[more] |= (data[starts[more] + i] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * i)
    return numbers, ends


def _decode_short(data: Array, starts: Array, lengths: Array) -> Array:
    """Varints of up to four bytes, each with one overlapping load of four."""
    slack = np.zeros(len(data) + 4, np.uint8)
    slack[: len(data)] = data
    loads = np.ndarray((len(data) + 1,), "<u4", slack, strides=(1,))
    words = loads[starts]
    words &= _MASKS[lengths]
    low = (words & 0x7F) | ((words >> 1) & 0x3F80)
    high = ((words >> 2) & 0x1FC000) | ((words >> 3) & 0xFE00000)
    return (low | high).astype(np.uint64)


_MASKS: Final = np.array([0, 0x7F, 0x7F7F, 0x7F7F7F, 0x7F7F7F7F], np.uint32)


def encode_varints(numbers: Array) -> tuple[Array, Array]:
    """Varints of unsigned numbers, back to back.

    Parameters
    ----------
    numbers
        uint64, shape (n,).

    Returns
    -------
    data
        uint8, shape (m,).
    ends
        Position after each, int64, shape (n,).

    Examples
    --------
    >>> data, ends = encode_varints(np.array([5, 300], np.uint64))
    >>> data.tobytes().hex(), ends.tolist()
    ('05ac02', [1, 3])
    """
    numbers = numbers.astype(np.uint64, copy=False)
    limits = np.array([1 << (7 * i) for i in range(1, 10)], np.uint64)
    lengths = np.searchsorted(limits, numbers, side="right") + 1
    ends = np.cumsum(lengths)
    starts = ends - lengths
    data = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    for i in range(int(lengths.max(initial=0))):
        more = np.flatnonzero(lengths > i)
        byte = (numbers[more] >> np.uint64(7 * i)).astype(np.uint8) & np.uint8(0x7F)
        data[starts[more] + i] = byte | np.where(lengths[more] > i + 1, 0x80, 0).astype(np.uint8)
    return data, ends
