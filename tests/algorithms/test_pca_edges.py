"""PCA at its edges: odd input, too much of it, artifacts, the log, and jobs that end early or badly."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from clary.algorithms import memory
from clary.algorithms.kmeans import KMeansModel
from clary.algorithms.ndarray import dump_arrays, load_arrays
from clary.algorithms.pca import PCAModel
from clary.algorithms.registry import open_artifact
from clary.algorithms.scatter import Outer, Sketch
from clary.errors import ArtifactError, ChannelError, HyperParameterError, UserError
from clary.recordio.batch import CSR, Array

from ..job import Tree, csv
from .pca import BOTH, CROSS, fit

load_digits = pytest.importorskip("sklearn.datasets").load_digits


@pytest.fixture(scope="module")
def digits() -> Array:
    """1,797 images of 64 pixels."""
    rows: Array = load_digits().data.astype(np.float32)
    return rows


@pytest.mark.parametrize("d", [40, 4096])
def test_snapshots(digits: Array, d: int) -> None:
    """A model may be made at any time and again, and learning goes on from there."""
    rows = np.zeros((1797, d), np.float32)
    rows[:, :40] = digits[:, :40]
    for kind in (lambda: Outer(d, 3), lambda: Sketch(d, 3, 13)):
        one, other = kind(), kind()
        one.add(rows[:10])
        first, again = one.solve(), one.solve()
        assert all(map(np.array_equal, first, again))
        one.add(rows[10:])
        other.add(rows)
        assert np.allclose(one.solve().s, other.solve().s, rtol=1e-4)


@pytest.mark.parametrize("form", ["reversed", "columns first", "strided", "empty batches", "read-only"])
def test_forms_of_arrays(digits: Array, form: str) -> None:
    """However the numbers lie in memory, they give the same model."""
    rows = digits[::-1] if form == "reversed" else digits
    if form == "columns first":
        rows = np.asfortranarray(digits)
    elif form == "strided":
        rows = np.repeat(digits, 2, axis=1)[:, ::2]
    elif form == "read-only":
        rows = digits.copy()
        rows.setflags(write=False)
    for kind in (lambda: Outer(64, 3), lambda: Sketch(64, 3, 13)):
        one, other = kind(), kind()
        for part in (rows[:0], rows, rows[:0]) if form == "empty batches" else (rows,):
            one.add(part)
        other.add(np.ascontiguousarray(rows))
        assert all(map(np.array_equal, one.solve(), other.solve()))


@pytest.mark.parametrize("sparse", [False, True])
def test_no_rows(sparse: bool) -> None:
    """No rows have no projections."""
    model = PCAModel(np.ones(1, np.float32), np.ones((2, 1), np.float32), np.zeros((1, 2), np.float32))
    rows = np.empty((0, 2), np.float32)
    assert model.predict(CSR.from_dense(rows) if sparse else rows).columns["projection"].shape == (0, 1)


def test_no_training_rows() -> None:
    """Training without rows is refused in AWS's words."""
    with pytest.raises(ChannelError, match=r"^No training data processed\. Either the training channel is empty"):
        fit(CROSS[:0])


def test_no_test_rows() -> None:
    """A test channel without rows is warned of, and gives no metric."""
    notes = fit(CROSS, CROSS[:0]).notes
    assert any("'test' has no rows" in line for line in notes.lines) and notes.scores == {}


@pytest.mark.parametrize("mode", BOTH)
def test_memory_of_sums(digits: Array, mode: str) -> None:
    """What is held does not grow with the rows: after many of them no more than a block is."""
    sums = Outer(64, 3) if mode == "regular" else Sketch(64, 3, 13)
    most = 0
    for _ in range(20):
        sums.add(digits)
        most = max(most, sums._rows_held)
    assert most <= 4096 and sums.count > 30_000


