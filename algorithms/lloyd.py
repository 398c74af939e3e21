"""Rows and their closest centres: the arithmetic of k-means, without data channels or hyperparameters.

References
----------
.. [1] S. Lloyd, "Least Squares Quantization in PCM", IEEE Transactions on Information Theory 28, 1982.
.. [2] D. Arthur, S. Vassilvitskii, "k-means++: The Advantages of Careful Seeding", SODA 2007.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from .. import native
from ..recordio.batch import Array
from .blas import product, threads_for
from .rows import Piece, recentred

__all__ = [
    "Centres",
    "exact_distances",
    "group_sums",
    "kmeans_plus_plus",
    "lloyd",
    "nearest_centres",
    "never",
    "spanned",
    "squared_norms",
    "weighted_mean",
]


_SMALL: Final = 1 << 20  # multiplications of a product with a one-hot matrix, up to which it is faster than gathering
_LANES: Final = 8  # centres side by side for the kernel: see native/kmeans.c
_MOST_VECTORS: Final = 13  # of so many centres in a tile
_FEW: Final = 8  # rows that the kernel takes as they are
_LOOKED_AT: Final = 64  # rows that tell how many numbers are zero
_NOTHING: Final = np.empty(0)
_MOSTLY: Final = 0.5  # share of numbers that are not zero, from which a matrix product is faster


@dataclass(frozen=True)
class Centres:
    """Centres that rows are compared to, and what is the same for all rows.

    Parameters
    ----------
    offset
        Where rows and centres are seen from, float32, shape (d,); None for zero.
    seen
        The centres as seen from there, float32, shape (k, d).

    Examples
    --------
    >>> centres = Centres.of(np.array([[0, 0], [8, 0]], np.float32))
    >>> sums, counts = np.zeros((2, 2)), np.zeros(2)
    >>> [found.tolist() for found in centres.assign(Piece(np.array([[1, 2], [9, 0]], np.float32), None), sums, counts)]
    [[0, 1], [5.0, 1.0]]
    >>> sums.tolist(), counts.tolist()
    ([[1.0, 2.0], [9.0, 0.0]], [1.0, 1.0])
    """

    offset: Array | None
    seen: Array

    @classmethod
    def of(cls, centres: Array) -> Centres:
        """Centres of shape (k, d), seen from where their squares tell them apart."""
        offset, seen = recentred(centres)
        return cls(offset, np.ascontiguousarray(seen))

    def __len__(self) -> int:
        return len(self.seen)

    @cached_property
    def norms(self) -> Array:
        """Their squared norms, shape (k,)."""
        return squared_norms(self.seen)

    @cached_property
    def _rows(self) -> Array:
        return np.ascontiguousarray(self.seen)

    @cached_property
    def _tiles(self) -> Array | None:
        """The centres as the kernel takes them, of shape (tiles, d, centres of a tile); None where it does not."""
        k, d = self.seen.shape
        if self.seen.dtype != np.float32 or not np.isfinite(self.norms).all():
            return None
        tiles = -(-k // (_LANES * _MOST_VECTORS))
        width = -(-k // (_LANES * tiles)) * _LANES
        tiles = -(-k // width)
        padded = np.zeros((tiles * width, d), np.float32)
        padded[:k] = self.seen
        return np.ascontiguousarray(padded.reshape(tiles, width, d).transpose(0, 2, 1))

    def assign(self, piece: Piece, sums: Array | None = None, counts: Array | None = None) -> tuple[Array, Array]:
        """Closest centre of each row and the squared distance, as `nearest_centres` tells them.

        Parameters
        ----------
        piece
            Rows as seen from the offset.
        sums, counts
            Where to add the rows, and their number, at their closest centres: float64, shapes (k, d) and (k,).
        """
        rows = piece.rows
        if self._compiled(piece) and _suits(rows) and (tiles := self._tiles) is not None:
            labels, squared = np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
            added = (_NOTHING, _NOTHING) if sums is None else (sums, counts)
            native.kernels.kmeans_assign(rows, tiles, self.norms, labels, squared, *added, *tiles.shape[1:])
            return labels, squared
        labels, squared = nearest_centres(rows, piece.of(self.seen), self.norms)
        if sums is not None and counts is not None:
            piece.add(sums, group_sums(rows, labels, len(self)))
            counts += np.bincount(labels, minlength=len(self))
        return labels, squared

    def answers(self, rows: Array) -> tuple[Array, Array] | None:
        """Numbers of the closest centres and the distances to them, both float32; None unless a kernel takes the rows.

        These are few, and seen from zero.
        """
        if len(rows) > _FEW or not self._compiled(Piece(rows, None)) or (tiles := self._tiles) is None:
            return None
        if self.offset is not None:
            rows = rows - self.offset
        closest, distances = np.empty((2, len(rows)), np.float32)
        arrays = rows, tiles, self.norms, self._rows, closest, distances
        native.kernels.kmeans_answers(*arrays, *tiles.shape[1:])
        return closest, distances

    def distances(self, piece: Piece, labels: Array) -> Array:
        """Squared distance of each row to its centre: no cancellation, shape (n,)."""
        rows = piece.rows
        if self._compiled(piece):
            squared = np.empty(len(rows), np.float32)
            native.kernels.kmeans_distances(rows, self._rows, labels, squared, rows.shape[1])
            return squared
        part = piece.of(self.seen)
        squared = exact_distances(rows, part, labels)
        if piece.columns is not None:  # in the other columns these rows are zero, the centres are not
            squared += np.maximum(self.norms - squared_norms(part), 0)[labels]
        return squared

    def _compiled(self, piece: Piece) -> bool:
        """Whether kernels can take the rows: they see no shapes, so rows of another width are the twin's to refuse."""
        rows = piece.rows
        return (
            native.kernels is not None
            and piece.columns is None
            and rows.dtype == self.seen.dtype == np.float32
            and rows.shape[1] == self.seen.shape[1]
            and bool(rows.flags.c_contiguous and rows.flags.aligned)
        )


