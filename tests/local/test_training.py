"""Training jobs, asked for by boto3 as on AWS, really train."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from clary.algorithms.registry import open_artifact
from clary.containers.artifact import unpack

from .up import Up, channel, ended, job, put_rows, until


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A platform with rows in S3."""
    platform = Up(tmp_path_factory.mktemp("up") / "state", environment={"DOCKER_HOST": "tcp://127.0.0.1:9"})
    put_rows(platform)
    yield platform
    platform.stop()


@pytest.fixture(scope="module")
def client(up: Up) -> Any:
    """A client of SageMaker."""
    return up.client("sagemaker")


ROWS = channel("s3://bucket/in/")


def fetched(up: Up, uri: str) -> bytes:
    """An object."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    body: bytes = up.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return body


def lines(up: Up, name: str) -> list[str]:
    """What a job has said."""
    logs = up.client("logs")
    group = "/aws/sagemaker/TrainingJobs"
    streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]
    return [
        event["message"]
        for stream in streams
        for event in logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True)[
            "events"
        ]
    ]


def refused(client: Any, **request: Any) -> tuple[str, str]:
    """Code and message of the answer to a job that is refused."""
    with pytest.raises(ClientError) as caught:
        client.create_training_job(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_a_job(up: Up, client: Any, tmp_path: Path) -> None:
    """A job trains, says so, leaves a model that can be opened, and is described as AWS does it."""
    arn = client.create_training_job(**job("first", ROWS, Tags=[{"Key": "team", "Value": "a"}]))["TrainingJobArn"]
    assert arn == "arn:aws:sagemaker:us-east-1:123456789012:training-job/first"
    client.get_waiter("training_job_completed_or_stopped").wait(
        TrainingJobName="first", WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    found = client.describe_training_job(TrainingJobName="first")
    assert found["TrainingJobStatus"] == found["SecondaryStatus"] == "Completed"
    statuses = [transition["Status"] for transition in found["SecondaryStatusTransitions"]]
    assert statuses == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    times = [time for each in found["SecondaryStatusTransitions"] for time in (each["StartTime"], each["EndTime"])]
    assert times == sorted(times)
    assert found["CreationTime"] <= found["TrainingStartTime"] <= found["TrainingEndTime"] <= found["LastModifiedTime"]
    assert found["OutputDataConfig"]["KmsKeyId"] == ""
    assert found["HyperParameters"] == {"k": "2", "feature_dim": "3"}
    metrics = {metric["MetricName"]: metric["Value"] for metric in found["FinalMetricDataList"]}
    assert metrics["train:progress"] == 100
    assert 0 < metrics["train:msd"] < 5
    assert found["ModelArtifacts"]["S3ModelArtifacts"] == "s3://bucket/out/first/output/model.tar.gz"
    assert client.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "a"}]
    assert any(line.startswith("#metrics ") for line in lines(up, "first"))
    archive = tmp_path / "model.tar.gz"
    archive.write_bytes(fetched(up, found["ModelArtifacts"]["S3ModelArtifacts"]))
    unpack(archive, tmp_path)
    assert open_artifact(tmp_path)[0].name == "kmeans"
    until(lambda: not (up.folder / "work/training-jobs/first").exists())


def test_metrics_are_in_cloudwatch(up: Up, client: Any) -> None:
    """The SDK's analytics find a job's numbers under its name."""
    client.create_training_job(**job("measured", ROWS))
    found = ended(up, "measured")
    metrics = {metric["MetricName"]: metric["Value"] for metric in found["FinalMetricDataList"]}
    answer = up.client("cloudwatch").get_metric_statistics(
        Namespace="/aws/sagemaker/TrainingJobs",
        MetricName="train:msd",
        Dimensions=[{"Name": "TrainingJobName", "Value": "measured"}],
        StartTime=found["TrainingStartTime"] - timedelta(minutes=1),
        EndTime=found["TrainingEndTime"] + timedelta(minutes=1),
        Period=60,
        Statistics=["Average"],
    )
    assert [point["Average"] for point in answer["Datapoints"]] == [metrics["train:msd"]]


def test_modes_agree(up: Up, client: Any) -> None:
    """Pipe mode and fast files give the model that files do, to the byte."""
    models = []
    for mode in ("File", "FastFile", "Pipe"):
        client.create_training_job(**job(f"mode-{mode}", ROWS, mode=mode))
    for mode in ("File", "FastFile", "Pipe"):
        found = ended(up, f"mode-{mode}")
        assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
        models.append(fetched(up, found["ModelArtifacts"]["S3ModelArtifacts"]))
    assert models[0] == models[1] == models[2]


def test_a_bad_hyperparameter_fails_the_job(up: Up, client: Any) -> None:
    """The job's own words are the reason, with whose fault it is and the exit code."""
    client.create_training_job(**job("bad", ROWS, HyperParameters={"k": "0", "feature_dim": "3"}))
    found = ended(up, "bad")
    assert found["TrainingJobStatus"] == found["SecondaryStatus"] == "Failed"
    assert found["FailureReason"].startswith("ClientError: ")
    assert found["FailureReason"].endswith(", exit code: 2")
    assert "'k'" in found["FailureReason"] or "k:" in found["FailureReason"]
    assert found["SecondaryStatusTransitions"][-1]["StatusMessage"] == found["FailureReason"]
    assert "ModelArtifacts" not in found