@pytest.mark.parametrize("mode", BOTH)
@pytest.mark.parametrize(("n", "value"), [(100, 1e30), (4, 3e38)])
def test_too_large(mode: str, n: int, value: float) -> None:
    """Numbers whose sums of squares float32 cannot hold are refused, unless few rows go without them."""
    rows = (np.arange(10 * n).reshape(n, 10) % 7 - 3).astype(np.float32) * np.float32(value / 3)
    if (mode, value) == ("regular", 3e38):
        rows = np.repeat(rows, 3, axis=1)
    with pytest.raises(ChannelError, match="numbers of the channel 'train' are too large"):
        fit(rows, algorithm_mode=mode)


def test_too_many_components() -> None:
    """More components than features are refused with both numbers, in either mode."""
    for mode in BOTH:
        with pytest.raises(HyperParameterError, match=r"^num_components=5 is more than the 2 features of a row"):
            fit(CROSS, num_components=5, algorithm_mode=mode, feature_dim=7)


def give_memory(monkeypatch: pytest.MonkeyPatch, root: Path, kilobytes: int) -> None:
    """Let the machine's files say that so much is available."""
    (root / "proc").mkdir()
    (root / "proc/meminfo").write_text(f"MemAvailable: {kilobytes} kB\n")
    monkeypatch.setattr(memory.available_memory, "__defaults__", (root,))


@pytest.mark.parametrize(
    ("n", "d", "mode", "advice"),
    [
        (1000, 1000, "regular", "algorithm_mode=randomized needs less"),
        (400, 20_000, "regular", "algorithm_mode=randomized needs less"),
        (10, 50_000, "randomized", "lower num_components or extra_components"),
    ],
)
@pytest.mark.parametrize("sparse", [False, True])
def test_too_large_for_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, n: int, d: int, mode: str, advice: str,
    sparse: bool,
) -> None:  # fmt: skip
    """A job that needs more memory than there is ends with how much that is, and what to change."""
    give_memory(monkeypatch, tmp_path, 20 << 10)
    rows = np.ones((n, d), np.float32)
    with pytest.raises(
        UserError, match=rf"^not enough memory: about \d+ bytes are needed, {20 << 20} are .*: {advice}"
    ):
        fit(CSR.from_dense(rows) if sparse else rows, mini_batch_size=100, algorithm_mode=mode)


def test_enough_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What fits is not refused: few rows of many columns where d × d numbers would be too many."""
    give_memory(monkeypatch, tmp_path, 20 << 10)
    assert fit(np.eye(50, 10_000, dtype=np.float32), mini_batch_size=10).model.v.shape == (10_000, 2)
    assert fit(np.eye(50, 10_000, dtype=np.float32), algorithm_mode="randomized").model.v.shape == (10_000, 2)


def test_artifact(digits: Array) -> None:
    """The artifact holds s, v and mean in this order, as float32, and gives the same answers when opened."""
    model = fit(digits, num_components=7).model
    arrays = load_arrays(model.to_bytes())
    assert [(name, x.shape, x.dtype) for name, x in arrays.items()] == [
        ("s", (7,), np.float32),
        ("v", (64, 7), np.float32),
        ("mean", (1, 64), np.float32),
    ]
    back = PCAModel.from_bytes(model.to_bytes())
    assert back.to_bytes() == model.to_bytes() and back.feature_dim == 64
    assert np.array_equal(back.predict(digits).columns["projection"], model.predict(digits).columns["projection"])


def test_artifact_without_mean() -> None:
    """An artifact without a mean opens, and subtracts nothing."""
    model = PCAModel.from_bytes(dump_arrays({"v": np.eye(2, 1), "s": np.ones(1)}))
    assert model.predict(np.array([[3, 4]], np.float32)).columns["projection"].tolist() == [[3]]
    assert model.v.dtype == model.mean.dtype == np.float32


def test_singular_values_that_are_no_numbers() -> None:
    """Amazon's artifacts may have NaN among the singular values; what is told of them is valid JSON."""
    model = PCAModel(np.array([np.nan, 2], np.float32), np.eye(2, dtype=np.float32), np.ones((1, 2), np.float32))
    told = PCAModel.from_bytes(model.to_bytes()).describe()
    assert json.loads(json.dumps(dict(told), allow_nan=False)) == {
        "num_components": 2,
        "singular_values": [None, 2.0],
        "subtracts_mean": True,
    }


