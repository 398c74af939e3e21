"""A trained XGBoost model, asked in this process; the numbers to compare with are those of the library's package."""

from __future__ import annotations

import gzip
import json
import math
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from clary import native
from clary.algorithms.booster import Booster, Matrix
from clary.algorithms.xgboost import ALGORITHM
from clary.algorithms.xgboost_model import XGBoostEnsemble, XGBoostModel, select
from clary.errors import AlgorithmError, ArtifactError, DataError
from clary.recordio.batch import CSR, Array

from ..boosters import ROWS, WIDTH, predicted, present, trained

OLD = Path(__file__).parents[1] / "golden" / "xgboost" / "old"
CLASSES = ("binary:logistic", "binary:logitraw", "binary:hinge", "multi:softmax", "multi:softprob")
NUMBERS = ("reg:squarederror", "reg:logistic", "reg:gamma", "reg:tweedie", "reg:absoluteerror")
OTHERS = ("count:poisson", "reg:squaredlogerror", "reg:pseudohubererror")
KINDS = ("gbtree", "dart", "gblinear")
KEYS = ("predicted_label", "labels", "probability", "probabilities", "raw_score", "raw_scores", "predicted_score")


def opened(*arguments: str, **params: Any) -> XGBoostModel:
    """A small model, as a server has it."""
    model = ALGORITHM.load(trained(*arguments, **params))
    assert isinstance(model, XGBoostModel)
    return model


def library_calls(function: Callable[[], object]) -> Counter[str]:
    """How often each function of the library is called, and ``Matrix`` made."""
    seen: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code.co_name == "_call":
            seen[frame.f_locals["function"]] += 1
        if event == "call" and frame.f_code is Matrix.__init__.__code__:
            seen["Matrix"] += 1

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return seen


@pytest.mark.parametrize("objective", CLASSES + NUMBERS + OTHERS)
@pytest.mark.parametrize("rows", [ROWS, present(ROWS)], ids=["dense", "sparse"])
def test_predictions(objective: str, rows: Array | CSR) -> None:
    """They are the library's own, whether rows are dense or sparse."""
    found = opened(objective).predict(rows)
    assert found.key == "predictions"
    assert found.columns["score"].dtype == np.float32
    np.testing.assert_array_equal(found.columns["score"], predicted(trained(objective)))


@pytest.mark.parametrize("kind", KINDS)
def test_narrow_rows(kind: str) -> None:
    """The columns that rows lack at their end are missing."""
    model = opened(booster=kind)
    for width in (1, WIDTH - 1):
        rows = ROWS.copy()
        rows[:, width:] = np.nan
        for narrow in (rows[:, :width], present(rows[:, :width])):
            np.testing.assert_array_equal(model.scores(narrow), model.scores(rows))


def test_wide_rows() -> None:
    """What the library refuses is the data's fault."""
    with pytest.raises(DataError, match="columns"):
        opened().scores(np.ones((1, WIDTH + 1), np.float32))


def test_an_empty_sparse_row() -> None:
    """A sparse row without a value has all of them missing."""
    rows = CSR(np.zeros(2, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32), (1, WIDTH))
    assert opened().scores(rows) == opened().scores(np.full((1, WIDTH), np.nan, np.float32))


def test_no_matrix_for_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is scored where it lies, with a kernel or without; only a linear model needs a matrix of the library."""
    row = ROWS[:1]
    trees, linear = opened(), opened(booster="gblinear")
    if native.kernels is not None:
        assert library_calls(lambda: [trees.predict(row), trees.predict(present(row))]) == {}
    monkeypatch.setattr(native, "kernels", None)
    assert library_calls(lambda: trees.predict(row)) == {"XGBoosterPredictFromDense": 1}
    assert library_calls(lambda: trees.predict(present(row))) == {"XGBoosterPredictFromCSR": 1}
    for rows in (row, present(row)):
        seen = library_calls(lambda rows=rows: linear.predict(rows))  # type: ignore[misc]
        assert (seen["Matrix"], seen["XGBoosterPredictFromDMatrix"]) == (1, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("objective", ["binary:logistic", "multi:softprob"])
def test_one_row_or_many(kind: str, objective: str) -> None:
    """A row's answer has the same bits whatever rows come with it."""
    model = opened(objective, booster=kind)
    for rows in (ROWS, present(ROWS)):
        alone = np.concatenate([model.scores(rows[i : i + 1]) for i in range(len(ROWS))])
        assert alone.tobytes() == model.scores(rows).tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_many_threads(kind: str) -> None:
    """Threads that ask one model at once each get their own answers."""
    model = opened("multi:softprob", booster=kind)
    expected = model.scores(ROWS)

    def ask(start: int) -> bool:
        rows = ROWS[start % 50 : start % 50 + 1 + start % 7]
        return bool((model.scores(rows) == expected[start % 50 : start % 50 + 1 + start % 7]).all())

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(800)))


