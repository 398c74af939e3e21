"""How much a process takes on at the same time."""

from __future__ import annotations

from collections import deque
from typing import Final

from ..errors import PlatformError

__all__ = ["Places", "predictions"]


class Places:
    """Some places; whoever enters takes one, and gives it back on leaving.

    Parameters
    ----------
    count
        How many there are.
    full
        What to say when all are taken.

    Examples
    --------
    >>> with Places(1, "come again"):
    ...     pass
    """

    def __init__(self, count: int, full: str) -> None:
        self._full: Final = full
        self._free = deque([None] * count)  # its ends are safe between threads, and faster than a semaphore

    def __enter__(self) -> None:
        """Take a place.

        Raises
        ------
        PlatformError
            When all are taken.
        """
        try:
            self._free.pop()
        except IndexError:
            raise PlatformError(self._full) from None

    def __exit__(self, *error: object) -> None:
        """Give it back."""
        self._free.append(None)


def predictions(count: int) -> Places:
    """Places to predict in; endpoints that share a process share them."""
    return Places(count, f"all {count} places are taken by running requests: try again later")
