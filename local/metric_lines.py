"""The numbers that a job prints, found by the regular expressions of its MetricDefinitions.

Expressions of ours are quick on any line. Those of users need not be, and a search lets nothing else in its process
go on, not even the end: they are searched for in a process of their own.
"""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from ..algorithms.registry import ALGORITHMS
from ..algorithms.registry import algorithm as find_algorithm
from ..logs import emit
from ..train.metrics import metric_definitions
from . import metric_matcher
from .faults import ValidationException
from .store import Metric

__all__ = ["MetricLines", "definitions_of"]

_LONGEST: Final = 4096  # characters of a line that are looked at; a request of so many fits into a pipe
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
        self._names = [one["Name"] for one in definitions]
        self._expressions = [_compiled(one) for one in definitions]
        foreign = {at: one.pattern for at, one in enumerate(self._expressions) if one.pattern not in _ours()}
        self._foreign = _Foreign(self._names, foreign)
        self._own = [at for at in range(len(self._names)) if at not in foreign]
        self.last: dict[str, Metric] = {}

    def found(self, line: str) -> list[Metric]:
        """The numbers in a line."""
        line = line[:_LONGEST]
        now = time.time()
        texts = self._foreign.found(line)
        for at in self._own:
            if match := self._expressions[at].search(line):
                texts[at] = match.group(1)
        values = ((self._names[at], _number(texts[at])) for at in sorted(texts))
        found = [Metric(name, now, value) for name, value in values if value is not None]
        self.last.update((metric.name, metric) for metric in found)
        return found

    def close(self) -> None:
        """End the process that searches, if there is one; it starts anew with the next line."""
        self._foreign.close()

    def final(self) -> list[dict[str, Any]]:
        """The FinalMetricDataList."""
        metrics = list(self.last.values())[:_MOST]
        return [{"MetricName": one.name, "Value": one.value, "Timestamp": one.time} for one in metrics]


class _Foreign:
    """Searches with expressions of users; one that takes too long is given up, and the rest goes on.

    Parameters
    ----------
    names
        Of all metrics.
    expressions
        Number of a metric → its expression.
    """

    def __init__(self, names: Sequence[str], expressions: Mapping[int, str]) -> None:
        self._names = names
        self._expressions = dict(expressions)
        self._lock = threading.Lock()  # hosts print at once
        self._process: subprocess.Popen[str] | None = None
        self._finish: weakref.finalize[..., Any] | None = None

    def found(self, line: str) -> dict[int, str | None]:
        """Number of a metric → what its first group has found."""
        texts: dict[int, str | None] = {}
        with self._lock:
            while left := [at for at in self._expressions if at not in texts]:
                for at, text in zip(left, self._answers(line, left), strict=False):
                    texts[at] = text
                if len(texts) < len(self._expressions):
                    self._give_up(next(at for at in left if at not in texts))
        return {at: text for at, text in texts.items() if text is not None}

    def close(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            self._end()

    def _answers(self, line: str, numbers: Sequence[int]) -> list[str | None]:
        """What the process answers before its end, if that comes first."""
        order = list(self._expressions)
        try:
            process = self._process or self._started()
            assert process.stdin is not None  # noqa: S101  # it is a pipe
            assert process.stdout is not None  # noqa: S101  # so is this
            process.stdin.write(json.dumps([line, [order.index(at) for at in numbers]]) + "\n")
            process.stdin.flush()
        except OSError:  # there is no process
            return []
        answers = (process.stdout.readline() for _ in numbers)
        return [json.loads(answer) for answer in answers if answer.endswith("\n")]

    def _started(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-I", "-S", str(Path(metric_matcher.__file__))]
        process = subprocess.Popen(  # noqa: S603  # it is ours
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C is for us: it would be taken for an expression's fault
        )
        self._process, self._finish = process, weakref.finalize(self, _end, process)
        assert process.stdin is not None  # noqa: S101  # it is a pipe
        process.stdin.write(json.dumps(list(self._expressions.values())) + "\n")
        return process

    def _give_up(self, number: int) -> None:
        """Do without the expression at which the process has ended."""
        code = self._end()
        late = f"it takes more than {metric_matcher.LIMIT:.0f} s on a line of the log"
        why = late if code == -signal.SIGVTALRM else f"the process that searches for it has ended with {code}"
        expression = self._expressions.pop(number)
        emit(f"the metric {self._names[number]!r} with the Regex {expression!r} is not looked for any more: {why}")

    def _end(self) -> int | None:
        """End the process, if there is one; its exit code."""
        code = self._finish() if self._finish else None
        self._process = None
        return code


def _end(process: subprocess.Popen[str]) -> int:
    """End the process and let go of its pipes; its exit code, which is its own where it had ended."""
    process.kill()
    process.communicate()
    return process.returncode


@cache
def _ours() -> frozenset[str]:
    """The expressions of all built-in algorithms."""
    return frozenset(one["Regex"] for name in ALGORITHMS for one in metric_definitions(find_algorithm(name)))


def _compiled(definition: Mapping[str, str]) -> re.Pattern[str]:
    try:
        return re.compile(definition["Regex"])
    except re.error as error:
        told = f"the metric {definition['Name']!r} has the Regex {definition['Regex']!r}, which cannot be read: {error}"
        raise ValidationException(told) from error


def _number(text: str | None) -> float | None:
    try:
        number = float((text or "").rstrip(",;)"))
    except ValueError:
        return None
    return number if math.isfinite(number) else None  # no answer in JSON could have another
