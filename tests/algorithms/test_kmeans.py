"""K-means: what it computes, against numbers made by hand, relations and scikit-learn."""

import gzip
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clary.algorithms.kmeans import KMeansModel, KMeansParams, State, update
from clary.algorithms.lloyd import kmeans_plus_plus, lloyd, nearest_centres
from clary.errors import ArtifactError, ChannelError
from clary.recordio.batch import CSR, Array

from .conftest import Fit

KMeans = pytest.importorskip("sklearn.cluster").KMeans
load_digits = pytest.importorskip("sklearn.datasets").load_digits

POINTS = np.array([[0, 0], [0, 2], [10, 0], [10, 2]], np.float32)


def msd(centres: Array, rows: Array) -> float:
    """Mean squared distance to the closest centre, by its definition."""
    differences = rows[:, None].astype(np.float64) - centres[None]
    return float(np.square(differences).sum(2).min(1).mean())


def test_by_hand(fit: Fit) -> None:
    """Four points make two clusters; train msd is the distance of the four intermediate centres to the two."""
    fitted = fit(POINTS, np.array([[0, 1], [10, 4]]), k=2, eval_metrics='["ssd", "msd"]')
    assert fitted.centres == [[0, 1], [10, 1]]
    assert fitted.notes.qualities == {("train", "msd"): 1.0, ("test", "ssd"): 9.0, ("test", "msd"): 4.5}
    assert fitted.notes.scores == {("test", "ssd"): 9.0, ("test", "msd"): 4.5}