def _suits(rows: Array) -> bool:
    """Whether the kernel is quick with the rows: those that are mostly zeros, which it leaves out, or few."""
    some = rows[:_LOOKED_AT]
    return len(rows) <= _FEW or int(np.count_nonzero(some)) <= _MOSTLY * some.size


def never() -> bool:
    """Do not stop."""
    return False


def kmeans_plus_plus(
    points: Array, weights: Array, k: int, rng: np.random.Generator, stopping: Callable[[], bool] = never
) -> Array:
    """Choose k starting centres, each with probability ∝ weight × squared distance to those chosen before.

    Parameters
    ----------
    points
        Shape (n, d), n ≥ k.
    weights
        Shape (n,).
    stopping
        Tells when to choose the rest without looking at distances.
    """
    near = points - points.mean(axis=0)  # squares of numbers far from zero would drown the distances
    squares = np.einsum("ij,ij->i", near, near)  # (n,)
    chosen = [_drawn(weights, rng)]
    nearest = np.full(len(points), np.inf)
    while len(chosen) < k:
        if stopping():
            rest = np.setdiff1d(np.arange(len(points)), chosen)
            chosen += rng.choice(rest, k - len(chosen), replace=False).tolist()
            break
        last = chosen[-1]
        nearest = np.minimum(nearest, squares - 2 * product(near, near[last]) + squares[last])
        nearest[chosen] = 0
        mass = np.maximum(nearest, 0) * weights
        if not mass.sum() > 0:  # fewer than k different points: any of those left
            mass = np.ones(len(points))
            mass[chosen] = 0
        chosen.append(_drawn(mass, rng))
    picked: Array = points[chosen]
    return picked


def _drawn(mass: Array, rng: np.random.Generator) -> int:
    """The number that ``rng.choice`` draws with these probabilities, but for a factor, without its checks."""
    borders = (mass / mass.sum()).cumsum(dtype=np.float64)
    return int((borders / borders[-1]).searchsorted(rng.random(), side="right"))


def spanned(points: Array) -> tuple[Array, Callable[[Array], Array]]:
    """Points of shape (n, d) in coordinates of the space that they span, and the way back.

    Fewer points than columns are as far from one another in as many coordinates as there are points.
    """
    if len(points) >= points.shape[1]:
        return points, lambda found: found
    mean = points.mean(axis=0)
    axes, coordinates = np.linalg.qr((points - mean).T)
    return np.ascontiguousarray(coordinates.T), lambda found: found @ axes.T + mean


