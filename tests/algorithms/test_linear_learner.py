"""Linear learner: what it computes, against numbers made by hand and relations."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from clary.algorithms import linear_scoring
from clary.algorithms import rows as pieces
from clary.algorithms.linear_grid import configurations
from clary.algorithms.linear_training import Stopping

from .linear import ONE, PLAIN, Data, Learnt, binary, learn, regressor
from .linear import line as line
from .linear import sides as sides
from .linear import thirds as thirds


def test_one_step_by_hand() -> None:
    """One step of plain descent from zero weights is the rate times the mean gradient; the bias has its own rate."""
    rows, labels = np.array([[1, 2], [3, 0]], np.float32), np.array([1, 3], np.float32)
    given = {"optimizer": "sgd", "learning_rate": 0.01, "epochs": 1, "bias_lr_mult": 5}
    fitted = regressor((rows, labels), **PLAIN, **ONE, **given, init_method="normal", init_sigma=1e-12)
    # the gradient of (z - y)² at z = 0 is -2y x: the mean over both rows is -(1, 2) - 3 (3, 0) = -(10, 2), and -4
    assert fitted.weights.ravel().tolist() == pytest.approx([0.1, 0.02], rel=1e-5)
    assert fitted.bias.tolist() == pytest.approx([0.2], rel=1e-5)
    assert fitted.losses() == [[pytest.approx(5)]]


def test_penalties_by_hand() -> None:
    """Decay adds wd · w to the gradient; the absolute penalty takes rate · l1 off, and nothing off the bias."""
    data = np.zeros((4, 1), np.float32), np.zeros(4, np.float32)
    given = {
        **PLAIN,
        **ONE,
        "optimizer": "sgd",
        "learning_rate": 0.5,
        "epochs": 1,
        "init_bias": 1,
        "bias_lr_mult": 1e-9,
    }
    first, decayed, shrunk = (
        abs(regressor(data, **{**given, **more}).weights.item()) for more in ({}, {"wd": 0.2}, {"l1": 0.01})
    )
    assert 0 < first <= 0.07
    assert (decayed, shrunk) == (pytest.approx(0.9 * first), pytest.approx(max(0, first - 0.005)))


def test_wd_of_the_bias() -> None:
    """The bias decays only where bias_wd_mult says so."""
    data = np.zeros((4, 1), np.float32), np.ones(4, np.float32)
    given = {**PLAIN, **ONE, "optimizer": "sgd", "learning_rate": 0.1, "epochs": 1, "init_bias": 1, "wd": 0.5}
    assert regressor(data, **given).bias.item() == 1
    assert regressor(data, **given, bias_wd_mult=2, bias_lr_mult=1).bias.item() == pytest.approx(1 - 0.1 * 0.5 * 2)


@pytest.mark.parametrize("optimizer", ["auto", "adam", "sgd", "rmsprop"])
def test_optimizers(line: Data, optimizer: str) -> None:
    """Every optimizer finds the line that rows lie on."""
    given = {"learning_rate": 0.05, "momentum": 0.5} if optimizer == "sgd" else {}
    fitted = regressor(line, mini_batch_size=20, epochs=40, optimizer=optimizer, **given)
    assert [*fitted.weights.ravel(), *fitted.bias] == pytest.approx([3, -2, 5], abs=0.06)
    told = json.loads(fitted.notes.lines[-1].partition("hyperparameters: ")[2])
    assert told["optimizer"] == optimizer.replace("auto", "adam")


@pytest.mark.parametrize(
    ("loss", "given"),
    [
        ("squared_loss", {}),
        ("absolute_loss", {}),
        ("eps_insensitive_squared_loss", {"loss_insensitivity": 0.02}),
        ("eps_insensitive_absolute_loss", {"loss_insensitivity": 0.02}),
        ("quantile_loss", {"quantile": 0.4}),
        ("huber_loss", {"huber_delta": 0.5}),
    ],
)
def test_losses(line: Data, loss: str, given: dict[str, float]) -> None:
    """Every loss finds the line; its name is in the log, and its settings are in the artifact."""
    fitted = regressor(line, line, mini_batch_size=20, epochs=30, loss=loss, **given)
    assert [*fitted.weights.ravel(), *fitted.bias] == pytest.approx([3, -2, 5], abs=0.15)
    name = {"squared_loss": "mse"}.get(loss, loss) + "_objective"
    assert [*fitted.notes.scores] == [("validation", name), ("validation", "mse"), ("validation", "absolute_loss")]
    assert {criteria for criteria, _ in fitted.notes.criteria.values()} == {name}
    artifact = fitted.model.artifact
    assert (artifact.loss_type, artifact.threshold, artifact.predictor_type) == (loss, 0.5, "regressor")
    of_loss = ("quantile", "huber_delta", "margin", "loss_insensitivity")
    assert {key: artifact.metrics[key] for key in of_loss if artifact.metrics[key] is not None} == given


def test_final_scores_of_regressor(line: Data) -> None:
    """The squared objective of the end is the mean squared error, in the labels' units; that of epochs is scaled."""
    fitted = regressor(line, mini_batch_size=20)
    rows, labels = line
    mse = np.square(rows @ fitted.weights[:, 0] + fitted.bias - labels, dtype=np.float64).mean()
    scores = [value for _, value in fitted.notes.scores.items()]
    assert scores[:2] == [pytest.approx(mse, rel=1e-4)] * 2
    assert min(fitted.losses()[-1]) == pytest.approx(mse / labels.var(), rel=0.1)


