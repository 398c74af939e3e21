"""The objects behind a batch transform job: which are read, by what names, and where their answers go."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from botocore.exceptions import BotoCoreError, ClientError

from ..containers.batch import Sink, Source
from ..containers.batch_files import unzipped
from ..errors import ChannelError, PlatformError, UserError
from .manifests import Content, Location
from .outputs import location

__all__ = ["find", "sources", "uploader"]

_MAX_MANIFEST: Final = 64 << 20  # bytes
_BUFFER: Final = 1 << 20  # bytes
_SERVER_ERROR: Final = 500


def find(s3: Any, data: Mapping[str, Any], cancelled: Callable[[], bool]) -> dict[str, Location]:
    """Name → object, of all that an S3DataSource means, in order; once `cancelled`, maybe not all of them.

    Raises
    ------
    ClaryError
        When there is none, two have the same name, or a manifest is wrong.
    """
    at = Location.of(data["S3Uri"])
    with _answering(at):
        if data["S3DataType"] == "ManifestFile":
            places = Content.of_manifest(at, _manifest(s3, at)).places
        else:
            places = Content.of_keys(at, _keys(s3, at, cancelled)).places
    if not places and not cancelled():
        raise _absent(at)
    found: dict[str, Location] = {}
    for place, name in places.items():
        if name in found:
            raise ChannelError(f"{found[name]} and {place} would both have the output {name}.out: rename one")
        found[name] = place
    return found


def sources(s3: Any, found: Mapping[str, Location], *, zipped: bool) -> Iterator[Source]:
    """Objects as sources of a job, which are read while they are sent."""
    for name, at in found.items():
        yield Source(name, partial(_zipped if zipped else _opened, s3, at))


def uploader(s3: Any, uri: str, folder: Path) -> Sink:
    """A sink: the object ``<name>.out`` below `uri` for each source; `folder` has it until it is complete."""
    bucket, prefix = location(uri)

    @contextmanager
    def sink(name: str) -> Iterator[BinaryIO]:
        at = Location(bucket, f"{prefix}/{name}.out" if prefix else f"{name}.out")
        with tempfile.TemporaryFile(dir=folder) as stream:
            yield cast("BinaryIO", stream)
            stream.seek(0)
            try:
                s3.upload_fileobj(stream, at.bucket, at.key)
            except ClientError as error:
                raise _kind(error)(f"the output {at} cannot be written: {error}") from error
            except BotoCoreError as error:
                raise PlatformError(f"the output {at} cannot be written: {error}") from error

    return sink


class _Body(io.RawIOBase):
    """What S3 sends; a connection that breaks off is an error of reading."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        try:
            count: int = self._body.readinto(buffer)
        except BotoCoreError as error:
            raise OSError(str(error)) from error
        return count

    def close(self) -> None:
        self._body.close()
        super().close()


def _opened(s3: Any, at: Location) -> AbstractContextManager[BinaryIO]:
    with _answering(at):
        body = s3.get_object(Bucket=at.bucket, Key=at.key)["Body"]
    return cast("AbstractContextManager[BinaryIO]", io.BufferedReader(_Body(body), _BUFFER))


def _zipped(s3: Any, at: Location) -> AbstractContextManager[BinaryIO]:
    return unzipped(cast("BinaryIO", _opened(s3, at)))


def _keys(s3: Any, at: Location, cancelled: Callable[[], bool]) -> Iterable[str]:
    """Keys that begin as `at`, but for the empty objects that stand for folders."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=at.bucket, Prefix=at.key):
        for entry in page.get("Contents", ()):
            if entry["Size"] or not entry["Key"].endswith("/"):
                yield entry["Key"]
        if cancelled():
            return


def _manifest(s3: Any, at: Location) -> bytes:
    answer = s3.get_object(Bucket=at.bucket, Key=at.key)
    with closing(answer["Body"]) as body:
        if answer["ContentLength"] > _MAX_MANIFEST:
            size = answer["ContentLength"]
            raise ChannelError(f"the manifest {at} has {size} bytes, over the limit of {_MAX_MANIFEST}: split it")
        text: bytes = body.read()
        return text


@contextmanager
def _answering(at: Location) -> Iterator[None]:
    """Say of S3's refusals what they are about."""
    try:
        yield
    except ClientError as error:
        if _kind(error) is UserError:
            raise _absent(at) from error
        raise PlatformError(f"{at} cannot be read: {error}") from error
    except BotoCoreError as error:
        raise PlatformError(f"{at} cannot be read: {error}") from error


def _absent(at: Location) -> ChannelError:
    return ChannelError(
        f'No S3 objects found under S3 URL "{at}" given in input data source. Please ensure that the bucket exists in '
        "the selected region, that objects exist under that S3 prefix, and that the role has permission to read them."
    )


def _kind(error: ClientError) -> type[UserError | PlatformError]:
    """Whose fault a refusal is."""
    ours = error.response["ResponseMetadata"]["HTTPStatusCode"] >= _SERVER_ERROR
    return PlatformError if ours else UserError
