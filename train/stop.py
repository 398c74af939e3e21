"""Being told to end: SIGTERM and SIGINT.

The platform says SIGTERM and gives a job some seconds (ten on a laptop). A computation is left to come to its next
batch, where the channel raises `Stopped`. A wait, in which nothing would ever come, is broken off at once.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Stop", "Stopped"]


class Stopped(Exception):  # noqa: N818  # not an error: the job was told to end
    """The job was told to end."""


class Stop:
    """Whether the job was told to end.

    Examples
    --------
    >>> stop = Stop()
    >>> stop.requested
    False
    """

    def __init__(self) -> None:
        self.requested = False
        self._waiting = False

    def install(self) -> None:
        """Listen to SIGTERM and SIGINT; to be called in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def check(self) -> None:
        """Raise `Stopped` if the job was told to end."""
        if self.requested:
            raise Stopped

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Around a wait: a signal during it raises `Stopped` there."""
        self._waiting = True
        try:
            self.check()  # after the mark: a signal before it is seen here, one after it raises by itself
            yield
        finally:
            self._waiting = False

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        if self._waiting:
            self._waiting = False  # once: a second signal must not break off what the first has led to
            raise Stopped
