"""What is in a model archive."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ..algorithms.registry import open_artifact
from .artifact import open_model
from .files import size_text
from .screen import table

__all__ = ["inspect"]


def inspect(*, model: Path, as_json: bool) -> None:
    """Print the algorithm, shape and files of a model: a table on a terminal, JSON elsewhere."""
    with open_model(model) as folder:
        algorithm, loaded = open_artifact(folder, model)
        files = {str(path.relative_to(folder)): path.stat().st_size for path in _files(folder)}
        found = {
            "algorithm": algorithm.name,
            "feature_dim": loaded.feature_dim,
            **loaded.describe(),
            "files": files,
        }
    if as_json or not sys.stdout.isatty():
        print(json.dumps(found, indent=2))
        return
    rows = [row for key, value in found.items() if key != "files" for row in _rows(key, value)]
    print(table([("model", str(model)), *rows, *((name, size_text(size)) for name, size in files.items())]))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _rows(key: str, value: Any) -> list[tuple[str, str]]:
    """The lines of one entry: one, or one for each part of it."""
    if not isinstance(value, dict) or not value:
        return [(key, _text(value))]
    lines = table([(name, _text(part)) for name, part in value.items()]).split("\n")
    return [(key if i == 0 else "", line) for i, line in enumerate(lines)]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
