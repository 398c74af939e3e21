"""Factorization machines: what a job learns, prints and refuses, and what its model answers."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clary.algorithms.factorization_machines import (
    ALGORITHM,
    FactorizationMachinesModel,
    FactorizationMachinesParams,
)
from clary.algorithms.fm_artifact import FMArtifact
from clary.algorithms.mxnet_module import load_object, unpack
from clary.algorithms.scores import log_loss, roc_auc
from clary.errors import ChannelError, HyperParameterError
from clary.recordio.batch import CSR, Array, concatenate
from clary.recordio.libsvm import read_libsvm

from ..job import Tree, recordio, until
from .conftest import Notes, Rows

HINT = "the loss is hardly below that of a constant"
GOOD = {"epochs": 40, "linear_lr": 0.02, "factors_lr": 0.02, "factors_init_sigma": 0.1, "mini_batch_size": 100}


class Job:
    """A job in this process: its model and what it told."""

    def __init__(
        self,
        features: Array | CSR,
        labels: Array | None,
        test: tuple[Array | CSR, Array | None] | None = None,
        predictor_type: str = "regressor",
        **given: object,
    ) -> None:
        texts = {
            "feature_dim": str(features.shape[1]),
            "num_factors": "4",
            "predictor_type": predictor_type,
            **{name: str(value) for name, value in given.items()},
        }
        self.notes = Notes()
        channels = {"train": Rows("train", features, labels), **({} if test is None else {"test": Rows("test", *test)})}
        model = ALGORITHM.fit(FactorizationMachinesParams.parse(texts), channels, self.notes)
        assert isinstance(model, FactorizationMachinesModel)
        self.model = model

    @property
    def machine(self) -> FMArtifact:
        """Weights and factors."""
        return self.model.artifact


def pairs(n: int = 1000, seed: int = 0) -> tuple[Array, Array]:
    """Rows of one user and one item each, one-hot, and ratings that hang on both at once."""
    rng = np.random.default_rng(seed)
    users, items = rng.integers(0, 20, n), rng.integers(0, 10, n)
    rows = np.zeros((n, 30), np.float32)
    rows[np.arange(n), users] = rows[np.arange(n), 20 + items] = 1
    return rows, np.where(users % 2 == items % 2, 1, -1).astype(np.float32)


@pytest.fixture(scope="module")
def good() -> Job:
    """A job with settings that suit its data."""
    rows, labels = pairs()
    return Job(rows, labels, pairs(200, 1), **GOOD)


def test_learns_interactions(good: Job) -> None:
    """Ratings that no linear model can tell, as each user likes half the items, are learnt."""
    rows, labels = pairs(200, 1)
    score = good.model.predict(rows).columns["score"]
    assert np.abs(score - labels).max() < 0.3
    assert good.notes.scores["test", "rmse"] == pytest.approx(np.sqrt(np.square(score - labels).mean()), rel=1e-4)


def test_learns_classes() -> None:
    """So are classes; a label is told 1 exactly where the score is at least 0.5."""
    rows, labels = pairs()
    job = Job(rows, (labels > 0).astype(np.float32), predictor_type="binary_classifier", **GOOD)
    columns = job.model.predict(rows).columns
    assert np.array_equal(columns["predicted_label"], labels > 0)
    assert job.notes.qualities["train", "binary_classification_accuracy"] == 1


def test_threshold() -> None:
    """A score of exactly 0.5 is told 1; a raw output below zero, however little, has what its float32 score says."""
    machine = FMArtifact(np.zeros((1, 1), np.float32), np.ones(1, np.float32), 0.0, "binary_classifier", {})
    columns = FactorizationMachinesModel(machine).predict(np.array([[0], [-1e-3], [-1e-12], [1]], np.float32)).columns
    assert (columns["score"] >= 0.5).tolist() == [True, False, True, True]
    assert columns["predicted_label"].tolist() == [1, 0, 1, 1]


def test_defaults_hint(good: Job) -> None:
    """The defaults of SageMaker learn little from little data, and the job says so; good settings say nothing."""
    rows, labels = pairs()
    assert any(line.startswith(HINT) and "epochs=20, linear_lr" in line for line in Job(rows, labels).notes.lines)
    lines = Job(rows, labels, linear_lr=1e-6, factors_lr=1e-6).notes.lines
    assert any(line.startswith(HINT) and "epochs=20" not in line and "bias_lr" in line for line in lines)
    assert not any(line.startswith(HINT) for line in good.notes.lines)


def test_hint_for_equal_labels() -> None:
    """Where all labels are equal a constant is all there is to learn; the hint comes until the bias is there."""
    rows, labels = pairs()
    for epochs, hinted in ((1, True), (40, False)):
        lines = Job(rows, np.ones_like(labels), epochs=epochs, bias_wd=0.0, mini_batch_size=400 // epochs).notes.lines
        assert any(line.startswith(HINT) for line in lines) == hinted


@pytest.mark.parametrize("binary", [False, True])
def test_metrics_by_definition(binary: bool) -> None:
    """A test channel's metrics are those of the answers to its rows, however they are batched."""
    rows, labels = pairs(333)
    labels = (labels > 0).astype(np.float32) if binary else labels * 3
    kind = "binary_classifier" if binary else "regressor"
    job = Job(rows, labels, (rows, labels), kind, mini_batch_size=50, linear_lr=0.05, factors_lr=0.05, epochs=2)
    score = job.model.predict(rows).columns["score"].astype(np.float64)
    if binary:
        found = score >= 0.5
        both = (found & (labels > 0)).sum()
        expected = {
            "binary_classification_accuracy": (found == (labels > 0)).mean(),
            "binary_classification_cross_entropy": -np.log(np.where(labels > 0, score, 1 - score)).mean(),
            "binary_f_1.000": 2 * both / (found.sum() + labels.sum()),
        }
    else:
        errors = score - labels
        mse = np.square(errors).mean()
        expected = {"rmse": np.sqrt(mse), "mse": mse, "absolute_loss": np.abs(errors).mean()}
    told = {name: value for (channel, name), value in job.notes.scores.items() if channel == "test"}
    assert list(told) == list(expected)
    assert told == pytest.approx(expected, rel=1e-4)


