"""What the page shows, as JSON: from the store, the logs and the operations that any client has."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from .faults import Fault
from .logs import Line
from .operations import OPERATIONS, Call, Handler, RecordOnly
from .platform import Platform
from .service import answered
from .store import Listing, Thing

__all__ = ["KINDS", "Kind", "NotThereError", "PageData"]

_ROWS: Final = 50  # of a list at a time
_FEW: Final = 6  # rows of each list in the overview
_LINES: Final = 1000  # last lines of a log that are shown of what was there before
_CHUNK: Final = 10_000  # lines that are read at a time
_CHUNKS: Final = 100  # read for one answer; the next one goes on
_TRIALS: Final = 100  # of a tuning job at a time


class NotThereError(Exception):
    """What a request names is not there."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of things that the page shows.

    Parameters
    ----------
    kind
        As the store calls it.
    noun
        As the names of operations and fields have it.
    """

    kind: str
    noun: str

    def log(self, name: str) -> tuple[str, str]:
        """Group of the log streams, and how their names begin."""
        if self.noun == "Endpoint":
            return f"/aws/sagemaker/Endpoints/{name}", ""
        return f"/aws/sagemaker/{self.noun}s", f"{name}/"


KINDS: Final[Mapping[str, Kind]] = {
    "training": Kind("training-job", "TrainingJob"),
    "tuning": Kind("hyper-parameter-tuning-job", "HyperParameterTuningJob"),
    "transform": Kind("transform-job", "TransformJob"),
    "endpoints": Kind("endpoint", "Endpoint"),
}
"""A word of the page's addresses → what it is about."""


class PageData:
    """Answers the page's questions.

    Parameters
    ----------
    platform
        What they are about.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def overview(self) -> dict[str, Any]:
        """Where the platform is, and the latest things of each kind."""
        return {
            "region": self._platform.region,
            "account": self._platform.account,
            "state": str(self._platform.folder.path),
            **{word: self.rows(kind, {}, _FEW) for word, kind in KINDS.items()},
        }

    def rows(self, kind: Kind, asked: Mapping[str, str], count: int = _ROWS) -> dict[str, Any]:
        """Things of a kind, the newest first.

        Parameters
        ----------
        kind
            Which.
        asked
            ``contains``, a part of the names; ``next`` of the answer before this one.
        count
            How many at most.
        """
        request = {"NameContains": asked.get("contains"), "NextToken": asked.get("next"), "MaxResults": count}
        things, token = self._platform.store.page(kind.kind, Listing(request))
        return {"things": [_row(thing) for thing in things], "next": token}

    def describe(self, kind: Kind, name: str) -> dict[str, Any]:
        """What a client's Describe tells; for an endpoint also its configuration and its models."""
        self._thing(kind, name)
        found = {"description": self._asked(f"Describe{kind.noun}", {f"{kind.noun}Name": name})}
        if kind.noun == "Endpoint":
            found["config"], found["models"] = self._behind(found["description"])
        return found

    def trials(self, name: str) -> dict[str, Any]:
        """The training jobs of a tuning job."""
        kind = KINDS["tuning"]
        self._thing(kind, name)
        request: dict[str, Any] = {f"{kind.noun}Name": name, "MaxResults": _TRIALS}
        found: list[Any] = []
        while True:
            answer = self._asked(f"ListTrainingJobsFor{kind.noun}", request)
            found += answer["TrainingJobSummaries"]
            if not (token := answer.get("NextToken")):
                return {"trials": found}
            request["NextToken"] = token

    def metrics(self, kind: Kind, name: str, after: int) -> dict[str, Any]:
        """The numbers that a job has printed, without the first `after` of them."""
        self._thing(kind, name)
        found = self._platform.store.metrics(kind.kind, name)
        points = [[one.name, one.time, one.value] for one in found[after:]]
        return {"count": len(found), "points": _public(points)}

    def log(self, kind: Kind, name: str, position: Mapping[str, int]) -> dict[str, Any]:
        """Lines of a log after `position`, of many the last ones."""
        thing = self._thing(kind, name)
        region = thing.document[f"{kind.noun}Arn"].split(":")[3]
        group, prefix = kind.log(name)
        lines: deque[Line] = deque(maxlen=_LINES)
        count = 0
        for _ in range(_CHUNKS):
            tail = self._platform.logs.tail(region, group, prefix, position=position, limit=_CHUNK)
            lines.extend(tail.lines)
            count += len(tail.lines)
            position = tail.position
            if len(tail.lines) < _CHUNK:
                break
        shown = [[line.time, line.stream.removeprefix(prefix), line.text] for line in lines]
        return {"lines": shown, "left_out": count - len(shown), "position": position}

    def stop(self, kind: Kind, name: str) -> dict[str, Any]:
        """End a job with what it has so far."""
        self._thing(kind, name)
        return self._asked(f"Stop{kind.noun}", {f"{kind.noun}Name": name})

    def _thing(self, kind: Kind, name: str) -> Thing:
        thing = self._platform.store.get(kind.kind, name)
        if thing is None:
            raise NotThereError(f"there is no {kind.kind} {name!r}")
        return thing

    def _behind(self, endpoint: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The configuration of an endpoint and its models; None for what has been deleted since."""
        config = self._known("DescribeEndpointConfig", "EndpointConfigName", endpoint.get("EndpointConfigName"))
        names = [variant.get("ModelName") for variant in (config or {}).get("ProductionVariants", ())]
        return config, {name: self._known("DescribeModel", "ModelName", name) for name in names if name}

    def _known(self, operation: str, field: str, name: str | None) -> Any:
        try:
            return self._asked(operation, {field: name})
        except (NotThereError, Fault):
            return None

    def _asked(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of an operation, without secrets."""
        try:
            answer = _handler(operation)(Call(self._platform, request, self._platform.region))
        except RecordOnly as error:
            raise NotThereError(f"{operation} knows of no such thing") from error
        found: dict[str, Any] = _public(answered(operation, answer))
        return found


def _handler(operation: str) -> Handler:
    if operation not in OPERATIONS:
        raise NotThereError(f"{operation} does not happen here")
    return OPERATIONS[operation]


def _row(thing: Thing) -> dict[str, Any]:
    """What a list tells of a thing."""
    ended = next((thing.document[name] for name in thing.document if name.endswith("EndTime")), None)
    return {
        "name": thing.name,
        "status": thing.status,
        "secondary": thing.document.get("SecondaryStatus", ""),
        "parent": thing.parent,
        "created": thing.created,
        "ended": ended,
    }


def _public(value: Any) -> Any:
    """An answer with the names of environment variables only, and with numbers that JSON has."""
    if isinstance(value, dict):
        return {name: _names(item) if name == "Environment" else _public(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_public(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _names(environment: Mapping[str, Any]) -> list[str]:
    return sorted(environment)
