"""The edge of the platform's threads and requests: what fails unforeseen ends there, and all else goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, TypeVar

__all__ = ["guarded"]

_LOG: Final = logging.getLogger("clary.local")

T = TypeVar("T")


def guarded(what: str, work: Callable[[], T], otherwise: Callable[[str], T]) -> T:
    """What some work returns or, where the platform itself fails, what is made of the reason.

    Parameters
    ----------
    what
        Of which the log tells the failure.
    work
        Which handles what it expects.
    otherwise
        Gets the reason.

    Examples
    --------
    >>> guarded("reading", lambda: "text", lambda why: why)
    'text'
    """
    try:
        return work()
    except Exception as error:  # noqa: BLE001  # it would end the thread or the connection in silence
        _LOG.exception("%s failed", what)
        return otherwise(f"the local platform failed: {error!r}")
