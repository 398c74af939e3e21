"""The platform's side of Pipe mode: a channel, again and again, through FIFOs.

Pass ``n`` of a channel is the FIFO ``<channel>_<n>``. It carries all files of the channel in name order with
nothing between them. The reader may close it early; either way the next one is there before it is closed, and its
own name is gone, so that nobody can open the same pass twice.
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import os
import select
import threading
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Final

from .tree import Source

__all__ = ["Feeder"]

_PIPE_SIZE: Final = 1 << 20  # the largest that an unprivileged process gets on Linux
_SET_PIPE_SIZE: Final = getattr(fcntl, "F_SETPIPE_SZ", 1031)
_STEP: Final = 0.2  # seconds until a wait looks at the stop event again
_RETRY: Final = 0.005  # seconds between two looks for a reader


class Feeder(threading.Thread):
    """Feeds one channel until it is stopped.

    Parameters
    ----------
    source
        The channel's name and files; files with the suffix ``.gz`` are decompressed.
    folder
        Where the FIFOs are made. The first one is there when the constructor returns.

    Attributes
    ----------
    passed
        Bytes given away so far, in all passes; decompressed ones count as read from disk.
    passes
        Number of passes that have begun.
    error
        Why the feeder ended on its own; the pass it was in is cut, so the job's result is worth nothing.
    """

    def __init__(self, source: Source, folder: Path) -> None:
        super().__init__(name=f"feed {source.name}", daemon=True)
        self.source = source
        self.passed = 0
        self.passes = 0
        self.error: Exception | None = None
        self._base = folder / source.name
        self._stopping = threading.Event()
        os.mkfifo(self._path(0))

    def run(self) -> None:
        """Feed pass after pass."""
        while not self._stopping.is_set():
            try:
                self._feed(self.passes)
            except BrokenPipeError:
                pass  # the reader has seen enough
            except (OSError, EOFError, zlib.error) as error:
                self.error = error
                self._stopping.set()

    def stop(self) -> None:
        """End soon, wherever the feeder is; returns when it has ended."""
        self._stopping.set()
        if self.is_alive():
            self.join(timeout=10 * _STEP)

    def _path(self, number: int) -> Path:
        return self._base.with_name(f"{self._base.name}_{number}")

    def _feed(self, number: int) -> None:
        path = self._path(number)
        pipe = self._open(path)
        if pipe is None:
            return
        try:
            self.passes += 1
            os.mkfifo(self._path(number + 1))
            path.unlink()
            with suppress(OSError):
                fcntl.fcntl(pipe, _SET_PIPE_SIZE, _PIPE_SIZE)
            for file in self.source.files.values():
                self._send(file, pipe)
        finally:
            os.close(pipe)

    def _open(self, path: Path) -> int | None:
        """Wait for a reader; a blocking open would wait for ever where the job ends without one."""
        while not self._stopping.is_set():
            try:
                return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
            self._stopping.wait(_RETRY)
        return None

    def _send(self, file: Path, pipe: int) -> None:
        if file.suffix == ".gz":
            with file.open("rb") as raw, gzip.open(raw) as stream:
                before = 0
                while chunk := stream.read(_PIPE_SIZE):
                    self._write(chunk, pipe)
                    self.passed += raw.tell() - before
                    before = raw.tell()
            return
        descriptor = os.open(file, os.O_RDONLY)
        try:
            if not self._splice(descriptor, pipe):
                while chunk := os.read(descriptor, _PIPE_SIZE):
                    self._write(chunk, pipe)
                    self.passed += len(chunk)
        finally:
            os.close(descriptor)

    def _splice(self, descriptor: int, pipe: int) -> bool:
        """Send a file without copying it through this process; False where the system can't."""
        if not hasattr(os, "splice"):
            return False
        while self._writable(pipe):
            try:
                count = os.splice(descriptor, pipe, _PIPE_SIZE)
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno in (errno.EINVAL, errno.ENOSYS):  # a file system that can't splice
                    return False
                raise
            if not count:
                return True
            self.passed += count
        return True

    def _write(self, chunk: bytes, pipe: int) -> None:
        view = memoryview(chunk)
        while view and self._writable(pipe):
            with suppress(BlockingIOError):
                view = view[os.write(pipe, view) :]

    def _writable(self, pipe: int) -> bool:
        """Wait until the pipe takes bytes or its reader is gone; False when told to stop."""
        poll = select.poll()
        poll.register(pipe, select.POLLOUT)
        while not self._stopping.is_set():
            if poll.poll(1000 * _STEP):
                return True
        return False
