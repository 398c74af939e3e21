"""Hyperparameters of linear learner, and the rules between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ..errors import HyperParameterError
from .losses import Loss, loss_named
from .params import HyperParameters, hp

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["BINARY", "MULTICLASS", "REGRESSOR", "LinearLearnerParams"]

BINARY, MULTICLASS, REGRESSOR = "binary_classifier", "multiclass_classifier", "regressor"

_LOSSES: Final = {
    BINARY: ("logistic", "hinge_loss"),
    MULTICLASS: ("softmax_loss",),
    REGRESSOR: (
        "squared_loss",
        "absolute_loss",
        "eps_insensitive_squared_loss",
        "eps_insensitive_absolute_loss",
        "quantile_loss",
        "huber_loss",
    ),
}
"""What `loss` may be; the first is what auto means."""


class LinearLearnerParams(HyperParameters):
    """Hyperparameters of linear learner."""

    hidden = frozenset({"force_dense"})

    predictor_type: str = hp(choices=(BINARY, MULTICLASS, REGRESSOR), doc="What the label is.")
    feature_dim: int | None = hp(default=None, ge=1, doc="Number of features of a row; auto takes it from the data.")
    num_classes: int = hp(
        default=1, ge=1, le=1_000_000, doc="Number of classes, at least 3, of a multiclass_classifier; else not used."
    )
    mini_batch_size: int = hp(default=1000, ge=1, tunable=True, doc="Rows of a mini-batch.")
    epochs: int = hp(default=15, ge=1, doc="Most passes over the training data.")
    use_bias: bool = hp(default=True, doc="Whether models have a bias.")
    binary_classifier_model_selection_criteria: str = hp(
        default="accuracy",
        choices=(
            "accuracy",
            "f_beta",
            "f1",
            "precision_at_target_recall",
            "recall_at_target_precision",
            "cross_entropy_loss",
            "loss_function",
        ),
        doc="By what the best binary classifier and its threshold are chosen.",
    )
    target_recall: float = hp(default=0.8, gt=0, lt=1, doc="Recall to reach for precision_at_target_recall.")
    target_precision: float = hp(default=0.8, gt=0, lt=1, doc="Precision to reach for recall_at_target_precision.")
    f_beta: float = hp(default=1.0, gt=0, doc="Weight of recall against precision in F scores.")
    num_models: int | None = hp(
        default=None, ge=1, doc="Number of models trained side by side; auto means 32, or 28 for several classes."
    )
    num_calibration_samples: int | None = hp(
        default=10_000_000, ge=1, doc="Most rows that the threshold is chosen with; auto means all that fit in memory."
    )
    init_method: str = hp(default="uniform", choices=("uniform", "normal"), doc="Distribution of the first weights.")
    init_scale: float = hp(default=0.07, gt=0, doc="Largest first weight, where they are uniform.")
    init_sigma: float = hp(default=0.01, gt=0, doc="Deviation of the first weights, where they are normal.")
    init_bias: float = hp(default=0.0, doc="The first bias.")
    optimizer: str = hp(default="auto", choices=("auto", "sgd", "adam", "rmsprop"), doc="Optimizer; auto means adam.")
    loss: str = hp(
        default="auto",
        choices=("auto", *(name for names in _LOSSES.values() for name in names)),
        doc="Loss; auto means logistic, softmax_loss or squared_loss by the predictor.",
    )
    margin: float = hp(default=1.0, gt=0, doc="Margin of hinge_loss.")
    quantile: float = hp(default=0.5, gt=0, lt=1, doc="Quantile of quantile_loss.")
    loss_insensitivity: float = hp(
        default=0.01, gt=0, doc="Largest error of a label, in its units, that eps_insensitive losses do not count."
    )
    huber_delta: float = hp(
        default=1.0, gt=0, doc="Error of a label, in its units, from which huber_loss grows linearly."
    )
    accuracy_top_k: int = hp(default=3, ge=1, doc="Number of classes that top-k accuracy looks at.")
    wd: float | None = hp(default=None, ge=0, tunable=True, doc="Weight of the squared penalty; auto tries several.")
    l1: float | None = hp(default=None, ge=0, tunable=True, doc="Weight of the absolute penalty; auto tries several.")
    learning_rate: float | None = hp(default=None, gt=0, tunable=True, doc="Learning rate; auto tries several.")
    momentum: float | None = hp(default=None, ge=0, lt=1, doc="Momentum of sgd; auto means 0.")
    beta_1: float | None = hp(default=None, ge=0, lt=1, doc="Decay of adam's mean; auto means 0.9.")
    beta_2: float | None = hp(default=None, ge=0, lt=1, doc="Decay of adam's variance; auto means 0.999.")
    bias_lr_mult: float | None = hp(
        default=None, gt=0, doc="Learning rate of the bias, in units of the weights'; auto means 10."
    )
    bias_wd_mult: float | None = hp(
        default=None, ge=0, doc="Decay of the bias, in units of the weights'; auto means 0."
    )
    use_lr_scheduler: bool = hp(default=True, doc="Whether learning rates fall.")
    lr_scheduler_step: int | None = hp(default=None, ge=1, doc="Mini-batches after which they do; auto tries several.")
    lr_scheduler_factor: float | None = hp(default=None, gt=0, lt=1, doc="What they fall by; auto means 0.99.")
    lr_scheduler_minimum_lr: float | None = hp(default=None, gt=0, doc="Where they stop; auto tries several.")
    positive_example_weight_mult: float | str | None = hp(
        default=1.0,
        gt=0,
        words=("balanced",),
        tunable=True,
        doc="Weight of positive rows of a binary_classifier; balanced gives both classes the same, auto means 1.",
    )
    balance_multiclass_weights: bool = hp(default=False, doc="Whether all classes get the same weight together.")
    normalize_data: bool | None = hp(default=True, doc="Whether features are divided by their deviation.")
    normalize_label: bool | None = hp(
        default=None, doc="Whether labels of a regressor are divided by their deviation; auto means true."
    )
    unbias_data: bool | None = hp(default=None, doc="Whether features lose their mean; auto means use_bias.")
    unbias_label: bool | None = hp(
        default=None, doc="Whether labels of a regressor lose their mean; auto means use_bias."
    )
    num_point_for_scaler: int = hp(default=10_000, ge=1, doc="Rows that means and deviations are computed from.")
    early_stopping_patience: int = hp(
        default=3, ge=1, doc="Number of epochs without improvement, one more than which ends the training."
    )
    early_stopping_tolerance: float = hp(default=0.001, gt=0, doc="Least relative improvement of the loss that counts.")

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Self:
        """As any hyperparameters; a tuning job, which says what it optimises, trains one model at a time."""
        params = super().parse(given)
        return replace(params, num_models=1) if given.get("_tuning_objective_metric") else params

    def __post_init__(self) -> None:
        """Rules between several of them."""
        if self.predictor_type == MULTICLASS and self.num_classes < 3:
            raise HyperParameterError(
                "For predictor_type 'multiclass_classifier', 'num_classes' should be set to a value greater than 2: "
                f"got {self.num_classes}"
            )
        if self.loss not in ("auto", *_LOSSES[self.predictor_type]):
            raise HyperParameterError(
                f"loss {self.loss!r} does not go with predictor_type {self.predictor_type!r}: "
                f"choose auto, {', '.join(_LOSSES[self.predictor_type])}"
            )

    @property
    def classes(self) -> int | None:
        """Number of classes, of several; None for one output."""
        return self.num_classes if self.predictor_type == MULTICLASS else None

    @property
    def loss_function(self) -> Loss:
        """The loss, in the labels' units."""
        return self.loss_in(1.0)

    def loss_in(self, unit: float) -> Loss:
        """The loss of labels that are divided by `unit`: what is said in their units is divided too."""
        return loss_named(
            _LOSSES[self.predictor_type][0] if self.loss == "auto" else self.loss,
            margin=self.margin,
            loss_insensitivity=self.loss_insensitivity / unit,
            quantile=self.quantile,
            huber_delta=self.huber_delta / unit,
        )
