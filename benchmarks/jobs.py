"""Training jobs as the platform lays them out, and the processes that do them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from clary.algorithms.registry import algorithm
from clary.recordio import Batch, write_batch
from clary.recordio.batch import Array
from clary.recordio.csv import format_csv

__all__ = ["JOBS", "TRAIN", "environment", "kept_bytecode", "lay_out", "small_job", "wall"]

TRAIN = ("-m", "clary.containers.entrypoint", "train")
"""What Python is told to do a job."""

ROWS, COLUMNS = 1000, 20

JOBS: Mapping[str, Mapping[str, str]] = {
    "kmeans": {"k": "10"},
    "pca": {"num_components": "3", "mini_batch_size": "500"},
    "randomcutforest": {},
    "linear-learner": {"predictor_type": "binary_classifier", "mini_batch_size": "200"},
    "factorization-machines": {"predictor_type": "binary_classifier", "num_factors": "8"},
    "xgboost": {"num_round": "10", "objective": "binary:logistic"},
}
"""Hyperparameters of a job of each algorithm."""


def lay_out(base: Path, name: str, columns: int, channel: Mapping[str, str], **given: str) -> None:
    """Make the folders of a job and its configuration, for rows of so many columns."""
    for folder in ("input/config", "input/data", "model", "output"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    known = any(spec.name == "feature_dim" for spec in algorithm(name).params.specs())
    parameters = {**JOBS[name], **({"feature_dim": str(columns)} if known else {}), **given}
    (base / "input/config/hyperparameters.json").write_text(json.dumps(parameters))
    (base / "input/config/inputdataconfig.json").write_text(json.dumps({"train": channel}))


def small_job(base: Path, name: str) -> None:
    """Lay a job of 1,000 rows out: CSV, but for factorization machines, which read RecordIO alone."""
    rows: Array = np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).astype(np.float32)
    labels = (rows[:, 0] > 0).astype(np.float32) if "train" in algorithm(name).labelled else None
    reads_csv = "csv" in algorithm(name).content_types
    kind = f"text/csv;label_size={int(labels is not None)}" if reads_csv else "application/x-recordio-protobuf"
    lay_out(base, name, COLUMNS, {"ContentType": kind})
    folder = base / "input/data/train"
    folder.mkdir()
    with (folder / ("rows.csv" if reads_csv else "rows.rec")).open("wb") as stream:
        if reads_csv:
            stream.write(format_csv([rows] if labels is None else [labels.astype(np.int64), rows]))
        else:
            write_batch(stream, Batch(rows, labels))


def kept_bytecode(folder: Path) -> dict[str, str]:
    """Variables of processes that keep their compiled modules, as those of an installed package are kept."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**variables, "PYTHONPYCACHEPREFIX": str(folder)}


def environment(variables: Mapping[str, str], base: Path, name: str) -> dict[str, str]:
    """Variables of the processes of a job."""
    return {**variables, "SAGEMAKER_BASE_DIR": str(base), "CLARY_ALGORITHM": name}


def wall(words: Iterable[str], env: Mapping[str, str] | None = None, program: str = sys.executable) -> float:
    """Seconds of a process, by default of Python."""
    start = time.perf_counter()
    subprocess.run([program, *words], env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start
