"""Kernels of k-means and PCA against scikit-learn and their NumPy twins, on MNIST.

Times are seconds of CPU of one thread of the whole `fit` on rows in memory, or of the prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

from clary.recordio.batch import Array

from . import kmeans, pca
from .kernels_linear import twin
from .setting import images
from .timing import Row, best_of

__all__ = ["rows"]

threads: Any = import_module("threadpoolctl")  # it has no types


def clusters(name: str, train: Array, test: Array) -> Iterator[Row]:
    """One epoch against mini-batches of scikit-learn, four against its KMeans that has converged; test rows' msd."""
    one, four = partial(kmeans.ours, train, 1), partial(kmeans.ours, train, 4)
    sizes = {"MiniBatchKMeans": 1024, "MiniBatchKMeans(batch_size=5000)": 5000}
    rivals: list[Callable[[], object]] = [partial(kmeans.one_epoch, train, size) for size in sizes.values()]
    taken, by_twin, longer, *others = best_of([one, lambda: twin(one), four, *rivals], rounds=5)
    what = f"k-means of {name}, one epoch"
    for rival, seconds in zip(sizes, others, strict=True):
        yield Row(what, taken, "s of CPU", f"{kmeans.SKLEARN} {rival}", seconds, 4, higher_is_better=False)
    yield Row(what, taken, "s of CPU", "NumPy twin", by_twin, higher_is_better=False)
    found: list[Any] = []
    converged = kmeans.cluster.KMeans(kmeans.K, random_state=0)
    (seconds,) = best_of([lambda: found.append(converged.fit(train).cluster_centers_)], rounds=1)
    error, rival = kmeans.msd(found[0], test), f"{kmeans.SKLEARN} KMeans"
    for epochs, fit, least in (("one epoch", one, 1 / 1.005), ("four epochs", four, 1)):
        ours = kmeans.msd(fit().centres, test)
        yield Row(f"k-means of {name}, {epochs}, test msd", ours, "", rival, error, least, higher_is_better=False)
    yield Row(f"k-means of {name}, four epochs", longer, "s of CPU", rival, seconds, 12, higher_is_better=False)


def scores(name: str, train: Array, test: Array) -> Iterator[Row]:
    """Answers for one row and for all test rows."""
    model = kmeans.ours(train, 1)
    for rows, repeats in ((test[:1], 1000), (test, 1)):

        def predict(rows: Array = rows, repeats: int = repeats) -> None:
            for _ in range(repeats):
                model.predict(rows)

        taken, by_twin = (seconds / repeats * 1e6 for seconds in best_of([predict, partial(twin, predict)]))
        what = f"k-means of {name}, answers for {len(rows)} rows"
        yield Row(what, taken, "µs of CPU", "NumPy twin", by_twin, higher_is_better=False)


def components(name: str, train: Array) -> Iterator[Row]:
    """Components in regular mode."""
    runs: list[Callable[[], object]] = [partial(pca.ours, train, "regular", size) for size in pca.BATCHES]
    *taken, other = best_of([*runs, partial(pca.theirs, train, "covariance_eigh")], rounds=5)
    for size, seconds in zip(pca.BATCHES, taken, strict=True):
        what, rival = f"pca of {name}, {size} rows a batch", f"{pca.SKLEARN} covariance_eigh"
        yield Row(what, seconds, "s of CPU", rival, other, 1.15, higher_is_better=False)


def rows() -> Iterable[Row]:
    """All measurements."""
    name, train, test = images()
    with threads.threadpool_limits(1):
        yield from clusters(name, train, test)
        yield from scores(name, train, test)
        yield from components(name, train)
