"""The engine of batch transform, and a server of the tests' own that fails now and then."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO

import pytest

from clary.containers.batch import BatchTransform, Outcome, Source
from clary.containers.invoking import Server, ServerGoneError
from clary.containers.transform_job import MIB, TransformJob
from clary.errors import AlgorithmError, DataError, PlatformError, UserError

SOON = 20.0
Answer = tuple[int, bytes]
Respond = Callable[[int, bytes], Answer | None]


class Handler(BaseHTTPRequestHandler):
    """Answers as the test says; None breaks the connection off."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Peer  # type: ignore[assignment]

    def do_GET(self) -> None:
        """Say what there is at a path."""
        found = self.server.paths.get(self.path)
        self._reply(404 if found is None else 200, found or b"")

    def do_POST(self) -> None:
        """Let the test answer."""
        body = (
            self._chunks()
            if self.headers["Transfer-Encoding"]
            else self.rfile.read(int(self.headers["Content-Length"]))
        )
        with self.server.lock:
            number = len(self.server.bodies)
            self.server.bodies.append(body)
            self.server.headers.append(dict(self.headers))
            self.server.peers.add(self.client_address)
        answer = self.server.respond(number, body)
        if answer is None:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        else:
            self._reply(*answer)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def _chunks(self) -> bytes:
        found = []
        while size := int(self.rfile.readline(), 16):
            found.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(found)

    def _reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Peer(ThreadingHTTPServer):
    """The server, and what it was asked."""

    daemon_threads = True

    def __init__(self, respond: Respond, paths: Mapping[str, bytes]) -> None:
        self.respond, self.paths = respond, paths
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.peers: set[Any] = set()
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone is what some tests are about."""


@contextmanager
def peer(respond: Respond, **paths: bytes) -> Iterator[Peer]:
    """A running server."""
    with Peer(respond, {f"/{name.replace('_', '-')}": body for name, body in paths.items()}) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:  # else a test that fails would keep the process for ever
            server.shutdown()
            thread.join(SOON)


def echo(_number: int, body: bytes) -> Answer:
    """Answer with what was asked."""
    return 200, body


class Sink(dict[str, bytes]):
    """Where answers go: what is complete, by name."""

    @contextmanager
    def __call__(self, name: str) -> Iterator[BinaryIO]:
        """Open one."""
        stream = io.BytesIO()
        yield stream
        self[name] = stream.getvalue()


def source(name: str, data: bytes) -> Source:
    """Bytes as a source."""
    return Source(name, lambda: io.BytesIO(data))


def run(server: Peer, *sources: Source, **settings: Any) -> tuple[Sink, list[Outcome]]:
    """Run a job to its end."""
    job = TransformJob(**settings)
    sink = Sink()
    timeout, retries = job.invocations_timeout_in_seconds, job.invocations_max_retries
    asked = Server("127.0.0.1", server.server_port, timeout=timeout, retries=retries)
    return sink, list(BatchTransform(job).run(asked, sources, sink))


LINES = b"".join(b"%d\n" % i for i in range(500))
ONE_BY_ONE: dict[str, Any] = {"split_type": "Line", "batch_strategy": "SingleRecord"}


def test_answers_keep_the_order_of_records() -> None:
    """However long each takes, and though several are under way."""

    def respond(number: int, body: bytes) -> Answer:
        time.sleep(0.02 * (number % 3))
        return 200, b"<%s>" % body.strip()

    with peer(respond) as server:
        settings = {**ONE_BY_ONE, "max_concurrent_transforms": 8, "assemble_with": "Line"}
        sink, [outcome] = run(server, source("a", LINES), **settings)

    assert sink["a"] == b"".join(b"<%d>\n" % i for i in range(500))
    assert outcome == Outcome("a", 500, 500)


def test_as_many_requests_are_under_way_as_asked_and_no_more() -> None:
    """Across files, on as many connections, which are kept."""
    running = most = 0
    lock = threading.Lock()

    def respond(_number: int, body: bytes) -> Answer:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return 200, body

    with peer(respond) as server:
        run(server, *(source(f"{i}", b"x") for i in range(40)), max_concurrent_transforms=5)

    assert most == 5
    assert len(server.bodies) == 40
    assert len(server.peers) == 5


def test_one_request_at_a_time_is_usual() -> None:
    """Its payload is at most 6 MiB: one byte more is another request."""
    line = b"x" * (MIB - 1) + b"\n"
    with peer(echo) as server:
        sink, _ = run(server, source("a", 13 * line), split_type="Line")

    assert [len(body) // MIB for body in server.bodies] == [6, 6, 1]
    assert len(server.peers) == 1
    assert sink["a"] == 13 * line


def test_the_container_is_asked_how_it_wants_it() -> None:
    """Where nothing is asked for."""
    offer = b'{"MaxConcurrentTransforms": 2, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 1}'
    with peer(echo, execution_parameters=offer) as server:
        run(server, source("a", b"1\n2\n3\n"), split_type="Line")
        assert sorted(server.bodies) == [b"1\n", b"2\n", b"3\n"]  # two are sent at a time
        run(server, source("a", b"1\n2\n3\n"), split_type="Line", batch_strategy="MultiRecord")
        assert server.bodies[3:] == [b"1\n2\n3\n"]


def test_requests_say_what_they_are_and_what_they_want() -> None:
    """Only if the job does."""
    with peer(echo) as server:
        run(server, source("a", b"1"), content_type="text/csv", accept="application/jsonlines")
        run(server, source("a", b"1"))

    assert server.headers[0]["Content-Type"] == "text/csv"
    assert server.headers[0]["Accept"] == "application/jsonlines"
    assert not {"Content-Type", "Accept"} & set(server.headers[1])


def test_without_a_limit_whole_files_are_streamed() -> None:
    """In chunks, without a length, many records or not."""
    data = LINES * 2000
    assert len(data) > 3 * MIB
    with peer(echo) as server:
        whole, _ = run(server, source("a", data), max_payload_in_mb=0)
        lines, _ = run(server, source("a", data), max_payload_in_mb=0, split_type="Line")
        run(server, source("a", b"1\n2\n"), max_payload_in_mb=0, **ONE_BY_ONE)

    assert whole["a"] == lines["a"] == data
    assert server.bodies[2:] == [b"1\n", b"2\n"]
    assert all("Content-Length" not in headers for headers in server.headers)


@pytest.mark.parametrize("payload", [0, 6])
def test_an_empty_file_is_asked_nothing(payload: int) -> None:
    """Its output is empty too."""
    with peer(echo) as server:
        sink, [outcome] = run(server, source("a", b""), max_payload_in_mb=payload)
        assert server.bodies == []

    assert sink == {"a": b""}
    assert outcome == Outcome("a", 0, 0)


def test_a_file_that_fails_keeps_no_other_from_its_output() -> None:
    """What is wrong names the line; the rest of the file is asked no more."""

    def respond(_number: int, body: bytes) -> Answer:
        return (400, b"no number: line 1") if body == b"bad\n" else (200, body)

    sources = [source("a", b"1\n2\n"), source("b", b"1\nbad\n" + LINES), source("c", b"3\n")]
    with peer(respond) as server:
        sink, outcomes = run(server, *sources, **ONE_BY_ONE)

    assert sink == {"a": b"1\n2\n", "c": b"3\n"}
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert isinstance(outcomes[1].error, DataError)
    assert str(outcomes[1].error) == "line 2: the server answered 400: no number: line 1"
    assert len(server.bodies) < 20


def test_a_source_that_cannot_be_read_fails_alone() -> None:
    """In the middle, too."""

    class Torn(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 2:
                raise OSError(5, "Input/output error")
            return super().readline(size)

    sources = [Source("a", lambda: Torn(b"1\n2\n3\n")), source("b", b"1\n")]
    with peer(echo) as server:
        sink, outcomes = run(server, *sources, **ONE_BY_ONE)

    assert sink == {"b": b"1\n"}
    assert str(outcomes[0].error) == "it cannot be read: Input/output error"


@pytest.mark.parametrize("failure", [(500, b"oops"), (503, b"busy"), None])
def test_what_fails_now_and_then_is_asked_again(failure: Answer | None) -> None:
    """A 5xx or a connection that breaks off; nothing of it is in the output."""

    def respond(number: int, body: bytes) -> Answer | None:
        return failure if number % 3 == 1 else (200, body)

    with peer(respond) as server:
        sink, [outcome] = run(server, source("a", b"1\n2\n3\n4\n"), **ONE_BY_ONE)

    assert sink["a"] == b"1\n2\n3\n4\n"
    assert outcome == Outcome("a", 4, 4)


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        ((500, b"oops"), AlgorithmError, "line 1: the server failed with status 500: oops (3 times)"),
        (None, PlatformError, "line 1: the server broke off the connection: "),
    ],
)
def test_what_always_fails_is_given_up(answer: Answer | None, kind: type[Exception], text: str) -> None:
    """After as many retries as are allowed."""
    with peer(lambda _number, _body: answer) as server:
        _, [outcome] = run(server, source("a", b"1\n"), invocations_max_retries=2, **ONE_BY_ONE)

    assert isinstance(outcome.error, kind)
    assert str(outcome.error).startswith(text)
    assert str(outcome.error).endswith(" (3 times)")
    # a connection that was used before may have been closed by the server: then it is asked once more at once
    assert len(server.bodies) == 3


@pytest.mark.parametrize(("status", "kind"), [(400, DataError), (413, UserError), (415, UserError), (302, UserError)])
def test_a_refusal_is_final(status: int, kind: type[Exception]) -> None:
    """The same request would be refused again."""
    with peer(lambda _number, _body: (status, b"no")) as server:
        _, [outcome] = run(server, source("a", b"1\n"))
        assert len(server.bodies) == 1

    assert isinstance(outcome.error, kind)
    assert str(outcome.error) == f"the server answered {status}: no"


def test_an_answer_has_to_come_in_time() -> None:
    """Also one that comes bit by bit."""

    def respond(number: int, body: bytes) -> Answer:
        time.sleep(2.5 if number == 0 else 0)
        return 200, body

    with peer(respond) as server:
        sink, _ = run(server, source("a", b"1"), invocations_timeout_in_seconds=1)
        assert sink["a"] == b"1"
    with dripping() as port:
        asked = Server("127.0.0.1", port, timeout=0.5, retries=0)
        began = time.monotonic()
        with pytest.raises(PlatformError, match=r"the server did not answer within 0\.5 s"):
            asked.invoke(b"1", {})
        asked.close()
    assert time.monotonic() - began < 2


@contextmanager
def dripping() -> Iterator[int]:
    """The port of a server whose answers have no end: a byte comes every tenth of a second."""
    over = threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            try:
                while not over.wait(0.1):
                    connection.sendall(b"x")
            except OSError:  # what it is for
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield int(listener.getsockname()[1])
        over.set()
        thread.join(SOON)


def test_a_kept_connection_that_the_server_closed_is_no_failure() -> None:
    """It may close one that is idle, without having said so: nothing is retried then."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        thread = threading.Thread(target=serve)
        thread.start()
        asked = Server("127.0.0.1", int(listener.getsockname()[1]), timeout=SOON, retries=0)
        first = asked.invoke(b"1", {})
        time.sleep(0.1)
        second = asked.invoke(b"2", {})
        asked.close()
        thread.join(SOON)

    assert first == second == b"ok"


