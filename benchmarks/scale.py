"""Growth: seconds and memory of jobs of 10⁴, 10⁵ and 10⁶ rows of 50 columns, by Pipe, and what a second core is worth.

Each job is a real process that reads RecordIO from FIFOs, one for each pass, into which a block of rows is fed again
and again. Seconds are those of the clock on the wall, memory is the most that was resident. Every job does one pass of
training, but for what the algorithm itself wants to see again. A ratio of 1/10x is linear growth.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from clary.algorithms.registry import ALGORITHMS, algorithm
from clary.containers.feeder import Feeder, Piece
from clary.recordio import Batch, write_batch

from .jobs import TRAIN, environment, kept_bytecode, lay_out
from .timing import Row

__all__ = ["rows"]

BLOCK, COLUMNS = 10_000, 50
SIZES = (10_000, 100_000, 1_000_000)
TIMES = 3
"""How often each job runs; the fastest counts, and the least memory."""

LIMIT: Final = 600
"""Seconds after which a job is ended."""

LINEAR = 12
"""How many times longer ten times as many rows may take."""

FLAT = 1.2
"""How many times more memory they may take, where not all rows are kept."""

CORES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables that say how many a process may use."""

GIVEN: Mapping[str, Mapping[str, str]] = {
    "kmeans": {"epochs": "1"},
    "pca": {"mini_batch_size": "500"},
    "linear-learner": {"epochs": "1", "mini_batch_size": "1000"},
    "factorization-machines": {"epochs": "1", "mini_batch_size": "1000"},
}
"""What a job is told beside the hyperparameters of a small one."""


class Run(NamedTuple):
    """What a job took."""

    seconds: float
    megabytes: float


def block(labelled: bool) -> bytes:
    """Rows as RecordIO."""
    features = np.random.default_rng(0).normal(size=(BLOCK, COLUMNS)).astype(np.float32)
    stream = io.BytesIO()
    write_batch(stream, Batch(features, (features[:, 0] > 0).astype(np.float32) if labelled else None))
    return stream.getvalue()


def run(name: str, size: int, data: bytes, variables: Mapping[str, str]) -> Run:
    """Do a job of so many rows."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        base = Path(folder)
        channel = {"TrainingInputMode": "Pipe", "ContentType": "application/x-recordio-protobuf"}
        lay_out(base, name, COLUMNS, channel, **GIVEN.get(name, {}))
        feeder = Feeder("train", lambda _: [Piece(data)] * (size // BLOCK), base / "input/data")
        stack.callback(feeder.stop)
        feeder.start()
        start = time.perf_counter()
        job = subprocess.Popen(
            [sys.executable, *TRAIN],
            env={**environment(variables, base, name), "CLARY_PIPE_TIMEOUT": str(LIMIT)},
            stdout=subprocess.DEVNULL,
        )
        stack.callback(job.kill)
        megabytes = _peak(job)
        assert job.returncode == 0, f"the job of {name} ended with {job.returncode}"
        return Run(time.perf_counter() - start, megabytes)


def _peak(job: subprocess.Popen[bytes]) -> float:
    """Wait for a job; the most memory that it had, in MB."""
    deadline = time.perf_counter() + LIMIT
    while (found := os.wait4(job.pid, os.WNOHANG))[0] == 0:
        assert time.perf_counter() < deadline, f"the job has not ended after {LIMIT} s"
        time.sleep(0.002)
    job.returncode = os.waitstatus_to_exitcode(found[1])
    return found[2].ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def best(runs: Iterable[Run]) -> Run:
    """The least of each."""
    return Run(*map(min, zip(*runs, strict=True)))


def growth(name: str, found: Mapping[int, Run]) -> Iterator[Row]:
    """How time grows from each size to the next, and memory at the end: samples of rows have to be full first."""
    for few, many in pairwise(SIZES):
        what, rival = f"{name}, {many:,} rows, time", f"{few:,} rows"
        yield Row(what, found[many].seconds, "s", rival, found[few].seconds, 1 / LINEAR, higher_is_better=False)
    *_, few, many = SIZES
    what, rival, least = f"{name}, {many:,} rows, memory", f"{few:,} rows", None if name == "xgboost" else 1 / FLAT
    yield Row(what, found[many].megabytes, "MB", rival, found[few].megabytes, least, higher_is_better=False)


def rows() -> Iterable[Row]:
    """All measurements."""
    with tempfile.TemporaryDirectory() as folder:
        variables = kept_bytecode(Path(folder))
        alone = {**variables, **dict.fromkeys(CORES, "1")}
        for name in ALGORITHMS:
            data = block(labelled="train" in algorithm(name).labelled)
            found = {size: best(run(name, size, data, variables) for _ in range(TIMES)) for size in SIZES[:-1]}
            both = [(run(name, SIZES[-1], data, variables), run(name, SIZES[-1], data, alone)) for _ in range(TIMES)]
            found[SIZES[-1]], one = map(best, zip(*both, strict=True))
            yield from growth(name, found)
            if (cores := os.cpu_count() or 1) > 1:
                what = f"{name}, {SIZES[-1]:,} rows, all {cores} cores"
                yield Row(
                    what, found[SIZES[-1]].seconds, "s", "one core", one.seconds, 1 / 1.05, higher_is_better=False
                )
