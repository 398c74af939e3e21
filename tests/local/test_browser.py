"""The page in a browser, before a platform that trains, serves and tunes."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .browser import Browser, Tab, find_chromium
from .up import IMAGE, ROLE, Up, channel, ended, job, put_rows, until

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no browser here: install Debian's package chromium")

HOSTILE = "<img src=x onerror=alert(1)>"
ROWS = channel("s3://bucket/in/")
LABELLED = {"content_type": "text/csv"}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A platform with jobs that have ended: one well, one with curves, one hostile."""
    platform = Up(tmp_path_factory.mktemp("up") / "state")
    put_rows(platform)
    client = platform.client("sagemaker")
    secret = {"TOKEN": "hidden-value"}
    client.create_training_job(**job("groups", ROWS, Environment=secret))
    regression = {"predictor_type": "regressor", "epochs": "6", "mini_batch_size": "20", "feature_dim": "2"}
    channels = [channel("s3://bucket/in/", name, **LABELLED) for name in ("train", "validation")]
    client.create_training_job(
        **job("curves", *channels, image=IMAGE("linear-learner"), HyperParameters=regression),
    )
    client.create_training_job(**job("hostile", ROWS, HyperParameters={"k": HOSTILE, "feature_dim": "3"}))
    assert [ended(platform, name)["TrainingJobStatus"] for name in ("groups", "curves", "hostile")] == [
        "Completed",
        "Completed",
        "Failed",
    ]
    yield platform
    platform.stop()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser with nothing in it."""
    program = find_chromium()
    assert program is not None
    opened = Browser(program, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where pictures go: the folder that ``CLARY_SCREENSHOTS`` names, or one for the test."""
    folder = Path(os.environ.get("CLARY_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def opened(browser: Browser, up: Up, place: str = "", **size: Any) -> Tab:
    """A tab at a place of the page."""
    tab = browser.tab(**size)
    tab.open(f"{up.address.url}/#/{place}")
    return tab


def check_picture(picture: bytes, width: int) -> None:
    """It is a PNG of some size that shows more than one colour."""
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    wide, high = struct.unpack(">II", picture[16:24])
    assert wide == width
    assert high >= 400
    assert len(picture) > 10_000


def test_from_the_overview_to_a_job(browser: Browser, up: Up, pictures: Path) -> None:
    """A job is found in the overview; its own place has hyperparameters, transitions, curves and log lines."""
    tab = opened(browser, up)
    tab.wait_text("State folder")
    tab.wait_text(str(up.folder))
    check_picture(tab.screenshot(pictures / "overview.png"), 1200)
    tab.click("main a", "curves")
    tab.wait_text("mini_batch_size")
    assert tab.evaluate("location.hash") == "#/training/curves"
    for text in ("Completed", "regressor", "Uploading generated training model", "s3://bucket/out/curves/output/"):
        tab.wait_text(text)
    tab.wait("document.querySelector('.log').textContent.includes('Docker entrypoint called')")
    path = tab.evaluate("document.querySelector('.chart path.curve').getAttribute('d')")
    assert path.count(",") >= 2
    assert "NaN" not in path
    assert "objective_loss" in tab.evaluate("document.querySelector('svg.chart').getAttribute('aria-label')")
    assert tab.evaluate("document.querySelectorAll('svg.chart text').length") >= 4
    check_picture(tab.screenshot(pictures / "job.png"), 1200)
    tab.call("Page.reload")
    tab.wait_text("mini_batch_size")
    assert tab.problems() == []


def test_dark_and_narrow(browser: Browser, up: Up, pictures: Path) -> None:
    """On a dark screen of 400 points everything has its place, with nothing beside it."""
    tab = opened(browser, up, "training/curves", width=400, dark=True)
    tab.wait_text("mini_batch_size")
    assert tab.evaluate("document.documentElement.scrollWidth") == 400
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 28)"
    check_picture(tab.screenshot(pictures / "job-narrow-dark.png"), 400)
    assert tab.problems() == []


def test_hostile_texts_are_texts(browser: Browser, up: Up) -> None:
    """Markup in a hyperparameter and in a failure reason is shown as it was written, and runs nothing."""
    tab = opened(browser, up, "training/hostile")
    tab.wait_text("Failure reason")
    assert HOSTILE in tab.evaluate("document.querySelector('.failure').textContent")
    assert HOSTILE in tab.evaluate("document.querySelector('td.value + td, td.value').closest('table').textContent")
    tab.wait("document.querySelector('.log').textContent.includes('onerror')")
    assert tab.evaluate("document.querySelectorAll('main img').length") == 0
    tab.open(f"{up.address.url}/#/training/{HOSTILE}%")
    tab.wait_text("there is no training-job")
    assert tab.evaluate("document.querySelectorAll('main img').length") == 0
    assert [each for each in tab.problems() if "404" not in each] == []


def test_secrets_are_not_shown(browser: Browser, up: Up) -> None:
    """Of the environment of a job the names can be read, the values nowhere."""
    tab = opened(browser, up, "training/groups")
    tab.wait_text("TOKEN (values are not shown)")
    assert "hidden-value" not in tab.evaluate("document.documentElement.outerHTML")


def test_search(browser: Browser, up: Up) -> None:
    """A list is searched while one types, and what was typed stays."""
    tab = opened(browser, up, "training")
    tab.wait_text("groups")
    tab.fill("input[type=search]", "host")
    tab.wait("document.querySelectorAll('tbody tr').length === 1")
    tab.wait_text("hostile")
    assert tab.evaluate("document.querySelector('input').value") == "host"


def test_running_job_is_followed_and_stopped(browser: Browser, up: Up) -> None:
    """The log of a job that runs grows by itself; the button stops the job, once its user agrees."""
    client = up.client("sagemaker")
    endless = {"k": "2", "feature_dim": "3", "epochs": "10000000"}
    client.create_training_job(**job("endless", ROWS, HyperParameters=endless))
    tab = opened(browser, up, "training/endless")
    tab.wait_text("Training in progress")
    count = "document.querySelectorAll('.log div').length"
    lines = tab.wait(count)
    assert tab.problems() == []
    tab.click("button.danger", "Stop")
    tab.wait_text("Stopped")
    assert tab.wait(count) >= lines
    assert ended(up, "endless")["TrainingJobStatus"] == "Stopped"
    (asked,) = tab.problems()
    assert "Stop endless?" in asked


@pytest.fixture(scope="module")
def model(up: Up) -> str:
    """Name of a model."""
    container = {"Image": IMAGE("kmeans"), "ModelDataUrl": ended(up, "groups")["ModelArtifacts"]["S3ModelArtifacts"]}
    up.client("sagemaker").create_model(ModelName="the-model", ExecutionRoleArn=ROLE, PrimaryContainer=container)
    return "the-model"


def test_transform(browser: Browser, up: Up, model: str) -> None:
    """A transform job has its place, with what it reads, and its log."""
    client = up.client("sagemaker")
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/in/"}}
    client.create_transform_job(
        TransformJobName="the-transform",
        ModelName=model,
        TransformInput={"DataSource": source, "ContentType": "text/csv", "SplitType": "Line"},
        TransformOutput={"S3OutputPath": "s3://bucket/predictions"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    tab = opened(browser, up, "transform")
    tab.click("main a", "the-transform")
    for text in ("Completed", "the-model", "s3://bucket/in/", "s3://bucket/predictions", "Docker entrypoint called"):
        tab.wait_text(text)
    assert tab.problems() == []


def test_try_it(browser: Browser, up: Up, model: str, pictures: Path) -> None:
    """An endpoint shows its variants and models; the form gives a prediction, with status and latency."""
    client = up.client("sagemaker")
    variants = [
        {"VariantName": name, "ModelName": model, "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
        for name in ("blue", "green")
    ]
    client.create_endpoint_config(EndpointConfigName="the-config", ProductionVariants=variants)
    client.create_endpoint(EndpointName="the-endpoint", EndpointConfigName="the-config")
    until(lambda: client.describe_endpoint(EndpointName="the-endpoint")["EndpointStatus"] == "InService")
    tab = opened(browser, up, "endpoints/the-endpoint")
    for text in ("InService", "the-config", "the-model", "blue", "green"):
        tab.wait_text(text)
    tab.fill("textarea", "10,0.2,1")
    tab.evaluate("document.querySelector('select[name=variant]').value = 'green'")
    tab.click("button.primary", "Predict")
    tab.wait_text("closest_cluster")
    answer = tab.evaluate("document.querySelector('#answer').innerText")
    assert "200" in answer
    assert " ms" in answer
    assert "green" in answer
    assert tab.problems() == []
    check_picture(tab.screenshot(pictures / "endpoint.png"), 1200)
    tab.fill("textarea", HOSTILE)
    tab.click("button.primary", "Predict")
    tab.wait("document.querySelector('#answer .badge.bad') !== null")
    assert tab.evaluate("document.querySelectorAll('main img').length") == 0
    client.delete_endpoint(EndpointName="the-endpoint")


def test_tuning(browser: Browser, up: Up, pictures: Path) -> None:
    """A tuning job has a table that can be sorted, with the best marked, and a scatter that leads to jobs."""
    client = up.client("sagemaker")
    definition = job("", ROWS, channel("s3://bucket/in/", "test"))
    del definition["TrainingJobName"], definition["HyperParameters"]
    definition["StaticHyperParameters"] = {"feature_dim": "3"}
    client.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="tuned",
        HyperParameterTuningJobConfig={
            "Strategy": "Grid",
            "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "test:msd"},
            "ResourceLimits": {"MaxParallelTrainingJobs": 3},
            "ParameterRanges": {"CategoricalParameterRanges": [{"Name": "k", "Values": ["2", "3", "4"]}]},
        },
        TrainingJobDefinition=definition,
    )

    def done() -> bool:
        found = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="tuned")
        status: str = found["HyperParameterTuningJobStatus"]
        return status == "Completed"

    until(done)
    tab = opened(browser, up, "tuning/tuned")
    tab.wait_text("best")
    assert tab.evaluate("document.querySelectorAll('tbody tr').length") == 3
    assert tab.evaluate("document.querySelectorAll('.scatter circle').length") == 3
    tab.click("button.sort", "Objective")
    tab.wait("document.querySelector('tbody tr').className === 'best-row'")
    assert tab.evaluate("document.querySelector('th[aria-sort=ascending]').textContent").startswith("Objective")
    tab.click("button.sort", "Objective")
    tab.wait("document.querySelector('tbody tr:last-child').className === 'best-row'")
    check_picture(tab.screenshot(pictures / "tuning.png"), 1200)
    tab.click(".scatter a.best circle")
    tab.wait("location.hash.startsWith('#/training/tuned')")
    tab.wait_text("Hyperparameters")
    assert tab.problems() == []


def test_platform_that_is_gone(browser: Browser, tmp_path: Path) -> None:
    """The page says when nobody answers any more."""
    alone = Up(tmp_path / "state")
    try:
        tab = opened(browser, alone)
        tab.wait_text("State folder")
        assert "does not answer" not in tab.text()
    finally:
        alone.stop()
    tab.wait_text("The platform does not answer.")
    assert "State folder" in tab.text()
