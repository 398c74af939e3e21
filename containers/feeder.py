"""The platform's side of Pipe mode: a channel, again and again, through FIFOs.

Pass ``n`` of a channel is the FIFO ``<channel>_<n>``. It carries the pieces of that pass with nothing between them.
The reader may close it early; either way the next one is there before it is closed, and its own name is gone, so that
nobody can open the same pass twice.
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import os
import select
import stat
import sys
import threading
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Feeder", "Piece"]

_PIPE_SIZE: Final = 1 << 20  # the largest that an unprivileged process gets on Linux
_SET_PIPE_SIZE: Final = getattr(fcntl, "F_SETPIPE_SZ", 1031)
_STEP: Final = 0.2  # seconds until a wait looks at the stop event again
_RETRY: Final = 0.005  # seconds between two looks for a reader


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a pass.

    Parameters
    ----------
    content
        The bytes themselves, or the file they are in.
    unzip
        Whether the file is gzip and what it holds is meant.
    start
        Where in the file, or in what it holds, the piece begins.
    length
        Its bytes; by default all to the end.
    """

    content: bytes | Path
    unzip: bool = False
    start: int = 0
    length: int = sys.maxsize


class Feeder(threading.Thread):
    """Feeds one channel until it is stopped.

    Parameters
    ----------
    channel
        Its name.
    passes
        Number of a pass → its pieces, in order.
    folder
        Where the FIFOs are made. The first one is there when the constructor returns.

    Attributes
    ----------
    passed
        Bytes given away so far, in all passes; decompressed ones count as read from disk.
    begun
        Number of passes that have begun.
    error
        Why the feeder ended on its own; the pass it was in is cut, so the job's result is worth nothing.
    """

    def __init__(self, channel: str, passes: Callable[[int], Iterable[Piece]], folder: Path) -> None:
        super().__init__(name=f"feed {channel}", daemon=True)
        self.channel = channel
        self.passed = 0
        self.begun = 0
        self.error: Exception | None = None
        self._passes = passes
        # a container of a stranger's may put links in the place of what is here: nothing is found by its path
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._stopping = threading.Event()
        os.mkfifo(self._fifo(0), dir_fd=self._folder)

    def run(self) -> None:
        """Feed pass after pass."""
        while not self._stopping.is_set():
            try:
                self._feed(self.begun)
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
        if not self.is_alive():
            self._close()

    def _close(self) -> None:
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1

    def _fifo(self, number: int) -> str:
        return f"{self.channel}_{number}"

    def _feed(self, number: int) -> None:
        pipe = self._open(self._fifo(number))
        if pipe is None:
            return
        try:
            self.begun += 1
            if not stat.S_ISFIFO(os.fstat(pipe).st_mode):
                raise FileNotFoundError(errno.ENOENT, "its FIFO was replaced", self._fifo(number))
            os.mkfifo(self._fifo(number + 1), dir_fd=self._folder)
            os.unlink(self._fifo(number), dir_fd=self._folder)  # which a path cannot
            with suppress(OSError):
                fcntl.fcntl(pipe, _SET_PIPE_SIZE, _PIPE_SIZE)
            for piece in self._passes(number):
                self._send(piece, pipe)
        finally:
            os.close(pipe)

    def _open(self, name: str) -> int | None:
        """Wait for a reader; a blocking open would wait for ever where the job ends without one."""
        while not self._stopping.is_set():
            try:
                return os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=self._folder)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
            self._stopping.wait(_RETRY)
        return None

    def _send(self, piece: Piece, pipe: int) -> None:
        if isinstance(piece.content, bytes):
            self._write(piece.content, pipe)
            self.passed += len(piece.content)
        elif piece.unzip:
            self._unzip(piece, piece.content, pipe)
        else:
            self._copy(piece, piece.content, pipe)

    def _unzip(self, piece: Piece, file: Path, pipe: int) -> None:
        with file.open("rb") as raw, gzip.open(raw) as stream:
            stream.seek(piece.start)
            left = piece.length
            before = raw.tell() if piece.start else 0
            while chunk := stream.read(min(_PIPE_SIZE, left)):
                self._write(chunk, pipe)
                left -= len(chunk)
                self.passed += raw.tell() - before
                before = raw.tell()

    def _copy(self, piece: Piece, file: Path, pipe: int) -> None:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.lseek(descriptor, piece.start, os.SEEK_SET)
            left = self._splice(descriptor, pipe, piece.length)
            while chunk := os.read(descriptor, min(_PIPE_SIZE, left)):
                self._write(chunk, pipe)
                self.passed += len(chunk)
                left -= len(chunk)
        finally:
            os.close(descriptor)

    def _splice(self, descriptor: int, pipe: int, left: int) -> int:
        """Send a file without copying it through this process; give what is left where the system can't."""
        if not hasattr(os, "splice"):
            return left
        while left and self._writable(pipe):
            try:
                count = os.splice(descriptor, pipe, min(_PIPE_SIZE, left))
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno in (errno.EINVAL, errno.ENOSYS):  # a file system that can't splice
                    return left
                raise
            if not count:
                return 0
            self.passed += count
            left -= count
        return 0

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
