"""Boosting round by round: what is printed, written down and decided after each, and cross-validation.

References
----------
- https://docs.aws.amazon.com/sagemaker/latest/dg/xgboost_hyperparameters.html
- R. Kohavi: A study of cross-validation and bootstrap for accuracy estimation and model selection, IJCAI 1995
"""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import AlgorithmError, ClaryError, UserError
from ..recordio.batch import Array
from .base import Checkpoints, Report
from .booster import Booster, BoosterError, Matrix
from .xgboost_metrics import Scorer, maximized, split
from .xgboost_params import XGBoostParams

__all__ = ["Data", "boost", "cross_validate", "folds", "translated"]

Values = Mapping[tuple[str, str], float]
"""``(channel, metric) → value`` after a round."""

_OBJECTIVE = "reg:squarederror"
"""The library's own, where the user names none."""

_USERS_FAULTS = (
    *(
        "label must be",
        "labels must be",
        "Label set is",
        "labels_.size()",
        "base_score must be",
        "reg_lambda should be",
    ),
    *("feature_names mismatch", "only contains pos or neg samples", "Target is multiclass but average='binary'"),
    *("Invalid Parameter", "Invalid Input", "Weights must be", "weights must be", "qid", "query", "num_class"),
    *("Unknown objective function", "Unknown metric", "is not supported", "should be", "expect", "Must have"),
)
"""What the library says when the data or a hyperparameter is wrong."""


@dataclass(frozen=True, slots=True)
class Data:
    """Rows in the library's form, and what metrics of our own need of them."""

    matrix: Matrix
    labels: Array  # (n,)

    def take(self, rows: Array) -> Data:
        """Some of the rows."""
        return Data(self.matrix.take(rows), self.labels[rows])


def translated(error: BoosterError) -> ClaryError:
    """An error of the library, as one that says whose fault it is."""
    text = str(error)
    if any(fault in text for fault in _USERS_FAULTS):
        return UserError(text)
    return AlgorithmError(f"XGB train call failed with exception:\n {text}")


def boost(
    params: XGBoostParams,
    data: Mapping[str, Data],
    report: Report,
    keep: Callable[[Booster], None] | None = None,
    *,
    part: str = "",
) -> tuple[Booster, Values]:
    """Train one model.

    Parameters
    ----------
    params
        How.
    data
        Of the channel ``train``, and perhaps of ``validation``.
    report
        Told of each round.
    keep
        Called once, with the model as soon as it is one.
    part
        Names the model among several.

    Returns
    -------
    tuple
        The model, and the metrics of its last round.
    """
    library, ours = split(_metrics(params))
    booster = Booster(matrices=[each.matrix for each in data.values()])
    checkpoints = report.checkpoints(part)
    start = 0 if checkpoints is None else _resume(booster, checkpoints, report)
    booster.set({**params.library, "eval_metric": library, "validate_parameters": "1"})
    scorers = {name: Scorer(ours, params.objective or _OBJECTIVE, each.labels) for name, each in data.items()}
    rule = _rule(params, data, report)
    values: Values = {}
    for iteration in range(start, params.num_round):
        report.check()
        booster.update(data["train"].matrix, iteration)
        if keep is not None and iteration == start:
            keep(booster)
        values = _evaluate(booster, data, scorers, iteration)
        report.round(iteration, values)
        if checkpoints is not None:
            checkpoints.save(iteration, booster.to_bytes())
        if rule is not None and rule.ends(iteration, values):
            break
    return (booster if rule is None else rule.best_of(booster, report)), values


def _metrics(params: XGBoostParams) -> Sequence[str]:
    """What is evaluated; with the metric of a tuning job, all in alphabetical order."""
    if params.tuning_metric is None:
        return params.eval_metric
    return sorted({*params.eval_metric, params.tuning_metric})


def _resume(booster: Booster, checkpoints: Checkpoints, report: Report) -> int:
    """Load the last whole checkpoint; the number of the round to go on with."""
    for number, content, name in checkpoints.saved():
        try:
            booster.load(content)
        except BoosterError as error:
            report.warning(f"the checkpoint {name} is damaged and passed over: {error}")
            continue
        report.info(f"Checkpoint loaded from {name}")
        report.info(f"Resuming from iteration {number + 1}")
        return number + 1
    return 0


def _evaluate(booster: Booster, data: Mapping[str, Data], scorers: Mapping[str, Scorer], iteration: int) -> Values:
    """All metrics, those of a channel side by side, the library's first."""
    found = booster.evaluate([(each.matrix, name) for name, each in data.items()], iteration)
    values: dict[tuple[str, str], float] = {}
    for name, each in data.items():
        values |= {key: value for key, value in found.items() if key[0] == name}
        if scorers[name].metrics:
            scores = scorers[name](booster.predict_matrix(each.matrix))
            values |= {(name, metric): value for metric, value in scores.items()}
    return values


