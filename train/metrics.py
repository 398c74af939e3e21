"""The lines of a training log that programs read, each beside the regular expression that finds it.

The words and signs are those of Amazon's containers: tuning jobs, dashboards and users' scripts match them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..algorithms.base import Algorithm, Metric

__all__ = ["LINES", "Aggregate", "metric_definitions", "metrics_line"]


@dataclass(frozen=True, slots=True)
class Line:
    """A kind of line: how it is written, and how its number is found again."""

    form: str
    regex: str

    def __call__(self, **values: object) -> str:
        """The line."""
        return self.form.format(**values)


LINES: Final[Mapping[str, Line]] = {
    "quality": Line(
        "#quality_metric: host={host}, {channel} {name} <{tag}>={value!r}",
        r"#quality_metric: host=\S+, {channel} {name} <{tag}>=(\S+)",
    ),
    "epoch quality": Line(
        "#quality_metric: host={host}, epoch={epoch}, {channel} {name} <{tag}>={value!r}",
        r"#quality_metric: host=\S+, epoch=\S+, {channel} {name} <{tag}>=(\S+)",
    ),
    "batch quality": Line(  # without a comma after the batch, as Amazon's container has it
        "#quality_metric: host={host}, epoch={epoch}, batch={batch} {channel} {name} <{tag}>={value!r}",
        r"#quality_metric: host=\S+, epoch=\S+, batch=\S+ {channel} {name} <{tag}>=(\S+)",
    ),
    "early stopping": Line(
        "#early_stopping_criteria_metric: host={host}, epoch={epoch}, criteria={criteria}, value={value!r}",
        r"#early_stopping_criteria_metric: host=\S+, epoch=\S+, criteria=\S+, value=(\S+)",
    ),
    "score": Line(
        "#{channel}_score ({host}) : ({name!r}, {value!r})",
        r"#{channel}_score \(\S+\) : \('{name}', (\S+)\)",
    ),
    "round": Line(  # the platform's log shows the tab as #011
        "\t{channel}-{name}:{value:.5f}",
        r".*\[[0-9]+\].*(?:\t|#011){channel}-{name}:(\S+)",
    ),
    "progress": Line(
        "#progress_metric: host={host}, completed {percent!r} % of epochs",
        r"#progress_metric: host=\S+, completed (\S+) %",
    ),
    "progress to the end": Line(
        "#progress_metric: host={host}, completed 100 % epochs",
        r"#progress_metric: host=\S+, completed (\S+) %",
    ),
    "throughput": Line(
        "#throughput_metric: host={host}, train throughput={rate!r} records/second",
        r"#throughput_metric: host=\S+, train throughput=(\S+) records/second",
    ),
}
"""Kind of line → form and regular expression."""

METRICS_REGEX: Final = r"^#metrics (\{.*\})$"
"""Finds the JSON object of a ``#metrics`` line."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Sum, count, least and most of some measurements."""

    sum: float
    count: int
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Aggregate:
        """The aggregate of measurements."""
        return cls(float(sum(values)), len(values), min(values), max(values))

    def to_json(self) -> dict[str, float]:
        """As it stands in the line."""
        return {"sum": self.sum, "count": self.count, "min": self.min, "max": self.max}


def metrics_line(start: float, end: float, dimensions: Mapping[str, Any], metrics: Mapping[str, Aggregate]) -> str:
    """A ``#metrics`` line.

    Parameters
    ----------
    start, end
        Seconds since 1970.
    dimensions
        Algorithm, Host, Operation and what else applies.
    metrics
        By name.

    Examples
    --------
    >>> metrics_line(1.0, 2.5, {"Host": "algo-1"}, {})
    '#metrics {"StartTime": 1.0, "EndTime": 2.5, "Dimensions": {"Host": "algo-1"}, "Metrics": {}}'
    """
    body = {
        "StartTime": start,
        "EndTime": end,
        "Dimensions": dict(dimensions),
        "Metrics": {name: aggregate.to_json() for name, aggregate in metrics.items()},
    }
    return f"#metrics {json.dumps(body)}"


def tag(metric: Metric) -> str:
    """``loss`` for what is minimised, ``score`` for what is maximised."""
    return "loss" if metric.minimize else "score"


def metric_definitions(algorithm: Algorithm) -> list[dict[str, str]]:
    r"""The MetricDefinitions of an algorithm: names and regular expressions.

    Examples
    --------
    >>> from clary.algorithms.registry import algorithm
    >>> metric_definitions(algorithm("kmeans"))[0]
    {'Name': 'train:msd', 'Regex': '#quality_metric: host=\\S+, train msd <loss>=(\\S+)'}
    """
    found = [
        {"Name": name, "Regex": LINES[kind].regex.format(channel=channel, name=metric.expression, tag=tag(metric))}
        for metric in algorithm.metrics
        for channel in metric.channels
        for name, kind in _kinds(metric, channel)
    ]
    by_epochs = {kind for metric in algorithm.metrics for kind in metric.lines.values()} != {"round"}
    told = ("progress", "throughput") if by_epochs else ()
    return found + [{"Name": f"train:{name}", "Regex": LINES[name].regex} for name in told]


def _kinds(metric: Metric, channel: str) -> list[tuple[str, str]]:
    """Names of the definitions of a metric for a channel, and kinds of the lines; tests come but once."""
    name = f"{channel}:{metric.name}"
    if channel == "test":
        return [(name, "quality")]
    return [(name + suffix, kind) for suffix, kind in metric.lines.items()]
