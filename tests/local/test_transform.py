"""Batch transform jobs, asked for by boto3 of a real platform."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError

from clary.local.folder import Address, StateFolder
from clary.local.store import Store
from clary.recordio.batch import Batch
from clary.recordio.csv import format_csv
from clary.recordio.writer import write_batch

from .up import IMAGE, ROLE, Up, until

CLARY = (sys.executable, "-m", "clary")
LIMIT = 60  # seconds of any wait
LINE = {"SplitType": "Line", "ContentType": "text/csv"}

_rng = np.random.default_rng(0)
ROWS = (_rng.normal(size=(600, 4)) + 10 * _rng.integers(0, 3, (600, 1))).astype(np.float32)
TEXT = format_csv([ROWS])
LINES = TEXT.splitlines(keepends=True)
LONG = TEXT * 250  # takes longer than any test, each row in a request of its own


class Local(Up):
    """A platform, and what tests of transform jobs do with it."""

    def _address(self) -> Address | None:
        found = super()._address()
        return found if found and found.process == self.process.pid else None  # else that of one that was killed

    @cached_property
    def sm(self) -> Any:
        """A client of SageMaker."""
        return self.client("sagemaker")

    @cached_property
    def s3(self) -> Any:
        """A client of S3."""
        return self.client("s3")

    @cached_property
    def logs(self) -> Any:
        """A client of CloudWatch Logs."""
        return self.client("logs")

    def put(self, prefix: str, objects: Mapping[str, bytes]) -> str:
        """Make objects, and give the URI of their prefix."""
        for name, body in objects.items():
            self.s3.put_object(Bucket="bucket", Key=f"{prefix}/{name}", Body=body)
        return f"s3://bucket/{prefix}/"

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Name → content, of the objects below a prefix."""
        found = self.s3.list_objects_v2(Bucket="bucket", Prefix=f"{prefix}/").get("Contents", [])
        keys = [entry["Key"] for entry in found]
        return {key[len(prefix) + 1 :]: self.s3.get_object(Bucket="bucket", Key=key)["Body"].read() for key in keys}

    def create(self, job: str, uri: str, *, kind: str = "S3Prefix", model: str = "kmeans", **asked: Any) -> str:
        """Start a job whose outputs go below ``out/<job>``, and give its ARN."""
        given: dict[str, Any] = {"Accept": "text/csv", **asked.pop("TransformOutput", {})}
        source = {
            "DataSource": {"S3DataSource": {"S3DataType": kind, "S3Uri": uri}},
            **asked.pop("TransformInput", LINE),
        }
        answer = self.sm.create_transform_job(
            TransformJobName=job,
            ModelName=model,
            TransformInput=source,
            TransformOutput={"S3OutputPath": f"s3://bucket/out/{job}/", **given},
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
            **asked,
        )
        return str(answer["TransformJobArn"])

    def ended(self, job: str) -> dict[str, Any]:
        """What is said of a job that has ended."""
        waiter = self.sm.get_waiter("transform_job_completed_or_stopped")
        try:
            waiter.wait(TransformJobName=job, WaiterConfig={"Delay": 0.05, "MaxAttempts": int(LIMIT / 0.05)})
        except Exception as error:
            if "terminal failure state" not in str(error):
                raise
        return dict(self.sm.describe_transform_job(TransformJobName=job))

    def done(self, job: str, uri: str, **asked: Any) -> dict[str, bytes]:
        """The outputs of a job that ends well."""
        self.create(job, uri, **asked)
        description = self.ended(job)
        assert description["TransformJobStatus"] == "Completed", description.get("FailureReason")
        return self.objects(f"out/{job}")

    def lines(self, job: str) -> dict[str, list[str]]:
        """Log stream of a job, without its name → its lines."""
        group = "/aws/sagemaker/TransformJobs"
        streams = self.logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{job}/")["logStreams"]
        found = {}
        for stream in streams:
            events = self.logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])["events"]
            found[stream["logStreamName"].removeprefix(f"{job}/")] = [event["message"] for event in events]
        return found


