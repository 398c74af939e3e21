"""The training jobs that a tuning job starts, as its TrainingJobDefinition or each of several describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..algorithms.base import Algorithm
from ..algorithms.registry import algorithm as find_algorithm
from .checked import check_job
from .executors import Container
from .faults import ValidationException
from .metric_lines import definitions_of
from .platform import Platform
from .ranges import Continuous, Range, Space
from .training_job import container_of

__all__ = ["OBJECTIVE", "Definition"]

OBJECTIVE: Final = "ObjectiveMetric"
"""The metric that stands for the objective in every training job."""

_STATIC: Final = "_tuning_objective_metric"
_MOST: Final = 100  # hyperparameters of a training job
_OWN: Final = frozenset(
    (
        "DefinitionName",
        "TuningObjective",
        "HyperParameterRanges",
        "StaticHyperParameters",
        "HyperParameterTuningResourceConfig",
    )
)
"""What a definition has and a training job has not."""


@dataclass(frozen=True, slots=True)
class Definition:
    """One definition.

    Parameters
    ----------
    given
        As the request has it, and what `described` adds.
    objective
        Type and MetricName.
    space
        What varies.
    """

    given: Mapping[str, Any]
    objective: Mapping[str, str]
    space: Space

    @classmethod
    def all_of(cls, document: Mapping[str, Any]) -> list[Definition]:
        """The definitions of a tuning job.

        Raises
        ------
        ValidationException
            When there are none, or one is not whole.
        """
        config = document["HyperParameterTuningJobConfig"]
        one, several = document.get("TrainingJobDefinition"), document.get("TrainingJobDefinitions", [])
        if (one is None) == (not several):
            raise ValidationException("Give either TrainingJobDefinition or TrainingJobDefinitions")
        if one is not None:
            return [cls._of(one, config.get("HyperParameterTuningJobObjective"), config.get("ParameterRanges"))]
        found = [cls._of(each, None, None) for each in several]
        if len({definition.name for definition in found} - {""}) < len(found):
            raise ValidationException("Each of several TrainingJobDefinitions needs a DefinitionName of its own")
        if len({definition.objective["Type"] for definition in found}) > 1:
            raise ValidationException("All TrainingJobDefinitions need the same Type of TuningObjective to be compared")
        return found

    @classmethod
    def _of(cls, given: Mapping[str, Any], objective: Any, ranges: Any) -> Definition:
        objective = given.get("TuningObjective") or objective
        ranges = given.get("HyperParameterRanges") or ranges
        name = given.get("DefinitionName", "")
        if objective is None:
            raise ValidationException(
                "An objective is missing: give HyperParameterTuningJobConfig.HyperParameterTuningJobObjective, or "
                f"TuningObjective in the definition {name}".rstrip()
            )
        if ranges is None:
            raise ValidationException(
                "Ranges of hyperparameters are missing: give HyperParameterTuningJobConfig.ParameterRanges, or "
                f"HyperParameterRanges in the definition {name}".rstrip()
            )
        return cls(given, objective, Space.of(ranges))

    @property
    def name(self) -> str:
        """DefinitionName; empty where it has none."""
        found: str = self.given.get("DefinitionName", "")
        return found

    @property
    def maximize(self) -> bool:
        """Whether more is better."""
        return self.objective["Type"] == "Maximize"

    def request(self, name: str, hyperparameters: Mapping[str, str]) -> dict[str, Any]:
        """The request of CreateTrainingJob for one of its jobs."""
        found = {field: value for field, value in self.given.items() if field not in _OWN}
        found["TrainingJobName"] = name
        found["HyperParameters"] = {**self.given.get("StaticHyperParameters", {}), **hyperparameters}
        found["ResourceConfig"] = self._resources()
        specification = self.given["AlgorithmSpecification"]
        found["AlgorithmSpecification"] = {k: v for k, v in specification.items() if k != "MetricDefinitions"}
        if config := self.given.get("CheckpointConfig"):  # no two jobs share checkpoints
            found["CheckpointConfig"] = {**config, "S3Uri": f"{config['S3Uri'].rstrip('/')}/{name}"}
        return found

    @property
    def metrics(self) -> list[dict[str, str]]:
        """MetricDefinitions of its jobs."""
        found: list[dict[str, str]] = self.given["AlgorithmSpecification"]["MetricDefinitions"]
        return found

    def described(self, platform: Platform) -> dict[str, Any]:
        """The definition with everything that a description always has.

        Raises
        ------
        ClaryError
            When its jobs could not run.
        """
        specification = self.given["AlgorithmSpecification"]
        if "TrainingImage" not in specification:
            raise ValidationException(
                "AlgorithmSpecification.AlgorithmName is not supported here: name an image in TrainingImage"
            )
        sample = self.request("name", {})
        container = container_of(sample)
        check_job(sample, container)
        given = [one for one in specification.get("MetricDefinitions", ()) if one["Name"] != OBJECTIVE]
        metrics = definitions_of(container.algorithm, given)
        expression = self._expression(container, metrics)
        self._check_names()
        if container.algorithm is not None:
            algorithm = find_algorithm(container.algorithm)
            self._check_objective(algorithm)
            for one in self.space.ranges:
                _check_range(one, algorithm)
        platform.executor_of(container)
        return {
            **self.given,
            "StaticHyperParameters": {
                **self.given.get("StaticHyperParameters", {}),
                _STATIC: self.objective["MetricName"],
            },
            "AlgorithmSpecification": {
                **specification,
                "MetricDefinitions": [*metrics, {"Name": OBJECTIVE, "Regex": expression}],
            },
            "OutputDataConfig": {"KmsKeyId": "", **self.given["OutputDataConfig"]},
        }

    def _resources(self) -> Mapping[str, Any]:
        """ResourceConfig of its jobs: of several instance types the first, as any is this machine."""
        plain: Mapping[str, Any] | None = self.given.get("ResourceConfig")
        tuning = self.given.get("HyperParameterTuningResourceConfig")
        if (plain is None) == (tuning is None):
            raise ValidationException("Give either ResourceConfig or HyperParameterTuningResourceConfig")
        if plain is not None:
            return plain
        assert tuning is not None  # noqa: S101  # as either is there
        first: Mapping[str, Any] = next(iter(tuning.get("InstanceConfigs", ())), {})
        found = {key: value for key, value in tuning.items() if key not in ("InstanceConfigs", "AllocationStrategy")}
        return {**found, **first}

    def _expression(self, container: Container, metrics: list[dict[str, str]]) -> str:
        """The objective's regular expression."""
        name = self.objective["MetricName"]
        found = {metric["Name"]: metric["Regex"] for metric in metrics}
        if name not in found:
            known = ", ".join(found) or "none: add it to AlgorithmSpecification.MetricDefinitions"
            raise ValidationException(
                f"The objective metric for the hyperparameter tuning job, [{name}], isn't valid for the "
                f"[{container.algorithm or container.image}] algorithm. Choose a valid objective metric. There are "
                f"{known}"
            )
        return found[name]

    def _check_names(self) -> None:
        static = self.given.get("StaticHyperParameters", {}).keys()
        if both := sorted(static & self.space.names):
            raise ValidationException(f"Hyperparameters are both static and tuned: {', '.join(both)}")
        if len(static) + len(self.space.names) > _MOST:
            raise ValidationException(f"A training job has up to {_MOST} hyperparameters, static and tuned ones")

    def _check_objective(self, algorithm: Algorithm) -> None:
        """Refuse to maximise a loss."""
        name, kind = self.objective["MetricName"], self.objective["Type"]
        least = {
            f"{channel}:{metric.name}{suffix}": metric.minimize
            for metric in algorithm.metrics
            for channel in metric.channels
            for suffix in ("", *metric.lines)
        }
        if name in least and least[name] == (kind == "Maximize"):
            raise ValidationException(
                f"The objective metric type, [{kind}], that you specified for objective metric, [{name}], isn't valid "
                f"for the [{algorithm.name}] algorithm. Choose a valid objective metric type."
            )


def _check_range(one: Range, algorithm: Algorithm) -> None:
    """Refuse a range that goes beyond what the algorithm takes."""
    specs = {name: spec for spec in algorithm.params.specs() for name in (spec.name, *spec.aliases)}
    spec = specs.get(one.name)
    if spec is None:
        raise ValidationException(
            f"{algorithm.name} has no hyperparameter {one.name!r} to tune: known are {', '.join(specs)}"
        )
    if isinstance(one, Continuous) and spec.kind is int:
        raise ValidationException(
            f"The hyperparameter {one.name!r} of {algorithm.name} must be {spec.allowed}: use IntegerParameterRanges"
        )
    for text in one.limits():
        try:
            fits = spec.admits(spec.read(text))
        except ValueError:
            fits = False
        if not fits:
            raise ValidationException(
                f"The range of {one.name} holds {text!r}: {algorithm.name} takes for it {spec.allowed}"
            )
