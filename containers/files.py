"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from ..errors import UsageError

__all__ = ["atomic", "naming", "output", "read_text_within", "size_text"]

_BUFFER: Final = 1 << 16  # bytes


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for writing; when the block ends well it takes the place of `path`.

    A device or FIFO at `path` is written to directly: renaming over it would destroy it. Whatever fails is said of
    `path`.

    Raises
    ------
    UsageError
        When the directory that `path` is to be in does not exist.
    """
    if path.exists() and not path.is_file():
        with io.BufferedWriter(_Named(path, "w", path), _BUFFER) as stream:
            yield stream
        return
    target = path.resolve()  # through a symbolic link, so that the link stays one
    if not target.parent.is_dir():
        folder = target.parent if path.is_symlink() else path.parent
        why = os.strerror(errno.ENOTDIR if folder.exists() else errno.ENOENT)
        raise UsageError(f"cannot write {path}: {why}: {folder}")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with io.BufferedRandom(_Named(temporary, "w+", path), _BUFFER) as stream:
            yield stream
            stream.flush()
            with naming(path):
                os.fsync(stream.fileno())
        with naming(path):
            temporary.replace(target)
    finally:
        with naming(path):
            temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """What the system refuses in the block, it refuses to `path`, whatever file it was."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


class _Named(io.FileIO):
    """A file that goes by the name of another one in errors."""

    def __init__(self, path: Path, mode: str, shown: Path) -> None:
        self._shown = shown
        with naming(shown):
            super().__init__(path, mode)

    def write(self, data: Any, /) -> int:
        with naming(self._shown):
            return super().write(data)


@contextmanager
def output(path: str) -> Iterator[BinaryIO]:
    """`path` as by `atomic`, or standard output where it is ``-``."""
    if path == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with atomic(Path(path)) as stream:
        yield stream


def read_text_within(root: Path, path: Path, limit: int) -> str:
    """The first `limit` bytes of a file below `root` as text, whoever can write there.

    No link is followed and no FIFO or device is read: where there is no such file, the text is empty.
    """
    *folders, name = path.relative_to(root).parts
    if os.pardir in path.parts:
        return ""
    with ExitStack() as stack:

        def opened(part: str | Path, flags: int, folder: int | None) -> int:
            descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags, dir_fd=folder)
            stack.callback(os.close, descriptor)
            return descriptor

        try:
            folder = opened(root, os.O_DIRECTORY, None)
            for part in folders:
                folder = opened(part, os.O_DIRECTORY | os.O_NOFOLLOW, folder)
            file = opened(name, os.O_NOFOLLOW, folder)
            data = os.read(file, limit) if stat.S_ISREG(os.fstat(file).st_mode) else b""
        except OSError:
            return ""
    return data.decode(errors="replace")


def size_text(count: float) -> str:
    """A number of bytes for people.

    Examples
    --------
    >>> [size_text(count) for count in (0, 999, 1000, 2_540_000, 7e12)]
    ['0 B', '999 B', '1.0 kB', '2.5 MB', '7000.0 GB']
    """
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB"):
        count /= 1000
        if count < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} GB"
