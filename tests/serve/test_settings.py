"""Settings from the environment."""

import dataclasses
import os
from pathlib import Path

import pytest

from clary.errors import UserError
from clary.serve.settings import SETTINGS, Settings, usable_cores

read = Settings.from_environment


def test_defaults() -> None:
    """An empty environment gives AWS's port and a server that only this machine reaches."""
    settings = read({})
    assert (settings.host, settings.port, settings.timeout) == ("127.0.0.1", 8080, 60)
    assert (settings.model_dir, settings.max_payload) == (Path("/opt/ml/model"), 100 * 1024 * 1024)
    assert (settings.workers, settings.log_level) == (usable_cores(), 20)


def test_table_is_complete() -> None:
    """Every setting is declared in the table, once."""
    assert [row.field for row in SETTINGS] == [field.name for field in dataclasses.fields(Settings)]


def test_empty_is_unset() -> None:
    """A variable without a value counts as not set."""
    assert read({"SAGEMAKER_BIND_TO_PORT": " "}).port == 8080


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("SAGEMAKER_BIND_TO_PORT", "9000", "port", 9000),
        ("CLARY_BIND", "0.0.0.0", "host", "0.0.0.0"),  # noqa: S104 a value, nothing is bound
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "3", "workers", 3),
        ("MODEL_SERVER_WORKERS", "cores", "workers", usable_cores()),
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT", "5", "timeout", 5),
        ("MODEL_SERVER_TIMEOUT", "6", "timeout", 6),
        ("SAGEMAKER_MAX_REQUEST_SIZE", "2048", "max_payload", 2048),
        ("SAGEMAKER_MULTI_MODEL", "True", "multi_model", True),
        ("SAGEMAKER_MULTI_MODEL", "false", "multi_model", False),
        ("CLARY_PIPELINE", "8081, 8082", "pipeline", (8081, 8082)),
        ("MAX_CONTENT_LENGTH", "1024", "max_payload", 1024),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "2", "max_payload", 2 << 20),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "0", "max_payload", 0),
        ("SAGEMAKER_BASE_DIR", "/srv", "model_dir", Path("/srv/model")),
        ("SAGEMAKER_BATCH", "True", "batch", "True"),
    ],
)
def test_each_variable(name: str, value: str, field: str, expected: object) -> None:
    """A variable sets its field."""
    assert getattr(read({name: value}), field) == expected


def test_the_more_exact_variable_wins() -> None:
    """Of two variables for one setting, the first of the table counts."""
    env = {"SAGEMAKER_MODEL_SERVER_TIMEOUT": "5", "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": "7"}
    assert read(env).timeout == 7


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("SAGEMAKER_BIND_TO_PORT", "70000", "a whole number from 0 to 65535"),
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "0", "a whole number of at least 1"),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "1.5", "a whole number of at least 0"),
        ("SAGEMAKER_CONTAINER_LOG_LEVEL", "info", "a whole number from 0 to 50"),
        ("CLARY_PIPELINE", "8081,http", "a whole number from 1 to 65535"),
    ],
)
def test_wrong_values_are_one_sentence(name: str, value: str, wanted: str) -> None:
    """A wrong value is refused with its variable's name and what it takes."""
    with pytest.raises(UserError) as caught:
        read({name: value})
    assert str(caught.value) == f"{name}={value!r} is not allowed: it takes {wanted}"


@pytest.mark.parametrize(("quota", "expected"), [("max 100000", None), ("50000 100000", 1), ("odd", None)])
def test_cores_of_a_limited_container(tmp_path: Path, quota: str, expected: int | None) -> None:
    """A quota of half a core is one core; without a quota, the affinity counts."""
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert usable_cores(tmp_path) == (expected or len(os.sched_getaffinity(0)))


def test_cores_of_an_old_control_group(tmp_path: Path) -> None:
    """Version 1 of control groups is understood as well."""
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("100000\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(tmp_path) == 1