def test_no_data_fails_the_job(up: Up, client: Any) -> None:
    """A prefix without objects is told in AWS's words."""
    client.create_training_job(**job("no-data", channel("s3://bucket/nowhere/")))
    reason = ended(up, "no-data")["FailureReason"]
    assert reason.startswith("ClientError: Data download failed:")
    assert 'No S3 objects found under S3 URL "s3://bucket/nowhere/"' in reason


def test_two_hosts(up: Up, client: Any) -> None:
    """Each host has its own configuration and its part of the objects, and one model comes of it."""
    for number in range(4):
        put_rows(up, f"shards/{number}.csv", 50)
    shards = channel("s3://bucket/shards/", S3DataDistributionType="ShardedByS3Key")
    client.create_training_job(**job("two", shards, hosts=2))
    found = ended(up, "two")
    assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
    said = lines(up, "two")
    assert any('"Host": "algo-1"' in line for line in said)
    assert any('"Host": "algo-2"' in line for line in said)
    with tarfile.open(fileobj=io.BytesIO(fetched(up, found["ModelArtifacts"]["S3ModelArtifacts"]))) as archive:
        assert archive.getnames() == ["model_algo-1"]


def test_a_host_that_cannot_be_started(up: Up, client: Any) -> None:
    """A job whose process the system refuses fails; it does not pass for one that went well."""
    client.create_training_job(**job("nul", ROWS, Environment={"A": "x\0y"}))
    found = ended(up, "nul")
    assert found["TrainingJobStatus"] == "Failed"
    assert "could not be run" in found["FailureReason"]


def test_the_environment_of_a_process_is_ours(up: Up, client: Any) -> None:
    """A request cannot move a process out of its folder, nor put code into it."""
    names = ("SAGEMAKER_BASE_DIR", "CLARY_PARENT", "PYTHONPATH", "LD_PRELOAD", "CLARY_ALGORITHM")
    client.create_training_job(**job("moved", ROWS, Environment=dict.fromkeys(names, "1")))
    assert ended(up, "moved")["TrainingJobStatus"] == "Completed"


def test_a_bucket_that_is_not_there(up: Up, client: Any) -> None:
    """It is the user's fault, and said so."""
    client.create_training_job(**job("no-bucket", ROWS, OutputDataConfig={"S3OutputPath": "s3://nowhere/out"}))
    found = ended(up, "no-bucket")
    assert found["FailureReason"].startswith("ClientError: ")
    assert "nowhere" in found["FailureReason"]


def test_stopping(up: Up, client: Any) -> None:
    """A job that is stopped ends as Stopped, and so does one that nothing was left to stop of."""
    client.create_training_job(**job("long", ROWS, HyperParameters={"k": "2", "feature_dim": "3", "epochs": "1000000"}))
    until(lambda: client.describe_training_job(TrainingJobName="long")["SecondaryStatus"] == "Training")
    client.stop_training_job(TrainingJobName="long")
    found = ended(up, "long")
    assert found["TrainingJobStatus"] == found["SecondaryStatus"] == "Stopped"
    with pytest.raises(ClientError, match="The request was rejected because the training job is in status Stopped"):
        client.stop_training_job(TrainingJobName="long")


def test_stopping_while_data_comes(up: Up, client: Any) -> None:
    """A job that is stopped before all of its data is here has not trained; its time is a second, AWS's least."""
    s3 = up.client("s3")
    for number in range(200):
        s3.put_object(Bucket="bucket", Key=f"many/{number}.csv", Body=b"1,2,3\n")
    client.create_training_job(**job("early", channel("s3://bucket/many/")))
    client.stop_training_job(TrainingJobName="early")
    found = ended(up, "early")
    assert found["TrainingJobStatus"] == found["SecondaryStatus"] == "Stopped", found.get("FailureReason")
    assert "Training" not in [each["Status"] for each in found["SecondaryStatusTransitions"]]
    assert found["TrainingTimeInSeconds"] == found["BillableTimeInSeconds"] == 1


