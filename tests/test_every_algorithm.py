"""What holds for every algorithm of the registry.

An algorithm joins by its line in the registry and a folder ``golden/<name>`` with one ``golden.json``::

    hyperparameters   of the small job that these tests run
    data              shape of its data, and number of different labels where there are some; every number is a
                      multiple of 1/8, so text and bytes hold the same
    wide              hyperparameters of a job whose data is larger than the memory it may use
    refused           values that are not allowed, by hyperparameter
    metrics           what the small job has to print, by metric definition
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clary.algorithms.base import Algorithm, Model
from clary.algorithms.registry import ALGORITHMS, algorithm
from clary.errors import HyperParameterError
from clary.recordio.batch import CSR, Array
from clary.train.metrics import metric_definitions

from .algorithms.conftest import Notes, Rows
from .job import COMMAND, SOON, Tree, csv, recordio

pytestmark = pytest.mark.parametrize("golden", ALGORITHMS, indirect=True)

MEGABYTE = 1 << 20


class Golden:
    """An algorithm and what its folder says."""

    def __init__(self, name: str) -> None:
        self.algorithm: Algorithm = algorithm(name)
        path = Path(__file__).parent / "golden" / name / "golden.json"
        self.description: dict[str, Any] = json.loads(path.read_text())

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
        return (np.round(rows * 8) / 8).astype(np.float32)

    def labels(self, channel: str, count: int) -> Array | None:
        """Labels 0, 1, … of that many rows, where the algorithm wants some in this channel."""
        classes = self.description["data"].get("classes")
        return np.arange(count) % classes if channel in self.algorithm.labelled else None

    def encoded(self, form: str, channel: str) -> bytes:
        """The rows in a format."""
        labels = self.labels(channel, len(self.rows))
        if form == "csv":
            return csv(self.rows if labels is None else np.column_stack([labels, self.rows]))
        return recordio(CSR.from_dense(self.rows) if form == "sparse" else self.rows, labels)

    def tree(self, root: Path, form: str = "recordio", mode: str = "File") -> Tree:
        """A tree of the small job."""
        tree = Tree(root)
        tree.config("hyperparameters.json", self.hyperparameters)
        entries = {}
        for channel in self.algorithm.channels:
            entries[channel] = {"TrainingInputMode": mode}
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


@pytest.fixture(scope="module")
def golden(request: pytest.FixtureRequest) -> Golden:
    """An algorithm and what its folder says."""
    return Golden(request.param)


@pytest.fixture(scope="module")
def artifact(golden: Golden, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The artifact of the small job."""
    return golden.artifact(tmp_path_factory.mktemp("ml"))


def same(model: Model, other: Model, rows: Array | CSR, *, exactly: bool = True) -> bool:
    """Whether two models give the same answers."""
    both = [one.predict(rows).columns for one in (model, other)]
    close: Callable[[Array, Array], bool] = np.array_equal if exactly else np.allclose
    return list(both[0]) == list(both[1]) and all(close(both[0][name], both[1][name]) for name in both[0])


def test_repeatable(golden: Golden, artifact: bytes, tmp_path: Path) -> None:
    """The same job gives the same artifact, byte for byte."""
    assert golden.artifact(tmp_path) == artifact


def test_pipe(golden: Golden, artifact: bytes, tmp_path: Path) -> None:
    """FIFOs give the artifact that files give."""
    assert golden.artifact(tmp_path, mode="Pipe") == artifact


def test_csv(golden: Golden, artifact: bytes, tmp_path: Path) -> None:
    """CSV gives the artifact that RecordIO gives."""
    if "csv" not in golden.algorithm.content_types:
        pytest.skip(f"{golden.algorithm.title} reads no CSV")
    assert golden.artifact(tmp_path, "csv") == artifact


def test_sparse(golden: Golden, artifact: bytes, tmp_path: Path) -> None:
    """Sparse rows give the answers that dense rows give."""
    sparse = golden.algorithm.load(golden.artifact(tmp_path, "sparse"))
    assert same(golden.algorithm.load(artifact), sparse, golden.rows, exactly=False)
    assert same(sparse, sparse, CSR.from_dense(golden.rows))


def test_sparse_questions(golden: Golden, artifact: bytes) -> None:
    """A model gives sparse rows the answers that it gives dense ones."""
    model = golden.algorithm.load(artifact)
    columns = model.predict(CSR.from_dense(golden.rows)).columns
    for name, column in model.predict(golden.rows).columns.items():
        assert np.allclose(column, columns[name])


def test_predictions(golden: Golden, artifact: bytes) -> None:
    """A model answers every row, in float32 columns, and tells its width."""
    model = golden.algorithm.load(artifact)
    predictions = model.predict(golden.rows)
    assert model.feature_dim == golden.rows.shape[1]
    assert predictions.key in {"predictions", "scores", "projections"}
    assert {(column.dtype, len(column)) for column in predictions.columns.values()} == {
        (np.dtype(np.float32), len(golden.rows))
    }
    json.dumps(dict(model.describe()))


