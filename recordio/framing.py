"""RecordIO framing: where a record begins and ends in a stream of bytes.

A frame is a little-endian uint32 magic, a uint32 whose low 29 bits are the payload's length and whose high 3 bits
say which part of a record it is, the payload, and zero to three bytes of padding up to a multiple of four.

A record may be split over several frames. Two conventions exist for joining them: plain concatenation (Amazon's
readers) and putting the magic back between the parts (MXNet's writer, which cuts a payload wherever the magic
stands in it). The frames look the same, so `Frame` offers both and the record layer takes the one that parses.

References
----------
.. [1] dmlc-core, ``include/dmlc/recordio.h``: the format, with the parts of a record.
.. [2] Amazon SageMaker developer guide, "Common Data Formats for Training".
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np

from ..errors import CorruptRecordError, DataError
from .batch import Array

__all__ = ["MAGIC", "Frame", "Frames", "padded", "read_frames", "scan", "write_frame"]

MAGIC: Final = 0xCED7230A
MAGIC_BYTES: Final = MAGIC.to_bytes(4, "little")
HEADER: Final = struct.Struct("<II")
LENGTH_BITS: Final = 29
LENGTH_MASK: Final = (1 << LENGTH_BITS) - 1

WHOLE, FIRST, MIDDLE, LAST = range(4)

_CHUNK: Final = 1 << 20  # a length is a claim of the data: memory is taken as the bytes arrive


@dataclass(frozen=True, slots=True)
class Frame:
    """One record's payload, possibly in parts.

    Parameters
    ----------
    number
        Zero-based number of the record.
    offset
        Byte offset of its (first) frame.
    parts
        Payloads of its frames; nearly always one.
    """

    number: int
    offset: int
    parts: tuple[bytes, ...]

    @property
    def payload(self) -> bytes:
        """The parts, concatenated: Amazon's convention."""
        return b"".join(self.parts)

    @property
    def payload_with_magic(self) -> bytes:
        """The parts with the magic put back between them: MXNet's convention."""
        return MAGIC_BYTES.join(self.parts)


def padded(length: int) -> int:
    """`length` rounded up to a multiple of four."""
    return (length + 3) & ~3


def write_frame(stream: BinaryIO, payload: bytes) -> None:
    """Write one record as one whole frame.

    Raises
    ------
    DataError
        When the payload is 512 MiB or larger, which the length field cannot say.

    Examples
    --------
    >>> import io
    >>> out = io.BytesIO()
    >>> write_frame(out, b"hello")
    >>> out.getvalue().hex(" ")
    '0a 23 d7 ce 05 00 00 00 68 65 6c 6c 6f 00 00 00'
    """
    if len(payload) > LENGTH_MASK:
        raise DataError(f"a record of {len(payload)} bytes is larger than a frame can hold ({LENGTH_MASK} bytes)")
    padding = bytes(padded(len(payload)) - len(payload))
    stream.write(HEADER.pack(MAGIC, len(payload)) + payload + padding)


def read_frames(stream: BinaryIO) -> Iterator[Frame]:
    """Records of a stream, one by one.

    The plain reader for anything framed: `clary.recordio.reader` is the fast one for numeric records.

    Raises
    ------
    CorruptRecordError
        When a frame is cut, does not begin with the magic, or stands where its part flag is out of order.

    Examples
    --------
    >>> import io
    >>> data = bytes.fromhex("0a23d7ce0500000068656c6c6f000000")
    >>> [frame.payload for frame in read_frames(io.BytesIO(data))]
    [b'hello']
    """
    offset = record = 0
    while True:
        start, flag = offset, FIRST
        parts: list[bytes] = []
        while flag in (FIRST, MIDDLE):
            found = _read_frame(stream, record, offset)
            if found is None:
                if not parts:
                    return
                raise CorruptRecordError("the stream ends between the parts of a record", record=record, offset=offset)
            flag, payload = found
            check_order(flag, bool(parts), record, offset)
            parts.append(payload)
            offset += HEADER.size + padded(len(payload))
        yield Frame(record, start, tuple(parts))
        record += 1


def check_order(flag: int, inside: bool, record: int, offset: int) -> None:
    """Refuse a frame whose part flag does not fit its place."""
    if flag > LAST or (flag in (MIDDLE, LAST)) != inside:
        names = {WHOLE: "a whole record", FIRST: "a first part", MIDDLE: "a middle part", LAST: "a last part"}
        place = "inside a split record" if inside else "outside any split record"
        found = names.get(flag, f"part flag {flag}")
        raise CorruptRecordError(f"{found} {place}", record=record, offset=offset)


