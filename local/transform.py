"""The operations of batch transform jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..containers.batch import BatchTransform
from . import job_operations
from .faults import ValidationException
from .job_thread import UNFINISHED
from .manifests import Location
from .operations import Call, operation
from .outputs import location
from .platform import Platform
from .served import containers_of
from .store import Listing, Thing
from .transform_job import KIND, TransformJob, settings_of

__all__ = ["take_up_transform_jobs"]


@operation
def create_transform_job(call: Call) -> Mapping[str, Any]:
    """Start a job; its DataCaptureConfig is kept, but captures nothing."""
    request = call.request
    model = _model(call, request["ModelName"])
    _check(request)
    document = {**request, **_defaults(request), "_model": model}
    return {"TransformJobArn": job_operations.create(call, TransformJob, request["TransformJobName"], document)}


@operation
def describe_transform_job(call: Call) -> Mapping[str, Any]:
    """What is known of a job."""
    thing = _found(call)
    return {**thing.document, "CreationTime": thing.created}


@operation
def list_transform_jobs(call: Call) -> Mapping[str, Any]:
    """The jobs there are, the newest first."""
    things, token = call.platform.store.page(KIND, Listing(call.request))
    times = ({"CreationTime": thing.created, "LastModifiedTime": thing.modified} for thing in things)
    summaries = [{**thing.document, **each} for thing, each in zip(things, times, strict=True)]
    return {"TransformJobSummaries": summaries, "NextToken": token}


@operation
def stop_transform_job(call: Call) -> Mapping[str, Any]:
    """End a job; the outputs that are complete stay."""
    job_operations.stop(call, TransformJob, _found(call))
    return {}


def take_up_transform_jobs(platform: Platform) -> None:
    """Do again what was under way when the platform ended."""
    for thing in platform.store.all(KIND, statuses=UNFINISHED):
        TransformJob.begin(platform, thing.name)


def _found(call: Call) -> Thing:
    name = call.request["TransformJobName"]
    thing = call.platform.store.get(KIND, name)
    if thing is None:
        raise ValidationException(f"Could not find requested job with name: {name}")
    return thing


def _model(call: Call, name: str) -> Mapping[str, Any]:
    """What describes a model that batch transform can use; it is kept, as the model may be deleted any time."""
    thing = call.platform.store.get("model", name)
    if thing is None:
        raise ValidationException(f'Could not find model "{call.arn("model", name)}".')
    if any(container.get("Mode") == "MultiModel" for container in containers_of(thing.document).values()):
        raise ValidationException(f"The model {name} is a multi-model one, which only endpoints can use: name another")
    if thing.document.get("InferenceExecutionConfig", {}).get("Mode") == "Direct":
        raise ValidationException(f"The containers of the model {name} are invoked directly, which only endpoints can")
    return thing.document


def _check(request: Mapping[str, Any]) -> None:
    """Refuse a job that could not run; what is said becomes a ValidationException."""
    BatchTransform(settings_of(request))
    data = request["TransformInput"]["DataSource"]["S3DataSource"]
    if data["S3DataType"] not in ("S3Prefix", "ManifestFile"):
        raise ValidationException(
            f"S3DataType {data['S3DataType']} is not for transform jobs: use S3Prefix or ManifestFile"
        )
    Location.of(data["S3Uri"])
    location(request["TransformOutput"]["S3OutputPath"])


def _defaults(request: Mapping[str, Any]) -> dict[str, Any]:
    """What a description always has: SDKs read it without a look whether it is there."""
    return {
        "TransformInput": {"CompressionType": "None", "SplitType": "None", **request["TransformInput"]},
        "TransformOutput": {"KmsKeyId": "", "AssembleWith": "None", **request["TransformOutput"]},
    }
