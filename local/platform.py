"""A platform: what is known, what runs, and what everything that runs needs."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from ..errors import ClaryError
from ..logs import emit
from .executors import Container, Executor
from .folder import ACCOUNT, DOCKER, StateFolder
from .logs import Logs
from .store import Store

__all__ = ["Job", "Platform"]

_END: Final = 20  # seconds for everything that runs to end with the platform


class Job(Protocol):
    """Something that runs: a thread that can be told to end."""

    def stop(self) -> None:
        """End it as its user wants it: what is there so far is kept."""
        ...

    def is_alive(self) -> bool:
        """Whether it runs."""
        ...

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        ...


@dataclass
class Platform:
    """Everything there is.

    Parameters
    ----------
    folder
        Where state is kept.
    store
        What is known.
    logs
        Where log lines go.
    s3
        A client of the S3 that inputs and outputs are in.
    executor
        Where our algorithms run.
    docker
        Where any other image runs.
    region
        The usual one.

    Attributes
    ----------
    closing
        Set when the platform ends: what runs ends, and is taken up again by the next one.
    beginning
        Held by whoever looks whether a job runs, to run it.
    jobs
        Kind and name → what runs.
    """

    folder: StateFolder
    store: Store
    logs: Logs
    s3: Any
    executor: Executor
    docker: Executor
    region: str
    account: str = ACCOUNT
    closing: threading.Event = field(default_factory=threading.Event)
    beginning: threading.Lock = field(default_factory=threading.Lock)
    jobs: dict[tuple[str, str], Job] = field(default_factory=dict)

    def executor_of(self, container: Container) -> Executor:
        """Where a container runs, which could be started there.

        Raises
        ------
        ClaryError
            When it could not.
        """
        found = self.docker if container.algorithm is None else self.executor
        found.check(container)
        return found

    def sweep(self) -> None:
        """End containers that nobody looks after any more."""
        with suppress(ClaryError):
            self.docker.sweep()

    def close(self) -> None:
        """End everything that runs, and let go of what is known; it may be called again."""
        if self.closing.is_set():
            return
        self.closing.set()
        deadline = time.monotonic() + _END
        for job in list(self.jobs.values()):
            job.join(max(0.0, deadline - time.monotonic()))
        if (self.folder.path / DOCKER).exists():
            self.sweep()
        for (kind, name), job in self.jobs.items():
            if job.is_alive():
                emit(f"{kind} {name} does not end")
        self.logs.close()
        self.store.close()
