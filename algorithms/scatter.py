"""Sums over rows from which principal components come: all of their outer products, or a sketch of these.

References
----------
.. [1] J. Tropp, A. Yurtsever, M. Udell, V. Cevher, "Fixed-Rank Approximation of a Positive-Semidefinite Matrix from
       Streaming Data", NIPS 2017, algorithm 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from .. import native
from ..errors import ChannelError, UserError
from ..recordio.batch import CSR, Array, Batch, concatenate
from .blas import threads_for
from .memory import available_memory
from .rows import Piece, compact, dense, far_mean, gathered, less, pieces

__all__ = ["Components", "Outer", "Sketch"]

_SEED: Final = 0  # the algorithm has no hyperparameter for it: equal jobs give equal models
_BLOCK: Final = 4096  # rows that are multiplied at a time: fewer are slower, float32 sums of more are less exact
_NATIVE_BLOCK: Final = 1024  # so many where a kernel adds products: fewer rows have values in fewer columns
_BLOCK_BYTES: Final = 16 << 20  # of rows that a sketch takes at a time
_FIRST: Final = 256  # rows that tell how far from zero the data is
_FAR: Final = 4.0  # squared distance of the mean from zero, in units of the variance, that costs digits
# Numbers of float64 that are in memory at the end, measured, in units of
_REGULAR_COPIES: Final = 6  # d × d
_VECTORS_COPIES: Final = 5  # d × k
_SKETCH_COPIES: Final = 8  # d × m
_LESS: Final = "algorithm_mode=randomized needs less"


class Components(NamedTuple):
    """What is found at the end."""

    s: Array  # (k,) float32, singular values of the centred rows
    v: Array  # (d, k) float32, the components as columns
    mean: Array  # (1, d) float32; zero where none is to be subtracted
    variance: float  # sum of the squared distances of all rows from their mean


class _Sums:
    """Number and sum of the rows; whoever inherits sums what the components come from.

    Rows far from zero are seen from a point among them, as float32 would lose what tells them apart.
    """

    def __init__(self, d: int, k: int, *, subtract_mean: bool) -> None:
        self.d, self.k = d, k
        self.subtract_mean = subtract_mean
        self.count = 0
        self.sum = np.zeros(d)
        self.offset: Array | None = None  # (d,) float32
        self._held: list[Batch] = []
        self._rows_held = 0
        self._store = np.empty((0, d), np.float32)
        self._block = _BLOCK

    def _hold(self, features: Array | CSR) -> None:
        if len(features):
            self._held.append(Batch(features))
            self._rows_held += len(features)

    def _taken(self) -> Array | CSR:
        """All rows that are held, together."""
        held, rows = self._held, self._rows_held
        self._held, self._rows_held = [], 0
        if len(held) == 1 or any(isinstance(batch.features, CSR) for batch in held):
            return held[0].features if len(held) == 1 else concatenate(held).features
        return np.concatenate([batch.dense() for batch in held], out=self._room(rows))

    def _room(self, rows: int) -> Array:
        """Memory for so many rows, which is kept: the system takes longer to give it than it takes to fill it."""
        if len(self._store) < rows:
            self._store = np.empty((rows, self.d), np.float32)
        return self._store[:rows]

    def _blocks(self) -> Iterator[Array | CSR]:
        """The rows that are held, as seen from the offset, in parts of one size, each about a block."""
        rows = self._taken()
        if self.subtract_mean and not self.count:  # the first rows decide
            self.offset = far_mean(rows[:_FIRST], _FAR)
        self.count += len(rows)
        step = -(-len(rows) // max(1, round(len(rows) / self._block)))
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            yield block if self.offset is None else less(block, self.offset)

    def _centre(self, sums: Array, squares: float, rows: int) -> Array | None:
        """Mean of some rows, float32, where they are so far from zero that they have to be seen from there."""
        if not self.subtract_mean:
            return None
        mean = sums / rows
        near = _FAR * max(squares / rows - float(mean @ mean), 0.0)
        return mean.astype(np.float32) if float(mean @ mean) > near else None

    @property
    def _mean(self) -> Array:
        """Mean of the rows as seen from the offset, float64, shape (d,); zero where none is to be subtracted."""
        return self.sum / self.count if self.subtract_mean else np.zeros(self.d)

    def _found(self, squares: Array, v: Array, variance: float) -> Components:
        """The components with the squares of their singular values."""
        return _components(squares, v, self._mean if self.offset is None else self._mean + self.offset, variance)


def _components(squares: Array, v: Array, mean: Array, variance: float) -> Components:
    s = np.sqrt(np.maximum(squares, 0))  # of components without variance, rounding leaves either sign
    if not s.max() <= np.finfo(np.float32).max:
        raise _too_large()
    return Components(s.astype(np.float32), v.astype(np.float32), mean.astype(np.float32)[None], variance)


def _sum(rows: Array) -> Array:
    """Sum of rows of shape (n, c), float64, shape (c,)."""
    total: Array = (np.ones(len(rows), np.float32) @ rows).astype(np.float64)
    return total


class Outer(_Sums):
    """The sum of the rows' outer products, float64, shape (d, d); few rows are kept themselves.

    Parameters
    ----------
    d, k
        Numbers of columns and of components.
    subtract_mean
        Whether the components are those of the rows less their mean.

    Examples
    --------
    >>> outer = Outer(2, 1)
    >>> outer.add(np.array([[1, 3], [2, 5], [3, 7]], np.float32))
    >>> found = outer.solve()
    >>> found.s.round(4).tolist(), round(found.variance, 6)
    ([3.1623], 10.0)
    """

    def __init__(self, d: int, k: int, *, subtract_mean: bool = True) -> None:
        super().__init__(d, k, subtract_mean=subtract_mean)
        self._products: Array | None = None  # (d, d)
        if native.kernels is not None:
            self._block = _NATIVE_BLOCK

    def add(self, features: Array | CSR) -> None:
        """Take some rows of shape (n, d), and keep them until there are enough for a fast product."""
        self._hold(features)
        if self._rows_held >= max(self._block, self.d // 2):
            self._multiply()
        elif self._products is None and not isinstance(features, CSR) and 4 * self._rows_held * self.d > _BLOCK_BYTES:
            self._check_few(self.d)

    def solve(self) -> Components:
        """The components, ascending and with the signs that LAPACK gives them, and the total variance times n."""
        if self._products is None and self._rows_held < self.d // 2:
            return self._solve_few()
        self._multiply()
        assert self._products is not None  # noqa: S101  # there are rows
        if not np.isfinite(self._products).all():
            raise _too_large()
        scatter = self._products - self.count * np.outer(self._mean, self._mean)
        squares, v = np.linalg.eigh(scatter)
        return self._found(squares[-self.k :], v[:, -self.k :], float(np.trace(scatter)))

    def _multiply(self) -> None:
        """Add the products of the rows that are held."""
        if not self._held:
            return
        if self._products is None:
            _check_memory(_REGULAR_COPIES * 8 * self.d**2, _LESS)
            self._products = np.zeros((self.d, self.d))
        with np.errstate(over="ignore", invalid="ignore"):  # `solve` tells
            for piece in self._pieces():
                with threads_for(piece.rows.size * piece.rows.shape[1]):
                    self._add_product(piece)

    def _add_product(self, piece: Piece) -> None:
        """Add the outer products of a block's rows; x = c + z for rows far from zero, of which float32 sees z."""
        part, sums = piece.rows.T @ piece.rows, _sum(piece.rows)
        centre = self._centre(sums, float(np.trace(part, dtype=np.float64)), len(piece.rows))
        if centre is not None:
            rows = piece.rows - centre
            rest, wide = _sum(rows), centre.astype(np.float64)
            cross = np.outer(wide, rest + len(rows) / 2 * wide)
            part = (rows.T @ rows) + cross + cross.T
            sums = rest + len(rows) * wide
        piece.add(self.sum[None], sums[None])
        assert self._products is not None  # noqa: S101  # whoever calls has made them
        _add_at(self._products, part, piece.columns)

    def _pieces(self) -> Iterator[Piece]:
        """The rows that are held, in blocks, each in the columns where any row has a value."""
        parts = [batch.features for batch in self._held]
        rows = self._rows_held
        if (
            self.offset is not None
            or not self.count
            or rows > 2 * self._block
            or any(isinstance(part, CSR) for part in parts)
        ):
            yield from map(compact, self._blocks())
            return
        self._held, self._rows_held = [], 0
        self.count += rows
        yield gathered([dense(part) for part in parts], self._room(rows))

    def _solve_few(self) -> Components:
        """The components of few rows: singular vectors, in the columns where any row has a value."""
        rows = self._taken()
        self._hold(rows)  # there may be more to come
        self._check_few(len(np.unique(rows.indices)) if isinstance(rows, CSR) else self.d)
        piece = compact(rows)
        columns = np.arange(self.d) if piece.columns is None else np.union1d(piece.columns, np.arange(self.k))
        x = np.zeros((len(rows), len(columns)))
        x[:, slice(None) if piece.columns is None else np.searchsorted(columns, piece.columns)] = piece.rows
        mean, v = np.zeros(self.d), np.zeros((self.d, self.k))
        if self.subtract_mean:
            mean[columns] = x.mean(axis=0)
            x -= mean[columns]
        squares, v[columns] = _singular_vectors(x, self.k)
        return _components(squares, v, mean, float(np.einsum("ij,ij->", x, x)))

    def _check_few(self, columns: int) -> None:
        """Whether there is memory for the singular vectors of what is held; so few rows need less than the sums."""
        n = self._rows_held
        if n < self.d // 2:
            numbers = 2 * n * columns + _REGULAR_COPIES * min(n, columns) ** 2 + _VECTORS_COPIES * columns * self.k
            _check_memory(8 * numbers, _LESS)


