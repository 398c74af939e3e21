"""Containers of a Docker engine, by its SDK."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from clary.containers.tree import Tree
from clary.errors import MissingExtraError, PlatformError, UserError
from clary.local.dockers import Dockers
from clary.local.executors import Container, Instance, Running
from clary.local.folder import DOCKER

from ..docker import conftest as images

pytest.importorskip("docker")
pytestmark = pytest.mark.docker

SOON = 90.0
HYPERPARAMETERS = {"k": "3", "feature_dim": "2", "mini_batch_size": "10"}
ROWS = "".join(f"{row % 3 * 10},{row % 7}\n" for row in range(60))
GROUP = "job"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(99)"
GENTLE = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("up", flush=True)
time.sleep(99)
"""
STARTING = """
import sys, time
from pathlib import Path
from clary.containers.tree import Tree
from clary.local.dockers import Dockers
from clary.local.executors import Container

state, image, root, *entrypoint, code = sys.argv[1:]
container = Container("algo-1", image, None, "train", Tree(Path(root)), entrypoint=entrypoint, arguments=(code,))
running = Dockers(Path(state)).start(container, "job")
print("started", flush=True)
time.sleep(99)
"""
UNDER_PYTHON = ("/opt/clary/bin/python3", "-c")

image_of = images.image_of


@pytest.fixture
def image(image_of: Callable[[str], str]) -> str:
    """The image of k-means under test."""
    return image_of("kmeans")


@pytest.fixture
def executor(image: str, tmp_path: Path) -> Iterator[Dockers]:  # noqa: ARG001  # there is an engine if there is one
    """An executor; what the test leaves is removed."""
    (tmp_path / "state").mkdir()
    executor = Dockers(tmp_path / "state")
    yield executor
    executor.sweep()


@pytest.fixture
def start(executor: Dockers) -> Iterator[Callable[..., Running]]:
    """Starts a container, which is closed in the end."""
    started: list[Running] = []

    def run(container: Container, group: str = GROUP) -> Running:
        started.append(executor.start(container, group))
        return started[-1]

    yield run
    for running in started:
        running.close()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A tree of which k-means can be trained."""
    tree = Tree(tmp_path / "ml")
    tree.build(HYPERPARAMETERS, [], "File")
    channel = {"train": {"TrainingInputMode": "File", "ContentType": "text/csv;label_size=0"}}
    (tree.config / "inputdataconfig.json").write_text(json.dumps(channel))
    (tree.data / "train").mkdir()
    (tree.data / "train/rows.csv").write_text(ROWS)
    return tree


@pytest.fixture
def networks(executor: Dockers) -> None:  # noqa: ARG001  # there is an engine
    """The test skips where the engine can make no networks."""
    name = f"clary-local-probe-{os.getpid()}"
    made = images.docker("network", "create", name)
    images.docker("network", "rm", name)
    if made.returncode:
        pytest.skip(f"the Docker engine cannot make networks: {made.stderr}")


@pytest.fixture
def script(start: Callable[..., Running], image: str, tree: Tree) -> Callable[..., Running]:
    """Starts Python code in a container, as a foreign image with an entry point of the user's."""

    def run(code: str, name: str = "algo-1", **options: Any) -> Running:
        return start(Container(name, image, None, "train", tree, entrypoint=UNDER_PYTHON, arguments=(code,), **options))

    return run


def finish(running: Running) -> list[bytes]:
    """The lines that it prints until its end."""
    deadline = time.monotonic() + SOON
    lines = []
    for line in running.lines():
        assert time.monotonic() < deadline, lines
        lines += [line] if line else []
    return lines


def await_line(lines: Iterator[bytes], wanted: bytes) -> None:
    """Wait until it has printed that."""
    deadline = time.monotonic() + SOON
    while next(lines) != wanted:
        assert time.monotonic() < deadline


def ping(running: Running) -> int:
    """The status of its /ping, as soon as it has one."""
    host, port = running.address
    deadline = time.monotonic() + SOON
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://{host}:{port}/ping", timeout=5) as answer:
                return int(answer.status)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert running.running
            time.sleep(0.1)
    return 0


def of_platform(executor: Dockers, kind: str) -> Sequence[str]:
    """The ids of the containers or networks that bear the platform's label."""
    words = {"container": ("ps", "--all"), "network": ("network", "ls")}[kind]
    return images.docker(*words, "--quiet", f"--filter=label=clary.platform={executor._id}").stdout.split()


