"""The hosts of a training job: one container each, with its FIFOs fed, its lines heard and its end known."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

from ..containers.feeder import Feeder
from ..containers.files import read_text_within
from ..errors import ChannelError, ClaryError, PlatformError
from .data import ChannelData
from .edge import guarded
from .executors import Container, Executor

__all__ = ["Host", "run_hosts"]

_TICK: Final = 0.1  # seconds
_SHOWN: Final = 1024  # characters of the failure file, as many as SageMaker shows


class Host(threading.Thread):
    """One host.

    Parameters
    ----------
    container
        What runs on it.
    executor
        Which runs it.
    group
        The job's.
    feeders
        Makes the feeders of its channels, when it starts.
    heard
        Is told each line, with the host's name.

    Attributes
    ----------
    code
        Exit code; None where the container has not ended or could not be started.
    error
        Why it could not be started or fed.
    """

    def __init__(
        self,
        container: Container,
        executor: Executor,
        group: str,
        feeders: Callable[[], Sequence[Feeder]],
        heard: Callable[[str, bytes], None],
    ) -> None:
        super().__init__(name=f"{group} {container.name}", daemon=True)
        self.container = container
        self.code: int | None = None
        self.error: ClaryError | None = None
        self._executor = executor
        self._group = group
        self._make_feeders = feeders
        self._heard = heard
        self._grace: float | None = None

    def run(self) -> None:
        """Run the container to its end."""
        guarded(self.name, self._run, self._fail)

    def _run(self) -> None:
        try:
            with ExitStack() as stack:
                feeders = self._make_feeders()
                for feeder in feeders:
                    stack.callback(feeder.stop)
                running = stack.enter_context(closing(self._executor.start(self.container, self._group)))
                for feeder in feeders:
                    feeder.start()
                for line in running.lines():
                    if line:
                        self._heard(self.container.name, line)
                    self.error = self.error or _fed(feeders)
                    if self.error is not None:
                        running.stop(0)
                    elif self._grace is not None:
                        running.stop(self._grace)
                self.code = running.code
        except ClaryError as error:
            self.error = error
        except (OSError, ValueError) as error:  # no process, no FIFO, a name with a NUL
            self._fail(str(error))

    def _fail(self, why: str) -> None:
        self.error = PlatformError(f"the host {self.container.name} could not be run: {why}")

    def end(self, grace: float) -> None:
        """Tell the container to end within `grace` seconds; a shorter time counts."""
        self._grace = grace if self._grace is None else min(grace, self._grace)

    @property
    def failed(self) -> bool:
        """Whether it has ended badly."""
        return not self.is_alive() and self.code != 0

    @property
    def failure(self) -> str:
        """What it says of its failure."""
        tree = self.container.tree
        return read_text_within(tree.root, tree.failure, _SHOWN).strip()


def feeders(channels: Sequence[ChannelData], data: Path, host: int, hosts: int) -> list[Feeder]:
    """What feeds the channels of a host that are to come through FIFOs."""
    return [Feeder(each.name, each.passes(host, hosts), data) for each in channels if each.mode == "Pipe"]


@contextmanager
def run_hosts(hosts: Sequence[Host], executor: Executor, group: str) -> Iterator[Iterator[None]]:
    """Start all hosts; the iterator ticks until they have ended. Where one fails, the others are told to end."""
    try:
        for host in hosts:
            host.start()
        yield _ticks(hosts)
    finally:
        for host in hosts:
            host.end(0)
        for host in hosts:
            host.join(_LAST)
        executor.disband(group)


_LAST: Final = 10  # seconds for a container that is killed to be gone


def _ticks(hosts: Sequence[Host]) -> Iterator[None]:
    while any(host.is_alive() for host in hosts):
        next(host for host in hosts if host.is_alive()).join(_TICK)
        if any(not host.is_alive() and host.failed for host in hosts):
            for host in hosts:
                host.end(_LAST)
        yield


def _fed(feeders: Sequence[Feeder]) -> ClaryError | None:
    """Why a channel could not be fed."""
    found = next(((feeder.channel, feeder.error) for feeder in feeders if feeder.error), None)
    return found and ChannelError(f"the channel {found[0]!r} could not be fed: {found[1]}")
