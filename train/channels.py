"""Data channels: files of a directory or the FIFOs of Pipe mode, as batches of float32 rows.

What a channel is, is found by looking: ``input/data/<channel>_0`` that is a FIFO, or a directory
``input/data/<channel>``. What the configuration says is a hint, as local runs say File whatever was asked for.
"""

from __future__ import annotations

import gzip
import io
import logging
import re
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from ..algorithms.base import Algorithm
from ..errors import ChannelError, DataError, UnsupportedContentTypeError
from ..recordio.batch import CSR, Array, Batch, rebatch
from ..recordio.content import FORMATS, MediaType, decode_stream, format_of, parse_media_type
from ..recordio.framing import read_frames
from .environment import ChannelConfig, Job
from .fifo import FifoReader, is_fifo, wait_limit
from .stop import Stop

__all__ = ["DataChannel", "find_channels"]

_GZIP_MAGIC: Final = b"\x1f\x8b"

_FOREIGN: Final = frozenset(
    {
        *(".bak", ".cfg", ".ini", ".lock", ".log", ".manifest", ".toml", ".yaml", ".yml"),
        *(".ipynb", ".py", ".pyc", ".sh", ".html", ".md", ".pdf", ".rst"),
        *(".gif", ".jpg", ".png", ".tar", ".tgz", ".zip", ".npy", ".npz", ".parquet", ".xlsx"),
    }
)
"""Endings of files that are never training data here but often lie beside them: a channel that is one local file
makes all files of its folder the channel."""


def find_channels(job: Job, algorithm: Algorithm, width: int | None, stop: Stop) -> dict[str, DataChannel]:
    """The algorithm's channels that this job has.

    Parameters
    ----------
    job
        Where to look, and what the configuration says.
    algorithm
        Which channels there may be, and of which content types.
    width
        Number of features a row has to have, where it is known.
    stop
        Breaks off waits.

    Raises
    ------
    ChannelError
        When the first of the algorithm's channels is not there.
    """
    channels = {}
    for name in algorithm.channels:
        folder, pipe = job.data_dir / name, job.data_dir / f"{name}_0"
        config = job.channels.get(name)
        if folder.is_dir() and not is_fifo(pipe):
            source: _Files | _Pipes = _Files(folder)
        elif is_fifo(pipe) or (config is not None and config.input_mode.lower() == "pipe"):
            source = _Pipes(job.data_dir / name, stop)
        else:
            continue
        channels[name] = DataChannel(name, source, config or ChannelConfig(), algorithm, width, stop)
    required = algorithm.channels[0]
    if required not in channels:
        raise ChannelError(
            f"Unable to read data channel '{required}'. Please verify the correct data channel configuration is "
            f"provided: there is neither a directory {job.data_dir / required} nor a FIFO {required}_0 beside it"
            + _others(job.data_dir)
        )
    return channels


def _others(data_dir: Path) -> str:
    names = sorted({re.sub(r"_\d+$", "", path.name) for path in data_dir.glob("*") if path.is_dir() or is_fifo(path)})
    return f"; the channels there are {', '.join(names)}" if names else ""


