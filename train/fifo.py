"""Reading the FIFOs of Pipe mode: one for each channel and pass, ``<channel>_<number>``.

The next FIFO may come late, a writer may not have opened it yet, and a writer may stall. Every wait here has a limit
and is broken off by a signal. A FIFO is opened once: the number just read may still be there for a moment, and
opening it again would wait for ever.
"""

from __future__ import annotations

import fcntl
import io
import os
import select
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import PlatformError
from .environment import seconds
from .stop import Stop

__all__ = ["FifoReader", "is_fifo", "wait_limit"]

_SET_PIPE_SIZE: Final = 1031  # F_SETPIPE_SZ; the fcntl module has a name for it from Python 3.10 on Linux only
_PIPE_BYTES: Final = 1 << 20  # the most that is allowed without privileges
_LOOK_AGAIN: Final = 0.02  # seconds
_DEFAULT_LIMIT: Final = 600.0  # seconds
_LONGEST: Final = 1e6  # seconds; poll takes no more than 24 days


def wait_limit(env: Mapping[str, str] = os.environ) -> float:
    """Seconds after which a silent pipe is given up: CLARY_PIPE_TIMEOUT, 600 by default.

    Raises
    ------
    UserError
        When it is no positive number.
    """
    return min(seconds(env, "CLARY_PIPE_TIMEOUT", _DEFAULT_LIMIT), _LONGEST)


def is_fifo(path: Path) -> bool:
    """Whether there is a FIFO of that name."""
    try:
        return stat.S_ISFIFO(path.stat().st_mode)
    except OSError:
        return False


class FifoReader(io.RawIOBase):
    """A FIFO as a binary stream.

    Opening waits for the FIFO to exist and for its writer to send something or close; reading waits for more.

    Parameters
    ----------
    path
        Of the FIFO; it may not exist yet.
    stop
        Breaks off the waits.
    limit
        Most seconds of each wait.

    Raises
    ------
    PlatformError
        When a wait reaches its limit.
    """

    def __init__(self, path: Path, stop: Stop, limit: float) -> None:
        super().__init__()
        self._stop = stop
        self._limit = limit
        self._path = path
        self._handle = -1
        deadline = time.monotonic() + limit
        with stop.interruptible():
            while not is_fifo(path):
                if time.monotonic() > deadline:
                    raise self._timed_out("did not appear")
                time.sleep(_LOOK_AGAIN)
            # Without O_NONBLOCK the open itself would wait, without limit. With it a read before the writer has
            # come would look like the end of the data, so every read waits for poll first.
            self._handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._handle, select.POLLIN)
        self._enlarge()

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Wait for bytes and read what there is; 0 when the writer has closed."""
        view = memoryview(buffer).cast("B")
        while True:
            with self._stop.interruptible():
                if not self._poll.poll(self._limit * 1000):
                    raise self._timed_out("gave no data")
            try:
                return os.readv(self._handle, [view])
            except BlockingIOError:
                continue

    def close(self) -> None:
        """Close; a writer that is not done gets EPIPE, which ends its pass."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        super().close()

    def _enlarge(self) -> None:
        """A larger pipe means fewer turns between writer and reader; a refusal does not matter."""
        try:
            fcntl.fcntl(self._handle, _SET_PIPE_SIZE, _PIPE_BYTES)
        except OSError:
            return

    def _timed_out(self, what: str) -> PlatformError:
        return PlatformError(f"SageMaker pipe channel timed out: {self._path} {what} within {self._limit:g} s")
