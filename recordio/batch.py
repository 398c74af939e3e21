"""Rows on their way from a decoder to an algorithm: dense arrays or a small CSR matrix of our own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

__all__ = ["CSR", "Array", "Batch", "alike", "concatenate", "rebatch", "split_labels"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class CSR:
    """Sparse rows in compressed form, without scipy.

    Row ``i`` has ``values[indptr[i]:indptr[i + 1]]`` in the columns ``indices[indptr[i]:indptr[i + 1]]``.

    Parameters
    ----------
    indptr
        Borders of the rows in `indices` and `values`, int64, shape (n + 1,).
    indices
        Column of each value, int64, shape (nnz,).
    values
        The values, shape (nnz,).
    shape
        (n, d).

    Examples
    --------
    >>> rows = CSR(np.array([0, 1, 1, 3]), np.array([2, 0, 1]), np.array([7., 1., 2.]), (3, 3))
    >>> rows.toarray()
    array([[0., 0., 7.],
           [0., 0., 0.],
           [1., 2., 0.]])
    >>> rows[2:3].toarray()
    array([[1., 2., 0.]])
    """

    indptr: Array
    indices: Array
    values: Array
    shape: tuple[int, int]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> CSR:
        """Rows of a step-one slice; `indices` and `values` are views."""
        start, stop, _ = rows.indices(len(self))
        stop = max(start, stop)
        low, high = int(self.indptr[start]), int(self.indptr[stop])
        indptr = self.indptr[start : stop + 1] - low
        return CSR(indptr, self.indices[low:high], self.values[low:high], (stop - start, self.shape[1]))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values."""
        return self.values.dtype

    @property
    def row_of(self) -> Array:
        """Row number of each value, int64, shape (nnz,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.indptr))

    def astype(self, dtype: np.dtype[Any] | type) -> CSR:
        """The same rows with values of another dtype."""
        return CSR(self.indptr, self.indices, self.values.astype(dtype, copy=False), self.shape)

    def toarray(self) -> Array:
        """The same rows as a dense array, shape (n, d); values that share a place are added."""
        dense = np.zeros(self.shape, self.values.dtype)
        flat = self.row_of
        flat *= self.shape[1]
        flat += self.indices
        if (flat[1:] > flat[:-1]).all():  # no two share a place
            dense.reshape(-1)[flat] = self.values
        else:
            np.add.at(dense.reshape(-1), flat, self.values)
        return dense

    @classmethod
    def from_dense(cls, dense: Array) -> CSR:
        """The non-zero values of `dense`, shape (n, d)."""
        rows, columns = np.nonzero(dense)
        indptr = np.zeros(len(dense) + 1, np.int64)
        np.cumsum(np.bincount(rows, minlength=len(dense)), out=indptr[1:])
        n, d = dense.shape
        return cls(indptr, columns.astype(np.int64, copy=False), dense[rows, columns], (n, d))

    @classmethod
    def from_all(cls, dense: Array) -> CSR:
        """Every value of `dense`, shape (n, d), zeros too: for whom an absent value is not a zero."""
        n, d = dense.shape
        return cls(np.arange(n + 1) * d, np.tile(np.arange(d), n), dense.ravel(), (n, d))

    @classmethod
    def from_scipy(cls, matrix: Any) -> CSR:
        """Any scipy.sparse matrix or array of two dimensions."""
        csr = matrix.tocsr()
        n, d = csr.shape
        return cls(csr.indptr.astype(np.int64), csr.indices.astype(np.int64), csr.data, (n, d))

    def to_scipy(self) -> Any:
        """The same rows as a ``scipy.sparse.csr_matrix``; scipy is imported here."""
        from ._extras import require

        sparse = require("scipy.sparse", package="scipy", extra="data")
        return sparse.csr_matrix((self.values, self.indices, self.indptr), shape=self.shape)


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a data set.

    Parameters
    ----------
    features
        Dense array of shape (n, d), or `CSR` with that shape.
    labels
        Shape (n,), or (n, m) where a record's label has m values; None where no row has a label, NaN where
        some have one and this row has not.
    weights
        Shape (n,), or None.
    ids
        ``(uid, metadata)`` of each row where any record carries one.
    queries
        Number of the query that each row belongs to, for learning to rank, int64, shape (n,); None where rows have
        none.
    """

    features: Array | CSR
    labels: Array | None = None
    weights: Array | None = None
    ids: tuple[tuple[str, str], ...] | None = None
    queries: Array | None = None

    def __len__(self) -> int:
        return int(self.features.shape[0])

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.features.shape[1])

    def __getitem__(self, rows: slice) -> Batch:
        """Rows of a step-one slice, as views."""
        return Batch(
            self.features[rows],
            None if self.labels is None else self.labels[rows],
            None if self.weights is None else self.weights[rows],
            None if self.ids is None else self.ids[rows],
            None if self.queries is None else self.queries[rows],
        )

    def astype(self, dtype: np.dtype[Any] | type) -> Batch:
        """The same rows with features, labels and weights of one dtype; query numbers keep theirs."""
        features = (
            self.features.astype(dtype) if isinstance(self.features, CSR) else self.features.astype(dtype, copy=False)
        )
        labels = None if self.labels is None else self.labels.astype(dtype, copy=False)
        weights = None if self.weights is None else self.weights.astype(dtype, copy=False)
        return Batch(features, labels, weights, self.ids, self.queries)

    def dense(self) -> Array:
        """The features as a dense array of shape (n, d)."""
        return self.features.toarray() if isinstance(self.features, CSR) else self.features


