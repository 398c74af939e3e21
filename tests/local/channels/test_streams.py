"""The input channels of a training job, read from FIFOs; and augmented manifests, which are mostly read so."""

from __future__ import annotations

import gzip
import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from clary.containers.feeder import Feeder, Piece
from clary.errors import ChannelError
from clary.recordio.batch import Batch
from clary.recordio.framing import HEADER, MAGIC, read_frames, write_frame
from clary.recordio.reader import read_batches
from clary.recordio.writer import write_batch

from .conftest import Fetch, Put, Read, drained, laid

# Pipe mode


def test_a_stream_is_all_objects_in_order_with_nothing_between(put: Put, fetch: Fetch, read: Read) -> None:
    """Pass after pass the same; what is compressed is so in the stream."""
    zipped = gzip.compress(b"x")
    put("p/b", "p/a")
    put("p/c.gz", content=zipped)

    assert read(fetch("p/", "Pipe"), passes=3) == [b"p/ap/b" + zipped] * 3


def test_an_early_close_begins_the_next_pass(put: Put, fetch: Fetch, tmp_path: Path) -> None:
    """A reader that has seen enough finds the whole channel again."""
    put("p/a", content=bytes(5 << 20))
    put("p/b", content=b"end")
    data = fetch("p/", "Pipe", RecordWrapperType="RecordIO")
    feeder = Feeder("train", data.passes(0, 1), tmp_path)
    feeder.start()
    try:
        for number in range(3):
            assert drained(tmp_path / f"train_{number}", most=10)[:4] == MAGIC.to_bytes(4, "little")
        frames = list(read_frames(io.BytesIO(drained(tmp_path / "train_3"))))
    finally:
        feeder.stop()

    assert [frame.payload for frame in frames] == [bytes(5 << 20), b"end"]
    assert feeder.error is None


def test_compressed_streams_are_decompressed_on_demand(put: Put, fetch: Fetch, read: Read) -> None:
    """CompressionType says it, not the name."""
    put("p/a", "p/b.gz", content=gzip.compress(b"row\n"))

    assert read(fetch("p/", "Pipe", CompressionType="Gzip")) == [b"row\nrow\n"]


def test_shuffled_and_sharded_hosts_together_get_everything_once_a_pass(put: Put, fetch: Fetch, read: Read) -> None:
    """Each pass has an order of its own and deals anew."""
    keys = [f"p/{number:02}." for number in range(12)]
    put(*keys)
    data = fetch("p/", "Pipe", S3DataDistributionType="ShardedByS3Key", ShuffleConfig={"Seed": 7})
    passes = list(zip(*(read(data, passes=3, host=host, hosts=2) for host in range(2)), strict=True))
    seen = [[stream.decode().rstrip(".").split(".") for stream in streams] for streams in passes]

    for first, second in seen:
        assert len(first) == len(second) == 6
        assert sorted(f"{key}." for key in first + second) == keys
    assert len({tuple(first) for first, _ in seen}) == 3
    assert len({frozenset(first) for first, _ in seen}) > 1


def test_a_seed_gives_always_the_same_orders(put: Put, fetch: Fetch, read: Read) -> None:
    """Replicated hosts see the same, jobs of one seed too; without a seed the order is that of the keys."""
    put(*(f"p/{number:02}." for number in range(12)))
    one, same, other = (fetch("p/", "Pipe", ShuffleConfig={"Seed": seed}) for seed in (-5, -5, 6))
    orders = read(one, passes=2)

    assert orders == read(same, passes=2, host=1, hosts=2)
    assert orders != read(other, passes=2)
    assert orders[0] != orders[1]


def test_an_empty_shard_is_an_empty_stream(put: Put, fetch: Fetch, read: Read) -> None:
    """Its host sees pass after pass of nothing."""
    put("p/a")
    data = fetch("p/", "Pipe", S3DataDistributionType="ShardedByS3Key")

    assert read(data, passes=3, host=1, hosts=2) == [b"", b"", b""]