def test_the_time_is_limited(up: Up, client: Any) -> None:
    """MaxRuntimeInSeconds ends a job, which is told."""
    endless = {"k": "2", "feature_dim": "3", "epochs": "1000000"}
    client.create_training_job(
        **job("limited", ROWS, HyperParameters=endless, StoppingCondition={"MaxRuntimeInSeconds": 1})
    )
    found = ended(up, "limited")
    assert (found["TrainingJobStatus"], found["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


def test_names_are_taken(client: Any) -> None:
    """A name can be used once, until the job is deleted."""
    client.create_training_job(**job("taken", channel("s3://bucket/in/")))
    code, message = refused(client, **job("taken", ROWS))
    assert code == "ResourceInUse"
    assert message.startswith("Training job names must be unique within an AWS account and region")


def test_unknown_jobs(client: Any) -> None:
    """A job that is not there is told of as AWS does."""
    with pytest.raises(ClientError, match="Requested resource not found") as caught:
        client.describe_training_job(TrainingJobName="nobody")
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_deleting(up: Up, client: Any) -> None:
    """A job that has ended can be deleted, and its name is free again."""
    client.create_training_job(**job("brief", ROWS, Tags=[{"Key": "a", "Value": "b"}]))
    arn = ended(up, "brief")["TrainingJobArn"]
    client.delete_training_job(TrainingJobName="brief")
    with pytest.raises(ClientError, match="Could not find training-job"):
        client.add_tags(ResourceArn=arn, Tags=[{"Key": "a", "Value": "b"}])
    client.create_training_job(**job("brief", ROWS))
    assert ended(up, "brief")["TrainingJobStatus"] == "Completed"
    assert client.list_tags(ResourceArn=arn)["Tags"] == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image": "nobody/knows:1"}, "Docker"),
        ({"OutputDataConfig": {"S3OutputPath": "https://bucket/out"}}, "write s3://"),
        ({"CheckpointConfig": {"S3Uri": "s3://bucket/c", "LocalPath": "/etc"}}, "LocalPath '/etc' is not supported"),
        ({"CheckpointConfig": {"S3Uri": "s3://bucket/c", "LocalPath": "/opt/ml/../../etc"}}, "is not supported"),
        ({"ResourceConfig": {"InstanceType": "ml.none", "InstanceCount": 1, "VolumeSizeInGB": 1}}, "enum value set"),
    ],
)
def test_refusals(client: Any, fields: dict[str, Any], words: str) -> None:
    """What could not run is refused at once."""
    code, message = refused(client, **job("refused", ROWS, **fields))
    assert code == "ValidationException"
    assert words in message


def test_metric_definitions_of_built_in_algorithms_are_fixed(client: Any) -> None:
    """AWS refuses others, and so do we."""
    request = job("own-metrics", ROWS)
    request["AlgorithmSpecification"]["MetricDefinitions"] = [{"Name": "a", "Regex": "b"}]
    code, message = refused(client, **request)
    assert (code, message.partition(".")[0]) == (
        "ValidationException",
        "You can't override the metric definitions for Amazon SageMaker algorithms",
    )


def test_algorithms_of_the_marketplace(client: Any) -> None:
    """A job by the name of an algorithm alone is refused."""
    request = job("by-name", ROWS)
    request["AlgorithmSpecification"] = {"AlgorithmName": "somebody-s", "TrainingInputMode": "File"}
    code, message = refused(client, **request)
    assert (code, "name a TrainingImage" in message) == ("ValidationException", True)


def test_too_many_instances(client: Any) -> None:
    """More instances than an account has are refused."""
    code, message = refused(client, **job("many", ROWS, hosts=21))
    assert code == "ResourceLimitExceeded"
    assert "limit 'ml.m5.large for training job usage' is 20 Instances" in message


def test_what_only_keeps_a_record_says_so(client: Any) -> None:
    """An operation that does not happen here goes to moto, and the answer has a header."""
    answer = client.create_experiment(ExperimentName="e")
    assert answer["ResponseMetadata"]["HTTPHeaders"]["x-clary-recorded-only"] == "true"
    assert "x-clary-recorded-only" not in client.list_training_jobs()["ResponseMetadata"]["HTTPHeaders"]
    with pytest.raises(ClientError) as caught:
        client.create_cluster_scheduler_config(
            Name="a", ClusterArn="arn:aws:sagemaker:us-east-1:123456789012:cluster/abcdefghijkl", SchedulerConfig={}
        )
    assert caught.value.response["Error"]["Code"] == "UnknownOperationException"


