"""The container's own metrics of XGBoost: against scikit-learn's, and which are refused where."""

import math
import re
import warnings
from collections.abc import Callable, Iterable

import numpy as np
import pytest

from clary.algorithms.xgboost_metrics import METRICS, maximized
from clary.algorithms.xgboost_scorer import Scorer, split
from clary.errors import AlgorithmError, UserError
from clary.recordio.batch import Array

sk = pytest.importorskip("sklearn.metrics")

OF_ALL_CLASSES: dict[str, Callable[[Array, Array], float]] = {
    "accuracy": sk.accuracy_score,
    "balanced_accuracy": sk.balanced_accuracy_score,
    "f1": lambda y, told: sk.f1_score(y, told, average="macro", zero_division=0),
    "f1_macro": lambda y, told: sk.f1_score(y, told, average="macro", zero_division=0),
    "precision_macro": lambda y, told: sk.precision_score(y, told, average="macro", zero_division=0),
    "precision_micro": lambda y, told: sk.precision_score(y, told, average="micro", zero_division=0),
    "recall_macro": lambda y, told: sk.recall_score(y, told, average="macro", zero_division=0),
    "recall_micro": lambda y, told: sk.recall_score(y, told, average="micro", zero_division=0),
}
OF_TWO_CLASSES: dict[str, Callable[[Array, Array], float]] = {
    "f1_binary": lambda y, told: sk.f1_score(y, told, zero_division=0),
    "precision": lambda y, told: sk.precision_score(y, told, zero_division=0),
    "recall": lambda y, told: sk.recall_score(y, told, zero_division=0),
}


def scores(metrics: Iterable[str], objective: str, labels: Array, predictions: Array) -> dict[str, float]:
    """The value of each metric."""
    return Scorer(list(metrics), objective, labels)(predictions)


def expected(metrics: dict[str, Callable[[Array, Array], float]], labels: Array, told: Array) -> object:
    """What scikit-learn says, which warns of classes that are absent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.approx({name: function(labels, told) for name, function in metrics.items()})


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("shift", [-1.0, 0.0, 1.0])
def test_two_classes_are_those_of_scikit_learn(share: float, shift: float) -> None:
    """All metrics of classes are scikit-learn's, with labels or predictions that are all the same, too."""
    rng = np.random.default_rng(0)
    labels, probabilities = (rng.random(500) < share).astype(np.float32), (rng.random(500) + shift).astype(np.float32)
    metrics = OF_ALL_CLASSES | OF_TWO_CLASSES
    found = scores(list(metrics), "binary:logistic", labels, probabilities)
    assert found == expected(metrics, labels, probabilities > 0.5)


@pytest.mark.parametrize("labelled", [[0, 1, 2, 3, 4], [1, 3], [4], [0]])
@pytest.mark.parametrize("told", [[0, 1, 2, 3, 4], [0, 2], [4], [1]])
def test_many_classes_are_those_of_scikit_learn(labelled: list[int], told: list[int]) -> None:
    """Macro averages are over the classes that are some label or prediction; classes may be absent from either."""
    rng = np.random.default_rng(1)
    labels, classes = rng.choice(labelled, 400).astype(np.float32), rng.choice(told, 400).astype(np.float32)
    found = scores(list(OF_ALL_CLASSES), "multi:softmax", labels, classes)
    assert found == expected(OF_ALL_CLASSES, labels, classes)


@pytest.mark.parametrize("objective", ["reg:squarederror", "count:poisson", "binary:logistic"])
def test_numbers_are_those_of_scikit_learn(objective: str) -> None:
    """Mse and r2 are scikit-learn's, also of probabilities."""
    rng = np.random.default_rng(2)
    labels, predictions = (rng.random(300) > 0.3).astype(np.float32), rng.random(300).astype(np.float32)
    assert scores(["mse", "r2"], objective, labels, predictions) == pytest.approx(
        {"mse": sk.mean_squared_error(labels, predictions), "r2": sk.r2_score(labels, predictions)}, rel=1e-5
    )


