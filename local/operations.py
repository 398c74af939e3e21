"""The operations of SageMaker that really happen here, each a function of its request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .store import TakenError

if TYPE_CHECKING:
    from .faults import Fault
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

    def add(
        self,
        kind: str,
        name: str,
        document: Mapping[str, Any],
        taken: Callable[[str], Fault],
        *,
        status: str = "",
        parent: str = "",
    ) -> str:
        """Keep a new thing with the tags that its document has, and tell its ARN.

        Parameters
        ----------
        kind, name, document, status, parent
            As `clary.local.store.Store.add` takes them.
        taken
            What is raised where the name is taken; gets the ARN.
        """
        arn = self.arn(kind, name)
        tags = {tag["Key"]: tag["Value"] for tag in document.get("Tags", ())}
        kept = {key: document[key] for key in document if key != "Tags"}
        try:
            self.platform.store.add(kind, name, kept, status=status, parent=parent, tags=(arn, tags))
        except TakenError as error:
            raise taken(arn) from error
        return arn


Handler = Callable[[Call], Mapping[str, Any]]

OPERATIONS: Final[dict[str, Handler]] = {}
"""Name of an operation → what does it."""


class RecordOnly(Exception):  # noqa: N818  # no error: an answer that somebody else has
    """What a request is about is none of ours: moto's record-keeping may know it."""


def operation(handler: Handler) -> Handler:
    """Make a function the handler of the operation that its name says: ``create_model`` for CreateModel."""
    OPERATIONS["".join(part.capitalize() for part in handler.__name__.split("_"))] = handler
    return handler
