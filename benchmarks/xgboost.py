"""XGBoost: what a small training job costs, and what one row costs to answer.

A job is the whole of `clary train`: two processes, reading libsvm, a line of metrics each round, the archive; its time
is that of the wall. Times of one row are of CPU, against the library's own Python package.
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

from .setting import DATA
from .timing import Row, best_of

__all__ = ["rows"]

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
    yield from abalone()
    yield from one_row()