def test_lines() -> None:
    """Each epoch prints batch 0 and every interval-th batch, then the epoch; at the end the last epoch again."""
    rows, labels = pairs(100)
    notes = Job(rows, labels, mini_batch_size=10, epochs=2, batch_metrics_publish_interval=4).notes
    said = [(epoch, batch) for _, name, _, epoch, batch in notes.all_qualities if name == "mse"]
    assert said == [(0, 0), (0, 4), (0, 8), (0, None), (1, 0), (1, 4), (1, 8), (1, None), (None, None)]
    assert [name for _, name, *_ in notes.all_qualities[:3]] == ["rmse", "mse", "absolute_loss"]
    assert [value for *_, value, epoch, batch in notes.all_qualities if (epoch, batch) == (1, None)] == [
        value for *_, value, epoch, batch in notes.all_qualities if epoch is None
    ]
    assert notes.lines[0] == "[Sparse network] Building a sparse network."


def test_batch_lines_by_hand() -> None:
    """The metrics of batch 0 are those of the model before it learnt anything."""
    rows, labels = pairs(100)
    notes = Job(rows, labels * 2, bias_init_sigma=0, linear_init_sigma=0, factors_init_sigma=0).notes
    assert {name: value for _, name, value, _, batch in notes.all_qualities if batch == 0} == {
        "rmse": 2.0,
        "mse": 4.0,
        "absolute_loss": 2.0,
    }


