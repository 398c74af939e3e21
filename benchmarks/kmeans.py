"""K-means on MNIST (on digits where it is absent) against scikit-learn: time of an epoch, and quality of four.

Times are seconds of CPU of the whole `fit` on rows in memory; the wall clock is told beside them.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from clary.algorithms.kmeans import KMeansModel, KMeansParams, fit
from clary.recordio.batch import Array

from .setting import Memory, Silence, images
from .timing import Row, best_of

__all__ = ["rows"]

SKLEARN = f"scikit-learn {import_module('sklearn').__version__}"
K = 10

cluster: Any = import_module("sklearn.cluster")  # it has no types


def ours(train: Array, epochs: int) -> KMeansModel:
    """Our model, by default hyperparameters."""
    params = KMeansParams(feature_dim=train.shape[1], k=K, epochs=epochs)
    return fit(params, {"train": Memory(train)}, Silence())


def one_epoch(train: Array, batch_size: int) -> None:
    """One pass of scikit-learn's mini-batches."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster.MiniBatchKMeans(K, max_iter=1, batch_size=batch_size, random_state=0).fit(train)


def msd(centres: Array, rows: Array) -> float:
    """Mean squared distance to the closest centre."""
    distances = np.asarray(KMeansModel(centres.astype(np.float32)).predict(rows).columns["distance_to_cluster"])
    return float(np.square(distances, dtype=np.float64).mean())


def speed(name: str, train: Array) -> Iterator[Row]:
    """One epoch, by CPU time and by the clock on the wall."""
    rivals = {"MiniBatchKMeans": 1024, "MiniBatchKMeans(batch_size=5000)": 5000}
    for unit, clock in (("s of CPU", time.process_time), ("s", time.perf_counter)):
        runs = [lambda: ours(train, 1), *(partial(one_epoch, train, size) for size in rivals.values())]
        taken, *others = best_of(runs, rounds=5, clock=clock)
        for rival, seconds in zip(rivals, others, strict=True):
            peer = f"{SKLEARN} {rival}"
            yield Row(f"one epoch of {name}", taken, unit, peer, seconds, 1, higher_is_better=False)


def quality(name: str, train: Array, test: Array) -> Iterator[Row]:
    """Four epochs against KMeans that has converged: the error on test rows, and the time."""
    (taken,) = best_of([lambda: ours(train, 4)], rounds=3)
    centres = ours(train, 4).centres
    for starts in (1, 3):
        rival = f"{SKLEARN} KMeans(n_init={starts})"
        start = time.process_time()
        theirs = cluster.KMeans(K, n_init=starts, random_state=0).fit(train).cluster_centers_
        seconds = time.process_time() - start
        errors = msd(centres, test), msd(theirs, test)
        yield Row(f"test msd of {name}", errors[0], "", rival, errors[1], 1 / 1.005, higher_is_better=False)
        yield Row(f"four epochs of {name}", taken, "s of CPU", rival, seconds, higher_is_better=False)


def rows() -> Iterable[Row]:
    """All measurements."""
    name, train, test = images()
    yield from speed(name, train)
    yield from quality(name, train, test)
