"""``python -m benchmarks [NAME…]``: measure, and print a table of ratios.

A missed bar is printed and is no failure: how fast a machine is depends on its neighbours.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Sequence

from .timing import Row

NAMES = (
    "recordio",
    "kmeans",
    "pca",
    "randomcutforest",
    "linearlearner",
    "factorizationmachines",
    "xgboost",
    "platform",
    "kernels_text",
    "kernels_kmeans",
    "kernels_linear",
    "kernels_forest",
    "kernels_trees",
)
HEAD = ("what", "ours", "theirs", "ratio", "bar", "")


def table(rows: Iterable[Sequence[str]]) -> str:
    """Lines with columns of one width."""
    lines = [HEAD, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def measured(name: str) -> list[Row]:
    """The rows of one benchmark."""
    print(f"measuring {name} …", file=sys.stderr, flush=True)
    rows: list[Row] = list(importlib.import_module(f".{name}", __package__).rows())
    return rows


def main(names: Sequence[str]) -> None:
    """Run some benchmarks, or all."""
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        sys.exit(f"no benchmark named {', '.join(unknown)}: there are {', '.join(NAMES)}")
    for name in names or NAMES:
        print(f"{name}\n{table(row.cells() for row in measured(name))}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
