"""Ranges of hyperparameters, and searches in them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.local.faults import ValidationException
from clary.local.ranges import Choice, Continuous, Space, Whole
from clary.local.search import Plan, Search, falls_behind


def numbers(low: float | str, high: float | str, scaling: str = "Auto", name: str = "x") -> dict[str, str]:
    """A range as a request has it."""
    return {"Name": name, "MinValue": str(low), "MaxValue": str(high), "ScalingType": scaling}


SPACE = Space.of(
    {
        "IntegerParameterRanges": [numbers(2, 2000, name="whole")],
        "ContinuousParameterRanges": [
            numbers(-1, 1, name="linear"),
            numbers(1e-6, 1, "Logarithmic", name="log"),
            numbers(0.5, 0.999, "ReverseLogarithmic", name="reverse"),
        ],
        "CategoricalParameterRanges": [{"Name": "word", "Values": ["a", "b", "c"]}],
    }
)


def plan(strategy: str = "Random", **changes: Any) -> Plan:
    """A plan to search for the least."""
    return Plan(**{"name": "test", "strategy": strategy, "maximize": False, "seed": (7, 0), **changes})


@pytest.mark.parametrize("strategy", ["Random", "Bayesian", "Hyperband"])
def test_values_lie_in_their_ranges(strategy: str) -> None:
    """Whatever a search tries is text that can be read back as a value of the range."""
    search = Search(SPACE, plan(strategy))
    for index in range(12):
        found = search.ask(index)
        assert SPACE.values(found) is not None
        assert 2 <= int(found["whole"]) <= 2000
        assert 0.5 <= float(found["reverse"]) <= 0.999
        search.tell(index, float(found["log"]))


def test_scalings() -> None:
    """Logarithmic ranges are drawn from evenly by their logarithms, reverse ones by that of what lacks to one."""
    search = Search(SPACE, plan())
    found = [search.ask(index) for index in range(400)]

    def below(name: str, limit: float) -> float:
        return sum(float(one[name]) < limit for one in found) / len(found)

    assert below("linear", 0) == pytest.approx(0.5, abs=0.1)
    assert below("log", 1e-3) == pytest.approx(0.5, abs=0.1)
    middle = 1 - math.sqrt(0.5 * 0.001)
    assert below("reverse", middle) == pytest.approx(0.5, abs=0.1)
    assert below("whole", math.sqrt(2 * 2000)) == pytest.approx(0.5, abs=0.1)  # Auto: it is wide


def test_auto_scaling() -> None:
    """It is logarithmic for a positive range whose end is a hundred times its beginning, else linear."""
    assert Whole.of(numbers(1, 100)).log
    assert not Whole.of(numbers(1, 99)).log
    assert not Whole.of(numbers(0, 1000)).log
    assert Continuous.of(numbers(0.001, 0.1)).scaling == "Logarithmic"
    assert Continuous.of(numbers(-1, 1)).scaling == "Linear"


@given(st.floats(0, 0.999999), st.floats(0, 0.999999))
def test_reverse_values_never_leave_their_range(one: float, other: float) -> None:
    """What Optuna has of a limit becomes that limit again, or something within, by rounding."""
    low, high = sorted((one, other))
    found = Continuous.of(numbers(repr(low), repr(high), "ReverseLogarithmic"))
    for text in found.limits():
        assert low <= float(found.text(found.value(text))) <= high
        assert float(found.text(found.value(text))) == pytest.approx(float(text), abs=1e-9)
    distribution = found.distribution()
    assert distribution.low == 1 - high


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"IntegerParameterRanges": [numbers("9", "2")]}, "MinValue 9, which is above its MaxValue 2"),
        ({"IntegerParameterRanges": [numbers("1.5", "2")]}, "MinValue '1.5': write an integer"),
        ({"ContinuousParameterRanges": [numbers("few", "2")]}, "MinValue 'few': write a number"),
        ({"ContinuousParameterRanges": [numbers("0", "inf")]}, "MaxValue 'inf': write a number"),
        ({"ContinuousParameterRanges": [numbers("0", "2", "Logarithmic")]}, "for values above 0"),
        ({"ContinuousParameterRanges": [numbers("0", "1", "ReverseLogarithmic")]}, r"ranges within \[0, 1\)"),
        ({"IntegerParameterRanges": [numbers("0", "1", "ReverseLogarithmic")]}, "its values are integers"),
        ({"CategoricalParameterRanges": [{"Name": "x", "Values": ["a", "a"]}]}, "values twice: a"),
        ({"IntegerParameterRanges": [numbers(1, 2)], "ContinuousParameterRanges": [numbers(1, 2)]}, "same .*: x"),
        ({"AutoParameters": [{"Name": "x", "ValueHint": "1"}]}, "AutoParameters are not supported here"),
        ({}, "from 1 to 30 ranges of hyperparameters, got 0"),
        ({"IntegerParameterRanges": [numbers(1, 2, name=f"x{i}") for i in range(31)]}, "got 31"),
    ],
)
def test_ranges_that_are_none(given: dict[str, Any], told: str) -> None:
    """The answer says what is wrong with a range and what to write instead."""
    with pytest.raises(ValidationException, match=told):
        Space.of(given)


def test_a_grid() -> None:
    """It is all combinations, each once; anything but words has no grid."""
    space = Space((Choice("a", ("1", "2")), Choice("b", ("x", "y", "z"))))
    search = Search(space, plan("Grid"))
    assert space.grid() == 6
    found = [tuple(search.ask(index).values()) for index in range(6)]
    assert found == [(a, b) for a in "12" for b in "xyz"]
    with pytest.raises(ValidationException, match="Grid is for CategoricalParameterRanges alone: whole, linear"):
        SPACE.grid()


def test_a_search_that_is_taken_up() -> None:
    """Knowing of the earlier jobs, it draws what it would have drawn anyway; another seed draws something else."""
    whole, later = Search(SPACE, plan("Bayesian")), Search(SPACE, plan("Bayesian"))
    found = []
    for index in range(8):
        found.append(whole.ask(index))
        whole.tell(index, float(found[-1]["log"]))
    for index in range(7):
        later.adopt(index, found[index])
        later.tell(index, float(found[index]["log"]))
    assert later.ask(7)["word"] == found[7]["word"]
    assert float(later.ask(8)["log"]) > 0
    assert Search(SPACE, plan("Bayesian", seed=(8, 0))).ask(0) != found[0]


def test_a_bayesian_search_learns() -> None:
    """What it tries last is nearer to the best than what it has tried first; what others have found counts, too."""
    space = Space((Continuous("x", -10.0, 10.0, "Linear"),))
    search = Search(space, plan("Bayesian"))
    losses = []
    for index in range(40):
        losses.append((float(search.ask(index)["x"]) - 3) ** 2)
        search.tell(index, losses[-1])
    assert sum(losses[-10:]) < sum(losses[:10]) / 2
    warm = Search(space, plan("Bayesian", seed=(9, 0)))
    for index in range(40):
        warm.learn({"x": str(index / 2 - 10), "other": "1"}, (index / 2 - 13) ** 2)
    warm.learn({"x": "11"}, -1000.0)  # it is out of the range
    warm.learn({"other": "1"}, -1000.0)
    assert abs(float(warm.ask(0)["x"]) - 3) < 5


def test_hyperband_ends_what_is_worse() -> None:
    """Of jobs that differ from the first epoch on, the worst are ended early, and the best is not."""
    search = Search(SPACE, plan("Hyperband", resources=(1, 9)))
    ended = {}
    for index in range(30):
        search.ask(index)
        loss = float(index * 7 % 30)
        ended[loss] = next((epoch for epoch in range(1, 10) if search.hopeless(index, loss)), None)
        search.tell(index, loss)
    assert ended[0.0] is None
    worst = [ended[loss] for loss in ended if loss >= 20]
    assert sum(epoch is not None for epoch in worst) > len(worst) / 2


def test_the_median_rule() -> None:
    """A job is behind when its value is worse than the median of three or more earlier means."""
    means = [3.0, 5.0, 7.0]
    assert falls_behind(5.1, means, maximize=False)
    assert not falls_behind(4.9, means, maximize=False)
    assert falls_behind(4.9, means, maximize=True)
    assert not falls_behind(5.0, means, maximize=True)
    assert not falls_behind(9.0, means[:2], maximize=False)
