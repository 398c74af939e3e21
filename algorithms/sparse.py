"""Products with sparse rows: pure functions over the arrays of a `CSR`, for which compiled kernels may stand in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from ..recordio.batch import CSR, Array

__all__ = ["merged", "narrowed", "times", "transposed"]

_WIDE: Final = 64  # columns for each value of a mini-batch, from which sorting is faster than a table of all columns


def merged(rows: CSR) -> CSR:
    """The same rows with columns in order, and values that share a place added: their squares would not add up."""
    places = rows.row_of * rows.shape[1] + rows.indices
    if (places[1:] > places[:-1]).all():
        return rows
    places, inverse = np.unique(places, return_inverse=True)
    values = np.bincount(inverse, rows.values).astype(rows.dtype)
    owners, columns = np.divmod(places, rows.shape[1])
    return CSR(_borders(owners, len(rows)), columns, values, rows.shape)


def narrowed(rows: CSR) -> tuple[Array | None, CSR]:
    """The columns with values, None for all, and the rows in them alone."""
    n, width = rows.shape
    if width > _WIDE * len(rows.indices):
        columns, places = np.unique(rows.indices, return_inverse=True)
    else:
        has = np.zeros(width, bool)
        has[rows.indices] = True
        columns = np.flatnonzero(has)
        if len(columns) == width:
            return None, rows
        numbers = np.empty(width, np.int64)
        numbers[columns] = np.arange(len(columns))
        places = numbers[rows.indices]
    return columns, CSR(rows.indptr, places, rows.values, (n, len(columns)))


def transposed(rows: Array | CSR) -> Array | CSR:
    """The rows as columns, shape (c, n)."""
    if not isinstance(rows, CSR):
        return rows.T
    order = rows.indices.argsort(kind="stable")
    borders = _borders(rows.indices, rows.shape[1])
    return CSR(borders, rows.row_of[order], rows.values[order], (rows.shape[1], len(rows)))


def times(rows: Array | CSR, matrix: Array) -> Array:
    """Rows times a matrix of shape (c, k), or a vector; shape (n, k) or (n,).

    Examples
    --------
    >>> rows = CSR.from_dense(np.array([[0., 2.], [0., 0.], [1., 3.]]))
    >>> times(rows, np.array([10., 1.])).tolist()
    [2.0, 0.0, 13.0]
    >>> times(transposed(rows), np.ones(3)).tolist()
    [1.0, 5.0]
    """
    if not isinstance(rows, CSR):
        product: Array = rows @ matrix
        return product
    columns = matrix if matrix.ndim == 2 else matrix[:, None]
    sums = np.zeros((len(rows), columns.shape[1]), np.result_type(rows.values, matrix))
    counts = np.diff(rows.indptr)
    for some, most in _alike(counts):  # by far faster than np.add.reduceat
        each = np.arange(most)
        places = rows.indptr[some][:, None] + each  # (m, most)
        inside = each < counts[some][:, None]
        places *= inside
        values = rows.values[places] * inside
        sums[some] = np.matmul(values[:, None], columns[rows.indices[places]])[:, 0]
    return sums if matrix.ndim == 2 else sums[:, 0]


def _borders(numbers: Array, count: int) -> Array:
    """Where in sorted numbers below `count` each begins, and the end, shape (count + 1,)."""
    borders = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(numbers, minlength=count), out=borders[1:])
    return borders


def _alike(counts: Array) -> Iterator[tuple[Array, int]]:
    """Numbers of the rows that have nearly as many values, and the most that one of them has; no empty rows."""
    least = 1
    while (left := counts[counts >= least]).size:
        least = int(left.min())
        end = least + least // 2
        some = np.flatnonzero((counts >= least) & (counts <= end))
        yield some, int(counts[some].max())
        least = end + 1
