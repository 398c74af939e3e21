"""Ranges of hyperparameters: what a tuning job may try, and what Optuna is told of it.

SageMaker writes a value as text; Optuna has a number or a word. Under ReverseLogarithmic scaling Optuna sees what the
value lacks to one, on a logarithmic scale. Auto scaling is logarithmic where a range is positive and its end at least
a hundred times its beginning, and linear otherwise.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from .faults import ValidationException

__all__ = ["Choice", "Continuous", "Range", "Space", "Whole"]

_MOST: Final = 30  # ranges of a tuning job
_WIDE: Final = 100
_REVERSE: Final = "ReverseLogarithmic"


class Range(Protocol):
    """What one hyperparameter may be."""

    @property
    def name(self) -> str:
        """The hyperparameter's."""
        ...

    def distribution(self) -> Any:
        """The range as Optuna has it."""
        ...

    def text(self, value: Any) -> str:
        """A value of Optuna's as SageMaker writes it."""
        ...

    def value(self, text: str) -> Any:
        """A text as Optuna has it.

        Raises
        ------
        ValueError
            When it is not within the range.
        """
        ...

    def limits(self) -> Sequence[str]:
        """The outermost values, or all where they have no order."""
        ...


@dataclass(frozen=True, slots=True)
class Whole:
    """Integers from `low` to `high`.

    Examples
    --------
    >>> Whole.of({"Name": "k", "MinValue": "2", "MaxValue": "9"})
    Whole(name='k', low=2, high=9, log=False)
    """

    name: str
    low: int
    high: int
    log: bool

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Whole:
        """The range that a request describes.

        Raises
        ------
        ValidationException
            When it is none.
        """
        low, high = (_number(given, field, int) for field in ("MinValue", "MaxValue"))
        return cls(given["Name"], low, high, _scaling(given, low, high) == "Logarithmic")

    def distribution(self) -> Any:
        """The range as Optuna has it."""
        from optuna.distributions import IntDistribution

        return IntDistribution(self.low, self.high, log=self.log)

    def text(self, value: int) -> str:
        """A value as SageMaker writes it."""
        return str(value)

    def value(self, text: str) -> int:
        """A text as Optuna has it."""
        number = int(text)
        _check_inside(number, self.low, self.high)
        return number

    def limits(self) -> Sequence[str]:
        """The outermost values."""
        return str(self.low), str(self.high)


@dataclass(frozen=True, slots=True)
class Continuous:
    """Numbers from `low` to `high`.

    Examples
    --------
    >>> Continuous.of({"Name": "momentum", "MinValue": "0.5", "MaxValue": "0.99", "ScalingType": "ReverseLogarithmic"})
    Continuous(name='momentum', low=0.5, high=0.99, scaling='ReverseLogarithmic')
    """

    name: str
    low: float
    high: float
    scaling: str

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Continuous:
        """The range that a request describes.

        Raises
        ------
        ValidationException
            When it is none.
        """
        low, high = (_number(given, field, float) for field in ("MinValue", "MaxValue"))
        scaling = _scaling(given, low, high)
        if scaling == _REVERSE and not (low >= 0 and high < 1):
            raise ValidationException(
                f"The range of {given['Name']} cannot have the scaling {_REVERSE}: that is for ranges within [0, 1), "
                f"not from {low} to {high}"
            )
        return cls(given["Name"], low, high, scaling)

    def distribution(self) -> Any:
        """The range as Optuna has it."""
        from optuna.distributions import FloatDistribution

        low, high = sorted((self._turned(self.low), self._turned(self.high)))
        return FloatDistribution(low, high, log=self.scaling != "Linear")

    def text(self, value: float) -> str:
        """A value as SageMaker writes it."""
        return repr(min(max(self._turned(value), self.low), self.high))

    def value(self, text: str) -> float:
        """A text as Optuna has it."""
        number = float(text)
        _check_inside(number, self.low, self.high)
        return self._turned(number)

    def limits(self) -> Sequence[str]:
        """The outermost values."""
        return repr(self.low), repr(self.high)

    def _turned(self, value: float) -> float:
        return 1.0 - value if self.scaling == _REVERSE else value


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words."""

    name: str
    values: tuple[str, ...]

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Choice:
        """The range that a request describes.

        Raises
        ------
        ValidationException
            When it is none.
        """
        if twice := _twice(given["Values"]):
            raise ValidationException(f"The range of {given['Name']} has values twice: {', '.join(twice)}")
        return cls(given["Name"], tuple(given["Values"]))

    def distribution(self) -> Any:
        """The range as Optuna has it."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)

    def text(self, value: str) -> str:
        """A value as SageMaker writes it."""
        return value

    def value(self, text: str) -> str:
        """A text as Optuna has it."""
        if text not in self.values:
            raise ValueError(f"{text!r} is none of {', '.join(self.values)}")
        return text

    def limits(self) -> Sequence[str]:
        """All values."""
        return self.values


