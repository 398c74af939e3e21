"""Log lines of jobs and endpoints: in files, and in moto's CloudWatch Logs for whoever asks by the API.

A stream is the file ``REGION/GROUP/STREAM``, names percent-encoded; a line of it is ``MILLISECONDS TEXT``.
"""

from __future__ import annotations

import heapq
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

from .edge import guarded
from .moto_logs import Shown, Stream

__all__ = ["Line", "Logs", "Tail"]

_LOG: Final = logging.getLogger("clary.local")
_TICK: Final = 0.15  # seconds between two looks at what has been written
_PATIENCE: Final = 10.0  # seconds for the last flush
_AHEAD: Final = 50_000  # lines that may wait; who writes more of them writes them to disk himself
_LONGEST: Final = 256 * 1024 - 26  # bytes of a line; CloudWatch Logs counts 26 more for each
_LOADED: Final = 32 << 20  # bytes of lines of before that CloudWatch Logs shows
_DIGITS: Final = 15  # of a time: no year that anybody knows has more
_ESCAPES: Final = {code: f"#{code:03o}" for code in (*range(32), 127)}


class Line(NamedTuple):
    """A line, when it was written and in which stream."""

    time: int
    stream: str
    text: str


class Tail(NamedTuple):
    """Lines in the order of time, and where to go on from: a number of bytes for each stream."""

    lines: list[Line]
    position: dict[str, int]


class Logs:
    """The log streams of a platform.

    Parameters
    ----------
    folder
        The platform's; the streams lie in its folder ``logs``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "logs"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._waiting: list[tuple[Stream, int, str]] = []
        self._given: set[Stream] = set()  # those that have had lines since the start
        self._shown = Shown()
        self._now = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)
        self._thread.start()

    def load(self) -> None:
        """Give CloudWatch Logs the lines of before, the latest streams first, until there are 32 MiB of them."""
        with self._flushing:  # lines that are written meanwhile are given after those of before
            files = [(file.stat(), file) for file in self._folder.glob("*/*/*") if file.is_file()]
            left = _LOADED
            for status, file in sorted(files, key=lambda pair: pair[0].st_mtime_ns, reverse=True):
                stream = Stream(*map(unquote, file.relative_to(self._folder).parts))
                if stream in self._given:
                    continue
                left -= status.st_size
                try:
                    _end_line(file, status.st_size)
                    lines = [(line.time, line.text) for line, _ in _read(file, 0)] if left >= 0 else []
                except OSError as error:
                    _LOG.warning("the log %s cannot be read: %s", stream.name, error)
                    continue
                self._shown.give(stream, lines)

    def write(self, region: str, group: str, stream: str, text: str) -> None:
        """Add a line whose time is now.

        Parameters
        ----------
        region, group, stream
            Where it belongs.
        text
            The line. Control characters in it, a tab too, become ``#`` and three octal digits; what is longer than
            an event of CloudWatch Logs may be is cut.
        """
        text = text[:_LONGEST].translate(_ESCAPES).encode("utf-8", "replace")[:_LONGEST].decode("utf-8", "ignore")
        with self._lock:
            self._now = max(self._now, time.time_ns() // 1_000_000)  # a clock that is set back mixes up no lines
            self._waiting.append((Stream(region, group, stream), self._now, text))
            crowded = len(self._waiting) > _AHEAD
        if crowded:
            self.flush()

    def flush(self) -> None:
        """Bring all lines so far to their files and to CloudWatch Logs."""
        with self._flushing:  # else a later flush could overtake this one
            with self._lock:
                waiting, self._waiting = self._waiting, []
            streams: dict[Stream, list[tuple[int, str]]] = {}
            for stream, at, text in waiting:
                streams.setdefault(stream, []).append((at, text))
            for stream, lines in streams.items():
                try:
                    self._append(stream, lines)
                except OSError as error:
                    _LOG.warning("%d lines of the log %s are lost: %s", len(lines), stream.name, error)
                self._shown.give(stream, lines)
                self._given.add(stream)

    def tail(
        self,
        region: str,
        group: str,
        stream_prefix: str = "",
        since: int = 0,
        *,
        position: Mapping[str, int] | None = None,
        limit: int = 10_000,
    ) -> Tail:
        """Lines of the streams of a group.

        Parameters
        ----------
        region, group
            Where to look.
        stream_prefix
            How the names of the streams begin.
        since
            Milliseconds since 1970; earlier lines are left out.
        position
            Of the answer before this one: lines up to there are left out.
        limit
            Of the number of lines. If there are that many, there may be more.
        """
        self.flush()
        position = dict(position or {})
        streams = [
            _since(since, _read(file, max(0, position.get(unquote(file.name), 0))))
            for file in self._files(region, group, stream_prefix)
        ]
        lines = []
        for line, end in islice(heapq.merge(*streams, key=lambda pair: pair[0].time), limit):
            lines.append(line)
            position[line.stream] = end
        return Tail(lines, position)

    def close(self) -> None:
        """Write what is left and end."""
        self._closing.set()
        self._thread.join(_PATIENCE)
        self.flush()

    def _run(self) -> None:
        while not self._closing.wait(_TICK):
            if self._waiting:
                guarded("handing on log lines", self.flush, lambda _: None)  # later lines are wanted still

    def _path(self, *names: str) -> Path:
        return self._folder.joinpath(*map(_file_name, names))

    def _files(self, region: str, group: str, prefix: str) -> list[Path]:
        folder = self._path(region, group)
        found = folder.iterdir() if folder.is_dir() else ()
        return [file for file in found if unquote(file.name).startswith(prefix) and file.is_file()]

    def _append(self, stream: Stream, lines: list[tuple[int, str]]) -> None:
        path = self._path(*stream)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write("".join(f"{at} {text}\n" for at, text in lines).encode())


def _file_name(name: str) -> str:
    """A name that is one of a file, and of none but this."""
    quoted = quote(name, safe="")
    return f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted


def _end_line(file: Path, size: int) -> None:
    """End a line that a kill has cut, so that the next one is not part of it."""
    with file.open("r+b") as stream:
        if size:
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                stream.write(b"\n")


def _read(file: Path, start: int) -> Iterator[tuple[Line, int]]:
    """The whole lines of a stream's file from the byte `start` on, and where each ends."""
    name = unquote(file.name)
    with file.open("rb") as stream:
        stream.seek(start)
        while (raw := stream.readline()).endswith(b"\n"):
            at, _, text = raw[:-1].partition(b" ")
            if at.isdigit() and len(at) <= _DIGITS:
                yield Line(int(at), name, text.decode("utf-8", "replace")), stream.tell()


def _since(time: int, lines: Iterator[tuple[Line, int]]) -> Iterator[tuple[Line, int]]:
    return (pair for pair in lines if pair[0].time >= time)
