"""The HTTP server behind the one port: waitress, with threads for many clients."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable
from typing import Any, Final

import waitress

from .parsing import Channel

__all__ = ["THREADS", "create"]

THREADS: Final = 48
"""Requests at a time."""

_CONNECTIONS: Final = 1000
_LARGEST: Final = 5 << 30  # bytes: what one PUT of S3's may have
_SILENT: Final = 600  # seconds that a client may be


def create(app: Callable[..., Iterable[bytes]], listening: socket.socket) -> Any:
    """A server of an application, to `run` until a signal's exception ends it and to `close` then."""
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a queue of requests is no news
    server = waitress.create_server(
        app,
        sockets=[listening],
        threads=THREADS,
        connection_limit=_CONNECTIONS,
        max_request_body_size=_LARGEST,
        channel_timeout=_SILENT,
        ident="clary",
        clear_untrusted_proxy_headers=True,
    )
    server.channel_class = Channel
    return server
