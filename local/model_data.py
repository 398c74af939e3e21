"""Model data: from S3 into the folder in which a container finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from ..containers.artifact import MAX_BYTES, MAX_MEMBERS, unpack
from ..errors import ArtifactError, ChannelError, PlatformError
from .manifests import Location

__all__ = ["Cancelled", "MissingDataError", "place", "place_archive"]

_CHUNK: Final = 1 << 20  # bytes between two looks at whether it is still wanted
_ADVICE: Final = (
    "Please ensure that there is an object located at the URL and that the role passed to CreateModel has permissions "
    "to download the object."
)

Cancelled = Callable[[], bool]
"""Whether what is being fetched is no longer wanted."""


class MissingDataError(ArtifactError):
    """There is nothing in S3 where the model data is said to be."""


def place(s3: Any, definition: Mapping[str, Any], name: str, folder: Path, cancelled: Cancelled) -> None:
    """Lay the model data of a container into a new folder, which stays empty where the container has none.

    Parameters
    ----------
    s3
        A client.
    definition
        Of the container, as CreateModel has it.
    name
        Of the container.
    folder
        That is to be made.
    cancelled
        Asked again and again.

    Raises
    ------
    ClaryError
        When the data is not there, damaged, or cannot be trusted.
    """
    folder.mkdir(parents=True)
    source = definition.get("ModelDataSource", {}).get("S3DataSource")
    url = source["S3Uri"] if source else definition.get("ModelDataUrl")
    if not url:
        return
    archived = source is None or source.get("CompressionType") == "Gzip"
    try:
        at = Location.of(url)
        if archived:
            place_archive(s3, at, folder, cancelled)
        elif source and source["S3DataType"] == "S3Object":
            _download(s3, at, folder / _inside(at.key.rpartition("/")[2]), cancelled)
        else:
            _download_all(s3, at, folder, cancelled)
    except (MissingDataError, ChannelError) as error:
        told = f'Failed to download model data for container "{name}" from URL: "{url}". {_ADVICE}'
        raise ArtifactError(f"{told} ({error})") from error
    except ArtifactError as error:
        what = "extract model data archive" if archived else "download model data"
        raise ArtifactError(f'Failed to {what} for container "{name}" from URL "{url}": {error}') from error


def place_archive(s3: Any, at: Location, folder: Path, cancelled: Cancelled) -> None:
    """Unpack the ``tar.gz`` at a place in S3 into a folder.

    Raises
    ------
    MissingDataError
        When there is none.
    ArtifactError
        When it is damaged or cannot be trusted.
    """
    file = folder.with_name(f"{folder.name}.tar.gz")
    try:
        _download(s3, at, file, cancelled)
        unpack(file, folder)
    except ArtifactError as error:
        raise type(error)(str(error).replace(str(file), str(at))) from error
    except OSError as error:
        raise PlatformError(f"{at} cannot be unpacked: {error}") from error
    finally:
        file.unlink(missing_ok=True)


def _download_all(s3: Any, at: Location, folder: Path, cancelled: Cancelled) -> None:
    """Fetch every object below a prefix, which is a folder."""
    prefix = at.key if at.key.endswith("/") or not at.key else f"{at.key}/"
    found = 0
    for key, size in _listed(s3, at.bucket, prefix):
        if key.endswith("/"):  # what consoles make for an empty folder
            continue
        found += 1
        if found > MAX_MEMBERS or size > MAX_BYTES:
            raise ArtifactError(f"{at} is too large: at most {MAX_MEMBERS} objects of {MAX_BYTES >> 30} GiB")
        file = folder / _inside(key[len(prefix) :])
        file.parent.mkdir(parents=True, exist_ok=True)
        _download(s3, Location(at.bucket, key), file, cancelled)
    if not found:
        raise MissingDataError(f"there is no object under {at}")


def _listed(s3: Any, bucket: str, prefix: str) -> Iterator[tuple[str, int]]:
    """Keys and sizes."""
    try:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", ()):
                yield entry["Key"], entry["Size"]
    except (ClientError, BotoCoreError) as error:
        raise MissingDataError(f"s3://{bucket}/{prefix} cannot be listed: {error}") from error


def _inside(place: str) -> PurePosixPath:
    """A place that does not lead out of the folder it is in."""
    path = PurePosixPath(place)
    if not place or path.is_absolute() or ".." in path.parts or "\0" in place:
        raise ArtifactError(f"the key {place!r} leads out of the model's folder")
    return path


def _download(s3: Any, at: Location, file: Path, cancelled: Cancelled) -> None:
    try:
        answer = s3.get_object(Bucket=at.bucket, Key=at.key)
        if answer["ContentLength"] > MAX_BYTES:
            raise ArtifactError(f"{at} is too large: {answer['ContentLength']} bytes, {MAX_BYTES >> 30} GiB at most")
        with closing(answer["Body"]) as content, file.open("wb") as out:
            for chunk in content.iter_chunks(_CHUNK):
                if cancelled():
                    raise PlatformError(f"{at} is no longer wanted")
                out.write(chunk)
    except ClientError as error:
        raise MissingDataError(f"{at}: {error}") from error
    except BotoCoreError as error:
        raise PlatformError(f"{at} cannot be read: {error}") from error
    except OSError as error:
        raise PlatformError(f"{at} cannot be stored: {error}") from error
