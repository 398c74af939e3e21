"""The operations of training jobs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from .checked import check_job
from .faults import ResourceInUse, ResourceLimitExceeded, ValidationException
from .job_thread import UNFINISHED
from .metric_lines import definitions_of
from .operations import Call, operation
from .platform import Platform
from .store import Listing, TakenError, Thing
from .training_job import KIND, MESSAGES, TrainingJob, container_of, move

__all__ = ["create", "stop", "take_up_training_jobs"]

_MOST_INSTANCES: Final = 20  # under way at a time, as a new account has on AWS
_LOST: Final = (
    "InternalServerError: the local platform ended while the job was training. With a CheckpointConfig, "
    "a job goes on from its last checkpoint."
)


@operation
def create_training_job(call: Call) -> Mapping[str, Any]:
    """Start a job."""
    asked = call.request["ResourceConfig"].get("InstanceCount", 1)
    used = sum(
        thing.document["ResourceConfig"].get("InstanceCount", 1)
        for thing in call.platform.store.all(KIND, statuses=UNFINISHED)
    )
    if used + asked > _MOST_INSTANCES:
        instance = call.request["ResourceConfig"].get("InstanceType", "local")
        raise ResourceLimitExceeded(
            f"The account-level service limit '{instance} for training job usage' is {_MOST_INSTANCES} Instances, "
            f"with current utilization of {used} Instances and a request delta of {asked} Instances."
        )
    return {"TrainingJobArn": create(call, call.request)}


def create(call: Call, request: Mapping[str, Any], *, parent: str = "", **fields: Any) -> str:
    """Start a job that `request` describes, and give its ARN.

    Parameters
    ----------
    call
        Who asks.
    request
        As of CreateTrainingJob.
    parent
        Name of the tuning job it belongs to.
    **fields
        More of what describes it.
    """
    name = request["TrainingJobName"]
    arn = call.arn(KIND, name)
    document = {**request, **fields, "TrainingJobArn": arn, **_defaults(request)}
    document.pop("Tags", None)
    if "TrainingImage" not in request["AlgorithmSpecification"]:
        raise ValidationException("AlgorithmSpecification.AlgorithmName is not supported here: name a TrainingImage")
    container = container_of(request)
    check_job(request, container)
    specification = request["AlgorithmSpecification"]
    document["AlgorithmSpecification"] = {
        **specification,
        "MetricDefinitions": fields.get("_metrics")
        or definitions_of(container.algorithm, specification.get("MetricDefinitions", ())),
        "EnableSageMakerMetricsTimeSeries": specification.get("EnableSageMakerMetricsTimeSeries", False),
    }
    call.platform.executor_of(container)
    try:
        tags = {tag["Key"]: tag["Value"] for tag in request.get("Tags", ())}
        call.platform.store.add(KIND, name, document, status="InProgress", parent=parent, tags=(arn, tags))
    except TakenError as error:
        raise ResourceInUse(
            "Training job names must be unique within an AWS account and region, and a training job with this name "
            f"already exists ({arn})"
        ) from error
    TrainingJob.begin(call.platform, name)
    return arn


@operation
def describe_training_job(call: Call) -> Mapping[str, Any]:
    """What is known of a job."""
    thing = _found(call)
    return {**thing.document, "CreationTime": thing.created, "LastModifiedTime": thing.modified}


@operation
def list_training_jobs(call: Call) -> Mapping[str, Any]:
    """The jobs there are, the newest first."""
    things, token = call.platform.store.page(KIND, Listing(call.request))
    return {"TrainingJobSummaries": [_summary(thing) for thing in things], "NextToken": token}


@operation
def stop_training_job(call: Call) -> Mapping[str, Any]:
    """End a job with what it has so far."""
    thing = _found(call)
    if thing.status not in UNFINISHED:
        raise ValidationException(f"The request was rejected because the training job is in status {thing.status}.")
    stop(call.platform, thing.name)
    return {}


def stop(platform: Platform, name: str) -> None:
    """End a job that has not ended."""
    with platform.store.changing(KIND, name, "TrainingJobStatus") as document:
        if document is None or document["TrainingJobStatus"] != "InProgress":
            return
        document["TrainingJobStatus"] = "Stopping"
        move(document, "Stopping", MESSAGES["Stopping"], time.time())
    if (job := platform.jobs.get((KIND, name))) is not None:  # else it looks itself when it starts
        job.stop()


@operation
def delete_training_job(call: Call) -> Mapping[str, Any]:
    """Forget a job that has ended."""
    thing = _found(call)
    if thing.status in UNFINISHED:
        raise ValidationException(f"The training job {thing.name} is in status {thing.status}: stop it first.")
    call.platform.store.remove(KIND, thing.name)
    call.platform.store.untag(thing.document["TrainingJobArn"])
    return {}


def take_up_training_jobs(platform: Platform) -> None:
    """Go on with the jobs that ran when the platform ended: to their end, from a checkpoint, or as failed."""
    for thing in platform.store.all(KIND, statuses=UNFINISHED):
        lost = thing.document.get("_phase") == "Training" and "CheckpointConfig" not in thing.document
        TrainingJob.begin(platform, thing.name, _LOST if lost else None)


def _found(call: Call) -> Thing:
    thing = call.platform.store.get(KIND, call.request["TrainingJobName"])
    if thing is None:
        raise ValidationException("Requested resource not found.")
    return thing


def _summary(thing: Thing) -> dict[str, Any]:
    times = {"CreationTime": thing.created, "LastModifiedTime": thing.modified}
    known = {name: thing.document.get(name) for name in ("TrainingJobName", "TrainingJobArn", "TrainingEndTime")}
    return {**known, **times, "TrainingJobStatus": thing.status, "SecondaryStatus": thing.document["SecondaryStatus"]}


def _defaults(request: Mapping[str, Any]) -> dict[str, Any]:
    """What a description always has: SDKs read it without a look whether it is there."""
    return {
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": "Starting",
        "SecondaryStatusTransitions": [],
        "HyperParameters": request.get("HyperParameters", {}),
        "OutputDataConfig": {"KmsKeyId": "", "CompressionType": "GZIP", **request["OutputDataConfig"]},
        "StoppingCondition": {"MaxRuntimeInSeconds": 86400, **request.get("StoppingCondition", {})},
        **{
            name: request.get(name, False)
            for name in (
                "EnableNetworkIsolation",
                "EnableInterContainerTrafficEncryption",
                "EnableManagedSpotTraining",
            )
        },
    }
