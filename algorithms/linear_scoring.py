"""Which of the linear models is the best, with which threshold, and how good it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..recordio.batch import Array
from .base import Channel, Report
from .linear_params import BINARY, MULTICLASS
from .linear_training import Training, default_threshold, labels_of
from .scores import binary_scores, calibrate, multiclass_scores, regression_scores

__all__ = ["best_of", "tell"]

_HELD: Final = 3_200_000  # scores that are kept at a time, 13 MB: those of 32 models for 100,000 rows
_BLOCK: Final = 1 << 12  # rows that are moved at a time


@dataclass(frozen=True)
class Scored:
    """What models made of the rows of a channel.

    Parameters
    ----------
    losses
        Mean weighted loss of each of the k models over all rows, float64, shape (k,).
    scores
        Of rows evenly spread over them, float32, shape (n, k), or (n, k, c) for several classes.
    labels
        Of the same rows, float32, shape (n,).
    complete
        Whether these are all rows.
    """

    losses: Array
    scores: Array
    labels: Array
    complete: bool

    @classmethod
    def of(cls, training: Training, channel: Channel, number: int | None = None) -> Scored:
        """Ask all models that there really are, or one of them."""
        params = training.params
        total: Array | float = 0.0
        rows = 0
        sample: _Sample | None = None
        most = (params.num_calibration_samples if number is None else None) or np.inf
        for batch in channel.batches(params.mini_batch_size):
            z = training.models.outputs(batch.features)
            z = z if number is None else z[:, number : number + 1]
            truth = labels_of(batch, params, channel.name)
            total = total + training.weighted_losses(z, truth)
            sample = sample or _Sample(z.shape[1:])
            if rows < most:
                few = int(min(len(batch), most - rows))
                sample.add(training.loss.link(z)[:few], truth[:few])
            rows += len(batch)
        if sample is None:
            return cls(np.zeros(0), np.zeros((0, 1)), np.zeros(0), complete=True)
        held = sample.held
        return cls(np.asarray(total / rows), sample.scores[:held], sample.labels[:held], held == rows)

    def best(self, training: Training) -> tuple[int, float]:
        """Number of the best model, the first of those that are the same, and its threshold."""
        number, threshold = self._best(training)
        return int(np.flatnonzero(training.models.owner == number)[0]), threshold

    def _best(self, training: Training) -> tuple[int, float]:
        params, default = training.params, default_threshold(training.loss)
        criterion = params.binary_classifier_model_selection_criteria
        if params.predictor_type != BINARY or criterion in {"loss_function", "cross_entropy_loss"}:
            return int(np.argmin(np.nan_to_num(self.losses, nan=np.inf))), default
        labels = self.labels > 0
        found = [
            calibrate(
                self.scores[:, i],
                labels,
                criterion,
                f_beta=params.f_beta,
                target_precision=params.target_precision,
                target_recall=params.target_recall,
            )
            for i in range(self.scores.shape[1])
        ]
        values = np.array([value for _, value in found])
        if criterion == "recall_at_target_precision":  # its value is 1 where no threshold reaches the target
            precisions = [
                binary_scores(self.scores[:, i], labels, threshold, params.f_beta)["precision"]
                for i, (threshold, _) in enumerate(found)
            ]
            values[np.array(precisions) < params.target_precision] -= 2
        values[~np.isfinite(self.losses)] = -np.inf
        best = np.flatnonzero(values == values.max())
        index = int(best[np.argmin(self.losses[best])])  # of several equally good ones the one with the least loss
        return index, float(found[index][0])


class _Sample:
    """Scores of rows that go by, of every row, every second, every fourth … as there is room."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.most = max(1, _HELD // math.prod(shape))
        self.scores = np.empty((self.most, *shape), np.float32)  # what is not written takes no memory
        self.labels = np.empty(self.most, np.float32)
        self.held = self._seen = 0
        self._every = 1

    def add(self, scores: Array, labels: Array) -> None:
        """Take some more rows."""
        while self.held + len(labels[self._chosen]) > self.most:
            for start in range(0, self.held, 2 * _BLOCK):
                rows = slice(start, min(self.held, start + 2 * _BLOCK), 2)
                place = slice(start // 2, (rows.stop + 1) // 2)
                self.scores[place], self.labels[place] = self.scores[rows], self.labels[rows]
            self.held = (self.held + 1) // 2
            self._every *= 2
        end = self.held + len(labels[self._chosen])
        self.scores[self.held : end], self.labels[self.held : end] = scores[self._chosen], labels[self._chosen]
        self.held = end
        self._seen += len(labels)

    @property
    def _chosen(self) -> slice:
        """Which of the next rows to take."""
        return slice(-self._seen % self._every, None, self._every)


def best_of(training: Training, channel: Channel) -> tuple[int, float, Scored | None]:
    """Number of the best model, its threshold, and what all models made of the rows where all scores are kept."""
    scored = Scored.of(training, channel)
    return *scored.best(training), scored if scored.complete else None


def tell(
    training: Training, channel: Channel, scored: Scored | None, index: int, threshold: float, report: Report
) -> None:
    """Print how good the chosen model is on a channel; `scored` is what all models made of it, where that is known."""
    column = int(training.models.owner[index])
    if scored is None:
        scored, column = Scored.of(training, channel, column), 0
    if not len(scored.labels):
        report.warning(f"the channel '{channel.name}' has no rows: there is nothing to evaluate")
        return
    values = {training.objective: float(scored.losses[column])}
    values |= _values(training, scored.scores[:, column], scored.labels, threshold)
    report.evaluation(channel.name, values)


def _values(training: Training, scores: Array, labels: Array, threshold: float) -> dict[str, float]:
    """The scores that the predictor has, in the order of Amazon's log."""
    params = training.params
    if params.predictor_type == MULTICLASS:
        return multiclass_scores(scores, labels, params.accuracy_top_k, params.f_beta)
    if params.predictor_type == BINARY:
        probabilities = training.loss.name == "logistic"
        return binary_scores(scores, labels, threshold, params.f_beta, with_log_loss=probabilities)
    return regression_scores(scores, labels)
