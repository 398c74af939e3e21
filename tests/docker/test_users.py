"""The images train and serve whoever runs them, from the folder that most people begin with.

That folder has hyperparameters and data, an empty ``resourceConfig.json`` and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from clary.recordio import write_numpy_to_dense_tensor

from .conftest import Container, Tree

pytestmark = pytest.mark.docker

USERS = {
    "root": (),
    "uid 1000": ("--user=1000",),
    "a random uid of group 0": ("--user=123456:0",),
    "nothing writable but /tmp": ("--read-only", "--tmpfs=/tmp"),
    "a random uid, nothing writable but /tmp": ("--user=123456:0", "--read-only", "--tmpfs=/tmp"),
}

JOBS = {
    "linear-learner": {"predictor_type": "regressor", "epochs": "2", "mini_batch_size": "10"},
    "xgboost": {"num_round": "3"},
    "all": {"num_round": "3"},
}
"""Algorithms of either kind of image, and the image of all of them."""


def lay_out(tree: Tree, hyperparameters: dict[str, str]) -> None:
    """Fill the folder as a person does: one file of the algorithm's first format, no word about channels or hosts."""
    rows = np.random.default_rng(0).normal(size=(200, 3)).astype("float32")
    labels = rows.sum(axis=1)
    tree.configure("File", hyperparameters)
    config = tree.root / "input" / "config"
    (config / "resourceconfig.json").unlink()
    (config / "inputdataconfig.json").unlink()
    (config / "resourceConfig.json").touch()
    channel = tree.root / "input" / "data" / "train"
    channel.mkdir()
    if "num_round" not in hyperparameters:
        with (channel / "data.rec").open("wb") as file:
            write_numpy_to_dense_tensor(file, rows, labels)
        return
    lines = (f"{label} 1:{a} 2:{b} 3:{c}\n" for label, (a, b, c) in zip(labels, rows, strict=True))
    (channel / "data.libsvm").write_text("".join(lines))


@pytest.mark.parametrize("user", USERS.values(), ids=USERS.keys())
@pytest.mark.parametrize("name", JOBS)
def test_bare_folder(start: Callable[..., Container], tree: Tree, name: str, user: tuple[str, ...]) -> None:
    """An image trains on the folder and then serves what it has trained from there."""
    lay_out(tree, JOBS[name])
    said = ("--env=CLARY_ALGORITHM=xgboost",) if name == "all" else ()
    job = start(tree.mount, *user, *said, words=("train",), algorithm=name)
    assert job.wait() == 0, job.log
    endpoint = start(tree.mount, *user, words=("serve",), algorithm=name)
    endpoint.await_ping()
    status, answer = endpoint.ask("POST", "/invocations", "0.5,1,-1\n", "text/csv")
    assert status == 200, answer


def test_all_has_to_be_told(start: Callable[..., Container], tree: Tree) -> None:
    """The image of all algorithms trains none by itself, and says what is missing."""
    lay_out(tree, {"num_round": "3"})
    job = start(tree.mount, words=("train",), algorithm="all")
    assert job.wait() == 2, job.log
    assert "CLARY_ALGORITHM is not set" in tree.failure
