"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["atomic", "output", "size_text"]


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for writing; when the block ends well it takes the place of `path`.

    A device or FIFO at `path` is written to directly: renaming over it would destroy it.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as stream:
            yield stream
        return
    target = path.resolve()  # through a symbolic link, so that the link stays one
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w+b") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def output(path: str) -> Iterator[BinaryIO]:
    """`path` as by `atomic`, or standard output where it is ``-``."""
    if path == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with atomic(Path(path)) as stream:
        yield stream


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