def told(name: str) -> tuple[bytes, Array, dict[str, Any]]:
    """An old model file that stopped early, rows, and what its version said of them."""
    version = name.partition("-")[0]
    told = json.loads(gzip.decompress((OLD / f"{version}.json.gz").read_bytes()))
    model = gzip.decompress((OLD / f"{name}.gz").read_bytes())
    return model, np.array(told["rows"], np.float32), told["expected"][name.removeprefix(version + "-")]


@pytest.mark.parametrize("name", sorted(path.name.removesuffix(".gz") for path in OLD.glob("*-forest*.p?.gz")))
def test_best_rounds(name: str) -> None:
    """Of a pickle that stopped early the best rounds count, also when it is written again."""
    data, rows, expected = told(name)
    model = ALGORITHM.load(data)
    assert isinstance(model, XGBoostModel)
    best = model.origin.best_rounds
    assert best is not None
    assert best < model.booster.rounds
    answers = model.scores(rows)
    np.testing.assert_allclose(answers, np.array(expected["prediction"]).reshape(answers.shape), rtol=1e-6)
    again = ALGORITHM.load(model.to_bytes())
    assert isinstance(again, XGBoostModel)
    assert again.booster.rounds == best == model.describe()["rounds_used"]
    np.testing.assert_array_equal(again.scores(rows), answers)
    np.testing.assert_array_equal(predicted(model.to_bytes(), rows), answers)


@pytest.mark.parametrize("kind", KINDS)
def test_written_again(kind: str) -> None:
    """A model that is opened and written has lost nothing but how many threads answer."""
    data = trained("multi:softprob", booster=kind)
    again = ALGORITHM.load(data).to_bytes()
    assert again == data


