"""What a long job writes down round by round, so that the next one goes on where this one was ended."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..errors import PlatformError
from .artifact import write_atomic

__all__ = ["CheckpointFolder"]

KEPT: Final = 5
"""How many of the newest stay."""

_UNFINISHED: Final = ".sagemaker-ignore"  # the platform, which uploads the folder as it changes, passes over these


class CheckpointFolder:
    """Files ``<algorithm>-checkpoint.<round>`` of a folder; implements `clary.algorithms.base.Checkpoints`.

    Parameters
    ----------
    folder
        Where they lie; it may not exist yet.
    algorithm
        Its name, with which the files' names begin.
    """

    def __init__(self, folder: Path, algorithm: str) -> None:
        self.folder = folder
        self.stem = f"{algorithm}-checkpoint"

    def saved(self) -> Iterator[tuple[int, bytes, str]]:
        """Round, content and path of each, the last round first."""
        for number in sorted(self._numbers(), reverse=True):
            path = self._path(number)
            try:
                yield number, path.read_bytes(), str(path)
            except OSError as error:
                raise PlatformError(f"cannot read the checkpoint {path}: {error.strerror}") from error

    def save(self, number: int, data: bytes) -> None:
        """Write what is learnt in the rounds up to `number`, and remove what is older than the newest few.

        Later rounds are those of a job that this one could not go on with; they stay and do not count.
        """
        write_atomic(self._path(number), data, _UNFINISHED)
        for old in sorted(each for each in self._numbers() if each <= number)[:-KEPT]:
            self._remove(self._path(old))

    def _path(self, number: int) -> Path:
        return self.folder / f"{self.stem}.{number}"

    def _numbers(self) -> set[int]:
        names = (path.name for path in self.folder.glob(f"{self.stem}.*") if path.is_file())
        found = (re.fullmatch(re.escape(self.stem) + r"\.([0-9]{1,9})", name) for name in names)
        return {int(match[1]) for match in found if match}

    def _remove(self, path: Path) -> None:
        """Remove a file, unless the platform is uploading it: then it goes the next time."""
        uploading, uploaded = (path.with_name(f"{path.name}.sagemaker-{state}") for state in ("uploading", "uploaded"))
        if uploading.exists() and not uploaded.exists():
            return
        with suppress(OSError):  # somebody else's, or gone
            path.unlink()
