"""Trees for jobs, and the channels of a tree."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clary import logs
from clary.algorithms.base import Algorithm
from clary.algorithms.kmeans import ALGORITHM
from clary.train.channels import DataChannel, find_channels
from clary.train.environment import read_job
from clary.train.stop import Stop

from ..job import Tree

Open = Callable[..., DataChannel]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A base directory with nothing in it."""
    return Tree(tmp_path / "ml")


@pytest.fixture
def channel(tree: Tree) -> Open:
    """A function that finds the channel ``train`` of the tree, for k-means or another algorithm."""
    logs.setup(logging.INFO)

    def find(width: int | None = 2, stop: Stop | None = None, algorithm: Algorithm = ALGORITHM) -> DataChannel:
        job = read_job({"SAGEMAKER_BASE_DIR": str(tree.root)})
        return find_channels(job, algorithm, width, stop or Stop())["train"]

    return find


@pytest.fixture
def run_here(tree: Tree) -> Iterator[Callable[..., int]]:
    """A function that runs the tree's job, k-means or another, in this process, where a test need not see one."""
    from clary.train.job import main

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def run(algorithm: str = "kmeans") -> int:
        return main({**os.environ, "SAGEMAKER_BASE_DIR": str(tree.root), "CLARY_ALGORITHM": algorithm})

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)
