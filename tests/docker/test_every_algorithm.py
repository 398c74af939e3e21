"""The image of each algorithm of the registry trains and serves its small job."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from clary.algorithms.registry import ALGORITHMS

from ..golden_job import Golden
from ..job import csv
from .conftest import Container, Tree, inspect

pytestmark = pytest.mark.docker

ImageOf = Callable[[str], str]


@pytest.mark.parametrize("golden", ALGORITHMS, indirect=True)
def test_small_job(golden: Golden, start: Callable[..., Container], tree: Tree) -> None:
    """What its image has trained its image serves, and the answers are those of the artifact outside of it."""
    mine = golden.algorithm.name
    golden.tree(tree.root)
    job = start(tree.mount, words=("train",), algorithm=mine)
    assert job.wait() == 0, job.log
    assert ("#metrics" in job.log) == golden.algorithm.manners.measures
    endpoint = start(f"--volume={tree.root}/model:/opt/ml/model:ro", words=("serve",), algorithm=mine)
    endpoint.await_ping()
    status, answer = endpoint.ask("POST", "/invocations", csv(golden.rows).decode(), "text/csv")
    assert status == 200, answer

    [key] = golden.description["answer"]
    artifact = (tree.root / "model" / golden.algorithm.artifact).read_bytes()
    for name, column in golden.algorithm.load(artifact).predict(golden.rows).columns.items():
        assert np.allclose([row[name] for row in json.loads(answer)[key]], column, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_title(image_of: ImageOf, name: str) -> None:
    """An image says whose it is."""
    labels = json.loads(inspect(image_of(name), "{{json .Config.Labels}}", "image"))
    assert labels["org.opencontainers.image.title"] == f"clary {name}"


def test_layers(image_of: ImageOf) -> None:
    """The images of all algorithms that need no more than numpy are the same layers: only the first takes room."""
    alike = [name for name in ALGORITHMS if name != "xgboost"]
    assert len({inspect(image_of(name), "{{json .RootFS.Layers}}", "image") for name in alike}) == 1
