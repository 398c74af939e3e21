"""What a benchmark of an algorithm needs around it: channels in memory, a report that is silent, images."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import numpy as np

from clary.algorithms.base import Channel, Model
from clary.recordio import Batch
from clary.recordio.batch import CSR, Array

__all__ = ["DATA", "MNIST", "Memory", "Silence", "images"]

DATA = Path(__file__).parents[2] / "shared" / "data"
MNIST = DATA / "mnist"


class Memory:
    """A channel of rows in memory."""

    def __init__(self, rows: Array | CSR, labels: Array | None = None) -> None:
        self.name = "train"
        self.format = "recordio"
        self.features = rows
        self.labels = labels
        self.rows = 0
        self.batches_read = 0

    def batches(self, size: int) -> Iterator[Batch]:
        """One pass."""
        for start in range(0, len(self.features), size):
            yield Batch(self.features, self.labels)[start : start + size]

    def whole(self) -> Batch | None:
        """All rows at once."""
        return Batch(self.features, self.labels) if len(self.features) else None


class Silence:
    """A report that keeps nothing."""

    stopping = False

    def check(self) -> None:
        """Go on."""

    def round(self, number: int, values: Mapping[tuple[str, str], float]) -> None:
        """Say nothing."""

    def checkpoints(self, part: str = "") -> None:
        """There is no place for them."""

    def output(self, name: str, data: bytes) -> None:
        """Write nothing."""

    def info(self, text: str) -> None:
        """Say nothing."""

    warning = info

    def epochs(self, count: int, channel: Channel) -> Iterable[int]:  # noqa: ARG002  # part of the protocol
        """Numbers of the epochs."""
        return range(count)

    def quality(
        self, channel: str, metric: str, value: float, *, epoch: int | None = None, batch: int | None = None
    ) -> None:
        """Say nothing."""

    def evaluation(self, channel: str, values: Mapping[str, float]) -> None:
        """Say nothing."""

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:  # noqa: ARG002
        """Measure nothing."""
        yield

    def per_model(self, epoch: int, metric: str, values: Iterable[float]) -> None:
        """Say nothing."""

    def early_stopping(self, epoch: int, criteria: str, value: float) -> None:
        """Say nothing."""

    def end_early(self) -> None:
        """Go on to the next epoch: benchmarks count them all."""

    def measured(self, name: str, value: float) -> None:
        """Say nothing."""

    def keep(self, model: Callable[[], Model]) -> None:
        """Keep nothing."""


def images() -> tuple[str, Array, Array]:
    """Name, training rows and test rows of 784 columns; digits, drawn as large, where MNIST is absent."""
    if MNIST.exists():
        return "MNIST", _pixels("train"), _pixels("t10k")
    digits = import_module("sklearn.datasets").load_digits().images.astype(np.float32)
    drawn = np.kron(digits, np.full((1, 3, 3), 15, np.float32))  # from 8 × 8 to 24 × 24, from 0-16 to 0-240
    rows = np.pad(drawn, ((0, 0), (2, 2), (2, 2))).reshape(-1, 784)
    order = np.random.default_rng(0).permutation(len(rows))
    return "digits", rows[order[:1400]], rows[order[1400:]]


def _pixels(name: str) -> Array:
    pixels = gzip.decompress((MNIST / f"{name}-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 784).astype(np.float32)
