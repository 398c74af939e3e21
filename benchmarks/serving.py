"""The server against its own parts put together plainly: gunicorn's threads and a Flask view of the same handler.

Both are processes with one worker, asked by turns over real connections. Times are seen by the client, and so have
its own part in them. ``python -m benchmarks.serving FOLDER PORT`` is the rival.
"""

from __future__ import annotations

import http.client
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from clary.algorithms.base import Predictions
from clary.algorithms.registry import algorithm, open_artifact
from clary.recordio.batch import Array
from clary.recordio.content import decode_body, parse_media_type
from clary.serve.encode import encode, encode_json

from .jobs import kept_bytecode
from .setting import Memory, Silence
from .timing import Row, best_of

__all__ = ["rows"]

WIDTH: Final = 784
RIVAL: Final = "gthread + Flask"
HOST: Final = "127.0.0.1"
ROUNDS: Final = 5
REQUESTS: Final = 1000
"""In a round."""

NUMPY: Final = {
    "kmeans": {"k": "10", "feature_dim": str(WIDTH)},
    "pca": {"num_components": "10", "feature_dim": str(WIDTH), "mini_batch_size": "100"},
    "randomcutforest": {"feature_dim": str(WIDTH), "num_trees": "50"},
    "linear-learner": {"predictor_type": "binary_classifier", "mini_batch_size": "100"},
    "factorization-machines": {
        "predictor_type": "binary_classifier",
        "feature_dim": str(WIDTH),
        "num_factors": "8",
        "mini_batch_size": "100",
    },
}
"""Hyperparameters of small models."""


def images(count: int) -> Array:
    """Rows like those of MNIST: bytes, most of them zero."""
    rng = np.random.default_rng(0)
    pixels: Array = rng.integers(0, 256, (count, WIDTH)) * (rng.random((count, WIDTH)) < 0.2)
    return pixels.astype(np.float32)


def csv(features: Array) -> bytes:
    """Rows as text."""
    return b"".join(",".join(map(str, row)).encode() + b"\n" for row in features.astype(int).tolist())


def model_in(folder: Path, name: str) -> Path:
    """A base directory with a small model."""
    chosen, features = algorithm(name), images(500)
    labels = (features[:, 0] > 0).astype(np.float32) if chosen.labelled else None
    model = chosen.fit(chosen.params.parse(NUMPY[name]), {"train": Memory(features, labels)}, Silence())
    (folder / name / "model").mkdir(parents=True)
    (folder / name / "model" / chosen.artifact).write_bytes(model.to_bytes())
    return folder / name


def rival(folder: Path, port: int) -> None:
    """Serve until the end, plainly."""
    from flask import Flask, Response, request
    from gunicorn.app.base import BaseApplication

    _, model = open_artifact(folder / "model")
    app = Flask("rival")

    @app.post("/invocations")
    def invocations() -> Response:
        batch = decode_body(request.get_data(), parse_media_type(request.content_type))
        return Response(encode(model.predict(batch.features), "json"), content_type="application/json")

    @app.get("/ping")
    def ping() -> Response:
        return Response(status=200)

    class Server(BaseApplication):
        def load_config(self) -> None:
            options = {"bind": f"{HOST}:{port}", "worker_class": "gthread", "threads": 32, "keepalive": 65}
            for name, value in options.items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            return app

    Server().run()


@contextmanager
def running(words: list[str], port: int, kept: Path, **environment: str) -> Iterator[float]:
    """A server, once it answers /ping: seconds that it took."""
    one = {"OPENBLAS_NUM_THREADS": "1", "SAGEMAKER_MODEL_SERVER_WORKERS": "1"}
    env = {**kept_bytecode(kept), **one, **environment}
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *words], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not answers(port):
            if process.poll() is not None:
                raise RuntimeError(f"{' '.join(words)} has ended with status {process.returncode}")
            time.sleep(0.005)
        yield time.perf_counter() - start
    finally:
        process.terminate()
        process.wait(60)


def answers(port: int) -> bool:
    """Whether /ping does."""
    try:
        with closing(http.client.HTTPConnection(HOST, port, timeout=5)) as connection:
            connection.request("GET", "/ping")
            return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False


def free_port() -> int:
    """One that nobody listens on."""
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def ours(base: Path, port: int) -> Iterator[float]:
    """Our server: seconds until it answered."""
    with running(
        ["clary.serve.workers"],
        port,
        base.parent / "bytecode",
        SAGEMAKER_BASE_DIR=str(base),
        SAGEMAKER_BIND_TO_PORT=str(port),
    ) as took:
        yield took


def asked(port: int, request: bytes, count: int) -> list[float]:
    """Seconds of each of some requests on one connection."""
    took = []
    with closing(socket.create_connection((HOST, port), timeout=60)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            start = time.perf_counter()
            client.sendall(request)
            head, _, body = client.recv(1 << 16).partition(b"\r\n\r\n")
            missing = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]) - len(body)
            while missing > 0:
                missing -= len(client.recv(1 << 16))
            took.append(time.perf_counter() - start)
            if not head.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"answered with {head!r}")
    return took


