"""Linear learner: what it makes of rows far from zero, sparse, few or wrong."""

from collections.abc import Iterator

import numpy as np
import pytest

from clary.algorithms.linear_learner import LinearLearnerModel, LinearLearnerParams, fit
from clary.algorithms.scores import log_loss
from clary.errors import ChannelError, HyperParameterError
from clary.recordio.batch import CSR, Array, Batch

from .conftest import Notes, Rows
from .linear import ONE, PLAIN, Data, binary, learn, regressor
from .linear import line as line
from .linear import sides as sides
from .linear import thirds as thirds


@pytest.mark.parametrize("kind", ["regressor", "binary_classifier"])
def test_scaling_is_folded_back(line: Data, sides: Data, kind: str) -> None:
    """Training on rows as they come gives the answers of training on rows made standard beforehand."""
    rows, labels = line if kind == "regressor" else sides
    rows = (
        rows * np.array([3, 0.01, 50], np.float32)[: rows.shape[1]]
        + np.array([5, -0.2, 40], np.float32)[: rows.shape[1]]
    )
    wide = rows.astype(np.float64)
    standard = ((wide - wide.mean(0)) / wide.std(0)).astype(np.float32)
    off = {"normalize_data": False, "unbias_data": False}
    ours = learn(kind, (rows, labels), mini_batch_size=100, num_point_for_scaler=400).model.scores(rows)
    theirs = learn(kind, (standard, labels), mini_batch_size=100, num_point_for_scaler=400, **off).model.scores(
        standard
    )
    assert np.allclose(ours, theirs, atol=2e-3)


@pytest.mark.parametrize("names", [(), ("normalize_data",), ("unbias_data", "unbias_label"), ("normalize_label",)])
def test_parts_of_the_scaling(line: Data, names: tuple[str, ...]) -> None:
    """Whichever part of the scaling is off, the line is found."""
    fitted = regressor(line, mini_batch_size=10, epochs=40, **dict.fromkeys(names, False))
    assert [*fitted.weights.ravel(), *fitted.bias] == pytest.approx([3, -2, 5], abs=0.1)


def test_whole_mini_batches() -> None:
    """The scaler looks at whole mini-batches only: what differs in the last, short one counts for nothing."""
    rows = np.random.default_rng(0).normal(size=(250, 1)).astype(np.float32)
    labels = rows[:, 0].copy()
    given = {"mini_batch_size": 100, "epochs": 1, "num_models": 1, "learning_rate": 1e-30}
    first = regressor((rows, labels), **given)
    rows, labels = rows.copy(), labels.copy()
    rows[200:], labels[200:] = 1e3, 1e3
    assert regressor((rows, labels), **given).weights == pytest.approx(first.weights)


def test_constant_and_far_columns(line: Data) -> None:
    """A column that never changes has no influence, and one far from zero is learnt as if it were near."""
    rows, labels = line
    steps = (np.arange(300) % 2).astype(np.float32) * 2 - 1
    far = np.column_stack([rows, np.full(300, 1e6), steps + 1e6]).astype(np.float32)
    fitted = regressor((far, labels + steps), mini_batch_size=20, epochs=30)
    assert fitted.weights.ravel()[[0, 1, 3]] == pytest.approx([3, -2, 1], abs=0.05)
    assert fitted.notes.scores["train", "mse"] < 0.02


def test_answers_far_from_zero(line: Data) -> None:
    """The answers to such rows are as exact as the bias that the artifact holds in float32."""
    rows = line[0] + np.float32(1e6)
    fitted = regressor((rows, line[1]), mini_batch_size=20, epochs=30)
    told = fitted.notes.scores["train", "mse"]
    coarse = 0.5 * np.spacing(np.float32(abs(fitted.bias.item()))) + 2e6 * np.spacing(np.float32(3))
    assert np.square(fitted.model.scores(rows) - line[1]).mean() <= (told**0.5 + coarse) ** 2


def test_without_bias(line: Data) -> None:
    """Without a bias there is none in the artifact, whatever init_bias is, unless unbias_data asks for one."""
    assert regressor(line, use_bias=False, init_bias=3).bias.tolist() == [0]
    assert regressor(line, use_bias=False, unbias_data=True).bias.item() != 0


