"""The operations on tags, of things that are ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .faults import ValidationException
from .operations import Call, RecordOnly, operation

__all__: list[str] = []

_OURS = frozenset(
    ("training-job", "hyper-parameter-tuning-job", "transform-job", "model", "endpoint-config", "endpoint")
)


@operation
def add_tags(call: Call) -> Mapping[str, Any]:
    """Add or replace tags."""
    arn = _ours(call)
    call.platform.store.tag(arn, {tag["Key"]: tag["Value"] for tag in call.request["Tags"]})
    return _tags(call, arn)


@operation
def list_tags(call: Call) -> Mapping[str, Any]:
    """The tags of a thing."""
    return _tags(call, _ours(call))


@operation
def delete_tags(call: Call) -> Mapping[str, Any]:
    """Remove tags."""
    call.platform.store.untag(_ours(call), call.request["TagKeys"])
    return {}


def _tags(call: Call, arn: str) -> Mapping[str, Any]:
    return {"Tags": [{"Key": key, "Value": value} for key, value in call.platform.store.tags(arn).items()]}


def _ours(call: Call) -> str:
    """The ARN that a request names, if it is of something that really is here."""
    arn: str = call.request["ResourceArn"]
    kind, _, name = arn.rpartition(":")[2].partition("/")
    if kind not in _OURS:
        raise RecordOnly
    if not call.platform.store.has(kind, name):
        raise ValidationException(f'Could not find {kind} "{arn}".')
    return arn
