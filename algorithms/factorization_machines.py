"""Factorization machines: linear models with an interaction of every two features, for sparse data.

Each feature has a vector of factors; two features interact by the product of theirs [1]_. One Adam trains bias,
weights and factors with rates of their own, in which only the rows move that a mini-batch has values for.

References
----------
.. [1] S. Rendle, "Factorization Machines", ICDM 2010.
.. [2] Amazon SageMaker developer guide, "How factorization machines work", "Factorization machines hyperparameters".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Final

import numpy as np

from ..errors import ChannelError, HyperParameterError
from ..recordio.batch import CSR, Array, Batch
from .base import Algorithm, Channel, Metric, Predictions, Report, no_rows
from .fm_artifact import FMArtifact, dump, load
from .fm_model import Block, Machine, Rates, outputs
from .losses import Loss, loss_named
from .optimizers import Adam
from .params import HyperParameters, hp
from .scores import predicted_positive

__all__ = ["ALGORITHM", "FactorizationMachinesModel", "FactorizationMachinesParams", "fit"]

_SEED: Final = 0  # the algorithm has no hyperparameter for it: equal jobs give equal models
_SMALL: Final = 1e-4  # share of the labels' mean square that is no loss to speak of, where all are equal
_LINEAR_LR: Final = 0.001  # the defaults
_FACTORS_LR: Final = 0.0001
_MOVED: Final = 0.02  # share of the loss of a constant that a training should take off at least
_CHUNK_BYTES: Final = 16 << 20  # of a request's dense rows that are answered at a time
_SPARSE_ROWS: Final = 4096  # and of its sparse rows
_THRESHOLD: Final = 0.5  # the least score that is told positive
_LOGISTIC, _SQUARED = loss_named("logistic"), loss_named("squared_loss")
_UNIFORM: Final = 0.07  # scale of uniform numbers where none is given, as MXNet has it

BINARY, REGRESSOR = "binary_classifier", "regressor"
_INIT: Final = ("normal", "uniform", "constant")


class FactorizationMachinesParams(HyperParameters):
    """Hyperparameters of factorization machines."""

    hidden = frozenset({"force_dense"})

    feature_dim: int = hp(ge=1, doc="Number of features of a row.")
    num_factors: int = hp(ge=1, doc="Number of factors of a feature.")
    predictor_type: str = hp(choices=(BINARY, REGRESSOR), doc="What the label is.")
    mini_batch_size: int = hp(default=1000, ge=1, tunable=True, doc="Rows of a mini-batch.")
    epochs: int = hp(default=1, ge=1, tunable=True, doc="Passes over the training data.")
    clip_gradient: float | None = hp(default=None, gt=0, doc="Largest absolute value of a gradient; auto means any.")
    eps: float | None = hp(default=None, gt=0, doc="What keeps Adam from dividing by zero; auto means 1e-8.")
    rescale_grad: float | None = hp(
        default=None, gt=0, doc="What gradients of a mini-batch are multiplied with; auto means one over its rows."
    )
    bias_lr: float = hp(default=0.1, ge=0, tunable=True, doc="Learning rate of the bias.")
    linear_lr: float = hp(default=_LINEAR_LR, ge=0, tunable=True, doc="Learning rate of the weights.")
    factors_lr: float = hp(default=_FACTORS_LR, ge=0, tunable=True, doc="Learning rate of the factors.")
    bias_wd: float = hp(default=0.01, ge=0, tunable=True, doc="Weight decay of the bias.")
    linear_wd: float = hp(default=0.001, ge=0, tunable=True, doc="Weight decay of the weights.")
    factors_wd: float = hp(default=0.00001, ge=0, tunable=True, doc="Weight decay of the factors.")
    bias_init_method: str = hp(default="normal", choices=_INIT, doc="How the bias begins.")
    bias_init_scale: float | None = hp(default=None, ge=0, tunable=True, doc="Largest first bias, where it is uniform.")
    bias_init_sigma: float = hp(
        default=0.01, ge=0, tunable=True, doc="Deviation of the first bias, where it is normal."
    )
    bias_init_value: float | None = hp(default=None, tunable=True, doc="The first bias, where it is constant.")
    linear_init_method: str = hp(default="normal", choices=_INIT, doc="How the weights begin.")
    linear_init_scale: float | None = hp(
        default=None, ge=0, tunable=True, doc="Largest first weight, where they are uniform."
    )
    linear_init_sigma: float = hp(
        default=0.01, ge=0, tunable=True, doc="Deviation of first weights, where they are normal."
    )
    linear_init_value: float | None = hp(default=None, tunable=True, doc="The first weights, where they are constant.")
    factors_init_method: str = hp(default="normal", choices=_INIT, doc="How the factors begin.")
    factors_init_scale: float | None = hp(
        default=None, ge=0, tunable=True, doc="Largest first factor, where they are uniform."
    )
    factors_init_sigma: float = hp(
        default=0.001, ge=0, tunable=True, doc="Deviation of first factors, where they are normal."
    )
    factors_init_value: float | None = hp(default=None, tunable=True, doc="The first factors, where they are constant.")
    use_bias: bool = hp(default=True, doc="Whether there is a bias; it is 0 where not. SageMaker does not document it.")
    use_linear: bool = hp(
        default=True, doc="Whether there are weights; they are 0 where not. SageMaker does not document it."
    )
    batch_metrics_publish_interval: int = hp(
        default=500, ge=1, doc="Mini-batches from one line of the log to the next. SageMaker does not document it."
    )

    def __post_init__(self) -> None:
        """A constant needs its value."""
        for part in ("bias", "linear", "factors"):
            if getattr(self, f"{part}_init_method") == "constant" and getattr(self, f"{part}_init_value") is None:
                raise HyperParameterError(f"{part}_init_method is constant: set {part}_init_value to a number")

    @property
    def loss(self) -> Loss:
        """Cross entropy or squared error."""
        return _LOGISTIC if self.predictor_type == BINARY else _SQUARED

    def first(self, part: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Bias, weights or factors as they begin, float32."""
        if not self.uses(part):
            return np.zeros(shape, np.float32)
        method = getattr(self, f"{part}_init_method")
        if method == "constant":
            return np.full(shape, getattr(self, f"{part}_init_value"), np.float32)
        if method == "uniform":
            scale = getattr(self, f"{part}_init_scale")
            scale = _UNIFORM if scale is None else scale
            return rng.uniform(-scale, scale, shape).astype(np.float32)
        numbers = rng.standard_normal(shape, np.float32)
        numbers *= np.float32(getattr(self, f"{part}_init_sigma"))
        return numbers

    def uses(self, part: str) -> bool:
        """Whether the machine has bias, weights or factors."""
        return {"bias": self.use_bias, "linear": self.use_linear}.get(part, True)

    def rate(self, part: str) -> float:
        """Learning rate of bias, weights or factors: what the machine has not, stays 0."""
        return float(getattr(self, f"{part}_lr")) if self.uses(part) else 0.0