def concatenate(batches: Sequence[Batch]) -> Batch:
    """One batch with the rows of all, in order; the result owns its memory.

    Dense and sparse rows together become sparse. Rows without a label among labelled ones get NaN.

    Raises
    ------
    DataError
        When the batches differ in width, only some have query numbers, or there are none.
    """
    if not batches:
        raise DataError("there are no rows")
    widths = {batch.width for batch in batches}
    if len(widths) > 1:
        raise DataError(f"rows of different widths: {sorted(widths)} features")
    features: Array | CSR
    if any(isinstance(batch.features, CSR) for batch in batches):
        features = _join_csr(
            [b.features if isinstance(b.features, CSR) else CSR.from_dense(b.features) for b in batches]
        )
    else:
        features = _join_dense([batch.dense() for batch in batches])
    return Batch(features, *_join_rest(batches))


def alike(batches: Sequence[Batch]) -> list[Batch]:
    """The same rows in batches of one width, all dense or all sparse, for whom an absent value is missing, not zero.

    Dense rows keep their zeros where they become sparse, and get NaN where they lack columns.

    Examples
    --------
    >>> narrow, wide = (Batch(CSR.from_dense(np.eye(1, width))) for width in (1, 3))
    >>> [batch.width for batch in alike([narrow, wide])]
    [3, 3]
    """
    width = max(batch.width for batch in batches)
    sparse = any(isinstance(batch.features, CSR) for batch in batches)
    return [replace(batch, features=_widened(batch.features, width, sparse=sparse)) for batch in batches]


def _widened(features: Array | CSR, width: int, *, sparse: bool) -> Array | CSR:
    if isinstance(features, CSR) or sparse:
        rows = features if isinstance(features, CSR) else CSR.from_all(features)
        return replace(rows, shape=(len(rows), width))
    n, d = features.shape
    return features if d == width else np.column_stack([features, np.full((n, width - d), np.nan, features.dtype)])


def rebatch(batches: Iterable[Batch], size: int) -> Iterator[Batch]:
    """The same rows in batches of exactly `size`, the last one possibly smaller.

    Rows are copied before the next batch is asked for, so what goes in may be views of memory that is used again.

    Raises
    ------
    DataError
        When the batches differ in width, or only some have query numbers.

    Examples
    --------
    >>> parts = [Batch(np.ones((3, 2))), Batch(np.ones((4, 2)))]
    >>> [len(batch) for batch in rebatch(parts, 5)]
    [5, 2]
    """
    taken = _Taken(size)
    first: Batch | None = None
    for batch in batches:
        first = first or batch  # an empty one says nothing
        _check_queries([first, batch])
        start = 0
        while start < len(batch):
            start += taken.add(batch[start:])
            if taken.count == size:
                yield taken.batch()
                taken = _Taken(size)
    if taken.count:
        yield taken.batch()


def split_labels(rows: Array, label_size: int) -> Batch:
    """A batch of rows whose first `label_size` columns are labels.

    Raises
    ------
    DataError
        When that leaves no features.

    Examples
    --------
    >>> batch = split_labels(np.array([[1, 0.5, 2], [0, 3, 4]]), 1)
    >>> batch.features.tolist(), batch.labels.tolist()
    ([[0.5, 2.0], [3.0, 4.0]], [1.0, 0.0])
    """
    if label_size < 0 or label_size >= rows.shape[1]:
        raise DataError(f"label_size is {label_size}, but rows have {rows.shape[1]} fields: no features are left")
    labels = rows[:, 0] if label_size == 1 else rows[:, :label_size]
    return Batch(np.ascontiguousarray(rows[:, label_size:]), labels.copy() if label_size else None)


