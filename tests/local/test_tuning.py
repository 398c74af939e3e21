"""Tuning jobs, asked for by boto3 as on AWS, really search."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from clary.local.store import Thing
from clary.local.tuning_results import Result, converged, not_improving

from .up import IMAGE, ROLE, Up, channel, put_rows, until

EPOCHS = {"Name": "epochs", "MinValue": "1", "MaxValue": "4"}
WORDS = {"Name": "init_method", "Values": ["random", "kmeans++"]}
BATCHES = {"IntegerParameterRanges": [{"Name": "mini_batch_size", "MinValue": "20", "MaxValue": "1000"}]}
FOUR = {"CategoricalParameterRanges": [{"Name": "epochs", "Values": [*"1234"]}]}
DIM = {"feature_dim": "3"}
ENDLESS = {"k": "2", "feature_dim": "3", "epochs": "1000000"}
MSD = {"Type": "Minimize", "MetricName": "train:msd"}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A platform with rows in S3."""
    platform = Up(tmp_path_factory.mktemp("up") / "state")
    put_rows(platform)
    yield platform
    platform.stop()


@pytest.fixture(scope="module")
def client(up: Up) -> Any:
    """A client of SageMaker."""
    return up.client("sagemaker")


def definition(**fields: Any) -> dict[str, Any]:
    """A definition of training jobs of k-means; its own field `static` holds their hyperparameters."""
    return {
        "StaticHyperParameters": fields.pop("static", {"k": "2", "feature_dim": "3"}),
        "AlgorithmSpecification": {"TrainingImage": IMAGE("kmeans"), "TrainingInputMode": "File"},
        "RoleArn": ROLE,
        "InputDataConfig": [channel("s3://bucket/in/")],
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        **fields,
    }


