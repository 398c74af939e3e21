"""A factorization machine's arithmetic, against its definition and numerical derivatives."""

from __future__ import annotations

import time
from itertools import combinations

import numpy as np
import pytest

from clary.algorithms.fm_model import Block, Machine, Rates, outputs
from clary.algorithms.optimizers import Adam
from clary.recordio.batch import CSR, Array

NO_DECAY = Rates(lr=(0.1, 0.1, 0.1), wd=(0, 0, 0))
V = np.array([[1, 2], [3, -1], [0, 4]], np.float32)
W = np.array([1, 0, -2], np.float32)


def naive(row: Array, v: Array, w: Array, w0: float) -> float:
    """The output by its definition: a sum over pairs of columns."""
    pairs = sum(v[i] @ v[j] * row[i] * row[j] for i, j in combinations(range(len(row)), 2))
    return float(w0 + row @ w + pairs)


def some_rows(n: int, width: int, share: float, *, binary: bool = False, seed: int = 0) -> Array:
    """Rows with that share of values."""
    rng = np.random.default_rng(seed)
    values = np.ones((n, width)) if binary else rng.normal(size=(n, width))
    return np.where(rng.random((n, width)) < share, values, 0).astype(np.float32)


def machine(width: int, factors: int, rates: Rates = NO_DECAY, eps: float = 1e-8) -> Machine:
    """A machine with numbers of about one."""
    rng = np.random.default_rng(3)
    v, w, w0 = (rng.normal(size=shape).astype(np.float32) for shape in ((width, factors), (width, 1), (1, 1)))
    return Machine(v, w, w0, rates, Adam(eps=eps))


def sparse_always(monkeypatch: pytest.MonkeyPatch, *, sparse: bool) -> None:
    """Keep sparse rows sparse, or make all of them dense."""
    monkeypatch.setattr("clary.algorithms.fm_model._SPARSE", 2.0 if sparse else 0.0)


def test_by_hand() -> None:
    """For x = (1, 2, 1): 0.5, the weights' -1, and pairs 1·2·(3 - 2) + 1·1·8 + 2·1·(-4) = 2."""
    row = np.array([[1, 2, 1]], np.float32)
    assert outputs(row, V, W, 0.5).tolist() == [1.5]
    assert naive(row[0], V, W, 0.5) == 1.5


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("form", ["dense", "sparse", "sparse made dense"])
def test_definition(monkeypatch: pytest.MonkeyPatch, form: str, binary: bool) -> None:
    """The output is the naive double sum, whatever the rows are and hold; rows without values give the bias."""
    sparse_always(monkeypatch, sparse=form == "sparse")
    rows = some_rows(40, 9, 0.3, binary=binary).astype(np.float64)
    rows[[0, 7, 39]] = 0
    rng = np.random.default_rng(1)
    v, w = rng.normal(size=(9, 4)), rng.normal(size=9)
    given = rows if form == "dense" else CSR.from_dense(rows)
    assert np.allclose(outputs(given, v, w, 2.5), [naive(row, v, w, 2.5) for row in rows])
    assert outputs(given[:1], v, w, 2.5).tolist() == [2.5]


