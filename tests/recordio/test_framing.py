"""Frames: where a record begins and ends."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
import pytest

from clary.errors import CorruptRecordError, DataError
from clary.recordio.framing import HEADER, LENGTH_MASK, MAGIC, Frame, padded, read_frames, scan, write_frame


def framed(*payloads: bytes) -> bytes:
    """Return the payloads as one stream."""
    stream = io.BytesIO()
    for payload in payloads:
        write_frame(stream, payload)
    return stream.getvalue()


def aligned(data: bytes) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Return the data as a block that ends on a multiple of four."""
    return np.frombuffer(data + bytes(-len(data) % 4), np.uint8).copy()


@pytest.mark.parametrize(("length", "whole"), [(0, 0), (1, 4), (3, 4), (4, 4), (5, 8)])
def test_padded(length: int, whole: int) -> None:
    """A payload is padded to a multiple of four."""
    assert padded(length) == whole
    assert len(framed(bytes(length))) == HEADER.size + whole


def test_header() -> None:
    """A frame begins with the magic and its length, both little-endian; the padding is zeros."""
    assert framed(b"abcde") == b"\x0a\x23\xd7\xce\x05\x00\x00\x00abcde\x00\x00\x00"


def test_payloads_come_back() -> None:
    """Payloads of every length come back with their number and place."""
    payloads = [bytes(range(i)) for i in range(9)]
    frames = list(read_frames(io.BytesIO(framed(*payloads))))
    assert [frame.payload for frame in frames] == payloads
    assert [frame.number for frame in frames] == list(range(9))
    assert [frame.offset for frame in frames] == [0, 8, 20, 32, 44, 56, 72, 88, 104]


def test_short_reads(trickle: Callable[..., BinaryIO]) -> None:
    """Reads of one byte change nothing."""
    assert [frame.payload for frame in read_frames(trickle(framed(b"one", b"two!")))] == [b"one", b"two!"]


def test_empty_stream() -> None:
    """No bytes are no records."""
    assert list(read_frames(io.BytesIO())) == []


def test_both_conventions_of_joining() -> None:
    """A record in parts offers them concatenated and with the magic between them."""
    frame = Frame(0, 0, (b"ab", b"cd"))
    assert frame.payload == b"abcd"
    assert frame.payload_with_magic == b"ab\x0a\x23\xd7\xcecd"


def test_too_large_a_payload() -> None:
    """A payload that the length field cannot say is refused before anything is written."""
    stream = io.BytesIO()
    with pytest.raises(DataError, match="larger than a frame can hold"):
        write_frame(stream, bytes(LENGTH_MASK + 1))
    assert stream.getvalue() == b""


def test_claimed_length_takes_no_memory() -> None:
    """A length of half a gigabyte in front of a few bytes is an error, not an allocation."""
    data = struct.pack("<II", MAGIC, LENGTH_MASK) + bytes(10)
    with pytest.raises(CorruptRecordError, match="record 0 at byte 0: the stream ends 10 bytes into a payload"):
        list(read_frames(io.BytesIO(data)))


@pytest.mark.parametrize("cut", range(1, 40))
def test_scan_finds_whole_frames(cut: int) -> None:
    """A scan of the first bytes of a stream finds the frames that are whole in them."""
    data = framed(b"four", b"fives", b"", b"magic" + MAGIC.to_bytes(4, "little"))[:cut]
    frames = scan(aligned(data), len(data))
    ends = [end for end in (12, 28, 36) if end <= cut]
    assert (frames.starts + HEADER.size + (frames.lengths + 3) // 4 * 4).tolist() == ends
    assert frames.end == max(ends, default=0)


def test_scan_is_not_led_astray() -> None:
    """The magic inside a payload, with a likely length behind it, begins no frame."""
    inner = framed(b"abcd") * 3
    data = framed(inner, b"wxyz", inner)
    frames = scan(aligned(data), len(data))
    assert frames.lengths.tolist() == [36, 4, 36]
    assert frames.starts.tolist() == [0, 44, 56]


def test_scan_of_no_frame() -> None:
    """A block that does not begin with a frame has none."""
    data = b"\x00" + framed(b"abcd")[1:] + framed(b"abcd")
    assert scan(aligned(data), len(data)).end == 0
