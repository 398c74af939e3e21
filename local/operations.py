"""The operations of SageMaker that really happen here, each a function of its request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .platform import Platform

__all__ = ["OPERATIONS", "Call", "RecordOnly", "operation"]


@dataclass(frozen=True, slots=True)
class Call:
    """A request to an operation.

    Parameters
    ----------
    platform
        Who is asked.
    request
        The parameters, which fit the operation's shape.
    region
        Which the client believes to be in.
    """

    platform: Platform
    request: Mapping[str, Any]
    region: str

    def arn(self, kind: str, name: str) -> str:
        """The ARN of a thing; AWS writes its name in lower case."""
        return f"arn:aws:sagemaker:{self.region}:{self.platform.account}:{kind}/{name.lower()}"


Handler = Callable[[Call], Mapping[str, Any]]

OPERATIONS: Final[dict[str, Handler]] = {}
"""Name of an operation → what does it."""


class RecordOnly(Exception):  # noqa: N818  # no error: an answer that somebody else has
    """What a request is about is none of ours: moto's record-keeping may know it."""


def operation(handler: Handler) -> Handler:
    """Make a function the handler of the operation that its name says: ``create_model`` for CreateModel."""
    OPERATIONS["".join(part.capitalize() for part in handler.__name__.split("_"))] = handler
    return handler