def _singular_vectors(x: Array, k: int) -> tuple[Array, Array]:
    """The k largest singular values of x (n, c), squared and ascending, and the right singular vectors, (c, k)."""
    n, c = x.shape
    if n >= c:
        squares, v = np.linalg.eigh(x.T @ x)
        return squares[-k:], v[:, -k:]
    squares, u = np.linalg.eigh(x @ x.T)
    most = min(n, k)
    y = np.zeros((c, k))
    y[:, :most] = x.T @ u[:, : -most - 1 : -1]
    q, r = np.linalg.qr(y)  # orthonormal where singular values are zero, or there are fewer rows than components
    v = q * np.where(np.diag(r) < 0, -1, 1)
    return np.pad(squares[-most:], (k - most, 0)), v[:, ::-1]


def _add_at(products: Array, part: Array, columns: Array | None) -> None:
    """Add a part to the d × d sums, at these rows and columns; None for all."""
    d = len(products)
    if columns is None:
        products += part
    elif native.kernels is not None and part.dtype == np.float32 and part.flags.c_contiguous:
        native.kernels.products_added(part, columns, products, d)
    elif len(columns) < d // 3:
        products[np.ix_(columns, columns)] += part
    else:  # adding to chosen places one by one would take longer than spreading the part over all
        spread = np.zeros((len(columns) + 1,) * 2, part.dtype)
        spread[:-1, :-1] = part
        place = np.full(d, len(columns))
        place[columns] = np.arange(len(columns))
        products += spread.take(place, axis=1).take(place, axis=0)