@dataclass(frozen=True, slots=True)
class Space:
    """All ranges of a tuning job, or of one of its definitions."""

    ranges: tuple[Range, ...]

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Space:
        """The ranges that ParameterRanges describes.

        Raises
        ------
        ValidationException
            When some are none, or there are too many or none at all.
        """
        if given.get("AutoParameters"):
            raise ValidationException(
                "AutoParameters are not supported here: name the ranges of these hyperparameters in "
                "IntegerParameterRanges, ContinuousParameterRanges or CategoricalParameterRanges"
            )
        found: tuple[Range, ...] = (
            *map(Whole.of, given.get("IntegerParameterRanges") or ()),
            *map(Continuous.of, given.get("ContinuousParameterRanges") or ()),
            *map(Choice.of, given.get("CategoricalParameterRanges") or ()),
        )
        if twice := _twice([one.name for one in found]):
            raise ValidationException(f"There are several ranges of the same hyperparameters: {', '.join(twice)}")
        if not 1 <= len(found) <= _MOST:
            raise ValidationException(f"A tuning job has from 1 to {_MOST} ranges of hyperparameters, got {len(found)}")
        return cls(found)

    @property
    def names(self) -> frozenset[str]:
        """The hyperparameters that vary."""
        return frozenset(one.name for one in self.ranges)

    def distributions(self) -> dict[str, Any]:
        """All ranges as Optuna has them."""
        return {one.name: one.distribution() for one in self.ranges}

    def texts(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Values of Optuna's as SageMaker writes them."""
        return {one.name: one.text(values[one.name]) for one in self.ranges}

    def values(self, texts: Mapping[str, str]) -> dict[str, Any] | None:
        """Hyperparameters as Optuna has them; None where they do not fit the ranges."""
        try:
            return {one.name: one.value(texts[one.name]) for one in self.ranges}
        except (KeyError, ValueError):
            return None

    def grid(self) -> int:
        """Number of combinations.

        Raises
        ------
        ValidationException
            When they cannot be counted.
        """
        if others := [one.name for one in self.ranges if not isinstance(one, Choice)]:
            raise ValidationException(
                f"The strategy Grid is for CategoricalParameterRanges alone: {', '.join(others)} is none of them"
            )
        return math.prod(len(one.limits()) for one in self.ranges)

    def combination(self, index: int) -> dict[str, str]:
        """One of all combinations of words; the last range varies fastest."""
        found = {}
        for one in reversed(self.ranges):
            words = one.limits()
            index, place = divmod(index, len(words))
            found[one.name] = words[place]
        return {one.name: found[one.name] for one in self.ranges}


def _number(given: Mapping[str, str], field: str, kind: type[Any]) -> Any:
    noun = "an integer" if kind is int else "a number"
    try:
        number = kind(given[field])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValidationException(f"The range of {given['Name']} has the {field} {given[field]!r}: write {noun}")
    return number


def _scaling(given: Mapping[str, str], low: float, high: float) -> str:
    """The scaling that a range has in the end."""
    name, scaling = given["Name"], given.get("ScalingType", "Auto")
    if low > high:
        raise ValidationException(f"The range of {name} has the MinValue {low}, which is above its MaxValue {high}")
    if scaling == "Logarithmic" and low <= 0:
        raise ValidationException(
            f"The range of {name} cannot have the scaling Logarithmic: that is for values above 0, not from {low}"
        )
    if scaling == _REVERSE and isinstance(low, int):
        raise ValidationException(f"The range of {name} cannot have the scaling {_REVERSE}: its values are integers")
    if scaling == "Auto":
        return "Logarithmic" if low > 0 and high / low >= _WIDE else "Linear"
    return scaling


def _check_inside(number: float, low: float, high: float) -> None:
    if not low <= number <= high:
        raise ValueError(f"{number} is not between {low} and {high}")


def _twice(words: Sequence[str]) -> list[str]:
    return [word for word, count in Counter(words).items() if count > 1]
