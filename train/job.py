"""A training job from its first line to its exit code.

The story: read the configuration, check the hyperparameters, find the channels, fit, write the artifact. Whatever
goes wrong ends in the failure file and an exit code that say whose fault it was. When told to end, the model so far
is written and the job ends well.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path

from .. import logs
from ..algorithms.base import Algorithm, Model
from ..algorithms.params import HyperParameters
from ..algorithms.registry import algorithm
from ..errors import AlgorithmError, ClaryError, PlatformError, UserError
from .artifact import open_to_all, write_atomic, write_failure
from .barrier import barrier, barrier_limit
from .channels import find_channels
from .environment import Job, read_job
from .report import JobReport
from .stop import Stop, Stopped

__all__ = ["main"]

_UNEXPECTED = "An unexpected error has occurred. Please try again. It is a fault of clary, not of your data:"


def main(env: Mapping[str, str] = os.environ) -> int:
    """Run the job that the platform has laid out under /opt/ml (or SAGEMAKER_BASE_DIR).

    CLARY_ALGORITHM names the algorithm.

    Returns
    -------
    int
        The exit code: 0, or 1, 2, 3 for an error of the algorithm, the user, the platform.
    """
    base = Path(env.get("SAGEMAKER_BASE_DIR") or "/opt/ml")
    try:
        return _guarded(env, base / "output" / "failure")
    finally:
        for folder in (base / "model", base / "output"):
            open_to_all(folder)


def _guarded(env: Mapping[str, str], failure_file: Path) -> int:
    """The job; whatever goes wrong in it ends in the failure file and the exit code."""
    started = time.time()
    logger = logs.setup()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may hold bytes that are no text
    stop = Stop()
    stop.install()
    try:
        _run(env, stop, started)
    except ClaryError as error:
        logger.error("%s", error)
        return _fail(failure_file, error)
    except Exception as error:  # noqa: BLE001  # the edge of the process: everything has to reach the failure file
        logger.error("%s", traceback.format_exc())
        return _fail(failure_file, _translated(error))
    return 0


def _run(env: Mapping[str, str], stop: Stop, started: float) -> None:
    """The job; returns when the model is written, or the job was told to end."""
    name = env.get("CLARY_ALGORITHM")
    if not name:
        text = "say which algorithm to train, as in  docker run --env CLARY_ALGORITHM=kmeans"
        raise UserError(f"CLARY_ALGORITHM is not set: {text}")
    chosen = algorithm(name)
    job = read_job(env)
    report = JobReport(chosen, job, stop)
    _open_log(chosen, job, report)
    params = chosen.params.parse(job.hyperparameters)
    with barrier(job.resources, stop, report.warning, barrier_limit(env)):
        _work(chosen, params, job, report, started)


def _work(chosen: Algorithm, params: HyperParameters, job: Job, report: JobReport, started: float) -> None:
    """What one host has to do."""
    if len(job.resources.hosts) > 1:
        report.warning(f"{len(job.resources.hosts)} hosts: each trains on its own data, the first host's model is kept")
    try:
        channels = find_channels(job, chosen, getattr(params, "feature_dim", None), report.stop)
        if not job.resources.is_leader and channels[chosen.channels[0]].has_no_files:
            report.warning("no part of the data is on this host: there is nothing to do")
            return
        setup = (time.time() - started) * 1000
        model = chosen.fit(params, channels, report)
    except Stopped:
        _save_snapshot(job, chosen, report)
        return
    _save(job, chosen, model, report)
    if not chosen.manners.measures:
        return
    report.phases()
    if "test" in chosen.channels and "test" not in channels:
        report.info("Test data is not provided.")
    report.finish(setup)


def _save_snapshot(job: Job, chosen: Algorithm, report: JobReport) -> None:
    """What is learnt so far, when the job was told to end."""
    if report.snapshot is None:
        report.warning("told to end: there is no model to save")
        return
    report.warning("told to end: saving the model so far")
    _save(job, chosen, report.snapshot(), report)


def _save(job: Job, chosen: Algorithm, model: Model, report: JobReport) -> None:
    """Write the artifact; hosts share the model directory on a laptop, so only the leader does."""
    if not job.resources.is_leader:
        report.info(f"the artifact is written by {job.resources.leader}")
        return
    with report.timing("model.serialize.time"):
        for name, data in chosen.files(model).items():
            write_atomic(job.model_dir / name, data)


def _open_log(chosen: Algorithm, job: Job, report: JobReport) -> None:
    """Begin the log as the algorithm's container does."""
    logs.style(chosen.manners.line_format, chosen.manners.time_format)
    path = job.base / "input" / "config" / "hyperparameters.json"
    for line in chosen.manners.opening(chosen, job.hyperparameters, path):
        report.info(line)


def _fail(path: Path, error: ClaryError) -> int:
    """Write the failure file, last of all; a full or read-only disk must not hide the error."""
    try:
        write_failure(path, error)
    except PlatformError as problem:
        logging.getLogger("clary").error("%s", problem)
    return error.exit_code


def _translated(error: Exception) -> ClaryError:
    """An error that nobody expected, as one of ours."""
    what = f"{type(error).__name__}: {error}"
    return PlatformError(what) if isinstance(error, (MemoryError, OSError)) else AlgorithmError(f"{_UNEXPECTED} {what}")