class DataChannel:
    """One channel; implements `clary.algorithms.base.Channel`."""

    def __init__(
        self,
        name: str,
        source: _Files | _Pipes,
        config: ChannelConfig,
        algorithm: Algorithm,
        width: int | None,
        stop: Stop,
    ) -> None:
        self.name = name
        self.rows = 0
        self.batches_read = 0
        self._source = source
        self._stop = stop
        self._width = width
        self._requested = config.content_type or _default_type(algorithm)
        self._media = self._checked_media(algorithm)
        self._wrapped = config.record_wrapper == "RecordIO" and format_of(self._media).name != "recordio"

    def batches(self, size: int) -> Iterator[Batch]:
        """One pass in batches of `size` float32 rows."""
        for batch in rebatch(self._parts(), size):
            self._stop.check()
            self._check_numbers(batch.features)
            self.rows += len(batch)
            self.batches_read += 1
            yield batch

    def _parts(self) -> Iterator[Batch]:
        """Rows as the decoder gives them."""
        label = ""
        try:
            for label, stream in self._source.streams(format_of(self._media).name):
                with closing(stream):
                    for batch in self._decode(stream):
                        self._check_width(batch)
                        yield batch.astype(np.float32)
        except (DataError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise self._unreadable(f"{label}: {error}" if label else str(error)) from error

    def _decode(self, stream: io.RawIOBase) -> Iterator[Batch]:
        plain = _gunzipped(stream)
        if not self._wrapped:
            yield from decode_stream(plain, self._media, default_label_size=1)
            return
        for frame in read_frames(plain):
            yield from decode_stream(io.BytesIO(frame.payload), self._media, default_label_size=1)

    def _checked_media(self, algorithm: Algorithm) -> MediaType:
        media = parse_media_type(self._requested)
        try:
            if format_of(media).name in algorithm.content_types:
                return media
        except UnsupportedContentTypeError:
            pass  # told below with what this algorithm reads
        reads = ", ".join(row.media_types[0] for row in FORMATS if row.name in algorithm.content_types)
        raise self._unreadable(f"{algorithm.title} reads {reads}")

    def _unreadable(self, why: str) -> ChannelError:
        return ChannelError(
            f"Unable to read data channel '{self.name}'. Requested content-type is '{self._requested}'. "
            f"Please verify the data matches the requested content-type. {why}"
        )

    def _check_width(self, batch: Batch) -> None:
        if self._width is not None and batch.width != self._width:
            hint = ""
            if format_of(self._media).name == "csv" and abs(batch.width - self._width) == 1:
                hint = ": with text/csv the first column is a label unless the content type says ;label_size=0"
            raise ChannelError(
                f"cannot copy sequence with size {batch.width} to array axis with dimension {self._width}: a row of "
                f"channel '{self.name}' has {batch.width} features, feature_dim is {self._width}{hint}"
            )

    def _check_numbers(self, features: Array | CSR) -> None:
        values = features.values if isinstance(features, CSR) else features
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(values.sum(dtype=np.float32)):
                return
        bad = np.argwhere(~np.isfinite(values))
        if not len(bad):
            return  # the sum overflowed
        row = self.rows + int(
            np.searchsorted(features.indptr, bad[0, 0], "right") - 1 if isinstance(features, CSR) else bad[0, 0]
        )
        if np.isnan(values[tuple(bad[0])]):
            what, remedy = "missing (NaN) values", "missing (NaN) values in the input data."
        else:
            what, remedy = "infinite floating point values", "infinite floating point values."
        raise ChannelError(
            f"Unable to read data channel '{self.name}'. Found {what}. Please remove any {remedy} "
            f"The first is in row {row}, counted from 0"
        )


def _default_type(algorithm: Algorithm) -> str:
    return next(row.media_types[0] for row in FORMATS if row.name == algorithm.content_types[0])


def _gunzipped(stream: io.RawIOBase) -> BinaryIO:
    """The stream, unzipped where it begins like a gzip file."""
    peekable = io.BufferedReader(stream, 1 << 16)
    if peekable.peek(2)[:2] == _GZIP_MAGIC:
        return gzip.GzipFile(fileobj=peekable)  # type: ignore[return-value]
    return peekable


class _Files:
    """The files of a channel's directory, in the order of their paths."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._told: set[Path] = set()

    def streams(self, format_name: str) -> Iterator[tuple[str, io.RawIOBase]]:
        """Each file's name and its bytes."""
        files = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
        mine = [path for path in files if self._belongs(path, format_name)]
        if files and not mine:
            names = ", ".join(str(path.relative_to(self.folder)) for path in files[:5])
            raise DataError(f"no file in {self.folder} looks like {format_name} data; there are {names}")
        for path in mine:
            try:
                stream = path.open("rb", buffering=0)
            except OSError as error:
                raise ChannelError(f"cannot open {path}: {error.strerror}") from error
            yield str(path.relative_to(self.folder)), stream

    def _belongs(self, path: Path, format_name: str) -> bool:
        """Whether a file is data; the first time one is not, a warning says so."""
        inner = path.relative_to(self.folder)
        if any(part.startswith((".", "__")) for part in inner.parts) or path.name == "_SUCCESS":
            return self._skip(path, inner, "a name that is not for data")
        suffix = Path(path.name.lower().removesuffix(".gz")).suffix
        other = next((row.name for row in FORMATS if suffix in row.suffixes and row.name != format_name), None)
        if other is not None or suffix in _FOREIGN:
            return self._skip(path, inner, f"its name says {other or suffix}, not {format_name}")
        return True

    def _skip(self, path: Path, inner: Path, why: str) -> bool:
        if path not in self._told:
            self._told.add(path)
            logging.getLogger("clary").warning("Skipping file %s in channel %s: %s", inner, self.folder.name, why)
        return False


class _Pipes:
    """The FIFOs of a channel; each pass opens the next."""

    def __init__(self, prefix: Path, stop: Stop) -> None:
        self.prefix = prefix
        self.stop = stop
        self.limit = wait_limit()
        self.next = 0
        logging.getLogger("clary").info("The channel '%s' is in pipe input mode under %s.", prefix.name, prefix)

    def streams(self, _format_name: str) -> Iterator[tuple[str, io.RawIOBase]]:
        """The FIFO of this pass."""
        path = Path(f"{self.prefix}_{self.next}")
        self.next += 1  # before anything can fail: a number is never opened twice
        yield path.name, FifoReader(path, self.stop, self.limit)