class _Taken:
    """Copies of rows on their way to one batch.

    Dense rows go straight to their place, so each is copied once. `size` comes from the user and the data may be
    far smaller, so one array holds at most `LARGEST` bytes; rows beyond go to a further one.
    """

    LARGEST = 64 << 20

    def __init__(self, size: int) -> None:
        self.size = size
        self.count = 0
        self.parts: list[Batch] = []
        self.stores: list[Array] = []
        self.filled = 0  # rows of the last store

    def add(self, batch: Batch) -> int:
        """Take a copy of some of the first rows; tells how many."""
        part = batch[: self.size - self.count]
        part = concatenate([part]) if isinstance(part.features, CSR) else self._copy(part, part.features)
        self.parts.append(part)
        self.count += len(part)
        return len(part)

    def batch(self) -> Batch:
        """All that was taken."""
        if len(self.parts) == 1:
            return self.parts[0]
        if len(self.stores) != 1 or self.filled < self.count:
            return concatenate(self.parts)
        return Batch(self.stores[0][: self.filled], *_join_rest(self.parts))

    def _copy(self, part: Batch, features: Array) -> Batch:
        store = self.stores[-1] if self.stores else None
        if store is None or self.filled == len(store) or store.dtype != features.dtype or store.shape[1] != part.width:
            row = max(1, part.width * features.itemsize)
            rows = min(self.size - self.count, max(len(part), self.LARGEST // row))
            store = np.empty((rows, part.width), features.dtype)
            self.stores.append(store)
            self.filled = 0
        part = part[: len(store) - self.filled]
        place = store[self.filled : self.filled + len(part)]
        copy_rows(features[: len(part)], place)
        self.filled += len(part)
        return Batch(place, *_join_rest([part]))


def copy_rows(source: Array, target: Array) -> None:
    """Copy dense rows; those that lie apart but are whole in themselves as one item each, which is faster."""
    row = source.shape[1] * source.itemsize
    whole = source.strides[1] == source.itemsize and source.dtype == target.dtype and target.flags.c_contiguous
    if not whole or not source.size:
        target[...] = source
        return
    item = np.dtype((np.void, row))
    target.view(item)[...] = source.view(item)


def _join_dense(parts: Sequence[Array]) -> Array:
    rows = sum(len(part) for part in parts)
    joined = np.empty((rows, parts[0].shape[1]), np.result_type(*parts))
    at = 0
    for part in parts:
        copy_rows(part, joined[at : at + len(part)])
        at += len(part)
    return joined


def _join_csr(parts: Sequence[CSR]) -> CSR:
    counts = np.concatenate([np.diff(part.indptr) for part in parts])
    indptr = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=indptr[1:])
    indices = np.concatenate([part.indices for part in parts])
    values = np.concatenate([part.values for part in parts])
    return CSR(indptr, indices, values, (len(counts), parts[0].shape[1]))


def _join_rest(
    parts: Sequence[Batch],
) -> tuple[Array | None, Array | None, tuple[tuple[str, str], ...] | None, Array | None]:
    """Labels, weights, ids and query numbers of all parts, as copies."""
    rows = [len(part) for part in parts]
    labels = _join_optional([part.labels for part in parts], rows)
    weights = _join_optional([part.weights for part in parts], rows)
    return labels, weights, _join_ids(parts), _join_queries(parts)


def _join_ids(parts: Sequence[Batch]) -> tuple[tuple[str, str], ...] | None:
    if all(part.ids is None for part in parts):
        return None
    return tuple(pair for part in parts for pair in (part.ids or (("", ""),) * len(part)))


def _join_queries(parts: Sequence[Batch]) -> Array | None:
    _check_queries(parts)
    present = [part.queries for part in parts if part.queries is not None and len(part)]
    return np.concatenate(present) if present else None


def _check_queries(parts: Sequence[Batch]) -> None:
    if len({part.queries is None for part in parts if len(part)}) > 1:
        raise DataError("some rows have a query number (qid:) and some have none")


def _join_optional(parts: Sequence[Array | None], rows: Sequence[int]) -> Array | None:
    """Join label or weight columns, with NaN where a part has none."""
    present = [part for part in parts if part is not None]
    if not present:
        return None
    if len({part.shape[1:] for part in present}) > 1:
        raise DataError("labels with different numbers of values")
    tail = present[0].shape[1:]
    return np.concatenate(
        [np.full((n, *tail), np.nan, np.float32) if part is None else part for n, part in zip(rows, parts, strict=True)]
    )
