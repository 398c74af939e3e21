"""Data channels: files of a directory or the FIFOs of Pipe mode, as batches of float32 rows.

What a channel is, is found by looking: ``input/data/<channel>_0`` that is a FIFO, or a directory
``input/data/<channel>``. What the configuration says is a hint, as local runs say File whatever was asked for.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import logging
import re
import zlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Final, cast

import numpy as np

from ..algorithms.base import Algorithm
from ..algorithms.manners import Manners, Reading
from ..errors import ChannelError, DataError, UnsupportedContentTypeError
from ..recordio.batch import CSR, Array, Batch, alike, concatenate, rebatch
from ..recordio.content import FORMATS, MediaType, decode_stream, format_of, parse_media_type
from ..recordio.framing import read_frames
from .environment import ChannelConfig, Job
from .fifo import FifoReader, is_fifo, wait_limit
from .stop import Stop

__all__ = ["DataChannel", "find_channels"]

_GZIP_START: Final = b"\x1f"  # one byte is enough, as no format here begins with it, and a pipe may give no more

_FOREIGN: Final = frozenset(
    {
        *(".bak", ".cfg", ".ini", ".lock", ".log", ".manifest", ".toml", ".yaml", ".yml"),
        *(".ipynb", ".py", ".pyc", ".sh", ".html", ".md", ".pdf", ".rst"),
        *(".gif", ".jpg", ".png", ".tar", ".tgz", ".zip", ".npy", ".npz", ".xlsx"),
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
        Number of features a row has to have; None for as many as the channel's first.
    stop
        Breaks off waits.

    Raises
    ------
    ChannelError
        When the first of the algorithm's channels is not there, or one is distributed as it must not be.
    """
    channels = {}
    seen: list[int] = []
    _tell_unused(job, algorithm)
    for name in algorithm.channels:
        config = job.channels.get(name)
        _check_distribution(name, config, algorithm)
        source = _source(job, name, config, algorithm, stop)
        if (source is None and config is not None) or (isinstance(source, _Files) and job.resources.is_leader):
            _check_files(algorithm, job.data_dir / name, source.files() if isinstance(source, _Files) else [])
        if source is not None:
            channels[name] = DataChannel(name, source, config or ChannelConfig(), algorithm, width, stop, seen)
    required = algorithm.channels[0]
    if required not in channels:
        why = f"there is neither a directory {job.data_dir / required} nor a FIFO {required}_0 beside it"
        raise algorithm.manners.missing_channel(required, why + _others(job.data_dir))
    return channels


def _source(
    job: Job, name: str, config: ChannelConfig | None, algorithm: Algorithm, stop: Stop
) -> _Files | _Pipes | None:
    """Where a channel's data is, found by looking."""
    folder, pipe = job.data_dir / name, job.data_dir / f"{name}_0"
    if folder.is_dir() and not is_fifo(pipe):
        return _Files(folder, algorithm.manners)
    if is_fifo(pipe) or (config is not None and config.input_mode.lower() == "pipe"):
        return _Pipes(job.data_dir / name, stop)
    if config is not None:
        logging.getLogger("clary").warning("The channel '%s' is configured, but there is no data of it.", name)
    return None


def _check_files(algorithm: Algorithm, folder: Path, files: list[Path]) -> None:
    """Raise what the algorithm's container would for a channel without a file, or with a hidden one."""
    hidden = any(path.name.startswith(".") for path in files)
    error = (
        algorithm.manners.hidden_file() if hidden else None if files else algorithm.manners.no_data(folder.name, folder)
    )
    if error is not None:
        raise error


def _check_distribution(name: str, config: ChannelConfig | None, algorithm: Algorithm) -> None:
    wanted, given = algorithm.distribution.get(name), config and config.distribution
    if wanted and given and given.lower() != wanted.lower():
        raise ChannelError(
            f"The channel '{name}' has S3DistributionType {given}. {algorithm.title} takes {wanted} only: "
            f"set S3DistributionType to {wanted}"
        )


def _tell_unused(job: Job, algorithm: Algorithm) -> None:
    """Refuse or warn of channels that the algorithm does not know: the name may be misspelt."""
    for name in sorted({*_present(job.data_dir), *job.channels} - {*algorithm.channels, *algorithm.ignored}):
        error = algorithm.manners.unknown_channel(name) if name in job.channels else None
        if error is not None:
            raise error
        logging.getLogger("clary").warning(
            "The channel '%s' is not used: %s knows %s.", name, algorithm.title, ", ".join(algorithm.channels)
        )


