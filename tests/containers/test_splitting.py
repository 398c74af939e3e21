"""Where records end, and which of them share a request."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from clary.containers.crc32c import crc32c
from clary.containers.splitting import SplitType, pack, place, split
from clary.errors import DataError
from clary.recordio.batch import Batch
from clary.recordio.framing import HEADER, LENGTH_BITS, MAGIC, padded
from clary.recordio.writer import write_batch

LINES = b"a,1\nbb,22\r\n\n \nccc"


def records(data: bytes, kind: SplitType, *, framed: bool = True, limit: int = 0) -> list[tuple[int, bytes]]:
    """Records of some bytes."""
    return list(split(io.BytesIO(data), kind, framed=framed, limit=limit))


def recordio(*payloads: bytes, flags: tuple[int, ...] = ()) -> bytes:
    """RecordIO frames."""
    parts = zip(payloads, flags or (0,) * len(payloads), strict=True)
    return b"".join(
        HEADER.pack(MAGIC, flag << LENGTH_BITS | len(payload)) + payload + bytes(padded(len(payload)) - len(payload))
        for payload, flag in parts
    )


def bitwise(data: bytes) -> int:
    """CRC-32C as its definition has it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    """A checksum in the form of TFRecord."""
    crc = bitwise(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def tfrecord(*payloads: bytes) -> bytes:
    """TFRecord frames."""
    lengths = [struct.pack("<Q", len(payload)) for payload in payloads]
    return b"".join(
        length + masked(length) + payload + masked(payload) for length, payload in zip(lengths, payloads, strict=True)
    )


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 1023, 1024, 1025, 1027, 3000])
def test_the_checksum_is_that_of_its_definition(size: int) -> None:
    """Blocks of any length are put together."""
    data = np.random.default_rng(size).bytes(size)
    assert crc32c(data) == bitwise(data)


def test_the_checksum_of_zeros_is_that_of_the_rfc() -> None:
    """RFC 3720 has it for 32 of them."""
    assert crc32c(bytes(32)) == 0x8A9136AA


def test_a_line_ends_with_a_newline_and_keeps_it() -> None:
    """The last may do without; a carriage return stays; blank lines are counted and left out."""
    assert records(LINES, "Line") == [(1, b"a,1\n"), (2, b"bb,22\r\n"), (5, b"ccc")]


def test_a_file_without_a_split_is_one_record() -> None:
    """As it is; an empty one has none."""
    assert records(LINES, "None") == [(0, LINES)]
    assert records(b"", "None") == []


@pytest.mark.parametrize("kind", ["RecordIO", "TFRecord"])
def test_frames_are_kept_or_taken_off(kind: SplitType) -> None:
    """Each record is its frame, or what is in it."""
    frame: Callable[..., bytes] = recordio if kind == "RecordIO" else tfrecord
    payloads = [b"one", b"", b"three" * 100]
    data = frame(*payloads)

    assert records(data, kind) == [(i, frame(payload)) for i, payload in enumerate(payloads)]
    assert records(data, kind, framed=False) == list(enumerate(payloads))


def test_a_record_of_several_frames_stays_together() -> None:
    """Its parts are one record, with their frames or joined."""
    data = recordio(b"whole", b"fir", b"middle", b"last", b"end", flags=(0, 1, 2, 3, 0))
    first, second, third = recordio(b"whole"), data[16:-12], recordio(b"end")

    assert records(data, "RecordIO") == [(0, first), (1, second), (2, third)]
    assert records(data, "RecordIO", framed=False) == [(0, b"whole"), (1, b"firmiddlelast"), (2, b"end")]


