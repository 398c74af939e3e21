"""What is read at a glance, and that it is answered with the same bytes as by way of gunicorn's reader and Flask."""

from __future__ import annotations

import http.client
import itertools
import os
import random
import re
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from gunicorn import version_info

from clary.serve.plain import plain

from .conftest import SOON, Gate, Server, Start, starting, until

PING = b"GET /ping HTTP/1.1\r\nHost: here\r\n\r\n"
POST = b"POST /invocations HTTP/1.1\r\n"
CSV = POST + b"Host: here:8080\r\nContent-Type: text/csv\r\n"
ROW = CSV + b"Content-Length: 3\r\n\r\n6,8"
CLOSE = CSV + b"Connection: close\r\nContent-Length: 3\r\n\r\n6,8"
CHUNKED = CSV + b"Transfer-Encoding: chunked\r\n\r\n2\r\n6,\r\n1\r\n8\r\n0\r\n\r\n"


def row(*fields: bytes, body: bytes = b"6,8") -> bytes:
    """A request for predictions with some more header fields."""
    return CSV + b"".join(field + b"\r\n" for field in fields) + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


PLAIN = {
    "a row": ROW,
    "ping": PING,
    "no host": POST + b"Content-Length: 1\r\n\r\n1",
    "accept": row(b"Accept: text/csv"),
    "free port": PING.replace(b"here", b"127.0.0.1:54321"),
    "any case": row(b"aCCept:text/csv;q=0.5,\tapplication/json "),
    "accept of odd bytes": row(b"Accept: \xe9"),
    "keep-alive": row(b"Connection: Keep-Alive"),
    "requests": row(b"User-Agent: python-requests/2.32.5", b"Accept-Encoding: gzip, deflate", b"Accept: */*"),
    "platform": row(b"X-Amzn-SageMaker-Custom-Attributes: a=1", b"X-Amzn-SageMaker-Target-Model: m\xe9"),
    "encoding": row(b"Content-Encoding: identity"),
    "gzip": row(b"Content-Encoding: gzip"),
    "wrong row": row(body=b"1,2,3"),
    "wrong type": POST + b"Content-Type: image/png\r\nContent-Length: 3\r\n\r\n6,8",
    "no type": POST + b"Content-Length: 3\r\n\r\n6,8",
    "wrong accept": row(b"Accept: image/png"),
    "empty body": row(body=b""),
    "too large": row(body=b"1,1\n" * 5000),
    "many rows": row(body=b"1,1\n" * 2000),
    "leading zero": CSV + b"Content-Length: 003\r\n\r\n6,8",
    "a hundred fields": POST + b"".join(b"X-Amz-%d: 1\r\n" % i for i in range(99)) + b"Content-Length: 3\r\n\r\n6,8",
}
"""Requests that are plain, whether or not they are good ones."""

