"""An application that is made when it is needed: Flask takes longer to import than all that answers plain requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from .plain import PING, Plain, Reply, Shortcuts

__all__ = ["Deferred", "Wsgi"]

Wsgi = Callable[[Any, Any], Iterable[bytes]]


class Deferred:
    """What answers plain requests, and makes an application for all others once the first of them comes.

    Parameters
    ----------
    make
        Gives the application. Where it fails, the next request tries again.
    shortcuts
        What `quick` may answer besides /ping.
    """

    def __init__(self, make: Callable[[], Wsgi], shortcuts: Shortcuts) -> None:
        self.shortcuts: Shortcuts = {"GET /ping": _ping, **shortcuts}
        self._make = make
        self._made: Wsgi | None = None
        self._lock = threading.Lock()

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        """Answer a request the long way."""
        with self._lock:  # the first ones may come together
            if self._made is None:
                self._made = self._make()
        return self._made(environ, start_response)


def _ping(request: Plain, body: bytes) -> Reply:
    """Say that all is well to who asked plainly."""
    del request, body
    return PING
