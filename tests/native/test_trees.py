"""The kernel of boosted trees against the XGBoost library itself: every answer has the same bits."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clary import native
from clary.algorithms.booster import Booster, Matrix
from clary.algorithms.xgboost import ALGORITHM
from clary.algorithms.xgboost_model import XGBoostModel
from clary.algorithms.xgboost_trees import Trees
from clary.recordio.batch import CSR, Array

from ..boosters import ROWS, WIDTH, present, trained

pytestmark = pytest.mark.skipif(native.kernels is None, reason=f"the kernels are {native.STATE}")

OBJECTIVES = (
    *("binary:logistic", "reg:logistic", "binary:logitraw", "binary:hinge", "multi:softmax", "multi:softprob"),
    *("reg:squarederror", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror", "rank:pairwise"),
    *("reg:gamma", "reg:tweedie", "count:poisson", "survival:cox", "reg:quantileerror"),
)
KINDS: tuple[dict[str, str], ...] = (
    {},
    {"booster": "dart", "rate_drop": "0.5"},
    {"num_parallel_tree": "3", "subsample": "0.5"},
    {"tree_method": "exact"},
    {"tree_method": "approx"},
    {"grow_policy": "lossguide", "max_leaves": "20", "max_depth": "0"},
    {"max_depth": "12", "min_child_weight": "0", "lambda": "0"},
    {"base_score": "0.3"},
)
NODES: dict[str, Any] = {
    "counts": np.array([3, 1], np.int32),
    "groups": np.array([0, 0], np.int32),
    "weights": np.array([], np.float32),
    "left": np.array([1, -1, -1, -1], np.int32),
    "right": np.array([2, -1, -1, -1], np.int32),
    "features": np.array([1, 0, 0, 0], np.int32),
    "values": np.array([0.5, 10, 20, 3], np.float32),
    "missing_left": np.array([1, 0, 0, 0], np.uint8),
    "bases": np.array([100], np.float32),
    "width": 2,
    "link": 0,
}
"""Two trees: x1 < 0.5 or missing ? 10 : 20, and 3; they are added to 100."""


def askew(numbers: Array) -> Array:
    """The same numbers, where no processor looks for such: one byte behind."""
    room = np.empty(numbers.nbytes + 1, np.uint8)[1:]
    found = np.frombuffer(room, numbers.dtype).reshape(numbers.shape)
    found[...] = numbers
    return found


def some_rows(count: int, seed: int = 5) -> Array:
    """Rows of which a third is missing."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, WIDTH)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.3] = np.nan
    return rows


def opened(*arguments: Any, **params: Any) -> tuple[XGBoostModel, Trees]:
    """A small model, and its trees."""
    model = ALGORITHM.load(trained(*arguments, **params))
    assert isinstance(model, XGBoostModel)
    found = Trees.of(model.booster)
    assert found is not None
    return model, found


def as_json(booster: Booster) -> dict[str, Any]:
    """A model as a document."""
    found: dict[str, Any] = json.loads(booster.to_bytes("json"))
    return found


def from_json(document: dict[str, Any]) -> Booster:
    """The model in a document."""
    booster = Booster()
    booster.load(json.dumps(document).encode())
    booster.set({"nthread": "1"})
    return booster


def trees_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The trees in a document."""
    found: list[dict[str, Any]] = document["learner"]["gradient_booster"]["model"]["trees"]
    return found


def boosted(labels: Array, **params: str) -> Booster:
    """A model of other labels than those of `trained`."""
    matrix = Matrix(ROWS, labels)
    booster = Booster({"nthread": "1", **params}, [matrix])
    booster.update(matrix, 0)
    return booster


def dense(forest: Any, rows: Array, *, margin: bool = False) -> list[float]:
    """Answers of one group."""
    out = np.full(len(rows), np.nan, np.float32)
    native.kernels.trees_dense(forest, len(rows), margin, np.ascontiguousarray(rows, np.float32), out)
    found: list[float] = out.tolist()
    return found


def planted(**changes: Any) -> Any:
    """The trees in `NODES`, some of whose arrays are other ones."""
    return native.kernels.trees_plant(*{**NODES, **changes}.values())


@pytest.mark.parametrize("params", KINDS, ids=str)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_same_bits(objective: str, params: dict[str, str]) -> None:
    """Margins and answers are the library's for any number of rows, dense or sparse, of every kind of tree."""
    if objective == "reg:quantileerror":
        params = {**params, "quantile_alpha": "0.3"}
    model, trees = opened(objective, 12, **params)
    for count in (0, 1, 7, 8, 9, 203):
        rows = some_rows(count)
        answers = [trees.scores(rows), trees.scores(rows, margin=True), trees.scores(present(rows))]
        library = model.booster
        theirs = [library.predict(rows), library.predict(rows, margin=True), library.predict(present(rows))]
        for ours, other in zip(answers, theirs, strict=True):
            assert ours is not None
            assert ours.dtype == other.dtype
            assert ours.tobytes() == other.tobytes()
            assert count == 0 or ours.shape == other.shape


