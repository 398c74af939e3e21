"""The HTTP server behind the one port: waitress, with threads for many clients."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable
from typing import Any, Final

from waitress.server import create_server

from .parsing import Channel

__all__ = ["THREADS", "create"]

THREADS: Final = 48
"""Requests at a time."""

_CONNECTIONS: Final = 500
_LARGEST: Final = 5 << 30  # bytes: what one PUT of S3's may have
_SILENT: Final = 600  # seconds that a client may be


def create(app: Callable[..., Iterable[bytes]], listening: socket.socket, threads: int = THREADS) -> Any:
    """A server of an application, to `run` in a thread and to `close` at the end."""
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a queue of requests is no news
    server: Any = create_server(
        app,
        sockets=[listening],
        threads=threads,
        connection_limit=_CONNECTIONS,
        max_request_body_size=_LARGEST,
        channel_timeout=_SILENT,
        asyncore_use_poll=True,  # select can't have more than a thousand files
        ident="clary",
        clear_untrusted_proxy_headers=True,
    )
    server.channel_class = Channel
    return server
