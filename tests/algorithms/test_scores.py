"""Scores and thresholds: against numbers made by hand, scikit-learn, and every threshold tried in turn."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.algorithms.scores import (
    CRITERIA,
    binary_scores,
    calibrate,
    log_loss,
    multiclass_scores,
    predicted_positive,
    regression_scores,
    rmse,
    roc_auc,
)
from clary.recordio.batch import Array

metrics = pytest.importorskip("sklearn.metrics")

COUNTED = ("accuracy", "f_beta", "f1", "precision_at_target_recall", "recall_at_target_precision")


def tied(rng: np.random.Generator, n: int, share: float) -> tuple[Array, Array]:
    """Probabilities of which many are equal, and labels that go with them, one for about this share of the rows."""
    scores = rng.integers(0, 33, n) / np.float32(32)
    return scores.astype(np.float32), (rng.random(n) < share * (0.5 + scores)).astype(np.float32)


@pytest.mark.parametrize("share", [0.5, 0.02])
@pytest.mark.parametrize("beta", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.3, 1.0, 1.5])
def test_binary_scores_are_those_of_scikit_learn(share: float, beta: float, threshold: float) -> None:
    """Every binary score is scikit-learn's, with equal scores, rare labels, and thresholds that some scores equal."""
    scores, labels = tied(np.random.default_rng(0), 3000, share)
    told = scores >= threshold
    assert binary_scores(scores, labels, threshold, beta) == pytest.approx(
        {
            "binary_classification_accuracy": metrics.accuracy_score(labels, told),
            f"binary_f_{beta:.3f}": metrics.fbeta_score(labels, told, beta=beta, zero_division=0),
            "precision": metrics.precision_score(labels, told, zero_division=0),
            "recall": metrics.recall_score(labels, told, zero_division=0),
            "roc_auc_score": metrics.roc_auc_score(labels, scores),
            "binary_balanced_accuracy": metrics.balanced_accuracy_score(labels, told),
            "binary_log_loss": metrics.log_loss(labels, scores),
        },
        rel=1e-6,
    )


def test_binary_scores_by_hand() -> None:
    """Of five rows three are found, two of them rightly, one is missed: all scores follow, in the order of the log."""
    scores = np.array([0.9, 0.8, 0.7, 0.2, 0.1], np.float32)
    labels = np.array([1, 0, 1, 1, 0], np.float32)
    found = binary_scores(scores, labels, 0.5, 2.0)
    losses = -(math.log(0.9) + math.log(0.2) + math.log(0.7) + math.log(0.2) + math.log(0.9)) / 5
    assert list(found.items()) == [
        ("binary_classification_accuracy", 3 / 5),
        ("binary_f_2.000", pytest.approx(2 / 3)),
        ("precision", 2 / 3),
        ("recall", 2 / 3),
        ("roc_auc_score", 4 / 6),
        ("binary_balanced_accuracy", pytest.approx((2 / 3 + 1 / 2) / 2)),
        ("binary_log_loss", pytest.approx(losses, rel=1e-6)),
    ]
    assert all(type(value) is float for value in found.values())


def test_margins_have_no_log_loss() -> None:
    """Scores that are no probabilities get all scores but the log loss."""
    found = binary_scores(np.array([-3, 7], np.float32), np.array([0, 1]), 0.0, 1.0, with_log_loss=False)
    assert found["roc_auc_score"] == found["binary_f_1.000"] == 1.0
    assert "binary_log_loss" not in found


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("score", [0.25, 0.75, math.nan])
@pytest.mark.parametrize("n", [0, 1, 3])
def test_one_class_alone(label: int, score: float, n: int) -> None:
    """With one class, or no rows at all, scores are shares as far as they are defined, the ROC area 0.5; none warns."""
    scores, labels = np.full(n, score, np.float32), np.full(n, label)
    found = binary_scores(scores, labels, 0.5, 1.0)
    assert found["roc_auc_score"] == 0.5
    positive, right = score >= 0.5, (score >= 0.5) == (label == 1)
    assert found["binary_classification_accuracy"] == found["binary_balanced_accuracy"] == float(right and n > 0)
    for name in ("precision", "recall", "binary_f_1.000"):
        assert found[name] == float(positive and label == 1 and n > 0)
    for criterion in CRITERIA:
        threshold, value = calibrate(scores, labels, criterion)
        assert math.isfinite(threshold)
        assert math.isfinite(value) or (math.isnan(score) and criterion.startswith(("loss", "cross")))