def test_an_algorithm_trains_and_leaves_its_model(executor: Dockers, image: str, tree: Tree) -> None:
    """The container finds its tree, says what it does, ends with 0; closed and disbanded, nothing is left of it."""
    container = Container("algo-1", image, "kmeans", "train", tree)
    executor.check(container)
    running = executor.start(container, GROUP)
    lines = finish(running)

    assert running.code == 0, lines
    assert not running.running
    assert any(b"Docker entrypoint called with argument(s): train" in line for line in lines)
    assert all(line.endswith(b"\n") for line in lines)
    assert (tree.model / "model_algo-1").is_file()
    running.close()
    executor.disband(GROUP)
    assert [*of_platform(executor, "container"), *of_platform(executor, "network")] == []


def test_the_image_of_all_algorithms_stands_in(
    start: Callable[..., Running], image_of: Callable[[str], str], tree: Tree
) -> None:
    """An image that trains anything is told what to train; a name of AWS's is found under one of ours."""
    everything = Container("algo-1", image_of("all"), "kmeans", "train", tree)
    running = start(everything)
    lines = finish(running)

    assert running.code == 0, lines
    assert (tree.model / "model_algo-1").is_file()


def test_an_image_of_aws_is_found_under_our_name(start: Callable[..., Running], tree: Tree) -> None:
    """What the request names is AWS's; what runs is ours."""
    if not images.docker("image", "ls", "--quiet", "clary/kmeans:latest").stdout:
        pytest.skip("there is no clary/kmeans:latest")
    name = "382416733822.dkr.ecr.us-east-1.amazonaws.com/kmeans:1"
    running = start(Container("algo-1", name, "kmeans", "train", tree))

    finish(running)
    assert running.code == 0


@pytest.mark.usefixtures("networks")
def test_hosts_of_a_group_know_each_others_names(script: Callable[..., Running]) -> None:
    """Each is known by its name from the moment that it runs, to the other and to itself."""
    code = """
import socket, sys, time
names = ["algo-1", "algo-2"]
found = {}
for _ in range(600):
    for name in names:
        try:
            found[name] = socket.gethostbyname(name)
        except OSError:
            time.sleep(0.1)
    if len(found) == 2:
        break
print(socket.gethostname(), len(set(found.values())), flush=True)
time.sleep(99)
"""
    started: dict[str, Running] = {}
    threads = [
        threading.Thread(target=lambda name=name: started.update({name: script(code, name)}))
        for name in ("algo-1", "algo-2")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)

    for name in ("algo-1", "algo-2"):
        await_line(started[name].lines(), f"{name} 2\n".encode())


def test_a_fifo_in_the_tree_joins_both_sides(start: Callable[..., Running], image: str, tree: Tree) -> None:
    """In Pipe mode the job reads what is written on this side."""
    channel = {"train": {"TrainingInputMode": "Pipe", "ContentType": "text/csv;label_size=0"}}
    (tree.config / "inputdataconfig.json").write_text(json.dumps(channel))
    os.mkfifo(tree.data / "train_0")
    writer = threading.Thread(target=(tree.data / "train_0").write_text, args=(ROWS,), daemon=True)
    writer.start()
    running = start(Container("algo-1", image, "kmeans", "train", tree))
    lines = finish(running)
    writer.join(SOON)

    assert running.code == 0, lines
    assert not writer.is_alive()


def test_a_stopped_container_gets_sigterm(script: Callable[..., Running]) -> None:
    """Its process 1 hears it and ends as it likes; a second stop changes nothing."""
    running = script(GENTLE)
    lines = running.lines()
    await_line(lines, b"up\n")
    assert running.running
    running.stop(SOON)
    running.stop(SOON)

    assert [line for line in lines if line] == []
    assert running.code == 7


def test_one_that_does_not_end_in_time_is_killed(script: Callable[..., Running]) -> None:
    """After its grace, the shortest that it was given, SIGKILL ends it, which Docker calls 137."""
    running = script(STUBBORN)
    lines = running.lines()
    await_line(lines, b"up\n")
    running.stop(SOON)
    running.stop(0.3)

    assert [line for line in lines if line] == []
    assert running.code == 137


