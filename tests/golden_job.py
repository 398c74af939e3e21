"""The small job of each algorithm, which tests train, serve and run in containers.

An algorithm's folder ``golden/<name>`` has one ``golden.json``::

    hyperparameters   of the small job
    data              shape of its data, and number of different labels where there are some; every number is a
                      multiple of 1/8, so text and bytes hold the same
    also              further jobs, of other hyperparameters, channels or classes, that `metrics` needs
    answer            name of the list in a JSON response, and the columns in it
    wide              hyperparameters of a job whose data is larger than the memory it may use; null where the
                      algorithm keeps all its data
    passes            over the training channel that it makes, if more than one
    refused           values that are not allowed, by hyperparameter
    metrics           what the small job has to print, by metric definition
    unprinted         metrics that no job here can print, by name, and why

Where a value may be missing, the zeros of the data are: NaN in dense rows, and what sparse rows do not hold.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from clary.algorithms.base import Algorithm, Model
from clary.algorithms.registry import algorithm
from clary.recordio.batch import CSR, Array

from .algorithms.conftest import Notes, Rows
from .job import Tree, csv, recordio


class Golden:
    """An algorithm and what its folder says."""

    def __init__(self, name: str, **changes: Any) -> None:
        self.algorithm: Algorithm = algorithm(name)
        path = Path(__file__).parent / "golden" / name / "golden.json"
        self.description: dict[str, Any] = {**json.loads(path.read_text()), **changes}
        self.channels: Sequence[str] = self.description.get("channels", self.algorithm.channels)

    def others(self) -> list[Golden]:
        """The further jobs."""
        return [Golden(self.algorithm.name, **changes) for changes in self.description.get("also", ())]

    @property
    def hyperparameters(self) -> dict[str, str]:
        """Of the small job."""
        return dict(self.description["hyperparameters"])

    @cached_property
    def rows(self) -> Array:
        """Rows around some points."""
        shape = self.description["data"]
        rng = np.random.default_rng(7)
        middles = rng.integers(-12, 12, (shape["groups"], shape["columns"]))
        rows = middles[np.arange(shape["rows"]) % shape["groups"]] + rng.normal(size=(shape["rows"], shape["columns"]))
        rows[rng.random(rows.shape) < 0.2] = 0
        rows = (np.round(rows * 8) / 8).astype(np.float32)
        if self.algorithm.missing:
            rows[rows == 0] = np.nan
        return rows

    @property
    def sparse(self) -> CSR:
        """The same rows, of which only the values are kept that are not zero."""
        return sparse(self.rows)

    def labels(self, channel: str, count: int) -> Array | None:
        """Labels 0, 1, … (or from `first_class` on) of so many rows, where the algorithm wants some in this channel."""
        classes = self.description.get("classes", self.description["data"].get("classes", 1))
        labels = np.arange(count) % classes
        return labels + self.description.get("first_class", 0) if channel in self.algorithm.labelled else None

    def encoded(self, form: str, channel: str) -> bytes:
        """The rows in a format."""
        labels = self.labels(channel, len(self.rows))
        if form == "csv":
            return csv(self.rows if labels is None else np.column_stack([labels, self.rows]))
        return recordio(self.sparse if form == "sparse" else self.rows, labels)

    def tree(self, root: Path, form: str = "recordio", mode: str = "File") -> Tree:
        """A tree of the small job."""
        tree = Tree(root)
        tree.config("hyperparameters.json", self.hyperparameters)
        entries = {}
        for channel in self.channels:
            entries[channel] = {"TrainingInputMode": mode, "ContentType": "application/x-recordio-protobuf"}
            if form == "csv":
                entries[channel]["ContentType"] = f"text/csv;label_size={int(channel in self.algorithm.labelled)}"
            if mode == "File":
                tree.file(f"{channel}/data", self.encoded(form, channel))
            for number in range(8 if mode == "Pipe" else 0):
                tree.feed(f"{channel}_{number}", self.encoded(form, channel))
        tree.config("inputdataconfig.json", entries)
        return tree

    def artifact(self, root: Path, form: str = "recordio", mode: str = "File") -> bytes:
        """The artifact of the small job."""
        tree = self.tree(root, form, mode)
        result = tree.run(CLARY_ALGORITHM=self.algorithm.name)
        assert result.code == 0, result.text
        return (tree.root / "model" / self.algorithm.artifact).read_bytes()

    def fit(self, features: Array | CSR) -> Model:
        """Train in this process."""
        labels = {name: self.labels(name, len(features)) for name in self.algorithm.channels}
        channels = {name: Rows(name, features, labels[name]) for name in self.algorithm.channels}
        return self.algorithm.fit(self.algorithm.params.parse(self.hyperparameters), channels, Notes())


def sparse(rows: Array) -> CSR:
    """Rows without their zeros and without what is missing."""
    return CSR.from_dense(np.nan_to_num(rows))