def test_log_loss_of_a_certain_mistake_is_finite() -> None:
    """A probability of 1 for the wrong label costs what float32, or float64, can tell from 1."""
    for dtype in (np.float32, np.float64):
        scores, labels = np.array([1, 0, 1], dtype), np.array([0, 1, 1])
        expected = -2 / 3 * math.log(np.finfo(dtype).eps)
        assert log_loss(scores, labels) == pytest.approx(expected, rel=1e-6)
        assert log_loss(np.stack([1 - scores, scores], 1), labels) == pytest.approx(expected, rel=1e-6)
        assert metrics.log_loss(labels, scores) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("n", [2, 5, 50, 5000])
def test_roc_auc_is_that_of_scikit_learn(n: int) -> None:
    """The area is scikit-learn's for margins of any size, with and without equal ones, and in both precisions."""
    rng = np.random.default_rng(n)
    labels = rng.permutation(np.arange(n) % 2)
    for scores in (rng.normal(0, 100, n), rng.integers(-3, 3, n).astype(np.float32), np.zeros(n)):
        assert roc_auc(scores, labels) == pytest.approx(metrics.roc_auc_score(labels, scores), rel=1e-12)


def test_roc_auc_takes_nan_for_the_least() -> None:
    """A score that is not a number is below all others, and equal to its like."""
    scores = np.array([math.nan, math.nan, -1, 2], np.float32)
    assert (
        roc_auc(scores, np.array([0, 1, 0, 1])) == roc_auc(np.array([-5, -5, -1, 2]), np.array([0, 1, 0, 1])) == 5 / 8
    )


def some_classes(rng: np.random.Generator, n: int, c: int) -> tuple[Array, Array]:
    """Probabilities of c classes with ties, and labels; class c - 1 is never a label, class 0 seldom."""
    raw = rng.integers(1, 6, (n, c)).astype(np.float64)
    raw[:, 0] = 1  # seldom the most probable
    labels = rng.choice(c - 1, n, p=np.array([1] + [20] * (c - 2)) / (1 + 20 * (c - 2)))
    return (raw / raw.sum(1, keepdims=True)).astype(np.float32), labels


@pytest.mark.parametrize(
    ("n", "c", "k", "beta"), [(2000, 4, 2, 1.0), (2000, 7, 3, 0.5), (15, 12, 5, 2.0), (9, 5, 1, 1.0)]
)
def test_multiclass_scores_are_those_of_scikit_learn(n: int, c: int, k: int, beta: float) -> None:
    """Every score is scikit-learn's, with ties, rare classes, classes only predicted, and classes never seen."""
    probabilities, labels = some_classes(np.random.default_rng(c), n, c)
    told = probabilities.argmax(1)
    macro = {"average": "macro", "zero_division": 0}
    found = multiclass_scores(probabilities, labels.astype(np.float32), k, beta)
    dcg = found.pop("dcg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are predicted only
        balanced = metrics.balanced_accuracy_score(labels, told)
    mirrored = probabilities[:, ::-1]  # among equal classes scikit-learn puts the last first
    assert found == pytest.approx(
        {
            "multiclass_accuracy": metrics.accuracy_score(labels, told),
            f"multiclass_top_k_accuracy_{k}": metrics.top_k_accuracy_score(
                c - 1 - labels, mirrored, k=k, labels=np.arange(c)
            ),
            "macro_recall": metrics.recall_score(labels, told, **macro),
            "macro_precision": metrics.precision_score(labels, told, **macro),
            f"macro_f_{beta:.3f}": metrics.fbeta_score(labels, told, beta=beta, **macro),
            "multiclass_balanced_accuracy": balanced,
            "multiclass_log_loss": metrics.log_loss(labels, probabilities, labels=np.arange(c)),
        },
        rel=1e-6,
    )
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranks = 1 + (order == labels[:, None]).argmax(1)
    assert dcg == pytest.approx((1 / np.log2(1 + ranks)).mean())


def test_multiclass_scores_by_hand() -> None:
    """True classes at the ranks 1, 2 and 3 give a gain of 1, 1/log2(3) and 1/2; the names are in the log's order."""
    probabilities = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2]], np.float32)
    found = multiclass_scores(probabilities, np.array([0, 1, 2]), 2, 1.0)
    losses = -(math.log(0.5) + math.log(0.3) + math.log(0.2)) / 3
    assert list(found.items()) == [
        ("multiclass_accuracy", 1 / 3),
        ("multiclass_top_k_accuracy_2", 2 / 3),
        ("dcg", pytest.approx((1 + 1 / math.log2(3) + 1 / 2) / 3)),
        ("macro_recall", 1 / 3),
        ("macro_precision", pytest.approx(1 / 9)),
        ("macro_f_1.000", pytest.approx(1 / 6)),
        ("multiclass_balanced_accuracy", 1 / 3),
        ("multiclass_log_loss", pytest.approx(losses, rel=1e-6)),
    ]
    assert all(type(value) is float for value in found.values())


