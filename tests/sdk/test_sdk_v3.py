"""Local mode of the SageMaker Python SDK v3 trains with the images."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ..docker.conftest import docker
from ..golden_job import Golden
from .conftest import Sdk, training

pytestmark = pytest.mark.docker

ImageOf = Callable[[str], str]


@pytest.mark.parametrize(("name", "form"), [("kmeans", "recordio"), ("xgboost", "csv")])
def test_train(v3: Sdk, image_of: ImageOf, tmp_path: Path, name: str, form: str) -> None:
    """`ModelTrainer` gives no command and an interface that does not exist; the job leaves its artifact."""
    golden = Golden(name)
    outcome = v3.run(**{**training(golden, tmp_path, form), "image": image_of(name)})
    assert "error" not in outcome.answer, outcome.log
    assert [*outcome.model] == [golden.algorithm.artifact]
    model = golden.algorithm.load(outcome.model[golden.algorithm.artifact])
    assert all(np.isfinite(column).all() for column in model.predict(golden.rows).columns.values())
    compose = (outcome.container_root / "docker-compose.yaml").read_text()
    assert "command" not in compose and "entrypoint" not in compose


def test_two_hosts(v3: Sdk, image_of: ImageOf, tmp_path: Path) -> None:
    """Two hosts, which share one model directory, leave one artifact, that of the first; nobody is killed."""
    golden = Golden("kmeans")
    outcome = v3.run(**{**training(golden, tmp_path, "recordio"), "image": image_of("kmeans"), "instances": 2})
    assert "error" not in outcome.answer, outcome.log
    assert [*outcome.model] == ["model_algo-1"]
    assert (
        len(outcome.lines("#quality_metric: host=algo-2,")) == len(outcome.lines("#quality_metric: host=algo-1,")) > 0
    )
    assert {*re.findall(r"exited with code (\d+)", outcome.log)} == {"0"}, outcome.log
    assert not outcome.lines("wait") and not outcome.lines("told to end"), outcome.log


def test_job_that_fails(v3: Sdk, image_of: ImageOf, tmp_path: Path) -> None:
    """A job with a wrong hyperparameter fails, with the reason in the log and among the outputs."""
    spec = training(Golden("kmeans"), tmp_path, "recordio")
    outcome = v3.run(**{**spec, "image": image_of("kmeans"), "hyperparameters": {"k": "0", "feature_dim": "6"}})
    assert outcome.answer["error"]
    assert outcome.unpacked("output.tar.gz")["failure"].startswith(b"Customer Error")


def test_clean_up(image_of: ImageOf, tmp_path: Path) -> None:
    """What the SDK does about files of root that it cannot remove: the image opens them to all."""
    (tmp_path / "folder").mkdir(mode=0o700)
    (tmp_path / "folder" / "file").touch(mode=0o600)
    got = docker("run", "--rm", "-v", f"{tmp_path}:/delete", image_of("xgboost"), "chmod", "-R", "777", "/delete")
    assert got.returncode == 0, got.stderr
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")} == {0o777}


def test_configuration(image_of: ImageOf, tmp_path: Path) -> None:
    """A container that is given nothing but what the SDK v3 writes, and no command, trains."""
    golden = Golden("kmeans")
    tree = golden.tree(tmp_path)
    tree.config("inputdataconfig.json", {"train": {"TrainingInputMode": "File"}})
    hosts = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "ethwe"}
    tree.config("resourceconfig.json", {**hosts, "current_instance_type": "local_cpu"})
    tree.config("hyperparameters.json", json.dumps(golden.hyperparameters))
    got = docker("run", "--rm", f"--volume={tmp_path}:/opt/ml", image_of("kmeans"))
    assert got.returncode == 0, got.stdout
    assert (tmp_path / "model" / "model_algo-1").exists()
