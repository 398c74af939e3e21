"""The commands that look at a platform that runs, or end it."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..containers.screen import table
from ..errors import PlatformError, UsageError, UserError
from .client import RefusedError, ask, pages
from .folder import Address, StateFolder, default_folder

__all__ = ["down", "endpoints", "env", "jobs", "logs", "reset", "stop", "variables"]

_START: Final = 30  # seconds in which a platform that was started just now has to be there
_END: Final = 60  # the same for the end of one
_STEP: Final = 0.05
_LOOK: Final = 0.5  # seconds between two looks for more log lines
_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of job, and how it is asked for."""

    word: str
    name: str
    summaries: str
    group: str

    def ask(self, address: Address, verb: str, name: str) -> dict[str, Any]:
        """The answer to Describe or Stop for a job."""
        return ask(address, "sagemaker", f"{verb}{self.name}", **{f"{self.name}Name": name})

    def status(self, answer: dict[str, Any]) -> str:
        """The status in a description or a summary."""
        found: str = answer[f"{self.name}Status"]
        return found


_KINDS: Final = (
    _Kind("training", "TrainingJob", "TrainingJobSummaries", "/aws/sagemaker/TrainingJobs"),
    _Kind("transform", "TransformJob", "TransformJobSummaries", "/aws/sagemaker/TransformJobs"),
    _Kind("tuning", "HyperParameterTuningJob", "HyperParameterTuningJobSummaries", ""),
)


def env(*, state: Path | None) -> None:
    """Print the variables that lead SDKs to the platform, for a shell."""
    try:
        address = _running(state, _START)
    except PlatformError:
        print("false")  # so that `eval "$(clary env)"` fails: what comes next would go to AWS itself
        raise
    for name, value in variables(address).items():
        print(f"export {name}={shlex.quote(value)}")


def variables(address: Address) -> dict[str, str]:
    """What leads SDKs to a platform."""
    found = {
        "AWS_ENDPOINT_URL": address.url,
        "AWS_DEFAULT_REGION": address.region,
        "AWS_REGION": address.region,
    }
    if address.s3:
        found["AWS_ENDPOINT_URL_S3"] = address.s3
    if address.config:
        found["SAGEMAKER_ADMIN_CONFIG_OVERRIDE"] = address.config
    if not address.s3:  # else the user's own credentials stay, for their S3
        found |= {"AWS_ACCESS_KEY_ID": address.token or "local", "AWS_SECRET_ACCESS_KEY": "local"}
    return found


def jobs(*, state: Path | None) -> None:
    """Show all jobs, the newest first."""
    address = _running(state)
    found = [
        (summary["CreationTime"], kind, summary)
        for kind in _KINDS
        for summary in pages(address, f"List{kind.name}s", kind.summaries, MaxResults=_PAGE)
    ]
    found.sort(key=lambda row: -row[0])
    rows = [
        (kind.word, summary[f"{kind.name}Name"], kind.status(summary), _duration(kind, summary))
        for _, kind, summary in found
    ]
    _show(("kind", "name", "status", "time"), rows, "there are no jobs yet")


def endpoints(*, state: Path | None) -> None:
    """Show all endpoints, the newest first."""
    address = _running(state)
    rows = []
    for summary in pages(address, "ListEndpoints", "Endpoints", MaxResults=_PAGE):
        with suppress(RefusedError):  # it was deleted meanwhile
            described = ask(address, "sagemaker", "DescribeEndpoint", EndpointName=summary["EndpointName"])
            variants = ",".join(variant["VariantName"] for variant in described.get("ProductionVariants", ()))
            why = described.get("FailureReason", "").partition("\n")[0]
            rows.append((summary["EndpointName"], summary["EndpointStatus"], variants, why))
    _show(("endpoint", "status", "variants", "failure"), rows, "there are no endpoints yet")


def logs(*, name: str, follow: bool, state: Path | None) -> int:
    """Print what a job or an endpoint has said, and go on until it ends where asked to; give the exit code."""
    address = _running(state)
    group, prefix, status = _logged(address, name)
    positions: dict[str, str] = {}
    while True:
        ended = status()
        _print_new(address, group, prefix, positions)
        if not follow or ended:
            break
        time.sleep(_LOOK)
    return 1 if follow and ended == "Failed" else 0


def stop(*, name: str, state: Path | None) -> None:
    """End a job with what it has so far."""
    address = _running(state)
    kind, _ = _job(address, name)
    kind.ask(address, "Stop", name)
    print(f"clary: {kind.word} job {name} is told to end", file=sys.stderr)


