"""The HTTP server behind the one port: waitress, with threads for many clients."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable
from typing import Any, Final

import waitress
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser

__all__ = ["THREADS", "create"]

THREADS: Final = 48
"""Requests at a time."""

_CONNECTIONS: Final = 1000
_LARGEST: Final = 5 << 30  # bytes: what one PUT of S3's may have
_SILENT: Final = 600  # seconds that a client may be


class _Parser(HTTPRequestParser):  # type: ignore[misc]  # which has no types
    """Promises nothing to a client that has no body to send: waitress would wait for one after its 100 Continue."""

    def parse_header(self, header_plus: bytes) -> None:
        """Read the head of a request."""
        super().parse_header(header_plus)
        if not self.chunked and not self.content_length:
            self.expect_continue = False


class _Channel(HTTPChannel):  # type: ignore[misc]
    parser_class = _Parser


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
    server.channel_class = _Channel
    return server