def at_once(*works: Callable[[], object]) -> None:
    """Do things side by side."""
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def posted(body: bytes) -> bytes:
    """A request as boto3 and the like write it."""
    head = f"POST /invocations HTTP/1.1\r\nHost: {HOST}:8080\r\nAccept-Encoding: identity\r\nContent-Type: text/csv\r\n"
    return b"%bContent-Length: %d\r\n\r\n%b" % (head.encode(), len(body), body)


def small(name: str, port: int, other: int) -> Iterator[Row]:
    """One row at a time, at one connection and at eight."""
    request = posted(csv(images(1)))
    single: dict[int, list[list[float]]] = {port: [], other: []}
    many: dict[int, list[float]] = {port: [], other: []}
    for _ in range(ROUNDS):  # by turns, so that a neighbour's load meets both
        for each in (port, other):
            single[each].append(asked(each, request, REQUESTS))
            found = many[each]
            at_once(*[lambda each=each, found=found: found.extend(asked(each, request, REQUESTS // 8))] * 8)
    rates = [max(REQUESTS / sum(took) for took in single[each]) for each in (port, other)]
    middles = [min(1e6 * median(took) for took in single[each]) for each in (port, other)]
    late = [1e3 * sorted(many[each])[len(many[each]) * 99 // 100] for each in (port, other)]
    what = f"{name}, a row of {WIDTH}"
    yield Row(f"{what}, requests a second", rates[0], "/s", RIVAL, rates[1], 5)
    yield Row(f"{what}, median", middles[0], "µs", RIVAL, middles[1], 5, higher_is_better=False)
    yield Row(f"{what}, 8 connections, p99", late[0], "ms", RIVAL, late[1], 1, higher_is_better=False)


def slowly(port: int, request: bytes, seconds: float) -> None:
    """Send a request in pieces, and take the answer."""
    step = len(request) // 50
    with closing(socket.create_connection((HOST, port), timeout=60)) as client:
        for start in range(0, len(request), step):
            client.sendall(request[start : start + step])
            time.sleep(seconds / 50)
        client.recv(1 << 16)


def pings(port: int, work: Callable[[], object]) -> float:
    """The longest milliseconds that a new client's /ping took while the work was done."""
    longest, done = 0.0, threading.Event()

    def ping() -> None:
        nonlocal longest
        while not done.is_set():
            start = time.perf_counter()
            if not answers(port):
                raise RuntimeError("/ping was not answered")
            longest = max(longest, time.perf_counter() - start)
            time.sleep(random.random() / 50)  # noqa: S311  # no secret

    def do() -> None:
        work()
        done.set()

    at_once(ping, do)
    return 1e3 * longest


def large(port: int) -> Iterator[Row]:
    """How long /ping has to wait for the bodies and predictions of others."""
    pixels = csv(images(2000))
    body = posted(pixels * (5_000_000 // len(pixels) + 1))
    upload = posted(pixels * (20_000_000 // len(pixels) + 1))
    found = pings(port, lambda: at_once(*[lambda: asked(port, body, 5)] * 4))
    yield Row("longest /ping, 4 clients that send 5 MB of CSV", found, "ms", bar=250, higher_is_better=False)
    found = pings(port, lambda: slowly(port, upload, 3))
    yield Row("longest /ping, 20 MB of CSV that come slowly", found, "ms", bar=250, higher_is_better=False)


def slow(port: int) -> Iterator[Row]:
    """How long /ping has to wait for predictions that take their time."""
    body = posted(csv(images(10_000)))
    took = asked(port, body, 1)[0]
    found = pings(port, lambda: at_once(*[lambda: asked(port, body, 3)] * 4))
    what = f"longest /ping, 4 clients whose predictions take {took:.1f} s each when alone"
    yield Row(what, found, "ms", bar=250, higher_is_better=False)


def starts(folder: Path) -> Iterator[Row]:
    """From the start of the process to the first answer."""
    for name in NUMPY:
        took = []
        for _ in range(ROUNDS):
            with ours(folder / name, free_port()) as seconds:
                took.append(seconds)
        yield Row(f"{name}, start to /ping", min(took), "s", bar=0.4, higher_is_better=False)


def replies() -> Row:
    """The text of a large answer."""
    rng = np.random.default_rng(0)
    columns = {
        "closest_cluster": rng.integers(0, 10, 1000).astype(np.float32),
        "distance_to_cluster": rng.random(1000, dtype=np.float32) * 1000,
    }
    [seconds] = best_of([lambda: encode_json(Predictions("predictions", columns))], 200)
    return Row("1,000 predictions as JSON", 1e3 * seconds, "ms", bar=0.4, higher_is_better=False)


def rows() -> Iterable[Row]:
    """All measurements."""
    yield replies()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in NUMPY:
            model_in(folder, name)
        for name in ("kmeans", "linear-learner"):
            port, other = free_port(), free_port()
            words = ["benchmarks.serving", str(folder / name), str(other)]
            with ours(folder / name, port), running(words, other, folder / "bytecode"):
                yield from small(name, port, other)
                if name == "kmeans":
                    yield from large(port)
        port = free_port()
        with ours(folder / "randomcutforest", port):
            yield from slow(port)
        yield from starts(folder)


if __name__ == "__main__":
    rival(Path(sys.argv[1]), int(sys.argv[2]))
