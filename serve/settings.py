"""What the environment says about the server; each setting is declared once, in `SETTINGS`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import UserError

__all__ = ["MIB", "SETTINGS", "Setting", "Settings", "usable_cores"]

MIB: Final = 1 << 20


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Number of cores this process may keep busy: its CPU affinity, and no more than a container's quota.

    Parameters
    ----------
    cgroup
        Where the control group of the container is mounted; version 2 and version 1 are understood.
    """
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return cores
    if not (quota.isdigit() and period.isdigit() and int(period)):
        return cores
    return max(1, min(cores, math.ceil(int(quota) / int(period))))


def _whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """A parser of whole numbers in a range."""
    limits = f"of at least {low}" if high is None else f"from {low} to {high}"

    def parse(text: str) -> int:
        if not text.strip().isdecimal() or int(text) < low or (high is not None and int(text) > high):
            raise ValueError(f"a whole number {limits}")
        return int(text)

    return parse


def _workers(text: str) -> int:
    return usable_cores() if text == "cores" else _whole(1)(text)


def _mebibytes(text: str) -> int:
    return _whole(0)(text) * MIB


def _keys(text: str) -> tuple[str, ...]:
    return tuple(key for key in text.lower().replace(" ", "").split(",") if key)


def _ports(text: str) -> tuple[int, ...]:
    return tuple(_whole(1, 65535)(port) for port in text.split(",") if port.strip())


def _is_true(text: str) -> bool:
    return text.strip().lower() == "true"


def _model_dir(text: str) -> Path:
    return Path(text) / "model"


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that can be set.

    Parameters
    ----------
    field
        Its name in `Settings`.
    sources
        Environment variables and their parsers, the first one that is set wins. An empty variable is not set.
    default
        What the first parser gets when none is set.
    doc
        One sentence for the documentation.
    """

    field: str
    sources: Mapping[str, Callable[[str], Any]]
    default: str
    doc: str

    def read(self, env: Mapping[str, str]) -> Any:
        """The value in `env`.

        Raises
        ------
        UserError
            When it has a value that is not allowed.
        """
        for name, parse in self.sources.items():
            text = env.get(name, "")
            if not text.strip():
                continue
            try:
                return parse(text)
            except ValueError as error:
                raise UserError(f"{name}={text!r} is not allowed: it takes {error}") from error
        return next(iter(self.sources.values()))(self.default)


SETTINGS: Final = (
    Setting(
        "port",
        {"SAGEMAKER_BIND_TO_PORT": _whole(0, 65535)},
        "8080",
        "Port to listen on; 0 takes a free one.",
    ),
    Setting(
        "host",
        {"CLARY_BIND": str.strip},
        "127.0.0.1",
        "Address to listen on; 0.0.0.0 is every interface.",
    ),
    Setting(
        "workers",
        {"SAGEMAKER_MODEL_SERVER_WORKERS": _workers, "MODEL_SERVER_WORKERS": _workers},
        "cores",
        "Number of processes that predict; they share one copy of the model. A multi-model server has one.",
    ),
    Setting(
        "threads",
        {"CLARY_THREADS": _whole(1, 1000)},
        "32",
        "Number of invocations one process takes on at the same time; more are answered with 503.",
    ),
    Setting(
        "timeout",
        {
            "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": _whole(1),
            "SAGEMAKER_MODEL_SERVER_TIMEOUT": _whole(1),
            "MODEL_SERVER_TIMEOUT": _whole(1),
        },
        "60",
        "Seconds a client may stall, or a process be silent, before it is given up; predictions may take longer.",
    ),
    Setting(
        "max_payload",
        {
            "MAX_CONTENT_LENGTH": _whole(0),
            "SAGEMAKER_MAX_REQUEST_SIZE": _whole(0),
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": _mebibytes,
        },
        str(100 * MIB),
        "Largest request, in bytes or, the last, in MiB; 0 is no limit.",
    ),
    Setting(
        "default_accept",
        {"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": str.strip},
        "",
        "Media type of responses to clients that accept anything; the algorithm has a default of its own.",
    ),
    Setting(
        "batch",
        {"SAGEMAKER_BATCH": str},
        "",
        "Set for a batch transform: true by AWS, True by the SageMaker Python SDK's local mode.",
    ),
    Setting(
        "inference_output",
        {"SAGEMAKER_INFERENCE_OUTPUT": _keys},
        "",
        "For XGBoost, what an answer has, separated by commas: predicted_label, labels, probability, probabilities, "
        "raw_score, raw_scores, predicted_score; where it is not set, the score.",
    ),
    Setting(
        "ensemble",
        {"SAGEMAKER_INFERENCE_ENSEMBLE": _is_true},
        "true",
        "For XGBoost, whether several models in one artifact answer together; else the first alone.",
    ),
    Setting(
        "multi_model",
        {"SAGEMAKER_MULTI_MODEL": _is_true},
        "false",
        "Whether models are loaded and unloaded over HTTP while the server runs, as a multi-model endpoint does it.",
    ),
    Setting(
        "pipeline",
        {"CLARY_PIPELINE": _ports},
        "",
        "Ports of this machine, separated by commas: each request goes to the servers there, one after the other.",
    ),
    Setting(
        "quick",
        {"CLARY_QUICK": _is_true},
        "true",
        "Whether plain requests to /ping and /invocations are answered past gunicorn's reader and Flask, in "
        "about a third of the time; all others, and with false these too, go through them. The answers are the same.",
    ),
    Setting(
        "model_dir",
        {"SAGEMAKER_BASE_DIR": _model_dir},
        "/opt/ml",
        "Folder whose sub-folder model has the model artifact.",
    ),
    Setting(
        "log_level",
        {"SAGEMAKER_CONTAINER_LOG_LEVEL": _whole(0, 50)},
        "20",
        "Lowest level that is logged, as a number of Python's logging: 10 debug, 20 info, 30 warning.",
    ),
)
"""Every setting of the server."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a server; `SETTINGS` says what each means and where it comes from.

    Examples
    --------
    >>> Settings.from_environment({"SAGEMAKER_BIND_TO_PORT": "9000"}).port
    9000
    """

    port: int
    host: str
    workers: int
    threads: int
    timeout: int
    max_payload: int
    default_accept: str
    batch: str
    inference_output: tuple[str, ...]
    ensemble: bool
    multi_model: bool
    pipeline: tuple[int, ...]
    quick: bool
    model_dir: Path
    log_level: int

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Settings:
        """The settings in the environment `env`.

        Raises
        ------
        UserError
            When a variable has a value that is not allowed.
        """
        return cls(**{setting.field: setting.read(env) for setting in SETTINGS})
