"""Losses of linear models and factorization machines: what a raw output costs, and its derivative.

Pure functions over arrays; the outputs of many models are judged in one call. The numbers have z's dtype, float32 in
training. Only functions that numpy vectorises for float32 are used, and no masks: ``exp`` and ``log`` are several times
faster there than ``log1p``, ``logaddexp`` and ``where``.

References
----------
.. [1] Amazon SageMaker Developer Guide, "Linear Learner Hyperparameters": the names of the losses and their settings.
.. [2] P. J. Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35, 1964.
.. [3] R. Koenker, G. Bassett, "Regression Quantiles", Econometrica 46, 1978.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from .. import native
from ..recordio.batch import Array
from .blas import product

__all__ = [
    "AbsoluteLoss",
    "EpsInsensitiveAbsoluteLoss",
    "EpsInsensitiveSquaredLoss",
    "HingeLoss",
    "HuberLoss",
    "LogisticLoss",
    "Loss",
    "QuantileLoss",
    "SoftmaxLoss",
    "SquaredLoss",
    "loss_named",
]

_CAP: Final = 80.0  # exp of it is finite in float32, and 1 + exp of it is exp of it
_BLOCK: Final = 1 << 17  # numbers of all classes that are worked on at a time, not far from the cache
_FEW: Final = 16  # classes that are copied one by one, rather than a few numbers at a time


@dataclass(frozen=True)
class Loss(ABC):
    """What the raw outputs of models cost.

    Attributes
    ----------
    name
        AWS's word for it.
    objective
        What stands before ``_objective`` in the log.
    """

    name: ClassVar[str]
    objective: ClassVar[str]

    @abstractmethod
    def evaluate(self, z: Array, y: Array) -> tuple[Array, Array]:
        """Losses and their derivatives.

        Where a loss has a kink, the derivative is a number between those on both sides.

        Parameters
        ----------
        z
            Raw outputs of m models for n rows, shape (n, m); for c classes (n, m, c).
        y
            Labels of the rows, shape (n,): 0 and 1, numbers of classes, or any numbers.

        Returns
        -------
        losses
            Shape (n, m).
        gradient
            Of each loss by its z, of z's shape. Both arrays are the caller's to change.
        """

    def step(self, z: Array, y: Array, weight: Array | None) -> tuple[Array, Array, Array]:
        """What a step of training needs of a mini-batch.

        Parameters
        ----------
        z, y
            As in `evaluate`.
        weight
            Of each row, float32, shape (n,); None where all are one.

        Returns
        -------
        slopes
            Derivatives of the weighted losses' means by z, shape (n, m), or (n, m · c).
        total
            Their sum over the rows, shape (1, m), or (1, m · c).
        sums
            Sum of the weighted losses of each model, shape (m,).
        """
        losses, slopes = self.evaluate(z, y)
        slopes = slopes.reshape(len(z), -1)
        each = np.ones(len(z), np.float32) if weight is None else weight
        if weight is not None:
            slopes *= weight[:, None]
        slopes /= len(z)
        total = product(np.ones((1, len(z)), np.float32), slopes)  # many times faster than numpy's sum along the rows
        return slopes, total, product(each, losses)

    def link(self, z: Array) -> Array:
        """The scores that a model answers: here the raw outputs themselves, not a copy."""
        return z


class LogisticLoss(Loss):
    """Cross entropy of a label 0 or 1 and the probability sigmoid(z).

    Examples
    --------
    >>> losses, gradient = LogisticLoss().evaluate(np.array([[0.], [-1e4]]), np.array([1., 1.]))
    >>> losses.ravel().tolist(), gradient.ravel().tolist()
    ([0.693147, 10000.0], [-0.5, -1.0])
    """

    name = "logistic"
    objective = "binary_classification_cross_entropy"

    def evaluate(self, z: Array, y: Array) -> tuple[Array, Array]:
        """The loss is log(1 + exp(wrong)), where `wrong` is z against the label: -z if it is 1."""
        if native.kernels is not None and z.dtype == np.float32 and z.size:
            losses, gradient = np.empty(z.shape, z.dtype), np.empty(z.shape, z.dtype)
            labels = np.ascontiguousarray(y, np.float32)
            native.kernels.logistic(np.ascontiguousarray(z), labels, losses, gradient, z.shape[1])
            return losses, gradient
        against = np.repeat(1 - 2 * _column(y, z), z.shape[1], axis=1)  # (n, m): columns make numpy's loops short
        wrong = z * against
        gradient = np.minimum(wrong, _CAP)
        np.exp(gradient, out=gradient)
        losses = gradient + 1
        gradient /= losses  # sigmoid(wrong), exact to the last digits also where it is near 0
        gradient *= against
        np.log(losses, out=losses)
        np.maximum(losses, wrong, out=losses)  # beyond the cap, where both are the same
        return losses, gradient

    def step(self, z: Array, y: Array, weight: Array | None) -> tuple[Array, Array, Array]:
        """As of any loss; a kernel has the sums without the losses."""
        if native.kernels is not None and z.dtype == np.float32 and z.size:
            slopes, sums = np.empty(z.shape, np.float32), np.empty((2, z.shape[1]))
            labels = np.ascontiguousarray(y, np.float32)
            if native.kernels.logistic_step(np.ascontiguousarray(z), labels, weight, slopes, sums):
                return slopes, sums[1:].astype(np.float32), sums[0]
        return super().step(z, y, weight)

    def link(self, z: Array) -> Array:
        """Probability of the label 1."""
        odds = np.minimum(z, _CAP)
        np.exp(odds, out=odds)
        odds /= odds + 1
        return odds


@dataclass(frozen=True)
class HingeLoss(Loss):
    """How far a raw output is from the margin on its label's side of zero.

    Examples
    --------
    >>> losses, gradient = HingeLoss(margin=1).evaluate(np.array([[0.25, 2.]]), np.array([1.]))
    >>> losses.tolist(), gradient.tolist()
    ([[0.75, 0.0]], [[-1.0, 0.0]])
    """

    name = "hinge_loss"
    objective = "binary_classification_hinge_loss"

    margin: float = 1.0

    def evaluate(self, z: Array, y: Array) -> tuple[Array, Array]:
        """The loss is max(0, margin - (2y - 1)z)."""
        against = 1 - 2 * _column(y, z)
        losses = z * against
        losses += self.margin
        np.maximum(losses, 0, out=losses)
        gradient = np.sign(losses)
        gradient *= against
        return losses, gradient


class SoftmaxLoss(Loss):
    """Cross entropy of a class and the probabilities softmax(z).

    Examples
    --------
    >>> losses, gradient = SoftmaxLoss().evaluate(np.log([[[1., 2., 1.]]]), np.array([1.]))
    >>> losses.tolist(), gradient.tolist()
    ([[0.693147]], [[[0.25, -0.5, 0.25]]])
    """

    name = "softmax_loss"
    objective = "multiclass_cross_entropy"

    def evaluate(self, z: Array, y: Array) -> tuple[Array, Array]:
        """The loss is log(sum of exp(z)) - z[y]."""
        labels = y.astype(np.intp)
        losses, gradient = np.empty(z.shape[:2], z.dtype), np.empty(z.shape, z.dtype)
        step = max(1, _BLOCK // max(1, z[:1].size))
        for start in range(0, len(z), step):
            rows = slice(start, start + step)
            at = labels[rows], np.arange(len(labels[rows]))
            shifted = _classes_first(z[rows])  # (c, step, m)
            own = shifted[at]  # (step, m)
            np.exp(shifted, out=shifted)
            total = shifted.sum(axis=0)
            shifted /= total
            shifted[at] -= 1
            _classes_last(shifted, gradient[rows])
            np.log(total, out=total)
            np.subtract(total, own, out=losses[rows])
        return losses, gradient

    def link(self, z: Array) -> Array:
        """Probabilities of the classes, along the last axis."""
        exps = _classes_first(z)
        np.exp(exps, out=exps)
        exps /= exps.sum(axis=0)
        return _classes_last(exps, np.empty(z.shape, z.dtype))


class SquaredLoss(Loss):
    """Squared error, without the half.

    Examples
    --------
    >>> losses, gradient = SquaredLoss().evaluate(np.array([[5.]]), np.array([2.]))
    >>> losses.item(), gradient.item()
    (9.0, 6.0)
    """

    name = "squared_loss"
    objective = "mse"

    def evaluate(self, z: Array, y: Array) -> tuple[Array, Array]:
        """The loss is (z - y)²."""
        gradient = z - _column(y, z)
        losses = np.square(gradient)
        gradient *= 2
        return losses, gradient


class AbsoluteLoss(Loss):
    """Absolute error.

    Examples
    --------
    >>> losses, gradient = AbsoluteLoss().evaluate(np.array([[5., 2., 1.]]), np.array([2.]))
    >>> losses.tolist(), gradient.tolist()
    ([[3.0, 0.0, 1.0]], [[1.0, 0.0, -1.0]])
    """

    name = "absolute_loss"
    objective = "absolute_loss"

    def evaluate(self, z: Array, y: Array) -> tuple[Array, Array]:
        """The loss is |z - y|."""
        return _size_and_sign(z - _column(y, z))


@dataclass(frozen=True)
class EpsInsensitiveSquaredLoss(Loss):
    """Square of what an error is beyond a size that costs nothing.

    Examples
    --------
    >>> losses, gradient = EpsInsensitiveSquaredLoss(1).evaluate(np.array([[5., 2.5]]), np.array([2.]))
    >>> losses.tolist(), gradient.tolist()
    ([[4.0, 0.0]], [[4.0, 0.0]])
    """

    name = "eps_insensitive_squared_loss"
    objective = "eps_insensitive_squared_loss"

    loss_insensitivity: float = 0.01

    def evaluate(self, z: Array, y: Array) -> tuple[Array, Array]:
        """The loss is max(0, |z - y| - eps)²."""
        gradient = _beyond(z - _column(y, z), self.loss_insensitivity)
        losses = np.square(gradient)
        gradient *= 2
        return losses, gradient


@dataclass(frozen=True)
class EpsInsensitiveAbsoluteLoss(Loss):
    """What an error is beyond a size that costs nothing.

    Examples
    --------
    >>> losses, gradient = EpsInsensitiveAbsoluteLoss(1).evaluate(np.array([[5., 2.5]]), np.array([2.]))
    >>> losses.tolist(), gradient.tolist()
    ([[2.0, 0.0]], [[1.0, 0.0]])
    """

    name = "eps_insensitive_absolute_loss"
    objective = "eps_insensitive_absolute_loss"

    loss_insensitivity: float = 0.01

    def evaluate(self, z: Array, y: Array) -> tuple[Array, Array]:
        """The loss is max(0, |z - y| - eps)."""
        return _size_and_sign(_beyond(z - _column(y, z), self.loss_insensitivity))


@dataclass(frozen=True)
class QuantileLoss(Loss):
    """An error that costs `quantile` for each unit too low and 1 - `quantile` for each too high [3]_.

    Examples
    --------
    >>> losses, gradient = QuantileLoss(0.75).evaluate(np.array([[1., 5.]]), np.array([3.]))
    >>> losses.tolist(), gradient.tolist()
    ([[1.5, 0.5]], [[-0.75, 0.25]])
    """

    name = "quantile_loss"
    objective = "quantile_loss"

    quantile: float = 0.5

    def evaluate(self, z: Array, y: Array) -> tuple[Array, Array]:
        """The loss is max(quantile (y - z), (1 - quantile)(z - y))."""
        losses = z - _column(y, z)
        gradient = np.sign(losses)
        gradient *= 0.5
        gradient += 0.5 - self.quantile
        losses *= gradient
        return losses, gradient


@dataclass(frozen=True)
class HuberLoss(Loss):
    """Half the squared error where it is small, and growing in a straight line from there [2]_.

    Examples
    --------
    >>> losses, gradient = HuberLoss(2).evaluate(np.array([[1., 5.]]), np.array([0.]))
    >>> losses.tolist(), gradient.tolist()
    ([[0.5, 8.0]], [[1.0, 2.0]])
    """

    name = "huber_loss"
    objective = "huber_loss"

    huber_delta: float = 1.0

    def evaluate(self, z: Array, y: Array) -> tuple[Array, Array]:
        """The loss of an error r is r²/2 where |r| is at most delta, else delta (|r| - delta/2)."""
        losses = z - _column(y, z)
        gradient = np.clip(losses, -self.huber_delta, self.huber_delta)
        losses -= 0.5 * gradient
        losses *= gradient
        return losses, gradient


def loss_named(
    name: str,
    *,
    margin: float = 1.0,
    loss_insensitivity: float = 0.01,
    quantile: float = 0.5,
    huber_delta: float = 1.0,
) -> Loss:
    """The loss of a name, with the settings that concern it.

    Raises
    ------
    ValueError
        When there is none of the name.

    Examples
    --------
    >>> loss_named("huber_loss", huber_delta=2.0)
    HuberLoss(huber_delta=2.0)
    """
    losses: tuple[Loss, ...] = (
        LogisticLoss(),
        HingeLoss(margin),
        SoftmaxLoss(),
        SquaredLoss(),
        AbsoluteLoss(),
        EpsInsensitiveSquaredLoss(loss_insensitivity),
        EpsInsensitiveAbsoluteLoss(loss_insensitivity),
        QuantileLoss(quantile),
        HuberLoss(huber_delta),
    )
    for loss in losses:
        if loss.name == name:
            return loss
    raise ValueError(f"there is no loss {name!r}; there are {', '.join(loss.name for loss in losses)}")


def _column(y: Array, z: Array) -> Array:
    """The labels as a column of z's dtype, shape (n, 1)."""
    column: Array = y.astype(z.dtype, copy=False)[:, None]
    return column


def _size_and_sign(errors: Array) -> tuple[Array, Array]:
    """The absolute values, in the place of what is given, and the signs."""
    signs = np.sign(errors)
    return np.abs(errors, out=errors), signs


def _beyond(errors: Array, eps: float) -> Array:
    """What the errors are beyond ±eps, with their sign, in the place of what is given."""
    errors -= np.clip(errors, -eps, eps)
    return errors


def _classes_first(z: Array) -> Array:
    """A copy with the last axis first, where numpy is quick to go along it; its greatest value is taken away."""
    shifted = np.array(np.moveaxis(z, -1, 0), order="C")
    shifted -= shifted.max(axis=0)
    return shifted


def _classes_last(numbers: Array, out: Array) -> Array:
    """Copy with the first axis last."""
    if len(numbers) > _FEW:
        out[:] = np.moveaxis(numbers, 0, -1)
    else:
        for number, of_class in enumerate(numbers):
            out[..., number] = of_class
    return out