def _others(data_dir: Path) -> str:
    names = sorted(_present(data_dir))
    return f"; the channels there are {', '.join(names)}" if names else ""


def _present(data_dir: Path) -> set[str]:
    """Names of the channels that there are, whatever they are called."""
    paths = [path for path in data_dir.glob("*") if not path.name.startswith(".")]
    folders = {path.name for path in paths if path.is_dir()}
    return folders | {re.sub(r"_\d+$", "", path.name) for path in paths if is_fifo(path)}


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
        seen: list[int],
    ) -> None:
        self.name = name
        self.rows = 0
        self.batches_read = 0
        self._algorithm = algorithm
        self._source = source
        self._stop = stop
        self._seen = seen  # the width of the first row of any channel, once there was one
        self._given_width = width
        self._strict = algorithm.strict_width and width is not None
        self._requested = config.content_type or _default_type(algorithm)
        self._reading = Reading(name, self._requested, "")
        self._media = self._checked_media(config)
        self.format = format_of(self._media).name
        wrapped = config.record_wrapper.lower() == "recordio" and isinstance(source, _Pipes)
        self._wrapped = wrapped and self.format != "recordio"

    @property
    def has_no_files(self) -> bool:
        """Whether this is a directory without any file, as on a host that got no part of a sharded channel."""
        return isinstance(self._source, _Files) and not self._source.files()

    def batches(self, size: int) -> Iterator[Batch]:
        """One pass in batches of `size` float32 rows."""
        with closing(self._parts()) as parts:
            before = self.rows
            for batch in rebatch(parts, size):
                self._stop.check()
                self._check_numbers(batch.features, self.rows - before)
                self.rows += len(batch)
                self.batches_read += 1
                yield batch
        self._stop.check()  # whoever was told to end within the last batch may not have taken all of it

    def whole(self) -> Batch | None:
        """All rows of one pass, None where there are none; sparse ones may be of different widths."""
        parts = []
        with closing(self._parts()) as found:
            for part in found:
                self._check_numbers(part.features, self.rows)
                self.rows += len(part)
                self.batches_read += 1
                parts.append(concatenate([part]))  # a copy: the next part may take its place
        if not parts:
            return None
        try:
            return concatenate(alike(parts))
        except DataError as error:
            raise self._unreadable(str(error)) from error

    def _parts(self) -> Generator[Batch, None, None]:
        """Rows as the decoder gives them."""
        label = ""
        try:
            for name, stream in self._source.streams(self.format):
                label = f"{name}: "
                with io.BufferedReader(stream, 1 << 16) as peekable:  # closes the stream too
                    self._reading = dataclasses.replace(self._reading, file=name)
                    for batch in self._decode(peekable):
                        self._stop.check()
                        self._check_width(batch)
                        with np.errstate(over="ignore"):  # what is too large becomes inf, and is told as such
                            rows = batch.astype(np.float32)
                        yield rows
        except (DataError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise self._unreadable(f"{label}{error}") from error

    def _tell_opened(self, stream: gzip.GzipFile | io.BufferedReader[io.RawIOBase]) -> None:
        first_line = stream.peek(1)[:100].partition(b"\n")[0]
        self._reading = dataclasses.replace(self._reading, first_line=first_line)
        if self.rows == 0 and (told := self._algorithm.manners.opened(self._reading)):
            logging.getLogger("clary").info("%s", told)

    def _decode(self, stream: io.BufferedReader[io.RawIOBase]) -> Iterator[Batch]:
        plain = _gunzipped(stream)
        self._tell_opened(plain)
        if not self._wrapped:
            yield from decode_stream(cast("BinaryIO", plain), self._media, default_label_size=1)
            return
        for frame in read_frames(cast("BinaryIO", plain)):
            yield from decode_stream(io.BytesIO(frame.payload), self._media, default_label_size=1)

    def _checked_media(self, config: ChannelConfig) -> MediaType:
        algorithm, manners = self._algorithm, self._algorithm.manners
        media = parse_media_type(self._requested)
        try:
            name = format_of(media).name
        except UnsupportedContentTypeError:
            name = ""  # told below with what this algorithm reads
        if name not in algorithm.content_types:
            reads = ", ".join(row.media_types[0] for row in FORMATS if row.name in algorithm.content_types)
            raise manners.unsupported(self._reading, _entry(config), f"{algorithm.title} reads {reads}")
        self._reading = dataclasses.replace(self._reading, format=name)
        if why := manners.objection(name, media.parameters, piped=isinstance(self._source, _Pipes)):
            raise manners.unsupported(self._reading, _entry(config), why)
        return MediaType(media.type, {**manners.channel_parameters, **media.parameters})

    def _unreadable(self, why: str) -> ChannelError:
        return self._algorithm.manners.unreadable(self._reading, why)

    def _check_width(self, batch: Batch) -> None:
        if self._algorithm.missing and isinstance(batch.features, CSR):
            return  # what a row does not hold is missing, beyond its last value too
        expected, where = self._given_width, "feature_dim is"
        if not self._strict and not self._lost_column(batch.width):
            if not self._seen:
                self._seen.append(batch.width)
            expected, where = self._seen[0], "those before have"
        if expected is not None and batch.width != expected:
            raise ChannelError(
                f"cannot copy sequence with size {batch.width} to array axis with dimension {expected}: a row of "
                f"channel '{self.name}' has {batch.width} features, {where} {expected}{self._label_hint(batch.width)}"
            )

    def _lost_column(self, width: int) -> bool:
        """Whether a feature was taken for a label, as it is with text/csv unless the content type says otherwise."""
        csv = self.format == "csv"
        return csv and "label_size" not in self._media.parameters and width + 1 == self._given_width

    def _label_hint(self, width: int) -> str:
        if self.format != "csv" or self._given_width is None or abs(width - self._given_width) != 1:
            return ""
        if self.name not in self._algorithm.labelled:
            return ": with text/csv the first column is a label unless the content type says ;label_size=0"
        return ": in text/csv;label_size=1 the first column of this channel is its label"

    def _check_numbers(self, features: Array | CSR, before: int) -> None:
        values = features.values if isinstance(features, CSR) else features
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(values.sum(dtype=np.float32)):
                return
        bad = np.argwhere(np.isinf(values) if self._algorithm.missing else ~np.isfinite(values))
        if not len(bad):
            return  # the sum overflowed
        row = before + int(
            np.searchsorted(features.indptr, bad[0, 0], "right") - 1 if isinstance(features, CSR) else bad[0, 0]
        )
        what = "missing (NaN) values" if np.isnan(values[tuple(bad[0])]) else "infinite floating point values"
        raise ChannelError(
            f"Unable to read data channel '{self.name}'. Found {what}. Please remove any {what} in the input data. "
            f"The first is in row {row}, counted from 0"
        )


def _entry(config: ChannelConfig) -> Mapping[str, str]:
    """The configuration of a channel, as it was given."""
    entry = {
        "ContentType": config.content_type,
        "TrainingInputMode": config.input_mode,
        "S3DistributionType": config.distribution,
    }
    return {name: value for name, value in entry.items() if value is not None}


def _default_type(algorithm: Algorithm) -> str:
    return next(row.media_types[0] for row in FORMATS if row.name == algorithm.content_types[0])


def _gunzipped(stream: io.BufferedReader[io.RawIOBase]) -> gzip.GzipFile | io.BufferedReader[io.RawIOBase]:
    """The stream, unzipped where it begins like a gzip file."""
    if stream.peek(1)[:1] == _GZIP_START:
        return gzip.GzipFile(fileobj=stream)
    return stream


class _Files:
    """The files of a channel's directory, in the order of their paths."""

    def __init__(self, folder: Path, manners: Manners) -> None:
        self.folder = folder
        self.manners = manners
        self._told: set[Path] = set()

    def files(self) -> list[Path]:
        """All files, data or not."""
        return [path for path in sorted(self.folder.rglob("*")) if path.is_file()]

    def streams(self, format_name: str) -> Iterator[tuple[str, io.RawIOBase]]:
        """Each file's name and its bytes."""
        files = self.files()
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
        if any(part.startswith((".", "_")) for part in inner.parts):  # as Hadoop and Spark do
            return self._skip(path, inner, "a name that is not for data")
        if path.suffix in self.manners.no_data_suffixes:
            return self._skip(path, inner, "a suffix that is not for data")
        if not self.manners.suffixes:
            return True
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
