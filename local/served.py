"""The running containers of one model, as endpoints and batch transform jobs have them."""

from __future__ import annotations

import math
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from ..containers.endpoint import LOOPBACK, alive
from ..containers.registries import algorithm_of
from ..containers.tree import Tree
from ..errors import ClaryError, PlatformError
from ..serve.settings import usable_cores
from .edge import guarded
from .executors import Container, Executor, Instance, Running
from .model_data import place
from .platform import Platform
from .processes import Processes

__all__ = ["Heard", "Served", "UnhealthyError", "containers_of"]

_START: Final = 240.0  # seconds until /ping has to answer, on SageMaker too
_GRACE: Final = 30.0  # seconds between SIGTERM and SIGKILL, on SageMaker too
_HASTE: Final = 5.0  # the same where the platform ends
_STEP: Final = 0.05
_DRAIN: Final = 5.0  # seconds for the last lines of a container that has ended
_FRONT: Final = "pipeline"

Heard = Callable[[str, bytes], None]
"""Told the name of a container and a line of its output."""


class UnhealthyError(PlatformError):
    """A container does not answer.

    Parameters
    ----------
    container
        Its name.
    reason
        As a clause.
    """

    def __init__(self, container: str, reason: str) -> None:
        super().__init__(reason)
        self.container = container


