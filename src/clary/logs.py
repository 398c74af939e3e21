"""Log lines in the form that the SageMaker containers print, on standard output.

A line is ``[MM/DD/YYYY HH:MM:SS LEVEL threadid] text``. It is written with one call, so lines of several
threads never mix, and flushed at once, so a reader on the other end of a pipe sees it when it happens.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import Final

__all__ = ["LINE_FORMAT", "TIME_FORMAT", "emit", "setup", "style", "tell"]

LINE_FORMAT: Final = "[%(asctime)s %(levelname)s %(thread)d] %(message)s"
TIME_FORMAT: Final = "%m/%d/%Y %H:%M:%S"

_LOG: Final = logging.getLogger("clary")


class _Formatter(logging.Formatter):
    """Makes the text of a second's time once: libc looks for the time zone's file each time."""

    _made: tuple[int, str | None, str] = (0, None, "")

    def __init__(self, line: str, time: str) -> None:
        super().__init__(line, time)
        self._before: dict[tuple[int, int], tuple[int, str]] = {}

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """The time of a line, whole seconds."""
        second = int(record.created)
        made = self._made
        if made[:2] != (second, datefmt):
            made = self._made = second, datefmt, super().formatTime(record, datefmt)
        return made[2]

    def before(self, level: int) -> str:
        """What stands before a line's text now, made once a second for each level and thread."""
        key, now = (level, threading.get_ident()), int(time.time())
        second, text = self._before.get(key, (0, ""))
        if second != now:
            text = self.format(_record(level, ""))
            self._before[key] = now, text
        return text


class _StdoutHandler(logging.Handler):
    """Writes to whatever ``sys.stdout`` is at that moment, one write a line."""

    def __init__(self, form: _Formatter) -> None:
        super().__init__()
        self.use(form)

    def use(self, form: _Formatter) -> None:
        """Write lines of another form."""
        self._form = form
        self.setFormatter(form)

    def emit(self, record: logging.LogRecord) -> None:
        emit(self.format(record))

    def tell(self, level: int, text: str) -> None:
        """Write a line of which nothing but its text is known."""
        line = self._form.before(level) + text
        self.acquire()
        try:
            emit(line)
        finally:
            self.release()


def emit(line: str) -> None:
    """Write one line to standard output, unbuffered and in one piece."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def tell(level: int, text: str) -> None:
    """Log a line at a fraction of a logger's price: nobody asks from where in the code it comes."""
    if _LOG.isEnabledFor(level):
        for handler in _LOG.handlers:
            if isinstance(handler, _StdoutHandler):
                handler.tell(level, text)
            else:
                handler.handle(_record(level, text))


def setup(level: int = logging.INFO) -> logging.Logger:
    """Configure and return the logger ``clary``; calling it again changes only the level."""
    _LOG.setLevel(level)
    _LOG.propagate = False
    if not _LOG.handlers:
        _LOG.addHandler(_StdoutHandler(_Formatter(LINE_FORMAT, TIME_FORMAT)))
    return _LOG


def style(line: str, time: str) -> None:
    """Give the lines of the logger another form, with the text at its end.

    `line` and `time` are those of `logging.Formatter`.
    """
    for handler in _LOG.handlers:
        if isinstance(handler, _StdoutHandler):
            handler.use(_Formatter(line, time))


def _record(level: int, text: str) -> logging.LogRecord:
    return logging.LogRecord(_LOG.name, level, __file__, 0, text, (), None)
