"""Kept connections to a container, for any number of threads."""

from __future__ import annotations

import http.client
import re
import select
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from ..errors import PlatformError

__all__ = ["Answer", "BrokenError", "Connections", "GoneError", "LateError", "header"]

_CONNECT: Final = 5.0  # seconds; a container has to take connections within a quarter of one
_KEPT: Final = 64
_BROKEN: Final = (OSError, http.client.HTTPException)
_FOLD: Final = re.compile(r"\r?\n[ \t]+")
_GOOD: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class GoneError(PlatformError):
    """Nobody takes connections; nothing was sent."""


class BrokenError(PlatformError):
    """The connection broke before the whole answer was there."""


class LateError(PlatformError):
    """Nothing came for too long."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a container has said."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def header(headers: http.client.HTTPMessage, name: str) -> str | None:
    """A header of an answer, on one line; None where there is none, or one that nobody can be told."""
    value = _FOLD.sub(" ", headers.get(name) or "")
    return value if value and _GOOD.fullmatch(value) else None


class Connections:
    """Connections to one address.

    Parameters
    ----------
    host, port
        The address.
    """

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._idle: list[http.client.HTTPConnection] = []
        self._closed = False

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, timeout: float
    ) -> Answer:
        """The answer to a request.

        Raises
        ------
        GoneError, BrokenError, LateError
            When there is none.
        """
        with self.opened(method, path, body, headers or {}, timeout=timeout) as response:
            return Answer(response.status, response.headers, response.read())

    @contextmanager
    def opened(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], *, timeout: float
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to a request, of which the body is still to be read.

        Parameters
        ----------
        method, path, body, headers
            Of the request.
        timeout
            Seconds that may pass without anything coming.

        Raises
        ------
        GoneError, BrokenError, LateError
            When there is none, or reading it fails.
        """
        connection, response = self._sent(method, path, body, headers, timeout)
        whole = False
        try:
            yield response
            if response.isclosed() and response.length:  # reading in pieces ends there as if it were the end
                raise http.client.IncompleteRead(b"", response.length)
            whole = response.isclosed()
        except TimeoutError as error:
            raise LateError(f"nothing came for {timeout:g} s") from error
        except _BROKEN as error:
            raise BrokenError(f"the answer broke off: {error or type(error).__name__}") from error
        finally:
            if whole and connection.sock is not None and not self._closed and len(self._idle) < _KEPT:
                self._idle.append(connection)
            else:
                response.close()
                connection.close()

    def close(self) -> None:
        """Let go of the connections that nobody uses; the others follow when they are given back."""
        self._closed = True
        while self._idle:
            with suppress(IndexError):  # another thread has just taken it
                self._idle.pop().close()

    def _sent(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], timeout: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send a request, and again where it met a kept connection that the container was about to end."""
        kept = self._kept()
        if kept is not None:
            with suppress(BrokenError):
                return kept, _exchanged(kept, method, path, body, headers, timeout)
        new = self._new()
        return new, _exchanged(new, method, path, body, headers, timeout)

    def _kept(self) -> http.client.HTTPConnection | None:
        """A connection that was kept, and that the other side has not ended."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.sock is not None and not _is_readable(connection):
                return connection
            connection.close()

    def _new(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(*self._address, timeout=_CONNECT)
        try:
            connection.connect()
        except OSError as error:
            raise GoneError(f"nobody takes connections at {self._address[0]}:{self._address[1]}: {error}") from error
        return connection


def _exchanged(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes,
    headers: Mapping[str, str],
    timeout: float,
) -> http.client.HTTPResponse:
    """The head of the answer to a request."""
    connection.sock.settimeout(timeout)
    try:
        # a server that refuses a body without reading it may have said why: the answer is read anyway
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, path, body, dict(headers))
        return connection.getresponse()
    except TimeoutError as error:
        connection.close()
        raise LateError(f"nothing came for {timeout:g} s") from error
    except _BROKEN as error:
        connection.close()
        raise BrokenError(f"there was no answer: {error or type(error).__name__}") from error


def _is_readable(connection: http.client.HTTPConnection) -> bool:
    """Whether there is something that nobody has asked for: the end."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))
