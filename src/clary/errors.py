"""Every error clary raises on purpose, and whose fault it is.

The tree::

    ClaryError
    ├── UserError                      the input has to change: exit 2, "Customer Error", HTTP 4xx
    │   ├── HyperParameterError        a hyperparameter is missing, unknown or out of range
    │   ├── ChannelError               a data channel is missing, empty or unreadable
    │   ├── DataError (ValueError)     the bytes or numbers of the data are wrong
    │   │   └── CorruptRecordError     a RecordIO frame is cut or odd: which record, which byte
    │   ├── UnsupportedContentTypeError   no decoder for a Content-Type
    │   ├── UnsupportedAcceptError     no encoder for an Accept
    │   ├── ArtifactError              a model artifact cannot be opened
    │   ├── UsageError                 a command was called wrongly
    │   └── MissingExtraError (ImportError)  an optional dependency is not installed
    ├── AlgorithmError                 our bug: exit 1, "Algorithm Error", HTTP 500
    └── PlatformError                  the surroundings failed: exit 3, "Platform Error", HTTP 503

Errors that replace a builtin also inherit from it, so that existing handlers go on working.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AlgorithmError",
    "ArtifactError",
    "ChannelError",
    "ClaryError",
    "CorruptRecordError",
    "DataError",
    "HyperParameterError",
    "MissingExtraError",
    "PlatformError",
    "UnsupportedAcceptError",
    "UnsupportedContentTypeError",
    "UsageError",
    "UserError",
]


class ClaryError(Exception):
    """Base of every error raised on purpose."""

    exit_code: ClassVar[int] = 1
    prefix: ClassVar[str] = "Algorithm Error"


class UserError(ClaryError):
    """The input has to change; trying again as it is will not help."""

    exit_code = 2
    prefix = "Customer Error"


class HyperParameterError(UserError):
    """A hyperparameter is missing, unknown, or has a value that is not allowed."""


class ChannelError(UserError):
    """A data channel is missing, empty or unreadable."""


class DataError(UserError, ValueError):
    """The data's bytes or numbers are not what their content type promises."""


class CorruptRecordError(DataError):
    """A RecordIO stream is cut or odd.

    Parameters
    ----------
    reason
        What is wrong, as a clause.
    record
        Zero-based number of the record in its stream.
    offset
        Byte offset of the record's frame in its stream.

    Examples
    --------
    >>> CorruptRecordError("the frame is cut", record=3, offset=96)
    CorruptRecordError('record 3 at byte 96: the frame is cut')
    """

    def __init__(self, reason: str, *, record: int, offset: int) -> None:
        super().__init__(f"record {record} at byte {offset}: {reason}")
        self.reason = reason
        self.record = record
        self.offset = offset


class UnsupportedContentTypeError(UserError):
    """No decoder is known for a content type."""


class UnsupportedAcceptError(UserError):
    """No encoder is known for what the client accepts."""


class ArtifactError(UserError):
    """A model artifact is missing, damaged or not one we know."""


class UsageError(UserError):
    """A command was called in a way that cannot work."""


class MissingExtraError(UserError, ImportError):
    """An optional dependency is needed and not installed.

    Examples
    --------
    >>> MissingExtraError("scikit-learn", extra="data")
    MissingExtraError("scikit-learn is not installed: run  pip install 'clary[data]'")
    """

    def __init__(self, package: str, *, extra: str) -> None:
        super().__init__(f"{package} is not installed: run  pip install 'clary[{extra}]'")


class AlgorithmError(ClaryError):
    """Something in clary itself went wrong."""

    exit_code = 1
    prefix = "Algorithm Error"


class PlatformError(ClaryError):
    """The surroundings failed: a time-out, a full disk, a missing pipe."""

    exit_code = 3
    prefix = "Platform Error"
