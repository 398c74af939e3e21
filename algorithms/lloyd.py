"""Rows and their closest centres: the arithmetic of k-means, without data channels or hyperparameters.

References
----------
.. [1] S. Lloyd, "Least Squares Quantization in PCM", IEEE Transactions on Information Theory 28, 1982.
.. [2] D. Arthur, S. Vassilvitskii, "k-means++: The Advantages of Careful Seeding", SODA 2007.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..recordio.batch import Array

__all__ = [
    "exact_distances",
    "group_sums",
    "kmeans_plus_plus",
    "lloyd",
    "nearest_centres",
    "never",
    "squared_norms",
    "weighted_mean",
]


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
    chosen = [int(rng.choice(len(points), p=weights / weights.sum()))]
    nearest = np.full(len(points), np.inf)
    while len(chosen) < k:
        if stopping():
            rest = np.setdiff1d(np.arange(len(points)), chosen)
            chosen += rng.choice(rest, k - len(chosen), replace=False).tolist()
            break
        last = chosen[-1]
        nearest = np.minimum(nearest, squares - 2 * (near @ near[last]) + squares[last])
        nearest[chosen] = 0
        mass = np.maximum(nearest, 0) * weights
        if not mass.sum() > 0:  # fewer than k different points: any of those left
            mass = np.ones(len(points))
            mass[chosen] = 0
        chosen.append(int(rng.choice(len(points), p=mass / mass.sum())))
    picked: Array = points[chosen]
    return picked


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
    faster than the product with a one-hot matrix.

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
    sums = np.zeros((k, rows.shape[1]), rows.dtype)
    order = labels.argsort(kind="stable")
    weights = np.ones(len(rows), rows.dtype) if weights is None else weights[order]
    ends = np.bincount(labels, minlength=k).cumsum()
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
        scores = rows @ centres.T  # (n, k)
        scores *= -2
        scores += squared_norms(centres) if norms is None else norms
        labels = scores.argmin(axis=1)
        squared = np.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
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
