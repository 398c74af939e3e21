"""Hosts of one job end together: the leader leaves last.

The hosts here are processes whose names are addresses of this machine, which find each other as those of a network do.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clary.errors import UserError
from clary.train import barrier as module
from clary.train.artifact import open_to_all
from clary.train.barrier import _OPEN, PORT, barrier, barrier_limit
from clary.train.environment import Resources
from clary.train.stop import Stop, Stopped

from ..job import POINTS, SOON, Tree, until

LEADER, OTHER = "127.0.0.1", "127.0.0.2"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Callable[..., Tree]]:
    """A function that makes the tree of a host; all share one model directory, as on a laptop."""

    def make(name: str, hosts: tuple[str, ...] = (LEADER, OTHER)) -> Tree:
        tree = Tree(tmp_path / name).kmeans()
        if name != hosts[0]:
            tree.model.parent.rmdir()
            tree.model.parent.symlink_to(tmp_path / hosts[0] / "model")
        tree.config("resourceconfig.json", {"current_host": name, "hosts": [*hosts], "network_interface_name": "ethwe"})
        return tree

    yield make


def started(tree: Tree, *, data: bool = True, **env: object) -> subprocess.Popen[bytes]:
    """Start a host, whose data is a file, or a FIFO that somebody else has to feed."""
    if data:
        tree.file("train/a.csv", POINTS)
    return tree.start(**env)


def listening() -> bool:
    """Whether a leader listens; told by the kernel's table, as a connection would count as a host."""
    lines = Path("/proc/net/tcp").read_text().splitlines()
    return any(line.split()[1:4:2] == [f"0100007F:{PORT:04X}", "0A"] for line in lines)


def test_a_host_that_is_done_waits_for_the_leader(host: Callable[..., Tree]) -> None:
    """A host that is done does not end before the leader has written the artifact, and the leader ends after it."""
    leader, other = host(LEADER), host(OTHER)
    os.mkfifo(leader.data / "train_0")
    first = started(leader, data=False)
    second = started(other)
    until(listening)
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(2)
    (leader.data / "train_0").write_bytes(POINTS)
    result = other.end(second)
    assert result.code == 0 and leader.model.exists(), result.text
    assert leader.end(first).code == 0


def test_the_leader_waits_for_the_others(host: Callable[..., Tree]) -> None:
    """A leader that has written the artifact does not end before the other host is done."""
    leader, other = host(LEADER), host(OTHER)
    os.mkfifo(other.data / "train_0")
    first = started(leader)
    second = started(other, data=False)
    until(leader.model.exists)
    with pytest.raises(subprocess.TimeoutExpired):
        first.wait(1)
    (other.data / "train_0").write_bytes(POINTS)
    assert other.end(second).code == 0
    result = leader.end(first)
    assert result.code == 0 and "waiting" not in result.text, result.text


def test_three_hosts(host: Callable[..., Tree]) -> None:
    """Three hosts leave one artifact and end well."""
    names = (LEADER, OTHER, "127.0.0.3")
    trees = [host(name, names) for name in names]
    results = [tree.end(process) for tree, process in [(tree, started(tree)) for tree in reversed(trees)]]
    assert [result.code for result in results] == [0, 0, 0], results
    assert [path.name for path in trees[0].model.parent.iterdir()] == ["model_algo-1"]
    assert not any("waiting" in result.text for result in results)


@pytest.mark.parametrize("waiting", [LEADER, OTHER])
def test_told_to_end_while_waiting(host: Callable[..., Tree], waiting: str) -> None:
    """A host that waits for another ends at once, and well, when it is told to."""
    tree = host(waiting)
    process = started(tree)
    if waiting == LEADER:
        until(tree.model.exists)
    time.sleep(1.5 if waiting == OTHER else 0.5)
    assert process.poll() is None
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    result = tree.end(process)
    assert (result.code, result.failure) == (0, None), result.text
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("how", ["fails", "is killed"])
def test_a_leader_that_is_gone(host: Callable[..., Tree], how: str) -> None:
    """Nobody waits long for a leader that fails or is killed; the others end well, and after it."""
    leader, other = host(LEADER), host(OTHER)
    os.mkfifo(leader.data / "train_0")
    first = started(leader, data=False)
    until(listening)
    second = started(other)
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(1.5)
    if how == "fails":
        (leader.data / "train_0").write_bytes(b"1,x\n")
    else:
        first.kill()
    assert leader.end(first).code == (2 if how == "fails" else -signal.SIGKILL)
    assert second.poll() is None
    second.send_signal(signal.SIGTERM)  # as compose does after the first exit
    assert other.end(second).code == 0


def test_a_host_that_fails_does_not_wait(host: Callable[..., Tree]) -> None:
    """A host that fails ends at once with its exit code, and the leader does not hear that it is done."""
    leader, other = host(LEADER), host(OTHER)
    first = started(leader, CLARY_BARRIER_TIMEOUT=3)
    other.file("train/a.csv", b"1,x\n")
    assert other.end(other.start()).code == 2
    result = leader.end(first)
    assert result.code == 0 and "0 of 1 other hosts are done after 3 s: not waiting for the rest" in result.text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (LEADER, "0 of 1 other hosts are done after 0.5 s: not waiting for the rest"),
        (OTHER, f"{LEADER} does not answer on port {PORT}: not waiting for it"),
    ],
)
def test_limit(host: Callable[..., Tree], name: str, said: str) -> None:
    """A host that nobody else joins ends well after CLARY_BARRIER_TIMEOUT, with a warning."""
    tree = host(name)
    tree.file("train/a.csv", POINTS)
    result = tree.run(CLARY_BARRIER_TIMEOUT=0.5)
    assert result.code == 0 and said in result.messages, result.text


