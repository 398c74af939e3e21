"""Random cut forest: its sample, its training and what it evaluates, against numbers made by hand."""

import re
from collections.abc import Iterator

import numpy as np
import pytest

from clary.algorithms import randomcutforest
from clary.algorithms.forest import sizes
from clary.algorithms.memory import available_memory
from clary.algorithms.randomcutforest import RandomCutForestModel, RandomCutForestParams, Reservoir, evaluate
from clary.errors import ChannelError, HyperParameterError, UserError
from clary.recordio import shingle
from clary.recordio.batch import CSR, Array, Batch

from .conftest import Notes, Rows

METRICS = ("accuracy", "precision", "recall", "f1")


def train(
    rows: Array | CSR, test: tuple[Array | CSR, Array | None] | None = None, **given: object
) -> tuple[RandomCutForestModel, Notes]:
    """A model and what its training told; 50 trees where nothing else is said."""
    texts = {"feature_dim": rows.shape[1], "num_trees": 50, **given}
    params = RandomCutForestParams.parse({name: str(value) for name, value in texts.items()})
    channels = {"train": Rows("train", rows), **({} if test is None else {"test": Rows("test", *test)})}
    notes = Notes()
    return randomcutforest.fit(params, channels, notes), notes


def normal(count: int, d: int = 2) -> Array:
    """Rows around zero."""
    return np.random.default_rng(4).normal(size=(count, d)).astype(np.float32)


def leaves(model: RandomCutForestModel, tree: int) -> list[list[float]]:
    """The points of a tree as often as they were given, sorted."""
    forest, found = model.forest, []
    links = [int(forest.roots[tree])]
    while links:
        link = links.pop()
        if link < 0:
            found += [forest.points[~link].tolist()] * int(forest.masses[~link])
        else:
            links += forest.children[link].tolist()
    return sorted(found)


def column(count: int) -> Array:
    """The numbers from 0 as rows."""
    return np.arange(count, dtype=np.float32)[:, None]


def test_reservoir_keeps_order() -> None:
    """While all rows fit, the sample is all rows in the order of their arrival."""
    reservoir = Reservoir(10, 1, np.random.default_rng(0))
    assert reservoir.sample().shape == (0, 1)
    for piece in (column(10)[:3], column(10)[3:4], column(10)[4:]):
        reservoir.add(piece)
    assert np.array_equal(reservoir.sample(), column(10)) and reservoir.seen == 10


@pytest.mark.parametrize("capacity", [1, 7, 200, 3000])
def test_reservoir_is_algorithm_r(capacity: int) -> None:
    """Row i goes to a random one of the places 0 … i where that is one of the sample's, and drives out its row."""
    reservoir = Reservoir(capacity, 1, np.random.default_rng(6))
    reservoir.add(column(3000))
    rng, kept = np.random.default_rng(6), list(range(capacity))
    for i in range(capacity, 3000):
        if (place := int(rng.random() * (i + 1))) < capacity:
            kept[place] = i
    assert sorted(reservoir.sample().ravel().tolist()) == sorted(kept)


@pytest.mark.parametrize("step", [1, 3, 50, 99, 500])
def test_reservoir_in_pieces(step: int) -> None:
    """How a stream is split into calls makes no difference."""
    rows = normal(500)
    whole, pieces = (Reservoir(100, 2, np.random.default_rng(1)) for _ in range(2))
    whole.add(rows)
    for start in range(0, 500, step):
        pieces.add(rows[start : start + step])
        pieces.add(rows[:0])
    assert np.array_equal(whole.sample(), pieces.sample()) and pieces.seen == 500


def test_reservoir_is_uniform() -> None:
    """Of a long stream each row is kept as often as any other, and none twice."""
    times = np.zeros(60)
    for seed in range(4000):
        reservoir = Reservoir(10, 1, np.random.default_rng(seed))
        reservoir.add(column(60))
        kept = reservoir.sample().ravel().astype(int)
        assert len(set(kept.tolist())) == 10
        times[kept] += 1
    expected = 4000 / 6
    assert np.abs(times - expected).max() < 4.5 * np.sqrt(expected * 5 / 6)
    assert np.square(times - expected).sum() / (expected * 5 / 6) < 99.6  # of 59 degrees of freedom: once in 1000