ODD = {
    "close": CLOSE,
    "close ping": b"GET /ping HTTP/1.1\r\nConnection: close\r\n\r\n",
    "upgrade": row(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c"),
    "chunked": CHUNKED,
    "chunk extension": CHUNKED.replace(b"\r\n2\r\n", b"\r\n2;a=b\r\n"),
    "length and chunks": row(b"Transfer-Encoding: chunked"),
    "http/1.0": ROW.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "http/1.0 keep-alive": row(b"Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "http/1.2": ROW.replace(b"HTTP/1.1", b"HTTP/1.2"),
    "http/2.0": ROW.replace(b"HTTP/1.1", b"HTTP/2.0"),
    "lower case": b"get /ping HTTP/1.1\r\n\r\n",
    "head": b"HEAD /ping HTTP/1.1\r\nHost: here\r\n\r\n",
    "options": b"OPTIONS /invocations HTTP/1.1\r\nHost: here\r\n\r\n",
    "get": b"GET /invocations HTTP/1.1\r\nHost: here\r\n\r\n",
    "post to ping": b"POST /ping HTTP/1.1\r\nContent-Length: 1\r\n\r\n1",
    "ping with a body": b"GET /ping HTTP/1.1\r\nContent-Length: 1\r\n\r\n1",
    "ping with an empty length": b"GET /ping HTTP/1.1\r\nContent-Length:\r\n\r\n",
    "ping with no body": b"GET /ping HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "query": PING.replace(b"/ping", b"/ping?a=1"),
    "escaped": PING.replace(b"/ping", b"/p%69ng"),
    "two slashes": PING.replace(b"/ping", b"//ping"),
    "absolute": PING.replace(b"/ping", b"http://here/ping"),
    "execution parameters": PING.replace(b"/ping", b"/execution-parameters"),
    "nowhere": PING.replace(b"/ping", b"/nowhere"),
    "no path": b"GET HTTP/1.1\r\n\r\n",
    "two blanks": b"GET  /ping HTTP/1.1\r\n\r\n",
    "nonsense": b"nonsense\r\n\r\n",
    "zero byte": b"GET /ping HTTP/1.1\r\nHost: a\x00b\r\n\r\n",
    "line feeds": ROW.replace(b"\r\n", b"\n"),
    "carriage return": row(b"Accept: a\rb"),
    "blank before colon": row(b"Accept : text/csv"),
    "no colon": row(b"Accept"),
    "no name": row(b": text/csv"),
    "folded": row(b"Accept: text/csv,\r\n text/plain"),
    "underscore": row(b"Content_Length: 1"),
    "two hosts": row(b"Host: there"),
    "two types": row(b"Content-Type: application/json"),
    "two accepts": row(b"Accept: image/png", b"Accept: text/csv"),
    "two lengths": row(b"Content-Length: 3"),
    "odd host": PING.replace(b"here", b"he re/@"),
    "host with an empty part": PING.replace(b"here", b"a..b"),
    "host with a long part": PING.replace(b"here", b"a" * 64),
    "empty host": PING.replace(b"here", b""),
    "no length": CSV + b"\r\n",
    "signed length": CSV + b"Content-Length: +3\r\n\r\n6,8",
    "no number": CSV + b"Content-Length: 3, 3\r\n\r\n6,8",
    "odd digits": CSV + b"Content-Length: \xb3\r\n\r\n6,8",
    "expect": row(b"Expect: 100-continue"),
    "wrong expectation": row(b"Expect: a cake"),
    "scheme": row(b"X-Forwarded-Proto: https", b"X-Forwarded-Ssl: off"),
    "script name": row(b"Script-Name: /x"),
    "unknown field": row(b"X-Mine: 1"),
    "too many fields": POST + b"".join(b"X-Amz-%d: 1\r\n" % i for i in range(100)) + b"Content-Length: 3\r\n\r\n6,8",
    "long field": row(b"Accept: " + b"x" * 9000),
    "long line": b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n",
    "empty line first": b"\r\n" + PING,
    "large": row(body=b"1,1\n" * 70_000),
}
"""Requests that are not, whether or not they are good ones."""

EVERY = {**PLAIN, **ODD}


@pytest.mark.parametrize("name", EVERY)
def test_what_is_plain(name: str) -> None:
    """A request is plain when nothing in it can be read in two ways; whether it is a good one does not matter."""
    assert (plain(EVERY[name]) is not None) == (name in PLAIN)


def test_heads_that_are_cut() -> None:
    """Half a head is not plain, and a whole one is, whatever of its body has come."""
    head = ROW.index(b"6,8")
    assert [plain(ROW[:end]) is not None for end in range(len(ROW) + 1)] == [end >= head for end in range(len(ROW) + 1)]


def test_where_a_body_is() -> None:
    """The bytes after a request belong to the next one."""
    request = plain(ROW + PING)
    assert request is not None
    assert (ROW + PING)[request.start : request.end] == b"6,8"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Iterator[tuple[Server, Server]]:
    """A server that takes the short way, and one that does not."""
    # Flask names the methods that a path allows in the order of a set
    limits = {"SAGEMAKER_BASE_DIR": base, "MAX_CONTENT_LENGTH": 10_000, "PYTHONHASHSEED": 0}
    with starting(tmp_path_factory) as start:
        yield start(**limits, CLARY_QUICK="true"), start(**limits, CLARY_QUICK="false")


def said(server: Server, pieces: Sequence[bytes], pause: float = 0) -> bytes:
    """All that a server says to a client that sends some pieces and no more, without the dates."""
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=SOON)) as client:
        for i, piece in enumerate(pieces):
            if i:
                time.sleep(pause)
            client.sendall(piece)
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
    return re.sub(rb"\r\nDate: [^\r]*\r\n", b"\r\nDate: \r\n", answer)