def check_magic(word: int, record: int, offset: int) -> None:
    """Refuse a frame that does not begin with the magic."""
    if word != MAGIC:
        raise CorruptRecordError(
            f"expected the RecordIO magic 0x{MAGIC:08X}, got 0x{word:08X}", record=record, offset=offset
        )


def check_ready(answer: object) -> None:
    """Refuse the answer of a non-blocking stream that has nothing yet: it looks like the end and is none."""
    if answer is None:
        raise BlockingIOError(errno.EAGAIN, "the stream is non-blocking and has nothing to read yet")


def _read_frame(stream: BinaryIO, record: int, offset: int) -> tuple[int, bytes] | None:
    """Flag and payload of the next frame; None at a clean end."""
    header = _read(stream, HEADER.size)
    if not header:
        return None
    if len(header) < HEADER.size:
        raise CorruptRecordError(
            f"the stream ends {len(header)} bytes into a frame's header", record=record, offset=offset
        )
    magic, word = HEADER.unpack(header)
    check_magic(magic, record, offset)
    length = word & LENGTH_MASK
    body = _read(stream, padded(length))
    if len(body) < padded(length):
        raise CorruptRecordError(
            f"the stream ends {len(body)} bytes into a payload of {length} and its padding",
            record=record,
            offset=offset,
        )
    return word >> LENGTH_BITS, body[:length]


def _read(stream: BinaryIO, size: int) -> bytes:
    """Up to `size` bytes; fewer only at the end of the stream, however short its reads are."""
    chunks = []
    while size:
        chunk = stream.read(min(size, _CHUNK))
        check_ready(chunk)
        if not chunk:
            break
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


@dataclass(frozen=True, slots=True)
class Frames:
    """The whole frames at the beginning of a block.

    Parameters
    ----------
    starts
        Byte position of each frame, int64, shape (n,).
    lengths
        Length of each payload, int64, shape (n,).
    flags
        Part flag of each, shape (n,).
    end
        Position after the last of them.
    """

    starts: Array
    lengths: Array
    flags: Array
    end: int


def scan(block: Array, size: int) -> Frames:
    """Find the whole frames in the first `size` bytes of a block that begins with one.

    The magics at multiples of four are found with one comparison. Each has to stand where the frame before it
    ends; where one does not (a payload may hold the magic), the chain is walked frame by frame.

    Parameters
    ----------
    block
        uint8, shape (capacity,), aligned to four bytes.
    size
        Number of valid bytes.
    """
    if not _begins_whole(block, size):
        none = np.empty(0, np.int64)
        return Frames(none, none, none, 0)
    words = block[: size & ~3].view("<u4")
    found = np.flatnonzero(words == MAGIC)
    found = found[found + 1 < len(words)]
    lengths = (words[found + 1] & LENGTH_MASK).astype(np.int64)
    starts = found * 4
    ends = starts + HEADER.size + ((lengths + 3) & ~3)
    whole = len(ends) - 1 if ends[-1] > size else len(ends)
    if not np.array_equal(starts[1 : whole + 1], ends[:whole][: len(starts) - 1]):
        found = _walk(words, size)
        lengths = (words[found + 1] & LENGTH_MASK).astype(np.int64)
        starts = found * 4
        ends = starts + HEADER.size + ((lengths + 3) & ~3)
        whole = len(found)
    flags = words[found[:whole] + 1] >> LENGTH_BITS
    end = int(ends[whole - 1]) if whole else 0
    return Frames(starts[:whole], lengths[:whole], flags, end)


def _begins_whole(block: Array, size: int) -> bool:
    """Whether a block begins with a whole frame; nearly always it does not, as the rest of one was just decoded."""
    if size < HEADER.size:
        return False
    magic, word = HEADER.unpack_from(block.data)
    return magic == MAGIC and HEADER.size + padded(word & LENGTH_MASK) <= size


def _walk(words: Array, size: int) -> Array:
    """Word positions of the whole frames, by following the lengths."""
    places = []
    at = 0
    while at + 1 < len(words) and words[at] == MAGIC:
        after = at + 2 + padded(int(words[at + 1]) & LENGTH_MASK) // 4
        if after * 4 > size:
            break
        places.append(at)
        at = after
    return np.array(places, np.int64)
