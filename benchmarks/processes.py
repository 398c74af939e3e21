"""Training jobs as processes, and the start of servers: the fastest of several, by the clock on the wall.

A job of 1,000 rows stands against a Python that imports NumPy and ends. XGBoost's job is the whole of `clary train`:
the command and the job's own process, 100,000 rows of CSV read, a line of metrics each round, the archive; against it
stands nothing but the call of `xgboost.train` in a process of its own, whose start, imports and matrix are not counted,
with the same metric each round and without. In a container a job stands against a run of the same image that does
nothing.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np

from clary import __version__
from clary.algorithms.registry import ALGORITHMS
from clary.recordio import Batch
from clary.recordio.csv import write_csv

from .jobs import JOBS, TRAIN, environment, kept_bytecode, small_job, wall
from .timing import Row

__all__ = ["rows"]

TIMES = 7
"""How often each process runs; the fastest counts."""

FEWER = 4
"""How often one of seconds runs."""

ALLOWED = {name: 0.5 if name == "xgboost" else 0.25 for name in JOBS}
ALLOWED_IN_DOCKER = {name: 0.7 if name == "xgboost" else 0.4 for name in JOBS}
"""Seconds beyond those of doing nothing."""

LIMIT = 30.0
"""Seconds after which a server or an engine that does not answer is given up."""

PARAMETERS = {"objective": "binary:logistic", "max_depth": "6", "eta": "0.2"}
BOOSTING = """
import sys, time
import numpy, xgboost
data = numpy.load(sys.argv[1])
matrix = xgboost.DMatrix(data[:, 1:], data[:, 0])
evals = [(matrix, "train")] if sys.argv[2] == "metric" else []
parameters = dict(word.split("=") for word in sys.argv[3:])
start = time.perf_counter()
xgboost.train(parameters, matrix, 100, evals=evals, verbose_eval=False)
print(time.perf_counter() - start)
"""


def fastest(columns: Iterable[Iterable[float]]) -> list[float]:
    """The least of each, of measurements that took turns."""
    return [min(column) for column in zip(*columns, strict=True)]


def boosted(folder: Path, variables: Mapping[str, str]) -> Iterator[Row]:
    """A job of 100,000 rows of 28 columns and 100 rounds."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(100_000, 28)).astype(np.float32)
    labels = (rows @ rng.normal(size=28) + rng.normal(size=len(rows)) > 0).astype(np.float32)
    text, binary = folder / "rows.csv", folder / "rows.npy"
    with text.open("wb") as stream:
        write_csv(stream, [Batch(rows, labels)])
    np.save(binary, np.column_stack([labels, rows]))
    words = [f"{key}={value}" for key, value in PARAMETERS.items()]
    job = ["-m", "clary", "train", "xgboost", "--train", str(text), "--out", str(folder / "model.tar.gz")]
    job += ["-p", "num_round=100", *words]

    def alone(how: str) -> float:
        command = [sys.executable, "-c", BOOSTING, str(binary), how, *words]
        return float(subprocess.run(command, env=variables, check=True, capture_output=True, text=True).stdout)

    ours, *theirs = fastest((wall(job, variables), alone("metric"), alone("bare")) for _ in range(FEWER))
    for rival, seconds in zip(("train alone, with the metric", "train alone"), theirs, strict=True):
        what = "clary train xgboost, 100,000 x 28 CSV, 100 rounds"
        yield Row(what, ours, "s", f"xgboost.{rival}", seconds, 1 / 1.15, higher_is_better=False, plus=0.3)


def small(bases: Mapping[str, Path], variables: Mapping[str, str]) -> Iterator[Row]:
    """A job of 1,000 rows of each algorithm."""
    for name, base in bases.items():
        env = environment(variables, base, name)
        ours, empty = fastest((wall(TRAIN, env), wall(["-c", "import numpy"], variables)) for _ in range(TIMES))
        yield Row(
            f"train, 1,000 rows, {name}",
            ours,
            "s",
            "import numpy",
            empty,
            1,
            higher_is_better=False,
            plus=ALLOWED[name],
        )


def no_image(image: str) -> str:
    """Why an image cannot run here, or nothing."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "info"], capture_output=True, timeout=LIMIT, check=False).returncode:
        return "no Docker engine answers"
    found = subprocess.run([docker, "image", "inspect", image], capture_output=True, timeout=LIMIT, check=False)
    return f"there is no image {image}" if found.returncode else ""


def contained(bases: Mapping[str, Path]) -> Iterator[Row]:
    """The same jobs in containers."""
    for name, base in bases.items():
        what, image = f"docker run … train, 1,000 rows, {name}", f"clary/{name}:{__version__}"
        plus, rival = ALLOWED_IN_DOCKER[name], "docker run … true"
        if why := no_image(image):
            yield Row(what, None, "s", rival, None, 1, higher_is_better=False, plus=plus, why=why)
            continue
        job = ["run", "--rm", f"--volume={base}:/opt/ml", image, "train"]
        nothing = ["run", "--rm", "--entrypoint=true", image]
        times = ((wall(job, program="docker"), wall(nothing, program="docker")) for _ in range(TIMES))
        ours, empty = fastest(times)
        yield Row(what, ours, "s", rival, empty, 1, higher_is_better=False, plus=plus)


def first_ping(env: Mapping[str, str]) -> float:
    """Seconds from the start of a server to its first answer."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.perf_counter()
    words = [sys.executable, "-m", "clary.containers.entrypoint", "serve"]
    env = {**env, "SAGEMAKER_BIND_TO_PORT": str(port)}
    server = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while time.perf_counter() - start < LIMIT:
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)) as connection:
                try:
                    connection.request("GET", "/ping")
                    assert connection.getresponse().status == http.client.OK
                    return time.perf_counter() - start
                except OSError:
                    time.sleep(0.002)
        raise TimeoutError(f"the server does not answer within {LIMIT} s")
    finally:
        server.terminate()
        server.wait()


def starting(bases: Mapping[str, Path], variables: Mapping[str, str]) -> Iterator[Row]:
    """A server of each model, from its start to the first answer to a ping."""
    for name, base in bases.items():
        seconds = min(first_ping(environment(variables, base, name)) for _ in range(TIMES))
        bar = None if name == "xgboost" else 0.4
        yield Row(f"start to first /ping, {name}", seconds, "s", bar=bar, higher_is_better=False)


def rows() -> Iterable[Row]:
    """All measurements."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        variables = kept_bytecode(folder / "bytecode")
        bases = {algorithm: folder / algorithm for algorithm in ALGORITHMS}
        for algorithm, base in bases.items():
            small_job(base, algorithm)
        yield from boosted(folder, variables)
        yield from small(bases, variables)
        yield from starting(bases, variables)
        os.chmod(folder, 0o755)  # noqa: S103, PTH101  # the user of an image has to get in
        yield from contained(bases)