@pytest.mark.parametrize("given", [{"init_scale": 2}, {"init_method": "normal", "init_sigma": 2}, {"init_bias": 4}])
def test_first_weights(given: dict[str, object]) -> None:
    """Weights begin at random in init_scale, or with init_sigma; the bias begins at init_bias."""
    data = np.zeros((4, 500), np.float32), np.zeros(4, np.float32)
    fitted = regressor(data, **PLAIN, **ONE, learning_rate=1e-30, epochs=1, **given)
    weights = fitted.weights
    assert fitted.bias.item() == pytest.approx(given.get("init_bias", 0))
    if "init_sigma" in given:
        assert weights.std() == pytest.approx(2, rel=0.1) and abs(weights).max() > 4
    else:
        assert 0.9 * given.get("init_scale", 0.07) < abs(weights).max() <= given.get("init_scale", 0.07)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("kind", "label", "message"),
    [
        ("binary_classifier", 2, r"the channel 'train' has the label 2: a binary_classifier takes 0 to 1$"),
        ("binary_classifier", -1, r"the label -1"),
        ("multiclass_classifier", 1.5, r"the label 1\.5: .* takes 0 to 2 \(num_classes less one\)$"),
        ("multiclass_classifier", 3, r"the label 3"),
        ("regressor", np.nan, r"needs one label for every row"),
        ("regressor", np.inf, r"not finite"),
        ("binary_classifier", np.nan, r"needs one label for every row"),
    ],
)
def test_labels_refused(thirds: Data, kind: str, label: float, message: str) -> None:
    """A label that the predictor has no use for is told, whatever the channel."""
    rows = thirds[0]
    good = np.zeros(300, np.float32)
    bad = good.copy()
    bad[7] = label
    given = {"num_classes": 3, "mini_batch_size": 50}
    with pytest.raises(ChannelError, match=message):
        learn(kind, (rows, bad), **given)
    with pytest.raises(ChannelError, match=message.replace("train", "validation")):
        learn(kind, (rows, good), (rows, bad), **given)


def test_rules_between_hyperparameters() -> None:
    """A loss that is not the predictor's is refused, and so are two classes; what is not used is not."""
    parse = LinearLearnerParams.parse
    with pytest.raises(HyperParameterError, match="should be set to a value greater than 2: got 2"):
        parse({"predictor_type": "multiclass_classifier", "num_classes": "2"})
    with pytest.raises(HyperParameterError, match="loss 'hinge_loss' does not go with predictor_type 'regressor'"):
        parse({"predictor_type": "regressor", "loss": "hinge_loss"})
    parse({"predictor_type": "binary_classifier", "num_classes": "7", "normalize_label": "True", "force_dense": "true"})


