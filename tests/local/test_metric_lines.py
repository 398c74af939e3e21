"""Numbers in log lines."""

from __future__ import annotations

import pytest

from clary.local.faults import ValidationException
from clary.local.metric_lines import MetricLines, definitions_of

LOSS = {"Name": "loss", "Regex": r"loss=(\S+)"}


def test_the_last_counts() -> None:
    """Each line gives its number, and the last one is final."""
    lines = MetricLines([LOSS, {"Name": "epoch", "Regex": "epoch ([0-9]+)"}])
    found = [
        [(one.name, one.value) for one in lines.found(line)] for line in ("epoch 1 loss=0.5,", "none", "loss=1e-3")
    ]
    assert found == [[("loss", 0.5), ("epoch", 1)], [], [("loss", 0.001)]]
    assert [(one["MetricName"], one["Value"]) for one in lines.final()] == [("loss", 0.001), ("epoch", 1)]


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "low", ""])
def test_what_is_no_number(text: str) -> None:
    """Only finite numbers are metrics: no answer in JSON could have another."""
    assert MetricLines([LOSS]).found(f"loss={text}") == []


def test_expressions_without_a_group() -> None:
    """One that finds no number finds nothing."""
    assert MetricLines([{"Name": "a", "Regex": "loss"}, {"Name": "b", "Regex": "loss(x)?"}]).found("loss") == []


def test_bad_expressions() -> None:
    """One that cannot be read is refused."""
    with pytest.raises(ValidationException, match="the metric 'a' has the Regex '\\('"):
        definitions_of(None, [{"Name": "a", "Regex": "("}])


def test_definitions() -> None:
    """Built-in algorithms have their own, which nobody may change; other images have what is asked for."""
    names = [definition["Name"] for definition in definitions_of("xgboost", ())]
    assert "validation:rmse" in names
    with pytest.raises(ValidationException, match="You can't override the metric definitions"):
        definitions_of("kmeans", [LOSS])
    assert definitions_of(None, [LOSS]) == [LOSS]
