"""Where the records of a file begin and end, and which go into one request."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal

from ..errors import CorruptRecordError, DataError
from ..recordio.framing import FIRST, HEADER, LENGTH_BITS, LENGTH_MASK, MIDDLE, check_magic, check_order, padded
from .crc32c import crc32c, masked

__all__ = ["Numbered", "Piece", "SplitType", "pack", "place", "split"]

SplitType = Literal["None", "Line", "RecordIO", "TFRecord"]
Numbered = tuple[int, bytes]
"""A record and its number: lines count from 1, as editors do, framed records from 0, as their readers do."""

_LENGTH: Final = struct.Struct("<QI")
_CHECK: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Piece:
    """What goes into one request.

    Parameters
    ----------
    first, last
        Numbers of its records.
    count
        Number of its records.
    body
        What is sent.
    given
        The records as they are in the file, where they are kept.
    """

    first: int
    last: int
    count: int
    body: bytes
    given: tuple[bytes, ...] = ()


def split(stream: BinaryIO, kind: SplitType, *, framed: bool, limit: int) -> Iterator[Numbered]:
    """The records of a buffered stream, in order; blank lines are none, though they are counted.

    Parameters
    ----------
    stream
        What is read.
    kind
        What ends a record.
    framed
        Whether records keep their frames.
    limit
        Most bytes of a record; 0 is no limit.

    Raises
    ------
    DataError
        When a record is larger, or a frame is damaged; the message says which.
    """
    if kind == "Line":
        return _lines(stream, limit)
    if kind == "RecordIO":
        return _recordio(stream, framed, limit)
    if kind == "TFRecord":
        return _tfrecord(stream, framed, limit)
    return _whole(stream, limit)


def pack(
    records: Iterable[Numbered],
    limit: int,
    *,
    single: bool = False,
    prepare: Callable[[Numbered], bytes] | None = None,
    keep: bool = False,
) -> Iterator[Piece]:
    """Records in pieces of at most `limit` bytes, 0 being no limit.

    Parameters
    ----------
    records
        As `split` gives them.
    limit
        Most bytes of a piece.
    single
        Whether each record is a piece.
    prepare
        Makes what is sent out of a record; None sends it as it is.
    keep
        Whether pieces have the records as they were.

    Raises
    ------
    DataError
        When what is sent of a record does not fit.
    """
    given: list[bytes] = []
    sent: list[bytes] = []
    size = first = last = 0
    for number, record in records:
        body = record if prepare is None else prepare((number, record))
        if limit and len(body) > limit:
            raise _too_large(f"what is sent of record {number}", len(body), limit)
        if sent and (single or (limit and size + len(body) > limit)):
            yield Piece(first, last, len(sent), b"".join(sent), tuple(given))
            given, sent, size = [], [], 0
        first = first if sent else number
        last = number
        sent.append(body)
        size += len(body)
        if keep:
            given.append(record)
    if sent:
        yield Piece(first, last, len(sent), b"".join(sent), tuple(given))


def place(kind: SplitType, first: int, last: int) -> str:
    """Which records, for people; empty where a file is one.

    Examples
    --------
    >>> place("Line", 3, 3), place("RecordIO", 0, 99), place("None", 0, 0)
    ('line 3', 'records 0 to 99', '')
    """
    if kind == "None":
        return ""
    unit = "line" if kind == "Line" else "record"
    return f"{unit} {first}" if first == last else f"{unit}s {first} to {last}"


def _whole(stream: BinaryIO, limit: int) -> Iterator[Numbered]:
    body = stream.read(limit + 1 if limit else -1)
    if limit and len(body) > limit:
        raise DataError(f"it is larger than the {limit} bytes of a request (MaxPayloadInMB): split it, or let more in")
    if body:
        yield 0, body


def _lines(stream: BinaryIO, limit: int) -> Iterator[Numbered]:
    most = limit + 1 if limit else -1
    number = 0
    while line := stream.readline(most):
        number += 1
        if limit and len(line) > limit:
            raise _too_large(f"line {number}", None, limit)
        if not line.isspace():
            yield number, line


def _recordio(stream: BinaryIO, framed: bool, limit: int) -> Iterator[Numbered]:
    number = offset = size = 0
    kept: list[bytes] = []
    while header := stream.read(HEADER.size):
        if len(header) < HEADER.size:
            raise CorruptRecordError(
                f"the stream ends {len(header)} bytes into a frame's header", record=number, offset=offset
            )
        magic, word = HEADER.unpack(header)
        check_magic(magic, number, offset)
        flag, length = word >> LENGTH_BITS, word & LENGTH_MASK
        check_order(flag, bool(kept), number, offset)
        size += HEADER.size + padded(length) if framed else length
        if limit and size > limit:
            raise _too_large(f"record {number} at byte {offset}", size, limit)
        body = stream.read(padded(length))
        if len(body) < padded(length):
            why = f"the stream ends {len(body)} bytes into a payload of {length} and its padding"
            raise CorruptRecordError(why, record=number, offset=offset)
        kept.append(header + body if framed else body[:length])
        offset += HEADER.size + len(body)
        if flag not in (FIRST, MIDDLE):
            yield number, b"".join(kept)
            kept, size = [], 0
            number += 1
    if kept:
        raise CorruptRecordError("the stream ends between the parts of a record", record=number, offset=offset)


def _tfrecord(stream: BinaryIO, framed: bool, limit: int) -> Iterator[Numbered]:
    number = offset = 0
    while header := stream.read(_LENGTH.size):
        if len(header) < _LENGTH.size:
            raise CorruptRecordError(
                f"the stream ends {len(header)} bytes into a frame's header", record=number, offset=offset
            )
        length, check = _LENGTH.unpack(header)
        if check != masked(crc32c(header[:8])):
            raise CorruptRecordError("the checksum of its length is wrong", record=number, offset=offset)
        size = _LENGTH.size + length + _CHECK.size if framed else length
        if limit and size > limit:
            raise _too_large(f"record {number} at byte {offset}", size, limit)
        body = stream.read(length + _CHECK.size)
        if len(body) < length + _CHECK.size:
            why = f"the stream ends {len(body)} bytes into {length} bytes of data and their checksum"
            raise CorruptRecordError(why, record=number, offset=offset)
        data = body[:length]
        if _CHECK.unpack_from(body, length)[0] != masked(crc32c(data)):
            raise CorruptRecordError("the checksum of its data is wrong", record=number, offset=offset)
        yield number, header + body if framed else data
        offset += len(header) + len(body)
        number += 1


def _too_large(what: str, size: int | None, limit: int) -> DataError:
    have = "more" if size is None else f"{size} bytes, more"
    return DataError(f"{what} has {have} than the {limit} bytes of a request (MaxPayloadInMB)")
