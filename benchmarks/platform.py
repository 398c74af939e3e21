"""The local platform, asked by boto3 as AWS is: how long a small job takes, an endpoint, and what the port adds.

Jobs and endpoints run as processes, and their times are medians: from the request to the end that boto3's waiter hears
of. What the port adds to an InvokeEndpoint is the median by way of the port less that of the same request to the
container's own server; the two take turns, each on a connection of its own that is kept.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import boto3
import numpy as np

from clary.local.folder import Address, StateFolder

from .timing import Row

__all__ = ["rows"]

TIMES = 5
"""How often each job and endpoint runs."""

CALLS = 400
LIMIT = 60  # seconds for anything
ROLE = "arn:aws:iam::123456789012:role/SageMaker"
COLUMNS = 20
ALGORITHMS: Mapping[str, Mapping[str, str]] = {
    "kmeans": {"k": "10", "feature_dim": str(COLUMNS)},
    "linear-learner": {"predictor_type": "binary_classifier", "feature_dim": str(COLUMNS)},
    "xgboost": {"objective": "binary:logistic", "num_round": "50"},
}


@dataclass(frozen=True)
class Running:
    """A platform that runs, and what it took to start it."""

    process: int
    address: Address
    seconds: float

    def client(self, service: str) -> Any:
        """A client of boto3's."""
        return boto3.client(
            service,
            endpoint_url=self.address.url,
            region_name=self.address.region,
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106 - nobody reads it
        )


@contextmanager
def platform() -> Iterator[Running]:
    """A platform in a folder that is removed at the end."""
    with tempfile.TemporaryDirectory() as name:
        folder = StateFolder(Path(name) / "state")
        command = [sys.executable, "-m", "clary", "up", "--port", "0", "--state", str(folder.path)]
        env = {"CLARY_PARENT": str(os.getpid()), **os.environ}
        start = time.perf_counter()
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while (address := folder.read()) is None:
                assert process.poll() is None and time.perf_counter() < start + LIMIT, "the platform does not start"
                time.sleep(0.005)
            yield Running(process.pid, address, time.perf_counter() - start)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(LIMIT)


def seconds(function: Callable[[], object]) -> float:
    """What a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def image(algorithm: str) -> str:
    """A name by which SageMaker knows the image of an algorithm."""
    return f"382416733822.dkr.ecr.us-east-1.amazonaws.com/{algorithm}:1"


def put_rows(s3: Any) -> None:
    """Put 1,000 rows into S3, with a label before them and without."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1000, COLUMNS))
    lines = [",".join(f"{value:.6f}" for value in row) for row in rows]
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="rows/rows.csv", Body="\n".join(lines))
    labelled = "\n".join(f"{int(row.sum() > 0)},{line}" for row, line in zip(rows, lines, strict=True))
    s3.put_object(Bucket="bucket", Key="labelled/rows.csv", Body=labelled)


def train(sagemaker: Any, algorithm: str, number: int) -> None:
    """Train a model."""
    folder, kind = ("rows", "text/csv;label_size=0") if algorithm == "kmeans" else ("labelled", "text/csv")
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://bucket/{folder}/"}
    sagemaker.create_training_job(
        TrainingJobName=f"{algorithm}-{number}",
        HyperParameters=ALGORITHMS[algorithm],
        AlgorithmSpecification={"TrainingImage": image(algorithm), "TrainingInputMode": "File"},
        RoleArn=ROLE,
        InputDataConfig=[{"ChannelName": "train", "ContentType": kind, "DataSource": {"S3DataSource": source}}],
        OutputDataConfig={"S3OutputPath": "s3://bucket/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
    )
    sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName=f"{algorithm}-{number}")


def training(sagemaker: Any) -> Iterator[Row]:
    """Small jobs, from the request to their end."""
    for algorithm in ALGORITHMS:
        took = median(seconds(partial(train, sagemaker, algorithm, number)) for number in range(TIMES))
        yield Row(f"training job, {algorithm}, 1,000 x {COLUMNS} CSV", took, "s", bar=2.5, higher_is_better=False)