@pytest.mark.parametrize("sparse", [False, True])
def test_gradients(monkeypatch: pytest.MonkeyPatch, sparse: bool) -> None:
    """Adam is given the derivative of the loss by every parameter, as small changes of it show in float64."""
    sparse_always(monkeypatch, sparse=sparse)
    rows, labels = some_rows(12, 5, 0.6), np.random.default_rng(2).normal(size=12)
    learner = machine(5, 3)
    parts = [array.astype(np.float64) for array in (learner.w0, learner.w, learner.v)]

    def loss() -> float:
        w0, w, v = parts
        errors = [naive(row, v, w[:, 0], w0.item()) - label for row, label in zip(rows, labels, strict=True)]
        return float(np.square(errors).mean() / 2)

    learner.learn(Block.of(CSR.from_dense(rows)), lambda y: y - labels.astype(np.float32))
    for part, (moment, _) in zip(parts, learner._states, strict=True):  # after one step it is a tenth of the gradient
        for place in np.ndindex(part.shape):
            middle, change = part[place], 1e-5
            part[place] = middle + change
            above = loss()
            part[place] = middle - change
            slope = (above - loss()) / (2 * change)
            part[place] = middle
            assert moment[place] * 10 == pytest.approx(slope, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("binary", [False, True])
def test_dense_and_sparse(monkeypatch: pytest.MonkeyPatch, binary: bool) -> None:
    """Dense rows, sparse ones and sparse ones made dense train one machine."""
    rows = some_rows(100, 30, 0.1, binary=binary)
    machines = []
    for form in ("dense", "sparse", "made dense"):
        sparse_always(monkeypatch, sparse=form == "sparse")
        learner = machine(30, 4, Rates(lr=(0.1, 0.1, 0.1), wd=(0.01, 0.01, 0.01), clip=0.2))
        for start in range(0, 100, 10):
            part = rows[start : start + 10]
            learner.learn(Block.of(part if form == "dense" else CSR.from_dense(part)), np.tanh)
        machines.append(learner)
    for other in machines[1:]:
        for name in ("v", "w", "w0"):
            assert np.allclose(getattr(other, name), getattr(machines[0], name), atol=1e-4), name


@pytest.mark.parametrize("form", ["dense", "sparse", "made dense"])
def test_lazy(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """Columns without values in a mini-batch do not move or decay, and what Adam remembers of them does not fade."""
    sparse_always(monkeypatch, sparse=form == "sparse")
    learner = machine(6, 2, Rates(lr=(0.1, 0.1, 0.1), wd=(0.1, 0.1, 0.1)))
    learner.learn(Block.of(np.ones((4, 6), np.float32)), np.ones_like)
    kept = [learner.v, learner.w, *learner._states[1], *learner._states[2]]
    before = [array.copy() for array in kept]
    rows = np.zeros((4, 6), np.float32)
    rows[:, [1, 4]] = 1
    learner.learn(Block.of(rows if form == "dense" else CSR.from_dense(rows)), np.ones_like)
    for array, old in zip(kept, before, strict=True):
        assert np.flatnonzero((array != old).any(axis=1)).tolist() == [1, 4]


def test_decay_and_clip() -> None:
    """Decay is added to the rescaled gradient and not rescaled itself; then both are clipped together."""
    row = np.array([[2.0]], np.float32)
    for clip, expected in ((None, 3 * 2 * 0.5 + 0.25 * 4), (1.5, 1.5)):
        v, w, w0 = np.zeros((1, 1), np.float32), np.full((1, 1), 4, np.float32), np.zeros((1, 1), np.float32)
        learner = Machine(v, w, w0, Rates((0.1, 0.1, 0.1), (0, 0.25, 0), rescale=0.5, clip=clip), Adam())
        learner.learn(Block.of(row), lambda y: np.full_like(y, 3))
        assert learner._states[1][0].item() * 10 == pytest.approx(expected)


def test_first_step() -> None:
    """Adam's first step is the learning rate of each part, against the gradient's sign."""
    v, w, w0 = (np.ones(shape, np.float32) for shape in ((2, 1), (2, 1), (1, 1)))
    learner = Machine(v, w, w0, Rates((0.5, 0.25, 0.125), (0, 0, 0)), Adam())
    y = learner.learn(Block.of(np.ones((3, 2), np.float32)), np.ones_like)
    assert y.tolist() == [4, 4, 4]
    assert np.allclose(w0, 0.5) and np.allclose(w, 0.75) and np.allclose(v, 0.875)


def test_mean_gradient() -> None:
    """Without rescale_grad a gradient is the mean over the mini-batch's rows: rows given twice change nothing."""
    once, twice, summed = machine(4, 2), machine(4, 2), machine(4, 2, Rates((0.1, 0.1, 0.1), (0, 0, 0), rescale=1))
    rows = some_rows(8, 4, 0.9)
    once.learn(Block.of(rows), np.ones_like)
    twice.learn(Block.of(np.tile(rows, (2, 1))), np.ones_like)
    summed.learn(Block.of(rows), np.ones_like)
    assert np.allclose(once._states[2][0], twice._states[2][0], atol=1e-6)
    assert np.allclose(once._states[2][0] * 8, summed._states[2][0], atol=1e-5)


@pytest.mark.parametrize("sparse", [False, True])
def test_repeated_columns(monkeypatch: pytest.MonkeyPatch, sparse: bool) -> None:
    """Values of a row that share a column, in whatever order, are one value: their sum."""
    sparse_always(monkeypatch, sparse=sparse)
    odd = CSR(np.array([0, 4, 5]), np.array([2, 0, 2, 1, 1]), np.array([1, 2, 3, 1, 1], np.float32), (2, 3))
    plain = np.array([[2, 1, 4], [0, 1, 0]], np.float32)
    assert outputs(odd, V, W, 0).tolist() == outputs(plain, V, W, 0).tolist() == [naive(row, V, W, 0) for row in plain]
    block = Block.of(odd)
    rows = block.rows.toarray() if isinstance(block.rows, CSR) else block.rows
    squares = block.squares.toarray() if isinstance(block.squares, CSR) else block.squares
    assert (rows.tolist(), squares.tolist()) == (plain.tolist(), np.square(plain).tolist())


@pytest.mark.parametrize("table", [False, True])
def test_columns(monkeypatch: pytest.MonkeyPatch, table: bool) -> None:
    """A block has the columns with values, in order; None says all."""
    monkeypatch.setattr("clary.algorithms.sparse._WIDE", 100 if table else 0)
    rows = np.zeros((3, 6), np.float32)
    rows[[0, 2], [5, 1]] = 1
    for given in (rows, CSR.from_dense(rows)):
        columns = Block.of(given).columns
        assert columns is not None and columns.tolist() == [1, 5]
    assert Block.of(np.eye(3, dtype=np.float32)).columns is None


@pytest.mark.parametrize("sparse", [False, True])
def test_no_values(sparse: bool) -> None:
    """No rows have no outputs; rows without any value move the bias alone."""
    empty = np.zeros((0, 3), np.float32)
    assert outputs(CSR.from_dense(empty) if sparse else empty, V, W, 1).shape == (0,)
    learner, nothing = machine(3, 2), np.zeros((5, 3), np.float32)
    v, w, w0 = learner.v.copy(), learner.w.copy(), learner.w0.item()
    y = learner.learn(Block.of(CSR.from_dense(nothing) if sparse else nothing), np.ones_like)
    assert np.array_equal(learner.v, v) and np.array_equal(learner.w, w)
    assert y.tolist() == [w0] * 5 and learner.w0.item() == pytest.approx(w0 - 0.1)


def test_wide_sparse() -> None:
    """An epoch of 100 mini-batches in a million columns takes little time, as only columns with values are touched."""
    rng = np.random.default_rng(0)
    n, each, width = 1000, 20, 1_000_000
    learner = Machine(
        np.full((width, 8), 0.01, np.float32),
        np.zeros((width, 1), np.float32),
        np.zeros((1, 1), np.float32),
        NO_DECAY,
        Adam(),
    )
    seen = np.zeros(width, bool)
    start = time.process_time()
    for _ in range(100):
        indices = rng.integers(0, width, n * each)
        seen[indices] = True
        rows = CSR(np.arange(n + 1) * each, indices, np.ones(n * each, np.float32), (n, width))
        learner.learn(Block.of(rows), np.ones_like)
    assert time.process_time() - start < 5
    assert np.array_equal(learner.w[:, 0] != 0, seen)
