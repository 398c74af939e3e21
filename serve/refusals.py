"""What is answered when there is no answer: the status and the sentence of everything that can go wrong.

A refusal is one line of plain text, here and in `connections`, which refuses what is no request at all. The
SageMaker Python SDK's local mode looks at no status, so no refusal may read like a prediction; and AWS's wording
stands first in each, because clients compare it.
"""

from __future__ import annotations

import logging
from typing import Final

from ..errors import (
    AlgorithmError,
    PlatformError,
    UnsupportedAcceptError,
    UnsupportedContentTypeError,
    UserError,
)

__all__ = ["RefusedError", "one_line", "verdict"]

_LOG: Final = logging.getLogger("clary")


class RefusedError(UserError):
    """A request that cannot be answered, and the status to say it with."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def verdict(error: Exception) -> tuple[int, str]:
    """Status and text for what went wrong, HTTP's own rules apart.

    The server has to answer, so this takes every exception there is; one that nobody foresaw goes to the log.
    """
    if isinstance(error, RefusedError):
        return error.status, str(error)
    if isinstance(error, UnsupportedContentTypeError):
        return 415, str(error)
    if isinstance(error, UnsupportedAcceptError):
        return 406, str(error)
    if isinstance(error, UserError):
        return 400, str(error)
    if isinstance(error, PlatformError):
        return 503, f"{error.prefix}: {error}"
    if isinstance(error, AlgorithmError):
        return 500, str(error)
    _LOG.error("a request failed", exc_info=error)
    return 500, f"Algorithm Error: the prediction failed ({type(error).__name__}); the log says where"


def one_line(text: str) -> str:
    r"""The words of a text, on one line.

    Examples
    --------
    >>> one_line("first\n  second")
    'first second'
    """
    return " ".join(text.split())
