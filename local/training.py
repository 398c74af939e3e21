"""The operations of training jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from . import job_operations
from .checked import check_job
from .faults import ResourceLimitExceeded, ValidationException
from .job_thread import UNFINISHED
from .metric_lines import definitions_of
from .operations import Call, operation
from .platform import Platform
from .store import Listing, Thing
from .training_job import KIND, TrainingJob, container_of

__all__ = ["create", "take_up_training_jobs"]

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
    document = {**request, **fields, **_defaults(request)}
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
    return job_operations.create(call, TrainingJob, request["TrainingJobName"], document, parent=parent)


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
    job_operations.stop(call, TrainingJob, _found(call))
    return {}


@operation
def delete_training_job(call: Call) -> Mapping[str, Any]:
    """Forget a job that has ended."""
    job_operations.delete(call, TrainingJob, _found(call))
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
