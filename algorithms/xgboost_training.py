"""Boosting round by round: what is printed, written down and decided after each, and cross-validation.

References
----------
- https://docs.aws.amazon.com/sagemaker/latest/dg/xgboost_hyperparameters.html
- R. Kohavi: A study of cross-validation and bootstrap for accuracy estimation and model selection, IJCAI 1995
"""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import AlgorithmError, ArtifactError, ClaryError, PlatformError, UserError
from ..recordio.batch import Array
from .base import Checkpoints, Report
from .booster import Booster, BoosterError, Matrix
from .booster_formats import open_booster
from .xgboost_metrics import maximized
from .xgboost_params import XGBoostParams
from .xgboost_scorer import Scorer, split

__all__ = ["Data", "boost", "cross_validate", "folds", "translated"]

Values = Mapping[tuple[str, str], float]
"""``(channel, metric) → value`` after a round."""

_OBJECTIVE = "reg:squarederror"
"""The library's own, where the user names none."""

_USERS_FAULTS = ("Check failed: ", "label must be", "Parameter", "Out of range value", "Unknown ")
"""How the library begins what it says of data, a hyperparameter or both, as nothing else of a job is left to it."""

_REMEDIES: Mapping[str, str] = {
    "labels_lower_bound_": "survival:aft and its metrics need two bounds of each label, which no content type of a "
    "channel can hold: use survival:cox",
    "No more tree left for updating": "process_type update changes a model that is there already, and a job begins "
    "without one: leave out process_type",
    "can not be used to create new trees": "a job begins without trees: name an updater that grows them, or none",
    "preds.Size() == info.labels.Size()": "an eval_metric takes one number a row, but the objective gives one for "
    "each class: use merror or mlogloss",
    "std::isnan(v)": "the labels and weights do not tell where to begin: are all weights 0?",
    "num_feature != 0": "the rows have labels but no features",
}
"""What the library says without words, or in its own → what it means in a job."""

_HINTS: Mapping[str, str] = {
    "ndcg_exp_gain": "labels of rank:ndcg are grades of 0 to 31",
    "base_score must be in (0,1)": "labels of this objective are from 0 to 1, and so is base_score",
}
"""What is well said, and known → what to look at."""


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
    if "bad_alloc" in text:
        return PlatformError(f"the job needs more memory than there is: {text}")
    if not any(fault in text for fault in _USERS_FAULTS):
        return AlgorithmError(f"XGB train call failed with exception:\n {text}")
    words = re.sub(r"^Check failed: .*?(?<!:):(?!:)\s*", "", text)  # the condition, in C++, tells nobody anything
    remedy = next((remedy for sign, remedy in _REMEDIES.items() if sign in text), "")
    words = "; ".join([" ".join(words.split()), *(hint for sign, hint in _HINTS.items() if sign in text)])
    return UserError(f"{remedy} ({words})" if remedy and words else remedy or words or text)


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
    start = 0 if checkpoints is None else _resume(booster, checkpoints, params, report)
    booster.set(
        {**params.library, "eval_metric": [_spelt(metric, params) for metric in library], "validate_parameters": "1"}
    )
    scorers = {name: Scorer(ours, params.objective or _OBJECTIVE, each.labels) for name, each in data.items()}
    rule = _rule(params, data, report)
    if rule is not None and start:
        rule.resume(booster, start)
    if keep is not None and start:
        keep(booster)
    values: Values = {}
    for iteration in range(start, params.num_round):
        if rule is not None and rule.over:
            break
        report.check()
        booster.update(data["train"].matrix, iteration)
        if keep is not None and iteration == 0:
            keep(booster)
        values = _evaluate(booster, data, scorers, iteration)
        report.round(iteration, values)
        if rule is not None:
            rule.heed(booster, iteration, values)
        if checkpoints is not None:
            checkpoints.save(iteration, booster.to_bytes())
    if not values:  # all rounds were in the checkpoint
        values = _evaluate(booster, data, scorers, start - 1)
        report.round(start - 1, values)
    return (booster if rule is None else rule.best_of(booster, report)), values


def _metrics(params: XGBoostParams) -> Sequence[str]:
    """What is evaluated; with the metric of a tuning job, all in alphabetical order."""
    if params.tuning_metric is None:
        return params.eval_metric
    return sorted({*params.eval_metric, params.tuning_metric})


def _spelt(metric: str, params: XGBoostParams) -> str:
    """The library's name of a metric: one of them it knows with a number only."""
    return f"{metric}@{params.tweedie_variance_power or 1.5}" if metric == "tweedie-nloglik" else metric


