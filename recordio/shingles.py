"""Shingles: rows of a series side by side, so that what scores single rows can score how they follow one another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..errors import DataError, UserError
from .batch import Array, Batch, concatenate

__all__ = ["shingle", "shingle_batches"]

_CELLS: Final = 1 << 20  # numbers of a batch of shingles: a small batch of rows makes a large one of shingles


def shingle(rows: Array, shingle_size: int) -> Array:
    """Rows of a series side by side: row i of the result is rows i to i + shingle_size - 1, the oldest first.

    Random cut forest finds single points that are odd; on shingles, it finds odd stretches of a series.

    Parameters
    ----------
    rows
        Shape (n,) or (n, d), in order of time.
    shingle_size
        How many rows stand side by side.

    Returns
    -------
    numpy.ndarray
        Shape (n - shingle_size + 1, shingle_size * d), a copy of the same dtype.

    Raises
    ------
    UserError
        When `shingle_size` is less than 1, or `rows` has another number of dimensions.
    DataError
        When there are fewer than `shingle_size` rows.

    Examples
    --------
    >>> shingle(np.array([1, 2, 3, 4]), 3)
    array([[1, 2, 3],
           [2, 3, 4]])
    >>> shingle(np.array([[1, -1], [2, -2], [3, -3]]), 2)
    array([[ 1, -1,  2, -2],
           [ 2, -2,  3, -3]])
    """
    _check_size(shingle_size)
    rows = np.asarray(rows)
    if rows.ndim not in (1, 2):
        raise UserError(f"rows of a series have the shape (n,) or (n, d), not {rows.shape}")
    _check_count(len(rows), shingle_size)
    table = rows[:, None] if rows.ndim == 1 else rows  # (n, d)
    windows = sliding_window_view(table, shingle_size, axis=0).transpose(0, 2, 1)  # (m, shingle_size, d)
    made = np.empty(windows.shape, rows.dtype)
    made[...] = windows  # reshape alone might give a view, whose rows share their memory
    return made.reshape(len(made), shingle_size * table.shape[1])


def shingle_batches(batches: Iterable[Batch], shingle_size: int) -> Iterator[Batch]:
    """The same over a stream: borders of batches make no difference, and sparse rows become dense.

    A shingle has the label, weight and id of its last row. Rows are copied before the next batch is asked for; what
    is kept is a batch and `shingle_size` - 1 rows. The batches given out are of other sizes than those that came in.

    Raises
    ------
    UserError
        When `shingle_size` is less than 1.
    DataError
        When the batches differ in width, or have fewer than `shingle_size` rows in all.

    Examples
    --------
    >>> parts = [Batch(np.array([[1], [2]]), np.array([0, 0])), Batch(np.array([[3], [4]]), np.array([0, 1]))]
    >>> [(batch.features.tolist(), batch.labels.tolist()) for batch in shingle_batches(parts, 3)]
    [([[1, 2, 3], [2, 3, 4]], [0, 1])]
    """
    _check_size(shingle_size)
    before = shingle_size - 1
    held: list[Batch] = []  # the rows that the next shingle begins with
    count = 0
    for part in _parts(batches, shingle_size):
        held.append(part)
        count += len(part)
        if count >= shingle_size:
            rows = concatenate(held)
            newest = rows[before:]
            yield replace(newest, features=shingle(rows.dense(), shingle_size))
            held = [rows[len(newest) :]]
    _check_count(count, shingle_size)


def _parts(batches: Iterable[Batch], shingle_size: int) -> Iterator[Batch]:
    """Dense copies of the rows, so few at a time that their shingles are `_CELLS` numbers or a single row."""
    for batch in batches:
        step = max(1, _CELLS // max(1, batch.width * shingle_size))
        for start in range(0, len(batch), step):
            part = batch[start : start + step]
            yield concatenate([replace(part, features=part.dense())])


def _check_size(shingle_size: int) -> None:
    if shingle_size < 1:
        raise UserError(f"shingle_size is {shingle_size}: a shingle has at least 1 row")


def _check_count(rows: int, shingle_size: int) -> None:
    if rows < shingle_size:
        raise DataError(f"too few rows for a shingle: {rows} of the {shingle_size} that one takes")
