"""``clary serve --pipeline``: models in a row behind one port, which live and die together."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from clary.algorithms.kmeans import KMeansModel
from clary.containers.artifact import pack

Clary = Callable[..., "subprocess.CompletedProcess[bytes]"]
Start = Callable[..., "subprocess.Popen[bytes]"]

SOON = 50.0
CSV = "text/csv"


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two archives, of which the second groups what the first answers in CSV."""
    monkeypatch.setenv("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", CSV)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    for name, centres in (("first", [[0, 0], [3, 4]]), ("second", [[1, 2]])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_algo-1").write_bytes(KMeansModel(np.array(centres, np.float32)).to_bytes())
        pack(tmp_path / name, tmp_path / f"{name}.tar.gz")
    return tmp_path


def until(condition: Callable[[], object]) -> None:
    """Wait until it is true."""
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def ask(port: int, path: str = "/ping", body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of an answer; 0 where there is none."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        try:
            connection.request("GET" if body is None else "POST", path, body, {"Content-Type": CSV})
            response = connection.getresponse()
            return response.status, response.read()
        except OSError:
            return 0, b""


def servers(process: subprocess.Popen[bytes]) -> dict[str, int]:
    """The processes that ``clary serve`` has started, by the names of their folders."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    found = {}
    for child in children:
        pairs = Path(f"/proc/{child}/environ").read_bytes().decode().split("\0")
        [base] = [value for name, _, value in (pair.partition("=") for pair in pairs) if name == "SAGEMAKER_BASE_DIR"]
        found[Path(base).name] = int(child)
    return found


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_pipeline_answers_until_it_is_told_to_end(started: Start, models: Path, number: int, code: int) -> None:
    """One port answers for both models; a signal ends all processes and leaves no file."""
    port = free_port()
    words = ("serve", "first.tar.gz", "second", "--pipeline", "--port", str(port))
    with started(*words, cwd=models) as process:
        until(lambda: process.poll() is not None or ask(port)[0] == 200)
        assert ask(port, "/invocations", b"6,8") == (200, b"0.0,3.0\n")
        pids = servers(process).values()
        assert len(pids) == 3
        time.sleep(0.5)
        process.send_signal(number)
        out, err = process.communicate(timeout=SOON)
    assert process.returncode == code, err
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert b"clary: serving first.tar.gz, then second; try:  curl -H 'Content-Type: text/csv'" in err
    assert f"http://127.0.0.1:{port}/invocations".encode() in err
    labels = {line.partition(b": ")[0] for line in out.splitlines()}
    assert labels == {b"container-1", b"container-2", b"pipeline"}
    assert list((models / "tmp").iterdir()) == []


@pytest.mark.parametrize("name", ["container-1", "container-2"])
def test_one_that_dies_ends_all(started: Start, models: Path, name: str) -> None:
    """The sentence says which one it was and how it ended."""
    port = free_port()
    with started("serve", "first", "second", "--pipeline", "--port", str(port), cwd=models) as process:
        until(lambda: process.poll() is not None or ask(port)[0] == 200)
        pids = servers(process)
        os.kill(pids[name], signal.SIGKILL)
        _, err = process.communicate(timeout=SOON)
    folder = {"container-1": "first", "container-2": "second"}[name]
    told = f"clary: {name}, which served {folder}, has ended with exit code 137; the pipeline ends with it\n"
    assert (process.returncode, err.decode().endswith(told)) == (137, True), err
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids.values())


def test_a_model_that_cannot_be_served(clary: Clary, models: Path) -> None:
    """Its container and file are named; nothing goes on without it."""
    (models / "second/model_algo-1").write_bytes(b"no model")
    done = clary("serve", "first", "second", "--pipeline", "--port", "0", cwd=models)
    told = b"clary: container-2 cannot serve second: the log above says why; the pipeline ends with it\n"
    assert (done.returncode, done.stderr) == (2, told)
    assert b"container-2: " in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("first", "--pipeline"), "a pipeline has 2 to 15 models, got 1"),
        (("first",) * 16 + ("--pipeline",), "a pipeline has 2 to 15 models, got 16"),
        (("first", "second"), "2 models, first and second: to ask them in a row add --pipeline"),
        (("first", "gone.tar.gz", "--pipeline"), "gone.tar.gz does not exist"),
    ],
)
def test_models_that_make_no_pipeline(clary: Clary, models: Path, words: tuple[str, ...], told: str) -> None:
    """Nothing is started; the sentence says what is wrong."""
    done = clary("serve", *words, "--port", "0", cwd=models)
    assert (done.returncode, done.stdout, done.stderr.decode()) == (2, b"", f"clary: {told}\n")


def test_each_model_has_variables_of_its_own(started: Start, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One model can be told what to answer where nobody asks for anything, and the others not."""
    monkeypatch.delenv("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT")
    port = free_port()
    words = ("first", "second", "--pipeline", "--port", str(port), "--env")
    with started("serve", *words, f"1:SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT={CSV}", cwd=models) as process:
        until(lambda: process.poll() is not None or ask(port)[0] == 200)
        answer = b'{"predictions": [{"closest_cluster": 0.0, "distance_to_cluster": 3.0}]}'
        assert ask(port, "/invocations", b"6,8") == (200, answer)
        assert ask(port, "/invocations", b"")[0] == 204
        process.terminate()
        process.communicate(timeout=SOON)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("3:A=b", "--env 3:A=b: there is no model 3, they are 1 to 2"),
        ("A", "--env A: write it as KEY=VALUE"),
        ("1:2=3", "--env 2=3: write it as KEY=VALUE"),
    ],
)
def test_variables_that_are_none(clary: Clary, models: Path, word: str, told: str) -> None:
    """The sentence says what is wrong with it."""
    done = clary("serve", "first", "second", "--pipeline", "--port", "0", "--env", word, cwd=models)
    assert (done.returncode, done.stderr.decode()) == (2, f"clary: {told}\n")


def test_the_trees_can_be_kept(started: Start, models: Path) -> None:
    """Each container has a folder of its own below the one that was named."""
    port = free_port()
    words = ("serve", "first", "second.tar.gz", "--pipeline", "--root", "ml", "--port", str(port))
    with started(*words, cwd=models) as process:
        until(lambda: process.poll() is not None or ask(port)[0] == 200)
        process.terminate()
        process.communicate(timeout=SOON)
    assert sorted(path.name for path in (models / "ml").iterdir()) == ["container-1", "container-2"]
    assert (models / "ml/container-2/model/model_algo-1").is_file()
