"""Real commands on real files, and a limit for every test: a FIFO without its other end waits for ever."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import numpy as np
import pytest

from clary.recordio.batch import Batch
from clary.recordio.csv import format_csv
from clary.recordio.writer import write_batch

CLARY = (sys.executable, "-m", "clary")
SOON = 50.0

_rng = np.random.default_rng(0)
ROWS = (_rng.normal(size=(600, 4)) + 10 * _rng.integers(0, 3, (600, 1))).astype(np.float32)

LIMIT = 60


@pytest.fixture(autouse=True)
def limited() -> Iterator[None]:
    """Interrupt a test that takes longer than a minute."""
    before = signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(LIMIT)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _give_up(_number: int, _frame: FrameType | None) -> NoReturn:
    raise TimeoutError(f"the test took longer than {LIMIT} s")


def _clary(*words: str | Path, cwd: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A command that ends by itself."""
    return subprocess.run([*CLARY, *words], cwd=cwd, input=stdin, capture_output=True, check=False, timeout=SOON)


def _on_terminal(*words: str, cwd: Path, term: str = "xterm") -> tuple[int, str]:
    """Exit code and output of a command whose output is a terminal."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": term, "COLUMNS": "80"}
    process = subprocess.Popen([*CLARY, *words], cwd=cwd, env=environment, stdout=follower, stderr=follower)
    os.close(follower)
    seen = b""
    deadline = time.monotonic() + SOON
    while time.monotonic() < deadline and select.select([leader], [], [], SOON)[0]:
        try:
            seen += os.read(leader, 65536)
        except OSError:  # Linux says so when the other side is closed
            break
    os.close(leader)
    return process.wait(SOON), seen.decode().replace("\r\n", "\n")


@pytest.fixture(scope="session")
def clary() -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Runs a command that ends by itself."""
    return _clary


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a command that goes on; Ctrl-C means something to it, even where the tests run in the background."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*words: str, cwd: Path) -> subprocess.Popen[bytes]:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen([*CLARY, *words], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.terminate()  # does nothing where it has ended
        process.wait(SOON)


@pytest.fixture
def on_terminal() -> Callable[..., tuple[int, str]]:
    """Runs a command whose output is a terminal; gives its exit code and output."""
    return _on_terminal


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[bytes]]:
    """A folder with rows.rec, rows.csv and the model.tar.gz of a training, and what the training printed."""
    folder = tmp_path_factory.mktemp("cli")
    with (folder / "rows.rec").open("wb") as stream:
        write_batch(stream, Batch(ROWS))
    (folder / "rows.csv").write_bytes(format_csv([ROWS]))
    done = _clary("train", "kmeans", "--train", "rows.rec", "-p", "k=3", "epochs=2", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture
def folder(trained: tuple[Path, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of `trained`; afterwards no command has left anything among the temporary files."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    yield trained[0]

    assert list((tmp_path / "tmp").iterdir()) == []
