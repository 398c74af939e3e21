"""The kernels of boosted trees and of replies, and how long processes take to start.

Trees are measured against the library's own Python package, in CPU time of one thread; processes by the wall, against
one that imports NumPy and does nothing else.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np

from clary.algorithms.base import Predictions
from clary.algorithms.registry import ALGORITHMS, algorithm
from clary.recordio.batch import Array
from clary.recordio.csv import format_csv
from clary.serve.encode import encode

from .timing import Row, best_of
from .xgboost import PARAMETERS, RIVAL, xgboost

__all__ = ["rows"]

STARTS = 5
"""How often each process is started; the fastest counts."""

LIMIT = 30.0
"""Seconds after which a server that does not answer is given up."""

JOBS: Mapping[str, Mapping[str, str]] = {
    "kmeans": {"k": "10"},
    "pca": {"num_components": "3", "mini_batch_size": "500"},
    "randomcutforest": {},
    "linear-learner": {"predictor_type": "binary_classifier", "mini_batch_size": "200"},
    "factorization-machines": {"predictor_type": "binary_classifier", "num_factors": "8"},
    "xgboost": {"num_round": "10", "objective": "binary:logistic"},
}
"""Hyperparameters of a small job of each algorithm."""


def trees() -> Iterator[Row]:
    """One row and a thousand asked of 100 trees; margins have to have the same bits."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(20_000, 28)).astype(np.float32)
    booster = xgboost.train(PARAMETERS, xgboost.DMatrix(data, data.sum(axis=1) > 0), 100)
    booster.set_param({"nthread": 1})
    model = algorithm("xgboost").load(bytes(booster.save_raw("ubj")))
    holed = data[:1000].copy()
    holed[rng.random(holed.shape) < 0.2] = np.nan
    for what, part, times, least in (
        ("one row, 100 trees", data[:1], 300, 20),
        ("1,000 rows, 100 trees", data[:1000], 5, 1),
        ("1,000 rows with missing values, 100 trees", holed, 5, 1),
    ):
        assert model.predict(part).columns["score"].tobytes() == booster.inplace_predict(part).tobytes()
        runs = [
            lambda part=part, times=times: [model.predict(part) for _ in range(times)],
            lambda part=part, times=times: [booster.inplace_predict(part) for _ in range(times)],
        ]
        ours, theirs = (1e6 * seconds / times for seconds in best_of(runs))
        yield Row(what, ours, "µs", f"{RIVAL} inplace_predict", theirs, least, higher_is_better=False)


def replies() -> Iterator[Row]:
    """The text of 1,000 predictions with two columns."""
    rng = np.random.default_rng(0)
    score = rng.random(1000).astype(np.float32)
    columns: dict[str, Array] = {"score": score, "predicted_label": (score > 0.5).astype(np.int64)}
    predictions = Predictions("predictions", columns)
    for name in ("json", "jsonlines", "csv"):
        [seconds] = best_of([lambda name=name: encode(predictions, name)], 20)
        yield Row(f"reply of 1,000 predictions, {name}", 1e3 * seconds, "ms", bar=0.4, higher_is_better=False)


def tree_of(base: Path, name: str) -> None:
    """Lay a job of 1,000 rows out as the platform does."""
    data = np.random.default_rng(0).normal(size=(1000, 20)).astype(np.float32)
    labelled = "train" in algorithm(name).labelled
    parts = [(data[:, 0] > 0).astype(np.int64), data] if labelled else [data]
    for folder in ("input/config", "input/data/train", "model", "output"):
        (base / folder).mkdir(parents=True)
    source, target = base / "rows.csv", base / "input/data/train/rows.rec"
    source.write_bytes(format_csv(parts))
    given = {**JOBS[name], **({} if name == "xgboost" else {"feature_dim": "20"})}
    kind = f"text/csv;label_size={int(labelled)}"
    if name == "factorization-machines":  # which reads nothing else
        kind = "application/x-recordio-protobuf"
        words = ["convert", str(source), str(target), "--label-size", "1"]
        subprocess.run([sys.executable, "-m", "clary", *words], check=True, stdout=subprocess.DEVNULL)
    else:
        target.with_suffix(".csv").write_bytes(source.read_bytes())
    (base / "input/config/hyperparameters.json").write_text(json.dumps(given))
    (base / "input/config/inputdataconfig.json").write_text(json.dumps({"train": {"ContentType": kind}}))


def environment(base: Path, name: str, **more: str) -> dict[str, str]:
    """Of the processes of a job."""
    return {**os.environ, "SAGEMAKER_BASE_DIR": str(base), "CLARY_ALGORITHM": name, **more}


def wall(words: Iterable[str], env: Mapping[str, str]) -> float:
    """Seconds of a process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


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


def processes() -> Iterator[Row]:
    """A job of 1,000 rows, and a server of its model, for each algorithm."""
    with tempfile.TemporaryDirectory() as folder:
        bases = {name: Path(folder) / name for name in ALGORITHMS}
        for name, base in bases.items():
            tree_of(base, name)
        train = ["-m", "clary.containers.entrypoint", "train"]
        for name, base in bases.items():
            env, rival = environment(base, name), ["-c", "import numpy"]
            times = [(wall(train, env), wall(rival, os.environ)) for _ in range(STARTS)]  # in turns
            seconds, empty = (min(column) for column in zip(*times, strict=True))
            bar = round(empty + (0.5 if name == "xgboost" else 0.25), 3)
            what = f"process of a job of 1,000 rows, {name}"
            yield Row(what, seconds, "s", "import numpy", empty, bar=bar, higher_is_better=False)
        for name, base in bases.items():
            seconds = min(first_ping(environment(base, name)) for _ in range(STARTS))
            bar = None if name == "xgboost" else 0.4
            yield Row(f"start to first /ping, {name}", seconds, "s", bar=bar, higher_is_better=False)


def rows() -> Iterable[Row]:
    """All measurements."""
    yield from trees()
    yield from replies()
    yield from processes()
