"""What the operations on jobs of every kind have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .faults import ResourceInUse, ValidationException
from .job_thread import UNFINISHED, JobThread
from .operations import Call
from .platform import Platform
from .store import Thing

__all__ = ["create", "delete", "end", "stop"]

Kind = type[JobThread]


def create(call: Call, kind: Kind, name: str, document: Mapping[str, Any], *, parent: str = "") -> str:
    """Start a job and tell its ARN; its status and ARN are added to what describes it."""

    def taken(arn: str) -> ResourceInUse:
        return ResourceInUse(
            f"{kind.title} names must be unique within an AWS account and region, and a {kind.called} with this name "
            f"already exists ({arn})"
        )

    known = {**document, f"{kind.noun}Arn": call.arn(kind.kind, name), kind.status: "InProgress"}
    arn = call.add(kind.kind, name, known, taken, status="InProgress", parent=parent)
    kind.begin(call.platform, name)
    return arn


def stop(call: Call, kind: Kind, thing: Thing) -> None:
    """End a job as its user asks for it."""
    if thing.status not in UNFINISHED:
        raise ValidationException(f"The request was rejected because the {kind.called} is in status {thing.status}.")
    end(call.platform, kind, thing.name)


def end(platform: Platform, kind: Kind, name: str) -> None:
    """End a job that has not ended."""
    with platform.store.changing(kind.kind, name, kind.status) as document:
        if document is None or document[kind.status] != "InProgress":
            return
        document[kind.status] = "Stopping"
        kind.note_stopping(document)
    if (job := platform.jobs.get((kind.kind, name))) is not None:  # else it looks itself when it starts
        job.stop()


def delete(call: Call, kind: Kind, thing: Thing) -> None:
    """Forget a job that has ended."""
    if thing.status in UNFINISHED:
        raise ValidationException(f"The {kind.called} {thing.name} is in status {thing.status}: stop it first.")
    call.platform.store.remove(kind.kind, thing.name)
    call.platform.store.untag(thing.document[f"{kind.noun}Arn"])