def test_limit_of_waiting_for_a_busy_leader(host: Callable[..., Tree]) -> None:
    """A host waits no longer than CLARY_BARRIER_TIMEOUT for a leader that is still at work."""
    leader, other = host(LEADER), host(OTHER)
    os.mkfifo(leader.data / "train_0")
    first = started(leader, data=False)
    until(listening)
    result = other.end(started(other, CLARY_BARRIER_TIMEOUT=1))
    assert result.code == 0
    assert f"{LEADER} is not done after 1 s (CLARY_BARRIER_TIMEOUT): not waiting for it" in result.messages
    first.send_signal(signal.SIGTERM)
    assert leader.end(first).code == 0


@pytest.mark.parametrize("name", ["algo-1", "algo-2", "192.0.2.1", "a" * 70, "ä" * 64])
def test_names_of_no_network(name: str) -> None:
    """Where a host's name is none of this machine it waits for nobody, listens nowhere and says so."""
    warnings: list[str] = []
    start = time.monotonic()
    with barrier(Resources(name, ("algo-1", "algo-2", name)), Stop(), warnings.append):
        assert not listening()
    assert time.monotonic() - start < 5
    assert warnings == [f"{name} is no name of this machine in its network: the hosts do not wait for each other"]


def test_port_in_use() -> None:
    """A leader whose port is taken goes on without waiting, with a warning."""
    warnings: list[str] = []
    with socket.create_server((LEADER, PORT)), barrier(Resources(LEADER, (LEADER, OTHER)), Stop(), warnings.append):
        pass
    assert warnings == [f"cannot listen on port {PORT}: Address already in use: the hosts do not wait for each other"]


@pytest.fixture
def silence() -> None:
    """Close what jobs of earlier tests, in this process, have left to its end."""
    while _OPEN:
        _OPEN.pop().close()


@pytest.mark.usefixtures("silence")
def test_one_host() -> None:
    """A job of one host listens nowhere."""
    with barrier(Resources(LEADER, (LEADER,)), Stop(), pytest.fail):
        assert not listening()


@pytest.mark.parametrize("name", [LEADER, OTHER])
def test_a_job_told_to_end_waits_for_nobody(name: str) -> None:
    """A host that was told to end before the barrier passes it at once."""
    stop = Stop()
    stop.requested = True
    start = time.monotonic()
    with barrier(Resources(name, (LEADER, OTHER)), stop, [].append):
        pass
    assert time.monotonic() - start < 1


@pytest.mark.usefixtures("silence")
def test_an_error_passes() -> None:
    """What goes wrong within the barrier comes out of it; the socket is left to the end of the process."""
    with pytest.raises(Stopped), barrier(Resources(LEADER, (LEADER, OTHER)), Stop(), pytest.fail):
        raise Stopped
    assert listening()
    _OPEN.pop().close()


def test_slow_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that takes its time, which hears no signal, is not waited for."""
    monkeypatch.setattr(module, "_LOOK_UP", 0.1)
    never = threading.Event()
    monkeypatch.setattr(socket, "gethostbyname", lambda name: never.wait(SOON) and name)
    warnings: list[str] = []
    with barrier(Resources(LEADER, (LEADER, OTHER)), Stop(), warnings.append):
        never.set()
    assert len(warnings) == 1


@pytest.mark.parametrize(("text", "seconds"), [("", 86400), ("0.5", 0.5), ("1e9", 31 * 86400)])
def test_barrier_limit(text: str, seconds: float) -> None:
    """CLARY_BARRIER_TIMEOUT is in seconds; a day by default, a month at most."""
    assert barrier_limit({"CLARY_BARRIER_TIMEOUT": text}) == seconds


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon"])
def test_wrong_limit(text: str) -> None:
    """A limit that is no positive number is the user's error."""
    with pytest.raises(UserError, match=f"^CLARY_BARRIER_TIMEOUT='{text}': expected a number of seconds above 0$"):
        barrier_limit({"CLARY_BARRIER_TIMEOUT": text})


@pytest.mark.skipif(os.geteuid() != 0, reason="only what root leaves is opened")
def test_what_root_leaves_is_open_to_all(tmp_path: Path) -> None:
    """A job of root leaves files and folders that everybody may read, change and remove; nobody else's are touched."""
    mine = Tree(tmp_path).kmeans()
    mine.file("train/a.csv", POINTS)
    foreign = mine.root / "model" / "foreign"
    foreign.touch(mode=0o600)
    os.chown(foreign, 54321, 54321)
    (mine.root / "model" / "link").symlink_to(mine.data)
    before = mine.data.stat().st_mode
    result = mine.run()
    assert result.code == 0, result.text
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (mine.model, mine.model.parent, foreign)}
    assert modes == {"model_algo-1": 0o666, "model": 0o777, "foreign": 0o600}
    assert mine.data.stat().st_mode == before


def test_no_folder(tmp_path: Path) -> None:
    """Where there is no folder there is nothing to open."""
    open_to_all(tmp_path / "none")
