"""The input channels of a training job: fetched from S3, laid into its folder or fed through its FIFOs."""

from __future__ import annotations

import gzip
import io
import random
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from ..containers.feeder import Piece
from ..errors import ChannelError
from ..recordio.framing import (
    FIRST,
    HEADER,
    LAST,
    LENGTH_BITS,
    LENGTH_MASK,
    MAGIC,
    MAGIC_BYTES,
    MIDDLE,
    WHOLE,
    padded,
    write_frame,
)
from .manifests import Content, Item, finding
from .objects import Cancelled, Location, download
from .outputs import link

__all__ = ["ChannelData"]

_NAME: Final = re.compile(r"[A-Za-z0-9.\-_]{1,64}")
_AT_ONCE: Final = 8  # downloads
_CHUNK: Final = 1 << 20  # bytes between two looks at whether the job was stopped
_MAX_PART: Final = LENGTH_MASK & ~3  # a whole number of words: only the last part of a record is padded


@dataclass(frozen=True, slots=True)
class _Stored:
    """An object that is here.

    Parameters
    ----------
    file
        Its bytes.
    frame
        Length of the record it has to become; None where it goes into the stream as it is.
    """

    file: Path
    frame: int | None = None


@dataclass(slots=True)
class ChannelData:
    """One channel of one job.

    Parameters
    ----------
    name
        Of the channel.
    mode
        File, FastFile or Pipe.
    source
        The S3DataSource.
    sharded
        Whether each host gets a part of the data.
    zipped
        Whether streams are decompressed.
    wrapped
        Whether each object or attribute is to be a RecordIO record.
    seed
        Of the order in each pass; None where it is always the same.
    content_type
        None where the user gave none.
    """

    name: str
    mode: str
    source: Mapping[str, Any]
    sharded: bool = False
    zipped: bool = False
    wrapped: bool = False
    seed: int | None = None
    content_type: str | None = None
    _content: Content = field(default_factory=Content, init=False)
    _stored: Mapping[Location, _Stored] = field(default_factory=dict, init=False)

    @classmethod
    def of(cls, channel: Mapping[str, Any], job_mode: str) -> ChannelData:
        """The channel that an entry of InputDataConfig describes; `job_mode` counts where it names no mode itself.

        Raises
        ------
        ChannelError
            When its data is somewhere or of a kind that is not supported, or its options exclude each other.
        """
        name = channel["ChannelName"]
        if not _NAME.fullmatch(name) or name in {".", ".."}:
            raise ChannelError(f"{name!r} is no channel name: use 1 to 64 letters, digits, dots, dashes or underscores")
        with _telling(name):
            sources = channel["DataSource"]
            if "S3DataSource" not in sources:
                given = next(iter(sources), "an empty DataSource")
                raise ChannelError(f"{given} is not supported here; use S3DataSource")
            source = sources["S3DataSource"]
            found = cls(
                name=name,
                mode=channel.get("InputMode", job_mode),
                source=source,
                sharded=source.get("S3DataDistributionType") == "ShardedByS3Key",
                zipped=channel.get("CompressionType") == "Gzip",
                wrapped=channel.get("RecordWrapperType") == "RecordIO",
                seed=channel.get("ShuffleConfig", {}).get("Seed"),
                content_type=channel.get("ContentType"),
            )
            found._check()
            return found

    @property
    def config(self) -> dict[str, str]:
        """Its entry in inputdataconfig.json."""
        entry = {
            "TrainingInputMode": self.mode,
            "S3DistributionType": "ShardedByS3Key" if self.sharded else "FullyReplicated",
            "RecordWrapperType": "RecordIO" if self.wrapped else "None",
        }
        return entry if self.content_type is None else {**entry, "ContentType": self.content_type}

    def fetch(self, s3: Any, folder: Path, cancelled: Cancelled) -> None:
        """Download every object that any host needs; once `cancelled`, come back early with some of them missing.

        Parameters
        ----------
        s3
            A boto3 client.
        folder
            Where the files go; it is the channel's alone, and made if it does not exist.
        cancelled
            Whether the job was stopped; asked from several threads.

        Raises
        ------
        ChannelError
            When there are no objects, a manifest is wrong, or keys cannot become paths.
        PlatformError
            When S3 does not answer.
        """
        with _telling(self.name), finding(s3):
            self._content = content = Content.find(s3, self.source, cancelled)
            if self.mode != "Pipe":
                content.check_places()
            folder.mkdir(parents=True, exist_ok=True)
            files = {location: folder / str(number) for number, location in enumerate(content.places)}
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch") as pool:
                stored = pool.map(partial(self._store, s3, cancelled), files, files.values())
                self._stored = dict(zip(files, stored, strict=True))

    def lay(self, data: Path, host: int, hosts: int) -> None:
        """Put what a host gets below `data`, with the list of it beside; FIFOs are the feeder's business."""
        items = self._dealt(0, host, hosts)
        objects = dict.fromkeys(location for item in items for location in item.objects)
        lines = [self._content.prefix, *map(str, objects)]
        (data / f"{self.name}-manifest").write_text("\n".join(lines) + "\n")
        if self.mode == "Pipe":
            return
        channel = data / self.name
        channel.mkdir()
        for location in objects:
            link(self._stored[location].file, channel / self._content.places[location])
        if self._content.manifest and items:
            (channel / self._content.manifest).write_bytes(b"".join(item.line + b"\n" for item in items))

    def passes(self, host: int, hosts: int) -> Callable[[int], Iterable[Piece]]:
        """What a host's FIFOs carry: number of a pass → its pieces."""

        def pieces(number: int) -> Iterator[Piece]:
            for item in self._dealt(number, host, hosts):
                for part in item.parts:
                    yield from self._pieces(part)

        return pieces

    def _check(self) -> None:
        Location.of(self.source["S3Uri"])
        kind = self.source["S3DataType"]
        if kind not in {"S3Prefix", "ManifestFile", "AugmentedManifestFile"}:
            known = "S3Prefix, ManifestFile or AugmentedManifestFile"
            raise ChannelError(f"S3DataType {kind} is not supported here; use {known}")
        if self.mode == "FastFile" and kind != "S3Prefix":
            raise ChannelError(f"FastFile mode takes S3DataType S3Prefix only, got {kind}; use Pipe or File mode")
        if kind == "AugmentedManifestFile" and not self.source.get("AttributeNames"):
            raise ChannelError("an AugmentedManifestFile needs AttributeNames: list what the algorithm is to get")

    def _store(self, s3: Any, cancelled: Cancelled, location: Location, file: Path) -> _Stored:
        if cancelled() or not download(s3, location, file, cancelled) or not (self.wrapped and self.mode == "Pipe"):
            return _Stored(file)
        try:
            return _Stored(file, _frame(file, self.zipped, cancelled))
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ChannelError(f"{location} is no gzip file, or a damaged one: {error}") from error

    def _dealt(self, number: int, host: int, hosts: int) -> Sequence[Item]:
        """What a host gets in a pass, in order."""
        items = self._content.items
        if self.seed is not None and self.mode == "Pipe":
            items = random.Random(f"{self.seed} {number}").sample(items, len(items))  # noqa: S311
        return items[host::hosts] if self.sharded else items

    def _pieces(self, part: Location | bytes) -> Iterator[Piece]:
        if isinstance(part, bytes):
            yield Piece(_framed(part) if self.wrapped else part)
            return
        stored = self._stored[part]
        if stored.frame is None:
            yield Piece(stored.file, self.zipped)
        else:
            yield from _frames(stored.file, self.zipped, stored.frame)