def test_a_server_that_is_gone_ends_the_job() -> None:
    """What is complete stays; there is nobody to ask for the rest."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    asked = Server("127.0.0.1", port, timeout=SOON, retries=1)
    sink = Sink()
    with pytest.raises(ServerGoneError, match=f"nobody takes connections at 127.0.0.1:{port}: "):
        list(BatchTransform(TransformJob()).run(asked, [source("a", b"1")], sink))
    with pytest.raises(PlatformError, match="nobody answers http"):
        asked.wait(0.1)

    assert sink == {}


def test_a_job_that_is_left_leaves_no_request_behind() -> None:
    """However long its answer takes; threads have ended."""
    before = threading.active_count()
    held = threading.Event()

    def respond(_number: int, body: bytes) -> Answer:
        if body == b"long":
            held.wait(SOON)
        return 200, body

    with peer(respond) as server:
        asked = Server("127.0.0.1", server.server_port, timeout=600, retries=3)
        sources = [source("a", b"1"), source("b", b"long"), source("c", b"2")]
        outcomes = BatchTransform(TransformJob()).run(asked, sources, Sink())
        assert next(outcomes).name == "a"
        began = time.monotonic()
        outcomes.close()
        assert time.monotonic() - began < 2
        held.set()
    deadline = time.monotonic() + SOON
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_a_question_is_broken_off_too() -> None:
    """Who waits for a container to say how it wants to be asked need not, once that is of no use."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asked = Server("127.0.0.1", int(listener.getsockname()[1]), timeout=600, retries=0)
        asking = threading.Thread(target=asked.execution_parameters, daemon=True)
        asking.start()
        silent, _ = listener.accept()
        with silent:
            assert silent.recv(3) == b"GET"
            asked.stop()
            asking.join(SOON)
            assert not asking.is_alive()