@dataclass(slots=True)
class _EarlyStopping:
    """Ends the training when a metric of the validation channel has not become better for some rounds.

    Parameters
    ----------
    place
        Of the metric among all of a channel, counted from the end: the library may spell its name in another way.
    """

    patience: int
    place: int
    maximize: bool
    best: float = math.nan
    best_iteration: int = 0
    waited: int = field(default=0)

    def ends(self, iteration: int, values: Values) -> bool:
        """Take note of a round; whether it was the last."""
        value = [value for (channel, _), value in values.items() if channel == "validation"][self.place]
        if math.isnan(self.best) or (value > self.best if self.maximize else value < self.best):
            self.best, self.best_iteration, self.waited = value, iteration, 0
        else:
            self.waited += 1
        return self.waited >= self.patience

    def best_of(self, booster: Booster, report: Report) -> Booster:
        """The model of the best round, which keeps its number and its metric."""
        try:
            best = booster.first(self.best_iteration + 1)
        except BoosterError as error:  # a linear model has no rounds to leave out
            report.warning(f"the model is that of the last round, not of the best, {self.best_iteration}: {error}")
            return booster
        best.keep("best_iteration", str(self.best_iteration))
        best.keep("best_score", repr(self.best))
        return best


def _rule(params: XGBoostParams, data: Mapping[str, Data], report: Report) -> _EarlyStopping | None:
    """When to stop early; the metric is the tuning job's, or the last one."""
    if params.early_stopping_rounds is None:
        return None
    metrics = _metrics(params)
    if "validation" not in data or not metrics:
        missing = "a validation channel" if "validation" not in data else "eval_metric"
        report.warning(f"early_stopping_rounds has no effect without {missing}")
        return None
    metric = params.tuning_metric or params.eval_metric[-1]
    library, ours = split(metrics)
    order = [*library, *ours]
    return _EarlyStopping(params.early_stopping_rounds, order.index(metric) - len(order), maximized(metric))


def cross_validate(params: XGBoostParams, data: Data, report: Report) -> list[Booster]:
    """Train a model on each of ``_kfold`` parts left out, ``_num_cv_round`` times over.

    What each model predicts for the rows it has not seen goes to ``predictions.csv``: label and mean prediction, for
    classes the label, the mean probability and the class that was predicted most often.
    """
    assert params.kfold is not None  # noqa: S101  # who calls has seen it
    count, repeats = params.kfold, params.num_cv_round
    report.info(f"Run {repeats}-round of {count}-fold cross validation with {len(data.labels)} rows")
    classes = params.num_class is not None or (params.objective or "").startswith("binary:")
    boosters: list[Booster] = []
    last: list[Values] = []
    held_out: list[list[Array]] = [[] for _ in data.labels]
    for number, (rest, out) in enumerate(folds(data.labels, count, repeats, params.seed or 0, by_class=classes)):
        report.info(f"Train cross validation fold {number % count + 1}")
        parts = {"train": data.take(rest), "validation": data.take(out)}
        booster, values = boost(params, parts, report, part=f"model-{number}")
        boosters.append(booster)
        last.append(values)
        for row, prediction in zip(out.tolist(), booster.predict_matrix(parts["validation"].matrix), strict=True):
            held_out[row].append(prediction)
        if (number + 1) % count == 0:
            report.info(f"The metrics of round {(number + 1) // count} cross validation")
            report.round(params.num_round, _means(last[-count:]))
    if repeats > 1:
        report.info(f"The overall metrics of {repeats}-round cross validation")
        report.round(params.num_round, _means(last))
    report.output("predictions.csv", _table(data.labels, np.array(held_out), by_class=classes))
    return boosters


def folds(labels: Array, count: int, repeats: int, seed: int, *, by_class: bool) -> Iterator[tuple[Array, Array]]:
    """Rows to train on and rows held out, `count` times for each of `repeats` shuffles.

    With `by_class`, every part has its share of every label.

    Examples
    --------
    >>> for rest, out in folds(np.array([0, 0, 1, 1]), 2, 1, 0, by_class=True):
    ...     print(sorted(np.array([0, 0, 1, 1])[out]))
    [0, 1]
    [0, 1]
    """
    if not 1 < count <= len(labels):
        raise UserError(f"_kfold={count} needs at least as many rows; there are {len(labels)}")
    rng = np.random.default_rng(seed % 2**32)
    for _ in range(repeats):
        order = rng.permutation(len(labels))
        if by_class:
            order = order[np.argsort(labels[order], kind="stable")]
        part = np.empty(len(labels), np.int64)
        part[order] = np.arange(len(labels)) % count  # those of a class follow each other, so they are dealt out
        for number in range(count):
            yield np.flatnonzero(part != number), np.flatnonzero(part == number)


def _means(all_values: Sequence[Values]) -> Values:
    """The mean of each metric, its channels side by side."""
    metrics = dict.fromkeys(metric for _, metric in all_values[0])
    keys = [(channel, metric) for metric in metrics for channel in ("train", "validation")]
    return {key: float(np.mean([values[key] for values in all_values])) for key in keys}


def _table(labels: Array, held_out: Array, *, by_class: bool) -> bytes:
    """The content of ``predictions.csv``; `held_out` has shape (n, repeats), or (n, repeats, k) with probabilities."""
    columns = [labels, held_out.mean(axis=1)]
    if by_class:
        many = held_out.ndim > 2
        predicted = held_out.argmax(axis=2) if many else (held_out > 0.5).astype(int)
        probability = held_out.max(axis=2) if many else held_out
        common = [Counter(sorted(row)).most_common(1)[0][0] for row in predicted.tolist()]
        columns = [labels, probability.mean(axis=1), np.array(common)]
    text = io.BytesIO()
    np.savetxt(text, np.column_stack(columns), delimiter=",", fmt="%f")
    return text.getvalue()
