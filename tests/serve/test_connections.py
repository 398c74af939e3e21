"""Clients that stall, stop or cannot speak HTTP, over real connections."""

import http.client
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

POST = b"POST /invocations HTTP/1.1\r\nHost: here\r\n"
CSV = POST + b"Content-Type: text/csv\r\n"
CHUNKED = CSV + b"Transfer-Encoding: chunked\r\n\r\n"
CUT = b"unable to evaluate payload provided: the body of the request did not arrive whole"

Open = Callable[..., list[socket.socket]]


@pytest.fixture
def clients() -> Iterator[Open]:
    """A function that opens connections which send something and then nothing: ``clients(port, sent, count)``."""
    with ExitStack() as stack:

        def begin(port: int, sent: bytes, count: int = 1) -> list[socket.socket]:
            opened = []
            for _ in range(count):
                opened.append(stack.enter_context(closing(socket.create_connection(("127.0.0.1", port), timeout=10))))
                opened[-1].sendall(sent)
            return opened

        yield begin


def answer_to(client: socket.socket) -> tuple[int, bytes, str]:
    """Status, text and type of what a client gets, which has to be followed by the end of the connection."""
    response = http.client.HTTPResponse(client)
    response.begin()
    text = response.read()
    assert client.recv(1) == b""
    return response.status, text, response.headers["Content-Type"]


@pytest.mark.parametrize("body", [b"zz\r\n1,1\r\n", b"3\r\n1,1xx0\r\n\r\n"])
def test_malformed_chunks(endpoint: Any, clients: Open, body: bytes) -> None:
    """Chunks without a size or an end are the client's mistake, and no bug with a traceback."""
    [client] = clients(endpoint.port, CHUNKED + body)
    assert answer_to(client)[:2] == (400, CUT)
    assert "Traceback" not in endpoint.text


def test_chunks_that_stop(endpoint: Any, clients: Open) -> None:
    """A chunked body that ends in the middle is the client's mistake too."""
    [client] = clients(endpoint.port, CHUNKED + b"9\r\n1,")
    client.shutdown(socket.SHUT_WR)
    assert answer_to(client)[:2] == (400, CUT)
    assert "Traceback" not in endpoint.text


def test_malformed_chunks_of_a_refused_request(endpoint: Any, clients: Open) -> None:
    """A request that is refused for its type keeps its refusal, whatever its chunks are like."""
    [client] = clients(endpoint.port, POST + b"Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert answer_to(client)[0] == 415
    assert "Traceback" not in endpoint.text


@pytest.mark.parametrize(
    "sent",
    [CSV + b"Content-Length: 9\r\n\r\n1,", POST + b"Content-Length: 9\r\n\r\n1,", POST],
    ids=["body", "body of a refusal", "head"],
)
def test_pings_while_clients_stall(start: Any, base: Path, clients: Open, sent: bytes) -> None:
    """Two hundred clients that stall, in the body or the head, take nothing from /ping."""
    server = start(SAGEMAKER_BASE_DIR=base, SAGEMAKER_MODEL_SERVER_WORKERS=2)
    clients(server.port, sent, 200)
    for _ in range(20):
        began = time.monotonic()
        assert server.ask("/ping") == (200, b"")
        assert time.monotonic() - began < 2


def test_ends_stalled_heads(start: Any, base: Path, clients: Open) -> None:
    """A head that does not arrive in time ends its connection, although some of it keeps coming."""
    server = start(SAGEMAKER_BASE_DIR=base, SAGEMAKER_MODEL_SERVER_TIMEOUT=1)
    [client] = clients(server.port, POST)
    client.settimeout(0.2)
    deadline = time.monotonic() + 10
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while time.monotonic() < deadline:
            client.sendall(b"X")
            time.sleep(0.1)
    assert "Traceback" not in server.text


def test_a_busy_server_ends_the_connection(gated: Any, gate: Any, clients: Open) -> None:
    """503 arrives, at once where the body it refuses stalls, and ends the connection."""
    server = gated(CLARY_THREADS=1)
    clients(server.port, CSV + b"Content-Length: 3\r\n\r\n1,1")
    running = gate.hold_prediction()
    began = time.monotonic()
    [client] = clients(server.port, CSV + b"Content-Length: 9\r\n\r\n1,")
    assert answer_to(client)[0] == 503
    assert time.monotonic() - began < 1
    assert server.ask("/invocations", bytes(16 << 20), Content_Type="text/csv")[0] == 503
    os.close(running)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\r\nno header\r\n\r\n", 400),
        (b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /ping HTTP/1.1\r\nHost: " + b"x" * 9000 + b"\r\n\r\n", 431),
    ],
)
def test_what_is_no_request(endpoint: Any, clients: Open, sent: bytes, status: int) -> None:
    """A request that cannot be read is refused in one line of plain text."""
    [client] = clients(endpoint.port, sent)
    found, text, kind = answer_to(client)
    assert (found, text[:28], kind) == (status, b"the request cannot be read: ", "text/plain; charset=utf-8")
    assert b"\n" not in text
