"""The fixture `sagemaker_local`, as users of the package have it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from clary.local.pytest_plugin import LocalSageMaker

TESTS = '''
import os

import boto3
import pytest


def test_the_code_under_test_finds_it(sagemaker_local):
    """boto3 needs no argument."""
    assert boto3.client("sts").get_caller_identity()["Account"] == "123456789012"
    boto3.client("s3").create_bucket(Bucket="bucket")
    assert boto3.client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []
    assert os.environ["AWS_ENDPOINT_URL"] == sagemaker_local.url
    assert "AWS_PROFILE" not in os.environ
    assert sagemaker_local.folder.is_dir()


def test_the_environment_is_restored():
    """A test that does not ask for it sees what was there."""
    assert os.environ.get("AWS_PROFILE") == "mine"
    assert "AWS_ENDPOINT_URL" not in os.environ


def test_it_is_one_for_the_session(sagemaker_local):
    """What another test has made is there."""
    assert [bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]] == ["bucket"]
'''


def test_the_fixture(tmp_path: Path) -> None:
    """Tests in a project of their own find a platform each session, also two at once, and none is left."""
    (tmp_path / "test_it.py").write_text(TESTS)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTEST_"))}
    sessions = [
        subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / name}"],
            env={**clean, "AWS_PROFILE": "mine"},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for name in ("one", "two")
    ]
    for session in sessions:
        said, _ = session.communicate(timeout=120)
        assert session.returncode == 0, said.decode()
        assert b"3 passed" in said
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in listed


def test_it_costs_nothing_where_it_is_not_used() -> None:
    """The plugin is loaded with every pytest of its environment, so it imports none of what the platform needs."""
    code = "import sys; import clary.local.pytest_plugin; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"boto3", "moto", "sqlalchemy", "optuna", "numpy", "flask", "waitress"} & set(found)


def test_it_is_here(sagemaker_local: LocalSageMaker) -> None:
    """It is there for the session that these tests run in, too."""
    assert sagemaker_local.url.startswith("http://127.0.0.1:")
