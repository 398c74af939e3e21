"""The page of all that has a target: measured, wanted, verdict. It is printed, and it is ``docs/benchmarks.md``."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Final

from .timing import Row

__all__ = ["SECTIONS", "description", "page", "table"]

HEAD: Final = ("what", "ours", "theirs", "ratio", "target", "verdict")
SECTIONS: Final[Mapping[str, str]] = {
    "kernels_text": "CSV and libsvm",
    "kernels_recordio": "RecordIO-protobuf",
    "kernels_kmeans": "K-means",
    "pca": "Principal component analysis",
    "kernels_linear": "Linear learner and factorization machines",
    "kernels_forest": "Random cut forest",
    "kernels_trees": "Boosted trees and replies",
    "processes": "Training jobs as processes",
    "serving": "Serving",
    "scale": "Growth",
}
"""The benchmarks whose rows belong to the page, where these have a target, and what each is about."""

_INTRODUCTION: Final = """\
What is fast about clary, measured against what others have for the same purpose. This page was written by the \
measurement itself, `make bench`, on the machine below; on another the figures differ, and so do the ratios, but less. \
A ratio says how many times better than the peer clary was in the same run, 1/2x that it was half as good. A target \
that was missed stays here as it is.
"""


def table(rows: Sequence[Row]) -> str:
    """Rows as a table of Markdown, with columns of one width."""
    lines = [HEAD, *(row.cells() for row in rows)]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in cells
    )


def description(name: str) -> str:
    """What a benchmark says of itself; it is not imported, as its peers may be missing."""
    source = Path(__file__).with_name(f"{name}.py").read_text()
    return ast.get_docstring(ast.parse(source)) or ""


def page(found: Mapping[str, Sequence[Row]], descriptions: Mapping[str, str], machine: Mapping[str, str]) -> str:
    """The whole page.

    Parameters
    ----------
    found
        Name of a benchmark → its rows, in the order of the page.
    descriptions
        Name of a benchmark → what it says of itself.
    machine
        Where, when and with what was measured.
    """
    shown = {name: [row for row in rows if row.has_target] for name, rows in found.items()}
    counts = Counter(row.verdict for rows in shown.values() for row in rows)
    parts = ["# Benchmarks", fill(_INTRODUCTION, 120, break_on_hyphens=False)]
    parts.append("\n".join(f"- {name}: {value}" for name, value in machine.items()))
    parts.append(", ".join(f"{counts[verdict]} {verdict}" for verdict in ("met", "missed", "not measured")) + ".")
    for name, rows in shown.items():
        parts += [f"## {SECTIONS[name]}", descriptions[name], table(rows)]
    return "\n\n".join(parts) + "\n"