def test_sample_in_random_order() -> None:
    """When not all rows fit, their places in the sample tell nothing of their arrival."""
    reservoir = Reservoir(5000, 1, np.random.default_rng(0))
    reservoir.add(column(5500))
    sample = reservoir.sample().ravel()
    assert abs(np.corrcoef(sample, np.arange(5000))[0, 1]) < 0.05


@pytest.mark.parametrize("count", [4032, 4000, 4049])
def test_contiguous_parts(count: int) -> None:
    """Rows that all fit are parted in the order of their arrival, and what is left over is dropped."""
    rows = np.random.default_rng(0).integers(0, 60, (count, 1)).astype(np.float32)
    model, notes = train(rows, num_samples_per_tree=512)
    blocks = rows[:4000].reshape(50, 80)
    assert model.describe()["num_samples_per_tree"] == 80
    assert sizes(model.forest)[0].tolist() == [2 * len(np.unique(block)) - 1 for block in blocks]
    assert [leaves(model, tree) for tree in (0, 49)] == [sorted(blocks[tree, :, None].tolist()) for tree in (0, 49)]
    assert f"{count} samples gathered" in notes.lines


def test_as_many_rows_as_sampled() -> None:
    """When rows are as many as are sampled, tree i still has the rows from i × num_samples_per_tree on."""
    model, _ = train(column(200), num_samples_per_tree=4)
    assert [leaves(model, i) for i in (0, 49)] == [[[0], [1], [2], [3]], [[196], [197], [198], [199]]]


def test_more_rows_than_sampled() -> None:
    """Of more rows each tree has num_samples_per_tree, no row is in two, and they come from all of the stream."""
    model, notes = train(column(5000), num_samples_per_tree=8)
    sampled = np.sort(model.forest.points.ravel())
    assert model.describe()["num_samples_per_tree"] == 8
    assert len(np.unique(sampled)) == 400 and model.forest.masses.max() == 1
    assert np.abs(np.quantile(sampled, [0.1, 0.5, 0.9]) - [500, 2500, 4500]).max() < 400
    assert "5000 samples gathered" in notes.lines


def test_one_row_a_tree() -> None:
    """As many rows as trees make trees of one row."""
    model, _ = train(column(50))
    assert model.predict(np.array([[3], [77]], np.float32)).columns["score"].tolist() == pytest.approx([0.99, 1])
    assert RandomCutForestModel.from_bytes(model.to_bytes()).to_bytes() == model.to_bytes()


def test_fewer_rows_than_trees() -> None:
    """Fewer rows than trees are told with both numbers."""
    with pytest.raises(ChannelError, match=r"has 49 rows for num_trees=50: give at least as many rows as trees$"):
        train(column(49))


def test_empty_channel() -> None:
    """A channel without rows is told in Amazon's words."""
    with pytest.raises(ChannelError, match=r"^No training data processed\. Either the training channel is empty or"):
        train(np.empty((0, 2), np.float32))


def test_log() -> None:
    """The log has the lines of Amazon's container, in its order, and its estimate of the memory."""
    _, notes = train(column(4032), num_samples_per_tree=512)
    assert [line for line in notes.lines if not line.startswith(("Available", "Random"))] == [
        "Verifying hyperparamemters...",
        "Hyperparameters are correct.",
        "Validating that feature_dim agrees with dimensions in training data...",
        "feature_dim is correct.",
        "Validating memory limits...",
        "Estimated sample size in bytes: 409600",
        "Estimated memory needed to build the forest in bytes: 1024000",
        "Memory limits validated.",
        "Initializing Sampler...",
        "Sampler correctly initialized.",
        "Sampling training data...",
        "Sampling training data completed.",
        "Early stop condition met. Stopping training.",
        "Master node: building Random Cut Forest...",
        "Gathering samples...",
        "4032 samples gathered",
        "Building Random Cut Forest...",
        "Master node: Serializing the RandomCutForest model",
    ]
    assert re.fullmatch(r"Available memory in bytes: \d+", notes.lines[5])
    assert notes.lines[-2].startswith("Random Cut Forest built: \nForestInfo{")


