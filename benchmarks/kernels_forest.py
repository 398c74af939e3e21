"""Random cut forest's kernels: points scored in a second against rrcf, one row's answer, and growing.

The forests, the points and rrcf's way of scoring are those of the benchmark of the algorithm. Times are of one
thread's CPU, and of the whole of `RandomCutForestModel.predict`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np

from clary.algorithms.forest import grow
from clary.algorithms.randomcutforest import RandomCutForestModel
from clary.recordio.batch import Array

from .randomcutforest import (
    POINTS,
    SPEED_SAMPLES,
    SPEED_TREES,
    THEIR_POINTS,
    grown,
    rrcf,
    sample,
    their_scores,
)
from .timing import Row, best_of

__all__ = ["rows"]

SHAPE = f"{SPEED_TREES} trees of {SPEED_SAMPLES}"
BARS = {1: (2000, 150_000), 48: (1200, 55_000), 100: (800, 28_000)}
"""By the number of columns: how many times rrcf's speed, and points a second."""

ALONE = 300
"""Rows that are asked for one by one."""


def one_by_one(model: RandomCutForestModel, points: Array) -> None:
    """Ask for each row alone."""
    for i in range(len(points)):
        model.predict(points[i : i + 1])


def scoring() -> Iterator[Row]:
    """Points scored in a second, all at once, and the microseconds of one row."""
    package = rrcf()
    for d, (ratio, bar) in BARS.items():
        model = RandomCutForestModel(grown(d))
        points = np.random.default_rng(2).normal(size=(POINTS, d)).astype(np.float32)
        runs = [partial(model.predict, points), partial(one_by_one, model, points[:ALONE])]
        if package is not None:
            trees = [package.RCTree(part.astype(np.float64)) for part in sample(d)]
            runs.append(partial(their_scores, trees, points[:THEIR_POINTS].astype(np.float64)))
        taken, alone, *others = best_of(runs, clock=time.thread_time)
        rival = f"rrcf, {THEIR_POINTS} points" if others else ""
        theirs = THEIR_POINTS / others[0] if others else None
        what = f"scoring {POINTS} points, {SHAPE}, d = {d}"
        yield Row(what, POINTS / taken, "points/s", rival, theirs, ratio, bar)
        yield Row(f"scoring one row, {SHAPE}, d = {d}", 1e6 * alone / ALONE, "µs", higher_is_better=False)


def growing() -> Iterator[Row]:
    """Milliseconds of growing a forest."""
    for d, bar in ((1, None), (48, 30), (100, None)):
        parts = sample(d)
        (taken,) = best_of([lambda parts=parts: grow(parts, np.random.default_rng(1))], clock=time.thread_time)
        yield Row(f"growing {SHAPE}, d = {d}", 1000 * taken, "ms", bar=bar, higher_is_better=False)


def rows() -> Iterable[Row]:
    """All measurements."""
    yield from scoring()
    yield from growing()