class Sketch(_Sums):
    """The product of the sum of outer products with a random orthonormal matrix, float64, shape (d, m).

    Parameters
    ----------
    d, k
        Numbers of columns and of components.
    m
        Columns of the random matrix, k at least and d at most; more are more exact.
    subtract_mean
        Whether the components are those of the rows less their mean.

    Examples
    --------
    >>> sketch = Sketch(2, 1, 2)
    >>> sketch.add(np.array([[1, 3], [2, 5], [3, 7]], np.float32))
    >>> found = sketch.solve()
    >>> found.s.round(3).tolist(), round(found.variance, 4)
    ([3.162], 10.0)
    """

    def __init__(self, d: int, k: int, m: int, *, subtract_mean: bool = True) -> None:
        super().__init__(d, k, subtract_mean=subtract_mean)
        _check_memory(_SKETCH_COPIES * 8 * d * m, "lower num_components or extra_components")
        normal = np.random.default_rng(_SEED).standard_normal((d, m))
        self._random = np.linalg.qr(normal)[0].T.astype(np.float32)  # (m, d)
        self._products = np.zeros((m, d))
        self._squares = 0.0

    def add(self, features: Array | CSR) -> None:
        """Take some rows of shape (n, d), and keep them until there are enough for a fast product."""
        self._hold(features)
        if self._rows_held >= min(_BLOCK, max(len(self._random), _BLOCK_BYTES // (4 * self.d))):
            self._multiply()

    def _multiply(self) -> None:
        if not self._held:
            return
        with np.errstate(over="ignore", invalid="ignore"):  # `solve` tells
            for piece in (piece for block in self._blocks() for piece in pieces(block, len(self._random))):
                with threads_for(piece.rows.size * len(self._random)):
                    self._add_product(piece)

    def _add_product(self, piece: Piece) -> None:
        """Add the products of some rows; x = c + z for rows far from zero, of which float32 sees z."""
        rows, random = piece.rows, piece.of(self._random)  # (n, some), (m, some)
        sums, squares = _sum(rows), _sum_of_squares(rows)
        if (centre := self._centre(sums, squares, len(rows))) is None:
            part = (rows @ random.T).T @ rows  # (m, some)
        else:
            rows = rows - centre
            rest, wide, count = _sum(rows), centre.astype(np.float64), len(rows)
            part = (rows @ random.T).T @ rows + np.outer(random @ wide, rest + count * wide)
            part += np.outer(random @ rest, wide)
            sums = rest + count * wide
            squares = _sum_of_squares(rows) + float(wide @ (2 * rest + count * wide))
        piece.add(self._products, part)
        piece.add(self.sum[None], sums[None])
        self._squares += squares

    def solve(self) -> Components:
        """The components, descending, and the total variance times n."""
        self._multiply()
        if not np.isfinite(self._products).all():
            raise _too_large()
        omega, mean = self._random.astype(np.float64).T, self._mean  # (d, m), (d,)
        y = self._products.T - self.count * np.outer(mean, mean @ omega)  # (d, m)
        core = omega.T @ y  # (m, m)
        # Above the rounding errors, so that all eigenvalues below are positive; those of y itself would be too much,
        # as of many columns core sees few.
        shift = max(np.finfo(np.float32).eps * float(np.linalg.norm(core)), np.finfo(np.float32).tiny)
        y += shift * omega
        squares, w = np.linalg.eigh((core + core.T) / 2 + shift * np.eye(len(core)))
        u, sigma, _ = np.linalg.svd(y @ (w / np.sqrt(np.maximum(squares, shift))), full_matrices=False)
        variance = self._squares - self.count * float(mean @ mean)
        return self._found(np.square(sigma[: self.k]) - shift, u[:, : self.k], variance)


def _sum_of_squares(rows: Array) -> float:
    return float(np.einsum("ij,ij->i", rows, rows).sum(dtype=np.float64))


def _check_memory(needed: int, advice: str) -> None:
    if needed > (available := available_memory()):
        raise UserError(f"not enough memory: about {needed} bytes are needed, {available} are available: {advice}")


def _too_large() -> ChannelError:
    return ChannelError("the numbers of the channel 'train' are too large: their squares overflow float32")
