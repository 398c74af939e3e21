"""A factorization machine's arithmetic: outputs, gradients and steps, dense or sparse, without channels.

y = w₀ + x·w + ½ Σ_f [(x·v_f)² - x²·v_f²], so with s = xV, of shape (n, k), the sum over pairs of columns takes one
product with V and one with the squared norms of its rows [1]_. Backwards, dL/dV = xᵀ(δ ∘ s) - (x²ᵀδ) ∘ V.

References
----------
.. [1] S. Rendle, "Factorization Machines", ICDM 2010.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from .. import native
from ..recordio.batch import CSR, Array
from .optimizers import Adam
from .sparse import buffers, compiled, merged, narrowed, times, transposed_times

__all__ = ["Block", "Machine", "Rates", "outputs"]

_SPARSE: Final = 0.02  # share of values in the columns that have any, below which rows stay sparse
_COMPILED: Final = 0.3  # and where kernels multiply them


@dataclass(frozen=True, slots=True)
class Block:
    """A mini-batch in the columns that it has values in.

    Parameters
    ----------
    columns
        Their numbers, shape (c,); None for all. Zeros of dense rows are no values.
    rows
        Dense, shape (n, c); or sparse with c columns.
    squared
        The rows with squared values, where they are known; kernels never want them.
    """

    columns: Array | None
    rows: Array | CSR
    squared: Array | CSR | None = None

    @classmethod
    def of(cls, features: Array | CSR) -> Block:
        """The mini-batch, made dense where that is faster."""
        if not isinstance(features, CSR):
            some = np.flatnonzero(features.any(axis=0))
            if len(some) == features.shape[1]:
                return cls(None, features, _squared(features))
            narrow = features.take(some, axis=1)
            return cls(some, narrow, _squared(narrow))
        columns, rows = narrowed(merged(features))
        n, width = rows.shape
        if len(rows.values) < (_COMPILED if compiled(rows) else _SPARSE) * n * width:
            return cls(columns, rows, None if compiled(rows) else _squared(rows))
        binary = np.array_equal(rows.values, np.square(rows.values))
        dense = np.zeros((n, width), rows.dtype)
        dense.ravel()[rows.row_of * width + rows.indices] = rows.values  # each place once: they are merged
        return cls(columns, dense, dense if binary else np.square(dense))

    @property
    def squares(self) -> Array | CSR:
        """The rows with squared values; the very `rows` where all values are 0 or 1."""
        return _squared(self.rows) if self.squared is None else self.squared


def _squared(rows: Array | CSR) -> Array | CSR:
    if isinstance(rows, CSR):
        values = np.square(rows.values)
        return rows if np.array_equal(rows.values, values) else CSR(rows.indptr, rows.indices, values, rows.shape)
    few = rows[:8]  # enough to tell most rows that are not 0 or 1
    if np.array_equal(few, np.square(few)):
        squares = np.square(rows)
        return rows if np.array_equal(rows, squares) else squares
    return np.square(rows)


def outputs(features: Array | CSR, v: Array, w: Array, w0: float) -> Array:
    """The machine's output for each row, shape (n,), of the factors' dtype.

    Examples
    --------
    >>> v = np.array([[1.], [2.], [3.]])
    >>> outputs(np.array([[1., 1., 0.], [1., 0., 2.]]), v, np.array([10., 20., 30.]), 5.0).tolist()
    [37.0, 81.0]
    """
    block = Block.of(features)
    if block.columns is not None:
        v, w = v[block.columns], w[block.columns]
    return _forward(block, v.astype(features.dtype, copy=False), w.astype(features.dtype, copy=False), w0)[0]


def _forward(block: Block, v: Array, w: Array, w0: float) -> tuple[Array, Array]:
    """Outputs of shape (n,), and s = xV of shape (n, k)."""
    if compiled(block.rows) and v.dtype == np.float32:
        y, s = np.empty(len(block.rows), np.float32), np.empty((len(block.rows), v.shape[1]), np.float32)
        norms = np.einsum("ij,ij->i", v, v)
        w = np.ascontiguousarray(w)
        native.kernels.fm_forward(*buffers(block.rows), np.ascontiguousarray(v), w, norms, y, s, v.shape[1], w0)
        return y, s
    s = times(block.rows, v)
    y = np.einsum("ij,ij->i", s, s)
    norms = np.einsum("ij,ij->i", v, v)  # (c,)
    if block.squares is block.rows:
        norms *= -0.5
        norms += w
        y *= 0.5
        y += times(block.rows, norms)  # both products with x at once
    else:
        y -= times(block.squares, norms)
        y *= 0.5
        y += times(block.rows, w)
    y += w0
    return y, s


def _gradients(
    block: Block, s: Array, slopes: Array, v: Array, w: Array, decays: Sequence[float]
) -> tuple[Array, Array]:
    """Gradients of weights (c, 1) and factors (c, k), with the decay of both; `s` may be overwritten."""
    of_weights, of_factors = decays
    if compiled(block.rows) and s.dtype == v.dtype == w.dtype == np.float32:
        factors, weights, squares = (np.empty(shape, np.float32) for shape in (v.shape, w.shape, len(w)))
        now = np.ascontiguousarray(v), np.ascontiguousarray(w)
        arrays = (*buffers(block.rows), s, slopes, *now, factors, weights, squares)
        native.kernels.fm_backward(*arrays, v.shape[1], of_weights, of_factors)
        return weights, factors
    weights = transposed_times(block.rows, slopes)
    squares = weights if block.squares is block.rows else transposed_times(block.squares, slopes)
    s *= slopes[:, None]
    factors = transposed_times(block.rows, s)
    factors += (np.float32(of_factors) - squares)[:, None] * v
    return weights[:, None] + np.float32(of_weights) * w, factors


@dataclass(frozen=True, slots=True)
class Rates:
    """Learning rate and decay of bias, weights and factors, and what is done to gradients.

    Parameters
    ----------
    lr, wd
        Of bias, weights and factors.
    rescale
        What gradients, summed over a mini-batch, are multiplied with; None for one over its rows. Decay is added after.
    clip
        Largest absolute value of a gradient, decay included, as MXNet has it; None for any.
    """

    lr: tuple[float, float, float]
    wd: tuple[float, float, float]
    rescale: float | None = None
    clip: float | None = None


class Machine:
    """Weights and factors, and their training by one Adam with rates of their own, lazily row by row.

    Parameters
    ----------
    v, w, w0
        Float32 arrays of shapes (d, k), (d, 1) and (1, 1).
    rates
        How they learn.
    optimizer
        Adam, whose rate is one: `rates` multiplies it.
    """

    def __init__(self, v: Array, w: Array, w0: Array, rates: Rates, optimizer: Adam) -> None:
        self.v, self.w, self.w0 = v, w, w0
        self.rates, self.optimizer = rates, optimizer
        self.step = 0
        self._states = tuple(optimizer.state(array.shape) for array in (w0, w, v))

    @property
    def is_finite(self) -> bool:
        """Whether all numbers still are."""
        return all(bool(np.isfinite(array).all()) for array in (self.v, self.w, self.w0))

    def outputs(self, features: Array | CSR) -> Array:
        """Output for each row, float32, shape (n,)."""
        return outputs(features, self.v, self.w[:, 0], float(self.w0[0, 0]))

    def learn(self, block: Block, slope: Callable[[Array], Array]) -> Array:
        """One step on a mini-batch.

        Parameters
        ----------
        block
            The rows.
        slope
            Gives dL/dy, float32, shape (n,), for outputs of that shape.

        Returns
        -------
        outputs
            Before the step, float32, shape (n,).
        """
        self.step += 1
        columns = block.columns
        v, w = (self.v, self.w) if columns is None else (self.v[columns], self.w[columns])
        y, s = _forward(block, v, w[:, 0], float(self.w0[0, 0]))
        rescale = self.rates.rescale
        delta = slope(y) * np.float32(1 / len(y) if rescale is None else rescale)  # (n,)
        bias_wd, *decays = self.rates.wd
        weights, factors = _gradients(block, s, delta, v, w, decays)
        bias = delta.sum(dtype=np.float32) + np.float32(bias_wd) * self.w0  # (1, 1)
        moves = ((self.w0, bias, None), (self.w, weights, columns), (self.v, factors, columns))
        for (parameter, gradient, rows), state, lr in zip(moves, self._states, self.rates.lr, strict=True):
            if self.rates.clip is not None:
                np.clip(gradient, -self.rates.clip, self.rates.clip, out=gradient)
            self.optimizer.update(parameter, gradient, state, lr, self.step, rows=rows)
        return y
