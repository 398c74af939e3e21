"""The numbers that a job prints, found by the regular expressions of its MetricDefinitions."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..algorithms.registry import algorithm as find_algorithm
from ..train.metrics import metric_definitions
from .faults import ValidationException
from .store import Metric

__all__ = ["MetricLines", "definitions_of"]

_LONGEST: Final = 4096  # characters of a line that are looked at: a user's expression may take long on longer ones
_MOST: Final = 40


def definitions_of(algorithm: str | None, given: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The MetricDefinitions of a job: those of the built-in algorithm, or for any other image the given ones.

    Raises
    ------
    ValidationException
        When some are given for a built-in algorithm, as AWS refuses them, or one cannot be read.
    """
    if algorithm is not None:
        if given:
            raise ValidationException(
                "You can't override the metric definitions for Amazon SageMaker algorithms. "
                "Please retry the request without specifying metric definitions."
            )
        return metric_definitions(find_algorithm(algorithm))
    MetricLines(given)
    return [dict(definition) for definition in given]


class MetricLines:
    """Finds the numbers of metrics in lines.

    Parameters
    ----------
    definitions
        Names and regular expressions, of which the first group is the number.

    Attributes
    ----------
    last
        The last number of each metric.

    Raises
    ------
    ValidationException
        When a regular expression cannot be read.
    """

    def __init__(self, definitions: Sequence[Mapping[str, str]]) -> None:
        self._expressions = [(one["Name"], _compiled(one)) for one in definitions]
        self.last: dict[str, Metric] = {}

    def found(self, line: str) -> list[Metric]:
        """The numbers in a line."""
        line = line[:_LONGEST]
        now = time.time()
        found = []
        for name, expression in self._expressions:
            if (match := expression.search(line)) and (value := _number(match)) is not None:
                found.append(Metric(name, now, value))
        self.last.update((metric.name, metric) for metric in found)
        return found

    def final(self) -> list[dict[str, Any]]:
        """The FinalMetricDataList."""
        metrics = list(self.last.values())[:_MOST]
        return [{"MetricName": one.name, "Value": one.value, "Timestamp": one.time} for one in metrics]


def _compiled(definition: Mapping[str, str]) -> re.Pattern[str]:
    try:
        return re.compile(definition["Regex"])
    except re.error as error:
        told = f"the metric {definition['Name']!r} has the Regex {definition['Regex']!r}, which cannot be read: {error}"
        raise ValidationException(told) from error


def _number(match: re.Match[str]) -> float | None:
    try:
        number = float(match.group(1).rstrip(",;)"))
    except (ValueError, IndexError, AttributeError):
        return None
    return number if math.isfinite(number) else None  # no answer in JSON could have another