def down(*, state: Path | None) -> None:
    """End the platform that runs; its state stays."""
    folder = StateFolder(state or default_folder())
    address = _running(state)
    with suppress(ProcessLookupError):
        os.kill(address.process, signal.SIGTERM)
    deadline = time.monotonic() + _END
    while folder.read() is not None:
        if time.monotonic() > deadline:
            raise PlatformError(f"the platform, process {address.process}, does not end within {_END} s")
        time.sleep(_STEP)
    print(f"clary: ended; its state is in {folder.path}", file=sys.stderr)


def reset(*, state: Path | None, yes: bool) -> None:
    """Remove everything that a platform has kept."""
    folder = StateFolder(state or default_folder())
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"this removes all jobs, endpoints and objects in {folder.path}: say so with --yes")
        print(
            f"This removes all jobs, endpoints and objects in {folder.path}. Write yes to go on: ", end="", flush=True
        )
        if sys.stdin.readline().strip() != "yes":
            raise UsageError("nothing was removed")
    folder.clear()
    print(f"clary: {folder.path} is empty", file=sys.stderr)


def _running(state: Path | None, seconds: float = 0.0) -> Address:
    """The platform that has the folder."""
    folder = StateFolder(state or default_folder())
    deadline = time.monotonic() + seconds
    while (address := folder.read()) is None:
        if time.monotonic() >= deadline:
            raise PlatformError(f"no platform runs with the state in {folder.path}: start one with  clary up")
        time.sleep(_STEP)
    return address


def _job(address: Address, name: str) -> tuple[_Kind, dict[str, Any]]:
    """The job of a name, of whatever kind."""
    for kind in _KINDS:
        with suppress(RefusedError):
            return kind, kind.ask(address, "Describe", name)
    raise UserError(f"there is no job {name}: see  clary jobs")


def _logged(address: Address, name: str) -> tuple[str, str, Callable[[], str]]:
    """Log group and prefix of the streams of a job or an endpoint, and what says with which status it has ended."""
    with suppress(RefusedError):
        ask(address, "sagemaker", "DescribeEndpoint", EndpointName=name)
        return f"/aws/sagemaker/Endpoints/{name}", "", lambda: ""
    kind, _ = _job(address, name)
    if not kind.group:
        raise UsageError(f"{name} is a tuning job, which says nothing itself: ask for one of its training jobs")

    def ended() -> str:
        status = kind.status(kind.ask(address, "Describe", name))
        return "" if status in ("InProgress", "Stopping") else status

    return kind.group, f"{name}/", ended


def _print_new(address: Address, group: str, prefix: str, positions: dict[str, str]) -> None:
    """Print the lines that have come since the last time."""
    found = sorted(
        (event["timestamp"], number, stream, event["message"])
        for stream in _streams(address, group, prefix)
        for number, event in enumerate(_events(address, group, stream, positions))
    )
    several = len(positions) > 1
    for _, _, stream, message in found:
        print(f"{stream.removeprefix(prefix)}: {message}" if several else message)
    sys.stdout.flush()


def _streams(address: Address, group: str, prefix: str) -> Iterator[str]:
    request: dict[str, Any] = {"logStreamNamePrefix": prefix} if prefix else {}
    with suppress(RefusedError):  # nothing was said yet
        answer = ask(address, "logs", "DescribeLogStreams", logGroupName=group, **request)
        yield from (stream["logStreamName"] for stream in answer["logStreams"])


def _events(address: Address, group: str, stream: str, positions: dict[str, str]) -> Iterator[dict[str, Any]]:
    while True:
        position: dict[str, Any] = {"nextToken": positions[stream]} if stream in positions else {}
        names = {"logGroupName": group, "logStreamName": stream, "startFromHead": True}
        answer = ask(address, "logs", "GetLogEvents", **names, **position)
        yield from answer["events"]
        if answer["nextForwardToken"] == positions.get(stream):
            return
        positions[stream] = answer["nextForwardToken"]


def _duration(kind: _Kind, summary: dict[str, Any]) -> str:
    end = summary.get(f"{kind.name.removesuffix('Job')}EndTime")
    return f"{(end or time.time()) - summary['CreationTime']:.1f} s"


def _show(head: Sequence[str], rows: Sequence[Sequence[str]], nothing: str) -> None:
    """A table on a terminal, tab-separated lines elsewhere."""
    if not rows:
        print(f"clary: {nothing}", file=sys.stderr)
    elif sys.stdout.isatty():
        print(table([head, *rows]))
    else:
        for row in rows:
            print(*row, sep="\t")
