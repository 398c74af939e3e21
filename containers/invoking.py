"""A server of a model, asked as batch transform asks it: kept connections, a time-out, retries."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from typing import Any, Final, NoReturn

from ..errors import AlgorithmError, DataError, PlatformError, UserError

__all__ = ["Body", "Server", "ServerGoneError"]

Body = bytes | Callable[[], Iterator[bytes]]
"""What is sent: bytes, or what gives them in pieces, from the beginning at each call."""

_CONNECT: Final = 5.0  # seconds; a container has to take connections within a quarter of one
_PING: Final = 2.0
_STEP: Final = 0.1
_PAUSE: Final = 0.2  # seconds before the first retry; each later pause is twice as long
_SHOWN: Final = 1000  # characters of a refusal
_BROKEN: Final = (OSError, http.client.HTTPException)


class ServerGoneError(PlatformError):
    """Nobody takes connections at the server's address any more."""


class Server:
    """Somebody who answers ``/ping``, ``/execution-parameters`` and ``/invocations``.

    Parameters
    ----------
    host, port
        Its address.
    timeout
        Seconds in which a whole answer has to come.
    retries
        How often a request is sent again when the connection breaks, time is up, or the status is 5xx.

    Notes
    -----
    Each thread has a connection of its own, which is kept.
    """

    def __init__(self, host: str, port: int, *, timeout: float, retries: int) -> None:
        self._address = host, port
        self._timeout = timeout
        self._retries = retries
        self._mine = threading.local()
        self._connections: list[_Connection] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def wait(self, seconds: float) -> None:
        """Return when ``/ping`` answers.

        Raises
        ------
        PlatformError
            When it does not within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while self._get("/ping", _PING)[0] != http.client.OK:
            if time.monotonic() > deadline:
                host, port = self._address
                raise PlatformError(f"nobody answers http://{host}:{port}/ping: is the server there?")
            time.sleep(_STEP)

    def execution_parameters(self) -> Mapping[str, Any]:
        """What the container offers; empty where it offers nothing."""
        status, body = self._get("/execution-parameters", self._timeout)
        if status != http.client.OK:
            return {}
        try:
            found = json.loads(body)
        except ValueError as error:
            raise UserError(f"the container's /execution-parameters are no JSON: {error}") from error
        return found if isinstance(found, dict) else {}

    def invoke(self, body: Body, headers: Mapping[str, str]) -> bytes:
        """The answer to a request.

        Raises
        ------
        UserError
            When the server refuses the request.
        AlgorithmError, PlatformError
            When it fails, or is silent, or breaks off, and does so again at each retry.
        ServerGoneError
            When no connection can be made.
        """
        for attempt in itertools.count(1):
            try:
                return self._answer(body, headers)
            except (AlgorithmError, PlatformError) as error:
                if self._closed.is_set() or not self._retries:
                    raise
                if attempt > self._retries:
                    raise type(error)(f"{error} ({attempt} times)") from error
            self._closed.wait(_PAUSE * 2 ** (attempt - 1))
        raise AssertionError  # type checkers do not know that counting never ends

    def stop(self) -> None:
        """Break off all connections; requests that are under way fail at once, and so do later ones."""
        self._closed.set()
        with self._lock:
            for connection in self._connections:
                connection.cut()

    def close(self) -> None:
        """Let go of all connections, when no thread asks any more."""
        self.stop()
        with self._lock:
            for connection in self._connections:
                connection.close()

    def _answer(self, body: Body, headers: Mapping[str, str]) -> bytes:
        try:
            status, text = self._connection().exchange(body, headers)
        except TimeoutError as error:
            raise PlatformError(f"the server did not answer within {self._timeout:g} s") from error
        except _BROKEN as error:
            raise PlatformError(f"the server broke off the connection: {error!r}") from error
        if not _is_success(status):
            _refuse(status, text.decode(errors="replace").strip()[:_SHOWN])
        return text

    def _connection(self) -> _Connection:
        """That of this thread."""
        found: _Connection | None = getattr(self._mine, "connection", None)
        if found is None:
            found = self._mine.connection = _Connection(self._address, self._timeout, self._closed)
            with self._lock:
                self._connections.append(found)
        return found

    def _get(self, path: str, timeout: float) -> tuple[int, bytes]:
        """Status and body of a question of ours; status 0 where nobody answers."""
        with closing(_Connection(self._address, timeout, self._closed)) as connection:
            with self._lock:
                self._connections.append(connection)
            try:
                return connection.get(path)
            except (*_BROKEN, ServerGoneError):
                return 0, b""
            finally:
                with self._lock:
                    self._connections.remove(connection)


class _Connection:
    """One kept connection; a timer ends a request whose time is up, wherever it hangs."""

    def __init__(self, address: tuple[str, int], timeout: float, closed: threading.Event) -> None:
        self._http = http.client.HTTPConnection(*address, timeout=min(_CONNECT, timeout))
        self._timeout = timeout
        self._closed = closed

    def exchange(self, body: Body, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body of the answer."""
        if self._http.sock is not None:
            with suppress(ConnectionError, http.client.RemoteDisconnected):
                return self._ask(body, headers)
            # the server may close a connection that was idle, just when it is asked: that is no failure
        self._connect()
        return self._ask(body, headers)

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of what is at a path."""
        self._connect()
        self._http.request("GET", path)
        response = self._http.getresponse()
        return response.status, response.read()

    def cut(self) -> None:
        """End the request that is under way."""
        if (sock := self._http.sock) is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of it."""
        self._http.close()

    def _connect(self) -> None:
        self._check()
        try:
            self._http.connect()
        except OSError as error:
            raise ServerGoneError(
                f"nobody takes connections at {self._http.host}:{self._http.port}: {error}"
            ) from error
        self._http.sock.settimeout(self._timeout)
        self._check()  # whoever cut connections meanwhile has not seen this one

    def _check(self) -> None:
        if self._closed.is_set():
            raise ConnectionAbortedError("the job has ended")

    def _ask(self, body: Body, headers: Mapping[str, str]) -> tuple[int, bytes]:
        expired = threading.Event()
        timer = threading.Timer(self._timeout, self._expire, [expired])
        timer.daemon = True
        timer.start()
        answered = False
        try:
            self._send(body, headers)
            response = self._http.getresponse()
            found = response.status, response.read()
            answered = True
            return found
        except _BROKEN as error:
            if expired.is_set():
                raise TimeoutError from error
            raise
        finally:
            timer.cancel()
            if not answered:
                self._http.close()

    def _send(self, body: Body, headers: Mapping[str, str]) -> None:
        # a server that refuses a body without reading it may have said why: the answer is read anyway
        with suppress(BrokenPipeError, ConnectionResetError):
            if isinstance(body, bytes):
                self._http.request("POST", "/invocations", body, dict(headers))
            else:
                chunked = {**headers, "Transfer-Encoding": "chunked"}
                self._http.request("POST", "/invocations", body(), chunked, encode_chunked=True)

    def _expire(self, expired: threading.Event) -> None:
        expired.set()
        self.cut()


def _is_success(status: int) -> bool:
    return http.client.OK <= status < http.client.MULTIPLE_CHOICES


def _refuse(status: int, text: str) -> NoReturn:
    if status >= http.client.INTERNAL_SERVER_ERROR:
        raise AlgorithmError(f"the server failed with status {status}: {text}")
    kind = DataError if status == http.client.BAD_REQUEST else UserError
    raise kind(f"the server answered {status}: {text}")
