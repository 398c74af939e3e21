"""The benchmarks' own machinery: from a row to its line, its verdict and the page. Nothing is measured here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.page import SECTIONS, description, page, table
from benchmarks.timing import ROUNDS, Row, best_of

FOLDER = Path(benchmarks.__file__).parent
MACHINERY = {"__init__", "__main__", "jobs", "machine", "page", "setting", "timing"}

FAST = Row("a", 2.0, "s", "peer 1.0", 6.0, 2, higher_is_better=False)
SLOW = Row("b", 8.0, "s", "peer 1.0", 6.0, 2, higher_is_better=False)
BAR = Row("c", 4.0, "GB/s", bar=3)
BARE = Row("d", 4.0, "GB/s")
UNRIVALLED = Row("e", 2.0, "s", "peer", None, 2, higher_is_better=False, why="peer is not installed")
ABSENT = Row("f", None, "s", why="no engine answers")
LONGER = Row("g", 1.4, "s", "nothing", 1.0, 1, higher_is_better=False, plus=0.5)


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        (FAST, ("a", "2 s", "6 s (peer 1.0)", "3x", "≥ 2x", "met")),
        (SLOW, ("b", "8 s", "6 s (peer 1.0)", "1/1.333x", "≥ 2x", "missed")),
        (BAR, ("c", "4 GB/s", "", "", "≥ 3 GB/s", "met")),
        (BARE, ("d", "4 GB/s", "", "", "", "")),
        (UNRIVALLED, ("e", "2 s", "peer is not installed", "", "≥ 2x", "not measured")),
        (ABSENT, ("f", "no engine answers", "", "", "", "not measured")),
        (LONGER, ("g", "1.4 s", "1 s (nothing)", "1/1.4x", "≤ 1 x theirs + 0.5 s", "met")),
        (Row("h", 12345.6, "µs", bar=20000, higher_is_better=False), ("h", "12,346 µs", "", "", "≤ 20,000 µs", "met")),
        (Row("i", 0.2, "", "peer", 0.2, 1 / 1.005), ("i", "0.2", "0.2 (peer)", "1x", "≥ 1/1.005x", "met")),
    ],
    ids=lambda value: value.what if isinstance(value, Row) else "",
)
def test_cells(row: Row, cells: tuple[str, ...]) -> None:
    """A row says both figures, their ratio, what is wanted, and the verdict."""
    assert row.cells() == cells


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (Row("both", 2.0, "GB/s", "peer", 1.0, 2, 3), False),
        (Row("both", 4.0, "GB/s", "peer", 1.0, 2, 3), True),
        (Row("no peer, but the bar is missed", 2.0, "GB/s", "peer", None, 2, 3), False),
        (Row("no peer, and the bar is met", 4.0, "GB/s", "peer", None, 2, 3), None),
        (Row("too long", 1.6, "s", "nothing", 1.0, 1, higher_is_better=False, plus=0.5), False),
    ],
)
def test_met(row: Row, met: bool | None) -> None:
    """All targets of a row have to be met; where one cannot be told the others can still be missed."""
    assert row.met is met


@pytest.mark.parametrize(
    ("row", "collapsed"),
    [
        (FAST, False),
        (SLOW, True),  # 0.75 is less than half of 2
        (Row("missed, but not by half", 1.9, "GB/s", "peer", 1.0, 2), False),
        (Row("a bar is no ratio", 1.0, "GB/s", bar=100), False),
        (UNRIVALLED, False),
        (ABSENT, False),
        (Row("processes start as they can", 9.0, "s", "nothing", 1.0, 1, higher_is_better=False, plus=0.5), False),
    ],
    ids=lambda value: value.what if isinstance(value, Row) else "",
)
def test_collapsed(row: Row, collapsed: bool) -> None:
    """Only a ratio fails, and only when it is worse than half its target."""
    assert row.collapsed == collapsed


def test_table() -> None:
    """A table is Markdown, with columns of one width and no bar of its own in a cell."""
    lines = table([FAST, Row("k | l", 1.0, "s")]).splitlines()

    assert lines[0].split() == [
        "|",
        "what",
        "|",
        "ours",
        "|",
        "theirs",
        "|",
        "ratio",
        "|",
        "target",
        "|",
        "verdict",
        "|",
    ]
    assert set(lines[1]) == {"|", "-", " "}
    assert r"k \| l" in lines[3]
    assert len(set(map(len, lines))) == 1


def test_page() -> None:
    """The page counts verdicts, says where it was measured, and shows all that has a target, by subject."""
    found = {"kernels_text": [FAST, SLOW, BARE], "scale": [ABSENT]}
    text = page(found, {"kernels_text": "Text.", "scale": "Growth."}, {"Machine": "a fast one"})

    assert "1 met, 1 missed, 1 not measured." in text
    assert "- Machine: a fast one" in text
    assert re.findall("^## (.*)$", text, re.MULTILINE) == [SECTIONS["kernels_text"], SECTIONS["scale"]]
    assert "\n\nText.\n\n| what" in text
    assert "| a " in text and "| f " in text and "| d " not in text


def test_description() -> None:
    """A benchmark says what it measures, though its peers may be missing."""
    assert description("kernels_text").startswith("The kernels that read text")


def test_every_benchmark_is_run() -> None:
    """No benchmark is forgotten, and each is on the page or beside it."""
    assert {path.stem for path in FOLDER.glob("*.py")} - MACHINERY <= set(benchmarks.NAMES)
    assert len(set(benchmarks.NAMES)) == len(benchmarks.NAMES)
    assert set(benchmarks.SHORT) <= set(benchmarks.NAMES)


def test_page_is_kept() -> None:
    """The page in the documentation is one that the benchmarks wrote."""
    text = benchmarks.PAGE.read_text()

    assert re.search(r"^- clary: \d+\.\d+\.\d+", text, re.MULTILINE)
    assert re.search(r"^\d+ met, \d+ missed, \d+ not measured\.$", text, re.MULTILINE)


def test_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quick look takes no more rounds than it is told."""
    calls: list[int] = []
    monkeypatch.setenv(ROUNDS, "2")
    best_of([lambda: calls.append(1)], rounds=7)

    assert len(calls) == 2


