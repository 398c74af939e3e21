"""The image of each algorithm of the registry trains and serves its small job."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from clary import __version__
from clary.algorithms.registry import ALGORITHMS, algorithm

from ..golden_job import Golden
from ..job import csv
from .conftest import Container, Tree, inspect

pytestmark = pytest.mark.docker

ImageOf = Callable[[str], str]


@pytest.mark.parametrize("whose", ["its own", "all"])
@pytest.mark.parametrize("golden", ALGORITHMS, indirect=True)
def test_small_job(golden: Golden, start: Callable[..., Container], tree: Tree, whose: str) -> None:
    """What an image has trained it serves, and the answers are those of the artifact outside of it.

    The image of all algorithms is told which one to train; what it serves it finds out.
    """
    mine, told = golden.algorithm.name, ()
    if whose == "all":
        mine, told = "all", (f"--env=CLARY_ALGORITHM={mine}",)
    golden.tree(tree.root)
    job = start(tree.mount, *told, words=("train",), algorithm=mine)
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
def test_no_hyperparameters(start: Callable[..., Container], tree: Tree, name: str) -> None:
    """With `{}`, an empty resourceConfig.json and no inputdataconfig.json a job says what it has to be told."""
    config = tree.root / "input" / "config"
    (config / "hyperparameters.json").write_text("{}")
    (config / "resourceConfig.json").touch()
    job = start(tree.mount, words=("train",), algorithm=name)
    assert job.wait() == 2, job.log
    required = [spec.name for spec in algorithm(name).params.specs() if spec.required]
    assert "required" in tree.failure
    assert any(word in tree.failure for word in required), tree.failure


@pytest.mark.parametrize("name", [*ALGORITHMS, "all"])
def test_labels(image_of: ImageOf, name: str) -> None:
    """An image says whose it is, which version, and what SageMaker may do with it."""
    labels = json.loads(inspect(image_of(name), "{{json .Config.Labels}}", "image"))
    assert labels["org.opencontainers.image.title"] == f"clary {name}"
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.created"]
    assert labels["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
    assert labels["com.amazonaws.sagemaker.capabilities.multi-models"] == "true"


@pytest.mark.parametrize("alike", [[name for name in ALGORITHMS if name != "xgboost"], ["xgboost", "all"]], ids=len)
def test_layers(image_of: ImageOf, alike: list[str]) -> None:
    """Images that have the same inside are the same layers: only the first takes room."""
    assert len({inspect(image_of(name), "{{json .RootFS.Layers}}", "image") for name in alike}) == 1
