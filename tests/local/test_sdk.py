"""Unmodified code for AWS, by boto3 and by the real SageMaker SDKs, trains and predicts on a platform.

The SDKs lie in environments of their own, which `.ci/sdk` sets up. All scripts run at the same time, since they sleep
for most of it, each in a process with a home of its own and a proxy where nobody listens: whoever asks AWS for anything
gets an error at once.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from ..sdk.conftest import NOBODY, ROOT, environment
from .up import Up, put_rows

LIMIT = 240  # seconds
HERE = Path(__file__).parent
SCRIPTS = {
    "example-v2": (2, ROOT / "examples/sdk_v2.py"),
    "example-boto3": (0, ROOT / "examples/boto3_waiters.py"),
    "v2": (2, HERE / "v2_platform.py"),
    "v3": (3, HERE / "v3_platform.py"),
}
"""Version of the SDK that each needs, 0 where none, and where it is."""


@dataclass(frozen=True)
class Script:
    """A script that runs."""

    process: subprocess.Popen[bytes]
    root: Path

    @cached_property
    def said(self) -> str:
        """Its output, when it has ended well."""
        code = self.process.wait(LIMIT)
        log = (self.root / "log").read_text(errors="replace")
        assert code == 0, log
        return log

    @cached_property
    def answer(self) -> Any:
        """What it wrote."""
        assert self.said
        return json.loads((self.root / "answer.json").read_text())


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A platform with rows in S3, in two files."""
    platform = Up(tmp_path_factory.mktemp("up") / "state")
    for name in "ab":
        put_rows(platform, f"in/{name}.csv")
    yield platform
    platform.stop()


@pytest.fixture(scope="module")
def script(up: Up, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Script]]:
    """Return a function that gives a script; all for which there is an SDK run."""
    found: dict[str, Script] = {}
    for name, (version, path) in SCRIPTS.items():
        python = environment(version) if version else Path(sys.executable)
        if python.exists():
            found[name] = started(up, python, path, tmp_path_factory.mktemp(name))

    def get(name: str) -> Script:
        if name not in found:
            pytest.skip(f"the SageMaker SDK v{SCRIPTS[name][0]} is not installed: .ci/sdk does it")
        return found[name]

    yield get
    for one in found.values():
        one.process.kill()
        one.process.wait()


def started(up: Up, python: Path, path: Path, root: Path) -> Script:
    """A script that was started just now."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(root),
        "TMPDIR": str(root),
        "HTTP_PROXY": NOBODY,
        "HTTPS_PROXY": NOBODY,
        "NO_PROXY": "localhost,127.0.0.1",
        "SAGEMAKER_SUPPRESS_V2_WARNING": "1",
        **up.variables,
    }
    with (root / "log").open("wb") as log:
        command = [python, path, "s3://bucket/in/", root / "answer.json"]
        process = subprocess.Popen(
            command, env=env, cwd=root, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
    return Script(process, root)


def clusters(answer: Any) -> list[float]:
    """The clusters of two rows."""
    assert isinstance(answer, dict), answer
    return sorted(row["closest_cluster"] for row in answer["predictions"])


def test_boto3(script: Callable[[str], Script]) -> None:
    """The example with waiters trains through a FIFO, serves, predicts, and removes what it made."""
    said = script("example-boto3").said
    assert re.search(r"^Completed \{.*train:msd", said, re.MULTILINE), said
    assert '"closest_cluster"' in said or re.search(r"^\d+\.0,", said, re.MULTILINE), said
    assert said.endswith("done\n"), said


def test_v3(up: Up, script: Callable[[str], Script]) -> None:
    """`ModelTrainer` trains, and the resources of sagemaker-core serve what it trained."""
    answer = script("v3").answer
    assert (answer["status"], answer["endpoint"]) == ("Completed", "InService")
    assert answer["model"].startswith("s3://bucket/v3/")
    assert clusters(answer["answer"]) == [0, 1]
    assert up.client("sagemaker").list_endpoints(NameContains="v3")["Endpoints"] == []


def test_v2_estimator(up: Up, script: Callable[[str], Script]) -> None:
    """An `Estimator` trains on two hosts with a half of the files each, through FIFOs."""
    train = script("v2").answer["train"]
    assert train["status"] == "Completed", train
    name = train["model"].split("/")[-3]
    job = up.client("sagemaker").describe_training_job(TrainingJobName=name)
    assert job["ResourceConfig"]["InstanceCount"] == 2
    [channel] = job["InputDataConfig"]
    assert channel["InputMode"] == "Pipe"
    assert channel["DataSource"]["S3DataSource"]["S3DataDistributionType"] == "ShardedByS3Key"


def test_v2_transformer(script: Callable[[str], Script]) -> None:
    """`Transformer.transform` waits for the job, which answers each row of each file."""
    assert script("v2").answer["transform"] == {"a.csv.out": 200, "b.csv.out": 200}


def test_v2_tuner(up: Up, script: Callable[[str], Script]) -> None:
    """`HyperparameterTuner` finds the best of two jobs; another one can be attached to the search."""
    tune = script("v2").answer["tune"]
    assert isinstance(tune, dict), tune
    name = tune["name"]
    found = up.client("sagemaker").describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    assert found["TrainingJobStatusCounters"]["Completed"] == 2
    assert tune["best"] == found["BestTrainingJob"]["TrainingJobName"]
    assert tune["attached"] == [tune["best"], "ml.m5.large"]
    assert tune["best"] in tune["model"]


def test_v2_pipeline(script: Callable[[str], Script]) -> None:
    """A `PipelineModel` answers with what the second model makes of the first one's answer."""
    assert clusters(script("v2").answer["pipeline"]) == [0, 1]


def test_v2_many(script: Callable[[str], Script]) -> None:
    """A `MultiDataModel` answers with the model that the request names."""
    many = script("v2").answer["many"]
    assert isinstance(many, dict), many
    assert many["models"] == ["a.tar.gz", "b.tar.gz"]
    assert clusters(many["answer"]) == [0, 1]


def test_v2_later(script: Callable[[str], Script]) -> None:
    """An `AsyncPredictor` puts the rows into S3 and finds the answer there."""
    assert clusters(script("v2").answer["later"]) == [0, 1]


def test_v2_example(script: Callable[[str], Script]) -> None:
    """The example of the SDK's own classes of algorithms trains two, serves both and gets right answers."""
    said = script("example-v2").said
    assert len(set(re.findall(r"^-*!?cluster (\d) at 0\.\d", said, re.MULTILINE))) == 3, said
    accuracy = re.search(r"accuracy (\d\.\d+)", said)
    assert accuracy is not None and float(accuracy[1]) > 0.9, said
