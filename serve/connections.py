"""gunicorn's threaded worker, in which a client that is slow or cannot speak HTTP keeps nobody else waiting.

A thread is lent to a connection while the head of a request arrives, while the application answers, and while the
connection ends. The application limits the second; the first and the last have their limits here. What is beyond
them: Python code that does not let go of the interpreter, like the decoding of a large JSON body, stops all threads
of its process.
"""

from __future__ import annotations

import logging
import socket
import time
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.workers.gthread import ThreadWorker

if TYPE_CHECKING:
    from gunicorn.workers.gthread import TConn

__all__ = ["Worker"]

_LOG: Final = logging.getLogger("clary")

_HEAD: Final = 10
"""Seconds in which the head of a request has to arrive."""

_LINGER: Final = 2
"""Seconds a client has to read its answer and close the connection."""

_PIECE: Final = 1 << 16
_TEXT: Final = 300
"""Most characters of a refusal: it may quote what the client sent."""


class Worker(ThreadWorker):
    """A process that answers requests."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._heads: dict[TConn, float] = {}

    def handle(self, conn: TConn) -> Any:
        """Answer one request; say whether the connection goes on, in the way of the gunicorn at hand."""
        self._heads[conn] = time.monotonic() + min(_HEAD, self.cfg.timeout)
        try:
            result: Any = super().handle(conn)
        finally:
            self._heads.pop(conn, None)
        if not (result[0] if isinstance(result, tuple) else result):  # a tuple in gunicorn 22 and 23
            _end(conn.sock)
        return result

    def handle_request(self, req: Any, conn: TConn) -> bool:
        """Answer a request whose head is there."""
        self._heads.pop(conn, None)
        return super().handle_request(req, conn)

    def notify(self) -> None:
        """Show the parent that this process is alive; the main loop does so every second."""
        super().notify()
        now = time.monotonic()
        for conn, deadline in self._heads.copy().items():
            if now > deadline:
                with suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for bytes

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Refuse what is no request in one line, where gunicorn has a page of HTML."""
        if not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
            return
        status = HTTPStatus(_status(exc))
        text = " ".join(f"the request cannot be read: {exc}".split())[:_TEXT]
        _LOG.warning("%d %s", status, text)
        body = text.encode("ascii", "replace")
        head = f"HTTP/1.1 {status} {status.phrase}\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
        with suppress(OSError):
            client.settimeout(_LINGER)
            client.sendall(b"%sContent-Length: %d\r\n\r\n%s" % (head.encode(), len(body), body))


def _status(error: ParseException) -> int:
    """The status that says what is wrong with a request."""
    if isinstance(error, LimitRequestLine):
        return 414
    if isinstance(error, LimitRequestHeaders):
        return 431
    return int(getattr(error, "code", 400))


def _end(sock: socket.socket) -> None:
    """Let the client read its answer: bytes of its own that nobody reads would make the kernel take it back.

    gunicorn, which closes the socket, would wait for the client in the thread that accepts connections.
    """
    deadline = time.monotonic() + _LINGER
    with suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        while (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            if not sock.recv(_PIECE):
                break
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