def test_predictions_by_hand() -> None:
    """An answer is the number of the closest centre, and the distance to it with the root taken."""
    model = KMeansModel(np.array([[0, 0], [3, 4]], np.float32))
    predictions = model.predict(np.array([[3, 4], [0, 0], [0, 1], [6, 8]], np.float32))
    assert predictions.key == "predictions"
    columns = {name: column.tolist() for name, column in predictions.columns.items()}
    assert columns == {"closest_cluster": [1, 0, 0, 1], "distance_to_cluster": [0, 0, 1, 5]}
    assert {column.dtype for column in predictions.columns.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("sparse", [False, True])
def test_no_rows(sparse: bool) -> None:
    """No rows have no answers."""
    rows = np.empty((0, 2), np.float32)
    columns = KMeansModel(POINTS).predict(CSR.from_dense(rows) if sparse else rows).columns
    assert [len(column) for column in columns.values()] == [0, 0]


def test_cumulative_mean() -> None:
    """A centre is the mean of all rows it ever had, and of the one it began with."""
    state = State(np.array([[0], [10]], np.float32), np.ones(2))
    state, first = update(state, np.array([[2], [13]], np.float32))
    assert (state.centres.ravel().tolist(), state.counts.tolist(), first) == ([1, 11.5], [2, 2], 6.5)
    state, second = update(state, np.array([[4]], np.float32))
    assert (state.centres.ravel().tolist(), state.counts.tolist(), second) == ([2, 11.5], [3, 2], 9)


def test_half_life() -> None:
    """A decay makes what was counted so far count less, before the new rows are counted."""
    state = State(np.array([[0], [10]], np.float32), np.array([2.0, 8.0]))
    state, _ = update(state, np.array([[4], [4]], np.float32), 0.5)
    assert (state.counts.tolist(), state.centres[1].item()) == ([3, 4], 10)
    assert state.centres[0].item() == pytest.approx(8 / 3)


def test_half_life_follows_the_data(fit: Fit) -> None:
    """With a short half-life the centres follow rows that drift away; without one they do not."""
    drifting = np.repeat(np.linspace(0, 100, 50), 20)[:, None].astype(np.float32)
    last = {size: fit(drifting, k=1, mini_batch_size=20, half_life_time_size=size).centres[0][0] for size in (0, 20)}
    assert last[0] == pytest.approx(50, abs=1) and last[20] > 90


def test_half_life_of_nothing(fit: Fit) -> None:
    """A half-life so short that counts vanish leaves centres that are numbers."""
    fitted = fit(np.tile(POINTS, (500, 1)), k=2, mini_batch_size=500, half_life_time_size=1)
    assert fitted.centres == [[0, 1], [10, 1]]


def test_wide_sparse(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sparse rows with values in few of many columns give the model and the distances that dense rows give."""
    monkeypatch.setattr("clary.algorithms.rows._CHUNK_BYTES", 400)
    rng = np.random.default_rng(0)
    rows = np.zeros((60, 3000), np.float32)
    rows[np.arange(60)[:, None], rng.integers(0, 3000, (60, 4))] = rng.normal(size=(60, 4)) + 3
    sparse = fit(CSR.from_dense(rows), k=3, mini_batch_size=25, epochs=2).model
    assert np.allclose(sparse.centres, fit(rows, k=3, mini_batch_size=25, epochs=2).model.centres, atol=1e-5)
    wide, narrow = (sparse.predict(x).columns["distance_to_cluster"] for x in (CSR.from_dense(rows), rows))
    assert np.allclose(wide, narrow, rtol=1e-5)


@pytest.mark.parametrize("chunk_bytes", [4, 1000, 1 << 24])
@pytest.mark.parametrize("init", ["random", "kmeans++"])
def test_dense_and_sparse(fit: Fit, blobs: Array, monkeypatch: pytest.MonkeyPatch, init: str, chunk_bytes: int) -> None:
    """Dense and sparse rows give one model, in pieces of whatever size."""
    monkeypatch.setattr("clary.algorithms.rows._CHUNK_BYTES", chunk_bytes)
    blobs[blobs < 1] = 0
    dense = fit(blobs, k=5, init_method=init, mini_batch_size=100).model
    sparse = fit(CSR.from_dense(blobs), k=5, init_method=init, mini_batch_size=100).model
    assert np.allclose(dense.centres, sparse.centres, rtol=1e-5)
    answers = [dense.predict(rows).columns["closest_cluster"].tolist() for rows in (blobs, CSR.from_dense(blobs))]
    assert answers[0] == answers[1]


def test_batch_size_of_further_epochs(fit: Fit, blobs: Array) -> None:
    """The further epochs are Lloyd iterations over all rows: three do what three of Lloyd's do."""
    first = fit(blobs, k=10, mini_batch_size=100).model
    fitted = fit(blobs, k=10, mini_batch_size=100, epochs=4).model
    centres = first.centres.astype(np.float64)
    for _ in range(3):
        labels = nearest_centres(blobs.astype(np.float64), centres)[0]
        centres = np.stack([blobs[labels == i].astype(np.float64).mean(0) for i in range(10)])
    assert np.allclose(fitted.centres, centres, rtol=1e-5)


def test_more_epochs_are_better(fit: Fit, blobs: Array) -> None:
    """No further epoch makes the rows' mean squared distance larger."""
    values = [msd(fit(blobs, k=10, mini_batch_size=50, epochs=n).model.centres, blobs) for n in (1, 2, 3, 6)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("init", ["random", "kmeans++"])
@pytest.mark.parametrize("local", ["random", "kmeans++"])
def test_repeatable(fit: Fit, blobs: Array, init: str, local: str) -> None:
    """Equal jobs give equal artifacts, byte for byte, whatever the methods are."""
    before = blobs.copy()
    both = [fit(blobs, k=4, init_method=init, local_lloyd_init_method=local, epochs=2).model for _ in range(2)]
    assert both[0].to_bytes() == both[1].to_bytes()
    assert np.array_equal(blobs, before)


@pytest.mark.parametrize("init", ["random", "kmeans++"])
@pytest.mark.parametrize("local", ["random", "kmeans++"])
def test_methods_find_clear_clusters(fit: Fit, init: str, local: str) -> None:
    """Clusters that lie far apart are found by every combination of methods."""
    fitted = fit(np.tile(POINTS, (50, 1)), k=2, init_method=init, local_lloyd_init_method=local)
    assert np.allclose(fitted.centres, [[0, 1], [10, 1]], atol=0.1)


def test_one_row_of_many(fit: Fit, blobs: Array) -> None:
    """The first row alone has the answer that it has among all."""
    model = fit(blobs, k=10).model
    alone, among = model.predict(blobs[:1]).columns, model.predict(blobs).columns
    assert {name: column[0] for name, column in alone.items()} == {name: column[0] for name, column in among.items()}


def test_artifact(fit: Fit, blobs: Array) -> None:
    """An artifact gives the same answers as the model that it was made from."""
    model = fit(blobs, k=10).model
    back = KMeansModel.from_bytes(model.to_bytes())
    assert back.to_bytes() == model.to_bytes()
    for name, column in model.predict(blobs).columns.items():
        assert np.array_equal(column, back.predict(blobs).columns[name])


def test_weighted_lloyd() -> None:
    """Weights are repetitions: Lloyd's iterations on weighted points are those on repeated ones."""
    rng = np.random.default_rng(0)
    points, weights = rng.normal(size=(30, 3)), rng.integers(1, 6, 30)
    start = points[:4]
    weighted, loss = lloyd(points, weights.astype(float), start, 100, 0)
    repeated, other = lloyd(points.repeat(weights, axis=0), np.ones(weights.sum()), start, 100, 0)
    assert np.allclose(weighted, repeated) and loss == pytest.approx(other)


def test_lloyd_is_scikit_learns() -> None:
    """From one start and to the end Lloyd's iterations reach what scikit-learn's do."""
    points = np.random.default_rng(0).normal(size=(200, 3))
    weights = np.random.default_rng(1).uniform(0.1, 3, 200)
    ours, loss = lloyd(points, weights, points[:5], 300, 0)
    theirs = KMeans(5, init=points[:5], n_init=1, tol=0, algorithm="lloyd").fit(points, sample_weight=weights)
    assert np.allclose(ours, theirs.cluster_centers_) and loss == pytest.approx(theirs.inertia_ / weights.sum())


def test_lloyd_keeps_empty_clusters() -> None:
    """A centre that loses all points stays where it is."""
    points = np.array([[0.0], [1.0]])
    centres, loss = lloyd(points, np.ones(2), np.array([[0.5], [100.0]]), 10, 0)
    assert (centres.ravel().tolist(), loss) == ([0.5, 100], 0.25)


def test_lloyd_stops() -> None:
    """Lloyd's iterations end after as many as allowed, or when told to."""
    points = np.random.default_rng(0).normal(size=(500, 2))
    once = lloyd(points, np.ones(500), points[:8], 1, 0)[0]
    told = lloyd(points, np.ones(500), points[:8], 300, 0, lambda: True)[0]
    assert np.array_equal(once, told)
    assert not np.array_equal(once, lloyd(points, np.ones(500), points[:8], 300, 0)[0])


def test_seeding_prefers_far_points() -> None:
    """k-means++ takes one of each group where groups are far apart, and never a point without weight."""
    points = np.repeat([[0.0], [1e3], [2e3]], 20, axis=0) + np.random.default_rng(0).normal(size=(60, 1))
    weights = np.tile([1.0, 0.0], 30)
    for seed in range(20):
        chosen = kmeans_plus_plus(points, weights, 3, np.random.default_rng(seed))
        assert sorted((chosen.ravel() / 1e3).round().tolist()) == [0, 1, 2]
        assert np.isin(chosen, points[weights > 0]).all()


def test_seeding_told_to_stop() -> None:
    """Told to stop, k-means++ still gives k different points."""
    points = np.arange(50.0)[:, None]
    chosen = kmeans_plus_plus(points, np.ones(50), 20, np.random.default_rng(0), lambda: True)
    assert len(np.unique(chosen)) == len(chosen) == 20


@pytest.mark.parametrize("init", ["random", "kmeans++"])
@pytest.mark.parametrize("rows", [np.ones((50, 2)), np.zeros((50, 2)), np.tile([[0.0, 1.0], [5.0, 5.0]], (25, 1))])
def test_duplicates(fit: Fit, rows: Array, init: str) -> None:
    """Fewer different rows than clusters are no problem: each centre is one of the rows."""
    fitted = fit(rows.astype(np.float32), rows.astype(np.float32), k=5, init_method=init, epochs=2)
    assert {tuple(centre) for centre in fitted.centres} == {tuple(row) for row in rows.tolist()}
    assert fitted.notes.scores == {("test", "msd"): 0.0} and fitted.notes.qualities["train", "msd"] == 0.0


def test_one_column(fit: Fit) -> None:
    """One column is enough."""
    assert fit(np.array([[1], [2], [9], [10]], np.float32), k=2).centres == [[1.5], [9.5]]


@pytest.mark.parametrize("epochs", [1, 2])
def test_one_cluster(fit: Fit, blobs: Array, epochs: int) -> None:
    """The centre of one cluster is the mean; after one epoch the rows chosen first count twice."""
    fitted = fit(blobs, k=1, epochs=epochs, mini_batch_size=500)
    assert np.allclose(fitted.centres, blobs.mean(0), atol=0.2 if epochs == 1 else 1e-5)


def test_first_rows_count_twice(fit: Fit) -> None:
    """An intermediate centre begins with the row that it was chosen from, counted once, and then meets it again."""
    rows = np.array([[0], [1], [5]], np.float32)
    [[centre]] = fit(rows, k=1, extra_center_factor=1).centres
    assert centre in {(6 + row) / 4 for row in (0, 1, 5)}


def test_as_many_clusters_as_rows(fit: Fit) -> None:
    """Rows as many as clusters make k clusters of one row each."""
    assert fit(POINTS, k=4, init_method="kmeans++").centres == POINTS.tolist()


def test_first_batch_below_k(fit: Fit, blobs: Array) -> None:
    """A first mini-batch of fewer rows than clusters is told with what to change."""
    with pytest.raises(ChannelError, match=r"has 4 rows for k=5 clusters: lower k or give more data$"):
        fit(POINTS, k=5)
    with pytest.raises(ChannelError, match=r"has 4 rows for k=5 clusters: raise mini_batch_size$"):
        fit(blobs, k=5, mini_batch_size=4)


def test_number_of_intermediate_centres(fit: Fit, blobs: Array) -> None:
    """There are k × extra_center_factor intermediate centres, at most as many as the first rows."""
    cases = {("auto", 500): 50, ("3", 500): 15, ("auto", 20): 20}
    for (factor, size), count in cases.items():
        notes = fit(blobs, k=5, extra_center_factor=factor, mini_batch_size=size).notes
        assert f"shrinking {count} centers into 5" in notes.lines


def test_log(fit: Fit, blobs: Array) -> None:
    """The log has the lines of Amazon's container."""
    lines = fit(blobs, k=5, mini_batch_size=40, local_lloyd_num_trials=2).notes.lines
    assert lines[0] == "'extra_center_factor' was set to 'auto', evaluated to 10."
    assert lines[1].startswith("Iter 10: Short term msd ") and ". Long term msd " in lines[1]
    assert lines[2:4] == ["processed a total of 500 examples", "shrinking 40 centers into 5"]
    assert [line[:35] for line in lines[4:6]] == [f"local kmeans attempt #{i}. Current me" for i in range(2)]
    assert lines[6].startswith("finished shrinking process. Mean Square Distance = ")
    assert "Effective batch size used to initialize is 500" in fit(blobs, k=5).notes.lines[1]


def test_train_msd(fit: Fit, blobs: Array) -> None:
    """Train msd is not the rows' distance: with one intermediate centre for each final one it is zero."""
    fitted = fit(blobs, k=10, extra_center_factor=1)
    assert fitted.notes.qualities["train", "msd"] == pytest.approx(0, abs=1e-9)
    assert msd(fitted.model.centres, blobs) > 1


def test_best_trial_is_kept(fit: Fit, blobs: Array) -> None:
    """More trials never make train msd larger."""
    values = [
        fit(blobs, k=10, local_lloyd_num_trials=n, local_lloyd_init_method="random").notes.qualities["train", "msd"]
        for n in (1, 3, 10, 30)
    ]
    assert values == sorted(values, reverse=True) and values[0] > values[-1]


def test_test_metrics(fit: Fit, blobs: Array) -> None:
    """The metrics of the test channel are the mean and the sum of the squared distances of the test rows."""
    fitted = fit(blobs[:400], blobs[400:], k=5, eval_metrics='["msd", "ssd"]', mini_batch_size=30)
    expected = msd(fitted.model.centres, blobs[400:])
    assert fitted.notes.scores["test", "msd"] == pytest.approx(expected, rel=1e-5)
    assert fitted.notes.scores["test", "ssd"] == pytest.approx(100 * expected, rel=1e-5)


@pytest.mark.parametrize("offset", [1e3, 1e5, 1e6])
def test_far_from_zero(fit: Fit, blobs: Array, offset: float) -> None:
    """Rows far from zero, such as years or prices, are clustered as well as those around it."""
    far = blobs + np.float32(offset)
    for given in ({}, {"init_method": "kmeans++", "epochs": 3}):
        near = msd(fit(blobs, k=10, **given).model.centres, blobs)
        assert msd(fit(far, k=10, **given).model.centres, far) == pytest.approx(near, rel=0.02)


def test_answers_far_from_zero(blobs: Array) -> None:
    """So are the answers."""
    model = KMeansModel(blobs[:10] + np.float32(1e5))
    near = KMeansModel(model.centres - np.float32(1e5))
    far = (blobs + np.float32(1e5)).astype(np.float32)
    for name, column in near.predict(far - np.float32(1e5)).columns.items():
        assert np.allclose(model.predict(far).columns[name], column, atol=0.05)


def test_numbers_too_large(fit: Fit, blobs: Array) -> None:
    """Numbers whose squares float32 cannot hold are refused rather than clustered wrongly."""
    with pytest.raises(ChannelError, match="too large: their squares overflow float32"):
        fit(blobs * np.float32(1e25), k=3)


@pytest.mark.parametrize("epochs", [1, 3])
def test_model_so_far(fit: Fit, blobs: Array, epochs: int) -> None:
    """What is kept for a job that is told to end is, after the last epoch, the model itself."""
    fitted = fit(blobs, k=5, mini_batch_size=50, epochs=epochs)
    assert fitted.notes.kept is not None
    assert fitted.notes.kept().to_bytes() == fitted.model.to_bytes()


def test_update_told_to_stop(monkeypatch: pytest.MonkeyPatch, blobs: Array) -> None:
    """Told to stop, a mini-batch ends after the piece of rows it is at, with whole centres."""
    monkeypatch.setattr("clary.algorithms.rows._CHUNK_BYTES", 4 * 2 * 100)
    start = State(blobs[:2], np.ones(2))
    cut, _ = update(start, blobs, 1.0, lambda: True)
    assert cut.counts.sum() == 102
    assert np.array_equal(cut.centres, update(start, blobs[:100])[0].centres)


def ratio(fit: Fit, train: Array, test: Array, seed: int, n_init: int) -> float:
    """Our mean squared distance of the test rows in units of converged KMeans'."""
    ours = fit(train, k=10, epochs=4).model.centres
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not ours
        theirs = KMeans(10, n_init=n_init, random_state=seed).fit(train).cluster_centers_
    return msd(ours, test) / msd(theirs, test)


def test_quality_on_digits(fit: Fit) -> None:
    """On digits four epochs are as good as converged KMeans, over several splits, and never much worse."""
    rows = load_digits().data.astype(np.float32)
    ratios = []
    for seed in range(8):
        order = np.random.default_rng(seed).permutation(len(rows))
        ratios.append(ratio(fit, rows[order[:1400]], rows[order[1400:]], seed, 1))
    assert np.mean(ratios) <= 1.005 and max(ratios) <= 1.02


def images(folder: Path, name: str) -> Array:
    """Images of MNIST as rows."""
    data = gzip.decompress((folder / f"{name}-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(data, np.uint8, offset=16).reshape(-1, 784).astype(np.float32)


def test_quality_on_mnist(fit: Fit, shared_data: Callable[[str], Path]) -> None:
    """On MNIST four epochs are as good as converged KMeans."""
    folder = shared_data("mnist")
    assert ratio(fit, images(folder, "train"), images(folder, "t10k"), 0, 1) <= 1.005


def test_parameters_are_typed() -> None:
    """Hyperparameters made in Python are those made of text."""
    assert KMeansParams(feature_dim=2, k=3) == KMeansParams.parse({"feature_dim": "2", "k": "3"})


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_centres_that_are_no_numbers(odd: float) -> None:
    """An artifact whose centres are not all finite is refused."""
    with pytest.raises(ArtifactError, match="not all finite"):
        KMeansModel.from_bytes(KMeansModel(np.array([[0, odd]], np.float32)).to_bytes())
