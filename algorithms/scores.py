"""How good predictions are: the numbers at the end of a training log, and the threshold that suits a criterion.

Everything is computed from arrays that are at hand. Counts are exact, sums are float64. Where a share is of nothing
(the precision of a model that finds no positive row) it is 0, as in scikit-learn. Balanced accuracy and log loss are
taken of the probabilities themselves; SageMaker's containers show these two with the link function applied twice.

References
----------
.. [1] T. Fawcett, "An Introduction to ROC Analysis", Pattern Recognition Letters 27, 2006.
.. [2] K. Järvelin, J. Kekäläinen, "Cumulated Gain-Based Evaluation of IR Techniques", ACM Transactions on Information
       Systems 20, 2002.
.. [3] Amazon SageMaker developer guide, "Tune a linear learner model" and "Linear Learner Hyperparameters".
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from ..recordio.batch import Array

__all__ = [
    "CRITERIA",
    "binary_scores",
    "calibrate",
    "log_loss",
    "multiclass_scores",
    "predicted_positive",
    "regression_scores",
    "rmse",
    "roc_auc",
]

CRITERIA: Final = (
    "accuracy",
    "f_beta",
    "f1",
    "precision_at_target_recall",
    "recall_at_target_precision",
    "loss_function",
    "cross_entropy_loss",
)
"""What `calibrate` can choose a threshold by."""

_MIDDLE: Final = 0.5  # the threshold of a probability about which nothing more is known
_MOST: Final = np.finfo(np.float32).max
_BLOCK: Final = 1 << 16  # rows that are worked on at a time: of many the numbers in between take more than the scores


def predicted_positive(scores: Array, threshold: float) -> Array:
    """Whether each score is at least the threshold, compared in float32: the one rule of training and serving.

    Parameters
    ----------
    scores
        Shape (n,).
    threshold
        Rounded to float32 as the scores are, so that a score equal to it is told positive.

    Returns
    -------
    positive
        bool, shape (n,).

    Examples
    --------
    >>> predicted_positive(np.array([0.1, 0.7], np.float32), 0.7).tolist()
    [False, True]
    """
    positive: Array = np.asarray(scores, np.float32) >= np.float32(threshold)
    return positive


def binary_scores(
    scores: Array, labels: Array, threshold: float, f_beta: float, *, with_log_loss: bool = True
) -> dict[str, float]:
    """The scores of a binary classifier, by name, in the order of the log.

    Parameters
    ----------
    scores
        Probabilities of label 1, or any numbers that grow with it, shape (n,).
    labels
        0 or 1, shape (n,).
    threshold
        The least score that is told positive.
    f_beta
        How many times as much as precision recall counts in F.
    with_log_loss
        False for scores that are no probabilities: the log loss is left out.

    Examples
    --------
    >>> scores = np.array([0.1, 0.4, 0.35, 0.8], np.float32)
    >>> found = binary_scores(scores, np.array([0, 0, 1, 1]), 0.5, f_beta=1)
    >>> for name, value in found.items():
    ...     print(name, round(value, 3))
    binary_classification_accuracy 0.75
    binary_f_1.000 0.667
    precision 1.0
    recall 0.5
    roc_auc_score 0.75
    binary_balanced_accuracy 0.75
    binary_log_loss 0.472
    """
    actual = labels > 0
    told = predicted_positive(scores, threshold)
    n, positives, found = len(actual), int(actual.sum()), int(told.sum())
    hits = int((told & actual).sum())
    negatives, passed = n - positives, n - positives - found + hits  # passed: negative, and told so
    recall = _ratio(hits, positives)
    values = {
        "binary_classification_accuracy": _ratio(hits + passed, n),
        f"binary_f_{f_beta:.3f}": _f_beta(hits, found, positives, f_beta),
        "precision": _ratio(hits, found),
        "recall": recall,
        "roc_auc_score": roc_auc(scores, labels),
        # over the classes that there are, as in scikit-learn
        "binary_balanced_accuracy": _ratio(recall + _ratio(passed, negatives), (positives > 0) + (negatives > 0)),
    }
    values = {name: float(value) for name, value in values.items()}
    return {**values, "binary_log_loss": log_loss(scores, labels)} if with_log_loss else values


def _ratio(part: Any, whole: Any) -> Any:
    """``part / whole`` of numbers or arrays, 0 where both are 0."""
    return part / np.where(whole == 0, 1, whole)


def _f_beta(hits: Any, found: Any, positives: Any, beta: float) -> Any:
    """F of counts: hits are among both what was found and the positives."""
    return _ratio((1 + beta**2) * hits, found + beta**2 * positives)


def log_loss(probabilities: Array, labels: Array) -> float:
    """Mean of -log of the probability that each row's label was given.

    A probability of exactly 0 or 1 counts as one within the precision of its number type, as in scikit-learn: no single
    row makes the loss infinite.

    Parameters
    ----------
    probabilities
        Of label 1, shape (n,), or of each label, shape (n, c).
    labels
        0 or 1, or 0 … c - 1; shape (n,).

    Examples
    --------
    >>> log_loss(np.array([0.25, 0.5]), np.array([0, 1]))
    0.4904
    >>> log_loss(np.array([[0.75, 0.25], [0.5, 0.5]]), np.array([0, 1]))
    0.4904
    """
    starts = range(0, len(labels), _BLOCK)
    total = sum(_log_losses(probabilities[i : i + _BLOCK], labels[i : i + _BLOCK]) for i in starts)
    return total / max(1, len(labels))


def _log_losses(probabilities: Array, labels: Array) -> float:
    """Their sum over the rows."""
    if probabilities.ndim == 1:
        wide = probabilities.astype(np.float64)
        own = np.where(labels > 0, wide, 1 - wide)
    else:
        own = probabilities[np.arange(len(labels)), labels.astype(np.intp)].astype(np.float64)
    least = np.finfo(probabilities.dtype).eps
    return float(-np.log(np.clip(own, least, 1 - least)).sum())


def _levels(scores: Array, actual: Array) -> tuple[Array, Array, Array]:
    """The distinct scores, ascending and none of them NaN, and how many positive and negative rows have each."""
    ordered, positive = _sorted(scores, actual)
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))[: len(ordered)]  # of the rows of a score
    rows = np.diff(last, prepend=-1)
    positives = np.diff(np.cumsum(positive)[last], prepend=0)
    return ordered[last], positives, rows - positives


def _sorted(scores: Array, actual: Array) -> tuple[Array, Array]:
    """The scores, ascending, and whether the row of each is positive.

    numpy sorts whole numbers several times faster than it tells how to sort others, so float32 is made such: its bits
    grow with it, those of negative numbers turned round, and the last one has the label.
    """
    if scores.dtype != np.float32:
        order = scores.argsort()
        return scores[order], actual[order]
    keys = (scores + np.float32(0)).view(np.int32).astype(np.int64)  # + 0: there are two zeros
    keys ^= (keys >> 31) & 0x7FFFFFFF
    keys *= 2
    keys += actual
    keys.sort()
    positive = keys & 1
    keys >>= 1
    keys ^= (keys >> 31) & 0x7FFFFFFF
    return keys.astype(np.int32).view(np.float32), positive


def roc_auc(scores: Array, labels: Array) -> float:
    """Area under the ROC curve: how often a positive row has a higher score than a negative one, ties as one half.

    Parameters
    ----------
    scores
        Any numbers, shape (n,); one that is NaN is the least.
    labels
        0 or 1, shape (n,).

    Returns
    -------
    area
        0.5, the value of chance, where all labels are equal: there is no pair to compare.

    Examples
    --------
    >>> roc_auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 0, 1, 1]))
    0.875
    """
    if np.isnan(scores).any():
        scores = np.where(np.isnan(scores), -np.inf, scores)
    positive, negative = (scores[rows] for rows in (labels > 0, labels <= 0))
    positive.sort()
    negative.sort()
    pairs = len(positive) * len(negative)
    if not pairs:
        return _MIDDLE
    below = 0  # counts each pair twice
    for start in range(0, len(positive), _BLOCK):
        block = positive[start : start + _BLOCK]
        below += sum(int(negative.searchsorted(block, side).sum()) for side in ("left", "right"))
    return below / (2 * pairs)


def calibrate(
    scores: Array,
    labels: Array,
    criterion: str,
    *,
    f_beta: float = 1.0,
    target_precision: float = 0.8,
    target_recall: float = 0.8,
) -> tuple[float, float]:
    """The threshold that serves a criterion best on these rows, and what the criterion then is.

    Thresholds are tried in every gap between neighbouring scores, and beyond the ends. One between two scores is
    midway; below all or above all it is as near to 0.5 as it can be.

    - ``accuracy``, ``f_beta``, ``f1``: the highest; of several thresholds that give it the one nearest 0.5.
    - ``precision_at_target_recall``: the highest precision of those with at least this recall, then the highest recall.
    - ``recall_at_target_precision``: the highest recall of those with at least this precision, then the highest
      precision.
    - ``loss_function``, ``cross_entropy_loss``: 0.5 whatever the scores are; the value is their `log_loss`, of which
      less is better, and which means nothing for scores that are no probabilities.

    Where no threshold reaches the target all rows are told positive, so the recall is 1: whoever compares models by
    this value has to look at the precision as well.

    Parameters
    ----------
    scores
        Probabilities or any numbers, shape (n,); rounded to float32, as they are served. One that is NaN reaches no
        threshold.
    labels
        0 or 1, shape (n,).
    criterion
        One of `CRITERIA`.
    f_beta, target_precision, target_recall
        Used by the criterion with this name only.

    Returns
    -------
    threshold
        Finite and exact in float32: `predicted_positive` with it gives this very value.
    value
        0 where there are no rows.

    Examples
    --------
    >>> scores, labels = np.array([0.1, 0.2, 0.4, 0.8], np.float32), np.array([0, 1, 0, 1])
    >>> calibrate(scores, labels, "accuracy")
    (0.6, 0.75)
    >>> calibrate(scores, labels, "precision_at_target_recall", target_recall=0.9)
    (0.15, 0.667)
    """
    if criterion not in CRITERIA:
        raise ValueError(f"expected one of {', '.join(CRITERIA)}, got {criterion!r}")
    single = np.ascontiguousarray(scores, np.float32)
    if criterion in ("loss_function", "cross_entropy_loss"):
        return _MIDDLE, log_loss(single, labels)
    actual = labels > 0
    n, positives = len(actual), int(actual.sum())
    reach = single > -np.inf  # some finite threshold; NaN and -inf reach none
    if not reach.all():
        single, actual = single[reach], actual[reach]
    distinct, *counts = _levels(np.minimum(single, _MOST), actual)
    thresholds = _gaps(distinct)
    hits, wrong = (np.append(np.cumsum(count[::-1])[::-1], 0)[: len(thresholds)] for count in counts)
    if criterion in ("precision_at_target_recall", "recall_at_target_precision"):
        precision, recall = _ratio(hits, hits + wrong), _ratio(hits, positives)
        if criterion == "precision_at_target_recall":
            value, second, allowed = precision, recall, recall >= target_recall
        else:
            value, second, allowed = recall, precision, precision >= target_precision
    else:
        if criterion == "accuracy":
            value = _ratio(hits + (n - positives - wrong), n)
        else:
            value = _f_beta(hits, hits + wrong, positives, f_beta if criterion == "f_beta" else 1.0)
        second, allowed = -np.abs(thresholds - _MIDDLE), np.ones(len(value), bool)
    if not allowed.any():
        allowed[0] = True  # the gap below all scores
    best = np.flatnonzero(allowed & (value == value[allowed].max()))
    chosen = best[second[best].argmax()]
    return float(thresholds[chosen]), float(value[chosen])


def _gaps(distinct: Array) -> Array:
    """A threshold below all of m ascending finite scores, in each gap between two, and above all where that is finite.

    float32, shape (m + 1,) or (m,).
    """
    if not len(distinct):
        return np.array([_MIDDLE], np.float32)
    lower, upper = distinct[:-1], distinct[1:]
    middle = ((lower.astype(np.float64) + upper) / 2).astype(np.float32)
    middle = np.where(middle > lower, middle, upper)  # between two adjacent numbers there is no other to round to
    below = min(np.float32(_MIDDLE), distinct[0])
    above = [max(np.float32(_MIDDLE), np.nextafter(distinct[-1], _MOST))] if distinct[-1] < _MOST else []
    return np.concatenate([[below], middle, above]).astype(np.float32)


def multiclass_scores(probabilities: Array, labels: Array, top_k: int, f_beta: float) -> dict[str, float]:
    """The scores of a classifier with several classes, by name, in the order of the log.

    The macro averages are over the classes that are some row's label or prediction, the balanced accuracy over those
    that are some row's label, as in scikit-learn. The prediction is the most probable class, the first of several; the
    rank of a class counts equal ones in the same order. AWS does not say what its ``dcg`` is; here it is the discounted
    cumulative gain of a ranking in which the true class alone is relevant: the mean of 1/log2(1 + its rank).

    Parameters
    ----------
    probabilities
        Shape (n, c).
    labels
        0 … c - 1, shape (n,).
    top_k
        Among how many of the most probable classes the true one has to be.
    f_beta
        How many times as much as precision recall counts in F.

    Examples
    --------
    >>> probabilities = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    >>> found = multiclass_scores(probabilities, np.array([0, 1, 2]), top_k=2, f_beta=1)
    >>> for name, value in found.items():
    ...     print(name, round(value, 3))
    multiclass_accuracy 0.667
    multiclass_top_k_accuracy_2 1.0
    dcg 0.877
    macro_recall 0.667
    macro_precision 0.5
    macro_f_1.000 0.556
    multiclass_balanced_accuracy 0.667
    multiclass_log_loss 0.69
    """
    n, c = probabilities.shape
    actual = labels.astype(np.intp)
    told = probabilities.argmax(axis=1)
    ranks = _ranks(probabilities, actual)
    rows, found, hits = (np.bincount(each, minlength=c) for each in (actual, told, actual[told == actual]))
    seen = (rows > 0) | (found > 0)
    rows, found, hits = rows[seen], found[seen], hits[seen]
    recalls = _ratio(hits, rows)
    values = {
        "multiclass_accuracy": _ratio(hits.sum(), n),
        f"multiclass_top_k_accuracy_{top_k}": _ratio((ranks <= top_k).sum(), n),
        "dcg": _ratio((1 / np.log2(1 + ranks)).sum(), n),
        "macro_recall": _ratio(recalls.sum(), len(rows)),
        "macro_precision": _ratio(_ratio(hits, found).sum(), len(rows)),
        f"macro_f_{f_beta:.3f}": _ratio(_f_beta(hits, found, rows, f_beta).sum(), len(rows)),
        "multiclass_balanced_accuracy": _ratio(recalls.sum(), (rows > 0).sum()),
        "multiclass_log_loss": log_loss(probabilities, labels),
    }
    return {name: float(value) for name, value in values.items()}


def _ranks(probabilities: Array, classes: Array) -> Array:
    """Place of one class of each row among all, 1 for the most probable, shape (n,)."""
    own = probabilities[np.arange(len(classes)), classes][:, None]
    first = np.arange(probabilities.shape[1]) < classes[:, None]
    # Not less rather than greater: a row of NaN ranks its class last, not first.
    ahead = np.where(probabilities == own, first, ~(probabilities < own))
    ranks: Array = 1 + ahead.sum(axis=1)
    return ranks


def regression_scores(predictions: Array, labels: Array) -> dict[str, float]:
    """Mean squared and mean absolute error, by name, in the order of the log.

    Parameters
    ----------
    predictions, labels
        Shape (n,).

    Examples
    --------
    >>> regression_scores(np.array([1.0, 2.0]), np.array([1.0, 5.0]))
    {'mse': 4.5, 'absolute_loss': 1.5}
    """
    errors = np.subtract(predictions, labels, dtype=np.float64)
    n = max(1, len(errors))
    return {"mse": float(np.square(errors).sum() / n), "absolute_loss": float(np.abs(errors).sum() / n)}


def rmse(predictions: Array, labels: Array) -> float:
    """Root of the mean squared error.

    Parameters
    ----------
    predictions, labels
        Shape (n,).

    Examples
    --------
    >>> rmse(np.array([1.0, 2.0]), np.array([1.0, 5.0]))
    2.1213
    """
    return math.sqrt(regression_scores(predictions, labels)["mse"])
