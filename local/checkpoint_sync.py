"""A job's checkpoints and their place in S3: copied while the job runs, and brought back before it starts."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

__all__ = ["CheckpointSync"]

_PASSED_OVER: Final = (".sagemaker-ignore", ".sagemaker-uploading", ".sagemaker-uploaded")


class CheckpointSync:
    """One folder of checkpoints and one prefix.

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
        parts = urlsplit(uri)
        self._s3 = s3
        self._bucket = parts.netloc
        self._prefix = parts.path.strip("/") + "/" if parts.path.strip("/") else ""
        self._folder = folder
        self._known: dict[str, tuple[int, int]] = {}

    def restore(self) -> None:
        """Fetch what is in S3."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix):
            for item in page.get("Contents", ()):
                place = item["Key"][len(self._prefix) :]
                target = self._folder / place
                if not place or place.endswith("/") or not target.resolve().is_relative_to(self._folder.resolve()):
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                self._s3.download_file(self._bucket, item["Key"], str(target))
        self._known = self._present()

    def push(self) -> None:
        """Copy what has changed since the last time, and remove from S3 what the job has removed."""
        present = self._present()
        for place, state in present.items():
            if self._known.get(place) != state:
                with suppress(FileNotFoundError):  # the job has removed it just now; the next time it is not present
                    self._s3.upload_file(str(self._folder / place), self._bucket, self._prefix + place)
        for place in self._known.keys() - present.keys():
            self._s3.delete_object(Bucket=self._bucket, Key=self._prefix + place)
        self._known = present

    def _present(self) -> dict[str, tuple[int, int]]:
        """Place of each file → what changes when it does."""
        found = {}
        for path in self._folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and not path.name.endswith(_PASSED_OVER):
                with suppress(FileNotFoundError):
                    state = path.stat()
                    found[str(path.relative_to(self._folder))] = (state.st_mtime_ns, state.st_size)
        return found
