"""``clary predict``, ``serve`` and ``inspect``: a model after its training."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from clary.containers.artifact import pack

Clary = Callable[..., "subprocess.CompletedProcess[bytes]"]
Start = Callable[..., "subprocess.Popen[bytes]"]
OnTerminal = Callable[..., tuple[int, str]]

ROWS = 600
"""Rows of the files in `folder`."""
SOON = 60.0


def until(condition: Callable[[], object]) -> None:
    """Wait until it is true."""
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_predict_answers_every_row_in_order(clary: Clary, folder: Path) -> None:
    """One JSON object for each row, the same whatever format the rows came in."""
    clary("convert", "rows.csv", "rows.npz", cwd=folder)
    answers = [clary("predict", "model.tar.gz", name, cwd=folder) for name in ("rows.csv", "rows.rec", "rows.npz")]

    assert answers[0].stdout.count(b"\n") == ROWS
    assert {answer.stdout for answer in answers} == {answers[0].stdout}
    assert {answer.returncode for answer in answers} == {0}


def test_predict_makes_one_json_of_many_requests(clary: Clary, folder: Path, tmp_path: Path) -> None:
    """A file of several requests still gives one document, with all rows in it."""
    (tmp_path / "many.csv").write_bytes((folder / "rows.csv").read_bytes() * 300)
    assert (tmp_path / "many.csv").stat().st_size > 6_000_000
    words = ("--accept", "application/json", "--out", tmp_path / "out.json")
    done = clary("predict", "model.tar.gz", tmp_path / "many.csv", *words, cwd=folder)

    assert done.returncode == 0
    assert len(json.loads((tmp_path / "out.json").read_bytes())["predictions"]) == 300 * ROWS


def test_predict_cuts_recordio_between_records(clary: Clary, folder: Path, tmp_path: Path) -> None:
    """Every row of a RecordIO file that is too large for one request gets its answer."""
    (tmp_path / "many.rec").write_bytes((folder / "rows.rec").read_bytes() * 300)
    assert (tmp_path / "many.rec").stat().st_size > 6_000_000
    done = clary("predict", "model.tar.gz", tmp_path / "many.rec", "--accept", "csv", cwd=folder)

    assert (done.returncode, done.stdout.count(b"\n")) == (0, 300 * ROWS)


def test_predict_passes_on_what_the_server_says(clary: Clary, folder: Path, tmp_path: Path) -> None:
    """Rows that do not fit the model are the user's to mend, and no output appears."""
    words = ("--content-type", "text/csv", "--out", tmp_path / "out")
    done = clary("predict", "model.tar.gz", "-", *words, cwd=folder, stdin=b"1,2\n")

    assert done.returncode == 2
    assert done.stderr.startswith(b"clary: standard input: the server answered 400: ")
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]


def test_a_damaged_model_gets_the_reason(clary: Clary, folder: Path, tmp_path: Path) -> None:
    """The server's own words come through when it does not start, after the name of the model."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model_algo-1").write_bytes(b"no model")
    pack(tmp_path / "model", tmp_path / "bad.tar.gz")
    done = clary("predict", tmp_path / "bad.tar.gz", "rows.csv", cwd=folder)

    assert done.returncode == 2
    assert done.stderr.startswith(f"clary: {tmp_path}/bad.tar.gz: the server ended".encode())
    assert b"no algorithm can read the artifact" in done.stderr


def test_inspect_tells_what_is_in_a_model(clary: Clary, on_terminal: OnTerminal, folder: Path) -> None:
    """JSON where no person looks, a table on a terminal."""
    found = json.loads(clary("inspect", "model.tar.gz", cwd=folder).stdout)
    _, seen = on_terminal("inspect", "model.tar.gz", cwd=folder)

    assert (found["algorithm"], found["feature_dim"], list(found["files"])) == ("kmeans", 4, ["model_algo-1"])
    assert re.search(r"\nalgorithm +kmeans\nfeature_dim +4\n", seen)


def test_serve_answers_until_ctrl_c(started: Start, folder: Path) -> None:
    """The endpoint is up within seconds, and its port is free again when it has ended."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with started("serve", "model.tar.gz", "--port", str(port), "--workers", "1", cwd=folder) as process:
        until(lambda: process.poll() is not None or _ping(port) == 200)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SOON)

    assert process.returncode == 130, err
    assert out.startswith(b"Docker entrypoint called with argument(s): serve\n")
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_port_in_use_gets_a_sentence(clary: Clary, folder: Path) -> None:
    """Somebody else's server is not taken for ours."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = clary("serve", "model.tar.gz", "--port", str(port), cwd=folder)

    assert (done.returncode, done.stderr.decode()) == (
        3,
        f"clary: port {port} is in use: choose another one with --port\n",
    )


def _ping(port: int) -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status
        except OSError:
            return 0