def test_lines_come_of_both_streams_and_whole(script: Callable[..., Running]) -> None:
    """Long lines, lines without an end and bytes that are no text come as they are."""
    running = script(
        "import os; os.write(2, b'\\xff' * 40000 + b'\\n'); os.write(1, b'a\\n\\nb'); "
        "os.write(2, b'c'); os.write(1, b'd')"
    )

    assert sorted(finish(running)) == sorted([b"\xff" * 40000 + b"\n", b"a\n", b"\n", b"bd\n", b"c\n"])


def test_a_server_answers_by_its_address(start: Callable[..., Running], image: str, tree: Tree) -> None:
    """A server is reached at a port of this machine that nobody else can reach; SIGTERM ends it."""
    training = start(Container("algo-1", image, "kmeans", "train", tree))
    finish(training)
    running = start(Container("algo-1", image, "kmeans", "serve", tree), "endpoint")

    assert running.address[0] == "127.0.0.1"
    assert ping(running) == 200
    running.stop(SOON)
    finish(running)
    assert not running.running


@pytest.mark.usefixtures("networks")
def test_an_isolated_server_answers(executor: Dockers, start: Callable[..., Running], image: str, tree: Tree) -> None:
    """Its network leads nowhere, but from this machine into it."""
    finish(start(Container("algo-1", image, "kmeans", "train", tree)))
    running = start(Container("algo-1", image, "kmeans", "serve", tree, isolated=True), "endpoint")

    assert ping(running) == 200
    internal = [images.inspect(name, "{{.Internal}}", "network") for name in of_platform(executor, "network")]
    assert sorted(internal) == ["false", "true"]


def test_an_entry_point_and_arguments_take_the_place_of_the_images_own(
    start: Callable[..., Running], image: str, tree: Tree
) -> None:
    """Arguments stand where `train` would; with an entry point there is no `train` at all; both combine."""
    tell = "import sys; print(sys.argv[1:])"

    def said(entrypoint: Sequence[str], arguments: Sequence[str]) -> bytes:
        container = Container("algo-1", image, None, "train", tree, entrypoint=entrypoint, arguments=arguments)
        running = start(container)
        lines = finish(running)
        running.close()
        return b"".join(lines)

    assert said((), ("echo", "hello")) == b"hello\n"
    assert said((*UNDER_PYTHON, tell), ()) == b"[]\n"
    assert said((*UNDER_PYTHON, tell), ("--x", "1")) == b"['--x', '1']\n"


def test_the_environment_is_the_requests(script: Callable[..., Running]) -> None:
    """A container has the variables that it is given."""
    running = script("import os; print(os.environ['MINE'])", environment={"MINE": "a b=c"})

    assert finish(running) == [b"a b=c\n"]


def test_who_takes_more_memory_than_there_is_is_killed(script: Callable[..., Running]) -> None:
    """The memory of the instance type is the container's limit; more cores than there are do no harm."""
    code = "data = bytearray(200 << 20); data[::4096] = bytes(len(data[::4096])); print('survived')"
    running = script(code, instance=Instance(cpus=1024, memory=64 << 20))

    assert finish(running) == []
    assert running.code == 137