@contextmanager
def running(folder: Path) -> Iterator[Local]:
    """A platform with its state in `folder`, which is killed at the end."""
    platform = Local(folder)
    try:
        yield platform
    finally:
        platform.kill()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model."""
    folder = tmp_path_factory.mktemp("model")
    with (folder / "rows.rec").open("wb") as stream:
        write_batch(stream, Batch(ROWS))
    command = (*CLARY, "train", "kmeans", "--train", "rows.rec", "-p", "k=3", "epochs=1")
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=LIMIT)
    return folder / "model.tar.gz"


def furnish(local: Local, archive: Path) -> None:
    """Make a bucket, and a model in the platform."""
    local.s3.create_bucket(Bucket="bucket")
    local.s3.upload_file(str(archive), "bucket", "model.tar.gz")
    container = {"Image": IMAGE("kmeans"), "ModelDataUrl": "s3://bucket/model.tar.gz"}
    local.sm.create_model(ModelName="kmeans", PrimaryContainer=container, ExecutionRoleArn=ROLE)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Iterator[Local]:
    """A platform that has a model."""
    with running(tmp_path_factory.mktemp("transform") / "state") as found:
        furnish(found, archive)
        yield found


@pytest.fixture(scope="module")
def answers(archive: Path) -> list[bytes]:
    """What ``clary transform`` makes of the rows, line by line."""
    (archive.parent / "rows.csv").write_bytes(TEXT)
    words = ("transform", "model.tar.gz", "rows.csv", "out", "--split-type", "Line", "--accept", "text/csv")
    subprocess.run([*CLARY, *words], cwd=archive.parent, check=True, capture_output=True, timeout=LIMIT)
    lines = (archive.parent / "out/rows.csv.out").read_bytes().splitlines(keepends=True)
    assert len(lines) == len(ROWS)
    return lines


def test_each_object_below_a_prefix_has_an_output(local: Local, answers: list[bytes]) -> None:
    """Names keep what follows the prefix; folder markers are no data; the description tells times and defaults."""
    data = {"a.csv": b"".join(LINES[:200]), "deep/b.csv": b"".join(LINES[200:210]), "c.csv": LINES[210], "deep/": b""}
    uri = local.put("three", data)
    tags = [{"Key": "team", "Value": "blue"}]
    arn = local.create("three", uri, Tags=tags, BatchStrategy="MultiRecord", Environment={"ANY": "1"})
    description = local.ended("three")

    assert local.objects("out/three") == {
        "a.csv.out": b"".join(answers[:200]),
        "c.csv.out": answers[210],
        "deep/b.csv.out": b"".join(answers[200:210]),
    }
    assert description["TransformJobStatus"] == "Completed"
    assert description["CreationTime"] <= description["TransformStartTime"] <= description["TransformEndTime"]
    assert description["TransformOutput"] == {
        "S3OutputPath": "s3://bucket/out/three/",
        "Accept": "text/csv",
        "AssembleWith": "None",
        "KmsKeyId": "",
    }
    assert description["TransformInput"]["CompressionType"] == "None"
    assert (description["BatchStrategy"], description["Environment"]) == ("MultiRecord", {"ANY": "1"})
    assert "DataProcessing" not in description
    assert "FailureReason" not in description
    assert local.sm.list_tags(ResourceArn=arn)["Tags"] == tags
    assert not (local.folder / "work/transform-jobs/three").exists()
    (stream,) = local.lines("three").values()
    assert any("model" in line for line in stream)


def test_records_one_by_one(local: Local, answers: list[bytes]) -> None:
    """SingleRecord with several requests at a time keeps the order."""
    uri = local.put("single", {"a.csv": b"".join(LINES[:100])})
    found = local.done("single", uri, BatchStrategy="SingleRecord", MaxConcurrentTransforms=4, MaxPayloadInMB=1)
    assert found == {"a.csv.out": b"".join(answers[:100])}


def test_answers_are_joined_with_filtered_input(local: Local, answers: list[bytes]) -> None:
    """The model does not see the ids, which stand beside its answers."""
    uri = local.put("joined", {"a.csv": b"".join(b"id%d,%s" % pair for pair in enumerate(LINES[:50]))})
    found = local.done(
        "joined",
        uri,
        TransformOutput={"AssembleWith": "Line"},
        DataProcessing={"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0,-2,-1]"},
    )
    assert found == {"a.csv.out": b"".join(b"id%d,%s" % pair for pair in enumerate(answers[:50]))}


def test_compressed_objects_in_a_manifest(local: Local, answers: list[bytes]) -> None:
    """A manifest's names are those of the outputs; what it does not list is not read."""
    listed = {name: gzip.compress(LINES[row]) for row, name in enumerate(("x/one.gz", "two.gz"))}
    uri = local.put("zipped", {**listed, "three.gz": b"no gzip"})
    local.put("lists", {"list.json": json.dumps([{"prefix": uri}, "two.gz", "x/one.gz"]).encode()})
    asked = {"kind": "ManifestFile", "TransformInput": {**LINE, "CompressionType": "Gzip"}}
    found = local.done("zipped", "s3://bucket/lists/list.json", **asked)
    assert found == {"x/one.gz.out": answers[0], "two.gz.out": answers[1]}


