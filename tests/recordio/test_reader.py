"""The fast reader: what it promises beyond the right rows."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tracemalloc
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pytest

from clary.errors import CorruptRecordError, DataError
from clary.recordio.batch import CSR, Batch, concatenate
from clary.recordio.framing import MAGIC, read_frames
from clary.recordio.reader import read_batches, read_body
from clary.recordio.writer import write_batch

DENSE = np.arange(12, dtype=np.float32).reshape(4, 3)
EYE = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def written(*batches: Batch) -> bytes:
    """Return batches as one stream."""
    stream = io.BytesIO()
    for batch in batches:
        write_batch(stream, batch)
    return stream.getvalue()


class Endless(io.RawIOBase):
    """The same bytes again and again, `limit` in all."""

    def __init__(self, head: bytes, cycle: bytes, limit: float = float("inf")) -> None:
        self.head = head
        self.cycle = cycle
        self.limit = limit
        self.given = 0

    def readable(self) -> bool:
        """Streams to be read say so."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Give the rest of the head or of the cycle."""
        ahead = self.given - len(self.head)
        source = self.head[self.given :] if ahead < 0 else memoryview(self.cycle)[ahead % len(self.cycle) :]
        count = int(min(len(buffer), len(source), self.limit - self.given))
        buffer[:count] = source[:count]
        self.given += count
        return count


def endless(head: bytes, cycle: bytes, limit: float = float("inf")) -> BinaryIO:
    """Return a stream of a head and then the same bytes again and again."""
    return cast(BinaryIO, Endless(head, cycle, limit))


def test_rows_own_their_memory() -> None:
    """Batches stay as they are while the next ones are read."""
    data = written(*(Batch(np.full((50, 4), i, np.float32)) for i in range(20)))
    batches = list(read_batches(io.BytesIO(data), block_bytes=500))
    assert np.array_equal(concatenate(batches).dense()[:, 0], np.repeat(np.arange(20), 50))


@pytest.mark.parametrize("size", [None, 3])
@pytest.mark.parametrize("features", [DENSE, DENSE.astype(np.int32), CSR.from_dense(DENSE)])
def test_dtype(features: Any, size: int | None) -> None:
    """Features and labels get the dtype that is asked for."""
    data = written(Batch(features, np.arange(4)))
    for batch in read_batches(io.BytesIO(data), size, dtype=np.float64):
        assert batch.labels is not None
        assert (batch.features.dtype, batch.labels.dtype) == (np.float64, np.float64)


def test_first_batch_comes_early() -> None:
    """Of a stream without end the first batches come at once."""
    record = written(Batch(DENSE[:1]))
    first = list(islice(read_batches(endless(b"", record), 1000), 3))
    assert [len(batch) for batch in first] == [1000, 1000, 1000]


