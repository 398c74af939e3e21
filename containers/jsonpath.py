"""The part of JSONPath that batch transform's filters have.

What selects one thing gives that thing; several names give an object with them; several places, a slice or a star
give a list, and the rest of the path goes on with each of its elements.

References
----------
.. [1] Amazon SageMaker developer guide, "Associate Prediction Results with Input Records".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..errors import DataError, UsageError

__all__ = ["JsonPath"]

_LONGEST: Final = 63  # characters, as in CreateTransformJob
_DOT: Final = re.compile(r"\.(\*|[^\s.\[\]'\"*?@(),:$]+)")
_BRACKETS: Final = re.compile(r"""\.?\[((?:'[^']*'|"[^"]*"|[^\]'"])*)\]""")
_QUOTED: Final = re.compile(r"""\s*(?:'([^']*)'|"([^"]*)")\s*(?:,|$)""")
_SLICE: Final = re.compile(r"\s*(-?\d+)?\s*:\s*(-?\d+)?\s*")
_NUMBER: Final = re.compile(r"\s*-?\d+\s*")
_KNOWN: Final = "it takes $, .name, ['a','b'], [0], [0,-1], [1:3] and *"


@dataclass(frozen=True, slots=True)
class _Names:
    """Fields of an object."""

    names: tuple[str, ...]

    @property
    def single(self) -> bool:
        return len(self.names) == 1

    def select(self, value: Any) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise DataError(f"the field {self.names[0]!r} is asked of {_kind(value)}, not of an object")
        for name in self.names:
            if name not in value:
                raise DataError(f"there is no field {name!r}")
        return {name: value[name] for name in self.names}


@dataclass(frozen=True, slots=True)
class _Places:
    """Elements of an array."""

    parts: tuple[int | slice, ...]

    @property
    def single(self) -> bool:
        return len(self.parts) == 1 and isinstance(self.parts[0], int)

    def select(self, value: Any) -> Sequence[Any]:
        if not isinstance(value, list):
            raise DataError(f"an element is asked of {_kind(value)}, not of an array")
        found: list[Any] = []
        for part in self.parts:
            if isinstance(part, slice):
                found += value[part]
            elif -len(value) <= part < len(value):
                found.append(value[part])
            else:
                raise DataError(f"there is no element {part} in an array of {len(value)}")
        return found


@dataclass(frozen=True, slots=True)
class _All:
    """All elements of an array, or all values of an object."""

    single = False

    def select(self, value: Any) -> Sequence[Any]:
        if isinstance(value, Mapping):
            return list(value.values())
        if not isinstance(value, list):
            raise DataError(f"* is asked of {_kind(value)}, not of an array or object")
        return value


_Step = _Names | _Places | _All


class JsonPath:
    """A path that is ready to be applied.

    Parameters
    ----------
    text
        What the user wrote.

    Raises
    ------
    UsageError
        When it is longer than 63 characters, or has what batch transform does not know.

    Examples
    --------
    >>> JsonPath("$.data['a','b']")({"data": {"a": 1, "b": 2, "c": 3}})
    {'a': 1, 'b': 2}
    >>> JsonPath("$[0,-2:]")([10, 20, 30, 40])
    [10, 30, 40]
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._steps = _parsed(text)

    @property
    def whole(self) -> bool:
        """Whether it selects everything, as it is."""
        return not self._steps

    def __call__(self, value: Any) -> Any:
        """What the path selects of a JSON value.

        Raises
        ------
        DataError
            When the value has no such field or element.
        """
        try:
            return _walk(value, self._steps)
        except DataError as error:
            raise DataError(f"{self.text}: {error}") from error

    def check_for_rows(self) -> None:
        """Refuse a path that a row of CSV, an array of texts, can never have.

        Raises
        ------
        UsageError
            When it asks for a name, or for a part of a field.
        """
        if any(isinstance(step, _Names) for step in self._steps):
            raise UsageError(f"{self.text}: the columns of CSV have no names: write their places, like $[0,2]")
        if len(self._steps) > 1:
            raise UsageError(f"{self.text}: a field of CSV has no parts: write one pair of brackets, like $[0,2]")


def _walk(value: Any, steps: Sequence[_Step]) -> Any:
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    found = step.select(value)
    if isinstance(found, Mapping) and not (step.single or rest):
        return found
    items = list(found.values()) if isinstance(found, Mapping) else found
    if step.single:
        return _walk(items[0], rest)
    return [_walk(item, rest) for item in items]


def _parsed(text: str) -> tuple[_Step, ...]:
    if len(text) > _LONGEST:
        raise UsageError(f"the JSONPath {text!r} has {len(text)} characters: at most {_LONGEST} are allowed")
    if not text.startswith("$"):
        raise UsageError(f"the JSONPath {text!r} does not begin with $")
    steps: list[_Step] = []
    at = 1
    while at < len(text):
        if found := _DOT.match(text, at):
            steps.append(_All() if found[1] == "*" else _Names((found[1],)))
        elif found := _BRACKETS.match(text, at):
            steps.append(_bracketed(found[1], text))
        else:
            raise UsageError(f"the JSONPath {text!r} is not understood from {text[at:]!r} on: {_KNOWN}")
        at = found.end()
    return tuple(steps)


def _bracketed(inside: str, text: str) -> _Step:
    """The step that is written in brackets."""
    if inside.strip() == "*":
        return _All()
    if "'" in inside or '"' in inside:
        names = [first or second for first, second in _QUOTED.findall(inside)]
        if _QUOTED.sub("", inside) or inside.rstrip().endswith(","):
            raise UsageError(f"the JSONPath {text!r} has [{inside}]: write names as ['a'] or ['a','b']")
        return _Names(tuple(names))
    return _Places(tuple(_part(part, text) for part in inside.split(",")))


def _part(part: str, text: str) -> int | slice:
    if found := _SLICE.fullmatch(part):
        return slice(*(None if number is None else int(number) for number in found.groups()))
    if _NUMBER.fullmatch(part):
        return int(part)
    raise UsageError(
        f"the JSONPath {text!r} has [{part}], which is neither a number, nor a slice, nor quoted: {_KNOWN}"
    )


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "an array"
    return "an object" if isinstance(value, Mapping) else "a plain value"
