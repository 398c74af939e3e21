"""Changes to moto's Amazon S3: objects and the parts of uploads lie in files, and are streamed from there."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias, cast

from flask import current_app, has_request_context, request
from moto.s3.exceptions import EntityTooSmall, InvalidPart, MalformedXML
from moto.s3.models import FakeKey, FakeMultipart, MultipartChecksumBuilder
from moto.settings import S3_UPLOAD_PART_MIN_SIZE

__all__ = ["Data", "adapt", "forget", "is_stored"]

_PIECE: Final = 1 << 20  # bytes
_VALUE: Final = cast(property, FakeKey.__dict__["value"])
_GET: Final = cast(Callable[[FakeKey], bytes], _VALUE.fget)
_PUT: Final = cast(Callable[[FakeKey, "bytes | str"], None], _VALUE.fset)
_SET_PART: Final = FakeMultipart.set_part
"""As moto has them."""

Completed: TypeAlias = "tuple[_Joined, str, tuple[str, str, int] | None]"


class Data:
    """The bytes of an object in a file that is open only while it is read; stands for moto's buffer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._position = 0

    def seek(self, position: int) -> int:
        """Go to a byte."""
        self._position = position
        return position

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        with self.path.open("rb") as file:
            file.seek(self._position)
            data = file.read(size)
        self._position += len(data)
        return data

    def close(self) -> None:
        """There is nothing to close."""


class _Part(Data):
    """The bytes of a part of an upload; its file goes with it."""

    def close(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


class _Joined:
    """The bytes of an upload whose parts are all together, in their files still; stands for moto's buffer."""

    def __init__(self, parts: Sequence[FakeKey]) -> None:
        self._parts = parts
        self._pieces = self._read()
        self.size = sum(part.contentsize for part in parts)

    def seek(self, position: int) -> int:
        """Go to the start, the only place that is ever asked for."""
        self._pieces = self._read()
        return position

    def read(self, size: int = -1) -> bytes:
        """Some of the next bytes, empty at the end; all of them where `size` is negative."""
        return b"".join(self._pieces) if size < 0 else next(self._pieces, b"")

    def close(self) -> None:
        """Remove the files."""
        for part in self._parts:
            part.dispose()

    def _read(self) -> Iterator[bytes]:
        for part in self._parts:
            part._value_buffer.seek(0)
            while piece := part._value_buffer.read(_PIECE):
                yield piece


class _Body:
    """The bytes of an object, or a range of them, on their way to a client without being in memory."""

    def __init__(self, file: BinaryIO, start: int, stop: int) -> None:
        self._file = file
        self._start = start
        self._stop = stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, part: slice) -> _Body:
        start, stop, _ = part.indices(len(self))
        return _Body(self._file, self._start + start, self._start + stop)

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(self._start)
        left = len(self)
        while left and (piece := self._file.read(min(left, _PIECE))):
            left -= len(piece)
            yield piece

    def close(self) -> None:
        self._file.close()


def adapt(parts: Path) -> None:
    """Let moto stream what lies in files, and have the parts of uploads in files of the folder `parts`."""

    def set_part(upload: FakeMultipart, number: int, data: bytes) -> FakeKey:
        parts.mkdir(exist_ok=True)
        part = _Part(parts / secrets.token_hex(16))
        try:
            part.path.write_bytes(data)
            key = _SET_PART(upload, number, data)
        except BaseException:
            part.close()
            raise
        with key.lock:
            old, key._value_buffer = key._value_buffer, cast(Any, part)
        old.close()
        forget()
        return key

    for model, name, ours in (
        (FakeKey, "value", property(_get, _put)),
        (FakeMultipart, "set_part", set_part),
        (FakeMultipart, "complete", _complete),
    ):
        type.__setattr__(model, name, ours)


def is_stored(key: object) -> bool:
    """Whether the bytes of an object are in a file for good."""
    return isinstance(key, FakeKey) and type(cast(object, key._value_buffer)) is Data


def forget() -> None:
    """Have moto forget the objects and uploads that there were: it lists them all, for a page of its own."""
    for model in (FakeKey, FakeMultipart):
        cast(Any, model).instances_tracked.clear()


def _get(key: FakeKey) -> bytes | _Body:
    buffer: object = key._value_buffer
    if isinstance(buffer, Data) and _answers_get():
        return _Body(buffer.path.open("rb"), 0, key.size)
    return _GET(key)


def _put(key: FakeKey, data: bytes | str | _Joined) -> None:
    """Take the bytes, and compute the ETag before another object takes the place."""
    if isinstance(data, _Joined):
        key._value_buffer.close()
        key._value_buffer = cast(Any, data)
        key.contentsize = data.size
        return
    data = data.encode() if isinstance(data, str) else data
    _PUT(key, data)
    if key._etag is None:
        key._etag = hashlib.md5(data, usedforsecurity=False).hexdigest()


def _complete(upload: FakeMultipart, body: Iterable[tuple[int, str]]) -> Completed:
    """Put the parts together as moto does, one at a time in memory; the result has their files from now on.

    Where the client has asked for no checksum there is none: moto's would be of all bytes at once.
    """
    algorithm, kind = (upload.metadata.get(f"x-amz-checksum-{name}") for name in ("algorithm", "type"))
    checksums = MultipartChecksumBuilder(algorithm, kind) if algorithm else None
    chosen: dict[int, FakeKey] = {}
    last: FakeKey | None = None
    for number, etag in body:
        part = upload.parts.get(number)
        if part is None or part.etag.strip('"') != etag.strip('"'):
            raise InvalidPart
        if last is not None and last.contentsize < S3_UPLOAD_PART_MIN_SIZE:
            raise EntityTooSmall
        if checksums is not None:
            checksums.addPart(part.value)
        chosen[number] = last = part
    if not chosen:
        raise MalformedXML
    digests = b"".join(bytes.fromhex(part.etag.strip('"')) for part in chosen.values())
    for number in chosen:
        del upload.parts[number]
    etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(chosen)}"
    return _Joined(list(chosen.values())), etag, checksums.build() if checksums else None


def _answers_get() -> bool:
    """Whether an object's bytes are asked for by GET: in all else moto works with them as ``bytes``."""
    return has_request_context() and request.method == "GET" and getattr(current_app, "service", "") == "s3"
