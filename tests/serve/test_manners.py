"""Limits and manners of the server: what a client may send, what it gets back, and what is logged of it."""

from __future__ import annotations

import gzip
import http.client
import re
import socket
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from .conftest import Server, Start, until

CSV = "text/csv"
ROW = b"6,8"
ANSWER = b"1.0,5.0\n"
MIB = 1 << 20


@pytest.fixture(scope="module")
def server(start: Start, base: Path) -> Server:
    """One worker with the limits that it has by itself."""
    return start(SAGEMAKER_BASE_DIR=base)


def answered(server: Server) -> bool:
    """Whether a good request is answered right."""
    return server.ask("/invocations", ROW, Content_Type=CSV, Accept=CSV) == (200, ANSWER)


def refused(server: Server, body: bytes, content_type: str = CSV, **headers: str) -> tuple[int, str]:
    """Status and text of a refusal, which is one short line; the next request is answered."""
    status, found, text = server.exchange("/invocations", body, Content_Type=content_type, **headers)
    assert found == "text/plain; charset=utf-8"
    assert b"\n" not in text and len(text) < 1000
    assert answered(server)
    return status, text.decode()


@pytest.mark.parametrize("header", ["X-Amzn-SageMaker-Custom-Attributes", "X-Amzn-SageMaker-Inference-Id"])
def test_headers_of_the_platform_are_not_echoed(server: Server, header: str) -> None:
    """They come back only where a handler sets them, which none of ours does."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        connection.request("POST", "/invocations", ROW, {"Content-Type": CSV, header: "trace=1"})
        response = connection.getresponse()
        assert (response.status, response.getheader(header)) == (200, None)


def test_26_megabytes(server: Server) -> None:
    """A body larger than what real-time endpoints send is read and answered row by row."""
    line = b"6." + b"0" * 252 + b",8\n"
    rows = 26 * MIB // len(line)
    status, answer = server.ask("/invocations", line * rows, Content_Type=CSV, Accept=CSV)
    assert (status, answer == ANSWER * rows) == (200, True)


def test_a_gzip_bomb(server: Server) -> None:
    """A compressed body is not opened; without the header its bytes are no CSV."""
    bomb = gzip.compress(bytes(256 * MIB), 9)
    assert refused(server, bomb, Content_Encoding="gzip") == (
        415,
        "content-encoding gzip not supported: send the body as it is",
    )
    assert refused(server, bomb)[0] == 400


def test_many_columns_too_many(server: Server) -> None:
    """Ten thousand columns for two are refused in a sentence."""
    told = "unable to evaluate payload provided: wrong number of features: 10000 instead of 2"
    assert refused(server, b",".join([b"1"] * 10_000)) == (400, told)


@pytest.mark.parametrize("body", [b"nan,1", b"NaN,NaN", b"inf,1", b"1e999,1"])
def test_numbers_that_are_none(server: Server, body: bytes) -> None:
    """NaN and infinity are refused."""
    assert refused(server, body)[0] == 400


@pytest.mark.parametrize("body", [b'{"instances": [{"features": [NaN, 1]}]}', b"[" * 200_000, b"1" * 200_000])
def test_json_that_is_none(server: Server, body: bytes) -> None:
    """NaN, brackets without end and a number of many digits are refused."""
    assert refused(server, body, "application/json")[0] == 400


def first_line(client: socket.socket) -> bytes:
    """The status line of an answer."""
    return client.makefile("rb").readline().strip()


@pytest.mark.parametrize(
    ("length", "status"), [(b"101000000000000", 413), (b"9" * 5000, 400), (b"-1", 400), (b"1e3", 400), (b"3, 3", 400)]
)
def test_lengths(server: Server, length: bytes, status: int) -> None:
    """A length beyond the limit, or that is none, is refused at once, before anything is sent."""
    began = time.monotonic()
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as client:
        client.sendall(
            b"POST /invocations HTTP/1.1\r\nContent-Type: text/csv\r\nContent-Length: " + length + b"\r\n\r\n"
        )
        assert first_line(client).startswith(b"HTTP/1.1 %d " % status)
    assert time.monotonic() - began < 5
    assert answered(server)


def stalled(stack: ExitStack, server: Server, count: int) -> list[socket.socket]:
    """Clients that send half of a body."""
    clients = []
    for _ in range(count):
        clients.append(stack.enter_context(closing(socket.create_connection(("127.0.0.1", server.port), timeout=30))))
        clients[-1].sendall(b"POST /invocations HTTP/1.1\r\nContent-Type: text/csv\r\nContent-Length: 3\r\n\r\n1,")
    return clients


def test_stalled_bodies_take_no_place(start: Start, base: Path) -> None:
    """Far more clients that stall than there are places keep no invocation waiting, and get their own answers."""
    server = start(SAGEMAKER_BASE_DIR=base, CLARY_THREADS=2)
    with ExitStack() as stack:
        clients = stalled(stack, server, 50)
        time.sleep(0.5)
        began = time.monotonic()
        assert all(answered(server) for _ in range(20))
        assert time.monotonic() - began < 5
        for client in clients[:2]:
            client.sendall(b"1")
            assert first_line(client) == b"HTTP/1.1 200 OK"


def test_a_crowd_of_stalled_bodies_is_ended(start: Start, base: Path) -> None:
    """When clients that stall have taken all there is for bodies, they are ended after seconds; /ping never waits."""
    server = start(SAGEMAKER_BASE_DIR=base)
    with ExitStack() as stack:
        clients = stalled(stack, server, 300)
        assert server.ask("/ping") == (200, b"")
        until(lambda: answered(server))
        statuses = {first_line(client).split(b" ")[1] for client in clients}
        assert statuses <= {b"400", b"503"}


def test_a_trickle_is_ended(start: Start, base: Path) -> None:
    """A body that arrives byte by byte has to be there in time, though no byte is late."""
    server = start(SAGEMAKER_BASE_DIR=base, MODEL_SERVER_TIMEOUT=2)
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as client:
        client.sendall(b"POST /invocations HTTP/1.1\r\nContent-Type: text/csv\r\nContent-Length: 1000\r\n\r\n")
        began = time.monotonic()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while time.monotonic() < began + 15:
                client.sendall(b"1")
                time.sleep(0.2)


def test_the_access_log(start: Start, base: Path) -> None:
    """A request is one line: method, path, status, bytes, milliseconds; a healthy /ping is none."""
    server = start(SAGEMAKER_BASE_DIR=base)
    server.ask("/ping")
    assert answered(server)
    _, bad = refused(server, b"1,2,3")
    _, unknown = server.ask("/no%0athing?secret=1")

    def logged() -> list[str]:
        return [re.sub(r"[0-9.]+ ms$", "N ms", line) for line in server.lines if re.match(r"(GET|POST) ", line)]

    until(lambda: len(logged()) == 4)
    assert sorted(logged()) == sorted(  # a line is written when its answer is on its way already
        [
            f"POST /invocations 200 {len(ANSWER)} bytes N ms",
            f"POST /invocations 400 {len(bad)} bytes N ms",
            f"POST /invocations 200 {len(ANSWER)} bytes N ms",
            f"GET /no%0athing 404 {len(unknown)} bytes N ms",
        ]
    )


def test_a_healthy_ping_is_logged_for_who_wants_everything(start: Start, base: Path) -> None:
    """Level 10 is everything."""
    server = start(SAGEMAKER_BASE_DIR=base, SAGEMAKER_CONTAINER_LOG_LEVEL=10)
    server.ask("/ping")
    until(lambda: any(line.startswith("GET /ping 200 0 bytes ") for line in server.lines))


def test_what_a_client_sends_cannot_spoil_the_log(server: Server) -> None:
    """Odd characters of a path or a header are marked, and long ones cut."""
    server.ask("/" + "x" * 1000, X_Amzn_SageMaker_Target_Model="\x9b2Jé")
    line = until(lambda: next((line for line in server.lines if line.startswith("GET /xxx")), None))
    assert re.fullmatch(r"GET /x{299} 404 \d+ bytes [0-9.]+ ms \?2J\?", line)
