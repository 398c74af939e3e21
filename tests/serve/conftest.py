"""Models small enough to reckon with by hand, and servers of them as real processes."""

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clary.algorithms.kmeans import KMeansModel

CENTRES = KMeansModel(np.array([[0, 0], [3, 4]], np.float32))
SOON = 20.0
"""Seconds after which a test gives up."""


def until(condition: Callable[[], Any]) -> Any:
    """What `condition` gives, as soon as it is true."""
    deadline = time.monotonic() + SOON
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{condition} has not come true"
        time.sleep(0.01)
    return found


@dataclass
class Server:
    """A running server and what it has logged."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int = 0

    @property
    def text(self) -> str:
        """The log so far."""
        return self.log.read_text()

    @property
    def lines(self) -> list[str]:
        """The texts of the log's lines."""
        return [line.partition("] ")[2] for line in self.text.splitlines()]

    def listening(self) -> bool:
        """Whether it listens, or never will."""
        _, _, rest = self.text.partition("Listening at: http://127.0.0.1:")
        self.port = int(rest.split(" ")[0]) if " " in rest else 0
        return bool(self.port) or self.process.poll() is not None

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        """Status and body of a response; keyword arguments are headers."""
        status, _, answer = self.exchange(path, body, **headers)
        return status, answer

    def exchange(self, path: str, body: Any = None, **headers: str) -> tuple[int, str, bytes]:
        """Status, content type and body of a response."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=SOON)) as connection:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("GET" if body is None else "POST", path, body, names)
            response = connection.getresponse()
            return response.status, response.getheader("Content-Type", ""), response.read()

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; give the exit status."""
        self.process.send_signal(number)
        return self.process.wait(SOON)


Start = Callable[..., Server]


@pytest.fixture(scope="module", params=["true", "false"], ids=["quick", "slow"])
def quick(request: pytest.FixtureRequest) -> str:
    """Whether servers answer plain requests past gunicorn's reader and Flask: every test holds both ways."""
    return str(request.param)


@contextmanager
def starting(folders: pytest.TempPathFactory, **always: str) -> Iterator[Start]:
    """A function that starts a server: ``start(*command, **environment)``."""
    servers: list[Server] = []

    def begin(*command: object, **environment: object) -> Server:
        env = {**os.environ, "SAGEMAKER_BIND_TO_PORT": "0", "SAGEMAKER_MODEL_SERVER_WORKERS": "1", **always}
        env |= {name: str(value) for name, value in environment.items()}
        log = folders.mktemp("log") / "log"
        words = [sys.executable, *map(str, command or ("-m", "clary.serve.workers"))]
        with log.open("wb") as out:
            process = subprocess.Popen(words, env=env, stdout=out, stderr=out, cwd=env.get("PWD"))
        servers.append(Server(process, log))
        until(servers[-1].listening)
        return servers[-1]

    yield begin
    for server in servers:
        server.process.kill()
        server.process.wait(SOON)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, quick: str) -> Iterator[Start]:
    """A function that starts a server."""
    with starting(tmp_path_factory, CLARY_QUICK=quick) as begin:
        yield begin


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base directory whose model directory has, among other things, a model."""
    model = tmp_path_factory.mktemp("ml") / "model"
    (model / "code").mkdir(parents=True)
    for name in ("model.tar.gz", "code/inference.py", ".DS_Store", "._model_algo-1"):
        (model / name).write_bytes(b"none of ours")
    (model / "model_algo-1").write_bytes(CENTRES.to_bytes())
    return model.parent


@pytest.fixture(scope="module")
def endpoint(start: Start, base: Path) -> Server:
    """A server of the model that nobody stops."""
    return start(SAGEMAKER_BASE_DIR=base, SAGEMAKER_MODEL_SERVER_WORKERS=2, MAX_CONTENT_LENGTH=1 << 20)


@dataclass
class Gate:
    """Holds predictions of a server up: they read from a FIFO."""

    fifo: Path

    def hold_prediction(self) -> int:
        """Wait until a prediction has begun; it ends when the descriptor that this gives is closed."""
        return int(until(self._writer))

    def _writer(self) -> int | None:
        try:
            return os.open(self.fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads yet
            return None


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """A gate for the predictions of `gated_server.py`."""
    os.mkfifo(tmp_path / "gate")
    return Gate(tmp_path / "gate")


@pytest.fixture
def gated(start: Start, gate: Gate) -> Callable[..., Server]:
    """A function that starts a server whose predictions wait at the gate."""

    def begin(**environment: object) -> Server:
        return start(Path(__file__).with_name("gated_server.py"), gate.fifo, **environment)

    return begin
