"""Hosts of one job wait for each other at its end: the leader leaves last.

Local mode of the SageMaker SDK gives all hosts the same model directory, ends the whole job with the first host that
exits, and kills after ten seconds what still runs. So a host that has done its part waits until the leader has written
the artifact, and the leader, once it has, waits for the others before it leaves. SageMaker itself waits for every
host, and a job is paid for until its last one exits: there all this costs nothing.

A host cannot see whether others write to its model directory, and marks left there would become part of the model. But
in both worlds the hosts find each other by their names in resourceconfig.json. The leader listens from its first
moment; each other host connects when it is done, and waits for a byte that says "written". The kernel ends the
connections of a process however that dies, so nobody waits for a dead one; but a host whose leader has ended without
that byte lets the leader be the first that is seen to exit, because local mode takes the first exit for the job's. The
leader counts connections and does not ask who is behind them: a stranger could make it leave early, which loses
nothing, as the model is written by then.

Every wait has a limit and hears SIGTERM, after which nobody waits. A host whose own name is not one of this machine (a
container started by hand with somebody's resourceconfig.json) has nobody to wait for. Whatever keeps hosts from
waiting for each other is worth a warning, and never the job.
"""

from __future__ import annotations

import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from .environment import Resources, seconds
from .stop import Stop, Stopped

__all__ = ["PORT", "barrier", "barrier_limit"]

PORT: Final = 7479
"""Where the leader listens."""

_DAY: Final = 86400.0  # seconds; how long a job of SageMaker may run if nobody says otherwise
_LATE: Final = 60.0  # seconds for the others to be there: once the leader is done they change nothing any more
_LOOK_AGAIN: Final = 0.2  # seconds
_LOOK_UP: Final = 5.0  # seconds for the address of a name, and for one attempt to connect
_FAREWELL: Final = 15.0  # seconds; who runs the hosts has stopped all of them long before, once the leader has failed
_KEEP_ALIVE: Final = 60  # seconds of silence after which the kernel asks whether the other machine is still there

_WRITTEN: Final = b"w"
"""What the leader says when its model is written."""

_OPEN: Final[list[socket.socket]] = []
"""The leader's socket, so that nothing but the end of the process closes it."""


def barrier_limit(env: Mapping[str, str] = os.environ) -> float:
    """Seconds that a host waits for the leader: CLARY_BARRIER_TIMEOUT, a day by default.

    The leader waits for the others as long, and never more than a minute.

    Raises
    ------
    UserError
        When it is no positive number.
    """
    return min(seconds(env, "CLARY_BARRIER_TIMEOUT", _DAY, most=sys.float_info.max), 31 * _DAY)


@contextmanager
def barrier(resources: Resources, stop: Stop, warn: Callable[[str], None], limit: float = _DAY) -> Iterator[None]:
    """Around a host's part of the job: wait for the others when it has gone well.

    Parameters
    ----------
    resources
        The hosts.
    stop
        Whether the job was told to end.
    warn
        Is told what keeps the hosts from waiting for each other.
    limit
        Seconds that a wait may take.
    """
    mine = _own_address(resources, stop, warn) if len(resources.hosts) > 1 else None
    if mine is None:
        yield
    elif not resources.is_leader:
        yield
        with suppress(Stopped), stop.interruptible():
            if not _await_leader(resources.leader, warn, limit):
                time.sleep(_FAREWELL)
    elif server := _listen(mine, len(resources.hosts), warn):
        _OPEN.append(server)  # where the job fails it is open until the process ends, and with it the others' wait
        yield
        with suppress(Stopped), stop.interruptible():
            _await_others(server, len(resources.hosts) - 1, warn, min(limit, _LATE))
        server.close()
    else:
        yield


def _own_address(resources: Resources, stop: Stop, warn: Callable[[str], None]) -> str | None:
    """The address of this host's name, if it is one of this machine; the resolver has a thread, as it hears nothing."""
    name = resources.current_host
    answer: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            address = socket.gethostbyname(name)
            with socket.socket() as probe:
                probe.bind((address, 0))
            answer.put(address)
        except (OSError, UnicodeError):  # no such name, one of another machine, or none that a network could know
            answer.put(None)

    threading.Thread(target=look_up, daemon=True).start()
    found = None
    with suppress(queue.Empty, Stopped), stop.interruptible():
        found = answer.get(timeout=_LOOK_UP)
    if found is None:
        warn(f"{name} is no name of this machine in its network: the hosts do not wait for each other")
    return found


def _listen(address: str, hosts: int, warn: Callable[[str], None]) -> socket.socket | None:
    """The leader's socket; the kernel keeps the connections to it until the leader asks for them."""
    try:
        return socket.create_server((address, PORT), backlog=hosts)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        warn(f"cannot listen on port {PORT}: {reason}: the hosts do not wait for each other")
        return None


def _await_others(server: socket.socket, count: int, warn: Callable[[str], None], limit: float) -> None:
    """Wait until all others are done, tell them that the model is written, and wait until they are gone."""
    deadline = time.monotonic() + limit
    with ExitStack() as stack:
        others: list[socket.socket] = []
        with suppress(OSError):  # too late, as a rule
            while len(others) < count:
                server.settimeout(_left(deadline))
                others.append(stack.enter_context(server.accept()[0]))
        if len(others) < count:
            warn(f"{len(others)} of {count} other hosts are done after {limit:g} s: not waiting for the rest")
        for other in others:
            with suppress(OSError):  # it is gone already
                other.sendall(_WRITTEN)
                other.shutdown(socket.SHUT_WR)
        for other in others:
            other.settimeout(_left(deadline))
            with suppress(OSError):
                other.recv(1)


def _await_leader(leader: str, warn: Callable[[str], None], limit: float) -> bool:
    """Tell the leader that this host is done, and wait until it has written the model or is gone.

    Returns
    -------
    bool
        Whether there is no more to wait for: False where the leader has ended without a word, as it does when it
        fails. Its end has to be the first that is seen, or its failure would pass for a success.
    """
    deadline = time.monotonic() + limit
    connection = _connect(leader, time.monotonic() + min(limit, _LATE))
    if connection is None:
        warn(f"{leader} does not answer on port {PORT}: not waiting for it")
        return True
    with connection:
        connection.settimeout(_left(deadline))
        try:
            return connection.recv(1) == _WRITTEN
        except TimeoutError:
            warn(f"{leader} is not done after {limit:g} s (CLARY_BARRIER_TIMEOUT): not waiting for it")
            return True
        except OSError:  # it died, or its machine did
            return False


def _connect(leader: str, deadline: float) -> socket.socket | None:
    """A connection to the leader, which may be known and listening a little later than others are done."""
    while (left := deadline - time.monotonic()) > 0:
        try:
            connection = socket.create_connection((leader, PORT), timeout=min(left, _LOOK_UP))
        except OSError:
            time.sleep(_LOOK_AGAIN)
            continue
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if sys.platform == "linux":
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEP_ALIVE)
        return connection
    return None


def _left(deadline: float) -> float:
    """Seconds until then; never 0, which means "do not wait" to a socket."""
    return max(deadline - time.monotonic(), 1e-3)