def test_forest_info() -> None:
    """What the log says of the forest can be parsed, and is so."""
    model, notes = train(np.tile(column(10), (50, 3)))
    text = notes.lines[-2].partition("ForestInfo")[2]
    assert re.fullmatch(r"\{(\w+: (\d+|\[\d+(, \d+)*\])(, (?=\w)|\}))+", text)
    found = dict(re.findall(r"(\w+): (\[[^]]*\]|\d+)", text))
    nodes, depths = (np.array(found.pop(name)[1:-1].split(", "), int) for name in ("trees_num_nodes", "trees_depth"))
    assert nodes.tolist() == [19] * 50 and np.array_equal(depths, sizes(model.forest)[1])
    assert {name: int(value) for name, value in found.items()} == {
        "num_trees": 50,
        "num_samples_in_forest": 500,
        "num_samples_per_tree": 10,
        "sample_dim": 3,
        "shingle_size": 1,
        "max_num_nodes": 19,
        "min_num_nodes": 19,
        "avg_num_nodes": 19,
        "max_tree_depth": depths.max(),
        "min_tree_depth": depths.min(),
        "avg_tree_depth": int(depths.mean()),
        "mem_size": sum(array.nbytes for array in model.forest),
    }


def test_measurements() -> None:
    """The size of the model is measured."""
    model, notes = train(column(100))
    assert notes.measurements == {"model.bytes": len(model.to_bytes())}


def test_not_enough_memory() -> None:
    """The largest forest there may be needs 819 GB; without them it is refused before any row is sampled."""
    if available_memory() > 819_200_000_000:
        pytest.skip("there is enough memory")
    with pytest.raises(UserError, match=r"about 819200000000 bytes are needed, \d+ are available: lower num_trees"):
        train(np.zeros((1, 10000), np.float32), num_trees=1000, num_samples_per_tree=2048)


class ToldToStop(Exception):  # noqa: N818  # as the job's own
    """What a channel raises."""


class Broken(Rows):
    """A channel that is told to stop after its rows."""

    def batches(self, size: int) -> Iterator[Batch]:
        """One pass that is broken off."""
        yield from super().batches(size)
        raise ToldToStop


def test_model_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told to end while it samples, training leaves the model of the rows so far, of 50 trees at least."""
    rows = normal(1500, 3)
    params, notes = RandomCutForestParams(feature_dim=3, num_trees=100, num_samples_per_tree=9), Notes()
    with pytest.raises(ToldToStop):
        randomcutforest.fit(params, {"train": Broken("train", rows)}, notes)
    assert notes.kept is not None
    whole, _ = train(rows, num_trees=100, num_samples_per_tree=9)
    assert notes.kept().to_bytes() == whole.to_bytes()
    monkeypatch.setattr("clary.algorithms.forest._GROUP_BYTES", 4 * 9 * 3 * 7)  # seven trees at a time
    assert notes.kept().describe()["num_trees"] == 100
    notes.stopping = True
    cut = notes.kept()
    assert cut.describe()["num_trees"] == 56
    assert np.isfinite(cut.predict(rows).columns["score"]).all()
    assert RandomCutForestModel.from_bytes(cut.to_bytes()).to_bytes() == cut.to_bytes()


def test_model_at_the_end() -> None:
    """What is kept after training is the model itself."""
    model, notes = train(normal(300))
    assert notes.kept is not None and notes.kept() is model


@pytest.mark.parametrize("count", [300, 3000])
def test_repeatable(count: int) -> None:
    """Equal jobs give equal artifacts, byte for byte, dense or sparse, and rows stay as they are."""
    rows = normal(count, 3)
    rows[rows < 0.3] = 0
    before = rows.copy()
    first = train(rows, num_samples_per_tree=16)[0].to_bytes()
    assert train(rows, num_samples_per_tree=16)[0].to_bytes() == first
    assert train(CSR.from_dense(rows), num_samples_per_tree=16)[0].to_bytes() == first
    assert np.array_equal(rows, before)


def test_dense_and_sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dense and sparse rows have the same scores to the last bit, in pieces of whatever size."""
    rows = normal(100, 48)
    rows[rows < 0.5] = 0
    model, _ = train(rows)
    dense = model.predict(rows).columns["score"]
    for limit in (1, 4 * 48 * 7, 1 << 24):
        monkeypatch.setattr("clary.algorithms.randomcutforest._DENSE_BYTES", limit)
        for given in (rows, CSR.from_dense(rows), np.asfortranarray(rows)):
            assert np.array_equal(model.predict(given).columns["score"], dense)
    assert model.predict(CSR.from_dense(rows[:1])).columns["score"][0] == dense[0]


