"""Dense records of one size: the first is a template, the others are compared with it.

Records of the same columns differ only in the bytes of their numbers. So all other bytes of a block, about fifty a
record, are gathered and compared with those of the first record, repeated; where they agree the numbers stand at a
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
        self.repeated: dict[int, list[bytes]] = {}
        numbers = [item for item in (features, label) if item is not None]
        starts = [0, *(item.at + item.count * item.dtype.itemsize for item in numbers)]
        ends = [*(item.at for item in numbers), HEADER.size + length]  # padding may hold anything
        self.runs = [(at, record[at:end].tobytes()) for at, end in zip(starts, ends, strict=True) if end > at]

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
        rows = alike = size // self.stride
        for (at, run), expected in zip(self.runs, self._repeat(rows), strict=True):
            seen = np.ndarray((rows,), np.dtype((np.void, len(run))), block, at, (self.stride,)).tobytes()
            if seen != expected:
                same = np.frombuffer(seen, np.uint8) == np.frombuffer(expected, np.uint8)
                alike = min(alike, int(same.argmin()) // len(run))
        return alike

    def _repeat(self, rows: int) -> list[bytes]:
        """The fixed bytes of so many records; the blocks of a stream hold one or the other of two numbers."""
        if rows not in self.repeated:
            if len(self.repeated) > 2:
                self.repeated.clear()
            self.repeated[rows] = [run * rows for _, run in self.runs]
        return self.repeated[rows]

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
