"""The objects behind a batch transform job: which are read, by what names, and where their answers go."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..containers.batch import Sink, Source
from ..containers.batch_files import unzipped
from ..errors import ChannelError
from .manifests import Content, finding
from .objects import Cancelled, Location, opened, upload
from .outputs import location

__all__ = ["find", "sources", "uploader"]


def find(s3: Any, data: Mapping[str, Any], cancelled: Cancelled) -> dict[str, Location]:
    """Name → object, of all that an S3DataSource means, in order; once `cancelled`, maybe not all of them.

    Raises
    ------
    ClaryError
        When there is none, two have the same name, or a manifest is wrong.
    """
    found: dict[str, Location] = {}
    for at, name in Content.find(s3, data, cancelled).places.items():
        if name in found:
            raise ChannelError(f"{found[name]} and {at} would both have the output {name}.out: rename one")
        found[name] = at
    return found


def sources(s3: Any, found: Mapping[str, Location], *, zipped: bool) -> Iterator[Source]:
    """Objects as sources of a job, which are read while they are sent."""
    for name, at in found.items():
        yield Source(name, partial(_read, s3, at, zipped))


def uploader(s3: Any, uri: str, folder: Path) -> Sink:
    """A sink: the object ``<name>.out`` below `uri` for each source; `folder` has it until it is complete."""
    out = location(uri)

    @contextmanager
    def sink(name: str) -> Iterator[BinaryIO]:
        with tempfile.TemporaryFile(dir=folder) as stream:
            yield cast("BinaryIO", stream)
            stream.seek(0)
            upload(s3, out.below(f"{name}.out"), cast("BinaryIO", stream))

    return sink


def _read(s3: Any, at: Location, zipped: bool) -> AbstractContextManager[BinaryIO]:
    with finding(s3):
        stream = opened(s3, at)
    return unzipped(stream) if zipped else stream