@contextmanager
def _telling(channel: str) -> Iterator[None]:
    """Say of which channel an error is, after what it says: that may be a text that clients know."""
    try:
        yield
    except ChannelError as error:
        raise ChannelError(f"{error} (channel {channel!r})") from error


def _frame(file: Path, zipped: bool, cancelled: Cancelled) -> int | None:
    """Length of the record that a file has to become; None where it is RecordIO already."""
    with gzip.open(file) if zipped else file.open("rb") as content:
        first = content.read(len(MAGIC_BYTES))
        if first == MAGIC_BYTES:
            return None
        if not zipped:
            return file.stat().st_size
        size = len(first)
        while (chunk := content.read(_CHUNK)) and not cancelled():
            size += len(chunk)
        return size


def _framed(text: bytes) -> bytes:
    stream = io.BytesIO()
    write_frame(stream, text)
    return stream.getvalue()


def _frames(file: Path, zipped: bool, size: int) -> Iterator[Piece]:
    """A file as a record, in parts where it is too long for one frame."""
    for start in range(0, max(size, 1), _MAX_PART):
        length = min(_MAX_PART, size - start)
        if length == size:
            flag = WHOLE
        elif not start:
            flag = FIRST
        else:
            flag = LAST if start + length == size else MIDDLE
        yield Piece(HEADER.pack(MAGIC, flag << LENGTH_BITS | length))
        yield Piece(file, zipped, start, length)
        yield Piece(bytes(padded(length) - length))