def test_binary(sides: Data) -> None:
    """Scores are probabilities, and the label is 1 from the threshold on that makes most rows right."""
    fitted = binary(sides, None, sides, mini_batch_size=50)
    model, (rows, labels) = fitted.model, sides
    columns = model.predict(rows).columns
    expected = 1 / (1 + np.exp(-(rows @ fitted.weights[:, 0] + fitted.bias)))
    assert np.allclose(columns["score"], expected, atol=1e-6)
    threshold = model.artifact.threshold
    assert columns["predicted_label"].tolist() == (columns["score"] >= np.float32(threshold)).tolist()
    right = (columns["predicted_label"] == labels).mean()
    assert right == max(((columns["score"] >= t) == labels).mean() for t in columns["score"])
    names = [
        "binary_classification_cross_entropy_objective",
        "binary_classification_accuracy",
        "binary_f_1.000",
        "precision",
        "recall",
        "roc_auc_score",
        "binary_balanced_accuracy",
        "binary_log_loss",
    ]
    assert [*fitted.notes.scores] == [(channel, name) for channel in ("train", "test") for name in names]
    assert fitted.notes.scores["test", names[1]] == fitted.notes.scores["train", names[1]] == right
    assert fitted.notes.scores["test", names[0]] == pytest.approx(fitted.notes.scores["test", names[-1]], rel=1e-5)
    assert all(fitted.notes.qualities[key] == value for key, value in fitted.notes.scores.items())


def test_hinge(sides: Data) -> None:
    """With hinge loss a score is x·w + b itself, from a threshold on that may be negative, and has no log loss."""
    fitted = binary(sides, mini_batch_size=50, loss="hinge_loss", margin=0.5)
    scores = fitted.model.predict(sides[0]).columns["score"]
    assert np.allclose(scores, sides[0] @ fitted.weights[:, 0] + fitted.bias, atol=1e-5) and scores.min() < 0
    assert ("train", "binary_log_loss") not in fitted.notes.scores
    assert fitted.notes.scores["train", "binary_classification_accuracy"] > 0.85
    assert {name for name, _ in fitted.notes.criteria.values()} == {"binary_classification_hinge_loss_objective"}
    assert fitted.model.artifact.metrics["margin"] == 0.5
    middle = binary(sides, loss="hinge_loss", binary_classifier_model_selection_criteria="loss_function")
    assert middle.model.artifact.threshold == 0


def test_several_classes(thirds: Data) -> None:
    """28 models learn several classes; a score is a vector of probabilities, and the label is the greatest's."""
    rows, labels = thirds
    fitted = learn("multiclass_classifier", thirds, num_classes=3, mini_batch_size=30, accuracy_top_k=2, f_beta=2)
    columns = fitted.model.predict(rows).columns
    assert (len(fitted.losses()[0]), fitted.weights.shape, columns["score"].shape) == (28, (2, 3), (300, 3))
    assert np.allclose(columns["score"].sum(1), 1, atol=1e-6)
    assert columns["predicted_label"].tolist() == columns["score"].argmax(1).tolist() == labels.tolist()
    assert [name for _, name in fitted.notes.scores] == [
        "multiclass_cross_entropy_objective",
        "multiclass_accuracy",
        "multiclass_top_k_accuracy_2",
        "dcg",
        "macro_recall",
        "macro_precision",
        "macro_f_2.000",
        "multiclass_balanced_accuracy",
        "multiclass_log_loss",
    ]


