"""Which of the linear models is the best, with which threshold, and how good it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from ..recordio.batch import Array
from .base import Channel, Report
from .linear_params import BINARY, MULTICLASS, LinearLearnerParams
from .linear_training import Training, default_threshold, labels_of
from .scores import binary_scores, calibrate, multiclass_scores, regression_scores

__all__ = ["Scored", "tell"]

_HELD: Final = 64_000_000  # scores that are kept at a time, 256 MB


@dataclass(frozen=True)
class Scored:
    """What models made of the rows of a channel.

    Parameters
    ----------
    losses
        Mean weighted loss of each of the k models over all rows, float64, shape (k,).
    scores
        Of the first rows, float32, shape (n, k), or (n, k, c) for several classes.
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
        rows = held = 0
        scores, labels = [], []
        most: int | None = None
        for batch in channel.batches(params.mini_batch_size):
            z = training.models.outputs(batch.features)
            z = z if number is None else z[:, number : number + 1]
            truth = labels_of(batch, params, channel.name)
            total = total + training.weighted_losses(z, truth)
            rows += len(batch)
            if most is None:
                most = _most_rows(params, z, calibrating=number is None)
            if held < most:
                scores.append(training.loss.link(z)[: most - held])
                labels.append(truth[: most - held])
                held += len(labels[-1])
        if not rows:
            return cls(np.zeros(0), np.zeros((0, 1)), np.zeros(0), complete=True)
        return cls(np.asarray(total / rows), np.concatenate(scores), np.concatenate(labels), held == rows)

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


def _most_rows(params: LinearLearnerParams, z: Array, *, calibrating: bool) -> int:
    """How many rows to keep the scores of."""
    most = max(1, _HELD // max(1, int(z[0].size)))
    return min(most, params.num_calibration_samples or most) if calibrating else most


def tell(
    training: Training, channel: Channel, scored: Scored | None, index: int, threshold: float, report: Report
) -> None:
    """Print how good the chosen model is on a channel; `scored` is what all models made of it, where that is known."""
    column = int(training.models.owner[index])
    if scored is None or not scored.complete:
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
