"""What can be told about a channel's data before a job runs on it."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

from ..algorithms.base import Algorithm
from ..errors import UnsupportedContentTypeError, UsageError
from ..recordio.content import Format, decode_stream, format_of, format_of_file, parse_media_type
from .formats import media_type, open_input
from .tree import Source

__all__ = ["content_type", "first_width", "glued"]

_TEXT = ("csv", "libsvm", "jsonlines")


def content_type(source: Source, *, labelled: bool) -> str | None:
    """The content type that the suffixes of a channel's files tell; None where they tell nothing.

    CSV says whether its first column is a label, which it is where the algorithm needs labels in the channel.

    Raises
    ------
    UsageError
        When they tell several.
    """
    found = {row.name: row for file in source.files.values() if (row := _format(file))}
    if len(found) > 1:
        names = " and ".join(sorted(found))
        raise UsageError(
            f"channel {source.name!r} has files of several formats, {names}: leave one, or --content-type T"
        )
    for row in found.values():
        return row.media_types[0] + (f";label_size={int(labelled)}" if row.name == "csv" else "")
    return None


def first_width(source: Source, algorithm: Algorithm) -> int:
    """Number of columns of the first row that has any, read as the algorithm will read it.

    Raises
    ------
    UsageError
        When there is no row.
    """
    media = parse_media_type(source.content_type or media_type(algorithm.content_types[0]))
    for file in source.files.values():
        with open_input(str(file)) as given:
            for batch in decode_stream(given.stream, media, default_label_size=1):
                return batch.width
    raise UsageError(f"there is no row in the channel {source.name!r}: is it the right file?")


def glued(source: Source) -> list[str]:
    """Warnings about text files that Pipe mode joins in the middle of a line, as SageMaker does too."""
    kind = source.content_type and format_of(source.content_type).name
    return [
        f"{first} does not end with a newline: its last row and the first of {second} become one in Pipe mode"
        for (first, file), (second, _) in pairwise(source.files.items())
        if kind in _TEXT and not _ends_with_newline(file)
    ]


def _format(file: Path) -> Format | None:
    try:
        return format_of_file(file)
    except UnsupportedContentTypeError:
        return None


def _ends_with_newline(file: Path) -> bool:
    """Whether it does; compressed and empty files get the benefit of the doubt."""
    if file.suffix == ".gz" or not file.stat().st_size:
        return True
    with file.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read() == b"\n"
