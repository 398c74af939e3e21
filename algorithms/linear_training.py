"""A linear learner's training: all models of a job from the first mini-batch to the last epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..errors import ChannelError, HyperParameterError
from ..recordio.batch import Array, Batch
from .base import Channel, Report, no_rows
from .linear_artifact import LinearArtifact
from .linear_grid import BIAS, configurations
from .linear_models import LinearModels, Scaling, Settings
from .linear_params import BINARY, MULTICLASS, REGRESSOR, LinearLearnerParams
from .losses import Loss
from .optimizers import Adam, Optimizer, RmsProp, Schedule, Sgd

__all__ = ["Stopping", "Training", "class_weight", "default_threshold", "first", "labels_of"]

_SEED: Final = 0  # the algorithm has no hyperparameter for it: equal jobs give equal models


def first(stream: Iterator[Batch], rows: int) -> Iterator[Batch]:
    """The first mini-batches, until they have so many rows."""
    seen = 0
    for batch in stream:
        yield batch
        seen += len(batch)
        if seen >= rows:
            return


def labels_of(batch: Batch, params: LinearLearnerParams, channel: str) -> Array:
    """The labels of a mini-batch, float32, shape (n,); refused where the predictor has no use for them."""
    labels = batch.labels
    if labels is None or labels.ndim != 1:
        raise _missing(channel)
    classes = 2 if params.predictor_type == BINARY else params.classes
    if classes is None:
        good = np.isfinite(labels)
    elif classes == 2:
        good = (labels == 0) | (labels == 1)
    else:
        good = (labels >= 0) & (labels < classes) & (labels == np.floor(labels))
    if good.all():
        return labels.astype(np.float32, copy=False)
    if np.isnan(labels).any():
        raise _missing(channel)
    if classes is None:
        raise ChannelError(f"the channel '{channel}' has a label that is not finite")
    raise ChannelError(
        f"the channel '{channel}' has the label {float(labels[~good][0]):g}: a {params.predictor_type} takes "
        f"0 to {classes - 1}" + (" (num_classes less one)" if params.predictor_type == MULTICLASS else "")
    )


def _missing(channel: str) -> ChannelError:
    return ChannelError(
        f"the channel '{channel}' needs one label for every row: in CSV it is the first column, with the content "
        "type text/csv;label_size=1"
    )


@dataclass
class Stopping:
    """When to end: after more epochs without improvement than patience has.

    Parameters
    ----------
    patience, tolerance
        Number of such epochs, and the least relative improvement.

    Examples
    --------
    >>> stopping = Stopping(patience=1, tolerance=0.1)
    >>> [(stopping.improved(loss), stopping.due) for loss in (1.0, 0.95, 0.8, 0.79, 0.78)]
    [(True, False), (False, False), (True, False), (False, False), (False, True)]
    """

    patience: int
    tolerance: float
    best: float = np.inf
    stale: int = 0

    def improved(self, loss: float) -> bool:
        """Whether an epoch's loss is better than the best so far, which it then is."""
        better = loss < self.best and (self.best == np.inf or self.best - loss >= self.tolerance * self.best)
        self.best, self.stale = (loss, 0) if better else (self.best, self.stale + 1)
        return better

    @property
    def due(self) -> bool:
        """Whether it is time to end."""
        return self.stale > self.patience


