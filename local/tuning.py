"""The operations of hyperparameter tuning jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from . import job_operations
from .faults import ResourceNotFound
from .job_thread import UNFINISHED
from .operations import Call, operation
from .platform import Platform
from .store import Listing, Thing, start_of, token_of
from .tuning_checks import complete
from .tuning_job import KIND, TuningJob
from .tuning_results import Result, best, converged, counters, not_improving, results_of

__all__ = ["take_up_tuning_jobs"]

_PAGE: Final = 10  # summaries of an answer where nothing else is asked for


@operation
def create_hyper_parameter_tuning_job(call: Call) -> Mapping[str, Any]:
    """Start a job."""
    name = call.request["HyperParameterTuningJobName"]
    return {"HyperParameterTuningJobArn": job_operations.create(call, TuningJob, name, complete(call))}


@operation
def describe_hyper_parameter_tuning_job(call: Call) -> Mapping[str, Any]:
    """What is known of a job."""
    thing = _found(call)
    results = results_of(call.platform, thing)
    found = best(results)
    overall = best([*results, *_parents(call, thing)]) if _adds_up(thing) else None
    end = thing.document.get("HyperParameterTuningEndTime")
    return {
        **_with_resources(thing.document),
        **counters(results),
        "CreationTime": thing.created,
        "LastModifiedTime": thing.modified,
        "BestTrainingJob": found and found.summary(),
        "OverallBestTrainingJob": overall and overall.summary(),
        "TuningJobCompletionDetails": {
            "NumberOfTrainingJobsObjectiveNotImproving": not_improving(results),
            "ConvergenceDetectedTime": converged(results),
        },
        "ConsumedResources": {"RuntimeInSeconds": int(end - thing.created)} if end else None,
    }


@operation
def list_hyper_parameter_tuning_jobs(call: Call) -> Mapping[str, Any]:
    """The jobs there are, by name."""
    request = {"SortBy": "Name", **call.request}
    things, token = call.platform.store.page(KIND, Listing(request, newest_first=False))
    return {"HyperParameterTuningJobSummaries": [_summary(call, thing) for thing in things], "NextToken": token}


@operation
def stop_hyper_parameter_tuning_job(call: Call) -> Mapping[str, Any]:
    """End a job with the best so far."""
    job_operations.stop(call, TuningJob, _found(call))
    return {}


@operation
def delete_hyper_parameter_tuning_job(call: Call) -> Mapping[str, Any]:
    """Forget a job that has ended; its training jobs stay."""
    job_operations.delete(call, TuningJob, _found(call))
    return {}


@operation
def list_training_jobs_for_hyper_parameter_tuning_job(call: Call) -> Mapping[str, Any]:
    """The training jobs of a job, by name."""
    asked = call.request
    by = asked.get("SortBy", "Name")
    found = results_of(call.platform, _found(call))
    if status := asked.get("StatusEquals"):
        found = [result for result in found if result.thing.status == status]
    if by == "FinalObjectiveMetricValue":  # AWS leaves the others out, too
        found = [result for result in found if result.value is not None]
    found.sort(key=_ORDERS[by], reverse=asked.get("SortOrder") == "Descending")
    start, count = start_of(asked.get("NextToken")), asked.get("MaxResults", _PAGE)
    return {
        "TrainingJobSummaries": [result.summary() for result in found[start : start + count]],
        "NextToken": token_of(start + count) if start + count < len(found) else None,
    }


def take_up_tuning_jobs(platform: Platform) -> None:
    """Go on with the jobs that ran when the platform ended; their training jobs have to be taken up before."""
    for thing in platform.store.all(KIND, statuses=UNFINISHED):
        TuningJob.begin(platform, thing.name)


def _found(call: Call) -> Thing:
    name = call.request["HyperParameterTuningJobName"]
    thing = call.platform.store.get(KIND, name)
    if thing is None:
        raise ResourceNotFound(f"Amazon SageMaker can't find a tuning job with the name {name}")
    return thing


def _with_resources(document: Mapping[str, Any]) -> dict[str, Any]:
    """A job whose definitions all have a ResourceConfig: the SageMaker SDK attaches to no other."""
    found = dict(document)
    if one := document.get("TrainingJobDefinition"):
        found["TrainingJobDefinition"] = _with_resource(one)
    if several := document.get("TrainingJobDefinitions"):
        found["TrainingJobDefinitions"] = [_with_resource(one) for one in several]
    return found


def _with_resource(definition: Mapping[str, Any]) -> Mapping[str, Any]:
    config = definition.get("HyperParameterTuningResourceConfig")
    if not config:
        return definition
    one = next(iter(config.get("InstanceConfigs", ())), config)
    resource = {name: one[name] for name in ("InstanceType", "InstanceCount", "VolumeSizeInGB") if name in one}
    return {"ResourceConfig": resource, **definition}


def _adds_up(thing: Thing) -> bool:
    """Whether results of the jobs that it started from compare with its own."""
    kind: str = thing.document.get("WarmStartConfig", {}).get("WarmStartType", "")
    return kind == "IdenticalDataAndAlgorithm"


def _parents(call: Call, thing: Thing) -> Sequence[Result]:
    """The training jobs of the jobs that it started from."""
    names = [one["HyperParameterTuningJobName"] for one in thing.document["WarmStartConfig"][_PARENTS]]
    found = (call.platform.store.get(KIND, name) for name in names)
    return [result for parent in found if parent is not None for result in results_of(call.platform, parent)]


_PARENTS: Final = "ParentHyperParameterTuningJobs"


def _summary(call: Call, thing: Thing) -> dict[str, Any]:
    config = thing.document["HyperParameterTuningJobConfig"]
    return {
        **thing.document,
        **counters(results_of(call.platform, thing)),
        "Strategy": config["Strategy"],
        "ResourceLimits": config["ResourceLimits"],
        "CreationTime": thing.created,
        "LastModifiedTime": thing.modified,
    }


_ORDERS: Final[Mapping[str, Callable[[Result], Any]]] = {
    "Name": lambda result: result.thing.name,
    "CreationTime": lambda result: (result.thing.created, result.thing.name),
    "Status": lambda result: (result.thing.status, result.thing.name),
    "FinalObjectiveMetricValue": lambda result: result.value,
}