def test_one_row(golden: Golden, artifact: bytes) -> None:
    """A row alone has the answer that it has among others."""
    model = golden.algorithm.load(artifact)
    among = model.predict(golden.rows).columns
    for i in (0, 17, len(golden.rows) - 1):
        alone = model.predict(golden.rows[i : i + 1]).columns
        assert all(np.array_equal(alone[name][0], column[i]) for name, column in among.items())


FRESH = """
import sys, numpy as np
from pathlib import Path
from clary.algorithms.registry import open_artifact
found, model = open_artifact(Path(sys.argv[1]))
np.savez(sys.argv[3], **model.predict(np.load(sys.argv[2])).columns)
"""


def test_fresh_process(golden: Golden, artifact: bytes, tmp_path: Path) -> None:
    """Another process opens the artifact and gives the same answers; written again it is the same."""
    (tmp_path / golden.algorithm.artifact).write_bytes(artifact)
    np.save(tmp_path / "rows.npy", golden.rows)
    words = [sys.executable, "-c", FRESH, *map(str, (tmp_path, tmp_path / "rows.npy", tmp_path / "out.npz"))]
    subprocess.run(words, check=True, timeout=SOON)
    model = golden.algorithm.load(artifact)
    with np.load(tmp_path / "out.npz") as answers:
        for name, column in model.predict(golden.rows).columns.items():
            assert np.array_equal(answers[name], column)
    assert model.to_bytes() == artifact


def test_inputs(golden: Golden) -> None:
    """Neither training nor answering writes to the rows it is given."""
    rows, sparse = golden.rows.copy(), CSR.from_dense(golden.rows)
    for array in (rows, sparse.values, sparse.indices, sparse.indptr):
        array.setflags(write=False)
    for features in (rows, sparse):
        golden.fit(features).predict(features)
    assert np.array_equal(rows, golden.rows)


def test_metrics(golden: Golden, tmp_path: Path) -> None:
    """Every declared metric is printed, found by its expression, and has its value."""
    text = golden.tree(tmp_path).run(CLARY_ALGORITHM=golden.algorithm.name).text
    for entry in metric_definitions(golden.algorithm):
        numbers = [float(number) for number in re.findall(entry["Regex"], text)]
        assert numbers, entry
        expected = golden.description["metrics"].get(entry["Name"], numbers[-1])
        assert numbers[-1] == pytest.approx(expected, rel=1e-4), entry


def test_refusals(golden: Golden) -> None:
    """Each value that is not allowed gives one sentence that names its hyperparameter."""
    for name, values in golden.description["refused"].items():
        for value in values:
            with pytest.raises(HyperParameterError) as caught:
                golden.algorithm.params.parse({**golden.hyperparameters, name: value})
            [sentence] = str(caught.value).splitlines()
            assert f"hyperparameter {name!r} must be " in sentence and sentence.startswith(repr(value))


def test_all_are_refused_something(golden: Golden) -> None:
    """Every hyperparameter that can be wrong is wrong somewhere in the golden folder."""
    can_be_wrong = {spec.name for spec in golden.algorithm.params.specs() if spec.kind is not str or spec.choices}
    assert can_be_wrong == set(golden.description["refused"])


def test_documented(golden: Golden) -> None:
    """Every hyperparameter and metric has one sentence for the documentation."""
    docs = [spec.doc for spec in golden.algorithm.params.specs()] + [metric.doc for metric in golden.algorithm.metrics]
    assert all(re.fullmatch(r"[A-Z0-9].*\.", doc) for doc in docs)


def peak(golden: Golden, root: Path, megabytes: int) -> int:
    """Most bytes of memory of a job that reads so much through a FIFO."""
    hyperparameters = golden.description["wide"]
    rows = np.random.default_rng(0).normal(size=(500, int(hyperparameters["feature_dim"]))).astype(np.float32)
    part = recordio(rows, golden.labels(golden.algorithm.channels[0], 500))
    tree = Tree(root)
    tree.config("hyperparameters.json", hyperparameters)
    tree.feed("train_0", *[part] * (megabytes * MEGABYTE // len(part)))
    env = {**os.environ, "SAGEMAKER_BASE_DIR": str(root), "CLARY_ALGORITHM": golden.algorithm.name}
    process = subprocess.Popen(COMMAND, env=env, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss * 1024


def test_memory(golden: Golden, tmp_path: Path) -> None:
    """In Pipe mode a job's memory does not grow with its data."""
    little, much = peak(golden, tmp_path / "little", 10), peak(golden, tmp_path / "much", 200)
    assert much - little < 40 * MEGABYTE
