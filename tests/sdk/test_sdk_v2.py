"""Local mode of the SageMaker Python SDK v2 trains, serves and transforms with the images."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clary.recordio.batch import Array

from ..docker.conftest import docker
from ..golden_job import Golden
from ..job import csv, recordio
from .conftest import Outcome, Sdk, libsvm, training

pytestmark = pytest.mark.docker

ImageOf = Callable[[str], str]

FORMS = {"kmeans": "recordio", "linear-learner": "csv", "xgboost": "csv"}
"""Of the training data."""

ASKED = {
    "kmeans": ("csv", "json", "recordio"),
    "linear-learner": ("csv", "json", "recordio"),
    "xgboost": ("csv", "libsvm"),
}
"""Serializers whose requests the algorithm's container takes."""

ROWS = 20
"""How many are asked about; no more, as the SDK writes them down for every kind of request."""


@pytest.fixture(scope="module", params=FORMS)
def golden(request: pytest.FixtureRequest) -> Golden:
    """The small job of an algorithm."""
    return Golden(request.param)


@pytest.fixture(scope="module")
def outcome(golden: Golden, v2: Sdk, image_of: ImageOf, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A job that was trained, deployed, asked and used for batch transforms."""
    name, folder = golden.algorithm.name, tmp_path_factory.mktemp("data")
    rows = golden.rows[:ROWS]
    asked = [{"form": form, "data": body(form, golden, rows)} for form in ASKED[name]]
    wrong = {"form": "csv", "data": [[1.0]]}
    (folder / "in").mkdir()
    (folder / "in" / "rows.csv").write_bytes(csv(golden.rows))
    lines = {
        "input": str(folder / "in"),
        "name": "lines",
        "content_type": "text/csv",
        "accept": "text/csv" if name == "xgboost" else "application/jsonlines",
        "split": "Line",
        "strategy": None,
    }
    spec = training(golden, folder, FORMS[name])
    return v2.run(**{**spec, "image": image_of(name), "requests": [*asked, wrong], "transforms": [lines]})


def body(form: str, golden: Golden, rows: Array) -> Any:
    """The rows as the SDK's serializers take them."""
    if form == "json":
        return {"instances": [{"features": row} for row in rows.tolist()]}
    if form == "libsvm":
        return b"\n".join(libsvm(golden).splitlines()[: len(rows)]).decode()
    return rows.tolist()


def expected(golden: Golden, outcome: Outcome, rows: Array) -> dict[str, Array]:
    """What the model says outside of any container."""
    return dict(golden.algorithm.load(outcome.model[golden.algorithm.artifact]).predict(rows).columns)


def agree(golden: Golden, answer: Any, columns: dict[str, Array]) -> bool:
    """Whether a JSON answer is the model's."""
    [key] = golden.description["answer"]
    return all(
        np.allclose([row[name] for row in answer[key]], column, rtol=1e-5, atol=1e-5)
        for name, column in columns.items()
    )


def test_fit(golden: Golden, outcome: Outcome) -> None:
    """`fit` leaves the artifact at output_path, and nothing beside it."""
    assert outcome.answer["model_data"] == f"file://{outcome.output}/model.tar.gz"
    assert [*outcome.model] == [golden.algorithm.artifact]
    assert "failure" not in outcome.unpacked("output.tar.gz")


def test_predict(golden: Golden, outcome: Outcome) -> None:
    """A deployed model answers each kind of request as it does outside of any container."""
    columns = expected(golden, outcome, golden.rows[:ROWS])
    for form, answer in zip(ASKED[golden.algorithm.name], outcome.answer["answers"], strict=False):
        assert agree(golden, json.loads(answer), columns), form


def test_served_beside_archives(golden: Golden, outcome: Outcome) -> None:
    """The model that was served lay beside the SDK's archives."""
    found = {path.name for path in outcome.output.iterdir()}
    assert found == {"model.tar.gz", "output.tar.gz", golden.algorithm.artifact}


def test_errors_are_no_predictions(outcome: Outcome) -> None:
    """The SDK takes any answer for a prediction, so an error is a sentence."""
    assert re.search(r"[a-z]+ [a-z]+ [a-z]+", outcome.answer["answers"][-1])


def test_transform(golden: Golden, outcome: Outcome) -> None:
    """A batch transform over lines, whose strategy the container tells, answers every row in order."""
    lines = (outcome.root / "lines" / "rows.csv.out").read_text().splitlines()
    columns = expected(golden, outcome, golden.rows)
    if golden.algorithm.name == "xgboost":
        assert np.allclose([float(line) for line in lines], columns["score"], rtol=1e-5)
        return
    [key] = golden.description["answer"]
    assert agree(golden, {key: [json.loads(line) for line in lines]}, columns), lines[:2]


def test_log_on_a_terminal(golden: Golden, outcome: Outcome) -> None:
    """The SDK gives containers a terminal; metrics are whole lines without colours all the same."""
    lines = outcome.lines("#quality_metric" if golden.algorithm.manners.measures else "train-logloss")
    assert lines and not any("\x1b" in line for line in lines)


def test_host_names(outcome: Outcome, golden: Golden) -> None:
    """Hosts have names with a suffix, which the log has and the artifact does not."""
    if golden.algorithm.manners.measures:
        assert outcome.lines("host=algo-1-")
    assert not any(re.search("algo-1-", name) for name in outcome.model)


def test_leftovers(outcome: Outcome, golden: Golden, image_of: ImageOf) -> None:
    """What a container leaves in the SDK's folders any user of the host can remove, though root wrote it."""
    [folder] = outcome.container_root.glob("*/model")
    removed = docker(
        *("run", "--rm", "--user=54321:54321", f"--volume={folder}:/delete"),
        *(image_of(golden.algorithm.name), "rm", f"/delete/{golden.algorithm.artifact}"),
    )
    assert removed.returncode == 0, removed.stderr
    assert not [*folder.iterdir()]


def test_two_hosts(v2: Sdk, image_of: ImageOf, tmp_path: Path) -> None:
    """Two hosts, which share one model directory, leave one artifact, that of the first; nobody is killed."""
    golden = Golden("kmeans")
    outcome = v2.run(**{**training(golden, tmp_path, "recordio"), "image": image_of("kmeans"), "instances": 2})
    assert [*outcome.model] == ["model_algo-1"]
    assert outcome.answer["model_data"]
    assert (
        len(outcome.lines("#quality_metric: host=algo-2-")) == len(outcome.lines("#quality_metric: host=algo-1-")) > 0
    )
    assert outcome.lines("the artifact is written by algo-1-")
    ended = re.findall(r"exited with code (\d+)", outcome.log)
    assert ended and {*ended} == {"0"}, outcome.log
    assert not outcome.lines("wait") and not outcome.lines("told to end"), outcome.log


@pytest.mark.parametrize(("name", "form"), [("xgboost", "libsvm")])
def test_other_data(v2: Sdk, image_of: ImageOf, tmp_path: Path, name: str, form: str) -> None:
    """A job over another kind of data gives a model too."""
    golden = Golden(name)
    outcome = v2.run(**{**training(golden, tmp_path, form), "image": image_of(name)})
    assert [*outcome.model] == [golden.algorithm.artifact]


def test_nothing_configured(v2: Sdk, image_of: ImageOf, tmp_path: Path) -> None:
    """A channel of which the configuration says nothing but File is read, beside the siblings that come with a file.

    The SDK puts the whole folder of a file into the channel.
    """
    golden = Golden("kmeans")
    spec = training(golden, tmp_path, "recordio", content_type=None)
    folder = tmp_path / "train"
    (folder / ".venv").mkdir()
    for sibling in ("train.py", ".env", "_SUCCESS", ".venv/pyvenv.cfg"):
        (folder / sibling).write_text("no data")
    spec["channels"]["train"]["path"] = str(folder / "data")
    outcome = v2.run(**{**spec, "image": image_of("kmeans")})
    assert [*outcome.model] == ["model_algo-1"], outcome.log
    assert outcome.lines("Skipping file train.py in channel train")


def test_job_that_fails(v2: Sdk, image_of: ImageOf, tmp_path: Path) -> None:
    """A job with a wrong hyperparameter fails, with the reason in the log and among the outputs."""
    golden = Golden("kmeans")
    spec = training(golden, tmp_path, "recordio")
    outcome = v2.run(**{**spec, "image": image_of("kmeans"), "hyperparameters": {"k": "0", "feature_dim": "6"}})
    assert "Failed to run" in outcome.answer["error"]
    [reason] = [text.decode() for name, text in outcome.unpacked("output.tar.gz").items() if name == "failure"]
    assert reason.startswith("Customer Error") and "'k'" in reason


def test_records_without_frames(v2: Sdk, image_of: ImageOf, tmp_path: Path) -> None:
    """A batch transform over RecordIO, for which the SDK takes the frames off, answers every record."""
    golden = Golden("kmeans")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "rows.rec").write_bytes(recordio(golden.rows[:5]))
    transform = {
        "input": str(tmp_path / "in"),
        "name": "records",
        "content_type": "application/x-recordio-protobuf",
        "accept": "application/jsonlines",
        "split": "RecordIO",
        "strategy": "SingleRecord",
    }
    spec = training(golden, tmp_path, "recordio")
    outcome = v2.run(**{**spec, "image": image_of("kmeans"), "transforms": [transform]})
    answers = [json.loads(line) for line in (outcome.root / "records" / "rows.rec.out").read_text().splitlines()]
    assert agree(golden, {"predictions": answers}, expected(golden, outcome, golden.rows[:5]))


@pytest.fixture(scope="module")
def sdk_alone(v2: Sdk) -> Outcome:
    """What the SDK says without any image of ours."""
    return v2.run()


def test_names_of_aws(sdk_alone: Outcome, v2: Sdk, image_of: ImageOf, tmp_path: Path) -> None:
    """An image tagged with AWS's own URI is the one that code with `image_uris.retrieve` runs; nothing is pulled."""
    uri = sdk_alone.answer["uri"]
    assert uri.endswith(".dkr.ecr.ap-south-1.amazonaws.com/linear-learner:1")
    mine = docker("image", "inspect", uri).returncode != 0
    if mine:
        assert docker("tag", image_of("linear-learner"), uri).returncode == 0
    try:
        golden = Golden("linear-learner")
        outcome = v2.run(**{**training(golden, tmp_path, "csv"), "image": uri})
    finally:
        if mine:
            docker("rmi", uri)
    assert [*outcome.model] == [golden.algorithm.artifact]


def test_first_party_classes(sdk_alone: Outcome) -> None:
    """The SDK's own class of an algorithm cannot run locally: the SDK refuses before it starts a container."""
    assert "ShardedByS3Key" in sdk_alone.answer["error"] and "Docker entrypoint" not in sdk_alone.log
