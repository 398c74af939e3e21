"""The metrics that Amazon's container computes itself, and which they are of those that a user names.

They are numbers of scikit-learn's, without weights, computed here from counts of the classes; where a share is of
nothing it is 0. What class a prediction tells depends on the objective and is decided in one place, `_TOLD`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..errors import UserError
from ..recordio.batch import Array
from .scores import regression_scores

__all__ = ["Scorer", "split"]


def split(metrics: Sequence[str]) -> tuple[list[str], list[str]]:
    """The metrics that the library computes, and those of a `Scorer`; in their order, each once.

    Examples
    --------
    >>> split(["accuracy", "auc", "error@0.3", "accuracy", "mse"])
    (['auc', 'error@0.3'], ['accuracy', 'mse'])
    """
    once = list(dict.fromkeys(metrics))
    own = [name for name in once if name in _OF_CLASSES or name in _OF_NUMBERS]
    return [name for name in once if name not in own], own


_TOLD: Final[Mapping[str, Callable[[Array], Array]]] = {
    "binary:logistic": lambda probability: probability > 0.5,
    "reg:logistic": lambda probability: probability > 0.5,
    "binary:logitraw": lambda margin: margin > 0,
    "binary:hinge": lambda label: label,
    "multi:softmax": lambda label: label,
    "multi:softprob": lambda probabilities: probabilities.argmax(axis=1),
}
"""Objective → which classes its predictions tell."""

_MOST_CLASSES: Final = 1 << 20
"""More than any model has; the counts of so many take little memory."""


@dataclass(frozen=True, slots=True)
class _Counts:
    """How many rows have a class, are told it, and both; of the classes that are some row's label or prediction."""

    classes: Array
    rows: Array
    told: Array
    hits: Array

    def of_class_one(self) -> _Counts:
        """The counts of class 1 alone; it may be none of those seen."""
        one = self.classes == 1
        return _Counts(self.classes[one], self.rows[one], self.told[one], self.hits[one])


def _accuracy(counts: _Counts) -> float:
    return float(counts.hits.sum() / max(1, counts.rows.sum()))


def _balanced_accuracy(counts: _Counts) -> float:
    rows, hits = counts.rows[counts.rows > 0], counts.hits[counts.rows > 0]
    return float((hits / rows).sum() / max(1, len(rows)))


def _precision(counts: _Counts) -> float:
    return _mean_share(counts.hits, counts.told)


def _recall(counts: _Counts) -> float:
    return _mean_share(counts.hits, counts.rows)


def _f1(counts: _Counts) -> float:
    return _mean_share(2 * counts.hits, counts.rows + counts.told)


def _mean_share(parts: Array, wholes: Array) -> float:
    """Mean of ``part / whole``, 0 for a share of nothing."""
    return float((parts / np.maximum(wholes, 1)).sum() / max(1, len(wholes)))


def _r2(predictions: Array, labels: Array) -> float:
    if len(labels) < 2:
        return float("nan")  # there is no variance
    wide = labels.astype(np.float64)
    unexplained = regression_scores(predictions, labels)["mse"]
    variance = float(wide.var())
    if not variance:
        return float(not unexplained)
    return 1 - unexplained / variance


def _mse(predictions: Array, labels: Array) -> float:
    return regression_scores(predictions, labels)["mse"]


_OF_TWO_CLASSES: Final[Mapping[str, Callable[[_Counts], float]]] = {
    "f1_binary": _f1,
    "precision": _precision,
    "recall": _recall,
}

_OF_CLASSES: Final[Mapping[str, Callable[[_Counts], float]]] = {
    **_OF_TWO_CLASSES,
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "f1": _f1,
    "f1_macro": _f1,
    "precision_macro": _precision,
    "precision_micro": _accuracy,
    "recall_macro": _recall,
    "recall_micro": _accuracy,
}

_OF_NUMBERS: Final[Mapping[str, Callable[[Array, Array], float]]] = {"mse": _mse, "r2": _r2}


class Scorer:
    """Computes the container's own metrics of one data set, round after round.

    Parameters
    ----------
    metrics
        Those that `split` names second.
    objective
        The library's name of it: ``binary:logistic``.
    labels
        Shape (n,).

    Raises
    ------
    UserError
        When a metric makes no sense for the objective or for the labels.

    Examples
    --------
    >>> scorer = Scorer(["accuracy", "recall"], "binary:logistic", np.array([0, 1, 1, 0]))
    >>> scorer(np.array([0.2, 0.6, 0.4, 0.1], np.float32))
    {'accuracy': 0.75, 'recall': 0.5}
    """

    def __init__(self, metrics: Sequence[str], objective: str, labels: Array) -> None:
        self.metrics = tuple(metrics)
        self.objective = objective
        self.labels = labels
        for name in metrics:
            _check_objective(name, objective)
        self._of_classes = [name for name in metrics if name in _OF_CLASSES]
        if self._of_classes:
            self._actual = _classes(labels, self._of_classes[0])
            self._check_two_classes(self._actual)

    def __call__(self, predictions: Array) -> dict[str, float]:
        """The value of each metric.

        Parameters
        ----------
        predictions
            As the library transforms them for the objective, shape (n,), or (n, k) for multi:softprob.

        Raises
        ------
        UserError
            When a metric of two classes meets a third one.
        """
        found = {name: _OF_NUMBERS[name](predictions, self.labels) for name in self.metrics if name in _OF_NUMBERS}
        if self._of_classes:
            told = _TOLD[self.objective](predictions).astype(np.intp)
            self._check_two_classes(told)
            counts = _count(self._actual, told)
            one = counts.of_class_one()
            found |= {name: _OF_CLASSES[name](one if name in _OF_TWO_CLASSES else counts) for name in self._of_classes}
        return {name: found[name] for name in self.metrics}

    def _check_two_classes(self, classes: Array) -> None:
        for name in self._of_classes:
            if name in _OF_TWO_CLASSES and len(classes) and classes.max() > 1:
                others = "f1_macro" if name == "f1_binary" else f"{name}_macro or {name}_micro"
                raise UserError(
                    "Target is multiclass but average='binary'. Please choose another average setting: "
                    f"eval_metric {name!r} is for the classes 0 and 1, got class {classes.max()}; use {others}"
                )


def _check_objective(metric: str, objective: str) -> None:
    if metric in _OF_CLASSES and objective not in _TOLD:
        raise UserError(
            f"eval_metric {metric!r} needs an objective that tells classes ({', '.join(_TOLD)}), got {objective!r}"
        )
    if metric in _OF_NUMBERS and objective.startswith("multi:"):
        raise UserError(f"eval_metric {metric!r} compares numbers, but {objective!r} tells classes: use 'accuracy'")


def _classes(labels: Array, metric: str) -> Array:
    """The labels as numbers of classes."""
    whole = (labels >= 0) & (labels < _MOST_CLASSES) & (labels == np.floor(labels))
    if not whole.all():
        raise UserError(
            f"eval_metric {metric!r} needs labels that are classes: expected 0, 1, …, got {labels[~whole][0]:g}"
        )
    return labels.astype(np.intp)


def _count(actual: Array, told: Array) -> _Counts:
    size = 1 + max((int(each.max()) for each in (actual, told) if len(each)), default=0)
    rows, found, hits = (np.bincount(each, minlength=size) for each in (actual, told, actual[told == actual]))
    seen = np.flatnonzero(rows + found)
    return _Counts(seen, rows[seen], found[seen], hits[seen])
