"""A model archive, written again as clary writes it today."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from ..algorithms.registry import open_artifact
from .artifact import open_model, pack
from .files import size_text

__all__ = ["convert_model"]


def convert_model(*, source: Path, out: Path) -> None:
    """Open the model of `source`, whichever version wrote it, and write it to `out` in the current format.

    Whatever else lies in the archive is taken along, but for hidden files.
    """
    with open_model(source) as folder, tempfile.TemporaryDirectory(prefix="clary-model-") as name:
        algorithm, model = open_artifact(folder, source)
        shutil.copytree(folder, name, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
        for path in algorithm.find(Path(name)):
            path.unlink()
        for member, data in algorithm.files(model).items():
            (Path(name) / member).write_bytes(data)
        pack(Path(name), out)
    if sys.stderr.isatty():
        print(f"{out}: {algorithm.name}, {size_text(out.stat().st_size)}", file=sys.stderr)
