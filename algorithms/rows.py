"""Rows on their way into arithmetic: dense, in pieces that fit a cache, seen from where they are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeGuard

import numpy as np

from .. import native
from ..recordio.batch import CSR, Array

__all__ = ["Piece", "compact", "dense", "far_mean", "few", "gathered", "less", "pieces", "recentred"]

_CHUNK_BYTES: Final = 16 << 20  # of rows made dense, or of distances, at a time
_FEW: Final = 1 << 14  # numbers of rows that are not worth being looked at first
_MOSTLY: Final = 0.95  # share of columns with values, from which leaving out the others is not worth it
_FAR: Final = 100.0  # squared distance of the mean from zero, in units of the variance, that costs digits


class Piece(NamedTuple):
    """Some rows made dense, in the columns where any of them has a value."""

    rows: Array  # (m, d), or (m, some)
    columns: Array | None  # (some,); None for all d

    def of(self, array: Array) -> Array:
        """These columns of an array of shape (k, d)."""
        return array if self.columns is None else array[:, self.columns]

    def add(self, sums: Array, part: Array) -> None:
        """Add to these columns of an array of shape (k, d)."""
        if self.columns is None:
            sums += part
        else:
            sums[:, self.columns] += part


def pieces(features: Array | CSR, centres: int, offset: Array | None = None) -> Iterator[Piece]:
    """The rows in dense pieces, seen from `offset`, bounded in the bytes of rows and of distances to the centres.

    Rows of a wide sparse matrix have values in few columns; the others are left out.
    """
    if isinstance(features, CSR) and offset is None:
        each = max(1, len(features.indices) // max(1, len(features)))  # values of a row
        step = max(1, math.isqrt(_CHUNK_BYTES // (4 * each)))
        if features.shape[1] > 4 * step * each:
            for start in range(0, max(1, len(features)), step):
                yield compact(features[start : start + step])
            return
    width = int(features.shape[1]) if isinstance(features, CSR) or offset is not None else 1
    step = max(1, _CHUNK_BYTES // (4 * max(centres, width)))
    for start in range(0, max(1, len(features)), step):  # no rows are one empty piece
        rows = dense(features[start : start + step])
        yield Piece(rows if offset is None else rows - offset, None)


def few(features: Array | CSR) -> TypeGuard[Array]:
    """Whether the rows are dense and so few that they would be one piece: those of most requests."""
    return isinstance(features, np.ndarray) and 0 < features.size <= _FEW


def compact(features: Array | CSR) -> Piece:
    """The rows made dense, in the columns where any of them has a value."""
    if isinstance(features, CSR):
        columns, places = np.unique(features.indices, return_inverse=True)
        narrow = (len(features), len(columns))
        return Piece(CSR(features.indptr, places, features.values, narrow).toarray(), columns)
    return gathered([features], np.empty(0, features.dtype))


def gathered(parts: Sequence[Array], store: Array) -> Piece:
    """Dense mini-batches as one piece, in the columns where any row has a value.

    Numbers are copied but once: to `store` where it is large enough and of their dtype.
    """
    rows, d = sum(map(len, parts)), parts[0].shape[1]
    columns = np.flatnonzero(np.logical_or.reduce([_used(part) for part in parts]))
    whole = len(columns) > _MOSTLY * d
    if whole and len(parts) == 1:
        return Piece(parts[0], None)
    shape = rows, d if whole else len(columns)
    size = shape[0] * shape[1]
    fits = store.size >= size and store.dtype == parts[0].dtype
    block = (store.reshape(-1)[:size] if fits else np.empty(size, parts[0].dtype)).reshape(shape)
    at = 0
    for part in parts:
        place = block[at : at + len(part)]
        if whole:
            place[...] = part
        else:
            _take(part, columns, place)
        at += len(part)
    return Piece(block, None if whole else columns)


def _used(rows: Array) -> Array:
    """Whether any row of shape (n, d) has a value in a column, shape (d,)."""
    if not _compiled(rows):
        return np.asarray(rows.any(axis=0))
    used = np.zeros(rows.shape[1], np.bool_)
    native.kernels.columns_used(rows, used)
    return used


def _take(rows: Array, columns: Array, place: Array) -> None:
    """Copy the numbers in some columns."""
    if _compiled(rows) and place.dtype == rows.dtype:
        native.kernels.columns_taken(rows, columns, place, rows.shape[1])
    else:
        rows.take(columns, axis=1, out=place, mode="clip")


def _compiled(rows: Array) -> bool:
    plain = bool(rows.flags.c_contiguous and rows.flags.aligned)
    return native.kernels is not None and rows.dtype == np.float32 and plain and rows.size > 0


def recentred(rows: Array) -> tuple[Array | None, Array]:
    """The mean of the rows of shape (n, d), and the rows seen from there; None and the rows where that changes little.

    Squares of numbers much further from zero than from one another lose in float32 what tells them apart.
    """
    mean = rows.mean(axis=0, dtype=np.float64)  # (d,)
    with np.errstate(over="ignore", invalid="ignore"):
        variance = np.einsum("ij,ij->", rows, rows, dtype=np.float64) / len(rows) - mean @ mean
    if not mean @ mean > _FAR * variance:
        return None, rows
    offset = mean.astype(np.float32)
    return offset, rows - offset


def far_mean(features: Array | CSR, far: float) -> Array | None:
    """The rows' mean in the columns where it is far from zero, and zero in the others; None where all rows are near.

    Rows are far from zero when their mean's square is more than `far` times their variance; so is a column. In a
    sparse matrix only columns where nearly all rows have a value can be.

    Returns
    -------
    Array or None
        float32, shape (d,).
    """
    if isinstance(features, CSR):
        values = features.values.astype(np.float64)
        sums, squares = (np.bincount(features.indices, x, features.shape[1]) for x in (values, np.square(values)))
    else:
        sums = features.sum(axis=0, dtype=np.float64)
        squares = np.einsum("ij,ij->j", features, features, dtype=np.float64)
    mean = sums / len(features)
    variance = squares / len(features) - np.square(mean)
    if not mean @ mean > far * variance.sum():
        return None
    return np.where(np.square(mean) > far * variance, mean, 0).astype(np.float32)


def less(features: Array | CSR, offset: Array) -> Array | CSR:
    """The rows seen from `offset`, shape (d,); sparse ones get further values where it is not zero."""
    if not isinstance(features, CSR):
        return features - offset
    columns = np.flatnonzero(offset)
    n, more = len(features), len(columns)
    size = len(features.indices) + n * more
    own = np.zeros(size, bool)
    own[np.arange(len(features.indices)) + more * features.row_of] = True
    indices, values = np.empty(size, np.int64), np.empty(size, np.float32)
    indices[own], values[own] = features.indices, features.values
    indices[~own], values[~own] = np.tile(columns, n), np.tile(-offset[columns], n)
    return CSR(features.indptr + more * np.arange(n + 1), indices, values, features.shape)


def dense(features: Array | CSR) -> Array:
    """The rows as a dense array of shape (n, d)."""
    return features.toarray() if isinstance(features, CSR) else features
