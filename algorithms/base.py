"""What an algorithm is, seen from the rest of clary; `train` and `serve` know nothing else of one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..errors import ArtifactError, ChannelError
from .manners import Manners
from .params import HyperParameters

if TYPE_CHECKING:
    from ..recordio.batch import CSR, Array, Batch

__all__ = [
    "Algorithm",
    "Channel",
    "Checkpoints",
    "Ensemble",
    "Metric",
    "Model",
    "Predictions",
    "Report",
    "no_rows",
]


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


@runtime_checkable
class Ensemble(Protocol):
    """A model made of several, each of which has a file of its own in the artifact."""

    @property
    def members(self) -> Sequence[Model]:
        """The models, in the order of their files."""
        ...


class Channel(Protocol):
    """A data channel of a training job.

    Attributes
    ----------
    name
        As in inputdataconfig.json.
    format
        Name of the format of its data.
    rows, batches_read
        How many were given so far, over all passes.
    """

    name: str
    format: str
    rows: int
    batches_read: int

    def batches(self, size: int) -> Iterator[Batch]:
        """One pass over the channel in batches of `size` float32 rows; each call is the next pass.

        The generator may be closed early. It raises an exception of its own when the job is told to end, which
        the algorithm lets pass.
        """
        ...

    def whole(self) -> Batch | None:
        """All rows of one pass at once, None where there are none."""
        ...


class Checkpoints(Protocol):
    """What a job writes down while it runs, to be found when it is started again."""

    def saved(self) -> Iterator[tuple[int, bytes, str]]:
        """Round, content and name of the file of each, the last round first."""
        ...

    def save(self, number: int, data: bytes) -> None:
        """Write what is learnt in the rounds up to `number`; only the newest few are kept."""
        ...


class Report(Protocol):
    """Where a running algorithm says how it goes; each method prints lines that SageMaker's users parse."""

    @property
    def stopping(self) -> bool:
        """Whether the job was told to end: finish soon."""
        ...

    def check(self) -> None:
        """Raise an exception of its own when the job was told to end, which the algorithm lets pass."""
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

    def round(self, number: int, values: Mapping[tuple[str, str], float]) -> None:
        """A line with all metrics of a boosting round: ``(channel, metric) → value``."""
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

    def checkpoints(self, part: str = "") -> Checkpoints | None:
        """Where to write down what is learnt, or None where the job has no place for that.

        `part` names one of several models that the job trains one after another.
        """
        ...

    def output(self, name: str, data: bytes) -> None:
        """Write a file that is no part of the model, beside it."""
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
    missing
        Whether NaN stands for a missing value, which is allowed.
    ignored
        Channels that may be there and are not read.
    artifact
        Name of the file in ``model.tar.gz``; those of an ensemble have a number at their end.
    candidates
        Which files of a model directory are the artifact, by its names and beginnings; by default the one of that name.
    combine
        Makes one model of those of several files.
    select
        Answers by key for rows, where clients may ask for some: ``select(model, features, keys) -> values by key``.
    manners
        The words and habits of its container.
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
    missing: bool = False
    ignored: tuple[str, ...] = ()
    artifact: str = "model_algo-1"
    candidates: Callable[[Path], Sequence[Path]] | None = None
    combine: Callable[[Sequence[Any]], Model] | None = None
    select: Callable[[Any, Array | CSR, Sequence[str]], Mapping[str, Sequence[Any]]] | None = None
    manners: Manners = field(default_factory=Manners)

    def find(self, folder: Path) -> Sequence[Path]:
        """The files of a model directory that this algorithm would open; none where there is no artifact of its."""
        if self.candidates is not None:
            return self.candidates(folder)
        path = folder / self.artifact
        return [path] if path.is_file() else []

    def open(self, paths: Sequence[Path]) -> Model:
        """Load an artifact, whose files `find` has found.

        Raises
        ------
        ArtifactError
            When it cannot be read, or is none of this algorithm's.
        """
        models = [self._open(path) for path in paths]
        return models[0] if self.combine is None or len(models) == 1 else self.combine(models)

    def _open(self, path: Path) -> Model:
        try:
            return self.load(path.read_bytes())
        except OSError as error:
            raise ArtifactError(f"cannot read {path}: {error.strerror}") from error
        except ArtifactError as error:
            if self.combine is None:
                raise
            raise ArtifactError(f"Model {path.name} cannot be loaded: {error}") from error

    def files(self, model: Model) -> dict[str, bytes]:
        """Names and contents of the files of an artifact."""
        if isinstance(model, Ensemble):
            return {f"{self.artifact}-{i}": member.to_bytes() for i, member in enumerate(model.members)}
        return {self.artifact: model.to_bytes()}