def test_first_rounds() -> None:
    """The trees of the first rounds alone answer where a model stopped early."""
    model, _ = opened("multi:softprob", 6, num_parallel_tree="2")
    for rounds in (1, 4, 6):
        trees = Trees.of(model.booster, rounds)
        assert trees is not None
        found = trees.scores(ROWS)
        assert found is not None
        assert found.tobytes() == model.booster.predict(ROWS, rounds=rounds).tobytes()


@settings(max_examples=100, deadline=None)
@given(rows=arrays(np.float32, st.tuples(st.integers(1, 20), st.just(WIDTH)), elements=st.floats(width=32)))
def test_any_numbers(rows: Array) -> None:
    """Zeros with a sign, subnormal, huge, infinite and missing values take the library's ways."""
    model, trees = opened("multi:softprob", 5)
    found = trees.scores(rows)
    assert found is not None
    assert found.tobytes() == model.booster.predict(rows).tobytes()


def test_thresholds() -> None:
    """A value just on a threshold goes right, the next below it left, in every node."""
    model, trees = opened("reg:squarederror", 20, max_depth="6", min_child_weight="0")
    every = trees_of(as_json(model.booster))
    values = np.concatenate([np.array(tree["split_conditions"], np.float32) for tree in every])
    rows = np.repeat(np.concatenate([values, np.nextafter(values, -np.inf, dtype=np.float32)]), WIDTH)
    rows = rows.reshape(-1, WIDTH)
    found = trees.scores(rows)
    assert found is not None
    assert found.tobytes() == model.booster.predict(rows).tobytes()


@pytest.mark.parametrize("objective", ["binary:logistic", "count:poisson", "multi:softprob", "reg:logistic"])
def test_far_margins(objective: str) -> None:
    """Where an exponential ends or overflows, answers are still the library's."""
    model, _ = opened(objective, 1)
    document = as_json(model.booster)
    for factor in (30, 88, 500, 1e30):
        for tree in trees_of(document):
            leaves = np.array(tree["left_children"]) == -1
            far = np.where(leaves, factor * np.sign(tree["split_conditions"]), tree["split_conditions"])
            tree["split_conditions"] = far.tolist()
        booster = from_json(document)
        trees = Trees.of(booster)
        assert trees is not None
        found = trees.scores(ROWS)
        assert found is not None
        assert found.tobytes() == booster.predict(ROWS).tobytes()


def test_left_to_the_library() -> None:
    """What the kernel has no way for is answered by the library: linear models, vectors, categories, what is new."""
    assert Trees.of(boosted(ROWS[:, 0] > 0, booster="gblinear")) is None
    assert Trees.of(boosted(np.ones((len(ROWS), 2)), multi_strategy="multi_output_tree")) is None
    document = as_json(opened()[0].booster)
    document["learner"]["objective"] = {
        "name": "survival:aft",
        "aft_loss_param": {"aft_loss_distribution": "normal", "aft_loss_distribution_scale": "1"},
    }
    assert Trees.of(from_json(document)) is None
    document = as_json(opened()[0].booster)
    tree = trees_of(document)[0]
    tree["split_type"][0] = 1
    tree |= {"categories_nodes": [0], "categories_segments": [0], "categories_sizes": [1], "categories": [1]}
    assert Trees.of(from_json(document)) is None


def test_several_labels() -> None:
    """Where rows have several labels, each has trees of its own."""
    booster = boosted(np.nan_to_num(ROWS[:, :2]))
    trees = Trees.of(booster)
    assert trees is not None
    found = trees.scores(ROWS)
    assert found is not None
    assert found.shape == (len(ROWS), 2)
    assert found.tobytes() == booster.predict(ROWS).tobytes()


def test_disagreement(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that answers otherwise than the kernel goes on to answer itself."""
    model, _ = opened()
    predict = Booster.predict
    monkeypatch.setattr(Booster, "predict", lambda *arguments, **options: predict(*arguments, **options) * 1.0000001)
    assert Trees.of(model.booster) is None


def test_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without kernels the library answers, and the same."""
    model, trees = opened()
    before = model.scores(ROWS)
    monkeypatch.setattr(native, "kernels", None)
    assert trees.scores(ROWS) is None
    assert Trees.of(model.booster) is None
    assert model.scores(ROWS).tobytes() == before.tobytes()


def test_odd_rows() -> None:
    """Rows of another width, and sparse ones with a column twice or out of the model, are left to the library."""
    _, trees = opened()
    assert trees.scores(np.ones((1, WIDTH + 1), np.float32)) is None
    for columns in ([1, 1], [0, WIDTH], [-1, 0]):
        indices = np.array(columns, np.int64)
        assert trees.scores(CSR(np.array([0, 2]), indices, np.ones(2, np.float32), (1, WIDTH))) is None


def test_rows_as_they_come() -> None:
    """Doubles, slices, columns in another order and numbers between their places are the same rows."""
    _, trees = opened()
    expected = trees.scores(ROWS)
    assert expected is not None
    wide = np.repeat(ROWS, 2, axis=1)
    for rows in (ROWS.astype(np.float64), np.asfortranarray(ROWS), wide[:, ::2], askew(ROWS)):
        found = trees.scores(rows)
        assert found is not None
        assert found.tobytes() == expected.tobytes()


def test_many_threads() -> None:
    """Threads that ask at once each get their own answers, with the lock held or not."""
    _, trees = opened("multi:softprob", 12)
    rows = some_rows(600)
    expected = trees.scores(rows)
    assert expected is not None

    def ask(start: int) -> bool:
        found = trees.scores(rows[start:])
        return found is not None and bool((found == expected[start:]).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(0, 600, 3)))


