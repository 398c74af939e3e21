"""Products with sparse rows: pure functions over the arrays of a `CSR`, with compiled kernels and their NumPy twins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeGuard

import numpy as np

from .. import native
from ..recordio.batch import CSR, Array
from .blas import product

__all__ = ["buffers", "compiled", "merged", "narrowed", "times", "transposed_times"]

_LARGEST: Final = np.iinfo(np.int64).max
_WIDE: Final = 64  # columns for each value of a mini-batch, from which sorting is faster than a table of all columns


def merged(rows: CSR) -> CSR:
    """The same rows with columns in order, and values that share a place added: their squares would not add up."""
    if compiled(rows) and native.kernels.csr_ordered(*buffers(rows)[:2]):
        return rows
    n, width = rows.shape
    if n * width > _LARGEST:  # places would not fit into int64: those among the columns with values do
        columns, few = np.unique(rows.indices, return_inverse=True)
        narrow = merged(CSR(rows.indptr, few, rows.values, (n, len(columns))))
        return CSR(narrow.indptr, columns[narrow.indices], narrow.values, rows.shape)
    places = rows.row_of * width + rows.indices
    if (places[1:] > places[:-1]).all():
        return rows
    places, inverse = np.unique(places, return_inverse=True)
    values = np.bincount(inverse, rows.values).astype(rows.dtype)
    owners, columns = np.divmod(places, width)
    return CSR(_borders(owners, len(rows)), columns, values, rows.shape)


def narrowed(rows: CSR) -> tuple[Array | None, CSR]:
    """The columns with values, None for all, and the rows in them alone."""
    n, width = rows.shape
    if width > _WIDE * len(rows.indices):
        columns, places = np.unique(rows.indices, return_inverse=True)
    elif compiled(rows):
        size = len(rows.indices)
        columns, places = np.empty(min(width, size), np.int64), np.empty(size, np.int64)
        columns = columns[: native.kernels.csr_narrowed(buffers(rows)[1], columns, places, width)]
        if len(columns) == width:
            return None, rows
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


def compiled(rows: Array | CSR) -> TypeGuard[CSR]:
    """Whether kernels multiply the rows: sparse ones of float32."""
    return (
        native.kernels is not None
        and isinstance(rows, CSR)
        and rows.values.dtype == np.float32
        and rows.indices.dtype == rows.indptr.dtype == np.int64
    )


def buffers(rows: CSR) -> tuple[Array, Array, Array]:
    """The arrays of the rows as kernels take them; those that CSR.from_dense makes lie apart."""
    return np.ascontiguousarray(rows.indptr), np.ascontiguousarray(rows.indices), np.ascontiguousarray(rows.values)


def _transposed(rows: CSR) -> CSR:
    """The rows as columns, shape (c, n)."""
    order = rows.indices.argsort(kind="stable")
    borders = _borders(rows.indices, rows.shape[1])
    return CSR(borders, rows.row_of[order], rows.values[order], (rows.shape[1], len(rows)))


def times(rows: Array | CSR, matrix: Array, first: Array | None = None) -> Array:
    """Rows times a matrix of shape (c, k), or a vector; shape (n, k) or (n,).

    Parameters
    ----------
    rows, matrix
        What is multiplied.
    first
        Numbers to add to every row of the product, of its dtype and of k of them in all.

    Examples
    --------
    >>> rows = CSR.from_dense(np.array([[0., 2.], [0., 0.], [1., 3.]]))
    >>> times(rows, np.array([10., 1.])).tolist()
    [2.0, 0.0, 13.0]
    """
    alike = matrix.dtype == np.float32 and (first is None or first.dtype == np.float32)
    if compiled(rows) and alike and matrix.size:
        out = np.empty((len(rows), *matrix.shape[1:]), np.float32)
        begun = np.zeros(matrix[0].size, np.float32) if first is None else np.ascontiguousarray(first)
        matrix = np.ascontiguousarray(matrix)
        native.kernels.csr_times(*buffers(rows), matrix, begun, out)
        return out
    found = _times(rows, matrix) if isinstance(rows, CSR) else product(rows, matrix)
    if first is not None:
        found += first
    return found


def _times(rows: CSR, matrix: Array) -> Array:
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


def transposed_times(rows: Array | CSR, matrix: Array) -> Array:
    """The transposed rows times a matrix of shape (n, k), or a vector; shape (c, k) or (c,).

    Examples
    --------
    >>> transposed_times(CSR.from_dense(np.array([[0., 2.], [0., 0.], [1., 3.]])), np.ones(3)).tolist()
    [1.0, 5.0]
    """
    if not isinstance(rows, CSR):
        return product(rows.T, matrix)
    if compiled(rows) and matrix.dtype == np.float32 and matrix.size:
        out = np.empty((rows.shape[1], *matrix.shape[1:]), np.float32)
        matrix = np.ascontiguousarray(matrix)
        native.kernels.csr_transposed_times(*buffers(rows), matrix, out, matrix[0].size)
        return out
    return _times(_transposed(rows), matrix)


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