# RecordIO


@pytest.mark.parametrize("compression", ["None", "Gzip"])
def test_every_object_becomes_a_record(compression: str, put: Put, fetch: Fetch, read: Read) -> None:
    """Of objects that are protobuf payloads our own reader reads the rows."""
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    stream = io.BytesIO()
    write_batch(stream, Batch(rows, np.arange(4, dtype=np.float32)))
    stream.seek(0)
    for number, frame in enumerate(read_frames(stream)):
        put(f"p/{number}", content=gzip.compress(frame.payload) if compression == "Gzip" else frame.payload)
    (found,) = read(fetch("p/", "Pipe", RecordWrapperType="RecordIO", CompressionType=compression))

    assert found == stream.getvalue()
    (batch,) = read_batches(io.BytesIO(found), 4)
    assert isinstance(batch.features, np.ndarray)
    assert batch.features.tolist() == rows.tolist()


def test_records_are_padded_and_may_be_empty(put: Put, fetch: Fetch, read: Read) -> None:
    """Whatever its length, an object is one record."""
    contents = [b"x" * number for number in range(6)]
    for number, content in enumerate(contents):
        put(f"p/{number}", content=content)
    (found,) = read(fetch("p/", "Pipe", RecordWrapperType="RecordIO"))

    assert [frame.payload for frame in read_frames(io.BytesIO(found))] == contents


def test_what_is_recordio_already_stays_as_it_is(put: Put, fetch: Fetch, read: Read) -> None:
    """Its records are not wrapped into another one."""
    stream = io.BytesIO()
    write_frame(stream, b"one")
    write_frame(stream, b"two")
    put("p/a", content=stream.getvalue())
    put("p/b", content=b"three")
    (found,) = read(fetch("p/", "Pipe", RecordWrapperType="RecordIO"))

    assert [frame.payload for frame in read_frames(io.BytesIO(found))] == [b"one", b"two", b"three"]


def test_an_object_too_long_for_a_frame_becomes_a_record_of_parts(put: Put, fetch: Fetch) -> None:
    """The flags say first, middle, last; the parts are the object without a gap."""
    size = (1 << 30) + 5
    put("p/a", content=gzip.compress(bytes(1 << 20)) * 1024 + gzip.compress(b"12345"))
    data = fetch("p/", "Pipe", RecordWrapperType="RecordIO", CompressionType="Gzip")
    pieces = [piece for piece in data.passes(0, 1)(0) if piece.content != b""]
    headers = [HEADER.unpack(piece.content) for piece in pieces[:-1] if isinstance(piece.content, bytes)]
    parts = [piece for piece in pieces if isinstance(piece.content, Path)]

    assert [(magic, word >> 29) for magic, word in headers] == [(MAGIC, 1), (MAGIC, 2), (MAGIC, 3)]
    assert [word & (1 << 29) - 1 for _, word in headers] == [part.length for part in parts]
    assert [part.start for part in parts] == [0, *itertools.accumulate(part.length for part in parts[:-1])]
    assert sum(part.length for part in parts) == size
    assert pieces[-1] == Piece(bytes(-size % 4))


def test_damaged_gzip_is_told_before_the_job_begins(put: Put, fetch: Fetch, bucket: str) -> None:
    """Where the length of what it holds has to be known."""
    put("p/a", content=b"no gzip")
    with pytest.raises(ChannelError, match=f"s3://{bucket}/p/a is no gzip file"):
        fetch("p/", "Pipe", RecordWrapperType="RecordIO", CompressionType="Gzip")


# Augmented manifests


def _lines(bucket: str) -> bytes:
    lines = [
        {"source-ref": f"s3://{bucket}/img/a.jpg", "label": 1, "more": None},
        {"source-ref": f"s3://{bucket}/img/x/b.jpg", "label": "zwei"},
        {"label": {"a": [1.5, True]}, "source-ref": f"s3://{bucket}/img/a.jpg"},
    ]
    return b"\n\n".join(json.dumps(line).encode() for line in lines) + b"\n"


