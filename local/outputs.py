"""What a job leaves: packed and put into S3."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..containers.artifact import pack
from ..errors import UserError

__all__ = ["location", "merged", "put_folder"]


def location(uri: str) -> tuple[str, str]:
    """Bucket and key of an S3 URI, without slashes at the key's ends.

    Raises
    ------
    UserError
        When it is none.

    Examples
    --------
    >>> location("s3://bucket/models/")
    ('bucket', 'models')
    """
    parts = urlsplit(uri)
    if parts.scheme != "s3" or not parts.netloc:
        raise UserError(f"{uri!r} is no place in S3: write s3://BUCKET/PREFIX")
    return parts.netloc, uri[len("s3://") + len(parts.netloc) :].strip("/")


def merged(folders: Sequence[Path], into: Path) -> Path:
    """A folder with the files of all hosts; of the same name the last host's stays."""
    if len(folders) == 1:
        return folders[0]
    shutil.rmtree(into, ignore_errors=True)
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                target = into / path.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                os.link(path, target)
    into.mkdir(parents=True, exist_ok=True)
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
        Where the archive is made.
    packed
        Whether it is one.

    Returns
    -------
    str or None
        Where it is.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    if not files:
        return None
    bucket, prefix = location(uri)
    if packed:
        pack(folder, archive)
        key = f"{prefix}/{archive.name}".lstrip("/")
        s3.upload_file(str(archive), bucket, key)
        return f"s3://{bucket}/{key}"
    inner = f"{prefix}/{archive.name.partition('.')[0]}/".lstrip("/")
    for path in files:
        s3.upload_file(str(path), bucket, inner + str(path.relative_to(folder)))
    return f"s3://{bucket}/{inner}"
