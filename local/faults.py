"""What the local SageMaker answers when it refuses: AWS's error codes, each with its HTTP status.

The tree::

    Fault
    ├── ValidationException      the request is not one that the service knows, or names what is not there
    ├── ResourceNotFound         a job that a request names does not exist
    ├── ResourceInUse            a name is taken, or what it names is busy
    ├── ResourceLimitExceeded    more at a time than is allowed
    ├── ConflictException        the state of a thing forbids what is asked for it
    ├── AccessDeniedException    a stranger asks
    ├── UnknownOperationException  an operation that nobody has
    ├── ModelError               a model's container answers with an error; 424
    ├── ModelNotReadyException   a model of a multi-model endpoint is still loading; 429
    ├── ValidationError          the same as ValidationException, of the runtime service
    ├── ServiceUnavailable       nothing is there that could answer; 503
    └── InternalFailure          our own failure; 500
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..errors import ClaryError

__all__ = [
    "AccessDeniedException",
    "ConflictException",
    "Fault",
    "InternalFailure",
    "ModelError",
    "ModelNotReadyException",
    "ResourceInUse",
    "ResourceLimitExceeded",
    "ResourceNotFound",
    "ServiceUnavailable",
    "UnknownOperationException",
    "ValidationError",
    "ValidationException",
]


class Fault(ClaryError):  # noqa: N818  # AWS's word for whose fault it is; its names follow
    """An answer that is an error; the class's name is the code that clients see."""

    status: ClassVar[int] = 400

    @property
    def code(self) -> str:
        """What boto3 shows as the error's code."""
        return type(self).__name__

    def body(self) -> dict[str, Any]:
        """The members of the error's shape."""
        return {"Message": str(self)}


class ValidationException(Fault):
    """A request that cannot be understood, or names what is not there."""


class ResourceNotFound(Fault):
    """No such job."""


class ResourceInUse(Fault):
    """The name is taken."""


class ResourceLimitExceeded(Fault):
    """More than is allowed at a time."""


class ConflictException(Fault):
    """The state of a thing forbids it."""


class AccessDeniedException(Fault):
    """Whoever asks has not shown the token."""

    status = 403


class UnknownOperationException(Fault):
    """No such operation."""


class ValidationError(Fault):
    """A request to the runtime service that cannot be fulfilled."""


class ModelNotReadyException(Fault):
    """The model is still loading."""

    status = 429


class ServiceUnavailable(Fault):
    """Nobody is there to answer."""

    status = 503


class InternalFailure(Fault):
    """Our own failure."""

    status = 500


class ModelError(Fault):
    """The container of a model has answered with an error.

    Parameters
    ----------
    message
        What clients see first.
    status
        Of the container's answer.
    text
        Its body.
    log
        ARN of the log stream's group.
    """

    status = 424

    def __init__(self, message: str, *, status: int, text: str, log: str) -> None:
        super().__init__(message)
        self.original_status = status
        self.text = text
        self.log = log

    def body(self) -> dict[str, Any]:
        """The members of the error's shape."""
        return {
            "Message": str(self),
            "OriginalStatusCode": self.original_status,
            "OriginalMessage": self.text,
            "LogStreamArn": self.log,
        }