@pytest.mark.parametrize("predictions", [[3.0, 3.0], [3.0, 4.0]])
def test_r2_of_equal_labels(predictions: list[float]) -> None:
    """Where labels do not vary r2 is 1 for predictions that are right, else 0, as in scikit-learn."""
    labels = np.array([3.0, 3.0])
    found = scores(["r2"], "reg:squarederror", labels, np.array(predictions))
    assert found == {"r2": sk.r2_score(labels, predictions)}


def test_r2_of_one_row() -> None:
    """One row has no variance to explain."""
    found = scores(["r2"], "reg:squarederror", np.array([3.0]), np.array([3.0]))
    assert math.isnan(found["r2"])


def test_by_hand() -> None:
    """Four rows of class 0 and two of class 1: one of each is told wrongly."""
    labels, told = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 0])
    found = scores(["recall", "accuracy", "balanced_accuracy", "f1", "mse", "r2"], "binary:hinge", labels, told)
    assert found == pytest.approx(
        {
            "recall": 1 / 2,
            "accuracy": 4 / 6,
            "balanced_accuracy": (3 / 4 + 1 / 2) / 2,
            "f1": (6 / 8 + 2 / 4) / 2,
            "mse": 2 / 6,
            "r2": 1 - 2 / (8 / 6),
        }
    )


@pytest.mark.parametrize(
    ("objective", "predictions", "told"),
    [
        ("binary:logistic", [0.2, 0.5, 0.51], [0, 0, 1]),
        ("reg:logistic", [0.2, 0.5, 0.51], [0, 0, 1]),
        ("binary:logitraw", [-0.1, 0.0, 0.1], [0, 0, 1]),
        ("binary:hinge", [0.0, 1.0, 1.0], [0, 1, 1]),
        ("multi:softmax", [2.0, 0.0, 1.0], [2, 0, 1]),
        ("multi:softprob", [[0.2, 0.3, 0.5], [0.4, 0.4, 0.2], [0.1, 0.8, 0.1]], [2, 0, 1]),
    ],
)
def test_what_a_prediction_tells(objective: str, predictions: list[float], told: list[int]) -> None:
    """Each objective has its own way to tell a class: a threshold, the class itself, the first most probable one."""
    found = scores(["accuracy"], objective, np.array(told, np.float32), np.array(predictions, np.float32))
    assert found == {"accuracy": 1.0}


def test_order_and_rounds() -> None:
    """Metrics come in the order in which they were asked for, and each call is a round of its own."""
    scorer = Scorer(["r2", "recall", "mse", "accuracy"], "binary:hinge", np.array([0.0, 1.0]))
    for told, share in (([0.0, 1.0], 1.0), ([0.0, 0.0], 0.5)):
        found = scorer(np.array(told))
        assert list(found) == ["r2", "recall", "mse", "accuracy"]
        assert found["accuracy"] == share


def test_no_metrics() -> None:
    """Nothing is computed where nothing is asked, whatever the objective and the labels."""
    assert scores([], "rank:ndcg", np.array([0.5]), np.array([1.0])) == {}


def test_no_rows() -> None:
    """Without rows every metric of classes is 0."""
    metrics = [*OF_ALL_CLASSES, *OF_TWO_CLASSES]
    found = scores(metrics, "binary:logistic", np.zeros(0, np.float32), np.zeros(0, np.float32))
    assert found == dict.fromkeys(metrics, 0.0)


@pytest.mark.parametrize("metric", list(OF_TWO_CLASSES))
def test_a_third_class(metric: str) -> None:
    """A metric of two classes is refused when a label or a prediction is a third one, in scikit-learn's words."""
    message = r"^Target is multiclass but average='binary'\. .*got class 2; use \w+_macro"
    with pytest.raises(UserError, match=message):
        Scorer([metric], "multi:softmax", np.array([0.0, 2.0]))
    scorer = Scorer([metric], "multi:softmax", np.array([0.0, 1.0]))
    assert scorer(np.array([0.0, 1.0])) == {metric: 1.0}
    with pytest.raises(UserError, match=message):
        scorer(np.array([0.0, 2.0]))


