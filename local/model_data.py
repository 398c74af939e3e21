"""Model data: from S3 into the folder in which a container finds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ..containers.artifact import MAX_BYTES, MAX_MEMBERS, unpack
from ..errors import ArtifactError, ChannelError, PlatformError
from .objects import Cancelled, Location, RefusedError, TooLargeError, download, keys, leads_out

__all__ = ["MissingDataError", "place", "place_archive"]

_ADVICE: Final = (
    "Please ensure that there is an object located at the URL and that the role passed to CreateModel has permissions "
    "to download the object."
)


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
    inside = at.below("")
    found = 0
    with _telling():
        for key in keys(s3, inside, cancelled):
            found += 1
            if found > MAX_MEMBERS:
                raise ArtifactError(f"{at} is too large: at most {MAX_MEMBERS} objects")
            _download(s3, Location(at.bucket, key), folder / _inside(key[len(inside.key) :]), cancelled)
    if not found:
        raise MissingDataError(f"there is no object under {at}")


def _inside(place: str) -> str:
    """A place that does not lead out of the folder it is in."""
    if leads_out(place):
        raise ArtifactError(f"the key {place!r} leads out of the model's folder")
    return place


def _download(s3: Any, at: Location, file: Path, cancelled: Cancelled) -> None:
    with _telling():
        if not download(s3, at, file, cancelled, MAX_BYTES):
            raise PlatformError(f"{at} is no longer wanted")


@contextmanager
def _telling() -> Iterator[None]:
    """Say of what S3 refuses in the block that it is missing."""
    try:
        yield
    except RefusedError as error:
        raise MissingDataError(str(error)) from error
    except TooLargeError as error:
        raise ArtifactError(str(error)) from error
