"""What the training jobs of a tuning job have brought: the counts, the best, and whether more would help."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .platform import Platform
from .store import Thing
from .training_job import KIND as TRAINING_JOB
from .tuning_definitions import OBJECTIVE

__all__ = ["Result", "best", "converged", "counters", "not_improving", "results_of"]

_ENDED: Final = ("Completed", "Failed", "Stopped")

_SETTLED: Final = 10  # jobs in a row that bring nothing
_SLIGHT: Final = 0.001  # of the spread of all values: what is as good as nothing


@dataclass(frozen=True, slots=True)
class Result:
    """A training job of a tuning job, as it is now."""

    thing: Thing

    @property
    def number(self) -> int:
        """Its place among the jobs of the tuning job, the first 1."""
        found: int = self.thing.document["_number"]
        return found

    @property
    def tuned(self) -> Mapping[str, str]:
        """The hyperparameters that were chosen for it."""
        found: Mapping[str, str] = self.thing.document["_tuned"]
        return found

    @property
    def objective(self) -> Mapping[str, str]:
        """Type and MetricName."""
        found: Mapping[str, str] = self.thing.document["_objective"]
        return found

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.thing.status in _ENDED

    @property
    def end(self) -> float:
        """When it has ended."""
        found: float = self.thing.document.get("TrainingEndTime", math.inf)
        return found

    @property
    def value(self) -> float | None:
        """The last number that it printed for the objective; none of a job that has failed."""
        if self.thing.status not in ("Completed", "Stopped"):
            return None
        metrics = self.thing.document.get("FinalMetricDataList", ())
        found = next((metric["Value"] for metric in metrics if metric["MetricName"] == OBJECTIVE), math.nan)
        return found if math.isfinite(found) else None

    @property
    def loss(self) -> float:
        """Its value, or minus it where more is better; infinite where there is none."""
        value = self.value
        if value is None:
            return math.inf
        return -value if self.objective["Type"] == "Maximize" else value

    @property
    def objective_status(self) -> str:
        """Whether there is a value, or may still be."""
        if not self.ended:
            return "Pending"
        return "Failed" if self.value is None else "Succeeded"

    def summary(self) -> dict[str, Any]:
        """Its HyperParameterTrainingJobSummary."""
        known = self.thing.document
        names = ("TrainingJobName", "TrainingJobArn", "TrainingStartTime", "TrainingEndTime", "FailureReason")
        metric = None if self.value is None else {**self.objective, "Value": self.value}
        return {
            **{name: known.get(name) for name in names},
            "TrainingJobDefinitionName": known["_definition"] or None,
            "TuningJobName": self.thing.parent,
            "CreationTime": self.thing.created,
            "TrainingJobStatus": self.thing.status,
            "TunedHyperParameters": self.tuned,
            "FinalHyperParameterTuningJobObjectiveMetric": metric,
            "ObjectiveStatus": self.objective_status,
        }


def results_of(platform: Platform, tuning: Thing) -> list[Result]:
    """The training jobs of a tuning job, in the order of their numbers."""
    found = platform.store.all(TRAINING_JOB, parent=tuning.name)
    # older ones are of a tuning job of the same name, which was deleted
    return sorted((Result(thing) for thing in found if thing.created >= tuning.created), key=lambda one: one.number)


def counters(results: Iterable[Result]) -> dict[str, dict[str, int]]:
    """TrainingJobStatusCounters and ObjectiveStatusCounters."""
    results = list(results)
    statuses = Counter(result.thing.status for result in results)
    objectives = Counter(result.objective_status for result in results)
    return {
        "TrainingJobStatusCounters": {
            "Completed": statuses["Completed"],
            "InProgress": sum(not result.ended for result in results),
            "RetryableError": 0,
            "NonRetryableError": statuses["Failed"],
            "Stopped": statuses["Stopped"],
        },
        "ObjectiveStatusCounters": {name: objectives[name] for name in ("Succeeded", "Pending", "Failed")},
    }


def best(results: Iterable[Result]) -> Result | None:
    """The one with the best value, the earliest of several; None where no job has one."""
    found = [result for result in results if result.value is not None]
    return min(found, key=lambda result: (result.loss, result.end), default=None)


def not_improving(results: Iterable[Result]) -> int:
    """How many jobs have ended with a value since the best one."""
    losses = [result.loss for result in _in_time(results)]
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0


def converged(results: Iterable[Result]) -> float | None:
    """When the search was as good as over; None where it is not.

    That is when ten jobs in a row, after at least ten others, have brought the best value forward by no more than a
    thousandth of the spread of all values.
    """
    found = _in_time(results)
    losses = [result.loss for result in found]
    for count in range(2 * _SETTLED, len(losses) + 1):
        seen = losses[:count]
        if min(seen[:-_SETTLED]) - min(seen) <= _SLIGHT * (max(seen) - min(seen)):
            return found[count - 1].end
    return None


def _in_time(results: Iterable[Result]) -> Sequence[Result]:
    """The jobs that have a value, in the order of their ends."""
    return sorted((result for result in results if result.value is not None), key=lambda result: result.end)
