"""Data and jobs of XGBoost for the tests of its training."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clary.algorithms.xgboost import ALGORITHM
from clary.algorithms.xgboost_params import XGBoostParams
from clary.recordio.batch import Array, Batch
from clary.recordio.libsvm import write_libsvm

from ..job import Tree, csv
from .conftest import Notes, Rows

ROWS = 120


def features(seed: int = 0, rows: int = ROWS) -> Array:
    """Rows of four numbers."""
    return np.random.default_rng(seed).normal(size=(rows, 4)).astype(np.float32)


def classes(rows: Array, count: int = 2) -> Array:
    """Labels that the rows tell, though not all of them rightly."""
    noise = np.random.default_rng(len(rows)).normal(size=len(rows))
    borders = np.linspace(-1, 1, count + 1)[1:-1]
    return np.digitize(rows[:, 0] + rows[:, 1] * rows[:, 2] + noise, borders).astype(np.float32)


X = features()
Y = classes(X)
VX = features(1, 80)
VY = classes(VX)


class Whole(Rows):
    """A channel that is one batch, with all that a batch may have."""

    def __init__(self, name: str, batch: Batch, format_name: str = "libsvm") -> None:
        super().__init__(name, batch.features, batch.labels)
        self.batch = batch
        self.format = format_name

    def whole(self) -> Batch:
        """The batch."""
        return self.batch


def fit(train: Batch, validation: Batch | None = None, notes: Notes | None = None, /, **given: object) -> Any:
    """Train on batches."""
    texts = {"num_round": "4", "nthread": "1", **{name: str(value) for name, value in given.items()}}
    batches = {"train": train, **({} if validation is None else {"validation": validation})}
    channels = {name: Whole(name, batch) for name, batch in batches.items()}
    return ALGORITHM.fit(XGBoostParams.parse(texts), channels, notes or Notes())


def table(rows: Array = X, labels: Array = Y) -> bytes:
    """Rows as CSV, the label first."""
    return csv(np.column_stack([labels, rows]))


def libsvm(batch: Batch) -> bytes:
    """Rows as libsvm, counted from 0."""
    stream = io.BytesIO()
    write_libsvm(stream, [batch], first_index=0)
    return stream.getvalue()


Files = Mapping[str, bytes]


def lay(
    tree: Tree, files: Files, content_type: str | None = "text/csv", mode: str = "File", /, **given: object
) -> Tree:
    """Configure a job on files, ``channel/name → content``."""
    texts = {"num_round": "3", "nthread": "1", **{name: str(value) for name, value in given.items()}}
    tree.config("hyperparameters.json", texts)
    entry = {"TrainingInputMode": mode, **({"ContentType": content_type} if content_type else {})}
    tree.config("inputdataconfig.json", {place.partition("/")[0]: entry for place in files})
    for place, content in files.items():
        tree.file(place, content)
    return tree


def artifact(tree: Tree, run_here: Callable[..., int]) -> bytes:
    """The model that the job makes in this process."""
    assert run_here("xgboost") == 0, tree.failure.read_text()
    return (tree.root / "model" / "xgboost-model").read_bytes()


def models(tree: Tree) -> list[str]:
    """Names of all files in the model directory."""
    return sorted(path.name for path in Path(tree.root / "model").iterdir())