def test_worked_out() -> None:
    """A threshold, a missing value and two trees, by hand."""
    forest = planted()
    rows = np.array([[9, 0.4], [9, 0.5], [9, np.nan], [np.nan, -np.inf]], np.float32)
    assert dense(forest, rows) == [113, 123, 113, 113]
    assert dense(planted(missing_left=np.zeros(4, np.uint8)), rows) == [113, 123, 123, 113]
    assert dense(planted(weights=np.array([0.5, 2], np.float32)), rows) == [111, 116, 111, 111]
    assert dense(planted(link=3), rows) == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "change",
    [
        {"left": np.array([0, -1, -1, -1], np.int32)},  # a circle
        {"left": np.array([3, -1, -1, -1], np.int32)},  # out of the tree
        {"right": np.array([-5, -1, -1, -1], np.int32)},
        {"features": np.array([2, 0, 0, 0], np.int32)},
        {"features": np.array([-1, 0, 0, 0], np.int32)},
        {"groups": np.array([0, 1], np.int32)},
        {"groups": np.array([0, -1], np.int32)},
        {"counts": np.array([3, 0], np.int32)},
        {"counts": np.array([-1, 5], np.int32)},
        {"counts": np.array([3, 2], np.int32)},
        {"counts": np.array([2**31 - 1, 2**31 - 1], np.int32)},
        {"values": np.zeros(3, np.float32)},
        {"missing_left": np.zeros(3, np.uint8)},
        {"weights": np.zeros(1, np.float32)},
        {"bases": np.zeros(0, np.float32)},
        {"width": 0},
        {"width": -1},
        {"link": 6},
        {"link": -1},
        {"link": 2**32},
        {"left": askew(NODES["left"])},
        {"bases": askew(NODES["bases"])},
    ],
    ids=str,
)
def test_unsound_trees(change: dict[str, Any]) -> None:
    """Trees that lead astray, or whose arrays are too short, never become a forest."""
    with pytest.raises(ValueError, match=r"leads astray|belong together"):
        planted(**change)


@settings(max_examples=300, deadline=None)
@given(
    left=arrays(np.int32, 4, elements=st.integers(-2, 5)),
    right=arrays(np.int32, 4, elements=st.integers(-2, 5)),
    features=arrays(np.int32, 4, elements=st.integers(-1, 2)),
    rows=arrays(np.float32, (9, 2), elements=st.floats(width=32)),
)
def test_any_trees(left: Array, right: Array, features: Array, rows: Array) -> None:
    """Whatever the numbers of a tree are, it is refused or every way in it ends."""
    try:
        forest = planted(left=left, right=right, features=features)
    except ValueError:
        return
    assert set(dense(forest, rows)) <= {np.float32(100 + 3 + value) for value in (0.5, 10, 20, 3)}


def test_short_buffers() -> None:
    """Buffers that are too short for the rows are refused, and nothing but a forest is one."""
    forest, rows, out = planted(), np.zeros((3, 2), np.float32), np.zeros(3, np.float32)
    ask, sparse = native.kernels.trees_dense, native.kernels.trees_sparse
    for n, features, answers in ((4, rows, out), (-1, rows, out), (3, rows[:2], out), (3, rows, out[:2])):
        with pytest.raises(ValueError, match="too short"):
            ask(forest, n, False, features, answers)
    for features, answers in ((askew(rows), out), (rows, askew(out))):
        with pytest.raises(ValueError, match="does not begin where"):
            ask(forest, 3, False, features, answers)
    borders, columns, values = np.array([0, 1, 2]), np.array([0, 1]), np.zeros(2, np.float32)
    for n, *parts in (
        (3, borders, columns, values),
        (-1, borders, columns, values),
        (2, borders, columns[:1], values),
        (2, borders, columns, values[:1]),
        (2, np.array([0, 2, 1]), columns, values),
        (2, np.array([-1, 1, 2]), columns, values),
        (0, np.array([], np.int64), columns, values),
        (2, askew(borders), columns, values),
        (2, borders, askew(columns), values),
        (2, borders, columns, askew(values)),
    ):
        with pytest.raises(ValueError, match="too short"):
            sparse(forest, n, *parts, out)
    with pytest.raises(ValueError, match="PyCapsule"):
        ask(object(), 1, False, rows, out)
    with pytest.raises(BufferError):
        ask(forest, 3, False, rows, b"            ")
    with pytest.raises(TypeError, match="expected 5 arguments"):
        ask(forest)
