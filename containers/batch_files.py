"""The files behind a batch transform job: which are read, by what names, and where their answers go."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final, cast

from ..errors import DataError, UsageError
from .batch import Source
from .files import atomic

__all__ = ["Files", "find", "in_manifest", "unzipped", "writer"]

_ZIPPED: Final = ".gz"


def find(path: Path) -> dict[str, Path]:
    """Name → file, of a file or of all below a directory, in name order; hidden ones and ``_SUCCESS`` are no data.

    Raises
    ------
    UsageError
        When there is none.
    """
    if path.is_file():
        return {path.name: path}
    if not path.is_dir():
        raise UsageError(f"{path} {'is neither a file nor a directory' if path.exists() else 'does not exist'}")
    below = {str(file.relative_to(path)): file for file in sorted(path.rglob("*")) if file.is_file()}
    found = {name: file for name, file in below.items() if not _is_ignored(name)}
    if not found:
        raise UsageError(f"there is no file in {path}")
    return found


def in_manifest(path: Path) -> dict[str, Path]:
    """Name → file, of those that a ManifestFile lists.

    It is a JSON list of names; the first item may be ``{"prefix": …}``, which is put before each. What is no
    absolute path then is relative to the manifest's own folder.

    Raises
    ------
    UsageError
        When it is none, lists nothing or a name twice, or a file is not there.
    """
    try:
        listed = json.loads(path.read_bytes())
    except ValueError as error:
        raise UsageError(f"{path} is no manifest: {error}") from error
    prefix, names = _listed(path, listed)
    found: dict[str, Path] = {}
    for name in names:
        file = path.parent / f"{prefix}{name}"
        if name in found:
            raise UsageError(f"{path}: {name} is listed twice")
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UsageError(f"{path}: {name!r} leads out of the prefix, so its output would lie elsewhere too")
        if not file.is_file():
            raise UsageError(f"{path}: {name} is listed, but there is no file {file}")
        found[name] = file
    return found


class Files:
    """Files as sources of a job, and how much of them has been read.

    Parameters
    ----------
    files
        Name → file.
    zipped
        Whether they are decompressed; by default those with the suffix ``.gz`` are.
    """

    def __init__(self, files: Mapping[str, Path], zipped: bool | None) -> None:
        self._files = files
        self._zipped = zipped
        self._size = sum(file.stat().st_size for file in files.values())
        self._done = 0
        self._stream: BinaryIO | None = None

    @property
    def share(self) -> float:
        """How much has been read, 0 to 1."""
        read = self._done
        if self._stream is not None:
            with suppress(ValueError):  # it was closed just now
                read += os.lseek(self._stream.fileno(), 0, os.SEEK_CUR)
        return min(1.0, read / self._size) if self._size else 1.0

    def __iter__(self) -> Iterator[Source]:
        for name, file in self._files.items():
            zipped = file.name.lower().endswith(_ZIPPED) if self._zipped is None else self._zipped
            yield Source(name, partial(self._open, file, zipped))
            self._done += file.stat().st_size
            self._stream = None

    def _open(self, file: Path, zipped: bool) -> AbstractContextManager[BinaryIO]:
        self._stream = stream = file.open("rb")
        return unzipped(stream) if zipped else stream


@contextmanager
def unzipped(stream: BinaryIO) -> Iterator[BinaryIO]:
    """What a gzip stream holds; the stream is closed with the block.

    Raises
    ------
    DataError
        In the block, when it is none, or damaged.
    """
    with stream, gzip.open(stream) as opened:
        try:
            yield cast("BinaryIO", opened)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"no gzip file, or a damaged one: {error}") from error


def writer(folder: Path) -> Callable[[str], AbstractContextManager[BinaryIO]]:
    """A sink: ``<name>.out`` in `folder` for each source, which appears when it is complete."""

    @contextmanager
    def sink(name: str) -> Iterator[BinaryIO]:
        path = folder / f"{name}.out"
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as stream:
            yield stream

    return sink


def _listed(path: Path, listed: Any) -> tuple[str, list[str]]:
    """Prefix and names of a manifest."""
    if not isinstance(listed, list):
        raise UsageError(f"{path} is no manifest: it has to be a JSON list of names")
    prefix: Any = ""
    if listed and isinstance(listed[0], dict):
        prefix, *listed = listed[0].get("prefix"), *listed[1:]
    if not (isinstance(prefix, str) and listed and all(isinstance(name, str) and name for name in listed)):
        raise UsageError(f'{path} is no manifest: write [{{"prefix": "folder/"}}, "name", …]')
    if "://" in prefix:
        raise UsageError(f"{path}: the prefix {prefix} is not on this machine: write a folder")
    return prefix, listed


def _is_ignored(name: str) -> bool:
    parts = Path(name).parts
    return parts[-1] == "_SUCCESS" or any(part.startswith(".") for part in parts)
