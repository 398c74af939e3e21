"""What holds for every algorithm of the registry.

An algorithm joins by its line in the registry and a folder ``golden/<name>``, which `golden_job.py` describes.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clary.algorithms.base import Model
from clary.algorithms.registry import ALGORITHMS
from clary.errors import HyperParameterError
from clary.recordio.batch import CSR, Array
from clary.train.metrics import metric_definitions

from .golden_job import Golden
from .job import COMMAND, SOON, Tree, recordio

pytestmark = pytest.mark.parametrize("golden", ALGORITHMS, indirect=True)

MEGABYTE = 1 << 20


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
    assert same(sparse, sparse, golden.sparse)


def test_sparse_questions(golden: Golden, artifact: bytes) -> None:
    """A model gives sparse rows the answers that it gives dense ones."""
    model = golden.algorithm.load(artifact)
    columns = model.predict(golden.sparse).columns
    for name, column in model.predict(golden.rows).columns.items():
        assert np.allclose(column, columns[name])


def test_predictions(golden: Golden, artifact: bytes) -> None:
    """A model answers every row, in the golden folder's columns, float32 or whole numbers, and tells its width."""
    model = golden.algorithm.load(artifact)
    predictions = model.predict(golden.rows)
    assert model.feature_dim == golden.rows.shape[1]
    assert {predictions.key: [*predictions.columns]} == golden.description["answer"]
    assert {len(column) for column in predictions.columns.values()} == {len(golden.rows)}
    assert {column.dtype for column in predictions.columns.values()} <= {np.dtype(np.float32), np.dtype(np.int64)}
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
    rows, sparse = golden.rows.copy(), golden.sparse
    for array in (rows, sparse.values, sparse.indices, sparse.indptr):
        array.setflags(write=False)
    for features in (rows, sparse):
        golden.fit(features).predict(features)
    assert np.array_equal(rows, golden.rows, equal_nan=True)


def test_metrics(golden: Golden, tmp_path: Path) -> None:
    """Every declared metric is printed, found by its expression, and has its value."""
    jobs = [golden, *golden.others()]
    trees = [job.tree(tmp_path / str(i)) for i, job in enumerate(jobs)]
    text = "".join(tree.run(CLARY_ALGORITHM=golden.algorithm.name).text for tree in trees)
    for entry in metric_definitions(golden.algorithm):
        if entry["Name"].partition(":")[2] in golden.description.get("unprinted", {}):
            continue
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
            assert re.search(rf"(?i)hyperparameter '?{name}'?\b|parameter '{name}'", sentence)


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
    for number in range(golden.description.get("passes", 1)):
        tree.feed(f"train_{number}", *[part] * (megabytes * MEGABYTE // len(part)))
    env = {**os.environ, "SAGEMAKER_BASE_DIR": str(root), "CLARY_ALGORITHM": golden.algorithm.name}
    process = subprocess.Popen(COMMAND, env=env, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss * 1024


def test_memory(golden: Golden, tmp_path: Path) -> None:
    """In Pipe mode a job's memory does not grow with its data."""
    if golden.description["wide"] is None:
        pytest.skip(f"{golden.algorithm.title} keeps all its data")
    little, much = peak(golden, tmp_path / "little", 10), peak(golden, tmp_path / "much", 200)
    assert much - little < 40 * MEGABYTE