@pytest.mark.parametrize("objective", ["reg:squarederror", "count:poisson", "rank:ndcg", "survival:cox"])
@pytest.mark.parametrize("metric", [*OF_ALL_CLASSES, *OF_TWO_CLASSES])
def test_metrics_of_classes_need_classes(metric: str, objective: str) -> None:
    """An objective that tells no classes has none of their metrics, which is said before the first round."""
    with pytest.raises(UserError, match=f"eval_metric '{metric}' needs an objective that tells classes .*{objective}"):
        Scorer([metric], objective, np.array([0.0, 1.0]))


@pytest.mark.parametrize("metric", ["mse", "r2"])
def test_metrics_of_numbers_need_numbers(metric: str) -> None:
    """Several classes are no numbers."""
    with pytest.raises(UserError, match=f"eval_metric '{metric}' compares numbers"):
        Scorer([metric], "multi:softprob", np.array([0.0, 1.0]))


@pytest.mark.parametrize("label", [0.5, -1.0, 1e9, math.nan])
def test_labels_that_are_no_classes(label: float) -> None:
    """A label that cannot be a class is named."""
    with pytest.raises(UserError, match=re.escape(f"expected 0, 1, …, got {label:g}")):
        Scorer(["accuracy"], "binary:logistic", np.array([0.0, label], np.float32))


def test_maximized() -> None:
    """More is better of these, and less of all others."""
    assert {metric.name for metric in METRICS if maximized(metric.name)} == {
        *OF_ALL_CLASSES, *OF_TWO_CLASSES, "r2", "auc", "aucpr", "map", "ndcg"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["ndcg@5", "ndcg-", "ndcg@5-", "map@3", "map-", "map@3-"])
def test_maximized_with_places(name: str) -> None:
    """What is appended to the name of a ranking metric does not change its direction."""
    assert maximized(name)


@pytest.mark.parametrize("name", ["error@.3", "error@0.7", "tweedie-nloglik@1.5"])
def test_minimized_with_a_number(name: str) -> None:
    """Nor does a threshold or a variance power."""
    assert not maximized(name)


@pytest.mark.parametrize("name", ["", "nonsense", "accuracy@1", "ndcg@x", "auc@3", "error@"])
def test_unknown(name: str) -> None:
    """A metric that is not declared is our bug: hyperparameters were checked before."""
    with pytest.raises(AlgorithmError, match="unknown metric"):
        maximized(name)


def test_split() -> None:
    """Order is kept, doubles are not; a metric with a threshold is the library's."""
    given = ["f1", "ndcg@5", "rmse", "mse", "f1", "rmse", "mae"]
    assert split(given) == (["ndcg@5", "rmse", "mae"], ["f1", "mse"])


def test_every_metric_of_ours_is_computed() -> None:
    """All that `split` leaves to us has a value for two classes."""
    _, own = split([metric.name for metric in METRICS])
    found = scores(own, "binary:hinge", np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    assert found == {name: float(maximized(name)) for name in own}


def test_the_library_knows_the_others() -> None:
    """Every metric that is left to the library is one of its own, and its log's name for it is recognised."""
    pytest.importorskip("xgboost")
    from clary.algorithms.booster import Booster, Matrix

    library, _ = split([metric.name for metric in METRICS])
    bounds = {"aft-nloglik", "interval-regression-accuracy"}  # need labels of another kind
    names = [name + "@1.5" * (name == "tweedie-nloglik") for name in library if name not in bounds | {"auc", "aucpr"}]
    rows = Matrix(np.eye(4, 2, dtype=np.float32), np.array([0.0, 1.0, 0.0, 1.0]))
    binary = [name for name in names if name not in {"merror", "mlogloss"}]
    booster = Booster({"objective": "binary:logistic", "eval_metric": [*binary, "error@0.3", "ndcg@2-"]}, [rows])
    booster.update(rows, 0)
    found = [metric for _, metric in booster.evaluate([(rows, "train")], 0)]
    assert found == [*binary, "error@0.3", "ndcg@2-"]
    assert [maximized(name) for name in found] == [
        name.startswith(("ndcg", "map")) and name != "mape" for name in found
    ]
