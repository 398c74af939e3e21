"""gunicorn's threaded worker, in which a client that is slow or cannot speak HTTP keeps nobody else waiting.

A thread is lent to a connection while the head of a request arrives, while the application answers, and while the
connection ends. The application limits the second, but for the bytes it waits for; those, the first and the last
have their limits here. What is beyond them: Python code that does not let go of the interpreter, like the decoding of
a large JSON body, stops all threads of its process.
"""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Iterable, MutableMapping
from contextlib import suppress
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from gunicorn.glogging import Logger
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.workers.gthread import ThreadWorker

from ..logs import tell

if TYPE_CHECKING:
    from gunicorn.workers.gthread import TConn

__all__ = ["AccessLog", "Worker", "log_answer"]

_LOG: Final = logging.getLogger("clary")

_HEAD: Final = 10
"""Seconds in which the head of a request has to arrive."""

_CROWD: Final = 64
"""Bodies on their way beyond which each piece of one has to arrive as fast as a head."""

_LINGER: Final = 2
"""Seconds a client has to read its answer and close the connection."""

_PIECE: Final = 1 << 16
_TEXT: Final = 300
"""Most characters of a refusal or a path: it may quote what the client sent."""

_UNPRINTABLE: Final = re.compile("[^ -~]")


class AccessLog(Logger):
    """gunicorn's log, in which a request is one line among ours."""

    def access(self, resp: Any, req: Any, environ: MutableMapping[str, Any], request_time: timedelta) -> None:
        """Log a request that was answered."""
        target = environ.get("HTTP_X_AMZN_SAGEMAKER_TARGET_MODEL", "")
        log_answer(req.method, req.path, resp.status_code, resp.sent, request_time.total_seconds(), target)


def log_answer(method: str, path: str, status: int, sent: int, seconds: float, target: str) -> None:
    """Write a line about a request; about those that ask whether we live, again and again, only if they fail."""
    level = logging.DEBUG if path == "/ping" and status == HTTPStatus.OK else logging.INFO
    line = f"{_printable(method)} {_printable(path)} {status} {sent} bytes {seconds * 1000:.1f} ms"
    tell(level, f"{line} {_printable(target)}" if target else line)


class Worker(ThreadWorker):
    """A process that answers requests."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._heads: dict[TConn, float] = {}
        self._pieces: dict[socket.socket, float] = {}
        self._app: Any = None

    def load_wsgi(self) -> None:
        """Put the application behind a limit on how long a client may keep it waiting for bytes."""
        super().load_wsgi()
        self._app, self.wsgi = self.wsgi, self._limited

    def _limited(self, environ: MutableMapping[str, Any], start_response: Any) -> Iterable[bytes]:
        """The application, which can end a connection besides."""

        def start(status: str, headers: Iterable[tuple[str, str]], exc_info: Any = None) -> Any:
            if ("Connection", "close") in headers:
                start_response.__self__.force_close()  # gunicorn's response, which ignores the header
            return start_response(status, headers, exc_info)

        client = environ["gunicorn.socket"]
        client.settimeout(self.cfg.timeout)
        environ["wsgi.input"] = _Body(environ["wsgi.input"], client, self._pieces)
        found: Iterable[bytes] = self._app(environ, start)
        return found

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
        pieces = self._pieces.copy()
        patience = self.cfg.timeout if len(pieces) <= _CROWD else min(_HEAD, self.cfg.timeout)
        for client, since in pieces.items():
            if now > since + patience:
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RD)  # it can still be told

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


class _Body:
    """The body of a request; while it is being read, `since` says from when on the reader waits for a piece."""

    def __init__(self, body: Any, client: socket.socket, since: dict[socket.socket, float]) -> None:
        self._body = body
        self._client = client
        self._since = since

    def read(self, size: int = -1) -> bytes:
        """Some bytes; none at the end."""
        self._since[self._client] = time.monotonic()
        try:
            piece: bytes = self._body.read(size)
            return piece
        finally:
            del self._since[self._client]


def _printable(text: str) -> str:
    """A text without what would spoil a line, and not too long."""
    text = text[:_TEXT]
    return text if text.isascii() and text.isprintable() else _UNPRINTABLE.sub("?", text)


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