def test_top_k_of_all_classes_is_certain_and_of_one_is_accuracy() -> None:
    """Among as many as there are the true class always is, among one as often as the prediction is right."""
    probabilities, labels = some_classes(np.random.default_rng(1), 500, 4)
    for k in (4, 9):
        assert multiclass_scores(probabilities, labels, k, 1.0)[f"multiclass_top_k_accuracy_{k}"] == 1
    found = multiclass_scores(probabilities, labels, 1, 1.0)
    assert found["multiclass_top_k_accuracy_1"] == found["multiclass_accuracy"]


def test_multiclass_scores_of_nothing() -> None:
    """No rows give zeros, and probabilities that are no numbers never count as the true class's."""
    assert set(multiclass_scores(np.empty((0, 3), np.float32), np.empty(0), 2, 1.0).values()) == {0.0}
    found = multiclass_scores(np.full((2, 3), math.nan, np.float32), np.array([1, 2]), 2, 1.0)
    assert found["multiclass_top_k_accuracy_2"] == found["macro_recall"] == 0


def test_regression_scores() -> None:
    """Errors 3 and -4 have the mean square 12.5 and the mean size 3.5; sums of float32 numbers lose nothing."""
    predictions, labels = np.array([3, -4], np.float32), np.zeros(2, np.float32)
    assert list(regression_scores(predictions, labels).items()) == [("mse", 12.5), ("absolute_loss", 3.5)]
    assert rmse(predictions, labels) == math.sqrt(12.5)
    big = np.full(1001, 1e8, np.float32)
    assert regression_scores(big, big - np.float32(8)) == {"mse": 64, "absolute_loss": 8}
    assert regression_scores(big[:0], big[:0]) == {"mse": 0, "absolute_loss": 0}


NUMBERS = st.floats(width=32) | st.sampled_from([0.0, 0.25, 0.5, 1.0, -2.0])


@given(
    st.lists(st.tuples(NUMBERS, st.booleans()), min_size=1, max_size=12),
    st.sampled_from(COUNTED),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.sampled_from([0.3, 0.5, 0.8]),
)
def test_no_threshold_is_better(rows: list[tuple[float, bool]], criterion: str, beta: float, target: float) -> None:
    """What is found is what the threshold gives on float32 scores, infinite ones too, and no finite one gives more."""
    scores = np.array([score for score, _ in rows], np.float32)
    labels = np.array([label for _, label in rows], np.float32)
    threshold, value = calibrate(scores, labels, criterion, f_beta=beta, target_precision=target, target_recall=target)
    beta = 1.0 if criterion == "f1" else beta

    def measured(threshold: float) -> tuple[float, float]:
        """The criterion, -1 short of the target, and what then decides."""
        told = predicted_positive(scores, threshold)
        hits, found, positives = (int(each.sum()) for each in (told * labels, told, labels))
        precision, recall = hits / max(1, found), hits / max(1, positives)
        if criterion == "precision_at_target_recall":
            return (precision if recall >= target else -1), recall
        if criterion == "recall_at_target_precision":
            return (recall if precision >= target else -1), precision
        if criterion == "accuracy":
            return float((told == labels).mean()), 0
        whole = found + beta**2 * positives
        return ((1 + beta**2) * hits / whole if whole else 0.0), 0

    known = np.unique(np.append(scores[np.isfinite(scores)], 0))
    least, most = np.finfo(np.float32).min, np.finfo(np.float32).max
    every = [float(least), *known.tolist(), float(np.nextafter(known[-1], most)), float(most)]
    best = max(measured(each) for each in every)
    if best[0] < 0:
        assert (predicted_positive(scores, threshold) == (scores >= least)).all()
    else:
        assert measured(threshold) == pytest.approx(best)
        assert value == pytest.approx(best[0])
    assert math.isfinite(threshold)
    assert threshold == float(np.float32(threshold))


def test_thresholds_by_hand() -> None:
    """Each criterion chooses its own threshold for the same eight rows, midway between two scores."""
    scores = np.array([0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75], np.float32)
    labels = np.array([0, 0, 1, 0, 0, 1, 0, 1])
    cases = [
        ("accuracy", {}, 0.5, 6 / 8),  # as 0.7
        ("f1", {"f_beta": 9.0}, 0.5, 2 * 2 / 6),  # as 0.2
        ("f_beta", {"f_beta": 2.0}, 0.2, 15 / 18),
        ("precision_at_target_recall", {"target_recall": 0.6}, 0.5, 2 / 3),
        ("precision_at_target_recall", {"target_recall": 0.7}, 0.2, 3 / 6),
        ("recall_at_target_precision", {"target_precision": 0.5}, 0.2, 1.0),
        ("recall_at_target_precision", {"target_precision": 0.9}, 0.7, 1 / 3),
    ]
    for criterion, options, threshold, value in cases:
        found = calibrate(scores, labels, criterion, **options)
        assert found == pytest.approx((threshold, value), rel=1e-6), criterion


