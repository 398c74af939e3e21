"""Model archives: packed as SageMaker wants them, and opened as if a stranger had sent them."""

from __future__ import annotations

import errno
import gzip
import io
import os
import shutil
import stat
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from ..errors import ArtifactError
from .files import atomic

__all__ = ["open_model", "pack", "regular_files", "unpack"]

MAX_MEMBERS: Final = 10_000
MAX_BYTES: Final = 10 << 30
"""Limits of an archive's content; far above any model of ours, far below a full disk."""

_HEADER_LIMIT: Final = 1 << 20  # tarfile reads a header's names at once, however long they claim to be
_LEVEL: Final = 1  # models are floating-point noise: more effort makes them later, not smaller
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO that is there all of a sudden has no writer
_PASSED: Final = os.O_DIRECTORY | os.O_PATH  # a folder that need not be readable
_GONE: Final = (FileNotFoundError, NotADirectoryError)  # was removed, or exchanged, just now


def pack(folder: Path, out: Path, below: Path | None = None) -> int:
    """Write the files of a model directory to a ``tar.gz`` with the members at its root, and return how many they are.

    The same files make the same bytes: names are sorted, times and owners are zero. What counts as a file, and what
    `below` is, `regular_files` says.
    """
    count = 0
    with atomic(out) as stream:
        zipped = gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=stream, mtime=0)
        with zipped, tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for place, content in regular_files(folder, below):
                member = tarfile.TarInfo(place)
                member.size = os.fstat(content.fileno()).st_size
                archive.addfile(member, content)
                count += 1
    return count


def regular_files(folder: Path, below: Path | None = None) -> Iterator[tuple[str, BinaryIO]]:
    """The files in a folder that a stranger has filled, and may go on filling: path in it, and content, in order.

    Symbolic links are passed over, and what is behind them: they could lead to any file of this machine.

    Parameters
    ----------
    folder
        Nothing is in it where it is not there, or a link.
    below
        A folder above it that strangers cannot change: none between the two may be a link either.
    """
    above = folder.parent if below is None else below
    *parts, name = folder.relative_to(above).parts
    handle = os.open(above, _PASSED)
    try:
        with suppress(*_GONE):
            for part in parts:
                inner = os.open(part, _PASSED | os.O_NOFOLLOW, dir_fd=handle)
                os.close(handle)
                handle = inner
            yield from _files(name, handle, PurePosixPath())
    finally:
        os.close(handle)


def _files(folder: str, above: int, place: PurePosixPath) -> Iterator[tuple[str, BinaryIO]]:
    """Those in a folder of an open folder: nobody can exchange one for a link while it is open."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
    try:
        for name in sorted(os.listdir(handle)):  # noqa: PTH208  # a Path is no open folder
            with suppress(*_GONE):
                mode = os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    yield from _files(name, handle, place / name)
                elif stat.S_ISREG(mode):
                    with os.fdopen(os.open(name, _READ, dir_fd=handle), "rb") as content:
                        if stat.S_ISREG(os.fstat(content.fileno()).st_mode):
                            yield str(place / name), content
    finally:
        os.close(handle)


@contextmanager
def open_model(path: Path) -> Iterator[Path]:
    """A directory with the content of a model: `path` itself, or what the archive `path` holds.

    Raises
    ------
    ArtifactError
        When there is nothing at `path`, or it is no archive that can be trusted.
    """
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="clary-model-") as folder:
        unpack(path, Path(folder))
        try:
            yield Path(folder)
        except ArtifactError as error:
            raise ArtifactError(str(error).replace(folder, str(path))) from error


def unpack(path: Path, folder: Path) -> None:
    """Extract a ``tar.gz`` into `folder`.

    Regular files with relative names are written, with our own permissions; anything else is refused: links,
    devices, names that lead out of the folder, more than 10 000 members or 10 GiB.

    Raises
    ------
    ArtifactError
        When the archive is missing, damaged, or holds any of these.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} {'is no file' if path.exists() else 'does not exist'}")
    try:
        with gzip.open(path) as stream, tarfile.TarFile(fileobj=_Guarded(stream)) as archive:
            _extract(archive, path, folder)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ArtifactError(f"{path} is no tar.gz archive, or a damaged one: {error}") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ArtifactError(f"{path} holds a file and a directory of the same name") from error
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise ArtifactError(f"{path} holds a file whose name is too long") from error


def _extract(archive: tarfile.TarFile, path: Path, folder: Path) -> None:
    total = 0
    for number, member in enumerate(archive):
        total += member.size
        if number >= MAX_MEMBERS or total > MAX_BYTES:
            raise ArtifactError(f"{path} is too large: at most {MAX_MEMBERS} members and {MAX_BYTES >> 30} GiB")
        target = folder / _place(member, path)
        if member.isdir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        content = archive.extractfile(member)
        assert content is not None  # noqa: S101  # a regular file
        target.parent.mkdir(parents=True, exist_ok=True)
        with content, target.open("wb") as out:
            shutil.copyfileobj(content, out, _HEADER_LIMIT // 2)


def _place(member: tarfile.TarInfo, path: Path) -> PurePosixPath:
    """Where a member belongs, relative to the folder."""
    place = PurePosixPath(member.name)
    if place.is_absolute() or ".." in place.parts or "\0" in member.name:
        raise ArtifactError(f"{path} holds {member.name!r}, which leads out of the model's folder")
    if not (member.isreg() or member.isdir()):
        raise ArtifactError(f"{path} holds {member.name!r}, which is neither a file nor a directory")
    return place


class _Guarded(io.RawIOBase):
    """A stream that refuses to be read in large pieces."""

    name = None  # tarfile asks

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= _HEADER_LIMIT:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()
