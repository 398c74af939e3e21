"""What an algorithm is, seen from the rest of clary; `train` and `serve` know nothing else of one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..errors import ArtifactError, ChannelError
from ..recordio.batch import CSR, Array, Batch
from .params import HyperParameters

__all__ = ["Algorithm", "Channel", "Metric", "Model", "Predictions", "Report", "no_rows"]


@dataclass(frozen=True, slots=True)
class Predictions:
    """Named columns of answers, one row for each row asked.

    Parameters
    ----------
    key
        Name of the list in a JSON response: ``predictions``, ``scores`` or ``projections``.
    columns
        float32 arrays of shape (n,) or (n, m), in the order of a JSON or CSV response.
    """

    key: str
    columns: Mapping[str, Array]


class Model(Protocol):
    """What training makes and serving uses."""

    @property
    def feature_dim(self) -> int:
        """Number of columns a row has to have."""
        ...

    def predict(self, features: Array | CSR) -> Predictions:
        """Answers for rows of shape (n, d)."""
        ...

    def to_bytes(self) -> bytes:
        """The content of the artifact file."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """What `clary inspect` shows: plain values that JSON can hold."""
        ...


class Channel(Protocol):
    """A data channel of a training job.

    Attributes
    ----------
    name
        As in inputdataconfig.json.
    rows, batches_read
        How many were given so far, over all passes.
    """

    name: str
    rows: int
    batches_read: int

    def batches(self, size: int) -> Iterator[Batch]:
        """One pass over the channel in batches of `size` float32 rows; each call is the next pass.

        The generator may be closed early. It raises an exception of its own when the job is told to end, which
        the algorithm lets pass.
        """
        ...


class Report(Protocol):
    """Where a running algorithm says how it goes; each method prints lines that SageMaker's users parse."""

    @property
    def stopping(self) -> bool:
        """Whether the job was told to end: finish soon."""
        ...

    def info(self, text: str) -> None:
        """Log a line."""
        ...

    def warning(self, text: str) -> None:
        """Log a line with the level WARNING."""
        ...

    def epochs(self, count: int, channel: Channel) -> Iterable[int]:
        """Numbers of the epochs; after each come its progress, throughput and record counts."""
        ...

    def quality(
        self, channel: str, metric: str, value: float, *, epoch: int | None = None, batch: int | None = None
    ) -> None:
        """A ``#quality_metric`` line; `metric` is the name of one that the algorithm declares."""
        ...

    def per_model(self, epoch: int, metric: str, values: Iterable[float]) -> None:
        """A ``#metrics`` line for each of the models that train side by side."""
        ...

    def early_stopping(self, epoch: int, criteria: str, value: float) -> None:
        """A ``#early_stopping_criteria_metric`` line."""
        ...

    def end_early(self) -> None:
        """The epoch that is under way is the last."""
        ...

    def evaluation(self, channel: str, values: Mapping[str, float]) -> None:
        """How good the model is: ``#test_score`` lines (or ``#train_score`` …), then ``#quality_metric`` lines."""
        ...

    def timing(self, name: str) -> AbstractContextManager[None]:
        """Measure a phase for the ``#metrics`` line at the end."""
        ...

    def measured(self, name: str, value: float) -> None:
        """A number for the ``#metrics`` line at the end."""
        ...

    def keep(self, model: Callable[[], Model]) -> None:
        """How to make the model from what is learnt so far, should the job be told to end."""
        ...


def no_rows() -> ChannelError:
    """What to raise when the channel ``train`` turns out to be empty: Amazon's words first."""
    return ChannelError(
        "No training data processed. Either the training channel is empty or the mini-batch size is too high: "
        "the channel 'train' has no rows"
    )


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that training prints and a tuning job may optimise.

    Parameters
    ----------
    name
        As in the log: ``msd``.
    minimize
        Whether less is better; printed as ``<loss>`` rather than ``<score>``.
    channels
        Channels it is computed for.
    doc
        One sentence for the documentation.
    pattern
        Regular expression of the name in the log, where a setting is part of it; else it is `name`.
    lines
        What follows the name in the definition of a training metric → kind of line that it finds.
    """

    name: str
    minimize: bool
    channels: tuple[str, ...]
    doc: str
    pattern: str | None = None
    lines: Mapping[str, str] = field(default_factory=lambda: {"": "quality"})

    @property
    def expression(self) -> str:
        """Regular expression of the name in the log."""
        return self.pattern or re.escape(self.name)


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One algorithm, declared: everything `train`, `serve` and the documentation need.

    Parameters
    ----------
    name
        AWS's repository name: ``kmeans``.
    title
        For people: ``K-means``.
    log_name
        The ``Algorithm`` dimension of ``#metrics`` lines.
    params
        The hyperparameters.
    fit
        Trains: ``fit(params, channels, report) -> model``.
    load
        Makes a model from the content of an artifact; raises `ArtifactError` where it is none of ours.
    channels
        Names of the channels; the first is required.
    content_types
        Formats (of `clary.recordio.content`) a channel may have; the first is the default.
    accepts
        Formats a response may have; the first is the default.
    metrics
        What is printed as ``#quality_metric``.
    labelled
        Channels whose rows need a label; the command line takes the first column of their CSV for it.
    distribution
        The S3DistributionType that a channel has to have; where the configuration says none, any is taken for it.
    strict_width
        Whether rows need as many columns as `feature_dim` says.
    artifact
        Name of the file in ``model.tar.gz``.
    """

    name: str
    title: str
    log_name: str
    params: type[HyperParameters]
    fit: Callable[[Any, Mapping[str, Channel], Report], Model]
    load: Callable[[bytes], Model]
    channels: tuple[str, ...]
    content_types: tuple[str, ...]
    accepts: tuple[str, ...]
    metrics: tuple[Metric, ...]
    labelled: tuple[str, ...] = ()
    distribution: Mapping[str, str] = field(default_factory=dict)
    strict_width: bool = True
    artifact: str = "model_algo-1"

    def open(self, path: Path) -> Model:
        """Load the artifact file at `path`.

        Raises
        ------
        ArtifactError
            When it cannot be read, or is none of this algorithm's.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ArtifactError(f"cannot read {path}: {error.strerror}") from error
        return self.load(data)