def tuning(
    name: str,
    strategy: str = "Random",
    *,
    jobs: int | None = 2,
    parallel: int = 1,
    ranges: Mapping[str, Any] | None = None,
    one: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """A request for a tuning job."""
    limits: dict[str, Any] = {"MaxParallelTrainingJobs": parallel}
    if jobs is not None:
        limits["MaxNumberOfTrainingJobs"] = jobs
    given = {
        "Strategy": strategy,
        "HyperParameterTuningJobObjective": MSD,
        "ResourceLimits": limits,
        "ParameterRanges": ranges or {"IntegerParameterRanges": [EPOCHS], "CategoricalParameterRanges": [WORDS]},
        "RandomSeed": 3,
        **(config or {}),
    }
    return {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": given,
        "TrainingJobDefinition": one or definition(),
        **fields,
    }


def described(client: Any, name: str) -> dict[str, Any]:
    """A tuning job as it is."""
    found: dict[str, Any] = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    return found


def ended(client: Any, name: str) -> dict[str, Any]:
    """A tuning job that has ended."""

    def done() -> dict[str, Any] | None:
        found = described(client, name)
        return None if found["HyperParameterTuningJobStatus"] in ("InProgress", "Stopping") else found

    found: dict[str, Any] = until(done)
    return found


def tuned(client: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """The end of a tuning job."""
    client.create_hyper_parameter_tuning_job(**request)
    found = ended(client, request["HyperParameterTuningJobName"])
    assert found["HyperParameterTuningJobStatus"] == "Completed", found.get("FailureReason")
    return found


def listed(client: Any, name: str, **asked: Any) -> list[dict[str, Any]]:
    """The summaries of its training jobs."""
    found: list[dict[str, Any]] = client.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name, **{"MaxResults": 100, **asked}
    )["TrainingJobSummaries"]
    return found


def value(summary: Mapping[str, Any]) -> float:
    """The objective in a summary."""
    found: float = summary["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
    return found


def refused(client: Any, request: Mapping[str, Any]) -> tuple[str, str]:
    """Code and message of the answer to a job that is refused."""
    with pytest.raises(ClientError) as caught:
        client.create_hyper_parameter_tuning_job(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_random(client: Any) -> None:
    """Two jobs at a time train by what was drawn; the best is the best of all; the description is as AWS has it."""
    one = definition(CheckpointConfig={"S3Uri": "s3://bucket/checks/"})
    request = tuning("random", jobs=4, parallel=2, one=one, Tags=[{"Key": "team", "Value": "a"}])
    arn = client.create_hyper_parameter_tuning_job(**request)["HyperParameterTuningJobArn"]
    assert arn == "arn:aws:sagemaker:us-east-1:123456789012:hyper-parameter-tuning-job/random"
    most = 0
    while described(client, "random")["HyperParameterTuningJobStatus"] == "InProgress":
        counts = described(client, "random")["TrainingJobStatusCounters"]
        most = max(most, counts["InProgress"])
    assert most == 2
    found = ended(client, "random")
    none = {"InProgress": 0, "RetryableError": 0, "NonRetryableError": 0, "Stopped": 0}
    assert found["TrainingJobStatusCounters"] == {"Completed": 4, **none}
    assert found["ObjectiveStatusCounters"] == {"Succeeded": 4, "Pending": 0, "Failed": 0}
    assert found["CreationTime"] < found["HyperParameterTuningEndTime"]
    assert found["TrainingJobDefinition"]["StaticHyperParameters"]["_tuning_objective_metric"] == "train:msd"
    scaled = [{**EPOCHS, "ScalingType": "Auto"}]
    ranges = {"IntegerParameterRanges": scaled, "ContinuousParameterRanges": [], "CategoricalParameterRanges": [WORDS]}
    assert found["HyperParameterTuningJobConfig"]["ParameterRanges"] == ranges
    jobs = listed(client, "random")
    assert found["BestTrainingJob"] in jobs
    assert value(found["BestTrainingJob"]) == min(map(value, jobs))
    assert all(re.fullmatch(rf"random-00{n}-[0-9a-f]{{8}}", job["TrainingJobName"]) for n, job in enumerate(jobs, 1))
    job = client.describe_training_job(TrainingJobName=jobs[0]["TrainingJobName"])
    assert job["TuningJobArn"] == arn
    assert job["CheckpointConfig"]["S3Uri"] == f"s3://bucket/checks/{job['TrainingJobName']}"
    own = {"k": "2", "feature_dim": "3", "_tuning_objective_metric": "train:msd"}
    assert job["HyperParameters"] == {**own, **jobs[0]["TunedHyperParameters"]}
    assert job["AlgorithmSpecification"]["MetricDefinitions"][-1] == {
        "Name": "ObjectiveMetric",
        "Regex": job["AlgorithmSpecification"]["MetricDefinitions"][0]["Regex"],
    }
    assert job["ModelArtifacts"]["S3ModelArtifacts"]
    for thing in (arn, job["TrainingJobArn"]):
        assert client.list_tags(ResourceArn=thing)["Tags"] == [{"Key": "team", "Value": "a"}]


def test_lists(client: Any) -> None:
    """Training jobs are sorted, chosen by status and paged; tuning jobs too."""
    tuned(client, tuning("lists", jobs=3, parallel=3))
    falling = listed(client, "lists", SortBy="FinalObjectiveMetricValue", SortOrder="Descending")
    assert [*map(value, falling)] == sorted(map(value, falling), reverse=True)
    assert len(listed(client, "lists", StatusEquals="Completed")) == 3
    assert listed(client, "lists", StatusEquals="Failed") == []
    pages = client.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job").paginate(
        HyperParameterTuningJobName="lists", SortBy="CreationTime", SortOrder="Descending", MaxResults=2
    )
    names = [[job["TrainingJobName"] for job in page["TrainingJobSummaries"]] for page in pages]
    assert [len(page) for page in names] == [2, 1]
    assert [name[:9] for page in names for name in page] == ["lists-003", "lists-002", "lists-001"]
    summaries = client.list_hyper_parameter_tuning_jobs(NameContains="lists")["HyperParameterTuningJobSummaries"]
    assert [summary["HyperParameterTuningJobName"] for summary in summaries] == ["lists"]
    assert summaries[0]["TrainingJobStatusCounters"]["Completed"] == 3


def test_grid(client: Any) -> None:
    """All combinations are tried, each once; their number need not be told."""
    ranges = {"CategoricalParameterRanges": [WORDS, {"Name": "k", "Values": ["2", "3"]}]}
    found = tuned(client, tuning("grid", "Grid", jobs=None, parallel=4, ranges=ranges, one=definition(static=DIM)))
    assert found["HyperParameterTuningJobConfig"]["ResourceLimits"]["MaxNumberOfTrainingJobs"] == 4
    tried = [tuple(job["TunedHyperParameters"].values()) for job in listed(client, "grid")]
    assert tried == [(method, k) for method in WORDS["Values"] for k in "23"]
    assert found["BestTrainingJob"]["TunedHyperParameters"]["k"] == "3"


def test_bayesian_and_its_seed(client: Any) -> None:
    """With the same seed and one job at a time, the same hyperparameters are tried."""
    for name in ("first", "second"):
        tuned(client, tuning(name, "Bayesian", ranges=BATCHES))
    first, second = ([job["TunedHyperParameters"] for job in listed(client, name)] for name in ("first", "second"))
    assert first == second
    assert len({job["mini_batch_size"] for job in first}) == 2


def test_several_definitions(client: Any) -> None:
    """Each definition has its own algorithm settings, objective and ranges; all are compared."""
    several = [
        definition(
            DefinitionName=f"k{k}",
            TuningObjective=MSD,
            HyperParameterRanges={"CategoricalParameterRanges": [WORDS]},
            static={"k": k, "feature_dim": "3"},
        )
        for k in "24"
    ]
    several[1]["HyperParameterTuningResourceConfig"] = {"InstanceConfigs": [several[1].pop("ResourceConfig")]}
    request = tuning("several", jobs=4, parallel=4, TrainingJobDefinitions=several)
    del request["TrainingJobDefinition"]
    for field in ("HyperParameterTuningJobObjective", "ParameterRanges"):
        del request["HyperParameterTuningJobConfig"][field]
    found = tuned(client, request)
    assert [job["TrainingJobDefinitionName"] for job in listed(client, "several")] == ["k2", "k4", "k2", "k4"]
    assert found["BestTrainingJob"]["TrainingJobDefinitionName"] == "k4"
    first, second = (one["ResourceConfig"] for one in found["TrainingJobDefinitions"])
    assert first == second  # told of every definition, as the SageMaker SDK attaches to no other


def test_warm_start(client: Any) -> None:
    """A job that starts from another counts its results where data and algorithm are the same."""
    tuned(client, tuning("parent", jobs=2, parallel=2))
    parents = [{"HyperParameterTuningJobName": "parent"}]
    warm = {"ParentHyperParameterTuningJobs": parents, "WarmStartType": "IdenticalDataAndAlgorithm"}
    child = tuning("child", "Bayesian", jobs=1, WarmStartConfig=warm)
    found = tuned(client, child)
    everything = listed(client, "parent") + listed(client, "child")
    assert value(found["OverallBestTrainingJob"]) == min(map(value, everything))
    assert found["BestTrainingJob"] == listed(client, "child")[0]
    other = definition(InputDataConfig=[channel("s3://bucket/other/")])
    assert "InputDataConfig" in refused(client, {**child, "TrainingJobDefinition": other})[1]
    parents[0]["HyperParameterTuningJobName"] = "nobody"
    assert "no tuning job 'nobody'" in refused(client, child)[1]


def test_target(client: Any) -> None:
    """A job ends as soon as its objective is good enough."""
    criteria = {"TuningJobCompletionCriteria": {"TargetObjectiveMetricValue": 1e9}}
    found = tuned(client, tuning("target", jobs=50, config=criteria))
    assert found["TrainingJobStatusCounters"]["Completed"] == 1
    assert found["TuningJobCompletionDetails"]["NumberOfTrainingJobsObjectiveNotImproving"] == 0


def test_not_improving(client: Any) -> None:
    """A job ends when nothing better was found for a while."""
    ranges = {"CategoricalParameterRanges": [{"Name": "init_method", "Values": ["random"]}]}
    rule = {"BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": 3}}
    config = {"TuningJobCompletionCriteria": rule}
    found = tuned(client, tuning("same", jobs=50, parallel=2, ranges=ranges, config=config))
    assert 4 <= sum(found["TrainingJobStatusCounters"].values()) <= 6


def test_stop(client: Any) -> None:
    """Stopping a job stops its training jobs; then it may be deleted."""
    request = tuning("stop", jobs=10, parallel=2, ranges=BATCHES, one=definition(static=ENDLESS))
    client.create_hyper_parameter_tuning_job(**request)
    until(lambda: [job.get("TrainingStartTime") for job in listed(client, "stop")].count(None) == 0)
    names = {"HyperParameterTuningJobName": "stop"}
    with pytest.raises(ClientError, match="stop it first"):
        client.delete_hyper_parameter_tuning_job(**names)
    client.stop_hyper_parameter_tuning_job(**names)
    found = ended(client, "stop")
    assert found["HyperParameterTuningJobStatus"] == "Stopped"
    assert found["TrainingJobStatusCounters"]["Stopped"] == 2
    with pytest.raises(ClientError, match="is in status Stopped"):
        client.stop_hyper_parameter_tuning_job(**names)
    client.delete_hyper_parameter_tuning_job(**names)
    with pytest.raises(ClientError, match="can't find a tuning job") as caught:
        described(client, "stop")
    assert caught.value.response["Error"]["Code"] == "ResourceNotFound"


def boosting(up: Up) -> dict[str, Any]:
    """A definition of training jobs that end soon with a large eta, and never with a small one."""
    rows = "".join(f"{i % 7 * 2 + i % 5},{i % 7},{i % 5}\n" for i in range(300))
    up.client("s3").put_object(Bucket="bucket", Key="boosting/rows.csv", Body=rows.encode())
    channels = [channel("s3://bucket/boosting/", name, content_type="text/csv") for name in ("train", "validation")]
    one = definition(static={"num_round": "1000000", "early_stopping_rounds": "3"}, InputDataConfig=channels)
    image = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
    one["AlgorithmSpecification"]["TrainingImage"] = image
    return one


def etas(*values: str) -> dict[str, Any]:
    """Ranges with a choice of eta."""
    return {"CategoricalParameterRanges": [{"Name": "eta", "Values": values}]}


def tried(jobs: Sequence[Mapping[str, Any]], status: str) -> list[str]:
    """The eta of each job in a status."""
    return [job["TunedHyperParameters"]["eta"] for job in jobs if job["TrainingJobStatus"] == status]


RMSE = {"HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "validation:rmse"}}
ENDLESS_ETA = "0.00003"


def test_hyperband(up: Up, client: Any) -> None:
    """Jobs that are worse than others after as many rounds are stopped, and the best goes on to its end."""
    strategy = {"StrategyConfig": {"HyperbandStrategyConfig": {"MinResource": 1, "MaxResource": 3}}, "RandomSeed": 2}
    config = {**strategy, **RMSE}
    ranges = etas("0.9", ENDLESS_ETA)  # that seed draws a good one first
    found = tuned(client, tuning("hyperband", "Hyperband", ranges=ranges, config=config, one=boosting(up)))
    jobs = listed(client, "hyperband")
    assert set(tried(jobs, "Stopped")) == {ENDLESS_ETA}
    assert set(tried(jobs, "Completed")) == {"0.9"}
    assert found["ObjectiveStatusCounters"]["Succeeded"] == 2


def test_early_stopping(up: Up, client: Any) -> None:
    """A job that does worse than the median of those before it is stopped."""
    ranges = etas("0.9", "0.8", "0.7", ENDLESS_ETA)
    config = {"TrainingJobEarlyStoppingType": "Auto", **RMSE}
    tuned(client, tuning("early", "Grid", jobs=None, ranges=ranges, config=config, one=boosting(up)))
    assert ENDLESS_ETA in tried(listed(client, "early"), "Stopped")


def test_failures(client: Any) -> None:
    """A failed training job is counted; when all fail, so does the tuning job, and says why."""
    ranges = {"CategoricalParameterRanges": [{"Name": "k", "Values": ["2", "1000"]}]}
    found = tuned(client, tuning("some", "Grid", jobs=2, parallel=2, ranges=ranges, one=definition(static=DIM)))
    assert found["TrainingJobStatusCounters"]["NonRetryableError"] == 1
    assert found["ObjectiveStatusCounters"] == {"Succeeded": 1, "Pending": 0, "Failed": 1}
    assert found["BestTrainingJob"]["TunedHyperParameters"] == {"k": "2"}
    request = tuning("all", jobs=20, parallel=3, one=definition(static={"k": "2", "feature_dim": "4"}))
    client.create_hyper_parameter_tuning_job(**request)
    found = ended(client, "all")
    assert found["HyperParameterTuningJobStatus"] == "Failed"
    assert "No training job succeeded after" in found["FailureReason"]
    assert "ClientError" in found["FailureReason"]
    assert "BestTrainingJob" not in found
    assert sum(found["TrainingJobStatusCounters"].values()) < 20


def test_restart(tmp_path: Path) -> None:
    """A platform that is killed leaves no tuning job stuck: the next one goes on with it, and with its own numbers."""
    up = Up(tmp_path / "state")
    try:
        put_rows(up)
        client = up.client("sagemaker")
        client.create_hyper_parameter_tuning_job(**tuning("kept", "Grid", jobs=None, ranges=FOUR))
        until(lambda: described(client, "kept")["TrainingJobStatusCounters"]["Completed"] == 1)
        client.create_hyper_parameter_tuning_job(**tuning("ending", one=definition(static=ENDLESS), ranges=BATCHES))
        client.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="ending")
        up.restart()
        client = up.client("sagemaker")
        assert ended(client, "ending")["HyperParameterTuningJobStatus"] == "Stopped"
        found = ended(client, "kept")
        assert found["HyperParameterTuningJobStatus"] == "Completed"
        epochs = [job["TunedHyperParameters"]["epochs"] for job in listed(client, "kept")]
        assert epochs == [*"1234"]
        assert found["TrainingJobStatusCounters"]["Completed"] >= 3
    finally:
        up.stop()


def results(*losses: float) -> list[Result]:
    """Training jobs with these values, which ended one after the other."""
    found = []
    for number, loss in enumerate(losses, 1):
        document = {
            "FinalMetricDataList": [{"MetricName": "ObjectiveMetric", "Value": loss}],
            "TrainingEndTime": float(number),
            "_objective": MSD,
            "_number": number,
        }
        found.append(Result(Thing("training-job", f"job-{number}", "Completed", "tuning", 0.0, 0.0, document)))
    return found


def test_progress() -> None:
    """How long nothing better was found is counted; a search has converged when ten jobs in a row bring nothing."""
    assert not_improving(results(3.0, 1.0, 2.0, 2.0)) == 2
    assert not_improving([]) == 0
    assert not_improving(results(3.0, math.nan, 2.0)) == 0
    falling = [100.0 / count for count in range(1, 11)]
    assert converged(results(*falling, *[50.0] * 9)) is None
    assert converged(results(*falling, *[50.0] * 12)) == 20.0
    assert converged(results(*(100.0 - count for count in range(40)))) is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"strategy": "Grid"}, "Grid is for CategoricalParameterRanges alone: epochs"),
        ({"strategy": "Grid", "ranges": FOUR, "jobs": 5}, "number of all combinations, 4, got 5"),
        (
            {"strategy": "Hyperband", "ranges": {"CategoricalParameterRanges": [WORDS]}},
            "needs HyperbandStrategyConfig.MaxResource",
        ),
        ({"strategy": "Hyperband", "config": {"TrainingJobEarlyStoppingType": "Auto"}}, "must be Off"),
        ({"config": {"HyperParameterTuningJobObjective": {**MSD, "Type": "Maximize"}}}, r"\[Maximize\].*\[train:msd\]"),
        (
            {"config": {"HyperParameterTuningJobObjective": {**MSD, "MetricName": "loss"}}},
            r"\[loss\], isn't valid for the \[kmeans\] algorithm.*train:msd, test:msd",
        ),
        ({"ranges": {"IntegerParameterRanges": [{**EPOCHS, "Name": "k"}]}}, "both static and tuned: k"),
        ({"ranges": {"IntegerParameterRanges": [{**EPOCHS, "Name": "kk"}]}}, "no hyperparameter 'kk'"),
        ({"ranges": {"IntegerParameterRanges": [{**EPOCHS, "MinValue": "0"}]}}, "holds '0': kmeans takes for it"),
        ({"ranges": {"ContinuousParameterRanges": [EPOCHS]}}, "use IntegerParameterRanges"),
        ({"Autotune": {"Mode": "Enabled"}}, "Autotune is not supported here"),
        ({"TrainingJobDefinitions": [definition()]}, "either TrainingJobDefinition or"),
        ({"one": {k: v for k, v in definition().items() if k != "ResourceConfig"}}, "Give either ResourceConfig"),
    ],
)
def test_refusals(client: Any, changes: dict[str, Any], told: str) -> None:
    """A job that could not run is refused, and the answer says what to write instead."""
    code, message = refused(client, tuning("refused", **changes))
    assert code == "ValidationException"
    assert re.search(told, message), message


def test_other_refusals(client: Any) -> None:
    """A name that is taken, and more than may run at a time, have codes of their own."""
    tuned(client, tuning("taken", jobs=1))
    assert refused(client, tuning("taken", jobs=1))[0] == "ResourceInUse"
    assert refused(client, tuning("much", jobs=1000))[0] == "ResourceLimitExceeded"
