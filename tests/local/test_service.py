"""Requests are checked against SageMaker's own description, and answers cut to it."""

from datetime import datetime, timezone
from typing import Any

import pytest

from clary.local.faults import UnknownOperationException, ValidationException
from clary.local.service import answered, checked

ROLE = "arn:aws:iam::123456789012:role/SageMaker"


def job(**fields: Any) -> dict[str, Any]:
    """A request for a training job."""
    return {
        "TrainingJobName": "a-job",
        "AlgorithmSpecification": {"TrainingImage": "kmeans:1", "TrainingInputMode": "File"},
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        **fields,
    }


def refusal(request: Any) -> str:
    """What CreateTrainingJob says to a request that is wrong."""
    with pytest.raises(ValidationException) as caught:
        checked("SageMaker.CreateTrainingJob", request)
    return str(caught.value)


def test_a_request_that_fits() -> None:
    """The operation's name comes from the target, and what shapes do not know is passed over."""
    assert checked("SageMaker.CreateTrainingJob", job(Unknown=1)) == "CreateTrainingJob"


@pytest.mark.parametrize("target", ["SageMaker.MakeCoffee", "CreateTrainingJob", "S3.CreateTrainingJob"])
def test_unknown_operations(target: str) -> None:
    """Only SageMaker's own operations are known."""
    with pytest.raises(UnknownOperationException, match="there is no operation"):
        checked(target, {})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"TrainingJobName": "a b"},
            "Value 'a b' at 'trainingJobName' failed to satisfy constraint: Member must satisfy regular expression "
            "pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}",
        ),
        ({"TrainingJobName": "a" * 64}, "Member must have length less than or equal to 63"),
        ({"RoleArn": None}, "Value null at 'roleArn' failed to satisfy constraint: Member must not be null"),
        (
            {"AlgorithmSpecification": {"TrainingInputMode": "Tape"}},
            "Value 'Tape' at 'algorithmSpecification.trainingInputMode' failed to satisfy constraint: "
            "Member must satisfy enum value set: [Pipe, File, FastFile]",
        ),
        (
            {"StoppingCondition": {"MaxRuntimeInSeconds": 0}},
            "Value '0' at 'stoppingCondition.maxRuntimeInSeconds' failed to satisfy constraint: "
            "Member must have value greater than or equal to 1",
        ),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": "60"}}, "Member must be a number"),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": True}}, "Member must be a number"),
        ({"HyperParameters": {"k": 3}}, "Value '3' at 'hyperParameters.k.member' failed"),
        ({"Tags": [{"Key": "a"}]}, "Value null at 'tags.1.member.value' failed"),
        ({"Tags": {}}, "Member must be of type list"),
        ({"ResourceConfig": "large"}, "Value 'large' at 'resourceConfig' failed"),
    ],
)
def test_refusals(fields: dict[str, Any], words: str) -> None:
    """A request that does not fit is refused in AWS's words."""
    told = refusal(job(**fields))
    assert told.startswith("1 validation error detected: ")
    assert words in told


def test_all_that_is_wrong_is_told() -> None:
    """One answer tells several violations."""
    assert refusal(job(TrainingJobName="", RoleArn=None)).startswith("3 validation errors detected: ")


@pytest.mark.parametrize("request_", [[], "text", None, 7])
def test_no_object(request_: Any) -> None:
    """The body has to be an object."""
    assert "has to be a JSON object" in refusal(request_)


def test_times_are_numbers() -> None:
    """A time is told in seconds, as the protocol has it."""
    assert checked("SageMaker.ListTrainingJobs", {"CreationTimeAfter": 1.5}) == "ListTrainingJobs"
    with pytest.raises(ValidationException, match="at 'creationTimeAfter' failed"):
        checked("SageMaker.ListTrainingJobs", {"CreationTimeAfter": "2020-01-01"})


def test_a_hostile_name_takes_no_time() -> None:
    """A name that is too long is not matched with the pattern, which could take for ever."""
    assert "length" in refusal(job(TrainingJobName="a" * 100_000 + "!"))


def test_answers() -> None:
    """Times are seconds, what the shape does not know or is not there is left out."""
    made = datetime(2026, 1, 1, tzinfo=timezone.utc)
    answer = answered("DescribeModel", {"ModelName": "m", "CreationTime": made, "_ours": 1, "PrimaryContainer": None})
    assert answer == {"ModelName": "m", "CreationTime": made.timestamp()}