def containers_of(model: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Name → definition of each container of a model, in the order in which they are asked.

    Examples
    --------
    >>> list(containers_of({"PrimaryContainer": {"Image": "clary/kmeans"}}))
    ['primary']
    >>> list(containers_of({"Containers": [{"ContainerHostname": "first"}, {}]}))
    ['first', 'container-2']
    """
    if "PrimaryContainer" in model:
        return {"primary": model["PrimaryContainer"]}
    pairs = enumerate(model["Containers"], 1)
    return {definition.get("ContainerHostname", f"container-{number}"): definition for number, definition in pairs}


class Served:
    """The containers of one model; whoever makes one closes it.

    Parameters
    ----------
    platform
        Where they run.
    model
        What describes the model: the request of CreateModel.
    group
        Name that is nobody else's.
    work
        Folder that is nobody else's; it is removed at the end.
    heard
        Gets their output, each container's from a thread of its own.
    environment
        Variables for all containers beside those of the model.
    instance
        The limits.
    startup
        Seconds that they have until they answer.
    unwanted
        Asked while they start: whether they need not go on.
    """

    def __init__(
        self,
        platform: Platform,
        model: Mapping[str, Any],
        *,
        group: str,
        work: Path,
        heard: Heard,
        environment: Mapping[str, str] | None = None,
        instance: Instance | None = None,
        startup: float = _START,
        unwanted: Callable[[], bool] = lambda: False,
    ) -> None:
        self._platform = platform
        self._definitions = containers_of(model)
        self._isolated = bool(model.get("EnableNetworkIsolation"))
        self.direct = model.get("InferenceExecutionConfig", {}).get("Mode") == "Direct"
        self._group = group
        self._work = work
        self._heard = heard
        self._environment = dict(environment or {})
        self._instance = instance or Instance()
        self._startup = startup
        self._unwanted = unwanted
        self._deadline = 0.0
        self._members: list[_Member] = []
        self._executors: dict[str, Executor] = {}
        self._starting = threading.Lock()
        self._closed = threading.Event()
        self._front: _Member | None = None

    @property
    def names(self) -> Sequence[str]:
        """Of the containers, in order."""
        return tuple(self._definitions)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of whom to ask: the container, or whoever asks one after the other."""
        return (self._front or self._members[0]).address

    @property
    def addresses(self) -> Mapping[str, tuple[str, int]]:
        """Those of all containers, by their names."""
        return {member.name: member.address for member in self._members}

    @property
    def root(self) -> Path:
        """What is /opt/ml in the first container."""
        return self._tree(self.names[0]).root

    @property
    def seen_root(self) -> str:
        """The same as that container calls it."""
        return "/opt/ml" if "docker" in self._executors else str(self.root)

    def start(self) -> None:
        """Start the containers and return when they answer.

        Raises
        ------
        UnhealthyError
            When they end, or do not answer in time.
        ClaryError
            When they cannot be started, or are no longer wanted.
        """
        self.begin()
        self.wait()

    def begin(self) -> None:
        """Start the containers; `wait` for them."""
        with self._starting:
            self._deadline = time.monotonic() + self._startup
            shutil.rmtree(self._work, ignore_errors=True)
            for name, definition in self._definitions.items():
                self._begin(name, definition)
            self._wait(lambda: all(member.started for member in self._members))
            if len(self._members) > 1 and not self.direct:
                self._begin_front()

    def wait(self) -> None:
        """Return when they answer."""
        with self._starting:
            if self._front is None:
                self._wait(lambda: all(alive(*address) for address in self.addresses.values()))
            else:
                self._wait(lambda: alive(*self.address))

    def dead(self) -> str | None:
        """Why there is somebody missing; None while all containers run."""
        return next((member.last_words() for member in self._all() if member.ended), None)

    def close(self) -> None:
        """End the containers, which finish what they have been asked, and leave nothing of them."""
        self._closed.set()
        with self._starting:
            if self._front is not None:  # it still asks the others
                self._end([self._front])
            self._end(self._members)
            for executor in self._executors.values():
                with suppress(ClaryError):  # an engine that has ended has nothing of ours
                    executor.disband(self._group)
            shutil.rmtree(self._work, ignore_errors=True)

    def _end(self, members: Sequence[_Member]) -> None:
        """Tell containers to end and wait for it, which is to take less time as soon as the platform ends."""
        grace, deadline = 0.0, math.inf
        while (left := [member for member in members if member.is_alive()]) and time.monotonic() < deadline:
            allowed = _HASTE if self._platform.closing.is_set() else _GRACE
            if allowed != grace:
                grace, deadline = allowed, time.monotonic() + allowed + _DRAIN
                for member in left:
                    member.stop(grace)
            left[0].join(_STEP)

    def _all(self) -> list[_Member]:
        return self._members if self._front is None else [*self._members, self._front]

    def _tree(self, name: str) -> Tree:
        return Tree(self._work / name)

    def _begin(self, name: str, definition: Mapping[str, Any]) -> None:
        """Fetch what a container needs, and start it."""
        tree = self._tree(name)
        environment = {**definition.get("Environment", {}), **self._environment}
        if definition.get("Mode") == "MultiModel":
            (tree.root / "models").mkdir(parents=True)
            environment["SAGEMAKER_MULTI_MODEL"] = "true"
        else:
            place(self._platform.s3, definition, name, tree.model, self._is_unwanted)
        if len(self._definitions) > 1:
            environment.setdefault(
                "SAGEMAKER_MODEL_SERVER_WORKERS", str(max(1, usable_cores() // len(self._definitions)))
            )
        container = Container(
            name,
            definition["Image"],
            algorithm_of(definition["Image"]),
            "serve",
            tree,
            environment,
            self._instance,
            isolated=self._isolated,
        )
        executor = self._platform.executor_of(container)
        self._executors[executor.name] = executor
        self._members.append(self._started(container, executor))

    def _begin_front(self) -> None:
        """Start the server that asks the containers one after the other; it is a process of this machine."""
        if any(host != LOOPBACK for host, _ in self.addresses.values()):
            raise PlatformError("containers in a row cannot be isolated in Docker: do without EnableNetworkIsolation")
        tree = self._tree(f".{_FRONT}")
        tree.root.mkdir()
        ports = ",".join(str(port) for _, port in self.addresses.values())
        environment = {"CLARY_PIPELINE": ports, "SAGEMAKER_MODEL_SERVER_WORKERS": "1"}
        front = self._front = self._started(Container(_FRONT, "", None, "serve", tree, environment), Processes())
        self._wait(lambda: front.started)

    def _started(self, container: Container, executor: Executor) -> _Member:
        member = _Member(container.name, lambda: executor.start(container, self._group), self._heard)
        member.start()
        return member

    def _is_unwanted(self) -> bool:
        return self._closed.is_set() or self._platform.closing.is_set() or self._unwanted()

    def _wait(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self._is_unwanted():
                raise PlatformError("the containers were ended before they had started")
            for member in self._all():
                if member.ended:
                    raise UnhealthyError(member.name, member.last_words())
            if time.monotonic() > self._deadline:
                raise UnhealthyError(self.names[0], f"it does not answer /ping within {self._startup:g} s")
            self._closed.wait(_STEP)


class _Member(threading.Thread):
    """One container, and the thread that it ends with."""

    def __init__(self, name: str, begin: Callable[[], Running], heard: Heard) -> None:
        super().__init__(name=name, daemon=True)
        self._begin = begin
        self._heard = heard
        self._lock = threading.Lock()
        self._running: Running | None = None
        self._grace: float | None = None
        self._last = b""
        self._why = ""
        self.ended = False

    @property
    def started(self) -> bool:
        """Whether it has an address."""
        return self._running is not None

    @property
    def address(self) -> tuple[str, int]:
        """Where it can be asked."""
        assert self._running is not None  # noqa: S101  # it was waited for
        return self._running.address

    def run(self) -> None:
        """Start it, and hear what it says until it ends."""
        guarded(f"the container {self.name}", self._try, self._fail)
        self.ended = True

    def stop(self, grace: float) -> None:
        """Tell it to end within `grace` seconds."""
        with self._lock:
            self._grace = grace
            if self._running is not None:
                with suppress(ClaryError):  # its own thread gets to know it too
                    self._running.stop(grace)

    def last_words(self) -> str:
        """How it has ended."""
        said = self._last.decode(errors="replace").strip()
        return f"the container {self.name} {self._why}" + (f"; its last line: {said}" if said else "")

    def _try(self) -> None:
        try:
            self._live()
        except ClaryError as error:
            self._fail(str(error))

    def _fail(self, why: str) -> None:
        self._why = f"has failed: {why}"

    def _live(self) -> None:
        running = self._begin()
        with closing(running):
            with self._lock:
                self._running = running
                if self._grace is not None:
                    running.stop(self._grace)
            for line in running.lines():
                if line:
                    self._last = line
                    self._heard(self.name, line)
            self._why = f"has ended with exit code {running.code}"
