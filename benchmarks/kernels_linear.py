"""Kernels of linear learner and factorization machines against scikit-learn and their NumPy twins.

Times are seconds of CPU of one thread of the whole `fit`. xlearn, the usual peer of factorization machines, has
not been measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any

from clary import native
from clary.algorithms.scores import log_loss
from clary.recordio.batch import CSR

from . import factorizationmachines as fm
from . import linearlearner
from .setting import DATA, MNIST
from .timing import Row, best_of

__all__ = ["rows"]

threads: Any = import_module("threadpoolctl")  # it has no types


def twin(function: Callable[[], object]) -> None:
    """Run without kernels."""
    kernels = native.kernels
    native.kernels = None
    try:
        function()
    finally:
        native.kernels = kernels


def against_one(name: str, given: Any, train: Any, test: Any, labels: Any, truth: Any) -> Iterator[Row]:
    """32 models and 15 epochs against one logistic regression: time, and log loss of the test rows."""
    runs = [lambda: linearlearner.ours(given, labels), lambda: linearlearner.theirs(train, labels)]
    taken, other = best_of(runs, rounds=5)
    rival = f"{linearlearner.SKLEARN} LogisticRegression"
    what = f"linear learner, {name}"
    yield Row(what, taken, "s of CPU", rival, other, 1 / 1.2, higher_is_better=False)
    rows = CSR.from_scipy(test) if hasattr(test, "tocsr") else test
    loss = log_loss(linearlearner.ours(given, labels)[0].scores(rows), truth)
    peer = log_loss(linearlearner.theirs(train, labels).predict_proba(test)[:, 1], truth)
    yield Row(f"{what}, test log loss", loss, "", rival, peer, 1 / 1.005, higher_is_better=False)


def linear() -> Iterator[Row]:
    """MNIST's "is it a 0", dense, and a9a, sparse."""
    if MNIST.exists():
        data = linearlearner.zeros()
        yield from against_one('MNIST "is 0"', data.train, data.train, data.test, data.labels, data.truth)
    if (DATA / "a9a").exists():
        (train, labels), (test, truth) = fm.adult("a9a"), fm.adult("a9a.t")
        theirs = [rows.to_scipy() for rows in (train, test)]
        for matrix in theirs:  # its solvers are quicker with small indices
            matrix.indices, matrix.indptr = matrix.indices.astype("int32"), matrix.indptr.astype("int32")
        yield from against_one("a9a", train, theirs[0], theirs[1], labels, truth)


def machines() -> Iterator[Row]:
    """One epoch of 64 factors on a9a, and the log loss of the test rows."""
    if not (DATA / "a9a").exists():
        return
    (train, labels), (test, truth) = fm.adult("a9a"), fm.adult("a9a.t")

    def epoch() -> object:
        return fm.ours(train, labels, "binary_classifier", fm.FACTORS)

    taken, other = best_of([epoch, lambda: twin(epoch)], rounds=15)
    what = "factorization machine, a9a, 64 factors, one epoch"
    yield Row(what, taken, "s of CPU", "NumPy twin", other, bar=0.02, higher_is_better=False)

    losses: list[float] = []

    def train_and_test() -> None:
        model = fm.ours(train, labels, "binary_classifier", fm.FACTORS, **fm.A9A)
        losses.append(log_loss(model.predict(test).columns["score"], truth))

    train_and_test()
    twin(train_and_test)
    what = "factorization machine, a9a, 20 epochs, test log loss"
    yield Row(what, losses[0], "", "NumPy twin", losses[1], 1 / 1.001, higher_is_better=False)


def rows() -> Iterable[Row]:
    """All measurements."""
    with threads.threadpool_limits(1):
        yield from linear()
        yield from machines()