def test_recordio_by_its_whole_name(local: Local, answers: list[bytes], archive: Path) -> None:
    """A URI that is the whole key means that object."""
    uri = local.put("rec", {"rows.rec": (archive.parent / "rows.rec").read_bytes()})
    media = {"SplitType": "RecordIO", "ContentType": "application/x-recordio-protobuf"}
    found = local.done("rec", f"{uri}rows.rec", TransformInput=media)
    assert found == {"rows.rec.out": b"".join(answers)}


def test_one_bad_object_fails_the_job_alone(local: Local, answers: list[bytes]) -> None:
    """The others have their outputs; the reason and the data log name the object and what the model said."""
    local.create("bad", local.put("bad", {"a.csv": LINES[0], "b.csv": b"1,2,x,4\n", "c.csv": LINES[2]}))
    description = local.ended("bad")
    reason = description["FailureReason"]

    assert description["TransformJobStatus"] == "Failed"
    assert reason.startswith("ClientError: See job logs for more information: 1 of 3 objects have no output; ")
    assert "s3://bucket/bad/b.csv: line 1: the server answered 400: " in reason
    assert local.objects("out/bad") == {"a.csv.out": answers[0], "c.csv.out": answers[2]}
    told = [lines for stream, lines in local.lines("bad").items() if stream.endswith("/data-log")]
    assert "[sagemaker logs]: bucket/bad/b.csv: ClientError: line 1: the server answered 400: " in told[0][0]


def test_nothing_below_a_prefix(local: Local) -> None:
    """The job fails in the words of SageMaker."""
    local.create("none", "s3://bucket/nothing/here")
    description = local.ended("none")
    text = 'ClientError: No S3 objects found under S3 URL "s3://bucket/nothing/here"'
    assert (description["TransformJobStatus"], description["FailureReason"][: len(text)]) == ("Failed", text)


def test_two_objects_of_one_name(local: Local) -> None:
    """A prefix that ends within names can make two the same; neither output replaces the other."""
    local.put("same", {"x.csv": LINES[0], "x/x.csv": LINES[1]})
    local.create("same", "s3://bucket/same/x")
    assert "would both have the output x.csv.out" in local.ended("same")["FailureReason"]
    assert local.objects("out/same") == {}


def test_an_output_that_cannot_be_written(local: Local) -> None:
    """A bucket that is not there is the client's fault, and said."""
    local.create("lost", local.put("lost", {"a.csv": LINES[0]}), TransformOutput={"S3OutputPath": "s3://nobody/out"})
    reason = local.ended("lost")["FailureReason"]
    assert reason.startswith("ClientError: ")
    assert "s3://nobody/out/a.csv.out cannot be written: " in reason
    assert "bucket does not exist" in reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no archive", 'ClientError: Failed to extract model data archive for container "primary" from URL '),
        (
            b"no model",
            "AlgorithmError: See job logs for more information: the model did not start: the container primary ",
        ),
    ],
)
def test_a_model_that_does_not_start(local: Local, content: bytes, reason: str) -> None:
    """An archive that cannot be unpacked is the client's fault; else what the container said last is told."""
    name = content.decode().replace(" ", "-")
    with io.BytesIO() as stream:
        with tarfile.open(fileobj=stream, mode="w:gz") as tar:
            tar.addfile(tarfile.TarInfo("model_algo-1"))
        body = stream.getvalue() if content == b"no model" else content
    local.put(name, {"model.tar.gz": body})
    container = {"Image": IMAGE("kmeans"), "ModelDataUrl": f"s3://bucket/{name}/model.tar.gz"}
    local.sm.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    local.create(name, local.put("some", {"a.csv": LINES[0]}), model=name)
    description = local.ended(name)
    assert description["TransformJobStatus"] == "Failed"
    assert description["FailureReason"].startswith(reason)


def single(local: Local, job: str) -> None:
    """Start a job that has a short object, whose output is there on return, and one that takes very long."""
    uri = local.put(job, {"a.csv": LINES[0], "b.csv": LONG})
    local.create(job, uri, BatchStrategy="SingleRecord")
    until(lambda: local.objects(f"out/{job}"))


def test_a_stopped_job_keeps_what_is_complete(local: Local, answers: list[bytes]) -> None:
    """The waiter ends well; the object under way leaves nothing; a second stop is refused."""
    single(local, "stopped")
    local.sm.stop_transform_job(TransformJobName="stopped")
    description = local.ended("stopped")

    assert description["TransformJobStatus"] == "Stopped"
    assert description["TransformEndTime"] >= description["TransformStartTime"]
    assert "FailureReason" not in description
    assert local.objects("out/stopped") == {"a.csv.out": answers[0]}
    with pytest.raises(ClientError, match="is in status Stopped"):
        local.sm.stop_transform_job(TransformJobName="stopped")


