"""Objects in S3: named, listed, read and written; and whose fault it is where that fails."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final, cast

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError, ParamValidationError

from ..errors import ChannelError, PlatformError, UserError

__all__ = [
    "Cancelled",
    "Location",
    "RefusedError",
    "TooLargeError",
    "download",
    "keys",
    "leads_out",
    "opened",
    "remove",
    "upload",
]

_URI: Final = re.compile(r"s3://([^/]+)/?(.*)", re.DOTALL)
_SERVER_ERROR: Final = 500
_CHUNK: Final = 1 << 20  # bytes between two looks at whether it is still wanted
_TRIES: Final = 3  # to go on with an object whose connection breaks

Cancelled = Callable[[], bool]
"""Whether what is under way is no longer wanted; asked again and again."""


@dataclass(frozen=True, slots=True)
class Location:
    """A place in S3: an object, or all whose keys begin alike.

    Examples
    --------
    >>> Location.of("s3://bucket/folder/a.csv")
    Location(bucket='bucket', key='folder/a.csv')
    >>> str(Location("bucket", "folder/"))
    's3://bucket/folder/'
    """

    bucket: str
    key: str

    @classmethod
    def of(cls, uri: str) -> Location:
        """The place that a URI names.

        Raises
        ------
        ChannelError
            When it is none.
        """
        found = _URI.fullmatch(uri)
        if found is None:
            raise ChannelError(f"{uri!r} names nothing in S3: write s3://bucket/key")
        return cls(*found.groups())

    def below(self, name: str) -> Location:
        """What has a name in this place as in a folder; without a name the folder.

        Examples
        --------
        >>> str(Location("bucket", "folder").below("a.csv")), str(Location("bucket", "").below("a.csv"))
        ('s3://bucket/folder/a.csv', 's3://bucket/a.csv')
        """
        return Location(self.bucket, f"{self.key}{'/' if self.key and not self.key.endswith('/') else ''}{name}")

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


class RefusedError(UserError):
    """S3 does not do what it is asked for: the object or bucket is not there, or not for everybody.

    Parameters
    ----------
    at
        What it is about.
    done
        What cannot be done with it, as a participle.
    reason
        In S3's words.
    """

    def __init__(self, at: Location, done: str, reason: str) -> None:
        super().__init__(f"{at} cannot be {done}: {reason}")
        self.at = at
        self.reason = reason


class TooLargeError(ChannelError):
    """An object has more bytes than it may have."""


def keys(s3: Any, at: Location, cancelled: Cancelled = lambda: False) -> Iterator[str]:
    """Keys that begin as `at`, but for the empty objects that stand for folders; once `cancelled`, not all of them.

    Raises
    ------
    RefusedError, PlatformError
        When S3 refuses, or fails.
    """
    with _answering(at, "listed"):
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=at.bucket, Prefix=at.key):
            for found in page.get("Contents", ()):
                if found["Size"] or not found["Key"].endswith("/"):
                    yield found["Key"]
            if cancelled():
                return


def opened(s3: Any, at: Location, largest: int | None = None) -> BinaryIO:
    """An object's bytes, read as they come; where the connection breaks, another goes on.

    Raises
    ------
    RefusedError, PlatformError
        When S3 refuses, or fails; also when bytes are read.
    TooLargeError
        When they are more than `largest`.
    """
    body = _Body(s3, at)
    if largest is not None and body.size > largest:
        body.close()
        raise TooLargeError(f"{at} has {body.size} bytes, over the limit of {largest}")
    return cast("BinaryIO", io.BufferedReader(body, _CHUNK))


def download(s3: Any, at: Location, file: Path, cancelled: Cancelled, largest: int | None = None) -> bool:
    """Write an object to a new file, whole or not at all; whether it is there, as it is not once `cancelled`.

    Raises
    ------
    RefusedError, PlatformError, TooLargeError
        As `opened`; PlatformError also when the file cannot be written.
    """
    complete = False
    try:
        with opened(s3, at, largest) as source:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as target:
                while not (complete or cancelled()):
                    chunk = source.read(_CHUNK)
                    target.write(chunk)
                    complete = not chunk
    except OSError as error:
        complete = False
        raise PlatformError(f"{at} cannot be stored: {error}") from error
    finally:
        if not complete:
            with suppress(OSError):  # what cannot be stored may not be there
                file.unlink()
    return complete


def upload(s3: Any, at: Location, content: BinaryIO) -> None:
    """Make an object of a stream, from where it is to its end.

    Raises
    ------
    RefusedError, PlatformError
        When S3 refuses, or fails.
    """
    with _answering(at, "written"):
        s3.upload_fileobj(content, at.bucket, at.key)


def remove(s3: Any, at: Location) -> None:
    """Make an object disappear; one that is not there is no error.

    Raises
    ------
    RefusedError, PlatformError
        When S3 refuses, or fails.
    """
    with _answering(at, "removed"):
        s3.delete_object(Bucket=at.bucket, Key=at.key)


def leads_out(place: str) -> bool:
    """Whether what is left of a key names no file inside a folder.

    Examples
    --------
    >>> [leads_out(place) for place in ("a/b", "../b", "/b", ".", "")]
    [False, True, True, True, True]
    """
    path = PurePosixPath(place)
    return path.is_absolute() or ".." in path.parts or not path.parts or "\0" in place


class _Body(io.RawIOBase):
    """The bytes of an object.

    Attributes
    ----------
    size
        How many they are.
    """

    def __init__(self, s3: Any, at: Location) -> None:
        self._s3 = s3
        self._at = at
        self._read = 0
        self._left = _TRIES
        with _answering(at, "read"):
            answer = self._asked()
        self._body: Any = answer["Body"]
        self._tag: str = answer["ETag"]
        self.size: int = answer["ContentLength"]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        with _answering(self._at, "read"):
            while True:
                try:
                    count: int = self._body.readinto(buffer)
                except (HTTPClientError, IncompleteReadError):  # botocore repeats requests, but not the reading
                    if not self._left:
                        raise
                    self._left -= 1
                    self._body.close()
                    self._body = self._asked(Range=f"bytes={self._read}-", IfMatch=self._tag)["Body"]
                else:
                    self._read += count
                    return count

    def close(self) -> None:
        if not self.closed:
            self._body.close()
        super().close()

    def _asked(self, **more: str) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = self._s3.get_object(Bucket=self._at.bucket, Key=self._at.key, **more)
        return answer


@contextmanager
def _answering(at: Location, done: str) -> Iterator[None]:
    """Whatever the client of S3 raises, say what it is about and whose fault it is."""
    try:
        yield
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] < _SERVER_ERROR:
            raise RefusedError(at, done, str(error)) from error
        raise PlatformError(f"{at} cannot be {done}: {error}") from error
    except (ParamValidationError, UnicodeEncodeError) as error:  # names that S3 does not know
        raise RefusedError(at, done, str(error)) from error
    except (BotoCoreError, Boto3Error) as error:
        raise PlatformError(f"{at} cannot be {done}: {error}") from error
