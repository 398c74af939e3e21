"""Linear learner on MNIST's "is it a 0" and on a9a against scikit-learn: time of the full grid, and quality.

Times are seconds of CPU of the whole `fit`: 32 models and 15 epochs, with calibration and final scores. The peer is one
logistic regression by its default settings, on rows as their loaders give them. Without the files there are no rows.
"""

from __future__ import annotations

import gzip
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from clary.algorithms.linear_learner import LinearLearnerModel, LinearLearnerParams, fit
from clary.algorithms.scores import log_loss, roc_auc
from clary.recordio.batch import CSR, Array

from .setting import DATA, MNIST, Memory, Silence, images
from .timing import Row, best_of

__all__ = ["rows"]

SKLEARN = f"scikit-learn {import_module('sklearn').__version__}"
A9A = DATA / "a9a"

linear_model: Any = import_module("sklearn.linear_model")  # it has no types


class Data(NamedTuple):
    """Rows to train on and to test with."""

    train: Any
    labels: Array
    test: Any
    truth: Array


class Scores(Silence):
    """A report that keeps the scores."""

    def __init__(self) -> None:
        self.scores: dict[str, float] = {}

    def evaluation(self, channel: str, values: Mapping[str, float]) -> None:
        """Keep the scores."""
        self.scores |= {f"{channel} {metric}": value for metric, value in values.items()}


def ours(train: Array | CSR, labels: Array, **given: Any) -> tuple[LinearLearnerModel, dict[str, float]]:
    """Our model, by default hyperparameters but for some, and its final scores."""
    report = Scores()
    params = LinearLearnerParams(predictor_type="binary_classifier", early_stopping_patience=15, **given)
    return fit(params, {"train": Memory(train, labels)}, report), report.scores


def theirs(train: Any, labels: Array, solver: str = "lbfgs") -> Any:
    """One logistic regression."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it may not converge in its hundred iterations
        return linear_model.LogisticRegression(solver=solver).fit(train, labels)


def speed(name: str, given: Array | CSR, train: Any, labels: Array) -> Row:
    """The grid against one model, by CPU time in turns."""
    runs = [lambda: ours(given, labels), lambda: theirs(train, labels)]
    taken, other = best_of(runs, rounds=5, clock=time.process_time)
    rival = f"{SKLEARN} LogisticRegression"
    return Row(f"32 models, 15 epochs of {name}", taken, "s of CPU", rival, other, 1 / 1.5, higher_is_better=False)


def zeros() -> Data:
    """MNIST, whose label is 1 for a zero."""
    _, train, test = images()
    labels = []
    for name in ("train", "t10k"):
        data = gzip.decompress((MNIST / f"{name}-labels-idx1-ubyte.gz").read_bytes())
        labels.append((np.frombuffer(data, np.uint8, offset=8) == 0).astype(np.float32))
    return Data(train, labels[0], test, labels[1])


def mnist() -> Iterator[Row]:
    """Time, and the scores of the training rows as SageMaker prints them, with those of the test rows."""
    data = zeros()
    yield speed('MNIST "is 0"', data.train, data.train, data.labels)
    model, scores = ours(data.train, data.labels)
    yield Row("train accuracy", scores["train binary_classification_accuracy"], "", bar=0.9925)
    yield Row("train AUC", scores["train roc_auc_score"], "", bar=0.998)
    columns = model.predict(data.test).columns
    yield Row("test accuracy", float((columns["predicted_label"] == data.truth).mean()), "")
    yield Row("test AUC", roc_auc(columns["score"], data.truth), "")


def a9a() -> Iterator[Row]:
    """Time, on sparse rows and on dense ones, and the log loss of the test rows."""
    load: Any = import_module("sklearn.datasets").load_svmlight_file
    parts = [load(str(A9A / name), n_features=123) for name in ("a9a", "a9a.t")]
    for rows, _ in parts:  # liblinear takes no others
        rows.indices, rows.indptr = rows.indices.astype(np.int32), rows.indptr.astype(np.int32)
    (train, labels), (test, truth) = ((rows, (signs > 0).astype(np.float32)) for rows, signs in parts)
    sparse, dense = CSR.from_scipy(train.astype(np.float32)), train.toarray().astype(np.float32)
    yield speed("a9a, sparse", sparse, train, labels)
    yield speed("a9a, dense", dense, dense, labels)
    loss = log_loss(ours(sparse, labels)[0].scores(CSR.from_scipy(test)), truth)
    for solver in ("lbfgs", "saga", "liblinear"):
        other = log_loss(theirs(train, labels, solver).predict_proba(test)[:, 1], truth)
        yield Row("test log loss of a9a", loss, "", f"{SKLEARN} {solver}", other, 1 / 1.005, higher_is_better=False)


def rows() -> Iterable[Row]:
    """All measurements."""
    if MNIST.exists():
        yield from mnist()
    if A9A.exists():
        yield from a9a()