@pytest.mark.parametrize("name", EVERY)
def test_the_same_bytes(both: tuple[Server, Server], name: str) -> None:
    """Every request is answered with the same bytes both ways, and the one that follows it too."""
    quick, slow = (said(server, [EVERY[name] + PING]) for server in both)
    assert quick == slow
    assert quick.startswith(b"HTTP/1.1 ") or name in ODD


@pytest.mark.parametrize(
    "sent", [[ROW] * 5, [PING, ROW] * 3, [ROW, CHUNKED, ROW], [ROW, row(body=b""), PING], [ROW, CLOSE, ROW]]
)
def test_requests_in_a_row(both: tuple[Server, Server], sent: list[bytes]) -> None:
    """Requests that are sent without waiting for answers are answered in their order, up to the one that ends it."""
    quick, slow = (said(server, [b"".join(sent)]) for server in both)
    assert quick == slow
    assert quick.count(b"HTTP/1.1 20") == (sent.index(CLOSE) + 1 if CLOSE in sent else len(sent))


@pytest.mark.parametrize("sent", [ROW, ROW + PING + ROW, CHUNKED, row(b"Expect: 100-continue"), ROW + ODD["no colon"]])
def test_requests_in_pieces(both: tuple[Server, Server], sent: bytes) -> None:
    """However requests are cut, their answers are the same."""
    whole = said(both[1], [sent])
    for cut in range(1, len(sent), 7):
        assert said(both[0], [sent[:cut], sent[cut:]], 0.002) == whole


def test_a_body_that_takes_its_time(both: tuple[Server, Server]) -> None:
    """A body may come long after its head."""
    head, body = ROW[:-3], ROW[-3:]
    assert said(both[0], [head, body], 0.5) == said(both[1], [head + body])
    assert said(both[0], [head, *(bytes([byte]) for byte in body)], 0.3) == said(both[1], [head + body])