class Training:
    """All models of a job, from the first mini-batch to the last epoch."""

    def __init__(self, params: LinearLearnerParams, held: list[Batch], report: Report) -> None:
        if not held:
            raise no_rows()
        self.params, self.report = params, report
        labels = np.concatenate([labels_of(batch, params, "train") for batch in held])
        self.class_weights = _class_weights(params, labels, report)
        self.loss = params.loss_function
        self.objective = self.loss.objective + "_objective"
        if self.class_weights is not None:
            for name in ("cross_entropy", "hinge"):
                self.objective = self.objective.replace(name, f"weighted_{name}")
        self.configurations = configurations(params.classes, params.num_models, _fixed(params))
        self.models = _models(params, self.configurations, held)
        self.stopping = Stopping(params.early_stopping_patience, params.early_stopping_tolerance)
        self._criterion = 0, self.objective, np.inf  # the last epoch's
        self._kept = self.models.copy()
        self._kept_losses = np.zeros(len(self.configurations))

    def epoch(self, epoch: int, stream: Iterator[Batch], validation: Channel | None) -> bool:
        """Learn from one pass, tell the losses, and tell whether to stop."""
        report = self.report
        with np.errstate(over="ignore", invalid="ignore"):  # the losses tell
            losses = {"train": self._learn(stream)}
            if validation is not None:
                losses["validation"] = self._losses(validation)
        for channel, values in losses.items():
            report.per_model(epoch, f"{channel}_{self.objective}", values)
        for channel, values in losses.items():
            report.quality(channel, self.objective, values[0], epoch=epoch)
        deciding = losses["train" if validation is None else "validation"]
        deciding = np.where(np.isfinite(deciding) & self.models.finite, deciding, np.inf)
        value = float(deciding.min())
        self._criterion = epoch, self.objective, value
        report.early_stopping(*self._criterion)
        if self.stopping.improved(value):
            report.info(f"Epoch {epoch}: Loss improved. Updating best model")
            self._kept, self._kept_losses = self.models.copy(), deciding
        if self.stopping.due:
            report.info("Early stop condition met. Stopping training.")
        return self.stopping.due

    def _learn(self, stream: Iterator[Batch]) -> Array:
        scaling = self.models.scaling
        total, rows = np.zeros(len(self.configurations)), 0
        for batch in stream:
            labels = labels_of(batch, self.params, "train")
            weight = class_weight(self.class_weights, labels)
            total += self.models.learn(batch.features, scaling.normalised(labels), weight)
            rows += len(batch)
        return total / max(1, rows)

    def _losses(self, channel: Channel) -> Array:
        """Mean loss of each model on a channel, in the labels' units; float64, shape (m,)."""
        total, rows = np.zeros(len(self.configurations)), 0
        for batch in channel.batches(self.params.mini_batch_size):
            labels = labels_of(batch, self.params, channel.name)
            total += self.weighted_losses(self.models.outputs(batch.features), labels)[self.models.owner]
            rows += len(batch)
        if not rows:
            raise ChannelError(f"the channel '{channel.name}' has no rows")
        return total / rows

    def weighted_losses(self, z: Array, labels: Array) -> Array:
        """Sum over rows of the weighted losses of outputs of shape (n, k) or (n, k, c); float64, shape (k,)."""
        losses = self.loss.evaluate(z, labels)[0]
        weight = class_weight(self.class_weights, labels)
        if weight is not None:
            losses *= weight[:, None]
        sums: Array = losses.sum(axis=0, dtype=np.float64)
        return sums

    def end(self) -> None:
        """Back to the last epoch that was an improvement."""
        if self.stopping.due:  # Amazon's containers say it again
            self.report.early_stopping(*self._criterion)
        self._check_best()
        self.models.set(self._kept)

    def _check_best(self) -> None:
        if self.stopping.best == np.inf:
            raise HyperParameterError(
                "the numbers of all models have become infinite: lower learning_rate, or scale labels and features to "
                "about one"
            )

    def artifact(self, index: int, threshold: float) -> LinearArtifact:
        """One of the models as it serves."""
        weight, bias = self.models.folded(int(self.models.owner[index]))
        return LinearArtifact(
            weight=weight,
            bias=bias,
            predictor_type=self.params.predictor_type,
            loss_type=self.loss.name,
            threshold=threshold,
            metrics=self._metrics(threshold),
        )

    def _metrics(self, threshold: float) -> dict[str, Any]:
        """The settings of metrics and loss that an artifact carries."""
        params, name = self.params, self.loss.name
        binary = params.predictor_type == BINARY
        weights = self.class_weights
        return {
            "quantile": params.quantile if name == "quantile_loss" else None,
            "huber_delta": params.huber_delta if name == "huber_loss" else None,
            "margin": params.margin if name == "hinge_loss" else None,
            "loss_insensitivity": params.loss_insensitivity if name.startswith("eps_") else None,
            "eps_insensitive_loss_type": name if name.startswith("eps_") else None,
            "accuracy_top_k": params.accuracy_top_k,
            "f_beta": params.f_beta,
            "positive_example_weight_mult": weights[1] if binary and weights else 1.0,
            "class_weights": weights if not binary else None,
            "threshold": threshold,
        }

    def snapshot(self) -> LinearArtifact:
        """The model whose loss was least in the best epoch; before one has ended, the first model as it is."""
        if self.stopping.best < np.inf:
            self.models.set(self._kept)
        elif not self.models.finite[0]:
            self._check_best()
        return self.artifact(int(self._kept_losses.argmin()), default_threshold(self.loss))

    def describe(self, index: int) -> dict[str, Any]:
        """The settings of a model, as the log tells them."""
        optimizer = "adam" if self.params.optimizer == "auto" else self.params.optimizer
        return {"optimizer": optimizer, **self.configurations[index]}