def test_log(tmp_path: Path) -> None:
    """A job's log has Amazon's lines: no comma after the batch, and a score block before the test lines."""
    rows, labels = pairs(100)
    tree = job_tree(tmp_path, recordio(rows, labels), test=recordio(rows, labels))
    result = tree.run(CLARY_ALGORITHM="factorization-machines")
    assert (result.code, result.failure) == (0, None)
    starts = [
        "[Sparse network] Building a sparse network.",
        "#quality_metric: host=algo-1, epoch=0, batch=0 train rmse <loss>=",
        "#quality_metric: host=algo-1, epoch=0, batch=0 train mse <loss>=",
        "#quality_metric: host=algo-1, epoch=0, batch=0 train absolute_loss <loss>=",
        "#quality_metric: host=algo-1, epoch=0, train rmse <loss>=",
        "#quality_metric: host=algo-1, train rmse <loss>=",
        "#test_score (algo-1) : ('rmse', ",
        "#test_score (algo-1) : ('absolute_loss', ",
        "#quality_metric: host=algo-1, test rmse <loss>=",
    ]
    places = [next(i for i, line in enumerate(result.messages) if line.startswith(start)) for start in starts]
    assert places == sorted(places)


def job_tree(root: Path, train: bytes, content_type: str | None = None, test: bytes | None = None) -> Tree:
    """A job of thirty columns on these bytes."""
    tree = Tree(root)
    tree.config("hyperparameters.json", {"feature_dim": "30", "num_factors": "2", "predictor_type": "regressor"})
    entry = {"TrainingInputMode": "File", **({"ContentType": content_type} if content_type else {})}
    tree.config("inputdataconfig.json", {"train": entry})
    tree.file("train/data", train)
    if test is not None:
        tree.file("test/data", test)
    return tree