def test_files_of_a_container_are_the_callers(
    start: Callable[..., Running], image: str, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is not root gets no files that only root can remove, and a home that can be written to."""
    caller = os.getuid() or 12345
    if os.getuid() == 0:
        for path in (tree.root, *tree.root.rglob("*")):
            os.chown(path, caller, caller)
        monkeypatch.setattr(os, "getuid", lambda: caller)
        monkeypatch.setattr(os, "getgid", lambda: caller)
    code = "import pathlib; pathlib.Path('/opt/ml/model/x').touch(); (pathlib.Path.home() / 'y').touch()"
    container = Container("algo-1", image, None, "train", tree, entrypoint=UNDER_PYTHON, arguments=(code,))
    running = start(container)
    lines = finish(running)

    assert running.code == 0, lines
    assert (tree.model / "x").stat().st_uid == caller


def test_a_closed_container_is_gone_even_where_it_ran(executor: Dockers, script: Callable[..., Running]) -> None:
    """Closing kills; closing again, or stopping what is gone, does nothing."""
    running = script(STUBBORN)
    running.close()
    running.close()
    running.stop(1)

    assert not running.running
    assert running.code == 137
    assert of_platform(executor, "container") == []


def test_one_that_somebody_removes_has_ended(executor: Dockers, script: Callable[..., Running]) -> None:
    """A container that is removed behind our back was killed."""
    running = script(STUBBORN)
    images.docker("rm", "--force", *of_platform(executor, "container"))
    finish(running)

    assert running.code == 137


def test_sweeping_removes_what_a_killed_platform_left(
    executor: Dockers, script: Callable[..., Running], tmp_path: Path
) -> None:
    """A platform of the same folder removes containers and networks of the earlier one; one of another does not."""
    running = script(STUBBORN)
    Dockers(tmp_path / "other").sweep()
    assert running.running
    Dockers(tmp_path / "state").sweep()

    assert not running.running
    assert [*of_platform(executor, "container"), *of_platform(executor, "network")] == []


def test_a_killed_platform_leaves_what_the_next_one_sweeps(executor: Dockers, image: str, tree: Tree) -> None:
    """Containers of a process that is killed run on; the next platform of the folder knows of them, and ends them."""
    state = executor._state
    assert not (state / DOCKER).exists()
    command = [sys.executable, "-c", STARTING, str(state), image, str(tree.root), *UNDER_PYTHON, STUBBORN]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        process.kill()
    (left,) = of_platform(executor, "container")
    assert images.inspect(left, "{{.State.Running}}") == "true"
    assert (state / DOCKER).is_file()
    Dockers(state).sweep()

    assert [*of_platform(executor, "container"), *of_platform(executor, "network")] == []


@pytest.mark.parametrize("image", ["127.0.0.1:1/nobody/nothing:1", "Not An Image"])
def test_an_image_that_cannot_be_had_is_the_users_fault(tmp_path: Path, tree: Tree, image: str) -> None:
    """What is neither here nor to be pulled is named when it is to start; nobody waits for it before."""
    if reason := images.buildable():
        pytest.skip(reason)
    container = Container("algo-1", image, None, "train", tree)
    executor = Dockers(tmp_path)
    if "Not" not in image:
        executor.check(container)
    with pytest.raises(UserError, match=image):
        executor.start(container, GROUP)


def test_what_cannot_be_started_leaves_nothing(executor: Dockers, image: str, tree: Tree) -> None:
    """A program that the image does not have is the request's fault; the container goes again."""
    container = Container("algo-1", image, None, "train", tree, entrypoint=("/no/such/program",))
    with pytest.raises(UserError, match="/no/such/program"):
        executor.start(container, GROUP)

    assert of_platform(executor, "container") == []


def test_an_algorithm_without_an_image_tells_how_to_make_one(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that has no image at all is asked for each that would do, and never pulls what only AWS has."""
    asked: list[str] = []

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            found = self.path == "/version"
            body = json.dumps({"ApiVersion": "1.41"} if found else {"message": "No such image"}).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Empty) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")
        with pytest.raises(UserError, match="make image ALGORITHM=kmeans"):
            Dockers(tmp_path).check(Container("algo-1", "1.dkr.ecr/kmeans:1", "kmeans", "train", tree))
        server.shutdown()

    names = ["1.dkr.ecr/kmeans:1", *(f"clary{dash}{name}:latest" for name in ("kmeans", "all") for dash in "/-")]
    assert asked == ["/version", *(f"/v1.41/images/{name}/json" for name in names)]


def test_without_an_engine_a_job_is_refused(tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody listens the error says so, and there is nothing to sweep."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    executor = Dockers(tmp_path)
    executor.sweep()

    with pytest.raises(PlatformError, match=r"no Docker engine answers.*clary doctor"):
        executor.check(Container("algo-1", "busybox", None, "train", tree))


def test_without_the_sdk_a_job_is_refused(tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Docker's SDK is not installed the error names the extra, and there is nothing to sweep."""
    monkeypatch.setitem(sys.modules, "docker", None)
    monkeypatch.setitem(sys.modules, "docker.errors", None)
    executor = Dockers(tmp_path)
    executor.sweep()

    with pytest.raises(MissingExtraError, match=r"clary\[docker\]"):
        executor.check(Container("algo-1", "busybox", None, "train", tree))
    with pytest.raises(MissingExtraError):
        executor.disband(GROUP)