def default_threshold(loss: Loss) -> float:
    """Where a score means the positive class, without calibration."""
    return 0.0 if loss.name == "hinge_loss" else 0.5


def _class_weights(params: LinearLearnerParams, labels: Array, report: Report) -> list[float] | None:
    """Weight of each class; None where all are one.

    Balanced weights come from the first rows, those that means and deviations come from.
    """
    mult = params.positive_example_weight_mult
    balanced = params.balance_multiclass_weights if params.predictor_type == MULTICLASS else mult == "balanced"
    if params.predictor_type == REGRESSOR or not (balanced or params.predictor_type == BINARY):
        return None
    if not balanced:
        return None if mult in (None, 1.0) else [1.0, float(mult or 1)]
    counts = np.bincount(labels.astype(np.intp), minlength=params.classes or 2)
    if not counts.all():
        report.warning(
            f"The first {len(labels)} rows of the channel 'train' have no label {int(counts.argmin())}, so weights of "
            "classes are not balanced: shuffle the rows, or raise num_point_for_scaler"
        )
        return None
    weights = len(labels) / (len(counts) * counts)
    return [float(weight) for weight in (weights / weights[0] if params.predictor_type == BINARY else weights)]


def class_weight(weights: list[float] | None, labels: Array) -> Array | None:
    """The weight of each row by its class, float32; None where all are one."""
    return None if weights is None else np.array(weights, np.float32)[labels.astype(np.intp)]


def _fixed(params: LinearLearnerParams) -> dict[str, float]:
    """The settings that the user has given: the same in all models."""
    names = ("learning_rate", "wd", "l1", "lr_scheduler_step", "lr_scheduler_factor", "lr_scheduler_minimum_lr")
    given = {name: getattr(params, name) for name in names}
    return {name: value for name, value in given.items() if value is not None}


def _models(params: LinearLearnerParams, chosen: list[dict[str, float]], held: list[Batch]) -> LinearModels:
    """The models as they begin."""
    regressor = params.predictor_type == REGRESSOR
    whole = [batch for batch in held if len(batch) == params.mini_batch_size] or held
    unbias = params.use_bias if params.unbias_data is None else params.unbias_data
    unbias_label = params.use_bias if params.unbias_label is None else params.unbias_label
    scaling = Scaling.of(
        whole,
        centre=unbias,
        scale=params.normalize_data is not False,
        centre_label=regressor and unbias_label,
        scale_label=regressor and params.normalize_label is not False,
    )
    columns = {name: np.array([model[name] for model in chosen], np.float32) for name in chosen[0]}
    columns["lr_scheduler_minimum_lr"] = np.minimum(columns["lr_scheduler_minimum_lr"], columns["learning_rate"])
    schedule = Schedule(
        base=columns["learning_rate"],
        factor=columns["lr_scheduler_factor"] if params.use_lr_scheduler else np.ones(len(chosen), np.float32),
        every=columns["lr_scheduler_step"].astype(np.int64),
        minimum=columns["lr_scheduler_minimum_lr"],
    )
    multiples = {name: value if (value := getattr(params, name)) is not None else BIAS[name] for name in BIAS}
    settings = Settings(schedule, columns["wd"], columns["l1"], **multiples)
    shape = held[0].width, params.classes or 1
    rng = np.random.default_rng(_SEED)
    if params.init_method == "uniform":
        weights = rng.uniform(-params.init_scale, params.init_scale, shape)
    else:
        weights = rng.normal(0, params.init_sigma, shape)
    return LinearModels(
        weights.astype(np.float32),
        np.full((1, shape[1]), params.init_bias if params.use_bias else 0, np.float32),
        params.classes,
        loss=params.loss_in(scaling.label_deviation),
        optimizer=_optimizer(params),
        settings=settings,
        scaling=scaling,
        use_bias=params.use_bias,
    )


def _optimizer(params: LinearLearnerParams) -> Optimizer:
    if params.optimizer == "sgd":
        return Sgd(params.momentum or 0.0)
    if params.optimizer == "rmsprop":
        return RmsProp()
    beta_1 = 0.9 if params.beta_1 is None else params.beta_1
    return Adam(beta_1, 0.999 if params.beta_2 is None else params.beta_2)