@dataclass(frozen=True, slots=True)
class FactorizationMachinesModel:
    """A machine.

    Parameters
    ----------
    artifact
        Factors, weights, bias and what else SageMaker keeps of it.
    """

    artifact: FMArtifact

    @property
    def feature_dim(self) -> int:
        """Number of features of a row."""
        return len(self.artifact.v)

    def predict(self, features: Array | CSR) -> Predictions:
        """Score and, of classifiers, label of each row of shape (n, d)."""
        machine = self.artifact
        step = max(1, _CHUNK_BYTES // (8 * self.feature_dim)) if isinstance(features, np.ndarray) else _SPARSE_ROWS
        parts = [  # in float64, so that a row has the answer that it has alone, whatever is asked beside it
            outputs(features[start : start + step].astype(np.float64), machine.v, machine.w, machine.w0)
            for start in range(0, max(1, len(features)), step)
        ]
        with np.errstate(over="ignore"):
            z = np.concatenate(parts).astype(np.float32)
        if machine.predictor_type == REGRESSOR:
            return Predictions("predictions", {"score": z})
        score = _LOGISTIC.link(z)
        label = predicted_positive(score, _THRESHOLD).astype(np.int64)
        return Predictions("predictions", {"score": score, "predicted_label": label})

    def to_bytes(self) -> bytes:
        """The artifact, as Amazon's container writes it."""
        return dump(self.artifact)

    @classmethod
    def from_bytes(cls, data: bytes) -> FactorizationMachinesModel:
        """Open an artifact, ours or Amazon's.

        Raises
        ------
        ArtifactError
            When it is none of factorization machines.
        """
        return cls(load(data))

    def describe(self) -> Mapping[str, Any]:
        """Predictor, number of factors, bias, and size of weights and factors."""
        machine = self.artifact
        return {
            "predictor_type": machine.predictor_type,
            "num_factors": machine.v.shape[1],
            "bias": machine.w0,
            "weight_norm": float(np.linalg.norm(machine.w)),
            "factor_norm": float(np.linalg.norm(machine.v)),
        }


class _Tally:
    """Sums over rows of what is printed."""

    def __init__(self, predictor_type: str) -> None:
        self.binary = predictor_type == BINARY
        self.rows = 0
        self.sums = np.zeros(4)  # loss and right answers, or squared and absolute errors; found and true positives
        self.labels = np.zeros(2)  # sum and sum of squares

    def add(self, y: Array, truth: Array, losses: Array) -> None:
        """Count some rows by their outputs, labels and losses."""
        self.rows += len(y)
        wide = truth.astype(np.float64)
        self.labels += wide.sum(), wide @ wide
        if self.binary:
            found = predicted_positive(_LOGISTIC.link(y), _THRESHOLD)
            positive = truth > 0
            right, hits = np.count_nonzero(found == positive), np.count_nonzero(found & positive)
            self.sums += losses.sum(dtype=np.float64), right, np.count_nonzero(found), hits
        else:
            self.sums[:2] += losses.sum(dtype=np.float64), np.abs(y - truth).sum(dtype=np.float64)

    def merge(self, other: _Tally) -> None:
        """Count the rows of another."""
        self.rows += other.rows
        self.sums += other.sums
        self.labels += other.labels

    def values(self) -> dict[str, float]:
        """The metrics by name, in the order of Amazon's log."""
        loss, second, found, hits = (self.sums / max(1, self.rows)).tolist()
        if not self.binary:
            return {"rmse": loss**0.5, "mse": loss, "absolute_loss": second}
        positive = found + self.labels[0] / max(1, self.rows)
        return {
            "binary_classification_accuracy": second,
            "binary_classification_cross_entropy": loss,
            "binary_f_1.000": float(2 * hits / positive) if positive else 0.0,
        }

    def moved(self) -> bool:
        """Whether the loss is well below that of the best constant."""
        mean, square = self.labels / max(1, self.rows)
        if self.binary:
            chance = np.clip(np.array([mean, 1 - mean]), 1e-12, 1)
            constant = float(-(chance * np.log(chance)).sum())
        else:
            constant = float(square - mean**2)
        loss = self.sums[0] / max(1, self.rows)
        return bool(loss < (1 - _MOVED) * constant + _SMALL * square)


def fit(
    params: FactorizationMachinesParams, channels: Mapping[str, Channel], report: Report
) -> FactorizationMachinesModel:
    """Train on the channel ``train`` and evaluate on ``test`` where there is one."""
    train = channels["train"]
    report.info("[Sparse network] Building a sparse network.")
    machine = _machine(params)
    tally = _Tally(params.predictor_type)
    for epoch in report.epochs(params.epochs, train):
        tally = _learn(params, machine, train, epoch, report)
        if not tally.rows:
            raise no_rows()
        _check_finite(machine, tally, epoch)
        for name, value in tally.values().items():
            report.quality("train", name, value, epoch=epoch)
    for name, value in tally.values().items():
        report.quality("train", name, value)
    if not tally.moved():
        report.warning(_advice(params))
    if "test" in channels:
        _evaluate(params, machine, channels["test"], report)
    return _model(params, machine)


def _advice(params: FactorizationMachinesParams) -> str:
    """What may help a training that has hardly begun."""
    text = "the loss is hardly below that of a constant: "
    if (params.linear_lr, params.factors_lr) == (_LINEAR_LR, _FACTORS_LR):
        return text + (
            "the default learning rates are very small for few mini-batches. Try epochs=20, linear_lr=0.01 and "
            "factors_lr=0.01, or a smaller mini_batch_size; for labels far from zero a higher bias_lr"
        )
    return text + (
        "more epochs may help, or other values of linear_lr and factors_lr; for labels far from zero a higher bias_lr. "
        "Or the features tell little of the label"
    )


def _machine(params: FactorizationMachinesParams) -> Machine:
    """The machine as it begins."""
    rng = np.random.default_rng(_SEED)
    d = params.feature_dim
    parts = {"factors": (d, params.num_factors), "linear": (d, 1), "bias": (1, 1)}
    v, w, w0 = (params.first(part, shape, rng) for part, shape in parts.items())
    rates = Rates(
        lr=(params.rate("bias"), params.rate("linear"), params.rate("factors")),
        wd=(params.bias_wd, params.linear_wd, params.factors_wd),
        rescale=params.rescale_grad,
        clip=params.clip_gradient,
    )
    return Machine(v, w, w0, rates, Adam(0.9, 0.999, eps=1e-8 if params.eps is None else params.eps))


def _learn(params: FactorizationMachinesParams, machine: Machine, train: Channel, epoch: int, report: Report) -> _Tally:
    """One pass over the training data."""
    whole = _Tally(params.predictor_type)
    for number, batch in enumerate(train.batches(params.mini_batch_size)):
        here = _Tally(params.predictor_type)
        slope = _slope(params, _labels(batch, params, "train"), here)
        with np.errstate(over="ignore", invalid="ignore"):  # `_check_finite` tells
            machine.learn(Block.of(batch.features), slope)
        if machine.step == 1:  # before, there is nothing worth saving
            report.keep(partial(_so_far, params, machine))
        if number % params.batch_metrics_publish_interval == 0:
            for name, value in here.values().items():
                report.quality("train", name, value, epoch=epoch, batch=number)
        whole.merge(here)
    return whole


def _slope(params: FactorizationMachinesParams, truth: Array, tally: _Tally) -> Callable[[Array], Array]:
    """What gives the derivatives of the losses by the outputs, and counts both.

    That of a squared error is y - label, as MXNet's LinearRegressionOutput has it: the decay weighs against it.
    """

    def slope(y: Array) -> Array:
        losses, gradient = params.loss.evaluate(y[:, None], truth)
        tally.add(y, truth, losses)
        if params.predictor_type == REGRESSOR:
            gradient *= 0.5
        return gradient[:, 0]

    return slope


def _check_finite(machine: Machine, tally: _Tally, epoch: int) -> None:
    """Refuse what float32 cannot hold: rates or features that are far too large."""
    if not np.isfinite(tally.sums).all() or not machine.is_finite:
        raise _diverged(f"in epoch {epoch}")


def _diverged(when: str) -> HyperParameterError:
    return HyperParameterError(
        f"the numbers of the model have become infinite {when}: lower bias_lr, linear_lr and factors_lr, or scale the "
        "features to about one"
    )


def _so_far(params: FactorizationMachinesParams, machine: Machine) -> FactorizationMachinesModel:
    """The model of a job that is told to end."""
    if not machine.is_finite:
        raise _diverged("before the training was told to end")
    return _model(params, machine)


def _labels(batch: Batch, params: FactorizationMachinesParams, channel: str) -> Array:
    """The labels of a mini-batch, float32, shape (n,)."""
    labels = batch.labels
    if labels is None or labels.ndim != 1 or not np.isfinite(labels).all():
        raise ChannelError(f"the channel '{channel}' needs one finite label for every row, under the key 'values'")
    if params.predictor_type == BINARY and not (known := (labels == 0) | (labels == 1)).all():
        raise ChannelError(
            f"the channel '{channel}' has the label {float(labels[~known][0]):g}: a binary_classifier takes 0 and 1"
        )
    return labels.astype(np.float32, copy=False)


def _model(params: FactorizationMachinesParams, machine: Machine) -> FactorizationMachinesModel:
    given = {field.name: getattr(params, field.name) for field in fields(params)}
    texts = {name: _text(value) for name, value in given.items() if value is not None}
    artifact = FMArtifact(machine.v, machine.w[:, 0], float(machine.w0[0, 0]), params.predictor_type, texts)
    return FactorizationMachinesModel(artifact)


def _text(value: object) -> str:
    """A hyperparameter as a user types it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _evaluate(params: FactorizationMachinesParams, machine: Machine, test: Channel, report: Report) -> None:
    """The metrics over all rows of the test channel."""
    tally = _Tally(params.predictor_type)
    for batch in test.batches(params.mini_batch_size):
        truth = _labels(batch, params, "test")
        with np.errstate(over="ignore", invalid="ignore"):  # rows far larger than those learnt have an infinite loss
            y = machine.outputs(batch.features)
            tally.add(y, truth, params.loss.evaluate(y[:, None], truth)[0])
    if not tally.rows:
        report.warning("the channel 'test' has no rows: there is nothing to evaluate")
        return
    report.evaluation("test", tally.values())


_LINES: Final = {"": "quality", ":epoch": "epoch quality", ":batch": "batch quality"}
_BOTH: Final = ("train", "test")

ALGORITHM = Algorithm(
    name="factorization-machines",
    title="Factorization machines",
    log_name="factorization-machines",
    params=FactorizationMachinesParams,
    fit=fit,
    load=FactorizationMachinesModel.from_bytes,
    channels=_BOTH,
    content_types=("recordio",),
    accepts=("json", "jsonlines", "recordio"),
    metrics=(
        Metric("rmse", True, _BOTH, "Root of the mean squared error.", lines=_LINES),
        Metric("mse", True, _BOTH, "Mean squared error.", lines=_LINES),
        Metric("absolute_loss", True, _BOTH, "Mean absolute error.", lines=_LINES),
        Metric(
            "binary_classification_accuracy", False, _BOTH, "Share of rows whose label is told right.", lines=_LINES
        ),
        Metric("binary_classification_cross_entropy", True, _BOTH, "Mean logarithmic loss.", lines=_LINES),
        Metric("binary_f_beta", False, _BOTH, "F score of the positive class.", pattern=r"binary_f_\S+", lines=_LINES),
    ),
    labelled=_BOTH,
)