def test_of_equal_thresholds_the_one_nearest_one_half() -> None:
    """Where several thresholds tell equally many rows right, the least unusual is chosen."""
    scores = np.array([0.1, 0.3, 0.5, 0.6, 0.9], np.float32)
    assert calibrate(scores, np.array([0, 1, 0, 1, 0]), "accuracy")[0] == pytest.approx(0.55)
    assert calibrate(scores[::-1], np.array([0, 1, 0, 1, 0]), "accuracy")[0] == pytest.approx(0.55)


@pytest.mark.parametrize(
    ("label", "scores", "threshold"), [(1, [0.6, 0.8], 0.5), (1, [0.2, 0.8], 0.2), (0, [0.2, 0.3], 0.5)]
)
def test_a_threshold_beyond_all_scores_is_as_near_to_one_half_as_it_can_be(
    label: int, scores: list[float], threshold: float
) -> None:
    """Rows of one label need a threshold beyond them, and no further than that."""
    found = calibrate(np.array(scores, np.float32), np.full(2, label), "accuracy")
    assert found == (float(np.float32(threshold)), 1.0)


def test_a_threshold_above_all_scores_is_not_one_of_them() -> None:
    """Where a probability of 1 is wrong too, the threshold is the next number above."""
    threshold, value = calibrate(np.ones(3, np.float32), np.zeros(3), "accuracy")
    assert (threshold, value) == (float(np.nextafter(np.float32(1), np.float32(2))), 1.0)


def test_adjacent_scores_are_told_apart() -> None:
    """Between two float32 numbers with none between, the threshold is the upper one, in float32 and float64 alike."""
    for low in (0.1, 0.3, 0.7, -5.0, 1e-45, 0.0):
        scores = np.array([low, np.nextafter(np.float32(low), np.float32(9))], np.float32)
        threshold, value = calibrate(scores, np.array([0, 1]), "accuracy")
        assert (threshold, value) == (scores[1], 1.0)
        assert (
            (scores >= np.float64(threshold)).tolist() == (scores.astype(float) >= threshold).tolist() == [False, True]
        )


def test_scores_are_rounded_as_they_are_served() -> None:
    """Two float64 scores that are one float32 number are never told apart."""
    scores = np.array([0.7, 0.7 + 1e-12])
    assert calibrate(scores, np.array([0, 1]), "accuracy")[1] == 0.5
    assert predicted_positive(scores, 0.7 + 1e-10).all()


def test_a_precision_out_of_reach_gives_all_rows() -> None:
    """Where no threshold is precise enough every row is told positive: the recall is 1, and nothing fails."""
    scores = np.array([0.2, 0.4, 0.9], np.float32)
    threshold, value = calibrate(scores, np.array([1, 0, 0]), "recall_at_target_precision", target_precision=0.5)
    assert (threshold, value) == (scores[0], 1.0)


def test_a_target_that_is_met_exactly_is_met() -> None:
    """Four of five found is a recall of at least 0.8, and nine of ten right a precision of at least 0.9."""
    scores = np.arange(10, 0, -1, dtype=np.float32)
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 1])
    assert calibrate(scores, labels, "precision_at_target_recall", target_recall=0.8) == (6.5, 1.0)
    labels = np.array([0, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    assert calibrate(scores, labels, "recall_at_target_precision", target_precision=0.9) == (0.5, 1.0)


@pytest.mark.parametrize("criterion", ["loss_function", "cross_entropy_loss"])
def test_a_loss_leaves_the_threshold(criterion: str) -> None:
    """Models chosen by their loss keep the threshold 0.5, and the value is the log loss."""
    scores, labels = np.array([0.9, 0.8], np.float32), np.array([0, 1])
    assert calibrate(scores, labels, criterion) == (0.5, log_loss(scores, labels))


def test_the_threshold_gives_the_scores_that_are_printed() -> None:
    """What calibration promises is what the scores of the same rows say, for every criterion with one."""
    scores, labels = tied(np.random.default_rng(3), 2000, 0.2)
    names = dict(
        zip(
            COUNTED,
            ("binary_classification_accuracy", "binary_f_2.000", "binary_f_1.000", "precision", "recall"),
            strict=True,
        )
    )
    for criterion, name in names.items():
        threshold, value = calibrate(scores, labels, criterion, f_beta=2.0, target_precision=0.2)
        assert binary_scores(scores, labels, threshold, float(name[-5:]) if "_f_" in name else 1.0)[name] == value


def test_an_unknown_criterion() -> None:
    """A criterion that is none is refused by a sentence that names those there are."""
    with pytest.raises(ValueError, match=r"expected one of accuracy, f_beta, .* got 'auc'"):
        calibrate(np.ones(1), np.ones(1), "auc")
