"""Log lines in the form that the SageMaker containers print, on standard output.

A line is ``[MM/DD/YYYY HH:MM:SS LEVEL threadid] text``. It is written with one call, so lines of several
threads never mix, and flushed at once, so a reader on the other end of a pipe sees it when it happens.
"""

from __future__ import annotations

import logging
import sys
from typing import Final

__all__ = ["LINE_FORMAT", "TIME_FORMAT", "emit", "setup", "style"]

LINE_FORMAT: Final = "[%(asctime)s %(levelname)s %(thread)d] %(message)s"
TIME_FORMAT: Final = "%m/%d/%Y %H:%M:%S"


class _StdoutHandler(logging.Handler):
    """Writes to whatever ``sys.stdout`` is at that moment, one write a line."""

    def emit(self, record: logging.LogRecord) -> None:
        emit(self.format(record))


class _Formatter(logging.Formatter):
    """Makes the text of a second's time once: libc looks for the time zone's file each time."""

    _made: tuple[int, str | None, str] = (0, None, "")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """The time of a line, whole seconds."""
        second = int(record.created)
        made = self._made
        if made[:2] != (second, datefmt):
            made = self._made = second, datefmt, super().formatTime(record, datefmt)
        return made[2]


def emit(line: str) -> None:
    """Write one line to standard output, unbuffered and in one piece."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def setup(level: int = logging.INFO) -> logging.Logger:
    """Configure and return the logger ``clary``; calling it again changes only the level."""
    logger = logging.getLogger("clary")
    logger.setLevel(level)
    logger.propagate = False
    if not logger.handlers:
        handler = _StdoutHandler()
        handler.setFormatter(_Formatter(LINE_FORMAT, TIME_FORMAT))
        logger.addHandler(handler)
    return logger


def style(line: str, time: str) -> None:
    """Give the lines of the logger another form; `line` and `time` are those of `logging.Formatter`."""
    for handler in logging.getLogger("clary").handlers:
        handler.setFormatter(_Formatter(line, time))
