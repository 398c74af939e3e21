"""The metrics of XGBoost: those of the library, and those that Amazon's container computes itself.

References
----------
- XGBoost parameters, "Learning Task Parameters", https://xgboost.readthedocs.io/en/stable/parameter.html
- Amazon SageMaker developer guide, "Tune an XGBoost Model".
"""

from __future__ import annotations

import re
from typing import Final

from ..errors import AlgorithmError
from .base import Metric

__all__ = ["METRICS", "maximized"]

_CHANNELS: Final = ("train", "validation")


def _metric(name: str, doc: str, *, minimize: bool, setting: str = "") -> Metric:
    """A metric; `setting` is the regular expression of what the log may append to its name."""
    pattern = re.escape(name) + setting if setting else None
    return Metric(name, minimize, _CHANNELS, doc, pattern, {"": "round"})


def _loss(name: str, doc: str, setting: str = "") -> Metric:
    return _metric(name, doc, minimize=True, setting=setting)


def _score(name: str, doc: str, setting: str = "") -> Metric:
    return _metric(name, doc, minimize=False, setting=setting)


_NUMBER: Final = r"(?:@[^:\s]+)?"
_PLACES: Final = r"(?:@\d+)?-?"

METRICS: Final = (
    _loss("rmse", "Root of the mean squared error."),
    _loss("rmsle", "Root of the mean squared error of the logarithms of 1 + the number."),
    _loss("mae", "Mean absolute error."),
    _loss("mape", "Mean absolute error as a share of the label."),
    _loss("mphe", "Mean pseudo-Huber error."),
    _loss("logloss", "Negative log-likelihood of two classes."),
    _loss("error", "Share of the rows of two classes that are told wrongly at a threshold, `error@t` or 0.5.", _NUMBER),
    _loss("merror", "Share of the rows of several classes that are told wrongly."),
    _loss("mlogloss", "Negative log-likelihood of several classes."),
    _score("auc", "Area under the ROC curve."),
    _score("aucpr", "Area under the curve of precision over recall."),
    _score("ndcg", "Normalized discounted cumulative gain, of the first n as `ndcg@n`.", _PLACES),
    _score("map", "Mean average precision, of the first n as `map@n`.", _PLACES),
    _loss("poisson-nloglik", "Negative log-likelihood of Poisson regression."),
    _loss("gamma-nloglik", "Negative log-likelihood of gamma regression."),
    _loss("gamma-deviance", "Residual deviance of gamma regression."),
    _loss("tweedie-nloglik", "Negative log-likelihood of Tweedie regression with a variance power.", _NUMBER),
    _loss("cox-nloglik", "Negative partial log-likelihood of Cox regression."),
    _loss("aft-nloglik", "Negative log-likelihood of the accelerated failure time model."),
    # A share of rows, of which more is better; Amazon's container and the library minimise it all the same.
    _loss("interval-regression-accuracy", "Share of the rows whose prediction lies between the bounds of the label."),
    _score("accuracy", "Share of the rows that are told rightly."),
    _score("balanced_accuracy", "Mean recall of the classes that some row has."),
    _score("f1", "Mean F1 score of the classes."),
    _score("f1_binary", "F1 score of class 1 of two."),
    _score("f1_macro", "Mean F1 score of the classes."),
    _loss("mse", "Mean squared error."),
    _score("precision", "Precision of class 1 of two."),
    _score("precision_macro", "Mean precision of the classes."),
    _score("precision_micro", "Precision of all classes together, which is the accuracy."),
    _score("r2", "Share of the labels' variance that is explained."),
    _score("recall", "Recall of class 1 of two."),
    _score("recall_macro", "Mean recall of the classes."),
    _score("recall_micro", "Recall of all classes together, which is the accuracy."),
)
"""Every metric of the newest image."""


def maximized(metric: str) -> bool:
    """Whether more of a metric is better, as Amazon's tuning jobs and early stopping take it.

    Parameters
    ----------
    metric
        As the user or the log names it, with what is appended to it: ``ndcg@5-``.

    Raises
    ------
    AlgorithmError
        When there is none of this name.

    Examples
    --------
    >>> maximized("auc"), maximized("ndcg@5-"), maximized("error@0.3")
    (True, True, False)
    """
    for known in METRICS:
        if re.fullmatch(known.expression, metric):
            return not known.minimize
    raise AlgorithmError(f"unknown metric {metric!r}")