def serve(sagemaker: Any, name: str) -> None:
    """Have an endpoint in service."""
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="kmeans")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name)


def serving(running: Running) -> Iterator[Row]:
    """Endpoints, and what is asked of one."""
    sagemaker = running.client("sagemaker")
    trained = sagemaker.describe_training_job(TrainingJobName="kmeans-0")["ModelArtifacts"]["S3ModelArtifacts"]
    container = {"Image": image("kmeans"), "ModelDataUrl": trained}
    sagemaker.create_model(ModelName="kmeans", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    variant = {"VariantName": "all", "ModelName": "kmeans", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="kmeans", ProductionVariants=[variant])
    times = []
    for number in range(TIMES):
        name = f"kmeans-{number}"
        times.append(seconds(partial(serve, sagemaker, name)))
        if number < TIMES - 1:
            sagemaker.delete_endpoint(EndpointName=name)
            sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name)
    yield Row("endpoint, kmeans, in service", median(times), "s", bar=2, higher_is_better=False)
    yield from invoking(running, f"kmeans-{TIMES - 1}")


def invoking(running: Running, endpoint: str) -> Iterator[Row]:
    """What the port adds to the answer for one row."""
    body = ",".join(["0.5"] * COLUMNS)
    runtime = running.client("sagemaker-runtime")
    port = urlsplit(running.address.url).port
    assert port is not None
    with closing(connection(port)) as proxy, closing(connection(container_port(running.process))) as container:
        asked: list[Callable[[], object]] = [
            lambda: post(proxy, f"/endpoints/{endpoint}/invocations", body),
            lambda: post(container, "/invocations", body),
            lambda: runtime.invoke_endpoint(EndpointName=endpoint, ContentType="text/csv", Body=body)["Body"].read(),
        ]
        for ask in asked:
            ask()  # connects
        turns = [[1e3 * seconds(ask) for ask in asked] for _ in range(CALLS)]
    ours, bare, boto = (median(column) for column in zip(*turns, strict=True))
    yield Row("InvokeEndpoint, added by the port", ours - bare, "ms", bar=3, higher_is_better=False)
    yield Row("InvokeEndpoint", ours, "ms", "container", bare, higher_is_better=False)
    yield Row("InvokeEndpoint by boto3", boto, "ms", "container", bare, higher_is_better=False)


def connection(port: int) -> http.client.HTTPConnection:
    """A connection that is kept."""
    return http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)


def post(connection: http.client.HTTPConnection, path: str, body: str) -> None:
    """Ask for a prediction."""
    connection.request("POST", path, body, {"Content-Type": "text/csv", "Accept": "text/csv"})
    answer = connection.getresponse()
    said = answer.read()
    assert answer.status == 200, said


def container_port(platform: int) -> int:
    """The port of the only server that is a child of the platform (Linux)."""
    for tasks in Path(f"/proc/{platform}/task").glob("*/children"):
        for child in tasks.read_text().split():
            variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            for variable in variables:
                name, _, value = variable.partition(b"=")
                if name == b"SAGEMAKER_BIND_TO_PORT":
                    return int(value)
    raise AssertionError("the platform has no server among its children")


def storing(s3: Any) -> Iterator[Row]:
    """An object of a megabyte."""
    content = os.urandom(1 << 20)
    put = [1e3 * seconds(lambda: s3.put_object(Bucket="bucket", Key="large", Body=content)) for _ in range(20)]
    get = [1e3 * seconds(lambda: s3.get_object(Bucket="bucket", Key="large")["Body"].read()) for _ in range(20)]
    yield Row("S3, put 1 MB", median(put), "ms", higher_is_better=False)
    yield Row("S3, get 1 MB", median(get), "ms", higher_is_better=False)


def rows() -> Iterable[Row]:
    """All measurements."""
    with platform() as running:
        yield Row("start of clary up", running.seconds, "s", higher_is_better=False)
        s3 = running.client("s3")
        put_rows(s3)
        yield from training(running.client("sagemaker"))
        yield from serving(running)
        yield from storing(s3)
