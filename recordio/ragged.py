"""Records of several sizes: the numbers of many parsed records, out of their block.

`wire.parse` says where the numbers of each record stand. Here they are joined, decoded together and cut into rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import wire
from .batch import CSR, Array, Batch
from .template import DTYPES

__all__ = ["RowError", "batch", "borders"]


class RowError(Exception):
    """A row of a run is wrong; `row` counts from the beginning of the run."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row
        self.reason = reason


def borders(layout: wire.Layout) -> list[int]:
    """Where runs of records that can be decoded together begin, and the end of the last."""
    features, label = layout.features, layout.label
    sparse = _sparse(features)
    traits = [layout.known, sparse, features.kind, label.kind, label.size, features.shape]
    dense_floats = ~sparse & (features.kind != wire.INT32)
    traits.append(np.where(dense_floats, features.size, 0))
    changes = np.zeros(len(layout.known), bool)
    changes[0] = True
    for trait in traits:
        changes[1:] |= trait[1:] != trait[:-1]
    return [*np.flatnonzero(changes).tolist(), len(changes)]


def batch(block: Array, layout: wire.Layout, run: slice) -> Batch:
    """A run of records as rows.

    Raises
    ------
    RowError
        When a record's numbers do not fit together.
    """
    tensors = layout.features
    labels = None
    if layout.label.kind[run.start] != wire.NONE and layout.label.size[run.start]:
        labels = _dense(block, layout.label, run, "labels")
        labels = labels[:, 0] if labels.shape[1] == 1 else labels
    if _sparse(tensors)[run.start]:
        return Batch(_csr(block, tensors, run), labels)
    features = _dense(block, tensors, run, "features")
    shape = int(tensors.shape[run.start])
    if shape not in (-1, features.shape[1]):
        raise RowError(0, f"the features have {features.shape[1]} values for a shape of {shape}")
    return Batch(features, labels)


def _sparse(tensors: wire.Tensors) -> Array:
    """Whether each tensor is sparse: it has keys, or a shape and no values."""
    sparse: Array = (tensors.keys_size > 0) | ((tensors.size == 0) & (tensors.shape >= 0))
    return sparse


def _dense(block: Array, tensors: wire.Tensors, run: slice, what: str) -> Array:
    """Values of a run as an array of shape (n, d)."""
    values, counts = _values(block, tensors, run)
    if not counts[0]:
        raise RowError(0, f"the {what} have no values")
    wrong = np.flatnonzero(counts != counts[0])
    if len(wrong):
        row = int(wrong[0])
        raise RowError(row, f"the record has {counts[row]} {what}, those before have {counts[0]}")
    return values.reshape(len(counts), -1)


def _csr(block: Array, tensors: wire.Tensors, run: slice) -> CSR:
    width = int(tensors.shape[run.start])
    if width < 0:
        raise RowError(0, "the sparse features have no shape")
    values, value_counts = _values(block, tensors, run)
    keys, key_counts = _varints(block, tensors.keys_at[run], tensors.keys_size[run])
    wrong = np.flatnonzero(value_counts != key_counts)
    if len(wrong):
        row = int(wrong[0])
        raise RowError(row, f"the sparse features have {key_counts[row]} keys for {value_counts[row]} values")
    indptr = np.zeros(len(key_counts) + 1, np.int64)
    np.cumsum(key_counts, out=indptr[1:])
    outside = np.flatnonzero(keys >= width)
    if len(outside):
        row = int(np.searchsorted(indptr, outside[0], side="right")) - 1
        raise RowError(row, f"the sparse features have a key of {keys[outside[0]]} in a row of {width} columns")
    return CSR(indptr, keys.view(np.int64), values, (len(key_counts), width))


def _values(block: Array, tensors: wire.Tensors, run: slice) -> tuple[Array, Array]:
    """Values of a run, back to back, and how many each record has."""
    at, size = tensors.at[run], tensors.size[run]
    kind = int(tensors.kind[run.start])
    if kind == wire.INT32:
        numbers, counts = _varints(block, at, size)
        return numbers.astype(np.uint32).view(np.int32), counts  # negative ones are sign-extended to 64 bits
    dtype = DTYPES[kind]
    cut = np.flatnonzero(size % dtype.itemsize)
    if len(cut):
        raise RowError(int(cut[0]), f"{size[cut[0]]} bytes of values are no whole number of {dtype.name}")
    return np.frombuffer(_join(block, at, size), dtype), size // dtype.itemsize


def _varints(block: Array, at: Array, size: Array) -> tuple[Array, Array]:
    """Packed numbers of a run, back to back, and how many each record has."""
    data = np.frombuffer(_join(block, at, size), np.uint8)
    last = np.cumsum(size) - 1
    open_end = np.flatnonzero((size > 0) & (data[last] >= 0x80)) if len(data) else last[:0]
    if len(open_end):
        raise RowError(int(open_end[0]), "the last of the packed numbers is cut")
    try:
        numbers, ends = wire.decode_varints(data)
    except wire.VarintError as error:
        raise RowError(int(np.searchsorted(last, error.at)), f"the packed numbers hold {error}") from error
    upto = np.searchsorted(ends, last + 1, side="right")
    return numbers, np.diff(upto, prepend=0)


def _join(block: Array, at: Array, size: Array) -> bytes:
    """Pieces of a block, back to back."""
    length = int(size[0])
    if length and (size == length).all():  # a window of this length at every byte, of which some are taken
        windows = np.ndarray((len(block) - length + 1,), np.dtype((np.void, length)), block, 0, (1,))
        return windows[at].tobytes()
    view: Any = block.data
    return b"".join([view[start:end] for start, end in zip(at.tolist(), (at + size).tolist(), strict=True)])
