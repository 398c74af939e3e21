"""Runs of records of one kind, by the compiled kernel.

Its twins are `template` for dense records, `wire` with `ragged` for the others. They take what the kernel leaves, too:
what is laid out in another way than Amazon's writers do, and what is wrong, to say why.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from .. import native
from . import wire
from .batch import CSR, Array, Batch
from .template import DTYPES

__all__ = ["Runs", "read_whole"]

_DTYPES: Final = DTYPES | {wire.INT32: np.dtype(np.int32)}
_SMALLEST: Final = 28  # bytes of a frame with one number


class Runs:
    """Memory for the numbers of a run, which is used again for the next.

    Parameters
    ----------
    size
        Bytes of a block. What would take more memory than its usual records ends the run, and the next one begins.
    """

    def __init__(self, size: int) -> None:
        self.labels = np.empty(size // 8 + 1, np.int64)
        self.borders = np.empty(size // _SMALLEST + 2, np.int64)
        self.indices = np.empty(size // 4 + 1, np.int64)
        self.values = np.empty(size // 4 + 1, np.int64)

    def read(self, block: Array | bytes, at: int, size: int) -> tuple[Batch, int] | None:
        """The records from `at` on that are of one kind, and the position after them; None where that is not known.

        Dense floats are views of the block, all else of this memory.
        """
        arrays = self.labels, self.borders, self.indices, self.values
        found = native.kernels.recordio_rows(block, at, size, *arrays)
        if found is None:
            return None
        rows, end, kind, sparse, width, place, label_kind, label_width = found
        labels = None
        if label_kind != wire.NONE:
            labels = _numbers(self.labels, label_kind, rows * label_width)
            labels = labels if label_width == 1 else labels.reshape(rows, label_width)
        if place:
            dtype = _DTYPES[kind]
            view = np.ndarray((rows, width), dtype, block, place, ((end - at) // rows, dtype.itemsize))
            return Batch(view, labels), end
        borders = self.borders[: rows + 1]
        if not sparse:
            return Batch(_numbers(self.values, kind, rows * width).reshape(rows, width), labels), end
        count = int(borders[-1])
        return Batch(CSR(borders, self.indices[:count], _numbers(self.values, kind, count), (rows, width)), labels), end

    def read_all(self, block: Array, size: int) -> Iterator[tuple[Batch, int]]:
        """Runs from the beginning of a block on, as many as the kernel reads."""
        at = 0
        while found := self.read(block, at, size):
            yield found
            at = found[1]


def read_whole(body: bytes) -> Batch | None:
    """All records of a body as views of it, where the kernel takes them for one run."""
    if native.kernels is None:
        return None
    found = Runs(len(body)).read(body, 0, len(body))
    return found[0] if found and found[1] == len(body) else None


def _numbers(memory: Array, kind: int, count: int) -> Array:
    """The first numbers that the kernel has written, whatever their kind."""
    dtype: np.dtype[Any] = _DTYPES[kind]
    return memory.view(dtype)[:count]
