"""The container's entry points as child processes that end when they are told to."""

from __future__ import annotations

import os
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import BinaryIO, Final, Literal

from .tree import Tree

__all__ = ["Child"]

_TICK: Final = 0.1  # seconds
_DRAIN: Final = 1.0  # seconds that output may still come after the end, from what the child left running
_BLOCK: Final = 1 << 16
_HEARD: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


class Child:
    """``train`` or ``serve`` on a tree, in a session of its own.

    A terminal's Ctrl-C so reaches only us; the child gets what the platform would send, SIGTERM, and is killed
    where it does not end within `grace` seconds.

    Parameters
    ----------
    word
        What the platform says to the image.
    tree
        What the child takes for /opt/ml.
    environment
        Variables to add to ours.
    grace
        Seconds between SIGTERM and SIGKILL.
    log
        Where the child's output goes; by default it is for `lines`.
    base
        The environment to begin with; by default our own.

    Attributes
    ----------
    signal
        The first signal that told us to end, or None.
    """

    def __init__(
        self,
        word: Literal["train", "serve"],
        tree: Tree,
        environment: Mapping[str, str],
        *,
        grace: float,
        log: BinaryIO | None = None,
        base: Mapping[str, str] = os.environ,
    ) -> None:
        self.grace = grace
        self.signal: int | None = None
        self._deadline: float | None = None
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "clary.containers.entrypoint", word],
            env={**base, **environment, **_surroundings(tree)},
            cwd=tree.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if log is None else log,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Number of the process, and of its group."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the child has not ended."""
        return self._process.poll() is None

    @property
    def code(self) -> int:
        """Exit code of the child that has ended, 128 + n for signal n."""
        code = self._process.wait()
        return 128 - code if code < 0 else code

    @contextmanager
    def forwarding(self) -> Iterator[None]:
        """Pass SIGHUP, SIGINT and SIGTERM on to the child, as SIGTERM; at the second of the latter two it is killed.

        One that whoever started us wants ignored, as a shell does for what runs in the background, stays ignored.
        """
        heard = [number for number in _HEARD if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._forward) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def lines(self) -> Iterator[bytes]:
        """Lines of the child's output as they come, and an empty one every tenth of a second or so.

        Ends when the child has.
        """
        rest = b""
        ended_at: float | None = None
        while True:
            chunk = self._read()
            *whole, rest = (rest + chunk).split(b"\n") if chunk else (rest,)
            for line in whole:
                yield line + b"\n"
            if chunk == b"" or (chunk is None and ended_at and time.monotonic() > ended_at + _DRAIN):
                break
            self._enforce()
            ended_at = ended_at or (None if self.running else time.monotonic())
            if chunk is None:
                yield b""
        if rest:
            yield rest + b"\n"
        self._reap()

    def stop(self) -> None:
        """Send SIGTERM where none was sent; the deadline begins, and never moves away."""
        first, deadline = self._deadline is None, time.monotonic() + self.grace
        self._deadline = deadline if self._deadline is None else min(self._deadline, deadline)
        if first:
            with suppress(ProcessLookupError):
                self._process.terminate()

    def close(self) -> None:
        """Make sure that the child and whatever it started have ended."""
        self.stop()
        self._reap()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.stdout:
            self._process.stdout.close()

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _leave_terminal()
            self.signal = self.signal or number  # the kernel and the shell may each send one: no sign of haste
        elif self.signal in (None, signal.SIGHUP):
            self.signal = number
        else:
            self._deadline = 0.0
        self.stop()

    def _read(self) -> bytes | None:
        """Some output; empty at its end, None where there is none now."""
        stream = self._process.stdout
        assert stream is not None  # noqa: S101  # a pipe was asked for
        poll = select.poll()  # select can't have more than a thousand files
        poll.register(stream, select.POLLIN | select.POLLHUP)
        return os.read(stream.fileno(), _BLOCK) if poll.poll(1000 * _TICK) else None

    def _enforce(self) -> None:
        if self._deadline is not None and time.monotonic() > self._deadline:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _reap(self) -> None:
        """Wait for the end of a child that has closed its output or was told to end."""
        while self.running:
            try:
                self._process.wait(_TICK)
            except subprocess.TimeoutExpired:
                self._enforce()


def _surroundings(tree: Tree) -> dict[str, str]:
    """What a child needs to know of us and of the tree.

    A csv.py in the user's folder must not come before Python's own: PYTHONSAFEPATH sees to that, and before
    Python 3.11 the folder that the child runs in. What PYTHONPATH names is to be found from there too, but not the
    user's folder, which an empty entry means.
    """
    found = {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", "SAGEMAKER_BASE_DIR": str(tree.root)}
    found["CLARY_PARENT"] = str(os.getpid())
    if paths := os.environ.get("PYTHONPATH"):
        found["PYTHONPATH"] = os.pathsep.join(str(Path(path).absolute()) for path in paths.split(os.pathsep) if path)
    return found


def _leave_terminal() -> None:
    """Let what is still said go nowhere: writing to a terminal that was closed is an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(number).st_mode):
                os.dup2(nowhere, number)
    os.close(nowhere)
