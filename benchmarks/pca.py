"""PCA of MNIST (of digits where it is absent) against scikit-learn and numpy: time, exactness, variance captured.

Times are of the whole `fit` on rows in memory, by CPU and by the clock on the wall.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from clary.algorithms.pca import PCAModel, PCAParams, fit
from clary.recordio.batch import Array

from .setting import Memory, Silence, images
from .timing import Row, best_of

__all__ = ["rows"]

SKLEARN = f"scikit-learn {import_module('sklearn').__version__}"
K = 50
PAUSE = 0.3
BATCHES = (500, 5000)  # the first is what Amazon's SDK sends

decomposition: Any = import_module("sklearn.decomposition")  # it has no types


def ours(train: Array, mode: str, batch_size: int = BATCHES[0]) -> PCAModel:
    """Our model."""
    params = PCAParams(
        feature_dim=train.shape[1], num_components=_components(train), mini_batch_size=batch_size, algorithm_mode=mode
    )
    return fit(params, {"train": Memory(train)}, Silence())


def theirs(train: Array, solver: str) -> None:
    """Train scikit-learn's."""
    decomposition.PCA(_components(train), svd_solver=solver, random_state=0).fit(train)


def _components(train: Array) -> int:
    """As many as are wanted, or half of the columns of small data."""
    return int(min(K, train.shape[1] // 2))


def speed(name: str, train: Array) -> Iterator[Row]:
    """Training in both modes, by CPU time and by the clock on the wall."""
    modes = [(mode, size) for mode in ("regular", "randomized") for size in BATCHES]
    solvers = ("covariance_eigh", "randomized")
    runs: list[Callable[[], object]] = [partial(ours, train, *mode) for mode in modes]
    runs += [partial(theirs, train, solver) for solver in solvers]
    # numpy and scipy have threads each that go on spinning after their work, and would slow down whoever comes next.
    spaced = [part for run in runs for part in (partial(time.sleep, PAUSE), run)]
    for unit, clock in (("s of CPU", time.process_time), ("s", time.perf_counter)):
        taken = best_of(spaced, rounds=7, clock=clock)[1::2]
        rivals = dict(zip(solvers, taken[len(modes) :], strict=True))
        for (mode, size), seconds in zip(modes, taken, strict=False):
            for solver, other in rivals.items():
                if (mode, solver) == ("randomized", "covariance_eigh"):
                    continue
                bar = 1 if solver == "covariance_eigh" else 2
                what = f"{mode} of {name}, {size} rows a batch"
                yield Row(what, seconds, unit, f"{SKLEARN} {solver}", other, bar, higher_is_better=False)


def quality(name: str, train: Array) -> Iterator[Row]:
    """How far explained variances are from those of float64, and how much variance the components capture."""
    centred = train.astype(np.float64)
    centred -= centred.mean(axis=0)
    scatter = centred.T @ centred
    k = _components(train)
    best = np.linalg.eigvalsh(scatter)[-k:]
    exact = ours(train, "regular")
    error = np.abs(np.square(exact.s, dtype=np.float64) / best - 1).max()
    yield Row(f"explained variance of {name}", float(error), "relative error", bar=1e-5, higher_is_better=False)
    for mode, model in (("regular", exact), ("randomized", ours(train, "randomized"))):
        v = model.v.astype(np.float64)
        captured = float(np.einsum("ij,ij->", v, scatter @ v) / best.sum())
        yield Row(f"variance of {name} captured by {mode}", captured, "of the best possible")


def rows() -> Iterable[Row]:
    """All measurements."""
    name, train, _ = images()
    yield from speed(name, train)
    yield from quality(name, train)
