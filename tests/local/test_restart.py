"""What a platform that was killed has left: no job is stuck, no object is lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clary.errors import PlatformError
from clary.local.commands import env

from .up import LIMIT, Up, channel, clary, ended, job, put_rows, until

ENDLESS = {"k": "2", "feature_dim": "3", "epochs": "1000000"}


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """A platform with rows in S3."""
    platform = Up(tmp_path / "state")
    put_rows(platform)
    yield platform
    platform.stop()


def secondary(up: Up, name: str) -> str:
    """What a job is at."""
    found: str = up.client("sagemaker").describe_training_job(TrainingJobName=name)["SecondaryStatus"]
    return found


def test_a_job_that_was_training(up: Up) -> None:
    """It fails with a reason where it has no checkpoints; its process has ended with the platform."""
    up.client("sagemaker").create_training_job(**job("long", channel("s3://bucket/in/"), HyperParameters=ENDLESS))
    until(lambda: secondary(up, "long") == "Training")
    children = until(lambda: processes(up))
    up.restart()
    found = ended(up, "long")
    assert found["TrainingJobStatus"] == "Failed"
    assert "the local platform ended while the job was training" in found["FailureReason"]
    until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    until(lambda: not (up.folder / "work/training-jobs/long").exists())


def test_a_signal_that_another_thread_gets(up: Up) -> None:
    """The platform ends: it is the system that chooses the thread."""
    threads = sorted(int(entry.name) for entry in Path(f"/proc/{up.process.pid}/task").iterdir())
    os.kill(threads[-1], signal.SIGTERM)
    assert up.process.wait(LIMIT) == 0


def test_a_job_with_checkpoints(up: Up) -> None:
    """It is interrupted, goes on from its last checkpoint, and has the model of a job that nobody disturbed."""
    client, s3 = up.client("sagemaker"), up.client("s3")
    rows = "".join(f"{i % 2},{i % 7},{i * 7919 % 1000}\n" for i in range(20_000))
    s3.put_object(Bucket="bucket", Key="xgb/rows.csv", Body=rows.encode())

    def request(name: str) -> dict[str, Any]:
        return job(
            name,
            channel("s3://bucket/xgb/", content_type="text/csv"),
            image="683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1",
            CheckpointConfig={"S3Uri": f"s3://bucket/checkpoints/{name}"},
            HyperParameters={"num_round": "400", "objective": "binary:logistic", "max_depth": "6"},
        )

    client.create_training_job(**request("calm"))
    client.create_training_job(**request("killed"))

    def saved() -> bool:
        found = s3.list_objects_v2(Bucket="bucket", Prefix="checkpoints/killed/").get("Contents", [])
        return any(int(item["Key"].rpartition(".")[2]) >= 20 for item in found)

    ended(up, "calm")
    until(saved)
    was_training = secondary(up, "killed") == "Training"
    up.restart()
    found = ended(up, "killed")
    assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
    if was_training:
        assert "Interrupted" in [each["Status"] for each in found["SecondaryStatusTransitions"]]
    s3 = up.client("s3")
    models = [
        s3.get_object(Bucket="bucket", Key=f"out/{name}/output/model.tar.gz")["Body"].read()
        for name in ("calm", "killed")
    ]
    assert models[0] == models[1]


def test_a_job_that_was_stopping(up: Up) -> None:
    """It is Stopped."""
    client = up.client("sagemaker")
    client.create_training_job(**job("long", channel("s3://bucket/in/"), HyperParameters=ENDLESS))
    until(lambda: secondary(up, "long") == "Training")
    client.stop_training_job(TrainingJobName="long")
    up.restart()
    assert ended(up, "long")["TrainingJobStatus"] == "Stopped"


def test_many_jobs_killed_at_any_time(up: Up) -> None:
    """Wherever each of several jobs was, after two kills all have ended, and those that completed have a model."""
    client = up.client("sagemaker")
    names = [f"job-{number}" for number in range(6)]
    for name in names:
        client.create_training_job(**job(name, channel("s3://bucket/in/")))
    up.restart()
    time.sleep(0.3)  # anywhere between the start of the first and the end of the last
    up.restart()
    for name in names:
        found = ended(up, name)
        if found["TrainingJobStatus"] == "Completed":
            bucket, _, key = found["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://").partition("/")
            assert up.client("s3").head_object(Bucket=bucket, Key=key)["ContentLength"] > 100
        else:
            assert found["FailureReason"]


def test_ctrl_c_and_down(up: Up) -> None:
    """Both end the platform soon and well, whatever runs; what ran is taken up by the next one."""
    client = up.client("sagemaker")
    client.create_training_job(**job("long", channel("s3://bucket/in/"), HyperParameters=ENDLESS))
    until(lambda: secondary(up, "long") == "Training")
    assert up.stop() == 0
    assert "Traceback" not in up.said
    up.start()
    assert ended(up, "long")["TrainingJobStatus"] == "Failed"
    down = up.clary("down")
    assert down.returncode == 0, down.stderr
    assert up.process.wait(30) == 0
    assert "no platform runs" in up.clary("jobs").stderr
    up.start()


def test_two_platforms(up: Up) -> None:
    """The folder of one is not opened by another, nor cleared."""
    second = up.clary("up", "--port", "0")
    assert second.returncode == 3
    assert f"another platform runs at {up.address.url}" in second.stderr
    assert "another platform runs" in up.clary("reset", "--yes").stderr
    assert up.client("s3").list_buckets()["Buckets"]


def test_reset(up: Up) -> None:
    """All is gone, when it was said so."""
    up.client("sagemaker").create_training_job(**job("a", channel("s3://bucket/in/")))
    ended(up, "a")
    up.stop()
    assert up.clary("reset").returncode == 2
    assert up.clary("reset", "--yes").returncode == 0
    up.start()
    assert up.client("s3").list_buckets()["Buckets"] == []
    assert up.client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []


def test_what_cannot_be_taken_up(up: Up) -> None:
    """A stray folder among the logs keeps no job from its end."""
    client = up.client("sagemaker")
    client.create_training_job(**job("long", channel("s3://bucket/in/"), HyperParameters=ENDLESS))
    until(lambda: secondary(up, "long") == "Training")
    until(lambda: list((up.folder / "logs").rglob("long*")))
    up.kill()
    for folder in {path.parent for path in (up.folder / "logs").rglob("long*")}:
        (folder / "stray").mkdir()
    up.start()
    assert ended(up, "long")["TrainingJobStatus"] == "Failed"


def test_logs_are_there_again(up: Up) -> None:
    """What a job has said before a kill can be asked for after it."""
    up.client("sagemaker").create_training_job(**job("told", channel("s3://bucket/in/")))
    ended(up, "told")
    before = until(lambda: up.clary("logs", "told").stdout)
    up.restart()
    assert until(lambda: up.clary("logs", "told").stdout) == before


def processes(up: Up) -> list[int]:
    """The platform's children."""
    path = Path(f"/proc/{up.process.pid}/task")
    return [int(child) for task in path.iterdir() for child in (task / "children").read_text().split()]


def test_env_without_a_platform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the shell evaluates then is a failure: the script that follows would go to AWS itself."""
    monkeypatch.setattr("clary.local.commands._START", 0.2)
    with pytest.raises(PlatformError, match="no platform runs") as caught:
        env(state=tmp_path / "none")
    assert (caught.value.exit_code, capsys.readouterr().out) == (3, "false\n")


def test_ports_and_hosts(up: Up, tmp_path: Path) -> None:
    """A port that is taken and a host that needs a token are told of."""
    port = up.address.url.rpartition(":")[2]
    taken = clary("up", "--port", port, "--state", str(tmp_path / "other"))
    assert (taken.returncode, f"port {port}" in taken.stderr) == (3, True)
    wide = clary("up", "--host", "0.0.0.0", "--port", "0", "--state", str(tmp_path / "other"))  # noqa: S104
    assert (wide.returncode, "--token" in wide.stderr) == (2, True)
