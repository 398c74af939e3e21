"""RecordIO-protobuf against google.protobuf, record by record, and against the SageMaker SDK where it is installed.

Figures are GB of the stream per second of CPU time. Both sides end with the same arrays: rows in float32 matrices of
`BATCH` rows, or CSR parts.
"""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from google.protobuf import __version__ as protobuf_version

from clary.recordio import CSR, Batch, read_batches, write_batch
from clary.recordio.record_pb2 import Record

from .timing import Row, best_of

__all__ = ["rows"]

BATCH = 1000
PROTOBUF = f"protobuf {protobuf_version}"
SHM = Path("/dev/shm")  # noqa: S108 memory, where there is any: the disk is not measured


@dataclass(frozen=True)
class Sample:
    """Rows, their stream, and the part of it that is enough to measure a slow reader."""

    what: str
    batch: Batch
    data: bytes
    part: bytes

    @classmethod
    def of(cls, what: str, batch: Batch, share: int) -> Sample:
        """Rows, of which one in `share` is enough for a slow reader."""
        streams = io.BytesIO(), io.BytesIO()
        write_batch(streams[0], batch)
        write_batch(streams[1], batch[: len(batch) // share])
        return cls(what, batch, streams[0].getvalue(), streams[1].getvalue())


def samples() -> tuple[Sample, Sample, Sample]:
    """Wide, narrow and sparse rows."""
    random = np.random.default_rng(0)

    def dense(n: int, d: int) -> Batch:
        return Batch(random.normal(size=(n, d)).astype(np.float32), random.integers(0, 10, n).astype(np.float32))

    keys = np.sort(random.integers(0, 1_000_000, (40_000, 50)), axis=1).ravel()
    values = random.normal(size=keys.size).astype(np.float32)
    sparse = CSR(np.arange(40_001) * 50, keys, values, (40_000, 1_000_000))
    return (
        Sample.of("dense, 784 columns", dense(20_000, 784), 4),
        Sample.of("dense, 10 columns", dense(400_000, 10), 40),
        Sample.of("sparse, 50 of a million", Batch(sparse, np.ones(40_000, np.float32)), 10),
    )


def read(stream: BinaryIO) -> None:
    """Read all rows with clary."""
    for _ in read_batches(stream, BATCH):
        pass


def payloads(data: bytes) -> Iterator[bytes]:
    """Payloads of a stream in memory, the shortest way."""
    at = 0
    while at < len(data):
        _, length = struct.unpack_from("<II", data, at)
        yield data[at + 8 : at + 8 + length]
        at += 8 + (length + 3) // 4 * 4


def upb_dense(data: bytes, width: int) -> None:
    """Read dense rows with the protobuf library, into a matrix that is there already."""
    matrix, labels = np.empty((BATCH, width), np.float32), np.empty(BATCH, np.float32)
    for i, payload in enumerate(payloads(data)):
        record = Record.FromString(payload)
        matrix[i % BATCH] = np.array(record.features["values"].float32_tensor.values, np.float32)
        labels[i % BATCH] = record.label["values"].float32_tensor.values[0]


def upb_sparse(data: bytes) -> None:
    """Read sparse rows with the protobuf library."""
    keys, values, labels = [], [], []
    for payload in payloads(data):
        record = Record.FromString(payload)
        tensor = record.features["values"].float32_tensor
        keys.append(np.array(tensor.keys, np.int64))
        values.append(np.array(tensor.values, np.float32))
        labels.append(record.label["values"].float32_tensor.values[0])
    for column in (keys, values):
        np.concatenate(column)
    np.array(labels)


def upb_write(batch: Batch) -> None:
    """Write rows with the protobuf library, as the SDK does."""
    stream = io.BytesIO()
    labels = batch.labels if batch.labels is not None else np.empty(0)
    for i in range(len(batch)):
        record = Record()
        tensor = record.features["values"].float32_tensor
        row = batch.features[i : i + 1]
        tensor.values.extend(row.values if isinstance(row, CSR) else row[0])
        if isinstance(row, CSR):
            tensor.keys.extend(row.indices)
            tensor.shape.append(row.shape[1])
        record.label["values"].float32_tensor.values.append(labels[i])
        payload = record.SerializeToString()
        stream.write(struct.pack("<II", 0xCED7230A, len(payload)) + payload + bytes(-len(payload) % 4))


def sdk_reader() -> Callable[[bytes], None] | None:
    """The reader of the SageMaker SDK v2, where it is installed."""
    try:
        from sagemaker.amazon.common import read_records  # pyright: ignore
    except ImportError:
        return None

    def read_with_sdk(data: bytes) -> None:
        for record in read_records(io.BytesIO(data)):
            tensor = record.features["values"].float32_tensor
            for numbers, dtype in ((tensor.values, np.float32), (tensor.keys, np.int64)):
                np.array(numbers, dtype)

    return read_with_sdk


def speeds(ours: tuple[Callable[[], object], int], *theirs: tuple[Callable[[], object], int]) -> list[float]:
    """GB/s of functions, each with the number of bytes that it works on."""
    pairs = (ours, *theirs)
    seconds = best_of([function for function, _ in pairs])
    return [size / taken / 1e9 for (_, size), taken in zip(pairs, seconds, strict=True)]


def in_memory(sample: Sample, least_ratio: float | None, bar: float | None = None) -> Iterator[Row]:
    """Read from memory, against protobuf and the SDK."""
    width = sample.batch.width
    upb: Callable[[], object] = lambda: upb_dense(sample.part, width)  # noqa: E731
    if isinstance(sample.batch.features, CSR):
        upb = lambda: upb_sparse(sample.part)  # noqa: E731
    rivals: list[tuple[Callable[[], object], int]] = [(upb, len(sample.part))]
    sdk = sdk_reader()
    if sdk is not None:
        rivals.append((lambda: sdk(sample.part), len(sample.part)))
    ours, theirs, *others = speeds((lambda: read(io.BytesIO(sample.data)), len(sample.data)), *rivals)
    yield Row(f"read {sample.what}", ours, "GB/s", PROTOBUF, theirs, least_ratio, bar)
    for other in others:
        yield Row(f"read {sample.what}", ours, "GB/s", "SageMaker SDK", other)


def from_file(sample: Sample, bar: float | None = None) -> Row:
    """Read from a file in memory."""
    with tempfile.NamedTemporaryFile(dir=SHM if SHM.is_dir() else None) as file:
        file.write(sample.data)
        file.flush()

        def read_file() -> None:
            with Path(file.name).open("rb") as stream:
                read(stream)

        (ours,) = speeds((read_file, len(sample.data)))
    return Row(f"read {sample.what}, from a file", ours, "GB/s", bar=bar)


def writing(sample: Sample) -> Row:
    """Write to memory, against protobuf."""
    few = sample.batch[: len(sample.batch) * len(sample.part) // len(sample.data)]
    ours, theirs = speeds(
        (lambda: write_batch(io.BytesIO(), sample.batch), len(sample.data)), (lambda: upb_write(few), len(sample.part))
    )
    return Row(f"write {sample.what}", ours, "GB/s", PROTOBUF, theirs)


def rows() -> Iterable[Row]:
    """All measurements."""
    wide, narrow, sparse = samples()
    yield from in_memory(wide, least_ratio=10, bar=3)
    yield from_file(wide, bar=3)
    yield from in_memory(narrow, least_ratio=None)
    yield from in_memory(sparse, least_ratio=5)
    for sample in (wide, narrow, sparse):
        yield writing(sample)
