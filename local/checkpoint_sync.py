"""A job's checkpoints and their place in S3: brought back before it starts, and copied while it runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

from ..containers.artifact import regular_files
from ..errors import ClaryError, PlatformError
from .objects import Location, download, keys, leads_out, remove, upload
from .outputs import location

__all__ = ["CheckpointSync"]

_PASSED_OVER: Final = (".sagemaker-ignore", ".sagemaker-uploading", ".sagemaker-uploaded")
_PAUSE: Final = 1.0  # seconds between two copies


class CheckpointSync:
    """One folder of checkpoints and one prefix.

    As a context it restores and starts, and finishes with the block; an error of the last copy is raised only where
    the block ends well. `start` and `finish` are called once.

    Parameters
    ----------
    s3
        A client.
    uri
        The S3Uri of the CheckpointConfig.
    folder
        What is LocalPath to the job.
    """

    def __init__(self, s3: Any, uri: str, folder: Path) -> None:
        self._s3 = s3
        self._at = location(uri)
        self._folder = folder
        self._known: dict[str, tuple[int, int]] = {}
        self._error: ClaryError | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"checkpoints {self._at}", daemon=True)

    def __enter__(self) -> CheckpointSync:  # noqa: PYI034  # Python 3.10 has no Self
        self.restore()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None, /
    ) -> None:
        with suppress(*(() if kind is None else (ClaryError,))):  # why the block has failed matters more
            self.finish()

    def restore(self) -> None:
        """Fetch what is in S3, before anybody else can change the folder.

        Raises
        ------
        ClaryError
            When S3 refuses or fails, or the folder cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._folder = self._folder.resolve()  # without a link: one that is on the way later is the job's
        except OSError as error:
            raise PlatformError(f"{self._folder} cannot be made: {error}") from error
        inside = self._at.below("")
        for key in keys(self._s3, inside):
            place = key[len(inside.key) :]
            if not leads_out(place):
                download(self._s3, Location(inside.bucket, key), self._folder / place, lambda: False)
        self._known = {place: _state(content.fileno()) for place, content in self._files()}

    def start(self) -> None:
        """Copy what changes, again and again; what fails is tried again."""
        self._thread.start()

    def finish(self) -> None:
        """Copy for the last time.

        Raises
        ------
        ClaryError
            When that fails: what has failed first since all was well.
        """
        self._over.set()
        self._thread.join()  # each of its requests has a limit
        self._try()
        if self._error is not None:
            raise self._error

    def push(self) -> None:
        """Copy what has changed since the last time, and remove from S3 what the job has removed.

        Raises
        ------
        ClaryError
            When S3 refuses or fails, or a file cannot be read.
        """
        present = set()
        for place, content in self._files():
            present.add(place)
            state = _state(content.fileno())
            if self._known.get(place) != state:
                upload(self._s3, self._at.below(place), content)
                self._known[place] = state
        for place in self._known.keys() - present:
            remove(self._s3, self._at.below(place))
            del self._known[place]

    def _run(self) -> None:
        while not self._over.wait(_PAUSE):
            self._try()

    def _try(self) -> None:
        try:
            self.push()
        except OSError as error:
            self._error = self._error or PlatformError(f"the checkpoints cannot be read: {error}")
        except ClaryError as error:
            self._error = self._error or error
        else:
            self._error = None

    def _files(self) -> Iterator[tuple[str, BinaryIO]]:
        found = regular_files(self._folder, Path(self._folder.anchor))
        return ((place, content) for place, content in found if not place.endswith(_PASSED_OVER))


def _state(handle: int) -> tuple[int, int]:
    """What changes when a file does."""
    found = os.fstat(handle)
    return found.st_mtime_ns, found.st_size
