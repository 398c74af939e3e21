"""The image keeps SageMaker's container contract under a real Docker engine."""

from __future__ import annotations

import json
import os
import re
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import HYPERPARAMETERS, Container, Tree, docker, inspect

pytestmark = pytest.mark.docker

Start = Callable[..., Container]

USERS = {
    "root": (),
    "uid 1000": ("--user=1000:1000",),
    "a random uid, nothing writable but /tmp": ("--user=54321:54321", "--read-only", "--tmpfs=/tmp"),
}
as_each_user = pytest.mark.parametrize("user", USERS.values(), ids=USERS.keys())

ROW = [0.0] * 63 + [16.0]


def closest(answer: str) -> float:
    """Return the cluster of the one prediction in an answer."""
    (prediction,) = json.loads(answer)["predictions"]
    assert prediction["distance_to_cluster"] >= 0
    return float(prediction["closest_cluster"])


# Training


def test_file_channel(trained: Tree) -> None:
    """A job over a File channel leaves a model and no failure."""
    assert trained.artifact.stat().st_size > 10 * 64 * 4
    assert not trained.failure


@as_each_user
def test_fifos(start: Start, tree: Tree, records: Path, user: tuple[str, ...]) -> None:
    """A job over a Pipe channel reads one FIFO an epoch, whoever runs it."""
    tree.configure("Pipe", HYPERPARAMETERS)
    fifos = [tree.root / "input" / "data" / f"train_{epoch}" for epoch in range(2)]
    for fifo in fifos:
        os.mkfifo(fifo)
        fifo.chmod(0o666)

    def feed() -> None:
        for fifo in fifos:
            fifo.write_bytes(records.read_bytes())

    feeder = threading.Thread(target=feed, daemon=True)  # if nobody reads, it must not outlive the tests
    feeder.start()
    container = start(tree.mount, *user, words=("train",))
    assert container.wait() == 0, container.log
    feeder.join(timeout=10)
    assert not feeder.is_alive()
    assert tree.artifact.exists()


def test_default_command(start: Start, tree: Tree) -> None:
    """Without any word the image trains, and a job without configuration fails naming what is missing."""
    (tree.root / "input" / "config" / "hyperparameters.json").write_text("{}")
    (tree.root / "input" / "config" / "resourceConfig.json").touch()
    container = start(tree.mount)
    assert container.wait() == 2, container.log
    assert re.search("'(k|feature_dim)' is a required property", tree.failure), tree.failure


def test_missing_hyperparameter(start: Start, tree: Tree) -> None:
    """A job without `k` is the customer's error, and says so."""
    tree.configure("File", {"feature_dim": "64"})
    container = start(tree.mount, words=("train",))
    assert container.wait() == 2, container.log
    assert "'k' is a required property" in tree.failure


def test_stop_while_waiting_for_data(start: Start, tree: Tree) -> None:
    """A job that waits for its first FIFO ends at once, and well, when it is stopped."""
    tree.configure("Pipe", HYPERPARAMETERS)
    os.mkfifo(tree.root / "input" / "data" / "train_0")
    container = start(tree.mount, words=("train",))
    await_line(container, "pipe input mode")
    assert container.stop() < 10
    assert container.exit_code == 0, container.log


def await_line(container: Container, words: str, seconds: float = 60) -> None:
    """Wait until a container has printed the words, and a moment longer for what comes after them."""
    deadline = time.monotonic() + seconds
    while words not in container.log:
        assert time.monotonic() < deadline, container.log
        time.sleep(0.2)
    time.sleep(1)


# Serving


@as_each_user
def test_serve(start: Start, trained: Tree, user: tuple[str, ...]) -> None:
    """A server answers CSV and JSON alike from a read-only model, whoever runs it."""
    container = start(f"--volume={trained.artifact.parent}:/opt/ml/model:ro", *user, words=("serve",))
    container.await_ping()
    status, csv = container.ask("POST", "/invocations", ",".join(map(str, ROW)), "text/csv")
    assert status == 200, csv
    body = json.dumps({"instances": [{"features": ROW}]})
    status, answer = container.ask("POST", "/invocations", body, "application/json")
    assert status == 200, answer
    assert closest(csv) == closest(answer)


def test_bind_to_port(start: Start, trained: Tree) -> None:
    """SAGEMAKER_BIND_TO_PORT moves the server to another port."""
    container = start(trained.mount, "--env=SAGEMAKER_BIND_TO_PORT=8123", words=("serve",))
    container.await_ping(port=8123)
    assert container.ask("GET", "/ping", port=8080)[0] == 0


def test_published_port(start: Start, trained: Tree) -> None:
    """A published port reaches the server from outside the container."""
    if docker("network", "inspect", "bridge").returncode != 0:
        pytest.skip("this Docker engine has no bridge network")
    container = start(trained.mount, "--publish=127.0.0.1::8080", words=("serve",))
    container.await_ping()
    address = docker("port", container.name, "8080/tcp").stdout.strip()
    with urllib.request.urlopen(f"http://{address}/ping", timeout=10) as response:
        assert response.status == 200


def test_stop_serving(start: Start, trained: Tree) -> None:
    """A server ends soon, and well, when it is stopped."""
    container = start(trained.mount, words=("serve",))
    container.await_ping()
    assert container.stop() < 10
    assert container.exit_code == 0, container.log


def test_serve_without_model(start: Start, tree: Tree) -> None:
    """A server without a model is never healthy."""
    container = start(tree.mount, words=("serve",))
    await_line(container, "serve")
    running = inspect(container.name, "{{.State.Running}}") == "true"
    assert container.ask("GET", "/ping")[0] != 200 if running else container.exit_code != 0, container.log


# The image itself


def test_unknown_commands(image: str, tree: Tree) -> None:
    """A command that is not clary's runs as it is."""
    (tree.root / "model" / "file").touch(mode=0o600)
    opened = docker("run", "--rm", f"--volume={tree.root}:/delete", image, "chmod", "-R", "777", "/delete")
    assert opened.returncode == 0, opened.stderr
    assert (tree.root / "model" / "file").stat().st_mode & 0o777 == 0o777
    said = docker("run", "--rm", image, "/bin/bash", "-c", "echo hi; exit 7")
    assert (said.stdout, said.returncode) == ("hi\n", 7)


def test_clary_commands(image: str) -> None:
    """The commands of clary run as on any machine."""
    got = docker("run", "--rm", image, "--help")
    assert got.returncode == 0, got.stderr
    assert "clary" in got.stdout


def test_process_one(start: Start, trained: Tree) -> None:
    """Process 1 is Python, so that no shell swallows a signal."""
    container = start(trained.mount, words=("serve",))
    container.await_ping()
    command = docker("exec", container.name, "cat", "/proc/1/cmdline").stdout.split("\0")
    assert Path(command[0]).name.startswith(("python", "gunicorn"))


def test_labels(image: str) -> None:
    """The image says what it is and that it takes its port from SageMaker."""
    labels = json.loads(inspect(image, "{{json .Config.Labels}}", "image"))
    assert labels["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
    assert labels["org.opencontainers.image.title"] == "clary kmeans"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.version"]


def test_tools(image: str) -> None:
    """The image has what scripts of users need, and nothing to compile with."""
    look = "for tool in bash python3 pip chmod gcc cc make; do command -v $tool; done; python3 -c 'import setuptools'"
    got = docker("run", "--rm", "--entrypoint", "bash", image, "-c", look)
    assert [Path(line).name for line in got.stdout.split()] == ["bash", "python3", "pip", "chmod"]
    assert "No module named 'setuptools'" in got.stderr
