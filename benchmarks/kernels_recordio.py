"""The kernel that reads RecordIO-protobuf, against the protobuf library record by record, and against copying.

Figures are GB of numbers and their frames per second of CPU time of one thread. All sides begin with bytes in memory
and end with a matrix or with CSR arrays; the protobuf library's matrix is there already and stays in the cache.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
from google.protobuf import __version__ as protobuf_version

from clary import native
from clary.recordio import CSR, Batch, read_batches, read_body, write_batch
from clary.recordio.batch import copy_rows
from clary.recordio.runs import read_whole

from .recordio import BATCH, Sample, samples, upb_dense, upb_sparse
from .timing import Row, best_of

__all__ = ["rows"]

UPB = f"protobuf {protobuf_version}"


def speeds(*pairs: tuple[Callable[[], object], int]) -> list[float]:
    """GB/s of functions, each with the number of bytes that it works on."""
    seconds = best_of([function for function, _ in pairs], 15, time.thread_time)
    return [size / taken / 1e9 for (_, size), taken in zip(pairs, seconds, strict=True)]


def by_twins(function: Callable[[], object]) -> Callable[[], None]:
    """The same without kernels."""

    def call() -> None:
        kernels, native.kernels = native.kernels, None
        try:
            function()
        finally:
            native.kernels = kernels

    return call


def read(data: bytes) -> None:
    """Read a stream in batches."""
    for _ in read_batches(io.BytesIO(data), BATCH):
        pass


def against_upb(sample: Sample, upb: Callable[[], object], ratio: float | None) -> Iterator[Row]:
    """A body at once and a stream in batches, and the twins' stream."""
    whole, part = len(sample.data), len(sample.part)
    ours, stream, twins, theirs = speeds(
        (lambda: read_body(sample.data), whole),
        (lambda: read(sample.data), whole),
        (by_twins(lambda: read(sample.data)), whole),
        (upb, part),
    )
    yield Row(f"RecordIO {sample.what}, a body", ours, "GB/s", UPB, theirs, ratio)
    yield Row(f"RecordIO {sample.what}, a stream in batches of {BATCH:,}", stream, "GB/s", UPB, theirs, ratio)
    yield Row(f"RecordIO {sample.what}, such a stream against the twins", stream, "GB/s", "NumPy", twins)


def against_copying(sample: Sample) -> Iterator[Row]:
    """To a new matrix, and to one that is there, against copying a matrix that has no frames to the same."""
    rows, whole = sample.batch.dense(), len(sample.data)
    there = np.zeros_like(rows)

    def read_there() -> None:
        found = read_whole(sample.data)
        assert found is not None
        copy_rows(found.dense(), there)

    new, new_copy, old, old_copy, stream = speeds(
        (lambda: read_body(sample.data), whole),
        (lambda: np.copyto(np.empty_like(rows), rows), rows.nbytes),
        (read_there, whole),
        (lambda: np.copyto(there, rows), rows.nbytes),
        (lambda: read(sample.data), whole),
    )
    yield Row(f"RecordIO {sample.what}, a body to a new matrix", new, "GB/s", "np.copyto", new_copy, 0.6)
    yield Row(f"RecordIO {sample.what}, a body to a matrix", old, "GB/s", "np.copyto", old_copy, 0.6)
    yield Row(f"RecordIO {sample.what}, a stream, which is copied twice", stream, "GB/s", "np.copyto", old_copy)


def few_columns(sparse: Sample) -> Sample:
    """Sparse rows of another width, whose keys have two bytes."""
    rows = sparse.batch.features
    assert isinstance(rows, CSR)
    narrow = CSR(rows.indptr, rows.indices % 10_000, rows.values, (len(rows), 10_000))
    return Sample.of("sparse, 50 of 10,000", replace(sparse.batch, features=narrow), 10)


def body_of_a_request() -> Iterator[Row]:
    """One row of 784 columns: what a request costs."""
    stream = io.BytesIO()
    write_batch(stream, Batch(np.random.default_rng(0).normal(size=(1, 784)).astype(np.float32)))
    body = stream.getvalue()

    def often(function: Callable[[], object]) -> Callable[[], object]:
        return lambda: [function() for _ in range(200)]

    kernel, twins = best_of([often(lambda: read_body(body)), by_twins(often(lambda: read_body(body)))], 15)
    yield Row("RecordIO 1 x 784, a body", kernel * 5e3, "µs", "NumPy", twins * 5e3, higher_is_better=False)


def rows() -> Iterable[Row]:
    """All measurements."""
    wide, narrow, sparse = samples()
    yield from against_upb(wide, lambda: upb_dense(wide.part, wide.batch.width), 10)
    yield from against_copying(wide)
    yield from against_upb(narrow, lambda: upb_dense(narrow.part, narrow.batch.width), None)
    for sample in (sparse, few_columns(sparse)):
        yield from against_upb(sample, lambda sample=sample: upb_sparse(sample.part), 25)
    yield from body_of_a_request()
