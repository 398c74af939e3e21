"""Channels and reports in memory: k-means without a job around it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

from clary.algorithms.base import Channel, Checkpoints, Model
from clary.algorithms.kmeans import ALGORITHM, KMeansModel, KMeansParams
from clary.recordio.batch import CSR, Array, Batch


class Rows:
    """A channel of rows in memory."""

    def __init__(self, name: str, features: Array | CSR, labels: Array | None = None) -> None:
        self.name = name
        self.format = "recordio"
        self.features = features
        self.labels = labels
        self.rows = 0
        self.batches_read = 0

    def batches(self, size: int) -> Iterator[Batch]:
        """One pass."""
        for start in range(0, len(self.features), size):
            batch = Batch(self.features, self.labels)[start : start + size]
            self.rows += len(batch)
            self.batches_read += 1
            yield batch

    def whole(self) -> Batch | None:
        """All rows at once."""
        return next(self.batches(max(1, len(self.features))), None)


@dataclass
class Notes:
    """A report that keeps what it is told."""

    stopping: bool = False
    lines: list[str] = field(default_factory=list)
    qualities: dict[tuple[str, str], float] = field(default_factory=dict)
    scores: dict[tuple[str, str], float] = field(default_factory=dict)
    measurements: dict[str, float] = field(default_factory=dict)
    all_qualities: list[tuple[str, str, float, int | None, int | None]] = field(default_factory=list)
    models: dict[tuple[int, str], list[float]] = field(default_factory=dict)
    criteria: dict[int, tuple[str, float]] = field(default_factory=dict)
    ends: bool = False
    kept: Callable[[], Model] | None = None

    rounds: list[tuple[int, Mapping[tuple[str, str], float]]] = field(default_factory=list)
    outputs: dict[str, bytes] = field(default_factory=dict)
    folder: Checkpoints | None = None

    def check(self) -> None:
        """Go on."""

    def round(self, number: int, values: Mapping[tuple[str, str], float]) -> None:
        """Keep the metrics of a round."""
        self.rounds.append((number, values))

    def checkpoints(self, part: str = "") -> Checkpoints | None:  # noqa: ARG002
        """Where to write."""
        return self.folder

    def output(self, name: str, data: bytes) -> None:
        """Keep a file."""
        self.outputs[name] = data

    def info(self, text: str) -> None:
        """Keep a line."""
        self.lines.append(text)

    warning = info

    def epochs(self, count: int, channel: Channel) -> Iterable[int]:  # noqa: ARG002  # part of the protocol
        """Numbers of the epochs."""
        for epoch in range(count):
            yield epoch
            if self.ends:
                return

    def quality(
        self, channel: str, metric: str, value: float, *, epoch: int | None = None, batch: int | None = None
    ) -> None:
        """Keep a metric."""
        self.all_qualities.append((channel, metric, value, epoch, batch))
        self.qualities[channel, metric] = value

    def evaluation(self, channel: str, values: Mapping[str, float]) -> None:
        """Keep scores."""
        for metric, value in values.items():
            self.scores[channel, metric] = value
            self.quality(channel, metric, value)

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:  # noqa: ARG002
        """Measure nothing."""
        yield

    def per_model(self, epoch: int, metric: str, values: Iterable[float]) -> None:
        """Keep the values of all models."""
        self.models[epoch, metric] = [float(value) for value in values]

    def early_stopping(self, epoch: int, criteria: str, value: float) -> None:
        """Keep what decides on stopping."""
        self.criteria[epoch] = criteria, value

    def end_early(self) -> None:
        """Give out no further epoch."""
        self.ends = True

    def measured(self, name: str, value: float) -> None:
        """Keep a measurement."""
        self.measurements[name] = value

    def keep(self, model: Callable[[], Model]) -> None:
        """Keep how to make a model."""
        self.kept = model


@dataclass
class Fitted:
    """A model and what its training told."""

    model: KMeansModel
    notes: Notes

    @property
    def centres(self) -> list[list[float]]:
        """The centres, sorted."""
        return sorted(self.model.centres.tolist())


Fit = Callable[..., Fitted]


@pytest.fixture
def fit() -> Fit:
    """A function that trains k-means: ``fit(train, test=None, **hyperparameters)``."""

    def train(features: Array | CSR, test: Array | CSR | None = None, **given: object) -> Fitted:
        texts = {"feature_dim": str(features.shape[1]), **{name: str(value) for name, value in given.items()}}
        channels = {"train": Rows("train", features), **({} if test is None else {"test": Rows("test", test)})}
        notes = Notes()
        model = ALGORITHM.fit(KMeansParams.parse(texts), channels, notes)
        assert isinstance(model, KMeansModel)
        return Fitted(model, notes)

    return train


@pytest.fixture
def blobs() -> Array:
    """500 rows around ten points of three dimensions."""
    rng = np.random.default_rng(1)
    middles: Array = rng.uniform(-20, 20, (10, 3))
    return (middles[rng.integers(0, 10, 500)] + rng.normal(size=(500, 3))).astype(np.float32)