@pytest.mark.parametrize("kind", ["dense", "sparse", "mixed"])
def test_memory_is_bounded(kind: str) -> None:
    """A stream of 200 MB, or one that takes as long to read, takes a few blocks of memory."""
    rows = np.arange(100 * 784, dtype=np.float32).reshape(100, 784)
    thin = Batch(CSR.from_dense(np.where(rows % 50 == 7, rows, 0)))
    parts = {"dense": [Batch(rows)], "sparse": [thin], "mixed": [Batch(rows), thin, Batch(rows.astype(np.float64))]}
    cycle = written(*parts[kind])
    limit = (200 if kind == "dense" else 10) * 1_000_000 // len(cycle) * len(cycle)
    tracemalloc.start()
    count = sum(len(batch) for batch in read_batches(endless(b"", cycle, limit)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == limit // len(cycle) * sum(len(part) for part in parts[kind])
    assert peak < 32_000_000


@pytest.mark.parametrize("head", [b"", struct.pack("<II", MAGIC, 1 << 29 | 4) + b"abcd"])
def test_garbage_is_refused_early(head: bytes) -> None:
    """Bytes that are no frame are refused when they are met, not when they end."""
    stream = Endless(written(Batch(DENSE)) + head, b"\xaa" * 4096)
    with pytest.raises(CorruptRecordError, match=r"record 4 at byte .* got 0xAAAAAAAA"):
        list(read_batches(cast(BinaryIO, stream), block_bytes=4096))
    assert stream.given < 20_000


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("bad", [0, 1, 50, 99])
def test_rows_before_an_error(bad: int, sparse: bool) -> None:
    """All records before a wrong one come out, and the error names its number and byte."""
    dense = np.ones((100, 3), np.float32)
    good = Batch(CSR.from_dense(dense) if sparse else dense)
    records = [written(good[i : i + 1]) for i in range(100)]
    records[bad] = written(Batch(CSR(np.array([0, 1]), np.array([9]), np.ones(1), (1, 3))))
    found = []
    with pytest.raises(CorruptRecordError, match="a key of 9 in a row of 3 columns") as caught:
        found.extend(read_batches(io.BytesIO(b"".join(records))))
    assert (caught.value.record, caught.value.offset) == (bad, sum(map(len, records[:bad])))
    assert sum(len(batch) for batch in found) == bad


def test_record_larger_than_a_block() -> None:
    """A record of several blocks is one row."""
    row = np.arange(100_000, dtype=np.float64).reshape(1, -1)
    (batch,) = read_batches(io.BytesIO(written(Batch(row))), block_bytes=1000)
    assert np.array_equal(batch.dense(), row)


def test_layouts_in_turns() -> None:
    """Labelled, unlabelled, sparse and integer rows in one stream come out in order."""
    kinds = [Batch(DENSE, DENSE[:, 0]), Batch(DENSE), Batch(CSR.from_dense(DENSE)), Batch(DENSE.astype(np.int32))]
    read = concatenate(list(read_batches(io.BytesIO(written(*kinds * 30)))))
    assert np.array_equal(read.dense(), np.tile(DENSE, (120, 1)))
    assert read.labels is not None
    assert np.isnan(read.labels).sum() == 360


def test_not_a_number_survives() -> None:
    """NaN, infinities and a negative zero keep their bits."""
    row = np.array([[np.nan, np.inf, -np.inf, -0.0]], np.float32)
    (batch,) = read_batches(io.BytesIO(written(Batch(row))))
    assert batch.dense().tobytes() == row.tobytes()


def test_compressed_stream(tmp_path: Path) -> None:
    """A gzip file is a stream like any other."""
    (tmp_path / "data.gz").write_bytes(gzip.compress(written(Batch(DENSE))))
    with gzip.open(tmp_path / "data.gz") as stream:
        (batch,) = read_batches(cast(BinaryIO, stream))
    assert np.array_equal(batch.dense(), DENSE)


@pytest.mark.parametrize("read", [read_batches, read_frames])
def test_non_blocking_stream(tmp_path: Path, read: Callable[[BinaryIO], Any]) -> None:
    """A FIFO with a writer that has written nothing yet is not taken for the end of the data."""
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    raises = pytest.raises(BlockingIOError, match="nothing to read yet")
    with os.fdopen(reader, "rb", buffering=0) as stream, (tmp_path / "fifo").open("wb"), raises:
        list(read(cast(BinaryIO, stream)))


def test_body_without_frames() -> None:
    """A body that is one bare record is one row."""
    (frame,) = read_frames(io.BytesIO(written(Batch(DENSE[:1]))))
    assert np.array_equal(read_body(frame.payload).dense(), DENSE[:1])


@pytest.mark.parametrize("body", [b"", b"\x0a", b"1,2,3\n", b'{"instances": []}', MAGIC.to_bytes(4, "little")])
def test_body_of_another_kind(body: bytes) -> None:
    """A body that holds no record is refused."""
    with pytest.raises(DataError):
        read_body(body)


@pytest.mark.parametrize(
    ("name", "rows", "labels"),
    [
        ("train.pb", np.eye(5)[[0, 0, 0, 0, 1]], [0, 0, 0, 0, 1]),
        ("sparse/train.pb", np.eye(5)[[0, 0, 0, 0, 1]], [0, 0, 0, 0, 1]),
        ("single_feature_label.pb", [[0]], [0]),
        ("sparse_edge_cases/dense_as_sparse.pbr", np.ones((3, 3)), [1, 1, 1]),
        ("sparse_edge_cases/diagonal.pbr", EYE, [1, 1, 1]),
        ("sparse_edge_cases/rectangular_sparse.pbr", [EYE[0]] * 4, [1, 1, 1, 1]),
        ("sparse_edge_cases/single_value_bot_left.pbr", [[0] * 3, [0] * 3, EYE[0]], [1, 1, 1]),
        ("sparse_edge_cases/single_value_bot_right.pbr", [[0] * 3, [0] * 3, EYE[2]], [1, 1, 1]),
        ("sparse_edge_cases/single_value_center.pbr", [[0] * 3, EYE[1], [0] * 3], [1, 1, 1]),
        ("sparse_edge_cases/single_value_top_right.pbr", [EYE[2], [0] * 3, [0] * 3], [1, 1, 1]),
    ],
)
def test_real_files(shared_data: Callable[[str], Path], name: str, rows: Any, labels: list[int]) -> None:
    """Files that AWS tests its own containers with hold what they hold there."""
    with (shared_data("recordio_protobuf_samples") / name).open("rb") as stream:
        (batch,) = read_batches(stream, 100)
    assert batch.labels is not None
    assert np.array_equal(batch.dense(), rows)
    assert batch.labels.tolist() == labels


def test_directory(tmp_path: Path) -> None:
    """A directory gives the records of its files in the order of their paths, without hidden ones."""
    for name, value in (("b.rec", 2), ("a/z.rec", 1), (".hidden.rec", 9)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with (tmp_path / name).open("wb") as file:
            write_batch(file, Batch(np.array([[value]], np.float32)))

    assert [batch.dense().tolist() for batch in read_batches(tmp_path)] == [[[1.0]], [[2.0]]]
    assert [batch.dense().tolist() for batch in read_batches(str(tmp_path / "b.rec"))] == [[[2.0]]]


def test_directory_of_two_widths(tmp_path: Path) -> None:
    """Files of different widths are an error that names the second."""
    for name, width in (("a.rec", 2), ("b.rec", 3)):
        with (tmp_path / name).open("wb") as file:
            write_batch(file, Batch(np.ones((1, width), np.float32)))

    with pytest.raises(DataError, match=r"b\.rec has 3 features, the files before have 2"):
        list(read_batches(tmp_path))
