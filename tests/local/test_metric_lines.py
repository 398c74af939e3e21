"""Numbers in log lines."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from clary.local.faults import ValidationException
from clary.local.metric_lines import MetricLines, definitions_of

LOSS = {"Name": "loss", "Regex": r"loss=(\S+)"}
LIMIT: Final = 60.0  # seconds
TICK: Final = 0.05


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


def test_an_expression_without_an_end(capfd: pytest.CaptureFixture[str]) -> None:
    """One that would take for ever is given up with a line in the log; others find what they found before.

    Nothing else stands still meanwhile.
    """
    lines = MetricLines([LOSS, {"Name": "slow", "Regex": "(a+)+$"}, {"Name": "epoch", "Regex": "epoch ([0-9]+)"}])
    found: list[list[str]] = []
    thread = threading.Thread(
        target=lambda: found.append([one.name for one in lines.found("loss=1 epoch 2 " + "a" * 61 + "!")]), daemon=True
    )
    thread.start()
    turns = 0
    while thread.is_alive() and turns < LIMIT / TICK:
        turns += 1
        time.sleep(TICK)
    assert turns > 1
    assert found == [["loss", "epoch"]]
    assert [one.name for one in lines.found("aaa loss=2 epoch 3")] == ["loss", "epoch"]
    said = capfd.readouterr().out
    assert said.count("the metric 'slow' with the Regex '(a+)+$' is not looked for any more: it takes more than 2") == 1
    lines.close()


def test_hosts_print_at_once() -> None:
    """Each thread has the numbers of its own lines, whatever they are made of."""
    lines = MetricLines([LOSS, {"Name": "text", "Regex": 'é"\\\\ (\\S+)'}])

    def found(number: int) -> list[float]:
        line = f'loss={number} 😀é"\\ {number} ' + "\ud800" * 5000
        return [metric.value for _ in range(50) for metric in lines.found(line)]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(found, range(4))) == [[number] * 100 for number in range(4)]
    lines.close()


def test_the_process_ends() -> None:
    """It is there at need, ends when it is closed or nobody has the lines any more, and comes again with a line."""
    before = children()
    lines = MetricLines([LOSS])
    assert children() == before
    for _ in range(2):
        assert [one.value for one in lines.found("loss=1")] == [1]
        assert len(children() - before) == 1
        lines.close()
        lines.close()
        assert children() == before
    lines.found("loss=1")
    del lines
    gc.collect()
    assert children() == before


def test_a_process_that_somebody_ends(capfd: pytest.CaptureFixture[str]) -> None:
    """The job goes on where the process is ended from without."""
    before = children()
    lines = MetricLines([LOSS, {"Name": "epoch", "Regex": "epoch ([0-9]+)"}])
    lines.found("loss=1")
    (process,) = children() - before
    os.kill(process, signal.SIGKILL)
    assert [one.name for one in lines.found("loss=1 epoch 2")] == ["epoch"]
    assert "is not looked for any more: the process that searches for it has ended with -9" in capfd.readouterr().out
    lines.close()


def test_expressions_of_ours_need_no_process() -> None:
    """A built-in algorithm's lines are searched where they are."""
    before = children()
    lines = MetricLines(definitions_of("kmeans", ()))
    assert [one.name for one in lines.found("#quality_metric: host=algo-1, train msd <loss>=0.5")] == ["train:msd"]
    assert children() == before


def children() -> set[int]:
    """The processes of ours."""
    path = Path(f"/proc/{os.getpid()}/task")
    return {int(one) for task in path.iterdir() for one in (task / "children").read_text().split()}