def lloyd(
    points: Array,
    weights: Array,
    centres: Array,
    most: int,
    tolerance: float,
    stopping: Callable[[], bool] = never,
) -> tuple[Array, float]:
    """Weighted Lloyd iterations.

    Parameters
    ----------
    points, weights
        Shapes (n, d) and (n,).
    centres
        Where to start, shape (k, d); a centre that loses all points stays where it is.
    most
        Most iterations.
    tolerance
        Relative improvement of the loss below which they end.
    stopping
        Tells when to end early.

    Returns
    -------
    centres
        Shape (k, d).
    msd
        Weighted mean squared distance to them.

    Examples
    --------
    >>> points = np.array([[0.], [1.], [9.]])
    >>> lloyd(points, np.array([1., 3., 1.]), points[:2], most=10, tolerance=0)
    (array([[0.75],
           [9.  ]]), 0.15)
    """
    k, before = len(centres), np.inf
    labels, nearest = nearest_centres(points, centres)
    for _ in range(most):
        mass = np.bincount(labels, weights, minlength=k)[:, None]
        means = group_sums(points, labels, k, weights) / np.maximum(mass, np.finfo(float).tiny)
        centres = np.where(mass > 0, means, centres)
        labels, nearest = nearest_centres(points, centres)
        msd = float(nearest @ weights / weights.sum())
        if before - msd <= tolerance * msd or stopping():
            break
        before = msd
    return centres, weighted_mean(exact_distances(points, centres, labels), weights)


def group_sums(rows: Array, labels: Array, k: int, weights: Array | None = None) -> Array:
    """Sum of the rows of each label.

    Rows of one label are gathered and summed by one vector-matrix product; for the sizes here that is several times
    faster than the product with a one-hot matrix, unless that is small.

    Parameters
    ----------
    rows
        Shape (n, d).
    labels
        Integers below k, shape (n,).
    weights
        Of the rows, shape (n,); all ones by default.

    Returns
    -------
    sums
        Shape (k, d), of the rows' dtype.
    """
    if k * rows.size <= _SMALL:
        one_hot = np.zeros((k, len(rows)), rows.dtype)
        one_hot[labels, np.arange(len(rows))] = 1 if weights is None else weights
        return product(one_hot, rows)
    sums = np.zeros((k, rows.shape[1]), rows.dtype)
    order = labels.argsort(kind="stable")
    weights = np.ones(len(rows), rows.dtype) if weights is None else weights[order]
    ends = np.bincount(labels, minlength=k).cumsum()
    with threads_for(rows.size):
        for label in np.flatnonzero(np.diff(ends, prepend=0)).tolist():
            start, end = (ends[label - 1] if label else 0), ends[label]
            np.dot(weights[start:end], rows[order[start:end]], out=sums[label])
    return sums


def squared_norms(rows: Array) -> Array:
    """Squared distance of each row from zero, shape (n,)."""
    squares: Array = np.einsum("ij,ij->i", rows, rows)
    return squares


def nearest_centres(rows: Array, centres: Array, norms: Array | None = None) -> tuple[Array, Array]:
    """Closest centre of each row and the squared distance, by one matrix product.

    Parameters
    ----------
    rows, centres
        Shapes (n, d) and (k, d), of one dtype.
    norms
        Squared norms of the centres, shape (k,), where they have more columns than are given here.

    Returns
    -------
    labels, squared
        Both of shape (n,); a distance is exact up to the rounding of the squared norms.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # the distances tell
        scores = product(rows, centres.T)  # (n, k)
        scores *= -2
        scores += squared_norms(centres) if norms is None else norms
        labels = scores.argmin(axis=1)
        squared = scores[np.arange(len(rows)), labels]
        squared += squared_norms(rows)
    return labels, np.maximum(squared, 0)


def exact_distances(rows: Array, centres: Array, labels: Array) -> Array:
    """Squared distance of each row to its centre, from the differences: no cancellation, shape (n,)."""
    differences = rows - centres[labels]
    squared: Array = np.einsum("ij,ij->i", differences, differences)
    return squared


def weighted_mean(values: Array, weights: Array) -> float:
    """Mean of the values, each as often as its weight says."""
    return float(values @ weights / weights.sum())