S, V, MEAN = np.ones(2), np.eye(3, 2), np.ones((1, 3))


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({}, "expected the arrays s"),
        ([S, V, MEAN], "expected the arrays s"),
        ({"v": V, "mean": MEAN}, "expected the arrays s"),
        ({"s": S, "mean": MEAN}, "expected the arrays s"),
        ({"s": S, "v": V, "mean": MEAN, "u": S}, "expected the arrays s"),
        ({"s": S[:1], "v": V, "mean": MEAN}, r"found {'s': \(1,\), 'v': \(3, 2\), 'mean': \(1, 3\)}"),
        ({"s": S, "v": V, "mean": MEAN[0]}, "expected the arrays s"),
        ({"s": S, "v": V, "mean": MEAN[:, :2]}, "expected the arrays s"),
        ({"s": S, "v": V[None], "mean": MEAN}, "expected the arrays s"),
        ({"s": S[:0], "v": V[:, :0], "mean": MEAN}, "expected the arrays s"),
        ({"s": S, "v": V * np.nan, "mean": MEAN}, "not all finite"),
        ({"s": S, "v": V, "mean": MEAN * np.inf}, "not all finite"),
        ({"s": S, "v": V, "mean": MEAN * 1e300}, "not all finite"),
    ],
)
def test_wrong_artifacts(arrays: dict[str, Array], told: str) -> None:
    """An artifact with other arrays, or numbers that are none, is refused."""
    with pytest.raises(ArtifactError, match=told):
        PCAModel.from_bytes(dump_arrays(arrays))


def test_cut_artifact() -> None:
    """A part of an artifact is refused, wherever it ends."""
    data = fit(CROSS).model.to_bytes()
    for end in range(len(data)):
        with pytest.raises(ArtifactError):
            PCAModel.from_bytes(data[:end])


def test_whose_artifact(tmp_path: Path) -> None:
    """Artifacts of PCA and of k-means have one file name and are told apart by their content."""
    models = {"pca": fit(CROSS).model, "kmeans": KMeansModel(CROSS)}
    for name, model in models.items():
        (tmp_path / "model_algo-1").write_bytes(model.to_bytes())
        found, opened = open_artifact(tmp_path)
        assert (found.name, type(opened)) == (name, type(model))


@pytest.mark.parametrize(("mode", "executor"), [("regular", ""), ("randomized", "Randomized")])
def test_log(mode: str, executor: str) -> None:
    """The log has the lines of Amazon's container."""
    rows = np.random.default_rng(0).normal(size=(50, 34))
    assert fit(rows, algorithm_mode=mode, num_components=3).notes.lines == [
        f"The default executor is <{executor}PCAExecutor on cpu(0)>.",
        "34 feature(s) found in 'data'.",
        f"<{executor}PCAExecutor on cpu(0)> is assigned to batch slice from 0 to 499.",
    ]