def test_description() -> None:
    """It names what people ask for, and the ten features that gain most, the first the best."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 14)).astype(np.float32)
    matrix = Matrix(rows, rows @ 2.0 ** np.arange(14))
    booster = Booster({"max_depth": "4", "nthread": "1"}, [matrix])
    for iteration in range(20):
        booster.update(matrix, iteration)
    booster.keep("best_iteration", "18")
    booster.keep("best_score", "0.25")
    found = ALGORITHM.load(booster.to_bytes()).describe()
    gains = list(found["importance"].values())
    assert len(booster.importance()) > len(gains) == 10
    assert gains == sorted(gains, reverse=True)
    assert next(iter(found["importance"])) == "f13"
    assert (found["objective"], found["booster"], found["rounds"]) == ("reg:squarederror", "gbtree", 20)
    assert (found["best_iteration"], found["best_score"]) == (18, 0.25)
    assert "num_class" not in found
    assert opened("multi:softmax").describe()["num_class"] == 3
    json.dumps(found)


def test_mean_of_an_ensemble() -> None:
    """The models of an ensemble answer with their mean, row by row and class by class."""
    for objective in ("binary:logistic", "multi:softprob", "reg:gamma"):
        members = [opened(objective, seed=str(seed), subsample="0.5") for seed in range(3)]
        each = np.array([predicted(trained(objective, seed=str(seed), subsample="0.5")) for seed in range(3)])
        assert (each[0] != each[1]).any()
        found = XGBoostEnsemble(members).predict(ROWS).columns["score"]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, each.astype(np.float64).mean(axis=0), rtol=1e-7)


@pytest.mark.parametrize("objective", ["multi:softmax", "binary:hinge"])
def test_votes_of_an_ensemble(objective: str) -> None:
    """Models that say classes are counted: the most frequent wins, of two equally frequent the smaller."""
    names = [{"seed": str(seed), "subsample": "0.3"} for seed in range(4)]
    each = np.array([predicted(trained(objective, **params)) for params in names])
    counts = np.array([[Counter(row.tolist())[label] for label in (0, 1, 2)] for row in each.T])
    assert (np.sort(counts)[:, -1] == np.sort(counts)[:, -2]).any()  # there are ties
    found = XGBoostEnsemble([opened(objective, **params) for params in names]).scores(ROWS)
    assert found.tolist() == counts.argmax(axis=1).tolist()


def test_ensembles_of_one_kind() -> None:
    """Models that were trained for different things, or on different columns, make no ensemble."""
    narrow = Matrix(ROWS[:, :3], np.arange(len(ROWS)) % 2)
    booster = Booster({"objective": "binary:logistic"}, [narrow])
    booster.set({"nthread": "1"})
    booster.update(narrow, 0)
    for other in (opened("binary:hinge"), ALGORITHM.load(booster.to_bytes())):
        with pytest.raises(ArtifactError, match="have to be alike: there are binary:logistic with 5 features, binary:"):
            XGBoostEnsemble([opened(), other])  # type: ignore[list-item]


def test_an_ensemble_is_several_files() -> None:
    """Each of its models has one, and nothing else holds them."""
    ensemble = XGBoostEnsemble([opened(), opened(seed="1")])
    assert ALGORITHM.files(ensemble) == {"xgboost-model-0": trained(), "xgboost-model-1": trained(seed="1")}
    assert ensemble.describe()["models"] == 2
    with pytest.raises(AlgorithmError, match="a file for each"):
        ensemble.to_bytes()


def worked_out(objective: str, key: str) -> list[Any]:
    """What the container answers for a key, from the probabilities and margins of the library's package."""
    data = trained(objective)
    answer = predicted(data).astype(np.float64)
    two = np.stack([1 - answer, answer], axis=-1)
    valid: dict[str, Array]
    if objective in NUMBERS:
        valid = {"predicted_score": answer}
    elif objective == "multi:softprob":
        valid = dict.fromkeys(("probability", "raw_score"), answer.max(axis=1))
        valid |= dict.fromkeys(("probabilities", "raw_scores"), answer)
        valid |= {"predicted_label": answer.argmax(axis=1), "labels": np.tile(np.arange(3), (len(ROWS), 1))}
    else:
        classes = 3 if objective == "multi:softmax" else 2
        valid = {"raw_score": answer, "raw_scores": two, "labels": np.tile(np.arange(classes), (len(ROWS), 1))}
        if objective == "binary:logistic":
            valid |= {"probability": answer, "probabilities": two}
        valid["predicted_label"] = {
            "binary:logistic": (answer > 0.5).astype(int),
            "binary:logitraw": (answer > 0).astype(int),
        }.get(objective, answer)
    return valid[key].tolist() if key in valid else [math.nan] * len(ROWS)


@pytest.mark.parametrize("objective", CLASSES + NUMBERS)
def test_selected(objective: str, caplog: pytest.LogCaptureFixture) -> None:
    """Every key has the container's numbers, NaN where it makes no sense, which is warned of."""
    found = select(opened(objective), ROWS, KEYS)
    assert tuple(found) == KEYS
    for key in KEYS:
        expected = worked_out(objective, key)
        np.testing.assert_array_equal(found[key], expected, err_msg=key)
        assert {type(value) for value in found[key]} == {type(value) for value in expected}, key
    odd = [key for key in KEYS if np.isnan(np.array(found[key], float)).any()]
    assert [record.args[0] for record in caplog.records if isinstance(record.args, tuple)] == odd


def test_selected_of_what_is_unknown() -> None:
    """A key that there is not is NaN in every row, and the others keep their order."""
    found = select(opened(), ROWS[:2], ["best", "predicted_label"])
    assert list(found) == ["best", "predicted_label"]
    assert np.isnan(found["best"]).all()


@pytest.mark.parametrize("objective", OTHERS)
def test_selected_of_other_objectives(objective: str) -> None:
    """Nothing can be chosen of an objective that the container has no rule for."""
    with pytest.raises(AlgorithmError) as raised:
        select(opened(objective), ROWS, ["predicted_score"])
    assert str(raised.value) == f"Objective `{objective}` unsupported for selectable inference predictions."


def test_selected_of_an_ensemble() -> None:
    """What is chosen is made of what the models say together."""
    ensemble = XGBoostEnsemble([opened(), opened(seed="1", subsample="0.5")])
    mean = ensemble.scores(ROWS)
    assert select(ensemble, ROWS, ["raw_score"])["raw_score"] == mean.tolist()
    assert select(ensemble, ROWS, ["predicted_label"])["predicted_label"] == (mean > 0.5).astype(int).tolist()
