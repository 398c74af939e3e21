"""Steps of stochastic gradient descent on many models at once, with Apache MXNet's update rules.

Pure arithmetic on arrays in place: no data channels, no hyperparameters. A parameter is an array of shape (d, m), or
any other whose rows lie along the first axis; a setting (a rate, a momentum) is a number, or an array of shape (m,)
where each of m models has its own. Weight decay is the caller's: ``gradient + wd * w``.

References
----------
.. [1] D. P. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
.. [2] T. Tieleman, G. Hinton, "Lecture 6.5: rmsprop", Neural Networks for Machine Learning, 2012.
.. [3] Apache MXNet 1.x, `mxnet.optimizer`: where each epsilon stands, and the lazy update of rows.
.. [4] N. Parikh, S. Boyd, "Proximal Algorithms", Foundations and Trends in Optimization 1, 2014.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

import numpy as np

from .. import native
from ..recordio.batch import Array

__all__ = ["Adam", "Optimizer", "RmsProp", "Schedule", "Setting", "Sgd", "State", "soft_threshold"]

Setting = float | Array
State = tuple[Array, ...]  # arrays of the parameter's shape

_BLOCK: Final = 1 << 15  # numbers of a parameter that are worked on at a time, by which scratch space is small


class Optimizer(ABC):
    """How a parameter moves against its gradient."""

    def state(self, shape: tuple[int, ...]) -> State:
        """What is remembered of a parameter of some shape, at its beginning."""
        return tuple(np.zeros(shape, np.float32) for _ in range(self._moments()))

    def update(
        self, w: Array, gradient: Array, state: State, rate: Setting, step: int, rows: Array | None = None
    ) -> None:
        """Move a parameter, and what is remembered of it, one step.

        Parameters
        ----------
        w
            The parameter, float32, shape (d, m); changed in place.
        gradient
            Shape (d, m), or (len(rows), m).
        state
            From `state`, for this parameter alone; changed in place.
        rate
            The learning rate, a number or shape (m,).
        step
            Number of the step, from 1; one for all rows.
        rows
            Numbers of the rows to move, each once; all by default. Of the others nothing changes: what is remembered
            of them does not fade [3]_.
        """
        wide = rate if isinstance(rate, float) else np.asarray(rate, np.float64)
        scales = tuple([_narrow(scale) for scale in self._scales(wide, step)])
        if native.kernels is not None and self._fused(w, gradient, state, scales, rows):
            return
        size = _block_rows(w)
        if rows is None and len(w) <= size:
            self._move(w, gradient, state, scales, np.empty(w.shape, np.float32))
            return
        scratch = np.empty((min(size, len(gradient)), *w.shape[1:]), np.float32)
        for start in range(0, len(gradient), size):
            block = slice(start, start + size)
            part = gradient[block]
            place = block if rows is None else rows[block]
            here, moments = w[place], tuple(array[place] for array in state)  # copies, where `rows` says which
            self._move(here, part, moments, scales, scratch[: len(part)])
            if rows is not None:
                w[place] = here
                for array, moment in zip(state, moments, strict=True):
                    array[place] = moment

    def _fused(self, w: Array, gradient: Array, state: State, scales: tuple[Setting, ...], rows: Array | None) -> bool:  # noqa: ARG002  # of kernels
        """Let a kernel move the rows; whether there is one for them."""
        return False

    @abstractmethod
    def _moments(self) -> int:
        """How many arrays are remembered."""

    @abstractmethod
    def _scales(self, rate: Setting, step: int) -> tuple[Setting, ...]:
        """What is the same for all rows in a step."""

    @abstractmethod
    def _move(self, w: Array, gradient: Array, state: State, scales: tuple[Setting, ...], scratch: Array) -> None:
        """Move some rows, which may be overwritten, like the scratch array and unlike the gradient."""


@dataclass(eq=False)
class Sgd(Optimizer):
    """Gradient descent, with a momentum that keeps a share of the last step.

    Examples
    --------
    >>> sgd, w = Sgd(momentum=0.5), np.ones((1, 1), np.float32)
    >>> state = sgd.state(w.shape)
    >>> for step in (1, 2):
    ...     sgd.update(w, np.ones((1, 1), np.float32), state, 0.1, step)
    >>> w.item()  # 1 - 0.1 - (0.1 + 0.05)
    0.75
    """

    momentum: Setting = 0.0

    def __post_init__(self) -> None:
        self.momentum = _setting(self.momentum)

    def _moments(self) -> int:
        return 1 if np.any(self.momentum) else 0  # without momentum nothing

    def _scales(self, rate: Setting, step: int) -> tuple[Setting, ...]:  # noqa: ARG002  # no step is special
        return rate, self.momentum

    def _move(self, w: Array, gradient: Array, state: State, scales: tuple[Setting, ...], scratch: Array) -> None:
        rate, momentum = scales
        np.multiply(gradient, rate, out=scratch)
        if not state:
            w -= scratch
            return
        (moved,) = state
        moved *= momentum
        moved -= scratch
        w += moved


@dataclass(eq=False)
class Adam(Optimizer):
    """Steps of a size that hardly depends on the gradient's [1]_.

    Examples
    --------
    >>> adam, w = Adam(), np.ones((1, 2), np.float32)
    >>> adam.update(w, np.array([[1e-3, 1e3]], np.float32), adam.state(w.shape), 0.1, 1)
    >>> w.tolist()
    [[0.9, 0.9]]
    """

    beta_1: Setting = 0.9
    beta_2: Setting = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        self.beta_1, self.beta_2 = _setting(self.beta_1), _setting(self.beta_2)

    def _moments(self) -> int:
        return 2

    def _scales(self, rate: Setting, step: int) -> tuple[Setting, ...]:
        corrected = rate * (1 - self.beta_2**step) ** 0.5 / (1 - self.beta_1**step)
        return corrected, self.beta_1, 1 - self.beta_1, self.beta_2, 1 - self.beta_2

    def _fused(self, w: Array, gradient: Array, state: State, scales: tuple[Setting, ...], rows: Array | None) -> bool:
        rate, *betas = scales
        arrays = (w, gradient, *state)
        alike = w.ndim == 2 and all(array.dtype == np.float32 and array.flags.c_contiguous for array in arrays)
        if not alike or not w.size or any(isinstance(beta, np.ndarray) for beta in betas):
            return False
        rates = np.empty(w.shape[1], np.float32)
        rates[...] = rate
        chosen = None if rows is None else np.ascontiguousarray(rows, np.int64)
        native.kernels.adam(gradient, rates, w, *state, chosen, *betas, self.eps)
        return True

    def _move(self, w: Array, gradient: Array, state: State, scales: tuple[Setting, ...], scratch: Array) -> None:
        rate, beta_1, fresh_1, beta_2, fresh_2 = scales
        mean, var = state
        mean *= beta_1
        np.multiply(gradient, fresh_1, out=scratch)
        mean += scratch
        var *= beta_2
        np.square(gradient, out=scratch)
        scratch *= fresh_2
        var += scratch
        np.sqrt(var, out=scratch)
        scratch += self.eps
        np.divide(mean, scratch, out=scratch)
        scratch *= rate
        w -= scratch


@dataclass(eq=False)
class RmsProp(Optimizer):
    """The gradient, divided by the root of its mean square [2]_.

    Examples
    --------
    >>> rmsprop, w = RmsProp(gamma=0.75), np.ones((1, 1), np.float32)
    >>> rmsprop.update(w, np.full((1, 1), 3, np.float32), rmsprop.state(w.shape), 0.1, 1)
    >>> w.item()  # 1 - 0.1 * 3 / sqrt(9 / 4)
    0.8
    """

    gamma: Setting = 0.9
    eps: float = 1e-8

    def __post_init__(self) -> None:
        self.gamma = _setting(self.gamma)

    def _moments(self) -> int:
        return 1

    def _scales(self, rate: Setting, step: int) -> tuple[Setting, ...]:  # noqa: ARG002  # no step is special
        return rate, self.gamma, 1 - self.gamma

    def _move(self, w: Array, gradient: Array, state: State, scales: tuple[Setting, ...], scratch: Array) -> None:
        rate, gamma, fresh = scales
        (squares,) = state
        squares *= gamma
        np.square(gradient, out=scratch)
        scratch *= fresh
        squares += scratch
        np.add(squares, self.eps, out=scratch)
        np.sqrt(scratch, out=scratch)
        np.divide(gradient, scratch, out=scratch)
        scratch *= rate
        w -= scratch


def soft_threshold(w: Array, amount: Setting, rows: Array | None = None) -> None:
    """Bring each number nearer to zero by an amount, and to zero where it is no further: the proximal step of L1 [4]_.

    Parameters
    ----------
    w
        Shape (d, m); changed in place.
    amount
        Not negative, a number or shape (m,): the learning rate times the weight of the penalty.
    rows
        Numbers of the rows to change, each once; all by default.

    Examples
    --------
    >>> w = np.array([[3., -0.5], [-3., 1.]], np.float32)
    >>> soft_threshold(w, 1)
    >>> w.tolist()
    [[2.0, 0.0], [-2.0, 0.0]]
    """
    most = _narrow(_setting(amount))
    if not np.any(most):
        return
    size = _block_rows(w)
    for start in range(0, len(w) if rows is None else len(rows), size):
        block = slice(start, start + size)
        place = block if rows is None else rows[block]
        here = w[place]
        w[place] = here - np.clip(here, -most, most)


@dataclass(frozen=True, eq=False)
class Schedule:
    """Learning rates that are multiplied by a factor every so many steps, down to a least one.

    Parameters
    ----------
    base, factor, every, minimum
        Numbers, or arrays of shape (m,).

    Examples
    --------
    >>> schedule = Schedule(base=1.0, factor=0.5, every=10, minimum=np.array([0.1, 0.3]))
    >>> [schedule.rate(step).tolist() for step in (9, 10, 20)]
    [[1.0, 1.0], [0.5, 0.5], [0.25, 0.3]]
    """

    base: Setting
    factor: Setting
    every: int | Array
    minimum: Setting

    def turns(self, step: int) -> bool:
        """Whether any rate may be another than a step before."""
        return step == 0 or bool((step % np.asarray(self.every) == 0).any())

    def rate(self, step: int) -> Array:
        """The rates, float64, after so many steps: 0 before the first."""
        decayed = self.base * np.power(self.factor, step // np.asarray(self.every), dtype=np.float64)
        rates: Array = np.maximum(self.minimum, decayed)
        return rates


def _setting(value: Setting) -> Setting:
    """The setting as a number where all models have the same, by which numpy multiplies faster, else in float64."""
    setting = np.asarray(value, np.float64)
    if setting.ndim == 0 or (setting.size and (setting == setting.flat[0]).all()):
        return float(setting.flat[0])
    return setting


def _narrow(setting: Setting) -> Setting:
    """The setting as float32 arithmetic wants it: with a float64 array all would be float64."""
    return setting.astype(np.float32) if isinstance(setting, np.ndarray) else setting


def _block_rows(w: Array) -> int:
    """How many rows of a parameter are worked on at a time."""
    return max(1, _BLOCK // max(1, w[:1].size))
