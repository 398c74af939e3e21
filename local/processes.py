"""Containers as processes of this machine: no Docker, one folder and one process group each."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Final

from ..containers.endpoint import LOOPBACK, free_port
from ..containers.engine import Child
from ..errors import UserError
from .executors import Container, usable_memory

__all__ = ["Processes"]

_STARTED: Final = itertools.count()
_OURS: Final = ("AWS_", "CLARY_", "SAGEMAKER_", "SM_")  # variables of the platform that are none of a job's business

_NOT_TAKEN: Final = ("CLARY_", "LD_", "PYTHON", "SAGEMAKER_BASE_DIR")
"""How variables begin that a request may not set: they would move the process out of its folder, or run other code."""


class Processes:
    """Runs clary's own algorithms; implements `clary.local.executors.Executor`."""

    name = "process"

    def check(self, container: Container) -> None:
        """Whether it is one of our algorithms: nothing else can run without its image."""
        if container.algorithm is None:
            raise UserError(
                f"{container.image} is none of the built-in algorithms, so it runs in Docker only: "
                "start one, or name an image of AWS's registry such as .../kmeans:1"
            )

    def start(self, container: Container, group: str) -> _Process:  # noqa: ARG002  # there is nothing between them
        """Start it; it ends with the thread that calls."""
        return _Process(container)

    def disband(self, group: str) -> None:
        """Nothing is left of it."""

    def sweep(self) -> None:
        """End nothing: processes end with the platform."""


class _Process:
    """One of them; implements `clary.local.executors.Running`."""

    def __init__(self, container: Container) -> None:
        self._port = free_port() if container.word == "serve" else 0
        environment = {**container.environment}
        if container.algorithm is not None:  # else it is our own, before others in a row
            environment = {name: value for name, value in environment.items() if not name.startswith(_NOT_TAKEN)}
            environment["CLARY_ALGORITHM"] = container.algorithm
        if container.word == "serve":
            environment |= {"CLARY_BIND": LOOPBACK, "SAGEMAKER_BIND_TO_PORT": str(self._port)}
        self._child = Child(container.word, container.tree, environment, grace=0, base=_surroundings())
        _limit(self._child.pid, container)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._child.running

    @property
    def code(self) -> int:
        """Its exit code."""
        return self._child.code

    @property
    def address(self) -> tuple[str, int]:
        """Where its server listens."""
        return LOOPBACK, self._port

    def lines(self) -> Iterator[bytes]:
        """Its output."""
        return self._child.lines()

    def stop(self, grace: float) -> None:
        """Tell it to end within `grace` seconds."""
        self._child.grace = grace
        self._child.stop()

    def close(self) -> None:
        """Make sure that it has ended."""
        self._child.close()


def _surroundings() -> Mapping[str, str]:
    """What a process has of our own environment."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}


def _limit(process: int, container: Container) -> None:
    """Give a process what its instance type has: memory, and as many cores, where the system can."""
    if sys.platform != "linux":
        return
    import resource

    if (memory := usable_memory(container.instance)) is not None:
        resource.prlimit(process, resource.RLIMIT_DATA, (memory, memory))
    cores = sorted(os.sched_getaffinity(0))
    if container.instance.cpus is not None and container.instance.cpus < len(cores):
        first = next(_STARTED) % len(cores)  # so that small instances do not all share the same
        os.sched_setaffinity(process, (cores[first:] + cores[:first])[: container.instance.cpus])
