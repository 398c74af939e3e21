"""Dense records of one size: the first is a template, the others are compared with it.

Records of the same columns differ only in the bytes of their numbers. So all other bytes of a block, about fifty a
record, are compared with those of the first record, column by column; where they agree the numbers stand at a
constant stride and no record is looked at by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from . import wire
from .batch import Array, Batch
from .framing import HEADER, LENGTH_MASK, MAGIC, padded

__all__ = ["DTYPES", "Template"]

DTYPES: Final[dict[int, np.dtype[Any]]] = {wire.FLOAT32: np.dtype("<f4"), wire.FLOAT64: np.dtype("<f8")}


@dataclass(frozen=True, slots=True)
class Field:
    """Numbers at a constant place of every record."""

    at: int
    dtype: np.dtype[Any]
    count: int

    def view(self, block: Array, rows: int, stride: int) -> Array:
        """The numbers of the first records of a block, shape (rows, count)."""
        return np.ndarray((rows, self.count), self.dtype, block, self.at, (stride, self.dtype.itemsize))


class Template:
    """The bytes that all records of one layout share.

    Parameters
    ----------
    record
        The first record, frame and padding included: uint8, shape (stride,).
    length
        Length of its payload.
    features, label
        Where its numbers are.
    """

    def __init__(self, record: Array, length: int, features: Field, label: Field | None) -> None:
        self.stride = len(record)
        self.features = features
        self.label = label
        fixed = np.full(self.stride, 0xFF, np.uint8)
        fixed[HEADER.size + length :] = 0  # padding may hold anything
        for item in (features, label):
            if item is not None:
                fixed[item.at : item.at + item.count * item.dtype.itemsize] = 0
        masks = fixed.view("<u4")
        words = record.view("<u4") & masks
        self.checks = [(int(j), masks[j], words[j]) for j in np.flatnonzero(masks)]

    @classmethod
    def of(cls, block: Array, size: int) -> Template | None:
        """The template that the first record of a block makes; None where its layout has no constant places."""
        if size < HEADER.size:
            return None
        magic, word = HEADER.unpack_from(block.data)
        stride = HEADER.size + padded(word)
        if magic != MAGIC or word > LENGTH_MASK or stride > size:
            return None
        layout = wire.parse(block, np.array([HEADER.size]), np.array([word]))
        dense = layout.known[0] and layout.features.keys_size[0] == 0
        features, label = (_field(tensors) for tensors in (layout.features, layout.label))
        if not dense or features is None or (label is None and layout.label.kind[0] != wire.NONE):
            return None
        if layout.features.shape[0] not in (-1, features.count):
            return None
        return cls(block[:stride].copy(), word, features, label)

    def matching(self, block: Array, size: int) -> int:
        """How many records at the beginning of a block are like the template."""
        rows = size // self.stride
        words = block[: rows * self.stride].view("<u4").reshape(rows, self.stride // 4)
        alike = np.ones(rows, bool)
        for column, mask, word in self.checks:
            seen = words[:, column]
            alike &= (seen == word) if mask == 0xFFFFFFFF else ((seen & mask) == word)
        return rows if alike.all() else int(alike.argmin())

    def batch(self, block: Array, rows: int) -> Batch:
        """The first records of a block, as views of it."""
        features = self.features.view(block, rows, self.stride)
        if self.label is None:
            return Batch(features)
        labels = self.label.view(block, rows, self.stride)
        return Batch(features, labels[:, 0] if self.label.count == 1 else labels)


def _field(tensors: wire.Tensors) -> Field | None:
    """Place of the numbers of the first record; None where they have no constant size."""
    dtype = DTYPES.get(int(tensors.kind[0]))
    if dtype is None or tensors.size[0] == 0 or tensors.size[0] % dtype.itemsize:
        return None
    return Field(int(tensors.at[0]), dtype, int(tensors.size[0]) // dtype.itemsize)
