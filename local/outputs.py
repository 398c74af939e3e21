"""What a job leaves: packed and put into S3."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..containers.artifact import pack, regular_files
from .objects import Location, upload

__all__ = ["link", "location", "merged", "put_folder"]


def location(uri: str) -> Location:
    """The folder that an S3 URI names; slashes at its key's ends say nothing.

    Raises
    ------
    ChannelError
        When it is none.

    Examples
    --------
    >>> location("s3://bucket/models/")
    Location(bucket='bucket', key='models')
    """
    at = Location.of(uri)
    return Location(at.bucket, at.key.strip("/"))


def link(file: Path, place: Path) -> None:
    """Have a file at a new place too."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, place)
    except OSError:  # another file system, one that has no links, or somebody else's file
        shutil.copyfile(file, place)


def merged(folders: Sequence[Path], into: Path) -> Path:
    """A folder with the files of all hosts, which are below that of `into`; of the same name the last host's stays."""
    if len(folders) == 1:
        return folders[0]
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    for folder in folders:
        for place, _ in regular_files(folder, into.parent):
            (into / place).unlink(missing_ok=True)
            link(folder / place, into / place)
    return into


def put_folder(s3: Any, folder: Path, uri: str, *, archive: Path, packed: bool = True) -> str | None:
    """Put what a folder holds below an S3 URI, as an archive or file by file; None where it holds nothing.

    Parameters
    ----------
    s3
        A client.
    folder
        What is put.
    uri
        Prefix; with the archive's name below it, or with its name without suffixes and a slash.
    archive
        Where the archive is made: in a folder above `folder` that no job can change.
    packed
        Whether it is one.

    Returns
    -------
    str or None
        Where it is.

    Raises
    ------
    ClaryError
        When S3 refuses it, or fails.
    """
    at, count = location(uri), 0
    if packed:
        put = at.below(archive.name)
        count = pack(folder, archive, archive.parent)
        if count:
            with archive.open("rb") as stream:
                upload(s3, put, stream)
    else:
        put = at.below(f"{archive.name.partition('.')[0]}/")
        for place, content in regular_files(folder, archive.parent):
            upload(s3, put.below(place), content)
            count += 1
    return str(put) if count else None