def test_csv_is_refused(tmp_path: Path) -> None:
    """A CSV channel is refused in Amazon's words, with what the algorithm reads."""
    result = job_tree(tmp_path, b"1,2\n", "text/csv").run(CLARY_ALGORITHM="factorization-machines")
    assert result.code == 2
    assert result.failure == (
        "Customer Error: Unable to read data channel 'train'. Requested content-type is 'text/csv'. Please verify the "
        "data matches the requested content-type. Factorization machines reads application/x-recordio-protobuf"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_odd_features(tmp_path: Path, value: float) -> None:
    """A feature that is no number is refused in Amazon's words."""
    rows, labels = pairs(10)
    rows[3, 2] = value
    result = job_tree(tmp_path, recordio(rows, labels)).run(CLARY_ALGORITHM="factorization-machines")
    assert result.code == 2 and "Unable to read data channel 'train'. Found " in str(result.failure)


def test_labels_refused() -> None:
    """Labels that are missing, no numbers, several a row, or for a classifier not 0 and 1, are refused."""
    rows, labels = pairs(10)
    for wrong in (None, np.full(10, np.nan), np.where(np.arange(10) == 9, np.inf, 1), np.ones((10, 2))):
        with pytest.raises(ChannelError, match="'train' needs one finite label for every row, under the key 'values'"):
            Job(rows, wrong)
        with pytest.raises(ChannelError, match="'test' needs one finite label"):
            Job(rows, labels, (rows, wrong))
    for label in (-1, 2, 0.5):
        with pytest.raises(ChannelError, match=f"has the label {label:g}: a binary_classifier takes 0 and 1"):
            Job(rows, np.full(10, label), predictor_type="binary_classifier")


def test_no_rows() -> None:
    """A train channel without rows is an error in Amazon's words, a test channel without them a warning."""
    rows, labels = pairs(10)
    with pytest.raises(ChannelError, match=r"^No training data processed\."):
        Job(rows[:0], labels[:0])
    job = Job(rows, labels, (rows[:0], labels[:0]))
    assert job.notes.scores == {} and "the channel 'test' has no rows: there is nothing to evaluate" in job.notes.lines


@pytest.mark.parametrize("given", [{"factors_lr": 1e30, "epochs": 3}, {"bias_init_value": 1e30}])
def test_divergence(given: dict[str, Any]) -> None:
    """A model that float32 cannot hold is an error that says what to lower, not an artifact that nobody can open."""
    rows, labels = pairs(100)
    with pytest.raises(HyperParameterError, match=r"have become infinite in epoch \d: lower bias_lr"):
        Job(rows, labels, bias_init_method="constant", **{"bias_init_value": 0, **given})


@pytest.mark.parametrize("sparse", [False, True])
def test_one_row(sparse: bool) -> None:
    """One row is enough, also one without any value."""
    for row in (np.ones((1, 3), np.float32), np.zeros((1, 3), np.float32)):
        job = Job(CSR.from_dense(row) if sparse else row, np.array([2.0]), epochs=300)
        assert job.model.predict(row).columns["score"].item() == pytest.approx(2, abs=0.2)


def test_batches_of_any_size() -> None:
    """A mini-batch larger than the data is the data."""
    rows, labels = pairs(100)
    whole, larger = (Job(rows, labels, mini_batch_size=size, epochs=3).model for size in (100, 10**9))
    assert np.array_equal(whole.artifact.v, larger.artifact.v)


def test_squared_errors_weigh_as_in_mxnet() -> None:
    """The derivative of a squared error is y - label, against which bias_wd pulls: they meet at label / (1 + wd)."""
    rows = np.zeros((10, 1), np.float32)
    job = Job(rows, np.full(10, 3), bias_wd=0.5, epochs=1000)
    assert job.machine.w0 == pytest.approx(2, abs=1e-3)


@pytest.mark.parametrize("part", ["bias", "linear", "factors"])
def test_init_methods(part: str) -> None:
    """Each part begins normal, uniform or constant, as wide as it is told; uniform numbers are within 0.07 else."""

    def first(**given: object) -> Array:
        texts = {f"{part}_init_{name}": str(value) for name, value in given.items()}
        params = FactorizationMachinesParams.parse(
            {"feature_dim": "1", "num_factors": "1", "predictor_type": "regressor", **texts}
        )
        return params.first(part, (1000, 5), np.random.default_rng(0))

    assert (first(method="constant", value=0.25) == 0.25).all()
    for scale, given in ((0.5, {"scale": 0.5}), (0.07, {})):
        uniform = first(method="uniform", **given)
        assert np.abs(uniform).max() == pytest.approx(scale, rel=0.01) and abs(uniform.mean()) < scale / 20
    for sigma, given in ((0.5, {"sigma": 0.5}), (0.001 if part == "factors" else 0.01, {})):
        assert first(**given).std() == pytest.approx(sigma, rel=0.05)
    assert first().dtype == np.float32


@pytest.mark.parametrize("part", ["bias", "linear", "factors"])
def test_constants_need_values(part: str) -> None:
    """A part that begins constant needs its value."""
    given = {"feature_dim": "1", "num_factors": "1", "predictor_type": "regressor", f"{part}_init_method": "constant"}
    with pytest.raises(HyperParameterError, match=f"{part}_init_method is constant: set {part}_init_value"):
        FactorizationMachinesParams.parse(given)


def test_without_bias_or_weights() -> None:
    """Where use_bias or use_linear is false, bias or weights are 0 and stay so."""
    rows, labels = pairs(100)
    given = {"bias_init_method": "constant", "bias_init_value": 5, "linear_lr": 1}
    assert Job(rows, labels, use_bias="False", **given).machine.w0 == 0
    machine = Job(rows, labels, use_linear="false", **given).machine
    assert not machine.w.any() and machine.w0 != 0 and machine.v.any()


def test_hidden_hyperparameters() -> None:
    """What SageMaker's clients and its default configuration send is accepted."""
    hidden = {"_optimizer": "adam", "_learning_rate": "1.0", "_data_format": "record", "force_dense": "True"}
    given = {"feature_dim": "1", "num_factors": "1", "predictor_type": "regressor", **hidden}
    assert FactorizationMachinesParams.parse(given).num_factors == 1


def test_artifact(good: Job) -> None:
    """The artifact has every hyperparameter that has a value, as text, and gives back the model."""
    data = good.model.to_bytes()
    given = load_object(unpack(data), "meta.json")["training_parameters"]
    expected = {"feature_dim": "30", "epochs": "40", "linear_lr": "0.02", "use_bias": "true"}
    assert {name: given[name] for name in expected} == expected and given["factors_init_method"] == "normal"
    assert not {"eps", "clip_gradient", "factors_init_scale"} & set(given)
    attrs = {node["name"]: node.get("attrs") for node in load_object(unpack(data), "symbol.json")["nodes"]}
    assert (attrs["v"]["__lr_mult__"], attrs["v"]["__shape__"]) == ("0.02", "(30, 4)")
    back = FactorizationMachinesModel.from_bytes(data)
    rows, _ = pairs(50)
    assert np.array_equal(back.predict(rows).columns["score"], good.model.predict(rows).columns["score"])
    assert back.to_bytes() == data


def test_uniform_in_the_artifact() -> None:
    """The graph tells the width of uniform numbers also where it was not given."""
    rows, labels = pairs(10)
    data = Job(rows, labels, factors_init_method="uniform").model.to_bytes()
    attrs = {node["name"]: node.get("attrs") for node in load_object(unpack(data), "symbol.json")["nodes"]}
    assert json.loads(attrs["v"]["__init__"]) == ["uniform", {"scale": 0.07}]


def test_dense_requests_in_pieces(good: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large request is answered in pieces, with the answers that it has at once."""
    rows, _ = pairs(100)
    whole = good.model.predict(rows).columns["score"]
    for name, value in (("_CHUNK_BYTES", 1), ("_SPARSE_ROWS", 3)):
        monkeypatch.setattr(f"clary.algorithms.factorization_machines.{name}", value)
    for given in (rows, CSR.from_dense(rows)):
        assert np.array_equal(good.model.predict(given).columns["score"], whole)


def test_model_so_far(good: Job) -> None:
    """What is kept for a job that is told to end is, after the last epoch, the model itself."""
    assert good.notes.kept is not None
    assert good.notes.kept().to_bytes() == good.model.to_bytes()


def test_told_to_end(tmp_path: Path) -> None:
    """A job told to end while it learns saves what it has, and ends well."""
    rows, labels = pairs(1000)
    tree = job_tree(tmp_path, b"")
    tree.config("inputdataconfig.json", {"train": {"TrainingInputMode": "Pipe"}})
    (tree.data / "train" / "data").unlink()
    (tree.data / "train").rmdir()
    tree.feed("train_0", recordio(rows, labels), pause=0.01, endless=True)
    process = tree.start(CLARY_ALGORITHM="factorization-machines")
    assert process.stdout is not None
    lines = iter(process.stdout.readline, b"")
    until(lambda: b"batch=0 train" in next(lines))
    process.send_signal(signal.SIGTERM)
    result = tree.end(process)
    assert (result.code, result.failure) == (0, None)
    assert "told to end: saving the model so far" in result.text
    model = FactorizationMachinesModel.from_bytes(tree.model.read_bytes())
    assert model.feature_dim == 30 and model.artifact.w.any()


def test_quality_on_a9a(shared_data: Callable[[str], Path]) -> None:
    """On a9a 64 factors tell more than any linear model: log loss below .3235 and AUC of .903 at least."""

    def read(name: str) -> tuple[CSR, Array]:
        with (shared_data("a9a") / name).open("rb") as stream:
            whole = concatenate([*read_libsvm(stream, width=123)])
        assert isinstance(whole.features, CSR) and whole.labels is not None
        return whole.features, (whole.labels > 0).astype(np.float32)

    given: dict[str, Any] = {
        "num_factors": 64,
        "epochs": 20,
        "linear_lr": 0.01,
        "factors_lr": 0.0005,
        "factors_init_sigma": 0.01,
    }
    model = Job(*read("a9a"), predictor_type="binary_classifier", **given).model
    rows, labels = read("a9a.t")
    score = model.predict(rows).columns["score"]
    assert log_loss(score, labels) < 0.3235 and roc_auc(score, labels) >= 0.903
