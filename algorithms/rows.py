"""Rows on their way into arithmetic: dense, in pieces that fit a cache, seen from where they are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from ..recordio.batch import CSR, Array

__all__ = ["Piece", "dense", "pieces", "recentred"]

_CHUNK_BYTES: Final = 16 << 20  # of rows made dense, or of distances, at a time


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
            yield from _narrow_pieces(features, step)
            return
    width = int(features.shape[1]) if isinstance(features, CSR) or offset is not None else 1
    step = max(1, _CHUNK_BYTES // (4 * max(centres, width)))
    for start in range(0, max(1, len(features)), step):  # no rows are one empty piece
        rows = dense(features[start : start + step])
        yield Piece(rows if offset is None else rows - offset, None)


def _narrow_pieces(features: CSR, step: int) -> Iterator[Piece]:
    for start in range(0, max(1, len(features)), step):
        part = features[start : start + step]
        columns, places = np.unique(part.indices, return_inverse=True)
        yield Piece(CSR(part.indptr, places, part.values, (len(part), len(columns))).toarray(), columns)


def recentred(rows: Array, far: float = 100.0) -> tuple[Array | None, Array]:
    """The mean of the rows, and the rows seen from there; None and the rows where that changes little.

    Squares of numbers much further from zero than from one another lose in float32 what tells them apart.

    Parameters
    ----------
    rows
        Shape (n, d).
    far
        Squared distance of the mean from zero, in units of the rows' variance, from which the mean is told.
    """
    mean = rows.mean(axis=0, dtype=np.float64)  # (d,)
    with np.errstate(over="ignore", invalid="ignore"):
        variance = np.einsum("ij,ij->", rows, rows, dtype=np.float64) / len(rows) - mean @ mean
    if not mean @ mean > far * variance:
        return None, rows
    offset = mean.astype(np.float32)
    return offset, rows - offset


def dense(features: Array | CSR) -> Array:
    """The rows as a dense array of shape (n, d)."""
    return features.toarray() if isinstance(features, CSR) else features