def test_checkpoints(up: Up, client: Any) -> None:
    """XGBoost's checkpoints go to S3, and another job goes on from them."""
    s3 = up.client("s3")
    rows = "".join(f"{i % 2},{i % 7},{i % 5}\n" for i in range(100))
    s3.put_object(Bucket="bucket", Key="xgb/rows.csv", Body=rows.encode())
    config = {"S3Uri": "s3://bucket/checkpoints"}
    hyperparameters = {"num_round": "3", "objective": "binary:logistic"}
    fields: dict[str, Any] = {
        "image": "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1",
        "CheckpointConfig": config,
    }
    data = channel("s3://bucket/xgb/", content_type="text/csv")
    client.create_training_job(**job("xgb-1", data, **fields, HyperParameters=hyperparameters))
    assert ended(up, "xgb-1")["TrainingJobStatus"] == "Completed"
    listed = s3.list_objects_v2(Bucket="bucket", Prefix="checkpoints/")["Contents"]
    assert {item["Key"] for item in listed} == {f"checkpoints/xgboost-checkpoint.{n}" for n in range(3)}
    hyperparameters["num_round"] = "5"
    client.create_training_job(**job("xgb-2", data, **fields, HyperParameters=hyperparameters))
    found = ended(up, "xgb-2")
    assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
    assert any("checkpoint" in line.lower() and "3" in line for line in lines(up, "xgb-2"))
    metrics = {metric["MetricName"] for metric in found["FinalMetricDataList"]}
    assert "train:logloss" in metrics
    assert any("#011train-logloss:" in line for line in lines(up, "xgb-2"))


def duration(client: Any, name: str) -> float:
    """Seconds from a job's creation to its end."""
    found = client.describe_training_job(TrainingJobName=name)
    seconds: float = (found["TrainingEndTime"] - found["CreationTime"]).total_seconds()
    return seconds


def test_commands(up: Up, client: Any) -> None:
    """Our own commands list the jobs, print their logs, and end them."""
    client.create_training_job(**job("seen", ROWS))
    followed = up.clary("logs", "-f", "seen")
    assert followed.returncode == 0, followed.stderr
    assert "#metrics " in followed.stdout
    assert followed.stdout.splitlines() == lines(up, "seen")
    listed = [line.split("\t") for line in up.clary("jobs").stdout.splitlines()]
    assert ["training", "seen", "Completed"] in [row[:3] for row in listed]
    assert next(row[3] for row in listed if row[1] == "seen") == f"{duration(client, 'seen'):.1f} s"
    client.create_training_job(**job("wrong", ROWS, HyperParameters={"k": "0", "feature_dim": "3"}))
    assert up.clary("logs", "-f", "wrong").returncode == 1
    client.create_training_job(
        **job("ended", ROWS, HyperParameters={"k": "2", "feature_dim": "3", "epochs": "1000000"})
    )
    assert up.clary("stop", "ended").returncode == 0
    assert ended(up, "ended")["TrainingJobStatus"] == "Stopped"
    unknown = up.clary("logs", "nobody")
    assert (unknown.returncode, unknown.stderr) == (2, "clary: there is no job nobody: see  clary jobs\n")


def test_the_configuration_is_all_there(up: Up, client: Any) -> None:
    """What a container is told is what the request says: seen in a job that is held by a FIFO nobody feeds."""
    client.create_training_job(
        **job("config", ROWS, mode="Pipe", HyperParameters={"k": "2", "feature_dim": "3", "epochs": "1000000"})
    )
    until(lambda: client.describe_training_job(TrainingJobName="config")["SecondaryStatus"] == "Training")
    [config] = up.folder.glob("work/training-jobs/config/*/algo-1/input/config")
    read = {path.stem: json.loads(path.read_text()) for path in config.iterdir()}
    client.stop_training_job(TrainingJobName="config")
    assert read["inputdataconfig"] == {
        "train": {
            "ContentType": "text/csv;label_size=0",
            "TrainingInputMode": "Pipe",
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "None",
        }
    }
    assert read["hyperparameters"]["epochs"] == "1000000"
    assert read["resourceconfig"]["hosts"] == ["algo-1"]
    assert read["trainingjobconfig"]["TrainingJobName"] == "config"
    assert not any(name.startswith("_") for name in read["trainingjobconfig"])
    assert ended(up, "config")["TrainingJobStatus"] == "Stopped"