@pytest.mark.parametrize("line", [b"GET /ping", b"GET /execution-parameters", b"HEAD /ping", b"OPTIONS /ping"])
@pytest.mark.parametrize(
    "framed",
    [b"Content-Length: %d\r\n\r\n%b", b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"],
    ids=["length", "chunks"],
)
def test_a_body_that_nobody_wants(both: tuple[Server, Server], line: bytes, framed: bytes) -> None:
    """A body that comes after the answer is no request, even if it reads like one."""
    sent = line + b" HTTP/1.1\r\n" + framed % (len(ROW), ROW)
    cut = sent.index(b"POST")
    quick, slow = (said(server, [sent[:cut], sent[cut:] + PING], 0.3) for server in both)
    assert quick == slow
    assert b"predictions" not in quick


def test_the_same_lines(both: tuple[Server, Server]) -> None:
    """Requests are logged in the same lines, but for how long they took."""

    def logged(server: Server) -> list[str]:
        before = len(server.lines)
        for name in ("a row", "ping", "platform", "wrong row", "wrong accept", "empty body"):
            said(server, [PLAIN[name]])
        until(lambda: " 204 " in server.lines[-1])
        return [re.sub(r" [0-9.]+ ms", "", line) for line in server.lines[before:]]

    quick, slow = map(logged, both)
    assert quick == slow
    assert "POST /invocations 200 71 bytes m?" in quick


def test_which_way(start: Start) -> None:
    """Plain requests that can be answered never meet the application, and all others do."""
    server = start(Path(__file__).with_name("absent_app_server.py"), CLARY_QUICK="true")
    for sent, short in ((ROW, True), (PING, True), (PLAIN["wrong row"], False), (CHUNKED, False), (CLOSE, False)):
        assert said(server, [sent]).startswith(b"HTTP/1.1 200 " if short else b"HTTP/1.1 418 ")
    assert server.ask("/ping") == (200, b"")
    assert server.ask("/invocations", b"6,8", Content_Type="text/csv")[0] == 200


def test_mangled_heads(both: tuple[Server, Server]) -> None:
    """Heads with a few bytes changed are answered the same, or refused the same."""
    rng = random.Random(0)  # noqa: S311  # no secret
    for source, _ in itertools.product((ROW, PING, PLAIN["requests"], CHUNKED), range(60)):
        head, body = source.split(b"\r\n\r\n", 1)
        for _ in range(rng.randrange(1, 3)):
            at = rng.randrange(len(head))
            new = rng.choice((b"", b"\r", b"\n", b" ", b":", b"\t", b"\x00", b"\xff", b"_", b"-", b"1", b"\r\n", b"x"))
            head = head[:at] + new + head[at + rng.randrange(2) :]
        sent = head + b"\r\n\r\n" + body
        quick, slow = (said(server, [sent]) for server in both)
        assert quick == slow, sent


def test_a_client_that_waits_to_be_told(both: tuple[Server, Server]) -> None:
    """Expect: 100-continue gets its 100 before the body is sent."""
    head, body = row(b"Expect: 100-continue")[:-3], b"6,8"
    for server in both:
        with closing(socket.create_connection(("127.0.0.1", server.port), timeout=SOON)) as client:
            client.sendall(head)
            assert client.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(body)
            assert answer(client).endswith(b"}]}")


def test_a_client_that_does_not_read(start: Start, base: Path) -> None:
    """A client that takes no answers is given up, and takes nothing from others."""
    server = start(SAGEMAKER_BASE_DIR=base, MODEL_SERVER_TIMEOUT=1)
    with (
        closing(socket.create_connection(("127.0.0.1", server.port), timeout=SOON)) as client,
        pytest.raises(ConnectionError),
    ):
        while True:
            client.sendall(row(body=b"1,1\n" * 2000))
    assert server.ask("/ping") == (200, b"")


def answer(client: socket.socket) -> bytes:
    """What a client gets next; its head and its body may come one after the other."""
    response = http.client.HTTPResponse(client)
    response.begin()
    assert response.status == 200
    return response.read()


def test_more_clients_than_may_stay(start: Start, base: Path) -> None:
    """Hundreds of connections that are kept are all answered, again and again."""
    server = start(SAGEMAKER_BASE_DIR=base, CLARY_THREADS=300)
    with ExitStack() as stack:
        clients = [
            stack.enter_context(closing(socket.create_connection(("127.0.0.1", server.port), timeout=SOON)))
            for _ in range(300)
        ]
        for _ in range(3):
            for client in clients:
                client.sendall(ROW)
            assert all(answer(client).endswith(b"}]}") for client in clients)


@pytest.mark.skipif(version_info[0] < 27, reason="gunicorn does not go on with what it has read ahead")
def test_a_client_without_an_end(start: Start) -> None:
    """A client that always has a next request does not keep its thread: at times gunicorn has it back."""
    server = start(Path(__file__).with_name("absent_app_server.py"), CLARY_QUICK="true")
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=SOON)) as client:
        client.sendall(PING * 100)
        deadline, found = time.monotonic() + SOON, b""
        while b" 418 " not in found:
            assert time.monotonic() < deadline
            found = client.recv(1 << 16)
            client.sendall(PING * found.count(b"HTTP/1.1 200"))


def test_a_kept_connection_at_the_end(gated: Start, gate: Gate) -> None:
    """Whoever has a request under way when the server is told to stop is answered, on a connection kept before."""
    server = gated()
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=SOON)) as client:
        client.sendall(PING)
        assert answer(client) == b""
        client.sendall(row(body=b"1,1"))
        running = gate.hold_prediction()
        server.process.send_signal(signal.SIGTERM)
        until(lambda: "Handling signal: term" in server.text)
        time.sleep(0.3)
        os.close(running)
        assert answer(client).endswith(b"}]}")
    assert server.process.wait(SOON) == 0


def test_a_worker_that_dies(start: Start, base: Path) -> None:
    """A worker that is killed is replaced, and the new one answers."""
    server = start(SAGEMAKER_BASE_DIR=base)
    pid = server.process.pid

    def worker() -> str:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().strip()

    first = until(worker)
    os.kill(int(first), signal.SIGKILL)
    until(lambda: worker() not in {"", first})
    assert until(lambda: server.ask("/ping")) == (200, b"")
