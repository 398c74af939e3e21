"""Model archives: packed as SageMaker wants them, and opened as if a stranger had sent them."""

from __future__ import annotations

import errno
import gzip
import io
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final

from ..errors import ArtifactError
from .files import atomic

__all__ = ["open_model", "pack", "unpack"]

MAX_MEMBERS: Final = 10_000
MAX_BYTES: Final = 10 << 30
"""Limits of an archive's content; far above any model of ours, far below a full disk."""

_HEADER_LIMIT: Final = 1 << 20  # tarfile reads a header's names at once, however long they claim to be
_LEVEL: Final = 1  # models are floating-point noise: more effort makes them later, not smaller


def pack(folder: Path, out: Path) -> None:
    """Write the files of a model directory to a ``tar.gz`` with the members at its root.

    The same files make the same bytes: names are sorted, times and owners are zero.
    """
    places = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    with atomic(out) as stream:
        zipped = gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=stream, mtime=0)
        with zipped, tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for place in places:
                member = tarfile.TarInfo(place)
                with (folder / place).open("rb") as content:
                    member.size = content.seek(0, io.SEEK_END)
                    content.seek(0)
                    archive.addfile(member, content)


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
