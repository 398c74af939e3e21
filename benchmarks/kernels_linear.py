"""Kernels of linear learner and factorization machines against scikit-learn, xlearn and their NumPy twins.

Times are seconds of CPU of one thread of the whole `fit`. Log losses are those of the test rows. Linear learner chooses
its model by the loss of the training rows, as log loss is what is compared: by default it takes the most accurate one.
MNIST is trained in mini-batches of 200 rows, as in Amazon's published run on it; those of 1,000, the default, make too
few steps for it in 15 epochs, which a row without a bar shows. scikit-learn has its own defaults: C = 1, at most 100
iterations. xlearn, which is not among the peers as its sources want an old setuptools, is measured where it is found.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
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

DEFAULT_SIZE = 1000
CRITERION = {"binary_classifier_model_selection_criteria": "loss_function"}
XLEARN = """
import sys, time, xlearn
def seconds(epochs):
    machine = xlearn.create_fm()
    machine.setTrain(sys.argv[1])
    machine.setQuiet()
    machine.disableEarlyStop()
    begun = time.process_time()
    machine.fit(dict(task="binary", k=int(sys.argv[2]), epoch=epochs, nthread=1), sys.argv[1] + ".model")
    return time.process_time() - begun
taken = [(seconds(11) - seconds(1)) / 10 for _ in range(4)]
print("epoch", min(taken[1:]))  # by the second time the rows lie there in its own format
"""


def twin(function: Callable[[], object]) -> None:
    """Run without kernels."""
    kernels = native.kernels
    native.kernels = None
    try:
        function()
    finally:
        native.kernels = kernels


def against_one(
    name: str, given: Any, train: Any, test: Any, labels: Any, truth: Any, mini_batch_size: int
) -> Iterator[Row]:
    """32 models and 15 epochs against one logistic regression: time, and log loss of the test rows."""

    def ours(size: int = mini_batch_size) -> linearlearner.LinearLearnerModel:
        return linearlearner.ours(given, labels, mini_batch_size=size, **CRITERION)[0]

    taken, other = best_of([ours, lambda: linearlearner.theirs(train, labels)], rounds=5)
    rival = f"{linearlearner.SKLEARN} LogisticRegression"
    what = f"linear learner, {name}"
    yield Row(what, taken, "s of CPU", rival, other, 1 / 1.2, higher_is_better=False)
    rows = CSR.from_scipy(test) if hasattr(test, "tocsr") else test
    loss = log_loss(ours().scores(rows), truth)
    peer = log_loss(linearlearner.theirs(train, labels).predict_proba(test)[:, 1], truth)
    yield Row(f"{what}, test log loss", loss, "", rival, peer, 1 / 1.005, higher_is_better=False)
    if mini_batch_size != DEFAULT_SIZE:
        loss = log_loss(ours(DEFAULT_SIZE).scores(rows), truth)
        what = f"{what}, test log loss by mini-batches of {DEFAULT_SIZE}"
        yield Row(what, loss, "", rival, peer, higher_is_better=False)


def linear() -> Iterator[Row]:
    """MNIST's "is it a 0", dense, and a9a, sparse."""
    if MNIST.exists():
        data = linearlearner.zeros()
        yield from against_one('MNIST "is 0"', data.train, data.train, data.test, data.labels, data.truth, 200)
    if (DATA / "a9a").exists():
        (train, labels), (test, truth) = fm.adult("a9a"), fm.adult("a9a.t")
        theirs = [rows.to_scipy() for rows in (train, test)]
        for matrix in theirs:  # its solvers are quicker with small indices
            matrix.indices, matrix.indptr = matrix.indices.astype("int32"), matrix.indptr.astype("int32")
        yield from against_one("a9a", train, theirs[0], theirs[1], labels, truth, DEFAULT_SIZE)


def xlearn_epoch() -> float:
    """Seconds of CPU of one epoch, without what it takes to read the rows, in a process of its own: it may abort."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.txt"
        signs = (DATA / "a9a" / "a9a").read_text().splitlines(keepends=True)
        rows.write_text("".join(("1" if line[0] == "+" else "0") + line[2:] for line in signs))
        command = [sys.executable, "-c", XLEARN, str(rows), str(fm.FACTORS)]
        env = {"USER": "nobody", **os.environ}  # without a user it does abort
        told = subprocess.run(command, capture_output=True, check=True, cwd=folder, env=env, text=True).stdout
    return float(next(line.split()[1] for line in told.splitlines() if line.startswith("epoch ")))


def machines() -> Iterator[Row]:
    """One epoch of 64 factors on a9a, and the log loss of the test rows."""
    if not (DATA / "a9a").exists():
        return
    (train, labels), (test, truth) = fm.adult("a9a"), fm.adult("a9a.t")

    def epoch() -> object:
        return fm.ours(train, labels, "binary_classifier", fm.FACTORS)

    taken, other = best_of([epoch, lambda: twin(epoch)], rounds=15)
    what = "factorization machine, a9a, 64 factors, one epoch"
    yield Row(what, taken, "s of CPU", "NumPy twin", other, 2.5, 0.02, higher_is_better=False)

    if find_spec("xlearn"):
        yield Row(what, taken, "s of CPU", "xlearn", xlearn_epoch(), least_ratio=2.5, higher_is_better=False)

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