@pytest.mark.parametrize(("rows", "code"), [([[FAST]], 0), ([[SLOW], [FAST]], 0), ([[SLOW], [SLOW]], 1)])
def test_short(
    rows: list[list[Row]], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What looks bad at first is measured once more, and fails if it still does; it is named."""
    turns: Iterable[list[Row]] = iter(rows)
    monkeypatch.setattr(benchmarks, "measured", lambda *_: next(iter(turns)))

    assert benchmarks.main(["--short", "kernels_text"]) == code
    assert ("worse than half its target: kernels_text: b" in capsys.readouterr().err) == bool(code)


def test_short_of_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A benchmark that ends in an error, or has not all it needs, has not shown that nothing is worse: it fails."""
    monkeypatch.setattr(benchmarks, "measured", lambda *_: [FAST, benchmarks.missing("kernels_text", "it ended")])

    assert benchmarks.main(["--short", "kernels_text"]) == 1
    assert "not measured: kernels_text: the rest of kernels_text: it ended" in capsys.readouterr().err


def test_rows_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark's rows come out of its process as they were; one whose peer is missing says so."""
    path = tmp_path / "rows"
    monkeypatch.setattr(benchmarks, "__package__", "nowhere")

    assert benchmarks.write_rows("kernels_text", path) == 0
    assert benchmarks.from_lines(path.read_text()) == [
        Row("the rest of kernels_text", None, "", why="nowhere is not installed")
    ]
    assert benchmarks.from_lines(benchmarks.as_line(FAST) + "\n") == [FAST]


def test_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is none is refused with those that there are."""
    with pytest.raises(SystemExit):
        benchmarks.main(["speed"])
    assert "kernels_text" in capsys.readouterr().err
