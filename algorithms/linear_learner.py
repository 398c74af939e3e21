"""Linear learner: linear models for two classes, several classes or numbers, many at once, of which the best is kept.

Mini-batch gradient descent trains models with different rates, decays and schedules side by side on normalised rows
[1]_. After every epoch their losses decide whether to go on; at the end the best model is chosen, by its loss or by
what a threshold on its scores can reach.

References
----------
.. [1] Amazon SageMaker developer guide, "How linear learner works", "Linear learner hyperparameters" and "Tune a
       linear learner model".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from typing import Any

import numpy as np

from ..recordio.batch import CSR, Array
from .base import Algorithm, Channel, Metric, Predictions, Report
from .linear_artifact import LinearArtifact, dump, load
from .linear_params import BINARY, MULTICLASS, LinearLearnerParams
from .linear_scoring import best_of, tell
from .linear_training import Training, first
from .losses import Loss, loss_named
from .rows import few, pieces
from .scores import predicted_positive

__all__ = ["ALGORITHM", "LinearLearnerModel", "LinearLearnerParams", "fit"]


@dataclass(frozen=True)
class LinearLearnerModel:
    """One linear model.

    Parameters
    ----------
    artifact
        Weights, bias, threshold and what else SageMaker keeps of it.
    """

    artifact: LinearArtifact

    @property
    def feature_dim(self) -> int:
        """Number of features of a row."""
        return int(self.artifact.weight.shape[0])

    @cached_property
    def _loss(self) -> Loss:
        kind = self.artifact.predictor_type
        return loss_named("softmax_loss" if kind == MULTICLASS else self.artifact.loss_type)

    @cached_property
    def _wide(self) -> Array:
        return self.artifact.weight.astype(np.float64)

    def scores(self, features: Array | CSR) -> Array:
        """What the loss's link makes of x·w + b: shape (n,), or (n, c) for several classes; float32."""
        if few(features):
            z = features.astype(np.float64) @ self._wide
        else:
            parts = pieces(features, self.feature_dim)
            z = np.concatenate([part.rows.astype(np.float64) @ part.of(self._wide.T).T for part in parts])
        z = (z + self.artifact.bias).astype(np.float32)
        return self._loss.link(z if self.artifact.predictor_type == MULTICLASS else z[:, 0])

    def predict(self, features: Array | CSR) -> Predictions:
        """Score and, of classifiers, label of each row of shape (n, d)."""
        scores = self.scores(features)
        columns = {"score": scores}
        if self.artifact.predictor_type == MULTICLASS:
            columns["predicted_label"] = scores.argmax(axis=1)
        elif self.artifact.predictor_type == BINARY:
            columns["predicted_label"] = predicted_positive(scores, self.artifact.threshold).astype(np.int64)
        return Predictions("predictions", columns)

    def to_bytes(self) -> bytes:
        """The artifact, as Amazon's container writes it."""
        return dump(self.artifact)

    @classmethod
    def from_bytes(cls, data: bytes) -> LinearLearnerModel:
        """Open an artifact, ours or Amazon's.

        Raises
        ------
        ArtifactError
            When it is none of a linear learner.
        """
        return cls(load(data))

    def describe(self) -> Mapping[str, Any]:
        """Predictor, loss, threshold, number of classes and size of the weights."""
        artifact = self.artifact
        found: dict[str, Any] = {"predictor_type": artifact.predictor_type, "loss": artifact.loss_type}
        if artifact.predictor_type == BINARY:
            found["threshold"] = artifact.threshold
        if artifact.predictor_type == MULTICLASS:
            found["num_classes"] = artifact.weight.shape[1]
        norms = np.linalg.norm(artifact.weight, axis=0)
        return {**found, "bias": artifact.bias.tolist(), "weight_norm": norms.tolist()}


def fit(params: LinearLearnerParams, channels: Mapping[str, Channel], report: Report) -> LinearLearnerModel:
    """Train on the channel ``train``; stop and choose by ``validation`` where there is one; evaluate on ``test``."""
    train, validation = channels["train"], channels.get("validation")
    training: Training | None = None
    for epoch in report.epochs(params.epochs, train):
        stream = train.batches(params.mini_batch_size)
        if training is None:
            held = list(first(stream, params.num_point_for_scaler))
            training = Training(params, held, report)
            report.keep(partial(_so_far, training))
            stream = chain(held, stream)
        if training.epoch(epoch, stream, validation):
            report.end_early()
    assert training is not None  # noqa: S101  # there is at least one epoch
    training.end()
    judge = channels["train"] if validation is None else validation
    index, threshold, scored = best_of(training, judge)
    model = LinearLearnerModel(training.artifact(index, threshold))
    report.keep(lambda: model)
    tell(training, judge, scored, index, threshold, report)
    report.info(f"Best model found for hyperparameters: {json.dumps(training.describe(index))}")
    if "test" in channels:
        tell(training, channels["test"], None, index, threshold, report)
    return model


def _so_far(training: Training) -> LinearLearnerModel:
    return LinearLearnerModel(training.snapshot())


_ALL = ("train", "validation", "test")

ALGORITHM = Algorithm(
    name="linear-learner",
    title="Linear learner",
    log_name="Linear Learner",
    params=LinearLearnerParams,
    fit=fit,
    load=LinearLearnerModel.from_bytes,
    channels=("train", "validation", "test"),
    content_types=("recordio", "csv"),
    accepts=("json", "jsonlines", "csv", "recordio"),
    metrics=(
        Metric(
            "objective_loss",
            True,
            _ALL,
            "Mean loss.",
            pattern=r"\S+_objective",
            lines={"": "epoch quality", ":final": "quality"},
        ),
        Metric("binary_classification_accuracy", False, _ALL, "Share of rows whose label is told right."),
        Metric("binary_f_beta", False, _ALL, "F score of the positive class.", pattern=r"binary_f_\S+"),
        Metric("precision", False, _ALL, "Share of true positives among those predicted."),
        Metric("recall", False, _ALL, "Share of the positives that are found."),
        Metric("roc_auc_score", False, _ALL, "Area under the ROC curve."),
        Metric("binary_balanced_accuracy", False, _ALL, "Mean of the recalls of both classes."),
        Metric("binary_log_loss", True, _ALL, "Mean logarithmic loss."),
        Metric("multiclass_accuracy", False, _ALL, "Share of rows whose class is told right."),
        Metric(
            "multiclass_top_k_accuracy",
            False,
            _ALL,
            "Share of rows whose class is among the likeliest.",
            pattern=r"multiclass_top_k_accuracy_\S+",
        ),
        Metric("dcg", False, _ALL, "Discounted cumulative gain of the true class."),
        Metric("macro_recall", False, _ALL, "Mean recall of the classes."),
        Metric("macro_precision", False, _ALL, "Mean precision of the classes."),
        Metric("macro_f_beta", False, _ALL, "Mean F score of the classes.", pattern=r"macro_f_\S+"),
        Metric("multiclass_balanced_accuracy", False, _ALL, "Mean recall of the classes that occur."),
        Metric("multiclass_log_loss", True, _ALL, "Mean logarithmic loss of the true class."),
        Metric("mse", True, _ALL, "Mean squared error."),
        Metric("absolute_loss", True, _ALL, "Mean absolute error."),
    ),
    labelled=_ALL,
)