@pytest.mark.parametrize("mode", BOTH)
def test_model_so_far(digits: Array, mode: str) -> None:
    """What is kept for a job that is told to end is, after all rows, the model itself."""
    fitted = fit(digits, algorithm_mode=mode)
    assert fitted.notes.kept is not None
    assert fitted.notes.kept().to_bytes() == fitted.model.to_bytes()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A job of two components that reads CSV."""
    tree = Tree(tmp_path / "ml")
    tree.config("hyperparameters.json", {"feature_dim": "2", "num_components": "2", "mini_batch_size": "10"})
    entry = {"ContentType": "text/csv;label_size=0"}
    tree.config("inputdataconfig.json", {"train": entry, "test": entry})
    return tree


@pytest.mark.parametrize("mode", BOTH)
def test_told_to_end(tree: Tree, mode: str) -> None:
    """A job told to end in the middle of an endless pass leaves the model of what it has read."""
    given = {"feature_dim": "2", "num_components": "2", "mini_batch_size": "1000", "algorithm_mode": mode}
    tree.config("hyperparameters.json", given)
    tree.feed("train_0", csv(np.tile(CROSS, (1000, 1))), endless=True)
    process = tree.start(CLARY_ALGORITHM="pca")
    assert process.stdout is not None
    assert any(b"is assigned to batch slice" in line for line in iter(process.stdout.readline, b""))
    process.send_signal(signal.SIGTERM)
    result = tree.end(process)
    assert (result.code, result.failure) == (0, None)
    model = PCAModel.from_bytes(tree.model.read_bytes())
    first, second = np.sort(np.square(model.s))
    assert second / first == pytest.approx(4, rel=1e-3) and np.allclose(model.mean, [[2, 1]])


def test_feature_dim_is_a_hint(tree: Tree) -> None:
    """Where feature_dim and the data differ, a warning says so and the data count."""
    tree.file("train/a.csv", csv(np.column_stack([CROSS, CROSS[:, 0]])))
    tree.file("test/a.csv", csv(np.column_stack([CROSS, CROSS[:, 1]])))
    result = tree.run(CLARY_ALGORITHM="pca")
    assert result.code == 0
    assert "feature_dim is 2, but rows of the channel 'train' have 3, which counts" in result.text
    assert PCAModel.from_bytes(tree.model.read_bytes()).v.shape == (3, 2)


def test_files_of_different_widths(tree: Tree) -> None:
    """Two files of one channel have to have rows of one width."""
    tree.file("train/a.csv", csv(CROSS))
    tree.file("train/b.csv", csv(np.column_stack([CROSS, CROSS])))
    result = tree.run(CLARY_ALGORITHM="pca")
    assert result.code == 2
    assert "a row of channel 'train' has 4 features, those before have 2" in (result.failure or "")


def test_test_channel_of_another_width(tree: Tree) -> None:
    """Test rows have to be as wide as those of training."""
    tree.file("train/a.csv", csv(CROSS))
    tree.file("test/a.csv", csv(CROSS[:, :1]))
    result = tree.run(CLARY_ALGORITHM="pca")
    assert result.code == 2
    assert "a row of channel 'test' has 1 features, those before have 2" in (result.failure or "")


@pytest.mark.parametrize("kind", ["Outer", "Sketch"])
def test_far_from_zero_later(kind: str) -> None:
    """Rows that drift away from where the first ones were cost no digits."""
    rng = np.random.default_rng(0)
    rows = np.column_stack([np.arange(20_000), rng.normal(size=(20_000, 3))]).astype(np.float32)
    rows[9000:, 1] += 1e4
    wide = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    squares = np.linalg.eigvalsh(wide.T @ wide)
    sums = Outer(4, 4) if kind == "Outer" else Sketch(4, 4, 4)
    for start in range(0, len(rows), 500):
        sums.add(rows[start : start + 500])
    found = sums.solve()
    assert np.allclose(np.sort(np.square(found.s, dtype=np.float64)), squares, rtol=1e-6, atol=1e-7 * squares[-1])
    assert found.variance == pytest.approx(squares.sum(), rel=1e-6)


def test_numbers_too_large_to_project() -> None:
    """A row of numbers that no projection can hold has an infinite one, without a warning."""
    model = PCAModel(np.ones(1, np.float32), np.ones((2, 1), np.float32), np.zeros((1, 2), np.float32))
    answer = model.predict(np.full((1, 2), 3e38, np.float32)).columns["projection"]
    assert answer.tolist() == [[np.inf]]
