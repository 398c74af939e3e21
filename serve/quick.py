"""The worker that answers plain requests itself, and leaves all others to the application.

gunicorn lends a thread to a connection for one request, and finds another for the next: each is a walk from one thread
to the next and back, which takes longer than a small prediction. Here a thread stays with its connection for a moment,
in which most clients send their next request. Whatever is not plain, not there in that moment or not to be answered
with 200 goes the long way, with the bytes that have come: to gunicorn's reader and the application.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from gunicorn import SERVER, version_info
from gunicorn.util import http_date

from .connections import Worker as PatientWorker
from .connections import log_answer
from .plain import Plain, Reply, Shortcuts, plain

if TYPE_CHECKING:
    from gunicorn.workers.gthread import TConn

__all__ = ["Worker"]

_STAY: Final = 0.1
"""Seconds that a thread waits for what comes next on its connection."""

_STAYING: Final = 32
"""Threads that wait so; the connections of others are watched by the one thread that watches all."""

_TURN: Final = 1.0
"""Seconds after which a thread is lent to whoever waits for one, however fast requests follow each other."""

_PIECE: Final = 1 << 14
"""Bytes taken off the socket at a time, until it is known how many there are."""

_PAIRS: Final = version_info[0] < 24
"""Whether gunicorn wants to be given a connection back together with what becomes of it."""

_AHEAD: Final = version_info[0] >= 27
"""Whether gunicorn goes on with what its reader has read ahead; before, it waits until more comes."""


class Worker(PatientWorker):
    """A process that answers requests, most of them at once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._shortcuts: Shortcuts = {}
        self._staying: set[TConn] = set()
        self._dated = 0, ""

    def load_wsgi(self) -> None:
        """Ask the application what it lets others answer."""
        super().load_wsgi()
        self._shortcuts = getattr(self._app, "shortcuts", {})

    def handle(self, conn: TConn) -> Any:
        """Answer the plain requests that follow each other on a connection, and one that is not; say if it goes on."""
        if self._shortcuts and _is_between(conn):
            answered, data = self._answered(conn)
            if answered or data:
                conn.init()
            if answered and not data:
                return (True, conn) if _PAIRS else True
            if data:
                _unreader(conn).unread(data)
            conn.sock.setblocking(True)
        return super().handle(conn)

    def _answered(self, conn: TConn) -> tuple[bool, bytes]:
        """Answer plain requests as long as they come; tell whether any was, and the bytes that are left."""
        answered, data = False, _read_ahead(conn)
        conn.sock.settimeout(_STAY)
        turn = time.monotonic() + _TURN
        while self.alive and self.nr_conns < self.max_keepalived:  # else gunicorn says whether connections go on
            if time.monotonic() > turn and (_AHEAD or not data):
                break
            data = data or self._next(conn)
            request = plain(data)
            if request is None:
                break
            data = _whole(conn.sock, data, request.end)
            if len(data) < request.end or not self._answer(conn.sock, request, data[request.start : request.end]):
                break
            answered, data = True, data[request.end :]
        return answered, data

    def _next(self, conn: TConn) -> bytes:
        """What the client sends next; nothing where it takes its time, or is gone."""
        conn.sock.settimeout(_STAY if len(self._staying) < _STAYING else 0)
        self._staying.add(conn)
        try:
            return _received(conn.sock, _PIECE)
        finally:
            self._staying.discard(conn)

    def _answer(self, client: socket.socket, request: Plain, body: bytes) -> bool:
        """Answer a request; tell whether it could be done here."""
        began = time.monotonic()
        shortcut = self._shortcuts.get(request.line)
        reply = shortcut(request, body) if shortcut else None
        if reply is None:
            return False
        self._send(client, _head(self._date(), reply) + reply.body)
        method, _, path = request.line.partition(" ")
        target = request.field("X-Amzn-SageMaker-Target-Model")
        log_answer(method, path, HTTPStatus.OK, len(reply.body), time.monotonic() - began, target)
        return True

    def _send(self, client: socket.socket, data: bytes) -> None:
        """Send an answer, for which the client has as long as for any other; who does not take it is cut off."""
        try:
            if (sent := _sent(client, data)) < len(data):
                client.settimeout(self.cfg.timeout)
                client.sendall(memoryview(data)[sent:])
                client.settimeout(_STAY)
        except OSError:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def _date(self) -> str:
        """The time as HTTP has it, made once a second."""
        now = int(time.time())
        if self._dated[0] != now:
            self._dated = now, http_date(now)
        return self._dated[1]


def _is_between(conn: TConn) -> bool:
    """Whether no part of the body of the last request is still to be read: the next one would be looked for in it.

    Before version 24 gunicorn skips what the application has left of a body only when it reads the next request.
    """
    parser: Any = conn.parser
    if not (parser and parser.mesg):
        return True
    reader = parser.mesg.body.reader  # one that counts bytes, or one of chunks, which forgets its parser at the end
    return not (getattr(reader, "length", 0) or getattr(reader, "parser", None))


def _read_ahead(conn: TConn) -> bytes:
    """The bytes that gunicorn's reader has taken and not used, which are taken from it."""
    data: bytes = _unreader(conn).read() if conn.parser and _unreader(conn).buf.getvalue() else b""
    return data


def _unreader(conn: TConn) -> Any:
    """The bytes that gunicorn's reader of a connection has taken and not used."""
    parser: Any = conn.parser
    return parser.unreader


def _received(client: socket.socket, size: int) -> bytes:
    """Some bytes; none where nothing comes in time or ever: the long way finds out which."""
    try:
        return client.recv(size)
    except OSError:
        return b""


def _whole(client: socket.socket, data: bytes, size: int) -> bytes:
    """`data` and what follows it, `size` bytes in all if they come soon: some clients send a head before its body."""
    if len(data) >= size:
        return data
    deadline = time.monotonic() + _STAY
    pieces, missing = [data], size - len(data)
    while missing > 0 and time.monotonic() < deadline and (piece := _received(client, missing)):
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


def _sent(client: socket.socket, data: bytes) -> int:
    """How many bytes could be sent at once."""
    try:
        return client.send(data)
    except (BlockingIOError, TimeoutError):
        return 0


def _head(date: str, reply: Reply) -> bytes:
    """Status line and fields, as gunicorn and the application write them."""
    return (
        f"HTTP/1.1 200 OK\r\nServer: {SERVER}\r\nDate: {date}\r\nConnection: keep-alive\r\n"
        f"Content-Type: {reply.content_type}\r\nContent-Length: {len(reply.body)}\r\n\r\n"
    ).encode()