def test_double_precision() -> None:
    """Rows in double precision are rounded to float32, so a row of the data is known again."""
    rows = np.random.default_rng(0).normal(size=(100, 2))
    model, _ = train(rows.astype(np.float32))
    double, single = (model.predict(given).columns["score"] for given in (rows, rows.astype(np.float32)))
    assert np.array_equal(double, single) and double.dtype == np.float32


@pytest.mark.parametrize("sparse", [False, True])
def test_no_rows(sparse: bool) -> None:
    """No rows have no scores."""
    rows = np.empty((0, 2), np.float32)
    predictions = train(normal(60))[0].predict(CSR.from_dense(rows) if sparse else rows)
    assert (predictions.key, predictions.columns["score"].shape) == ("scores", (0,))


def test_threshold_by_hand() -> None:
    """An anomaly scores above the mean and three deviations of the population: here .98, while a sample's give 1.02."""
    scores = np.array([0.0] * 10 + [0.4, 1.0])
    labels = np.arange(12) == 11
    assert set(evaluate(scores, labels).values()) == {1.0}
    assert evaluate(scores * 3 - 7, labels) == evaluate(scores, labels)


def test_evaluation_by_hand() -> None:
    """One anomaly found, one wrongly found, two missed, of 32 rows."""
    scores = np.array([20.0, 20.0] + [1.0] * 30, np.float32)
    labels = np.isin(np.arange(32), [0, 5, 6])
    found = evaluate(scores, labels)
    assert found == pytest.approx({"accuracy": 29 / 32, "precision": 1 / 2, "recall": 1 / 3, "f1": 2 / 5})


@pytest.mark.parametrize("labels", [np.zeros(8, bool), np.ones(8, bool)])
def test_nothing_found(labels: Array) -> None:
    """Where no score stands out, precision, recall and F1 are zero, without a division by zero."""
    found = evaluate(np.full(8, 0.1, np.float32), labels)
    assert found == {"accuracy": float(not labels[0]), "precision": 0, "recall": 0, "f1": 0}


def with_anomalies() -> tuple[Array, Array]:
    """1500 rows of a cube with ten far off among them, and their labels."""
    rows = np.random.default_rng(4).uniform(-1, 1, (1500, 3)).astype(np.float32)
    labels = np.zeros(1500, np.float32)
    rows[70::150] += 30 * np.sign(rows[70::150])
    labels[70::150] = 1
    return rows, labels


