"""Where a running algorithm says how it goes, and the job keeps what a stop would save."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from ..algorithms.base import Algorithm, Channel, Model
from ..logs import emit
from .artifact import write_atomic
from .checkpoints import CheckpointFolder
from .environment import Job
from .metrics import LINES, Aggregate, metrics_line, tag
from .stop import Stop

__all__ = ["JobReport"]


class JobReport:
    """Prints the lines of a job's log; implements `clary.algorithms.base.Report`.

    Parameters
    ----------
    algorithm
        Whose metrics are printed.
    job
        Its host, and where its files go.
    stop
        Whether the job was told to end.
    """

    def __init__(self, algorithm: Algorithm, job: Job, stop: Stop) -> None:
        self.logger = logging.getLogger("clary")
        self.algorithm = algorithm
        self.job = job
        self.host = job.resources.current_host
        self.stop = stop
        self.started = time.time()
        self.snapshot: Callable[[], Model] | None = None
        self._ends = False
        self._timings: dict[str, list[float]] = {}
        self._seen: list[tuple[int, int]] = []  # rows and batches of each pass over the training data

    @property
    def stopping(self) -> bool:
        """Whether the job was told to end."""
        return self.stop.requested

    def check(self) -> None:
        """Raise `Stopped` if the job was told to end."""
        self.stop.check()

    def info(self, text: str) -> None:
        """Log a line."""
        self.logger.info(text)

    def warning(self, text: str) -> None:
        """Log a line with the level WARNING."""
        self.logger.warning(text)

    def keep(self, model: Callable[[], Model]) -> None:
        """How to make the model from what is learnt so far."""
        self.snapshot = model

    def checkpoints(self, part: str = "") -> CheckpointFolder | None:
        """Where to write down what is learnt, if the job has a place for that and this host's model is the one."""
        folder = self.job.checkpoint_dir
        if folder is None or not self.job.resources.is_leader:
            return None
        return CheckpointFolder(folder / part, self.algorithm.name)

    def output(self, name: str, data: bytes) -> None:
        """Write a file that is no part of the model; hosts share the folder on a laptop, so only the leader does."""
        if self.job.resources.is_leader:
            write_atomic(self.job.output_dir / name, data)

    def epochs(self, count: int, channel: Channel) -> Iterator[int]:
        """Numbers of the epochs; prints what AWS's containers print after each."""
        self._iterator_metrics("init_train_data_iter", self.started, (0, 0), {})
        for epoch in range(count):
            start = time.time()
            rows, batches = channel.rows, channel.batches_read
            yield epoch
            self._timings.setdefault("update.time", []).append((time.time() - start) * 1000)
            seen = channel.rows - rows, channel.batches_read - batches
            self._seen.append(seen)
            if self._ends:
                self._line("progress to the end")
            else:
                self._line("progress", percent=100 * (epoch + 1) / count)
            self._iterator_metrics("training_data_iter", start, seen, {"epoch": epoch})
            self._line("throughput", rate=seen[0] / max(time.time() - start, 1e-9))
            if self._ends:
                break
        self._timings["epochs"] = [float(count)]

    def quality(
        self, channel: str, metric: str, value: float, *, epoch: int | None = None, batch: int | None = None
    ) -> None:
        """Print a ``#quality_metric`` line."""
        kind = "quality" if epoch is None else "epoch quality" if batch is None else "batch quality"
        declared = next(row for row in self.algorithm.metrics if re.fullmatch(row.expression, metric))
        self._line(kind, channel=channel, name=metric, tag=tag(declared), value=float(value), epoch=epoch, batch=batch)

    def round(self, number: int, values: Mapping[tuple[str, str], float]) -> None:
        """Print a line with all metrics of a boosting round, which stands without a time."""
        told = (LINES["round"](channel=channel, name=name, value=value) for (channel, name), value in values.items())
        emit(f"[{number}]" + "".join(told))

    def per_model(self, epoch: int, metric: str, values: Iterable[float]) -> None:
        """Print a ``#metrics`` line for each of the models that train side by side."""
        for model, value in enumerate(values):
            self._metrics_line(self.started, {"epoch": epoch, "model": model}, {metric: Aggregate.of([float(value)])})

    def early_stopping(self, epoch: int, criteria: str, value: float) -> None:
        """Print a ``#early_stopping_criteria_metric`` line."""
        self._line("early stopping", epoch=epoch, criteria=criteria, value=value)

    def end_early(self) -> None:
        """Make the epoch that is under way the last."""
        self._ends = True

    def evaluation(self, channel: str, values: Mapping[str, float]) -> None:
        """Print a ``#…_score`` line for each, then the ``#quality_metric`` lines."""
        for name, value in values.items():
            self._line("score", channel=channel, name=name, value=float(value))
        for name, value in values.items():
            self.quality(channel, name, value)

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Measure a phase."""
        start = time.time()
        try:
            yield
        finally:
            self._timings.setdefault(name, []).append((time.time() - start) * 1000)

    def measured(self, name: str, value: float) -> None:
        """Keep a number for the ``#metrics`` line of `phases`."""
        self._timings.setdefault(name, []).append(value)

    def phases(self) -> None:
        """Print the ``#metrics`` line with the times of all phases so far."""
        timings = {name: Aggregate.of(values) for name, values in self._timings.items()}
        self._metrics_line(self.started, {}, timings)
        self._timings = {}

    def finish(self, setup: float) -> None:
        """Print the last ``#metrics`` line.

        Parameters
        ----------
        setup
            Milliseconds before the algorithm began.
        """
        total = (time.time() - self.started) * 1000
        self._metrics_line(self.started, {}, {"setuptime": Aggregate.of([setup]), "totaltime": Aggregate.of([total])})

    def _line(self, kind: str, **values: object) -> None:
        self.info(LINES[kind](host=self.host, **values))

    def _iterator_metrics(self, meta: str, start: float, seen: tuple[int, int], extra: dict[str, object]) -> None:
        """Print how many rows and batches the training data gave."""
        all_rows = sum(rows for rows, _ in self._seen)
        all_batches = sum(batches for _, batches in self._seen)
        most = max((*self._seen, (0, 0)))
        counts = {
            "Total Records Seen": all_rows,
            "Total Batches Seen": all_batches,
            "Max Records Seen Between Resets": most[0],
            "Max Batches Seen Between Resets": most[1],
            "Reset Count": len(self._seen),
            "Number of Records Since Last Reset": seen[0],
            "Number of Batches Since Last Reset": seen[1],
        }
        values = {name: Aggregate(float(count), 1, count, count) for name, count in counts.items()}
        self._metrics_line(start, {"Meta": meta, **extra}, values)

    def _metrics_line(self, start: float, extra: dict[str, object], values: dict[str, Aggregate]) -> None:
        dimensions = {"Algorithm": self.algorithm.log_name, "Host": self.host, "Operation": "training", **extra}
        emit(metrics_line(start, time.time(), dimensions, values) + "\n")