def _resume(booster: Booster, checkpoints: Checkpoints, params: XGBoostParams, report: Report) -> int:
    """Load the last whole checkpoint; the number of the round to go on with."""
    for number, content, name in checkpoints.saved():
        try:
            found, _ = open_booster(content)
        except ArtifactError as error:
            report.warning(f"the checkpoint {name} is damaged and passed over: {error}")
            continue
        _check_same_job(found, params, name)
        booster.load(found.to_bytes())
        report.info(f"Checkpoint loaded from {name}")
        report.info(f"Resuming from iteration {number + 1}")
        return number + 1
    return 0


def _check_same_job(found: Booster, params: XGBoostParams, name: str) -> None:
    learner = found.configuration()["learner"]
    theirs = learner["objective"]["name"], learner["gradient_booster"]["name"]
    ours = params.library.get("objective", _OBJECTIVE), params.library.get("booster", "gbtree")
    classes = int(learner["learner_model_param"]["num_class"]), params.num_class or 0
    if theirs != ours or classes[0] != classes[1]:
        raise UserError(
            f"the checkpoint {name} is of another job: it has {', '.join(theirs)} and {classes[0]} classes, this one "
            f"{', '.join(ours)} and {classes[1]}; give each job a folder of its own"
        )


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
    waited: int = 0

    @property
    def over(self) -> bool:
        """Whether the last round was one too many."""
        return self.waited >= self.patience

    def heed(self, booster: Booster, iteration: int, values: Values) -> None:
        """Take note of a round; the model keeps the number and the metric of the best."""
        value = [value for (channel, _), value in values.items() if channel == "validation"][self.place]
        if math.isnan(self.best) or (value > self.best if self.maximize else value < self.best):
            self.best, self.best_iteration, self.waited = value, iteration, 0
            self._mark(booster)
        else:
            self.waited += 1

    def resume(self, booster: Booster, start: int) -> None:
        """Go on from what the model of a checkpoint kept."""
        score, iteration = booster.attribute("best_score"), booster.attribute("best_iteration")
        if score is not None and iteration is not None:
            self.best, self.best_iteration = float(score), int(iteration)
            self.waited = start - 1 - self.best_iteration

    def best_of(self, booster: Booster, report: Report) -> Booster:
        """The model of the best round."""
        try:
            best = booster.first(self.best_iteration + 1)
        except BoosterError as error:  # a linear model has no rounds to leave out
            report.warning(f"the model is that of the last round, not of the best, {self.best_iteration}: {error}")
            return booster
        self._mark(best)  # what a model has kept is not with its first rounds
        return best

    def _mark(self, booster: Booster) -> None:
        booster.keep("best_iteration", str(self.best_iteration))
        booster.keep("best_score", repr(self.best))


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


def cross_validate(
    params: XGBoostParams, data: Data, report: Report, keep: Callable[[Sequence[Booster]], None] | None = None
) -> list[Booster]:
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
        keep_all = None if keep is None else lambda booster: keep([*boosters, booster])
        booster, values = boost(params, parts, report, keep_all, part=f"model-{number}")
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
    report.output("predictions.csv", _table(data.labels, np.array(held_out), params.objective if classes else None))
    return boosters


def folds(labels: Array, count: int, repeats: int, seed: int, *, by_class: bool) -> Iterator[tuple[Array, Array]]:
    """Rows to train on and rows held out, `count` times for each of `repeats` shuffles.

    With `by_class`, every part has its share of every label.

    Examples
    --------
    >>> for rest, out in folds(np.array([0, 0, 1, 1]), 2, 1, 0, by_class=True):
    ...     print(sorted(np.array([0, 0, 1, 1])[out].tolist()))
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


def _table(labels: Array, held_out: Array, objective: str | None) -> bytes:
    """The content of ``predictions.csv``; `held_out` has shape (n, repeats), or (n, repeats, k) with probabilities.

    The objective is one that tells classes, or None.
    """
    columns = [labels, held_out.mean(axis=1)]
    if objective is not None:
        probability = held_out.max(axis=2) if held_out.ndim > 2 else held_out
        common = [Counter(sorted(row)).most_common(1)[0][0] for row in _told(held_out, objective).tolist()]
        columns = [labels, probability.mean(axis=1), np.array(common)]
    text = io.BytesIO()
    np.savetxt(text, np.column_stack(columns), delimiter=",", fmt="%f")
    return text.getvalue()


def _told(predictions: Array, objective: str) -> Array:
    """The class that each prediction tells."""
    if objective in ("multi:softmax", "binary:hinge"):
        return predictions
    probable: Array = predictions > (0 if objective == "binary:logitraw" else 0.5)
    return predictions.argmax(axis=2) if predictions.ndim > 2 else probable
