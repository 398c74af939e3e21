"""What a container runs: ``train`` and ``serve`` as SageMaker says them, clary's commands, or any other program.

Everything happens in this very process or one that takes its place, so signals reach who they are meant for.
"""

from __future__ import annotations

import signal
import sys

if __name__ == "__main__":
    # Process 1 of a container passes over a SIGTERM that it has no handler for. Until the job or the server has its
    # own there is nothing to save.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

import os
from collections.abc import Sequence
from typing import Final

from ..logs import emit

__all__ = ["COMMANDS", "follow", "main"]

COMMANDS: Final = (
    *("train", "serve", "predict", "transform", "inspect", "convert-model", "algorithms", "convert", "head"),
    *("datasets", "images", "doctor", "up", "env", "jobs", "logs", "endpoints", "stop", "down", "reset"),
)
"""The words that `clary` itself understands."""

_NOT_FOUND: Final = 127  # what a shell returns
_PR_SET_PDEATHSIG: Final = 1  # of linux/prctl.h


def main(words: Sequence[str] | None = None) -> int:
    """Run `words`, by default those of the command line, and return the exit code."""
    words = sys.argv[1:] if words is None else words
    if list(words) in (["train"], ["serve"]):
        follow(os.environ.pop("CLARY_PARENT", None))
        emit(f"Docker entrypoint called with argument(s): {words[0]}")
        return _train() if words[0] == "train" else _serve()
    if not words or words[0] in COMMANDS or words[0].startswith("-"):
        os.execv(sys.executable, [sys.executable, "-m", "clary", *words])  # noqa: S606
    try:
        os.execvp(words[0], list(words))  # noqa: S606  # the caller's own words: an image has to run any program
    except OSError as error:
        print(f"clary: cannot run {words[0]!r}: {error.strerror}", file=sys.stderr)
    return _NOT_FOUND


def follow(parent: str | None) -> None:
    """End, as by SIGTERM, when the process that started this one does, however it ends.

    Only our own processes name one: a container ends with its process 1 anyway.
    """
    if parent is None or sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(parent):  # it has ended before it could be followed
        sys.exit(0)


def _train() -> int:
    from ..train.job import main as job

    return job()


def _serve() -> int:
    from ..serve.workers import main as server

    return server()


if __name__ == "__main__":
    sys.exit(main())
