"""``python -m benchmarks [NAME…]``: measure, and print what was measured.

Without a name all is measured, and what has a target is printed first, as the page that ``docs/benchmarks.md`` then is.
A missed target is no failure: how fast a machine is depends on its neighbours. With ``--short`` a few benchmarks run
for a moment, and it is one when a ratio is worse than half its target, or cannot be told because a benchmark failed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from clary.containers.files import atomic

from .machine import load, surroundings
from .page import SECTIONS, description, page, table
from .timing import ROUNDS, Row

OTHERS = (
    "recordio",
    "kmeans",
    "randomcutforest",
    "linearlearner",
    "factorizationmachines",
    "xgboost",
    "platform",
)
NAMES = (*SECTIONS, *OTHERS)

SHORT = ("kernels_text", "kernels_recordio", "kernels_linear", "kernels_forest", "kernels_trees")
"""What is measured in a moment, and against a peer."""

FEW = 3
"""Rounds of each measurement then."""

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
LIMIT = 3600
"""Seconds after which a benchmark is given up."""


def main(words: Sequence[str] | None = None) -> int:
    """Run some benchmarks, or all; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure against the peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--short", action="store_true", help="a few for a moment; fail where a ratio is halved")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    unknown = sorted(set(given.names) - set(NAMES))
    if unknown:
        parser.error(f"no benchmark named {', '.join(unknown)}: there are {', '.join(NAMES)}")
    if given.into:
        return write_rows(given.names[0], given.into)
    if given.short:
        return short(given.names or SHORT)
    if not given.names:
        write_page()
    for name in given.names or OTHERS:
        print(f"{name}\n{table(measured(name))}\n", flush=True)
    return 0


def write_page() -> None:
    """Measure what belongs to the page, print it and keep it."""
    descriptions, before = {name: description(name) for name in SECTIONS}, load()
    text = page({name: measured(name) for name in SECTIONS}, descriptions, surroundings(before))
    print(text, flush=True)
    with atomic(PAGE) as stream:
        stream.write(text.encode())


def short(names: Sequence[str]) -> int:
    """Measure some for a moment; those that look bad once more, and longer."""
    bad = []
    for name in names:
        rows = measured(name, {ROUNDS: str(FEW)})
        if any(row.collapsed for row in rows):
            rows = measured(name)
        print(f"{name}\n{table([row for row in rows if row.has_target])}\n", flush=True)
        bad += [f"worse than half its target: {name}: {row.what}" for row in rows if row.collapsed]
        bad += [f"not measured: {name}: {row.what}: {row.why}" for row in rows if row.ours is None]
    for text in bad:
        print(text, file=sys.stderr)
    return 1 if bad else 0


def measured(name: str, variables: Mapping[str, str] | None = None) -> list[Row]:
    """The rows of one benchmark, which has a process of its own: none meets the threads and memory of another."""
    print(f"measuring {name} …", file=sys.stderr, flush=True)
    with tempfile.NamedTemporaryFile("r") as file:
        words = [sys.executable, "-m", __package__ or "benchmarks", name, "--into", file.name]
        env = {**os.environ, **(variables or {})}
        try:
            code = subprocess.run(words, env=env, stdout=sys.stderr, timeout=LIMIT, check=False).returncode
            end = f"it ended with exit code {code}" if code else ""
        except subprocess.TimeoutExpired:
            end = f"it was ended after {LIMIT} s"
        rows = from_lines(file.read())
    return [*rows, missing(name, end)] if end else rows


def missing(name: str, why: str) -> Row:
    """What stands for all the rows of a benchmark that could not be measured."""
    return Row(f"the rest of {name}", None, "", why=why)


def as_line(row: Row) -> str:
    """A row as JSON, NumPy's numbers too."""
    return json.dumps(asdict(row), default=float)


def from_lines(text: str) -> list[Row]:
    """The rows that were written so."""
    return [Row(**json.loads(line)) for line in text.splitlines()]


def write_rows(name: str, path: Path) -> int:
    """Measure in this process; a row is written as soon as it is there."""
    with path.open("w") as file:
        try:
            for row in importlib.import_module(f".{name}", __package__).rows():
                print(as_line(row), file=file, flush=True)
        except ModuleNotFoundError as error:
            print(as_line(missing(name, f"{error.name} is not installed")), file=file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
