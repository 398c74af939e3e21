"""What Docker thinks of a container's health."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable

import pytest

from .conftest import HYPERPARAMETERS, Container, Tree, docker, inspect

pytestmark = pytest.mark.docker

Start = Callable[..., Container]

OFTEN = ("--health-interval=1s", "--health-start-period=0s")
"""Not as rarely as the image says, so that a test need not wait for it."""

STOP_WORKERS = "kill -STOP $(grep -l clary.containers.[e]ntrypoint /proc/[0-9]*/cmdline | tr -dc '0-9\\n' | grep -vx 1)"
"""Process 1 cannot be stopped from inside, but those that answer can."""


def await_health(container: Container, wanted: str, seconds: float = 60) -> None:
    """Wait until Docker says so."""
    deadline = time.monotonic() + seconds
    while (health := json.loads(inspect(container.name, "{{json .State.Health}}")))["Status"] != wanted:
        assert time.monotonic() < deadline, health
        assert inspect(container.name, "{{.State.Running}}") == "true", container.log
        time.sleep(0.2)


def test_serving(start: Start, trained: Tree) -> None:
    """A container that serves is well when its server answers, at whichever port."""
    container = start(trained.mount, *OFTEN, "--env=SAGEMAKER_BIND_TO_PORT=8123", words=("serve",))
    await_health(container, "healthy")
    assert container.ask("GET", "/ping", port=8123)[0] == 200


def test_stuck(start: Start, trained: Tree) -> None:
    """A container whose server has stopped answering is not well."""
    container = start(trained.mount, *OFTEN, "--health-timeout=2s", "--health-retries=1", words=("serve",))
    await_health(container, "healthy")
    assert docker("exec", container.name, "bash", "-c", STOP_WORKERS).returncode == 0
    await_health(container, "unhealthy")


def test_training(start: Start, tree: Tree) -> None:
    """A container that trains is well, though nobody answers there."""
    tree.configure("Pipe", HYPERPARAMETERS)
    os.mkfifo(tree.root / "input" / "data" / "train_0")
    container = start(tree.mount, *OFTEN, words=("train",))
    await_health(container, "healthy")


def test_how_often(image: str) -> None:
    """The image asks rarely enough to cost nothing, and gives a large model time to load."""
    check = json.loads(inspect(image, "{{json .Config.Healthcheck}}", "image"))
    assert check["Interval"] >= 10e9
    assert check["StartPeriod"] >= 60e9