AUGMENTED = {"S3DataType": "AugmentedManifestFile", "AttributeNames": ["label", "source-ref"]}


def test_attributes_come_in_the_order_asked_for(put: Put, fetch: Fetch, read: Read, bucket: str) -> None:
    """References give the bytes of the object, text is itself, everything else JSON; without a border."""
    put("img/a.jpg", "img/x/b.jpg")
    put("train.manifest", content=_lines(bucket))
    data = fetch("train.manifest", "Pipe", **AUGMENTED)

    assert read(data) == [b"1img/a.jpg" + b"zweiimg/x/b.jpg" + b'{"a":[1.5,true]}img/a.jpg']


def test_each_attribute_is_a_record(put: Put, fetch: Fetch, read: Read, bucket: str) -> None:
    """A line of two attributes is two records, shuffled together; lines are dealt to hosts."""
    put("img/a.jpg", "img/x/b.jpg")
    put("train.manifest", content=_lines(bucket))
    options = {**AUGMENTED, "RecordWrapperType": "RecordIO"}
    shuffled = {"S3DataDistributionType": "ShardedByS3Key", "ShuffleConfig": {"Seed": 0}}
    data = fetch("train.manifest", "Pipe", **options, **shuffled)
    expected = [(b"1", b"img/a.jpg"), (b"zwei", b"img/x/b.jpg"), (b'{"a":[1.5,true]}', b"img/a.jpg")]
    for streams in zip(*(read(data, passes=3, host=host, hosts=2) for host in range(2)), strict=True):
        payloads = [frame.payload for stream in streams for frame in read_frames(io.BytesIO(stream))]

        assert sorted(zip(payloads[::2], payloads[1::2], strict=True)) == sorted(expected)


def test_in_file_mode_the_manifest_and_its_objects_are_files(
    put: Put, fetch: Fetch, tmp_path: Path, bucket: str
) -> None:
    """Objects lie relative to the folder they have in common; a host has the lines that were dealt to it."""
    put("img/a.jpg", "img/x/b.jpg")
    put("m/train.manifest", content=_lines(bucket))
    whole = laid(fetch("m/train.manifest", **AUGMENTED), tmp_path / "whole")
    data = fetch("m/train.manifest", **AUGMENTED, S3DataDistributionType="ShardedByS3Key")
    part = laid(data, tmp_path / "part", 1, 2)

    assert whole == {
        "train.manifest": _lines(bucket).replace(b"\n\n", b"\n"),
        "a.jpg": b"img/a.jpg",
        "x/b.jpg": b"img/x/b.jpg",
    }
    assert part == {"train.manifest": _lines(bucket).split(b"\n\n")[1] + b"\n", "x/b.jpg": b"img/x/b.jpg"}
    assert laid(data, tmp_path / "none", 3, 4) == {}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"", "has no lines"),
        (b'{"label": 1, "source-ref": "s3://b/k"}\n\n{"label":', "line 3 of .* is no JSON: Expecting"),
        (b"[1]", "line 1 of .* is no JSON object but .1."),
        (b'{"label": 1, "other": 2}', "no attribute source-ref, which AttributeNames lists; it has label, other"),
        (b'{"label": 1, "source-ref": 7}', "source-ref has to name an object, as s3://bucket/key, got 7"),
        (b'{"label": 1, "source-ref": "a.jpg"}', 'got "a.jpg"'),
        (b'{"label": 1, "source-ref": "s3://b/"}', "has to name an object"),
        (b'{"label": "\\ud800", "source-ref": "s3://b/k"}', "label is no valid text"),
    ],
)
def test_a_bad_line_is_told(text: bytes, error: str, put: Put, fetch: Fetch) -> None:
    """Which line it is, and what is wrong with it."""
    put("m", content=text)
    with pytest.raises(ChannelError, match=error):
        fetch("m", "Pipe", **AUGMENTED)