def test_obvious_anomalies() -> None:
    """Anomalies far off are all found, and nothing else is."""
    rows, labels = with_anomalies()
    _, notes = train(rows, (rows, labels))
    assert notes.scores == notes.qualities == dict.fromkeys([("test", name) for name in METRICS], 1.0)


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ('["accuracy"]', METRICS[:1]),
        ('["precision_recall_fscore"]', METRICS[1:]),
        ('["precision_recall_fscore", "accuracy"]', (*METRICS[1:], METRICS[0])),
    ],
)
def test_eval_metrics(chosen: str, names: tuple[str, ...]) -> None:
    """What eval_metrics names is computed, in its order."""
    rows, labels = with_anomalies()
    _, notes = train(rows, (CSR.from_dense(rows), labels), eval_metrics=chosen)
    assert [*notes.scores] == [*notes.qualities] == [("test", name) for name in names]


def test_no_eval_metrics() -> None:
    """An empty list of metrics is refused, as is one that is not known."""
    for chosen in ("[]", '["f1"]'):
        with pytest.raises(HyperParameterError, match="eval_metrics"):
            train(normal(60), eval_metrics=chosen)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (None, "found none"),
        (np.array([0, 1, 2]), r"found \[2.0\]"),
        (np.array([0, 1, np.nan]), r"found \[nan\]"),
        (np.array([-1, 0.5, 7]), r"found \[-1.0, 0.5, 7.0\]"),
        (np.zeros((3, 2)), "found 2 numbers for a row"),
    ],
)
def test_labels(labels: Array | None, told: str) -> None:
    """Labels of the test channel other than 0 and 1 are told, with the content type that gives some."""
    given = None if labels is None else labels.astype(np.float32)
    with pytest.raises(ChannelError, match=rf"the label 0 or 1 .*{told}: .* text/csv;label_size=1$"):
        train(normal(60), (normal(3), given))


def test_empty_test_channel() -> None:
    """A test channel without rows is warned of, and gives no metrics."""
    _, notes = train(normal(60), (np.empty((0, 2), np.float32), None))
    assert notes.lines[-1].startswith("the channel 'test' has no rows") and not notes.scores


def test_labels_of_training_rows() -> None:
    """Labels of the training rows make no difference."""
    rows, labels = with_anomalies()
    params = RandomCutForestParams(feature_dim=3, num_trees=50)
    labelled = randomcutforest.fit(params, {"train": Rows("train", rows, labels)}, Notes())
    assert labelled.to_bytes() == train(rows)[0].to_bytes()


def test_anomaly_of_a_series() -> None:
    """Of a series with a daily rhythm, in shingles of a day, those that hold its one odd morning score highest."""
    hours = np.arange(48 * 100)
    rng = np.random.default_rng(8)
    series = 10 + 4 * np.sin(2 * np.pi * hours / 48) + 0.3 * rng.normal(size=len(hours))
    series[3003:3011] = 3
    rows = shingle(series.astype(np.float32), 48)
    scores = train(rows, num_samples_per_tree=64)[0].predict(rows).columns["score"]
    assert 3003 - 47 <= scores.argmax() <= 3010
    odd = np.zeros(len(rows), bool)
    odd[3003 - 47 : 3011] = True
    assert scores[odd].mean() > scores[~odd].mean() + 5 * scores[~odd].std()


def test_outlier_of_one_column() -> None:
    """Of a column of numbers the one far off scores highest, and those in the middle low."""
    rows = normal(2000, 1)
    rows[700] = 25
    scores = train(rows)[0].predict(rows).columns["score"]
    assert scores.argmax() == 700 and scores[700] > scores.mean() + 3 * scores.std()
    assert scores[np.abs(rows[:, 0]) < 0.5].mean() < scores[np.abs(rows[:, 0]) > 2].mean()


def test_width_of_the_model() -> None:
    """The model knows how many columns a row has, and tells of its trees."""
    model, _ = train(normal(1000, 5), num_samples_per_tree=16)
    told = model.describe()
    depths = sizes(model.forest)[1]
    assert model.feature_dim == 5
    assert told == {
        "num_trees": 50,
        "num_samples_per_tree": 16,
        "mean_tree_depth": pytest.approx(depths.mean(), abs=0.01),
        "max_tree_depth": depths.max(),
    }
