"""Many linear models at once: one matrix product a mini-batch for all, each with settings of its own.

Models differ in learning rate, decay and schedule only, so their weights lie side by side as columns of one matrix.
Rows are normalised without touching them: with weights W of normalised rows, W/σ and b - (μ/σ)W give the same
outputs from rows as they are, and gradients go the same way back.

References
----------
.. [1] Amazon SageMaker developer guide, "How linear learner works".
.. [2] F. Pedregosa et al., "Scikit-learn", JMLR 12, 2011, StandardScaler: deviations of zero become one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from ..recordio.batch import CSR, Array, Batch
from .blas import product
from .losses import Loss
from .optimizers import Optimizer, Schedule, soft_threshold
from .rows import less
from .sparse import compiled, narrowed, times, transposed_times

__all__ = ["Kept", "LinearModels", "Scaling", "Settings", "wide"]

_WIDE: Final = 2000  # columns, from which sparse rows stay sparse
_DENSE: Final = 0.05  # share of values, from which they do not
_MOST: Final = 64_000_000  # numbers of a dense mini-batch, 256 MB
_FEW: Final = 0.25  # share of values, below which kernels multiply rows faster sparse
_FAR: Final = 100.0  # mean in units of the deviation, from which float32 loses a column's digits


def wide(features: Array | CSR) -> bool:
    """Whether rows are better left sparse: many columns, few of them with a value, or too many to be made dense."""
    if not isinstance(features, CSR) or features.shape[1] < _WIDE:
        return False
    size = features.shape[0] * features.shape[1]
    return size > _MOST or len(features.values) < _DENSE * size


def _kept_sparse(features: Array | CSR) -> bool:
    """Whether kernels multiply sparse rows faster than dense ones are multiplied."""
    return compiled(features) and len(features.values) < _FEW * math.prod(features.shape)


@dataclass(frozen=True)
class Scaling:
    """Mean and deviation of columns and of labels; zero and one where they are not to be used.

    Parameters
    ----------
    mean, deviation
        float64, shape (d,).
    label_mean, label_deviation
        Of the labels.
    """

    mean: Array
    deviation: Array
    label_mean: float = 0.0
    label_deviation: float = 1.0

    @property
    def far(self) -> Array:
        """Columns so far from zero that float32 loses their digits, bool, shape (d,)."""
        far: Array = np.abs(self.mean) > _FAR * self.deviation
        return far

    @classmethod
    def of(
        cls, batches: Sequence[Batch], *, centre: bool, scale: bool, centre_label: bool, scale_label: bool
    ) -> Scaling:
        """What some rows tell; population deviations, one where there is none.

        Wide sparse rows lose their mean only in columns far from zero, where all have a value: else all columns of all
        rows would get one.

        Examples
        --------
        >>> batch = Batch(np.array([[1, 5], [3, 5]], np.float32), np.array([10, 30], np.float32))
        >>> scaling = Scaling.of([batch], centre=True, scale=True, centre_label=True, scale_label=True)
        >>> scaling.mean.tolist(), scaling.deviation.tolist(), scaling.label_mean, scaling.label_deviation
        ([2.0, 5.0], [1.0, 1.0], 20.0, 10.0)
        """
        count = sum(len(batch) for batch in batches)
        sums = np.sum([_column_sums(batch.features) for batch in batches], axis=0)  # (d,)
        mean = sums / count
        squares = np.sum([_column_sums(batch.features, mean) for batch in batches], axis=0)
        deviation = np.sqrt(squares / count)
        labels = np.concatenate([batch.labels for batch in batches if batch.labels is not None]).astype(np.float64)
        spread = float(labels.std()) or 1.0
        if wide(batches[0].features):
            mean = np.where(np.abs(mean) > _FAR * np.where(deviation > 0, deviation, 1.0), mean, 0)
        return cls(
            mean if centre else np.zeros_like(mean),
            np.where(deviation > 0, deviation, 1.0) if scale else np.ones_like(mean),
            float(labels.mean()) if centre_label else 0.0,
            spread if scale_label else 1.0,
        )

    def normalised(self, labels: Array) -> Array:
        """The labels that models learn from."""
        if self.label_mean == 0 and self.label_deviation == 1:
            return labels
        return ((labels - self.label_mean) / self.label_deviation).astype(np.float32)


def _column_sums(features: Array | CSR, mean: Array | None = None) -> Array:
    """Sums of the columns, or of their squared distances from `mean`; float64, shape (d,)."""
    if not isinstance(features, CSR):
        rows = features.astype(np.float64) if mean is None else np.square(features - mean)
        sums: Array = rows.sum(axis=0)
        return sums
    d = features.shape[1]
    values = features.values.astype(np.float64)
    if mean is None:
        return np.bincount(features.indices, values, d)
    at = mean[features.indices]
    missing = len(features) - np.bincount(features.indices, minlength=d)
    return np.bincount(features.indices, np.square(values - at), d) + missing * np.square(mean)


@dataclass(frozen=True)
class Settings:
    """What the models differ in; every array has shape (m,), float32.

    Parameters
    ----------
    schedule
        Their learning rates.
    wd, l1
        Weights of the penalties.
    bias_lr_mult, bias_wd_mult
        Rate and decay of the bias, in units of the weights'.
    """

    schedule: Schedule
    wd: Array
    l1: Array
    bias_lr_mult: float
    bias_wd_mult: float


class Kept(NamedTuple):
    """Models at some moment of their training."""

    weights: Array
    bias: Array
    owner: Array


class LinearModels:
    """Weights of m linear models with c outputs each, and one step of training for all.

    All models begin with the same weights, so those whose rates have been the same up to now are the same model, and
    are trained once: the k models that there really are have the columns. They part where their rates do.

    Parameters
    ----------
    weights
        The first ones of every model, of normalised rows; float32, shape (d, c).
    bias
        The first ones, float32, shape (1, c).
    classes
        c, or None where a model has one output and no axis for it.
    loss, optimizer, settings, scaling
        How they learn.
    use_bias
        Whether the bias learns.

    Attributes
    ----------
    owner
        Which of the k models that there really are each model is, shape (m,).
    """

    def __init__(
        self,
        weights: Array,
        bias: Array,
        classes: int | None,
        *,
        loss: Loss,
        optimizer: Optimizer,
        settings: Settings,
        scaling: Scaling,
        use_bias: bool = True,
    ) -> None:
        self.weights, self.bias, self.classes = weights, bias, classes
        self.loss, self.optimizer, self.scaling, self.use_bias = loss, optimizer, scaling, use_bias
        self.settings = settings
        self.step = 0
        self._states = optimizer.state(weights.shape), optimizer.state(bias.shape)
        self._shift = scaling.mean.astype(np.float32) if (far := scaling.far).any() else None
        if self._shift is not None:
            self._shift[~far] = 0  # these columns are centred themselves
        mean = np.where(far, 0, scaling.mean)
        self._inverse = (1 / scaling.deviation).astype(np.float32)  # (d,)
        self._mean = mean.astype(np.float32)
        self._offset = (mean / scaling.deviation).astype(np.float32)
        self._centred = bool(mean.any())
        self._met = np.zeros(len(weights), bool)  # columns that any mini-batch had values in
        self.owner = self._first = np.zeros(len(settings.wd), np.intp)
        self._sparse = bool(settings.l1.any())
        self._rate = np.zeros(0)  # the first step knows it
        self._part(np.column_stack([settings.wd, settings.l1]))

    def _part(self, settings: Array) -> None:
        """Give columns of their own to models that were the same and now differ in a setting, shape (m, …)."""
        _, first, owner = np.unique(
            np.column_stack([self.owner, settings]), axis=0, return_index=True, return_inverse=True
        )
        columns = self._columns(self.owner[first])
        self.weights, self.bias = self.weights.take(columns, axis=1), self.bias.take(columns, axis=1)
        of_weights, of_bias = (tuple(array.take(columns, axis=1) for array in state) for state in self._states)
        self._states = of_weights, of_bias
        self.owner, self._first = owner.reshape(-1), first
        self._wd, self._l1 = (
            np.repeat(array[first], self.classes or 1) for array in (self.settings.wd, self.settings.l1)
        )

    def _columns(self, numbers: Array) -> Array:
        """The columns of these of the k models."""
        c = self.classes or 1
        columns: Array = (numbers[:, None] * c + np.arange(c)).ravel()
        return columns

    def learn(self, features: Array | CSR, labels: Array, weight: Array | None = None) -> Array:
        """One step on a mini-batch.

        Parameters
        ----------
        features
            Shape (n, d).
        labels
            In normalised units, float32, shape (n,).
        weight
            Of each row, float32, shape (n,).

        Returns
        -------
        losses
            Sum of the weighted losses of each model before the step, float64, shape (m,).
        """
        if self.settings.schedule.turns(self.step):
            rates = self.settings.schedule.rate(self.step)
            if (rates != rates[self._first][self.owner]).any():
                self._part(rates[:, None])
            self._rate = np.repeat(rates[self._first], self.classes or 1)
        rate = self._rate
        self.step += 1
        z, rows, touched = self._forward(features)
        self._met[slice(None) if touched is None else touched] = True
        slopes, total, losses = self.loss.step(self._split(z), labels, weight)
        gradient = transposed_times(rows, slopes)
        if self._centred:
            gradient -= self._mean[slice(None) if touched is None else touched, None] * total
        self._update(gradient, rate, touched)
        if self.use_bias:
            if self.settings.bias_wd_mult:
                total += self._wd * self.settings.bias_wd_mult * self.bias
            bias_rate = rate * self.settings.bias_lr_mult
            self.optimizer.update(self.bias, total, self._states[1], bias_rate, self.step)
        sums: Array = losses[self.owner].astype(np.float64)
        return sums

    def outputs(self, features: Array | CSR) -> Array:
        """What the k models make of rows of shape (n, d), in the labels' units; shape (n, k), or (n, k, c)."""
        z = self._split(self._forward(features)[0])
        if self.scaling.label_deviation != 1 or self.scaling.label_mean:
            z *= np.float32(self.scaling.label_deviation)
            z += np.float32(self.scaling.label_mean)
        return z

    def _forward(self, features: Array | CSR) -> tuple[Array, Array | CSR, Array | None]:
        """Outputs of shape (n, k · c); the rows as they were multiplied; the columns they have left, None for all."""
        touched: Array | None = None
        if wide(features):
            features = features if self._shift is None else less(features, self._shift)
            assert isinstance(features, CSR)  # noqa: S101  # says `wide`
            touched, features = narrowed(features)
        elif self._shift is not None or not _kept_sparse(features):
            features = features.toarray() if isinstance(features, CSR) else features
            features = features if self._shift is None else features - self._shift
        chosen: Any = slice(None) if touched is None else touched
        first = self.bias - product(self._offset, self.weights) if self._centred else self.bias
        z = times(features, self.weights[chosen] * self._inverse[chosen, None], first)
        return z, features, touched

    @property
    def finite(self) -> Array:
        """Whether all numbers of each of the m models are, bool, shape (m,)."""
        sums = np.abs(self.weights).sum(axis=0, dtype=np.float64) + np.abs(self.bias[0])  # (k · c,)
        models: Array = np.isfinite(sums.reshape(-1, self.classes or 1).sum(axis=1))
        return models[self.owner]

    def copy(self) -> Kept:
        """The models as they are now."""
        return Kept(self.weights.copy(), self.bias.copy(), self.owner)

    def set(self, kept: Kept) -> None:
        """The models as they were: to be asked, not to be trained further."""
        self.weights, self.bias, self.owner = kept

    def _update(self, gradient: Array, rate: Array, rows: Array | None) -> None:
        """Take the step for some rows of the weights, or all."""
        chosen: Any = slice(None) if rows is None else rows
        gradient *= self._inverse[chosen, None]
        gradient += self._wd * self.weights[chosen]
        self.optimizer.update(self.weights, gradient, self._states[0], rate, self.step, rows=rows)
        if self._sparse:
            soft_threshold(self.weights, rate * self._l1, rows=rows)

    def _split(self, z: Array) -> Array:
        return z if self.classes is None else z.reshape(len(z), -1, self.classes)

    def folded(self, number: int) -> tuple[Array, Array]:
        """Weights (d, c) and bias (c,) of one of the k models, for rows and labels as they are; float32."""
        scaling, columns = self.scaling, self._columns(np.array([number]))
        weights = self.weights[:, columns].astype(np.float64) / scaling.deviation[:, None]
        weights[~self._met] = 0  # what they began with is noise
        bias = self.bias[0, columns] - scaling.mean @ weights
        weights, bias = weights * scaling.label_deviation, bias * scaling.label_deviation + scaling.label_mean
        return weights.astype(np.float32), bias.astype(np.float32)
