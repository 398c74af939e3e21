"""XGBoost: what a training job costs beside the boosting itself, and what one row costs to answer.

The peer is the library's own Python package, on the same matrix and with the same parameters. A job is the whole of
`clary train`: two processes, reading CSV, a line of metrics each round, the archive; its time is that of the wall, as
is that of `xgboost.train`. Times of one row are of CPU.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from clary.algorithms.registry import algorithm
from clary.recordio import Batch
from clary.recordio.batch import Array
from clary.recordio.csv import write_csv

from .setting import DATA
from .timing import Row, best_of

__all__ = ["rows"]

ROUNDS = 3
"""How often each job runs; the fastest counts."""

PARAMETERS = {"objective": "binary:logistic", "max_depth": "6", "eta": "0.2"}

xgboost: Any = import_module("xgboost")  # it has no types that mypy takes
RIVAL = f"xgboost {xgboost.__version__}"


def job(folder: Path, *words: str) -> float:
    """Seconds of a `clary train`."""
    out = folder / "model.tar.gz"
    command = [sys.executable, "-m", "clary", "train", "xgboost", "--out", str(out), *words]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def boosting(rows: Array, labels: Array, count: int) -> float:
    """Seconds of `xgboost.train` alone."""
    matrix = xgboost.DMatrix(rows, labels)
    start = time.perf_counter()
    xgboost.train(PARAMETERS, matrix, count, evals=[(matrix, "train")], verbose_eval=False)
    return time.perf_counter() - start


def overhead() -> Iterator[Row]:
    """A job of 100,000 rows against the boosting alone."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(100_000, 28)).astype(np.float32)
    labels = (rows @ rng.normal(size=28) + rng.normal(size=len(rows)) > 0).astype(np.float32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "rows.csv").open("wb") as stream:
            write_csv(stream, [Batch(rows, labels)])
        words = [f"{key}={value}" for key, value in PARAMETERS.items()]
        times = [
            (
                job(folder, "--train", str(folder / "rows.csv"), "-p", "num_round=100", *words),
                boosting(rows, labels, 100),
            )
            for _ in range(ROUNDS)
        ]
    ours, theirs = (min(column) for column in zip(*times, strict=True))
    bar = 1.25 * theirs + 0.7
    yield Row(
        "job, 100,000 x 28 CSV, 100 rounds", ours, "s", f"{RIVAL} train alone", theirs, bar=bar, higher_is_better=False
    )


def abalone() -> Iterator[Row]:
    """A job of a few thousand rows, of which most is starting."""
    if not (DATA / "abalone").exists():
        return
    with tempfile.TemporaryDirectory() as name:
        words = ["--train", str(DATA / "abalone/train"), "--channel", f"validation={DATA / 'abalone/validation'}"]
        words += ["--content-type", "text/libsvm", "-p", "num_round=50", "objective=reg:squarederror"]
        ours = min(job(Path(name), *words) for _ in range(5))
    yield Row("job, abalone, 50 rounds", ours, "s", bar=0.6, higher_is_better=False)


def one_row() -> Iterator[Row]:
    """One row of 28 columns asked of 100 trees."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20_000, 28)).astype(np.float32)
    labels = (rows.sum(axis=1) > 0).astype(np.float32)
    booster = xgboost.train(PARAMETERS, xgboost.DMatrix(rows, labels), 100)
    booster.set_param({"nthread": 1})
    model = algorithm("xgboost").load(bytes(booster.save_raw("ubj")))
    row = rows[:1]
    times = 1000
    runs = [
        lambda: [model.predict(row) for _ in range(times)],
        lambda: [booster.inplace_predict(row) for _ in range(times)],
    ]
    ours, theirs = (1e6 * seconds / times for seconds in best_of(runs))
    rival = f"{RIVAL} inplace_predict"
    yield Row("one row, 100 trees", ours, "µs", rival, theirs, 1, higher_is_better=False)


def rows() -> Iterable[Row]:
    """All measurements."""
    yield from overhead()
    yield from abalone()
    yield from one_row()