def test_what_numeric_records_are_split_into_is_what_was_written() -> None:
    """Nothing is lost between the borders."""
    stream = io.BytesIO()
    write_batch(stream, Batch(np.ones((100, 3), np.float32)))
    found = records(stream.getvalue(), "RecordIO")

    assert len(found) == 100
    assert b"".join(body for _, body in found) == stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "data", "sentence"),
    [
        ("RecordIO", recordio(b"abcd")[:-1], "record 0 at byte 0: the stream ends 3 bytes into a payload of 4"),
        ("RecordIO", recordio(b"abcd", b"x") + b"\n\n", "record 2 at byte 24: the stream ends 2 bytes into"),
        ("RecordIO", recordio(b"abcd") + b"no record", "record 1 at byte 12: expected the RecordIO magic"),
        ("RecordIO", recordio(b"abcd", flags=(1,)), "record 0 at byte 12: the stream ends between the parts"),
        ("RecordIO", recordio(b"abcd", flags=(3,)), "record 0 at byte 0: a last part outside any split record"),
        ("TFRecord", tfrecord(b"abcd")[:-1], "record 0 at byte 0: the stream ends 7 bytes into 4 bytes of data"),
        ("TFRecord", tfrecord(b"abcd") + b"\n", "record 1 at byte 20: the stream ends 1 bytes into a frame's header"),
        ("TFRecord", b"1,2,3\n" * 3, "record 0 at byte 0: the checksum of its length is wrong"),
        ("TFRecord", tfrecord(b"abcd").replace(b"abcd", b"abce"), "the checksum of its data is wrong"),
    ],
)
def test_a_damaged_frame_is_named(kind: SplitType, data: bytes, sentence: str) -> None:
    """By its number and its place in the file."""
    with pytest.raises(DataError) as caught:
        records(data, kind)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "data", "framed", "fits"),
    [
        ("None", b"12345", True, 5),
        ("Line", b"1\n2345\n", True, 5),
        ("Line", b"1\n23456", True, 5),
        ("RecordIO", recordio(b"12345"), True, 16),
        ("RecordIO", recordio(b"12345"), False, 5),
        ("TFRecord", tfrecord(b"12345"), True, 21),
        ("TFRecord", tfrecord(b"12345"), False, 5),
    ],
)
def test_a_record_may_have_as_many_bytes_as_a_request(kind: SplitType, data: bytes, framed: bool, fits: int) -> None:
    """One byte more is refused, and what has it is named."""
    assert records(data, kind, framed=framed, limit=fits)
    with pytest.raises(DataError, match=f"than the {fits - 1} bytes of a request \\(MaxPayloadInMB\\)"):
        records(data, kind, framed=framed, limit=fits - 1)


def test_a_line_without_an_end_is_not_read_to_its_end() -> None:
    """A limit bounds memory, too: a few blocks are read, of a file of many."""
    stream = io.BytesIO(b"1" * 1_000_000)
    with pytest.raises(DataError, match="line 1 has more than the 1000 bytes"):
        list(split(stream, "Line", framed=True, limit=1000))
    assert stream.tell() < 10_000


def bodies(sizes: list[int], limit: int, **more: Any) -> list[int]:
    """Sizes of the pieces of records of some sizes."""
    found = list(pack([(i, b"x" * size) for i, size in enumerate(sizes)], limit, **more))
    assert sum(piece.count for piece in found) == len(sizes)
    assert [n for piece in found for n in range(piece.first, piece.last + 1)] == list(range(len(sizes)))
    return [len(piece.body) for piece in found]


def test_as_many_records_as_fit_share_a_request() -> None:
    """To the byte, in order, and no record is divided."""
    assert bodies([4, 6, 1, 9, 10, 3], 10) == [10, 10, 10, 3]
    assert bodies([4, 7], 10) == [4, 7]
    assert bodies([4, 6, 1], 0) == [11]
    assert bodies([4, 6, 1], 10, single=True) == [4, 6, 1]
    assert bodies([], 10) == []


def test_what_is_sent_counts_and_not_what_was_read() -> None:
    """A filter may leave less of a record, or make more of it."""
    assert bodies([10, 10, 10], 10, prepare=lambda record: record[1][:5]) == [10, 5]
    with pytest.raises(DataError, match="what is sent of record 0 has 20 bytes"):
        bodies([10], 10, prepare=lambda record: record[1] * 2)


def test_places_are_said_in_the_words_of_the_split() -> None:
    """One is no range."""
    assert place("Line", 3, 9) == "lines 3 to 9"
    assert place("TFRecord", 0, 0) == "record 0"
    assert place("None", 0, 0) == ""
