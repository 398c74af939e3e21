"""A trained XGBoost model, or several, and what a client can ask of them."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from ..errors import AlgorithmError, ArtifactError, DataError
from ..recordio.batch import CSR, Array
from .base import Predictions
from .booster import Booster, BoosterError, Matrix
from .booster_formats import Origin
from .xgboost_trees import Trees

__all__ = ["XGBoostEnsemble", "XGBoostModel", "select"]

_VOTES: Final = ("multi:softmax", "binary:hinge")
"""Objectives whose predictions are classes, of which an ensemble takes the most frequent."""


class XGBoostModel:
    """One booster, ready to answer.

    Parameters
    ----------
    booster
        The library's model.
    origin
        What is known of the file that it came from.
    trees
        Answer in the library's place, as far as they can.
    """

    def __init__(self, booster: Booster, origin: Origin, trees: Trees | None = None) -> None:
        self.booster = booster
        self.origin = origin
        self._trees = trees
        learner = booster.configuration()["learner"]
        self.objective: str = learner["objective"]["name"]
        self.num_class = int(learner["learner_model_param"]["num_class"])
        self.kind: str = learner["gradient_booster"]["name"]
        self.feature_dim = booster.feature_count
        self._one_at_a_time = threading.Lock()

    def predict(self, features: Array | CSR) -> Predictions:
        """One number for each row, or one for each class."""
        return Predictions("predictions", {"score": self.scores(features)})

    def scores(self, features: Array | CSR) -> Array:
        """What the objective makes of the margins, float32, shape (n,) or (n, k).

        Rows may have fewer columns than `feature_dim`; those that they lack are missing.

        Raises
        ------
        DataError
            When the library refuses the rows.
        """
        features = _widened(features, self.feature_dim)
        if self._trees is not None and (found := self._trees.scores(features)) is not None:
            return found
        try:
            if self.kind == "gblinear":  # which the library does not answer where the rows lie
                with self._one_at_a_time:
                    return self.booster.predict_matrix(Matrix(features, threads=1))
            return self.booster.predict(features, rounds=self.origin.best_rounds or 0)
        except BoosterError as error:
            raise DataError(str(error)) from error

    def to_bytes(self) -> bytes:
        """The model as the library saves it, in UBJSON; of its rounds those that count."""
        best = self.origin.best_rounds
        booster = self.booster.first(best) if best and best < self.booster.rounds else self.booster
        return booster.to_bytes()

    def describe(self) -> Mapping[str, Any]:
        """Objective, size, origin and the ten features that gain or weigh most."""
        kind = "weight" if self.kind == "gblinear" else "gain"  # the weights of a linear model are all it has
        best = sorted(self.booster.importance(kind).items(), key=lambda pair: -pair[1])[:10]
        found: dict[str, Any] = {"objective": self.objective, "booster": self.kind, "rounds": self.booster.rounds}
        if self.origin.best_rounds:
            found["rounds_used"] = self.origin.best_rounds
        if self.num_class:
            found["num_class"] = self.num_class
        found |= {"format": self.origin.format, "written_by": f"XGBoost {self.origin.version}"}
        if score := self.booster.attribute("best_score"):
            found |= {"best_iteration": int(self.booster.attribute("best_iteration") or 0), "best_score": float(score)}
        return {**found, "importance": {name: float(f"{gain:.6g}") for name, gain in best}}


class XGBoostEnsemble:
    """Several models of one objective: the mean of their predictions, or the class that most of them say.

    Raises
    ------
    ArtifactError
        When they were not trained for the same, on the same columns.
    """

    def __init__(self, members: Sequence[XGBoostModel]) -> None:
        self.members = members
        self.objective = members[0].objective
        self.num_class = members[0].num_class
        self.feature_dim = members[0].feature_dim
        if len({(each.objective, each.num_class, each.feature_dim) for each in members}) > 1:
            kinds = ", ".join(f"{each.objective} with {each.feature_dim} features" for each in members)
            raise ArtifactError(f"the models of an ensemble have to be alike: there are {kinds}")

    def predict(self, features: Array | CSR) -> Predictions:
        """One number for each row, or one for each class."""
        return Predictions("predictions", {"score": self.scores(features)})

    def scores(self, features: Array | CSR) -> Array:
        """What the models say together, float32, shape (n,) or (n, k)."""
        each = np.stack([member.scores(features) for member in self.members])  # (members, n[, k])
        if self.objective not in _VOTES:
            mean: Array = each.mean(axis=0, dtype=np.float64).astype(np.float32)
            return mean
        classes = np.unique(each)
        votes = (each == classes[:, None, None]).sum(axis=1)  # (classes, n)
        most: Array = classes[votes.argmax(axis=0)]  # the smallest of those that are said equally often
        return most

    def to_bytes(self) -> bytes:
        """No file holds them all."""
        raise AlgorithmError("an ensemble has a file for each of its models")

    def describe(self) -> Mapping[str, Any]:
        """How many there are, and the first of them."""
        return {"models": len(self.members), **self.members[0].describe()}


_SCORE: Final = ("predicted_score",)
_CLASS: Final = ("predicted_label", "labels", "raw_score", "raw_scores")
_PROBABILITY: Final = ("probability", "probabilities")

_KEYS: Final[Mapping[str, Sequence[str]]] = {
    **dict.fromkeys(("reg:squarederror", "reg:logistic", "reg:gamma", "reg:tweedie", "reg:absoluteerror"), _SCORE),
    **dict.fromkeys(("binary:logitraw", "binary:hinge", "multi:softmax"), _CLASS),
    **dict.fromkeys(("binary:logistic", "multi:softprob"), (*_CLASS, *_PROBABILITY)),
}
"""Objective → what a client may ask for."""


def select(
    model: XGBoostModel | XGBoostEnsemble, features: Array | CSR, keys: Sequence[str]
) -> Mapping[str, Sequence[Any]]:
    """What a client has asked for, by key: for each row a number or a list of numbers.

    A key that makes no sense for the objective is NaN in every row, as Amazon has it.

    Raises
    ------
    AlgorithmError
        When nothing can be asked of the objective.
    """
    if model.objective not in _KEYS:
        raise AlgorithmError(f"Objective `{model.objective}` unsupported for selectable inference predictions.")
    scores = model.scores(features)
    found: dict[str, Sequence[Any]] = {}
    for key in keys:
        if key in _KEYS[model.objective]:
            found[key] = _select(model, scores, key)
            continue
        logging.getLogger("clary").warning(
            "Selected key %r is not one of those of the objective %s: %s",
            *(key, model.objective, ", ".join(_KEYS[model.objective])),
        )
        found[key] = [math.nan] * len(scores)
    return found


def _select(model: XGBoostModel | XGBoostEnsemble, scores: Array, key: str) -> Sequence[Any]:
    many = scores.ndim > 1
    if key == "predicted_label":
        return _labels(model.objective, scores)
    if key == "labels":
        return [list(range(model.num_class or 2))] * len(scores)
    if key in ("probability", "raw_score"):
        best: Sequence[Any] = (scores.max(axis=1) if many else scores).tolist()
        return best
    if key in ("probabilities", "raw_scores"):
        wide = scores.astype(np.float64)  # as the container subtracts
        both: Sequence[Any] = (wide if many else np.column_stack([1 - wide, wide])).tolist()
        return both
    alone: Sequence[Any] = scores.tolist()
    return alone


def _labels(objective: str, scores: Array) -> Sequence[Any]:
    """The class of each row; a whole number, but where the model itself gives classes."""
    found: Sequence[Any]
    if objective in _VOTES:
        found = scores.tolist()
    elif scores.ndim > 1:
        found = scores.argmax(axis=1).tolist()
    else:
        found = (scores > (0 if objective == "binary:logitraw" else 0.5)).astype(int).tolist()
    return found


def _widened(features: Array | CSR, width: int) -> Array | CSR:
    """The same rows with `width` columns, of which the last may be missing."""
    n, d = features.shape
    if d >= width:
        return features
    if isinstance(features, CSR):
        return CSR(features.indptr, features.indices, features.values, (n, width))
    return np.column_stack([features, np.full((n, width - d), np.nan, np.float32)])