def test_grid() -> None:
    """Model 8r + 4a + 2s + m has decay r, rate a, step s and least rate m; of those for classes one is known."""
    grid = configurations(None, None, {})
    wds = [grid[8 * r]["wd"] for r in range(4)]
    for i, model in enumerate(grid):
        assert model["wd"] == wds[i // 8] and model["l1"] == 0 and model["lr_scheduler_factor"] == 0.99
        assert model["learning_rate"] == (0.005, 0.1)[i // 4 % 2]
        assert model["lr_scheduler_step"] == (10, 100)[i // 2 % 2]
        assert model["lr_scheduler_minimum_lr"] == (1e-5, 1e-4)[i % 2]
    assert (wds[0], wds[2], wds == sorted(wds)) == (1e-4, 1.0, True)
    known = configurations(3, None, {})[26]
    assert (known["learning_rate"], known["lr_scheduler_step"]) == (0.03578924546103785, 153)


def test_given_is_fixed(line: Data) -> None:
    """What the user gives is the same in all models, and what the log tells of the best one."""
    given = {"learning_rate": 0.02, "wd": 0.003, "l1": 0.001, "lr_scheduler_step": 7, "lr_scheduler_factor": 0.9}
    assert all(model.items() >= given.items() for model in configurations(3, 40, given))
    fitted = regressor(line, mini_batch_size=100, **given)
    told = json.loads(fitted.notes.lines[-1].removeprefix("Best model found for hyperparameters: "))
    names = "optimizer learning_rate wd l1 lr_scheduler_step lr_scheduler_factor lr_scheduler_minimum_lr"
    assert " ".join(told) == names and told.items() >= given.items()


def test_models_part(line: Data) -> None:
    """Models that differ in the schedule's step alone are the same until the first of them has its step."""
    losses = regressor(line, mini_batch_size=30, epochs=2).losses()
    assert len(losses[0]) == 32
    assert losses[0][0] == losses[0][1] == losses[0][2] != losses[0][4]
    assert losses[1][0] == losses[1][1] != losses[1][2]


def test_models_alone(line: Data) -> None:
    """A model learns among 32 what it learns alone."""
    among = regressor(line, mini_batch_size=10, epochs=3).losses()
    for i in (0, 3, 12, 31):
        model = configurations(None, None, {})[i]
        alone = regressor(line, mini_batch_size=10, epochs=3, num_models=1, **model).losses()
        assert [epoch[0] for epoch in alone] == pytest.approx([epoch[i] for epoch in among], rel=1e-5)


def test_schedule(line: Data) -> None:
    """A rate that falls to nothing stops learning, unless there is no schedule or its minimum is high."""
    given = {"mini_batch_size": 100, "epochs": 5, "num_models": 1, "learning_rate": 0.1, "lr_scheduler_step": 1}
    fallen = {**given, "lr_scheduler_factor": 1e-6, "lr_scheduler_minimum_lr": 1e-9}
    stopped = regressor(line, **fallen).losses()
    off = regressor(line, **fallen, use_lr_scheduler=False).losses()
    held = regressor(line, **{**fallen, "lr_scheduler_minimum_lr": 0.1}).losses()
    assert stopped[1] == pytest.approx(stopped[-1], rel=1e-4) and off == held and off[-1][0] < 0.5 * off[0][0]


def test_tuning_trains_one_model(line: Data) -> None:
    """A job of a tuning job trains one model, whatever num_models is."""
    assert len(regressor(line, num_models=5, _tuning_objective_metric="test:mse").losses()[0]) == 1
    assert len(regressor(line, num_models=5, _tuning_objective_metric="").losses()[0]) == 5


def test_stopping_as_amazons() -> None:
    """Losses that Amazon's container printed are improvements where it said so, and it ends at the fourth that is none.

    Those of its epochs 0, 3 and 4 are known; the others are between and around them.
    """
    stopping = Stopping(patience=3, tolerance=0.001)
    losses = [0.2041, 0.1920, 0.1880, 0.186331076, 0.186313218, 0.18640, 0.18650, 0.18655]
    seen = [(stopping.improved(loss), stopping.due) for loss in losses]
    assert seen == [(True, False)] * 4 + [(False, False)] * 3 + [(False, True)]
    assert stopping.best == 0.186331076


def test_early_stop(line: Data) -> None:
    """The epoch after patience ends the training with AWS's lines; what is kept is the last improvement."""
    given = {"mini_batch_size": 30, "epochs": 60, "early_stopping_patience": 2, "early_stopping_tolerance": 0.05}
    fitted = regressor(line, line, **given)
    lines = fitted.notes.lines
    improved = [int(text.split()[1][:-1]) for text in lines if "Loss improved. Updating best model" in text]
    last = len(fitted.notes.criteria) - 1
    assert last == improved[-1] + 3 < 59 and lines[len(improved)] == "Early stop condition met. Stopping training."
    shorter = regressor(line, line, **{**given, "epochs": improved[-1] + 1})
    assert shorter.model.to_bytes() == fitted.model.to_bytes()
    assert fitted.notes.criteria[last][1] == min(fitted.losses("validation")[-1])


def test_epoch_lines(line: Data) -> None:
    """What an epoch's line tells is the loss of model 0."""
    fitted = regressor(line, line, mini_batch_size=50, epochs=2)
    told = [(channel, epoch, value) for channel, _, value, epoch, _ in fitted.notes.all_qualities if epoch is not None]
    expected = [(name, e, fitted.losses(name)[e][0]) for e in range(2) for name in ("train", "validation")]
    assert told == expected


def test_l1_makes_zeros(line: Data) -> None:
    """With an absolute penalty the weights of columns without influence are exactly zero."""
    noise = np.random.default_rng(5).normal(size=(300, 20))
    rows = np.column_stack([line[0], noise]).astype(np.float32)
    weights = regressor((rows, line[1]), l1=0.1, mini_batch_size=30, epochs=40, num_models=1).weights.ravel()
    assert (weights[2:] == 0).sum() >= 12 and weights[0] > 2 and weights[1] < -1


def test_weights_of_rows(sides: Data) -> None:
    """A positive row of weight 3 counts as three rows; the objective has another name then."""
    rows, labels = sides
    given = {"mini_batch_size": 2000, "epochs": 3, "learning_rate": 0.1, **PLAIN, "num_models": 1, "bias_lr_mult": 1}
    weighted = binary(sides, positive_example_weight_mult=3, **given)
    repeats = np.where(labels == 1, 3, 1)
    repeated = binary((rows.repeat(repeats, 0), labels.repeat(repeats)), **given)
    assert np.allclose(weighted.weights, repeated.weights, atol=1e-4)  # Adam's steps hardly know a gradient's size
    name = "binary_classification_weighted_cross_entropy_objective"
    assert ("train", name) in weighted.notes.scores
    losses = np.array([np.mean(run.losses()[-1]) for run in (weighted, repeated)])
    assert losses[0] * len(rows) == pytest.approx(losses[1] * repeats.sum(), rel=1e-4)
    assert weighted.model.artifact.metrics["positive_example_weight_mult"] == 3.0


def test_balanced(sides: Data) -> None:
    """The weight that is balanced is the negative rows for each positive one; with one class there is none."""
    rows, labels = sides
    metrics = binary(sides, positive_example_weight_mult="balanced").model.artifact.metrics
    assert metrics["positive_example_weight_mult"] == pytest.approx((labels == 0).sum() / (labels == 1).sum())
    assert binary(sides).notes.scores["train", "recall"] < 0.95
    for label in (0, 1):
        alone = binary((rows, np.full_like(labels, label)), positive_example_weight_mult="balanced")
        assert f"have no label {1 - label}" in alone.notes.lines[0]
        assert alone.notes.scores["train", "binary_classification_accuracy"] == 1


def test_balanced_classes(thirds: Data) -> None:
    """Balanced classes have the same weight together."""
    rows, labels = thirds[0][:200], thirds[1][:200]
    keep = np.flatnonzero((labels > 0) | (np.arange(200) % 4 == 0))
    fitted = learn("multiclass_classifier", (rows[keep], labels[keep]), num_classes=3, balance_multiclass_weights=True)
    weights = fitted.model.artifact.metrics["class_weights"]
    assert np.bincount(labels[keep].astype(int)) * weights == pytest.approx(np.full(3, len(keep) / 3))
    assert ("train", "multiclass_weighted_cross_entropy_objective") in fitted.notes.scores


@pytest.mark.parametrize(
    ("criterion", "given"),
    [
        ("f1", {}),
        ("f_beta", {"f_beta": 2}),
        ("precision_at_target_recall", {"target_recall": 0.9}),
        ("recall_at_target_precision", {"target_precision": 0.95}),
        ("cross_entropy_loss", {}),
        ("loss_function", {}),
    ],
)
def test_criteria(sides: Data, criterion: str, given: dict[str, float]) -> None:
    """The threshold serves the criterion: no other does better on the same scores."""
    given = {"mini_batch_size": 50, **given}
    fitted = binary(sides, binary_classifier_model_selection_criteria=criterion, **given)
    scores, positive = fitted.model.scores(sides[0]), sides[1] == 1
    found = fitted.notes.scores
    if criterion in ("cross_entropy_loss", "loss_function"):
        assert fitted.model.artifact.threshold == 0.5
        return
    told = [scores >= t for t in scores]
    recalls = np.array([(one & positive).sum() / positive.sum() for one in told])
    precisions = np.array([(one & positive).sum() / one.sum() for one in told])
    if criterion == "precision_at_target_recall":
        assert found["train", "recall"] >= 0.9
        assert found["train", "precision"] == pytest.approx(precisions[recalls >= 0.9].max())
    elif criterion == "recall_at_target_precision":
        assert found["train", "precision"] >= 0.95
        assert found["train", "recall"] == pytest.approx(recalls[precisions >= 0.95].max())
    else:
        beta = given.get("f_beta", 1)
        scored = (1 + beta**2) * precisions * recalls / (beta**2 * precisions + recalls)
        assert found["train", f"binary_f_{beta:.3f}"] == pytest.approx(scored.max())


def test_target_out_of_reach() -> None:
    """A precision that no threshold reaches gives recall 1 and the share of positive rows."""
    rows, labels = np.ones((100, 1), np.float32), (np.arange(100) % 50 == 0).astype(np.float32)
    given = {"binary_classifier_model_selection_criteria": "recall_at_target_precision", "target_precision": 0.9}
    scores = binary((rows, labels), **given).notes.scores
    assert (scores["train", "recall"], scores["train", "precision"]) == (1, 0.02)


def test_calibration_samples(sides: Data) -> None:
    """The threshold comes from the first num_calibration_samples rows; the scores from all."""
    rows, labels = sides
    flipped = labels.copy()
    flipped[200:] = 1 - flipped[200:]
    given = {"mini_batch_size": 50, "learning_rate": 1e-30, "num_models": 1, "epochs": 1}
    few = binary((rows, labels), (rows, flipped), num_calibration_samples=200, **given)
    only = binary((rows, labels), (rows[:200], labels[:200]), **given)
    assert few.model.artifact.threshold == only.model.artifact.threshold
    told = few.model.predict(rows).columns["predicted_label"]
    assert few.notes.scores["validation", "binary_classification_accuracy"] == (told == flipped).mean()


@pytest.mark.parametrize("sizes", [[1] * 50, [7, 1, 30, 12], [50], [3, 47]])
def test_sample(monkeypatch: pytest.MonkeyPatch, sizes: list[int]) -> None:
    """Of rows whose scores have no room every second, fourth … is kept, however they come."""
    monkeypatch.setattr(linear_scoring, "_HELD", 26)
    monkeypatch.setattr(linear_scoring, "_BLOCK", 2)
    sample, numbers = linear_scoring._Sample((2,)), np.arange(50, dtype=np.float32)
    for some in np.split(numbers, np.cumsum(sizes)[:-1]):
        sample.add(np.stack([some, -some], axis=1), some)
    assert sample.labels[: sample.held].tolist() == list(range(0, 50, 4))
    assert sample.scores[: sample.held].tolist() == [[number, -number] for number in range(0, 50, 4)]


def test_scores_that_have_no_room(sides: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are chosen by some rows, and the chosen one is scored by all."""
    every = binary(sides, mini_batch_size=50, epochs=2)
    monkeypatch.setattr(linear_scoring, "_HELD", 32 * 200)
    some = binary(sides, mini_batch_size=50, epochs=2)
    assert abs(some.model.artifact.threshold - every.model.artifact.threshold) < 0.1
    told = some.model.predict(sides[0]).columns["predicted_label"]
    assert some.notes.scores["train", "binary_classification_accuracy"] == (told == sides[1]).mean()


@pytest.mark.parametrize("learner", [binary, regressor])
def test_few_rows(sides: Data, monkeypatch: pytest.MonkeyPatch, learner: Callable[..., Learnt]) -> None:
    """A few rows get the same scores, to the bit, as by way of pieces."""
    model = learner(sides, mini_batch_size=50, epochs=1).model
    ours = model.scores(sides[0][:3])
    monkeypatch.setattr(pieces, "_FEW", 0)
    assert ours.tobytes() == model.scores(sides[0][:3]).tobytes()
