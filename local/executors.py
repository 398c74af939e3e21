"""Where containers run: the one interface of all executors, and what they are told."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from ..containers.tree import Tree

__all__ = ["Container", "Executor", "Instance", "Running"]

_SIZES: Final = re.compile(r"ml\.(?P<family>[a-z]+)[0-9a-z-]*\.(?P<size>medium|large|(?P<count>\d*)xlarge)")
_GIB: Final = 1 << 30
_PER_CPU: Final[Mapping[str, int]] = {"c": 2, "m": 4, "t": 4, "r": 8}
"""GiB of memory for each CPU, by the first letter of an instance type's family."""


@dataclass(frozen=True, slots=True)
class Instance:
    """What a machine of an instance type has; None where that is not known.

    Examples
    --------
    >>> Instance.of("ml.m5.xlarge")
    Instance(cpus=4, memory=17179869184)
    >>> Instance.of("local")
    Instance(cpus=None, memory=None)
    """

    cpus: int | None = None
    memory: int | None = None

    @classmethod
    def of(cls, name: str) -> Instance:
        """An instance of the type; what only larger machines than this one have, it has not."""
        found = _SIZES.fullmatch(name)
        per_cpu = found and _PER_CPU.get(found["family"][0])
        if not found or not per_cpu:
            return cls()
        cpus = {"medium": 1, "large": 2}.get(found["size"]) or 4 * int(found["count"] or 1)
        return cls(cpus, cpus * per_cpu * _GIB)


@dataclass(frozen=True, slots=True)
class Container:
    """What is to run.

    Parameters
    ----------
    name
        Its host name, ``algo-1``.
    image
        As the request names it.
    algorithm
        Which of ours the image stands for; None for any other image.
    word
        What the platform says to the image.
    tree
        What is /opt/ml inside; it exists.
    environment
        Variables, beside those that each executor adds.
    instance
        The limits.
    entrypoint, arguments
        In the place of the image's own, where given; for any other image.
    isolated
        Whether it may not reach any network but that of its own group.
    """

    name: str
    image: str
    algorithm: str | None
    word: Literal["train", "serve"]
    tree: Tree
    environment: Mapping[str, str] = field(default_factory=dict)
    instance: Instance = field(default_factory=Instance)
    entrypoint: Sequence[str] = ()
    arguments: Sequence[str] = ()
    isolated: bool = False


class Running(Protocol):
    """A container that was started."""

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        ...

    @property
    def code(self) -> int:
        """Exit code of one that has ended, 128 + n for signal n."""
        ...

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of its server."""
        ...

    def lines(self) -> Iterator[bytes]:
        """Lines of its output as they come, and an empty one every tenth of a second or so, until it ends."""
        ...

    def stop(self, grace: float) -> None:
        """Send SIGTERM, the first time; `lines` kills it where it has not ended `grace` seconds later."""
        ...

    def close(self) -> None:
        """Make sure that it has ended, and leave nothing of it."""
        ...


class Executor(Protocol):
    """Starts containers.

    A container ends with the thread that started it, where the executor's containers are processes of this one: that
    thread has to stay until then.
    """

    name: str

    def check(self, container: Container) -> None:
        """Whether it could be started.

        Raises
        ------
        ClaryError
            When it could not, as the executor is not there or the image is not.
        """
        ...

    def start(self, container: Container, group: str) -> Running:
        """Start a container; those of the same group know each other's names.

        Raises
        ------
        ClaryError
            When it cannot be started.
        """
        ...

    def disband(self, group: str) -> None:
        """Leave nothing of a group whose containers are closed."""
        ...

    def sweep(self) -> None:
        """End what an earlier run of the same platform has left."""
        ...


def usable_memory(instance: Instance) -> int | None:
    """The memory limit of an instance on this machine; None where there is none to set."""
    if instance.memory is None:
        return None
    return min(instance.memory, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
