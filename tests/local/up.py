"""A platform as users run it: ``clary up`` in a process of its own, which tests may kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from clary.local.commands import variables
from clary.local.folder import Address, StateFolder

__all__ = ["IMAGE", "LIMIT", "ROLE", "Up", "channel", "clary", "ended", "job", "put_rows", "until"]

ROLE = "arn:aws:iam::123456789012:role/SageMaker"
LIMIT = 60  # seconds for anything


def IMAGE(name: str) -> str:  # noqa: N802  # it stands where a constant would
    """AWS's name of the image of an algorithm."""
    return f"382416733822.dkr.ecr.us-east-1.amazonaws.com/{name}:1"


def until(true: Callable[[], Any], limit: float = LIMIT) -> Any:
    """What `true` returns as soon as that is true."""
    deadline = time.monotonic() + limit
    while not (found := true()):
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.05)
    return found


def channel(uri: str, name: str = "train", content_type: str = "text/csv;label_size=0", **more: Any) -> dict[str, Any]:
    """An entry of InputDataConfig; `more` goes to where it belongs."""
    inner = {key: more.pop(key) for key in ("S3DataDistributionType", "AttributeNames") if key in more}
    source = {"S3DataType": more.pop("S3DataType", "S3Prefix"), "S3Uri": uri, **inner}
    return {"ChannelName": name, "ContentType": content_type, "DataSource": {"S3DataSource": source}, **more}


def job(name: str, *channels: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """A request for a training job of k-means."""
    mode = fields.pop("mode", "File")
    image = fields.pop("image", IMAGE("kmeans"))
    count = fields.pop("hosts", 1)
    return {
        "TrainingJobName": name,
        "HyperParameters": {"k": "2", "feature_dim": "3"},
        "AlgorithmSpecification": {"TrainingImage": image, "TrainingInputMode": mode},
        "RoleArn": ROLE,
        "InputDataConfig": list(channels),
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": count, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        **fields,
    }


def clary(*words: str) -> subprocess.CompletedProcess[str]:
    """The outcome of a command of ours."""
    command = [sys.executable, "-m", "clary", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)


class Up:
    """``clary up`` on a folder.

    Parameters
    ----------
    folder
        The state.
    *words
        More of the command line.
    """

    program: Sequence[str] = (sys.executable, "-m", "clary")

    def __init__(self, folder: Path, *words: str, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.words = words
        self.environment = environment or {}
        self.log = folder.with_name(f"{folder.name}.log")
        self.start()

    def start(self) -> None:
        """Start it, and wait until it can be asked."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.program, "up", "--port", "0", "--state", str(self.folder), *self.words],
                env={**own, "CLARY_PARENT": str(os.getpid()), **self.environment},
                cwd=self.folder.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.address: Address = until(self._address)

    def _address(self) -> Address | None:
        assert self.process.poll() is None, self.said
        return StateFolder(self.folder).read()

    @property
    def said(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace")

    @property
    def variables(self) -> dict[str, str]:
        """What leads clients to it."""
        return variables(self.address)

    def client(self, service: str, **config: Any) -> Any:
        """A client of boto3's."""
        return boto3.Session().client(
            service,
            endpoint_url=self.address.url,
            region_name="us-east-1",
            aws_access_key_id=self.address.token or "local",
            aws_secret_access_key="local",
            config=Config(retries={"max_attempts": 1}, **config),
        )

    def clary(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The outcome of a command of ours on the folder."""
        return clary(*words, "--state", str(self.folder))

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it as Ctrl-C does; its exit code."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(LIMIT)
        finally:
            self.process.kill()

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()


def put_rows(up: Up, key: str = "in/rows.csv", count: int = 200) -> str:
    """Put rows of three columns around two centres into S3; the prefix."""
    s3 = up.client("s3")
    if "bucket" not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket="bucket")
    rows = "".join(f"{i % 2 * 10 + i % 7 / 10},{i % 5 / 10},{i % 3}\n" for i in range(count))
    s3.put_object(Bucket="bucket", Key=key, Body=rows.encode())
    return f"s3://bucket/{key.rpartition('/')[0]}/"


def ended(up: Up, name: str) -> dict[str, Any]:
    """The description of a training job that has ended."""
    client = up.client("sagemaker")

    def done() -> dict[str, Any] | None:
        described: dict[str, Any] = client.describe_training_job(TrainingJobName=name)
        return None if described["TrainingJobStatus"] in ("InProgress", "Stopping") else described

    found: dict[str, Any] = until(done)
    return found