def sparse_rows(columns: int, rows: int = 400, each: int = 5) -> tuple[CSR, Array]:
    """Sparse rows, labelled 1 where a column of the first third has a value twice as often as not."""
    rng = np.random.default_rng(3)
    indices = np.sort(rng.permuted(np.tile(np.arange(columns), (rows, 1)), axis=1)[:, :each], axis=1)
    labels = (indices[:, 0] < columns // 20).astype(np.float32)
    values = rng.uniform(1, 2, rows * each).astype(np.float32)
    return CSR(np.arange(rows + 1) * each, indices.ravel(), values, (rows, columns)), labels


def test_sparse_as_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrow sparse rows give the model of dense ones: by kernels but for rounding, without them bit for bit."""
    rows, labels = sparse_rows(40)
    ways = (rows, labels), (rows.toarray(), labels)
    sparse, dense = (binary(data, mini_batch_size=100).model for data in ways)
    assert np.allclose(sparse.artifact.weight, dense.artifact.weight, atol=1e-4)
    assert np.allclose(sparse.artifact.bias, dense.artifact.bias, atol=1e-4)
    monkeypatch.setattr("clary.native.kernels", None)
    sparse, dense = (binary(data, mini_batch_size=100).model for data in ways)
    assert sparse.to_bytes() == dense.to_bytes()


def test_wide_as_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wide sparse rows take a way of their own to the same model, where no step moves weights without a gradient."""
    rows, labels = sparse_rows(60)
    given = {"mini_batch_size": 100, "optimizer": "sgd", "wd": 0, "unbias_data": False, "epochs": 4}
    dense = binary((rows, labels), **given).model
    monkeypatch.setattr("clary.algorithms.linear_models._WIDE", 10)
    monkeypatch.setattr("clary.algorithms.linear_models._DENSE", 1)
    wide = binary((rows, labels), **given).model
    assert np.allclose(dense.artifact.weight, wide.artifact.weight, atol=1e-5)
    assert np.allclose(dense.artifact.bias, wide.artifact.bias, atol=1e-5)


def test_wide_moves_touched_rows() -> None:
    """Columns that never had a value have the weight zero; a constant column far from zero does no harm."""
    rows, labels = sparse_rows(3000, rows=200)
    given = {**ONE, "mini_batch_size": 50, "normalize_data": False, "wd": 0.1, "learning_rate": 0.05}
    weights = binary((rows, labels), **given).weights.ravel()
    touched = np.unique(rows.indices)
    still = np.delete(weights, touched)
    assert not still.any() and abs(weights[touched]).max() > 0.1
    columns = np.column_stack([rows.indices.reshape(200, 5), np.full(200, 2999)])
    columns[:, :5] %= 2999
    columns.sort(axis=1)
    values = np.where(columns == 2999, 1e6, 1).astype(np.float32)
    far = CSR(np.arange(201) * 6, columns.ravel(), values.ravel(), (200, 3000))
    fitted = binary((far, labels), mini_batch_size=50, epochs=30)
    told = fitted.model.predict(far).columns["predicted_label"]
    assert (told == labels).mean() == fitted.notes.scores["train", "binary_classification_accuracy"] > 0.9


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("kind", ["regressor", "binary_classifier"])
def test_divergence(line: Data, sides: Data, kind: str, optimizer: str) -> None:
    """A rate far too high ends in an error that says so, or in a model that opens again."""
    data = line if kind == "regressor" else sides
    if optimizer == "sgd":
        with pytest.raises(HyperParameterError, match="all models have become infinite: lower learning_rate"):
            learn(kind, data, learning_rate=1e30, optimizer=optimizer, mini_batch_size=20)
        return
    fitted = learn(kind, data, learning_rate=1e6, optimizer=optimizer, mini_batch_size=20)
    assert LinearLearnerModel.from_bytes(fitted.model.to_bytes()).feature_dim == fitted.model.feature_dim


def test_one_row() -> None:
    """One row is enough, and a mini-batch may be larger than the data."""
    rows = np.array([[1, 2]], np.float32)
    assert regressor((rows, np.array([7], np.float32))).model.scores(rows) == pytest.approx([7], abs=1e-3)
    assert binary((rows, np.ones(1, np.float32)), mini_batch_size=10**9).model.predict(rows).columns["predicted_label"]


def test_no_rows(line: Data) -> None:
    """No rows to train on, or to validate with, are an error; none to test on are a warning."""
    empty = np.empty((0, 2), np.float32), np.empty(0, np.float32)
    with pytest.raises(ChannelError, match=r"^No training data processed"):
        regressor(empty)
    with pytest.raises(ChannelError, match="the channel 'validation' has no rows"):
        regressor(line, empty)
    assert "nothing to evaluate" in regressor(line, None, empty).notes.lines[-1]


def test_model_so_far(line: Data) -> None:
    """What is kept for a job that is told to end is a model that answers."""
    fitted = regressor(line, mini_batch_size=50, epochs=3)
    assert fitted.notes.kept is not None
    assert fitted.notes.kept().to_bytes() == fitted.model.to_bytes()


def test_description(sides: Data) -> None:
    """A description has the predictor, the loss, the threshold and sizes."""
    found = binary(sides).model.describe()
    assert [*found] == ["predictor_type", "loss", "threshold", "bias", "weight_norm"]


class Ending(Rows):
    """Rows of a job that is told to end in the seventh pass."""

    passes = 0

    def batches(self, size: int) -> Iterator[Batch]:
        """One pass."""
        self.passes += 1
        if self.passes == 7:
            raise InterruptedError
        yield from super().batches(size)


def test_snapshot_of_the_best_epoch(sides: Data) -> None:
    """A job that is told to end keeps the model of the best epoch, not of the last."""
    rows, labels = sides
    given = {"num_models": "1", "learning_rate": "0.1", "mini_batch_size": "20", "early_stopping_patience": "9"}
    params = LinearLearnerParams.parse({"predictor_type": "binary_classifier", **given})
    channels = {"train": Ending("train", rows, labels), "validation": Rows("validation", rows, 1 - labels)}
    notes = Notes()
    with pytest.raises(InterruptedError):
        fit(params, channels, notes)
    losses = [value for _, value in notes.criteria.values()]
    assert len(losses) == 6 and min(losses) < losses[-1] and notes.kept is not None
    score = notes.kept().predict(rows).columns["score"]
    assert log_loss(score, 1 - labels) == pytest.approx(min(losses), rel=1e-4)
