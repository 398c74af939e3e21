"""Streams of every kind, and the readers that all have to agree."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pytest

from clary.errors import CorruptRecordError
from clary.recordio.batch import CSR, Batch
from clary.recordio.framing import read_frames
from clary.recordio.reader import read_batches
from clary.recordio.record import parse_record, to_batch

Reader = Callable[[BinaryIO], Iterator[Batch]]
BLOCKS = (64, 100, 4096, 1 << 20)


class Trickle(io.RawIOBase):
    """A stream that gives at most `most` bytes a read."""

    def __init__(self, data: bytes, most: int = 1) -> None:
        self.rest = memoryview(data)
        self.most = most

    def readable(self) -> bool:
        """Streams to be read say so."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Give as much as one read may."""
        part = self.rest[: min(len(buffer), self.most)]
        buffer[: len(part)] = part
        self.rest = self.rest[len(part) :]
        return len(part)


@pytest.fixture(scope="session")
def trickle() -> Callable[..., BinaryIO]:
    """Return what makes a stream that gives at most so many bytes a read, by default one."""
    return cast(Callable[..., BinaryIO], Trickle)


def one_by_one(stream: BinaryIO) -> Iterator[Batch]:
    """Read records singly through the plain frame reader and the protobuf library."""
    widths: list[int | None] = [None, None]
    for frame in read_frames(stream):
        batch = to_batch(parse_record(frame), number=frame.number, offset=frame.offset)
        labels = None if batch.labels is None else int(np.prod(batch.labels.shape[1:], dtype=int))
        for i, (what, width) in enumerate((("features", batch.width), ("labels", labels))):
            widths[i] = width if widths[i] is None else widths[i]
            if width not in (None, widths[i]):
                reason = f"the record has {width} {what}, those before have {widths[i]}"
                raise CorruptRecordError(reason, record=frame.number, offset=frame.offset)
        yield batch


def blocks_of(size: int) -> Reader:
    """Return the fast reader with blocks of that many bytes."""
    return lambda stream: read_batches(stream, block_bytes=size)


READERS: dict[str, Reader] = {"one_by_one": one_by_one} | {f"blocks_of_{size}": blocks_of(size) for size in BLOCKS}


@pytest.fixture(scope="session")
def reference() -> Reader:
    """Return the plain reader, which the fast one has to agree with."""
    return one_by_one


@pytest.fixture(params=READERS, scope="session")
def reader(request: pytest.FixtureRequest) -> Reader:
    """Return each reader in turn."""
    return READERS[request.param]


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Callable[[bytes], BinaryIO]]:
    """Return what opens a FIFO into which another thread writes the data in pieces."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    opened: list[BinaryIO] = []
    threads: list[threading.Thread] = []

    def write(data: bytes) -> None:
        with path.open("wb", buffering=0) as file:
            for at in range(0, len(data), 4999):
                try:
                    file.write(data[at : at + 4999])
                except BrokenPipeError:  # the reader has seen enough
                    return

    def start(data: bytes) -> BinaryIO:
        threads.append(threading.Thread(target=write, args=(data,), daemon=True))
        threads[-1].start()
        opened.append(path.open("rb", buffering=0))
        return opened[-1]

    yield start
    for stream in opened:
        stream.close()
    for thread in threads:
        thread.join(timeout=10)
        assert not thread.is_alive()


Outcome = tuple[list[dict[str, Any]], CorruptRecordError | None]


@pytest.fixture(scope="session")
def outcome() -> Callable[[Iterator[Batch]], Outcome]:
    """Return what lists the rows that come out of a reader, and the error that ends them."""
    return find_outcome


def find_outcome(batches: Iterator[Batch]) -> Outcome:
    """Return the rows that come out, and the error that ends them."""
    rows: list[dict[str, Any]] = []
    try:
        for batch in batches:
            rows += rows_of(batch)
    except CorruptRecordError as error:
        return rows, error
    return rows, None


def rows_of(batch: Batch) -> list[dict[str, Any]]:
    """Return a batch row by row, in the form of the corpus."""
    return [row_of(batch, i) for i in range(len(batch))]


def row_of(batch: Batch, i: int) -> dict[str, Any]:
    """Return one row of a batch, in the form of the corpus."""
    rows = batch.features
    row: dict[str, Any] = {"dtype": rows.dtype.name}
    if isinstance(rows, CSR):
        row["keys"] = rows[i : i + 1].indices.tolist()
        row["values"] = rows[i : i + 1].values.tolist()
    else:
        row["values"] = rows[i].tolist()
    if batch.labels is not None:
        row["label"] = np.atleast_1d(batch.labels[i]).tolist()
        row["label_dtype"] = batch.labels.dtype.name
    if batch.ids is not None:
        row["ids"] = list(batch.ids[i])
    return row
