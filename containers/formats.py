"""Data files of every format that the commands understand, read in blocks from a file, a FIFO or standard input."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from ..errors import DataError, UnsupportedContentTypeError, UsageError
from ..recordio.content import FORMATS, decode_stream, format_of_file, parse_media_type

if TYPE_CHECKING:
    from ..recordio.batch import Batch

__all__ = ["Input", "Options", "format_name", "media_type", "open_input"]

_NUMPY: Final = {".npy": "npy", ".npz": "npz"}
_ZIPPED: Final = ".gz"


@dataclass(frozen=True, slots=True)
class Options:
    """What a file of some formats does not say about itself.

    Parameters
    ----------
    label_size
        Number of columns at the left of csv and npy rows that are labels.
    features
        Number of columns of libsvm rows; found by reading the file twice where it is None.
    first_index
        Number of the first column of libsvm rows.
    """

    label_size: int = 0
    features: int | None = None
    first_index: int = 1


@dataclass(frozen=True, slots=True)
class Input:
    """An open file.

    Parameters
    ----------
    name
        As the user wrote it.
    stream
        Its bytes, decompressed.
    file
        Descriptor of what lies on disk.
    """

    name: str
    stream: BinaryIO
    file: int

    @property
    def share(self) -> float | None:
        """How much of it has been read, 0 to 1; None where nobody knows how much there is."""
        size = os.fstat(self.file).st_size
        return min(1.0, os.lseek(self.file, 0, os.SEEK_CUR) / size) if size and self.stream.seekable() else None

    def batches(self, name: str, options: Options) -> Iterator[Batch]:
        """The rows, read as the format `name`."""
        from ..recordio.npy import read_npy, read_npz

        if name == "npy":
            return read_npy(self.stream, label_size=options.label_size)
        if name == "npz":
            self._need_to_seek("it has its table of contents at the end: store it in a file first")
            return read_npz(self.stream)
        if name == "libsvm":
            return self._libsvm(options)
        media = parse_media_type(media_type(name))
        return decode_stream(self.stream, media, default_label_size=options.label_size)

    def _libsvm(self, options: Options) -> Iterator[Batch]:
        from ..recordio.libsvm import read_libsvm, scan_width

        width = options.features
        if width is None:
            self._need_to_seek("it cannot be read twice: say with --features how many columns there are")
            width = scan_width(self.stream, first_index=options.first_index)
            self.stream.seek(0)
        return read_libsvm(self.stream, first_index=options.first_index, width=width)

    def _need_to_seek(self, why: str) -> None:
        if not self.stream.seekable():
            raise UsageError(f"{self.name}: {why}")


@contextmanager
def open_input(path: str) -> Iterator[Input]:
    """Open a file, a FIFO or, for ``-``, standard input; what is wrong with the data then names it.

    Files with the suffix ``.gz`` are decompressed.
    """
    name = "standard input" if path == "-" else path
    try:
        if path == "-":
            yield Input(name, sys.stdin.buffer, sys.stdin.fileno())
            return
        with Path(path).open("rb") as raw:
            if not path.lower().endswith(_ZIPPED):
                yield Input(path, raw, raw.fileno())
                return
            with gzip.open(raw) as stream:
                yield Input(path, cast("BinaryIO", stream), raw.fileno())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{name}: no gzip file, or a damaged one: {error}") from error
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


def format_name(path: str, given: str | None, flag: str) -> str:
    """The format a file has: `given`, or by its suffix.

    Raises
    ------
    UsageError
        When neither tells.
    """
    if given is not None:
        return given
    if found := _NUMPY.get(Path(path).suffix.lower()):
        return found
    try:
        return format_of_file(path).name
    except UnsupportedContentTypeError as error:
        raise UsageError(f"{path}: the name does not tell the format: say it with {flag}") from error


def media_type(name: str) -> str:
    """The usual media type of a format; what is none of our formats is taken for a media type.

    Examples
    --------
    >>> media_type("csv"), media_type("text/csv;label_size=1")
    ('text/csv', 'text/csv;label_size=1')
    """
    return next((row.media_types[0] for row in FORMATS if row.name == name), name)