def containers(folder: Path) -> list[int]:
    """Processes of the containers of jobs of a platform."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            content = environment.read_bytes()
            if b"SAGEMAKER_BATCH=true\0" in content and os.fsencode(folder) in content:
                found.append(int(environment.parent.name))
    return found


def test_a_container_that_dies_fails_the_job(local: Local, answers: list[bytes]) -> None:
    """The job does not wait for an answer that never comes."""
    single(local, "killed")
    for process in until(lambda: containers(local.folder)):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    description = local.ended("killed")
    assert description["TransformJobStatus"] == "Failed"
    assert description["FailureReason"].startswith("AlgorithmError: See job logs for more information: the container ")
    assert local.objects("out/killed") == {"a.csv.out": answers[0]}


def test_refused_requests(local: Local) -> None:
    """A name that is taken, a model or job that is not there, and settings that exclude each other."""
    uri = "s3://bucket/nothing/here"
    local.create("taken", uri)
    cases: list[tuple[str, str, dict[str, Any]]] = [
        ("taken", "ResourceInUse.*Transform job names must be unique", {}),
        ("x", 'ValidationException.*Could not find model "arn:aws:sagemaker:.*:model/nobody"', {"model": "nobody"}),
        ("x", "ValidationException.*100 MB", {"MaxPayloadInMB": 50, "MaxConcurrentTransforms": 3}),
        ("x", r"ValidationException.*the JSONPath '\$..a'", {"DataProcessing": {"InputFilter": "$..a"}}),
        ("x", "ValidationException.*S3DataType", {"kind": "AugmentedManifestFile"}),
        ("x", "ValidationException", {"TransformOutput": {"S3OutputPath": "https://bucket/out"}}),
    ]
    for job, text, asked in cases:
        with pytest.raises(ClientError, match=text):
            local.create(job, uri, **asked)
    for ask in (local.sm.describe_transform_job, local.sm.stop_transform_job):
        with pytest.raises(ClientError, match=r"ValidationException.*Could not find requested job with name: nobody"):
            ask(TransformJobName="nobody")
    assert local.ended("taken")["TransformJobStatus"] == "Failed"


def test_jobs_are_listed(local: Local) -> None:
    """By name, by status, and page by page; each with its times."""
    for name in ("listed-1", "listed-2", "listed-3"):
        local.create(name, "s3://bucket/nothing/here")
        local.ended(name)
    pages = local.sm.get_paginator("list_transform_jobs").paginate(
        NameContains="listed", StatusEquals="Failed", PaginationConfig={"PageSize": 2}
    )
    found = [summary for page in pages for summary in page["TransformJobSummaries"]]
    assert [summary["TransformJobName"] for summary in found] == ["listed-3", "listed-2", "listed-1"]
    assert all(each["CreationTime"] <= each["TransformEndTime"] <= each["LastModifiedTime"] for each in found)
    assert all(each["FailureReason"].startswith("ClientError: No S3 objects found") for each in found)


def test_a_job_outlives_its_platform(tmp_path: Path, archive: Path, answers: list[bytes]) -> None:
    """The next one does it again from the start, its model forgotten or not; one that was to stop is stopped."""
    folder = tmp_path / "state"
    with running(folder) as local:
        furnish(local, archive)
        single(local, "again")
        local.create("stopping", local.put("stopping", {"b.csv": LONG}), BatchStrategy="SingleRecord")
        local.sm.delete_model(ModelName="kmeans")
        local.s3.delete_object(Bucket="bucket", Key="out/again/a.csv.out")
        local.process.terminate()
        local.process.wait(LIMIT)
    until(lambda: containers(folder) == [])

    with running(folder) as local:
        until(lambda: local.objects("out/again"))
        local.put("again", {"b.csv": LINES[1]})
    until(lambda: containers(folder) == [])
    store = Store(StateFolder(folder).database)
    with store.changing("transform-job", "stopping", "TransformJobStatus") as document:
        assert document is not None
        assert document["TransformJobStatus"] == "InProgress"
        document["TransformJobStatus"] = "Stopping"
    store.close()

    with running(folder) as local:
        assert local.ended("again")["TransformJobStatus"] == "Completed"
        assert local.objects("out/again") == {"a.csv.out": answers[0], "b.csv.out": answers[1]}
        assert local.ended("stopping")["TransformJobStatus"] == "Stopped"
        assert local.objects("out/stopping") == {}
