"""The server as a process, over real connections."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

ROW = "1,1"
CSV = "text/csv"


@pytest.fixture
def aside() -> Iterator[Callable[..., Future[Any]]]:
    """A function that runs another one in a thread."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit


def test_answers_in_json(endpoint: Any) -> None:
    """A CSV row is answered with its cluster and the distance to it."""
    expected = b'{"predictions": [{"closest_cluster": 1.0, "distance_to_cluster": 5.0}]}'
    assert endpoint.ask("/invocations", "6,8", Content_Type=CSV) == (200, expected)


def test_a_hundred_rows(endpoint: Any) -> None:
    """Every row gets its line, in the order asked."""
    body = "".join(f"{i},0\n" for i in range(100))
    _, answer = endpoint.ask("/invocations", body, Content_Type=CSV, Accept=CSV)
    assert [line.split(b",")[0] for line in answer.splitlines()] == [b"0.0"] * 5 + [b"1.0"] * 95


def test_reads_chunked_bodies_whole(endpoint: Any) -> None:
    """A body without an announced length is read to its end, however it is cut."""
    pieces = iter([b"6", b",", b"8\n3,", b"4\n"])
    answer = endpoint.ask("/invocations", pieces, Content_Type=CSV, Accept=CSV)
    assert answer == (200, b"1.0,5.0\n1.0,0.0\n")


@pytest.mark.parametrize("chunked", [False, True])
def test_refuses_large_bodies(endpoint: Any, chunked: bool) -> None:
    """A client that sends more than the limit gets to read why it is refused."""
    body = b"1,1\n" * (4 << 20)
    status, text = endpoint.ask("/invocations", iter([body]) if chunked else body, Content_Type=CSV)
    assert (status, text[:40]) == (413, b"the payload is larger than 1048576 bytes")


def test_takes_a_body_of_exactly_the_limit(endpoint: Any) -> None:
    """The limit itself is allowed."""
    body = b"1,1\n" * (1 << 18)
    status, answer = endpoint.ask("/invocations", iter([body]), Content_Type=CSV, Accept=CSV)
    assert (status, answer.count(b"\n")) == (200, 1 << 18)


def test_keeps_connections(endpoint: Any) -> None:
    """A connection goes on after a refusal whose body was never looked at."""
    with closing(http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=10)) as connection:
        statuses = []
        for kind in ("image/png", CSV):
            connection.request("POST", "/invocations", ROW, {"Content-Type": kind})
            statuses.append((response := connection.getresponse()).status)
            response.read()
    assert statuses == [415, 200]


def test_pings_while_predicting(gated: Any, gate: Any, aside: Any) -> None:
    """One worker answers /ping at once while a prediction runs in it."""
    server = gated()
    answer = aside(server.ask, "/invocations", ROW, Content_Type=CSV)
    running = gate.hold_prediction()
    began = time.monotonic()
    assert server.ask("/ping") == (200, b"")
    assert time.monotonic() - began < 1
    os.close(running)
    assert answer.result(10)[0] == 200


def test_pings_when_all_places_are_taken(gated: Any, gate: Any, aside: Any) -> None:
    """An invocation too many is refused with 503, and /ping still answered."""
    server = gated(CLARY_THREADS=1)
    answer = aside(server.ask, "/invocations", ROW, Content_Type=CSV)
    running = gate.hold_prediction()
    assert server.ask("/invocations", ROW, Content_Type=CSV)[0] == 503
    assert server.ask("/ping")[0] == 200
    os.close(running)
    assert answer.result(10)[0] == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_finishes_running_requests(gated: Any, gate: Any, aside: Any, number: int) -> None:
    """After a signal to stop, the request under way is answered and the exit status is 0."""
    server = gated()
    answer = aside(server.ask, "/invocations", ROW, Content_Type=CSV)
    running = gate.hold_prediction()
    stopped = aside(server.end, number)
    os.close(running)
    assert answer.result(10)[0] == 200
    assert stopped.result(10) == 0


def test_stops_at_once_when_idle(start: Any, base: Path) -> None:
    """A server told to stop while its workers are being forked leaves within seconds, with status 0."""
    server = start(SAGEMAKER_BASE_DIR=base, SAGEMAKER_MODEL_SERVER_WORKERS=8)
    began = time.monotonic()
    assert server.end() == 0
    assert time.monotonic() - began < 5


def test_ends_stalled_clients(start: Any, base: Path) -> None:
    """A client that announces more than it sends loses its connection."""
    server = start(SAGEMAKER_BASE_DIR=base, SAGEMAKER_MODEL_SERVER_TIMEOUT=1)
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as client:
        client.sendall(b"POST /invocations HTTP/1.1\r\nContent-Type: text/csv\r\nContent-Length: 9\r\n\r\n1,")
        assert client.makefile("rb").readline() == b"HTTP/1.1 400 BAD REQUEST\r\n"


def test_listens_where_told(start: Any, base: Path) -> None:
    """SAGEMAKER_BIND_TO_PORT is the port."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    assert start(SAGEMAKER_BASE_DIR=base, SAGEMAKER_BIND_TO_PORT=port).port == port


def test_a_taken_port_is_one_sentence(start: Any, base: Path) -> None:
    """A port in use ends the server with status 3 and a line that says so."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        server = start(SAGEMAKER_BASE_DIR=base, SAGEMAKER_BIND_TO_PORT=port)
    assert server.process.returncode == 3
    assert server.lines == [f"Platform Error: cannot listen on 127.0.0.1 port {port}: Address already in use"]


def test_no_artifact_is_one_sentence(start: Any, tmp_path: Path) -> None:
    """A model directory without a model ends the server with status 2, naming the file it lacks."""
    server = start(SAGEMAKER_BASE_DIR=tmp_path)
    assert server.process.returncode == 2
    assert "Customer Error: no model artifact" in server.lines[-1]
    assert "model_algo-1" in server.lines[-1]


def test_a_wrong_setting_is_one_sentence(start: Any) -> None:
    """A variable with an odd value ends the server with status 2, naming the variable."""
    server = start(SAGEMAKER_MODEL_SERVER_WORKERS="many")
    assert server.process.returncode == 2
    assert server.lines == [
        "Customer Error: SAGEMAKER_MODEL_SERVER_WORKERS='many' is not allowed: it takes a whole number of at least 1"
    ]


def test_writes_nothing(start: Any, base: Path, tmp_path: Path) -> None:
    """Neither the model directory, nor home, nor the working directory gets a file."""
    before = sorted(base.rglob("*"))
    server = start(SAGEMAKER_BASE_DIR=base, HOME=tmp_path, XDG_RUNTIME_DIR=tmp_path, PWD=tmp_path)
    assert server.ask("/invocations", ROW, Content_Type=CSV)[0] == 200
    assert (sorted(base.rglob("*")), list(tmp_path.iterdir())) == (before, [])


def test_starts_light() -> None:
    """The modules that are needed before the model is loaded import neither numpy nor Flask."""
    code = "import sys, clary.serve.workers; sys.exit(any(name in sys.modules for name in ('numpy', 'flask')))"
    assert subprocess.run([sys.executable, "-c", code], timeout=20, check=False).returncode == 0
