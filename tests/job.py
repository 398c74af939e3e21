"""A tree like /opt/ml, and training jobs that run in it as real processes."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clary.recordio.batch import CSR, Array, Batch
from clary.recordio.writer import write_batch

SOON = 30.0
"""Seconds after which a test gives up."""

COMMAND = [sys.executable, "-m", "clary.containers.entrypoint", "train"]
CSV = "text/csv;label_size=0"
POINTS = b"0,0\n0,2\n10,0\n10,2\n"
"""Four rows whose two clusters have the centres (0, 1) and (10, 1)."""


def until(condition: Callable[[], Any]) -> Any:
    """What `condition` gives, as soon as it is true."""
    deadline = time.monotonic() + SOON
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{condition} has not come true"
        time.sleep(0.005)
    return found


@dataclass
class Result:
    """How a job ended."""

    code: int
    text: str
    failure: str | None

    @property
    def messages(self) -> list[str]:
        """Texts of the log's lines, without time and level."""
        return [line.partition("] ")[2] if line.startswith("[") else line for line in self.text.splitlines()]


class Tree:
    """A base directory as the platform lays it out; at first without any file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.model = root / "model" / "model_algo-1"
        self.failure = root / "output" / "failure"
        self.data = root / "input" / "data"
        for folder in ("input/config", "input/data", "model", "output"):
            (root / folder).mkdir(parents=True, exist_ok=True)

    def config(self, name: str, content: object) -> None:
        """Write a configuration file: text and bytes as they are, all else as JSON."""
        path = self.root / "input" / "config" / name
        text = content if isinstance(content, (str, bytes)) else json.dumps(content)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def file(self, place: str, data: bytes) -> Path:
        """Write a file under ``input/data``."""
        path = self.data / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def kmeans(self, content_type: str | None = CSV, mode: str = "File", **hyperparameters: object) -> Tree:
        """Configure a k-means job of two clusters in the plane."""
        given = {"feature_dim": 2, "k": 2, **hyperparameters}
        self.config("hyperparameters.json", {name: str(value) for name, value in given.items()})
        entry = {"TrainingInputMode": mode, **({"ContentType": content_type} if content_type else {})}
        self.config("inputdataconfig.json", {"train": entry})
        return self

    def start(self, **env: object) -> subprocess.Popen[bytes]:
        """Start the job."""
        given = {"SAGEMAKER_BASE_DIR": self.root, "CLARY_ALGORITHM": "kmeans", "CLARY_PIPE_TIMEOUT": SOON, **env}
        whole = {**os.environ, **{name: str(value) for name, value in given.items()}}
        return subprocess.Popen(COMMAND, env=whole, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def end(self, process: subprocess.Popen[bytes]) -> Result:
        """Wait for a job."""
        try:
            out, _ = process.communicate(timeout=SOON)
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
            raise AssertionError(f"the job has not ended: {out.decode()}") from None
        failure = self.failure.read_text() if self.failure.exists() else None
        return Result(process.returncode, out.decode(), failure)

    def run(self, **env: object) -> Result:
        """Run the job to its end."""
        return self.end(self.start(**env))

    def feed(
        self, name: str, *chunks: bytes, pause: float = 0.0, late: float = 0.0, endless: bool = False
    ) -> threading.Thread:
        """Make a FIFO and write to it once somebody reads."""
        path = self.data / name
        if not late:
            os.mkfifo(path)

        def write() -> None:
            if late:
                time.sleep(late)
                os.mkfifo(path)
            with suppress(BrokenPipeError), path.open("wb", buffering=0) as pipe:
                for chunk in itertools.cycle(chunks) if endless else chunks:
                    _write_all(pipe, chunk)
                    time.sleep(pause)

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        return thread


def _write_all(pipe: io.RawIOBase | io.FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[pipe.write(view) or 0 :]


def recordio(features: Array | CSR, labels: Iterable[float] | None = None) -> bytes:
    """Rows as RecordIO."""
    stream = io.BytesIO()
    write_batch(stream, Batch(features, None if labels is None else np.array([*labels], np.float32)))
    return stream.getvalue()


def csv(features: Array) -> bytes:
    """Rows as CSV; every number keeps all its digits."""
    return "".join(",".join(map(repr, row)) + "\n" for row in features.astype(float).tolist()).encode()
