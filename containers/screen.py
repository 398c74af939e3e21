"""What a person sees of a training job: its log, or on a terminal one line that moves and a table at the end."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from .files import size_text

__all__ = ["Log", "Progress", "Terminal", "bar", "shorten", "smart", "table", "write"]

_PROGRESS: Final = re.compile(rb"#progress_metric: host=\S+, completed ([0-9.]+) % ")
_BATCH: Final = re.compile(rb"\] Iter (\d+): ")
_WARNING: Final = re.compile(rb"^\[\S+(?: \S+ WARNING \S+|:WARNING)\] ")
_QUALITY: Final = re.compile(rb"#quality_metric: host=\S+, (?:epoch=\d+, )?(\S+ \S+) <(?:loss|score)>=(\S+)")
_ROUND: Final = re.compile(rb"^\[(\d+)\]\t")
_ROUND_QUALITY: Final = re.compile(rb"\t([^\t:]+-[^\t:]+):([^\t\n]+)")
_BAR: Final = 24
_PAUSE: Final = 0.1  # seconds between two redraws


def smart(stream_is_tty: bool) -> bool:
    """Whether a line can be redrawn in place."""
    return stream_is_tty and os.environ.get("TERM", "dumb") != "dumb"


def bar(share: float) -> str:
    """A bar for 0 to 1, of plain characters.

    Examples
    --------
    >>> bar(0.5)
    '[############............]  50 %'
    """
    full = int(_BAR * share)
    return f"[{'#' * full}{'.' * (_BAR - full)}] {share:4.0%}".replace("%", " %")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of words in aligned columns, the first row being the head.

    Examples
    --------
    >>> print(table([("metric", "value"), ("train msd", "25.3")]))
    metric     value
    train msd  25.3
    """
    widths = [max(len(word) for word in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def shorten(line: str, width: int) -> str:
    """A line that fits on a terminal.

    Examples
    --------
    >>> shorten("a rather long line", 8)
    'a rathe…'
    """
    return line if len(line) <= width else line[: width - 1] + "…"


class Progress:
    """One line on a terminal, redrawn in place with carriage returns and blanks.

    Parameters
    ----------
    write
        Writes text to the terminal at once.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._shown = 0
        self._next = 0.0

    def draw(self, text: Callable[[], str]) -> None:
        """Show the text, unless it was redrawn a moment ago."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _PAUSE
        line = text()[: shutil.get_terminal_size().columns - 1]
        self._write("\r" + line.ljust(self._shown))
        self._shown = len(line)

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            self._write("\r" + " " * self._shown + "\r")
        self._shown, self._next = 0, 0.0


class Log:
    """Passes a job's output on as it is, and remembers what matters of it.

    Parameters
    ----------
    rounds
        Number of boosting rounds to expect, where there are such.

    Attributes
    ----------
    tail
        The last lines.
    quality
        Metric → the last value that a ``#quality_metric`` line or that of a boosting round gave it.
    completed
        Share of the epochs that are done, as ``#progress_metric`` says, or of the rounds.
    batch
        Number of the last mini-batch that the log speaks of.
    """

    def __init__(self, rounds: int = 0) -> None:
        self.rounds = rounds
        self.tail: deque[bytes] = deque(maxlen=15)
        self.quality: dict[str, str] = {}
        self.completed = 0.0
        self.batch = 0

    def line(self, line: bytes) -> None:
        """Take in one line of output, or an empty one when time has passed."""
        if not line:
            return
        self.tail.append(line)
        if found := _PROGRESS.search(line):
            self.completed = float(found[1]) / 100
        elif self.rounds and (found := _ROUND.search(line)):
            self.completed = min(1.0, (int(found[1]) + 1) / self.rounds)
            self.quality |= {name.decode(): value.decode() for name, value in _ROUND_QUALITY.findall(line)}
        elif found := _BATCH.search(line):
            self.batch = int(found[1])
        elif found := _QUALITY.search(line):
            self.quality[found[1].decode()] = found[2].decode()
        self.show(line)

    def show(self, line: bytes) -> None:
        """Let the line be seen."""
        write(line)

    def done(self) -> None:
        """The job has ended."""


class Terminal(Log):
    """A progress line in place of the log.

    Parameters
    ----------
    title
        What is being done.
    fed
        Bytes given to the job so far and the number expected in all; (0, 0) where nobody knows.
    logs
        Whether to show the log lines above the progress line.
    rounds
        Number of boosting rounds to expect, where there are such.
    """

    def __init__(self, title: str, fed: Callable[[], tuple[int, int]], *, logs: bool, rounds: int = 0) -> None:
        super().__init__(rounds)
        self._title = title
        self._fed = fed
        self._logs = logs
        self._started = time.monotonic()
        self._progress = Progress(_to_stdout)

    def line(self, line: bytes) -> None:
        """Take in one line of output and redraw."""
        super().line(line)
        self._progress.draw(self._text)

    def show(self, line: bytes) -> None:
        """Show a log line above the progress line, where log lines are wanted; a warning always, but only its words."""
        if self._logs or _WARNING.search(line):
            self._progress.clear()
            super().show(line if self._logs else _WARNING.sub(b"clary: ", line))

    def done(self) -> None:
        """Take the progress line away."""
        self._progress.clear()

    @property
    def seconds(self) -> float:
        """How long the job has run."""
        return time.monotonic() - self._started

    def _text(self) -> str:
        passed, expected = self._fed()
        if not expected and not self.completed:  # a share that nobody knows is not 0 %
            batch = f"  mini-batch {self.batch}" if self.batch else ""
            return f"{self._title}{batch}  {self.seconds:.1f} s"
        share = max(self.completed, min(0.99, passed / expected if expected else 0.0))
        read = f"  {size_text(passed)} read" if passed else ""
        return f"{self._title}  {bar(share)}{read}  {self.seconds:.0f} s"


def write(line: bytes) -> None:
    """Write to standard output at once; where that is a terminal that was closed, its SIGHUP is what counts."""
    try:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
    except OSError as error:
        if error.errno != errno.EIO:
            raise


def _to_stdout(text: str) -> None:
    write(text.encode(sys.stdout.encoding, "replace"))
