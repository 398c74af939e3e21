"""Kernels of linear models against hand-made numbers and their NumPy twins."""

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clary import native
from clary.algorithms import sparse
from clary.algorithms.losses import LogisticLoss
from clary.algorithms.optimizers import Adam
from clary.recordio.batch import CSR, Array

pytestmark = pytest.mark.skipif(native.kernels is None, reason=f"no kernels: {native.STATE}")

T = TypeVar("T")

WIDTHS = (1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 64, 67)
"""Numbers of models: alone, whole vectors, and what is left over."""


def by_twin(function: Callable[[], T]) -> T:
    """What NumPy makes of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "kernels", None)
        return function()


def by_kernel(function: Callable[[], T]) -> T:
    """What the kernels make of it."""
    return function()


def random_rows(seed: int, count: int, width: int, share: float = 0.3) -> CSR:
    """Sparse rows, some of them empty."""
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(count, width)) * (rng.random((count, width)) < share)
    dense[:: max(1, count // 3)] = 0
    return CSR.from_dense(dense.astype(np.float32))


def test_products_by_hand() -> None:
    """Rows times a matrix, and the transposed rows times another; a row without values gives what it begins with."""
    rows = CSR(np.array([0, 2, 2]), np.array([0, 2]), np.array([3, -1], np.float32), (2, 3))
    matrix = np.array([[1, 10], [5, 50], [2, 20]], np.float32)
    assert sparse.times(rows, matrix).tolist() == [[1, 10], [0, 0]]
    assert sparse.times(rows, matrix, np.array([[7, 8]], np.float32)).tolist() == [[8, 18], [7, 8]]
    assert sparse.times(rows, matrix[:, 0]).tolist() == [1, 0]
    assert sparse.transposed_times(rows, matrix[:2]).tolist() == [[3, 30], [0, 0], [-1, -10]]


@pytest.mark.parametrize("models", WIDTHS)
def test_products_as_the_twins(models: int) -> None:
    """Products are those of NumPy but for rounding, of any number of models."""
    rows, rng = random_rows(models, 50, 20), np.random.default_rng(models)
    matrix, other, first = (rng.normal(size=(n, models)).astype(np.float32) for n in (20, 50, 1))
    for product in (
        lambda: sparse.times(rows, matrix, first),
        lambda: sparse.times(rows, np.asfortranarray(matrix)),
        lambda: sparse.transposed_times(rows, other),
    ):
        assert np.allclose(product(), by_twin(product), rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 12), width=st.integers(1, 12), models=st.integers(1, 20))
def test_products_of_any_rows(seed: int, count: int, width: int, models: int) -> None:
    """Products of any rows, also of none, are those of NumPy but for rounding."""
    rows = random_rows(seed, count, width)
    for product in (
        lambda: sparse.times(rows, normal(seed, width, models)),
        lambda: sparse.transposed_times(rows, normal(seed, count, models)),
    ):
        ours, twin = product(), by_twin(product)
        assert ours.shape == twin.shape
        assert np.allclose(ours, twin, rtol=1e-5, atol=1e-5)


def normal(seed: int, count: int, models: int) -> Array:
    """Normal numbers."""
    return np.random.default_rng(seed).normal(size=(count, models)).astype(np.float32)


def test_products_of_infinite_numbers() -> None:
    """NaN and infinity go through products as in NumPy, and minus zero counts as zero."""
    rows = CSR(
        np.array([0, 1, 2, 3, 4]), np.array([0, 1, 2, 0]), np.array([1, np.inf, np.nan, -0.0], np.float32), (4, 3)
    )
    matrix = np.array([[np.inf], [2], [1]], np.float32)
    product = sparse.times(rows, matrix).ravel()
    assert product[:2].tolist() == [np.inf, np.inf]
    assert np.isnan(product[2:]).all()


def test_values_that_share_a_place() -> None:
    """Values of a row in the same column are added, in both products; the rows are told to be out of order."""
    rows = CSR(np.array([0, 3]), np.array([1, 0, 1]), np.array([1, 2, 4], np.float32), (1, 2))
    assert sparse.times(rows, np.array([[10], [1]], np.float32)).tolist() == [[25]]
    assert sparse.transposed_times(rows, np.array([[2]], np.float32)).tolist() == [[4], [10]]
    assert not native.kernels.csr_ordered(rows.indptr, rows.indices)
    assert sparse.merged(rows).values.tolist() == [2, 5]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 10), width=st.integers(1, 30))
def test_narrowed_as_the_twin(seed: int, count: int, width: int) -> None:
    """The columns with values, and the rows in them, are the twin's."""
    rows = random_rows(seed, count, width)
    ours, twin = sparse.narrowed(rows), by_twin(lambda: sparse.narrowed(rows))
    assert (ours[0] is None) == (twin[0] is None)
    assert ours[0] is None or ours[0].tolist() == np.asarray(twin[0]).tolist()
    assert ours[1].indices.tolist() == twin[1].indices.tolist()
    assert ours[1].shape == twin[1].shape


@pytest.mark.parametrize(
    ("borders", "columns"),
    [
        ([0, 3], [0, 1]),
        ([1, 0], [0, 1]),
        ([-1, 1], [0, 1]),
        ([0, 2, 1], [0, 1]),
        ([0, 2], [0, 9]),
        ([0, 2], [0, -1]),
        ([0, 2], [0, 2**62]),
        ([0, 2], [-(2**63), 0]),
        ([], []),
    ],
)
def test_rows_outside(borders: list[int], columns: list[int]) -> None:
    """Borders and columns outside the arrays are refused by every kernel that follows them."""
    kernels, n = native.kernels, max(0, len(borders) - 1)
    rows = np.array(borders, np.int64), np.array(columns, np.int64), np.ones(len(columns), np.float32)
    two, many, one = (np.zeros(shape, np.float32) for shape in ((2, 4), (n, 4), 4))
    with pytest.raises(ValueError, match="outside"):
        kernels.csr_times(*rows, two, one, many)
    with pytest.raises(ValueError, match="outside"):
        kernels.csr_transposed_times(*rows, many, two, 4)
    if borders in ([0, 2], []) and columns:
        with pytest.raises(ValueError, match="outside"):
            kernels.csr_narrowed(rows[1], np.zeros(2, np.int64), np.zeros(2, np.int64), 2)
    elif columns:
        with pytest.raises(ValueError, match="outside"):
            kernels.csr_ordered(*rows[:2])


def test_short_arrays() -> None:
    """Arrays shorter than what is read or written are refused, and so are numbers of models that make no sense."""
    kernels = native.kernels
    rows = np.array([0, 1, 1]), np.array([0]), np.ones(1, np.float32)
    row, short, two = np.zeros(4, np.float32), np.zeros(3, np.float32), np.zeros(8, np.float32)
    for call in (
        lambda: kernels.csr_times(*rows, row, row, row),
        lambda: kernels.csr_times(*rows, row, short[:0], two),
        lambda: kernels.csr_transposed_times(*rows, row, row, 4),
        lambda: kernels.csr_transposed_times(*rows, two, row, 0),
        lambda: kernels.csr_transposed_times(*rows, two, row, -1),
        lambda: kernels.csr_narrowed(rows[1], rows[1][:0].copy(), np.zeros(1, np.int64), 5),
        lambda: kernels.logistic(row, short, row, two, 2),
        lambda: kernels.logistic(two, row, two, short, 2),
        lambda: kernels.logistic_step(row, row, None, row, np.zeros((2, 2))),
        lambda: kernels.logistic_step(two, row, short, two, np.zeros((2, 2))),
        lambda: kernels.logistic_step(two, row, None, two, np.zeros(0)),
        lambda: kernels.adam(two, row, row, row, row, None, 0.9, 0.1, 0.9, 0.1, 1e-8),
        lambda: kernels.adam(row, row, row, two, short, None, 0.9, 0.1, 0.9, 0.1, 1e-8),
        lambda: kernels.adam(row, row, two, two, two, np.array([2]), 0.9, 0.1, 0.9, 0.1, 1e-8),
        lambda: kernels.adam(row, row, two, two, two, np.array([-1]), 0.9, 0.1, 0.9, 0.1, 1e-8),
        lambda: kernels.adam(row, row, two, two, two, np.array([0, 1]), 0.9, 0.1, 0.9, 0.1, 1e-8),
        lambda: kernels.adam(row, row[:0], two, two, two, None, 0.9, 0.1, 0.9, 0.1, 1e-8),
    ):
        with pytest.raises(ValueError, match=r"outside|too short"):
            call()
    with pytest.raises(TypeError, match="expected 6 arguments"):
        kernels.csr_times(*rows)
    with pytest.raises(MemoryError):
        kernels.csr_narrowed(rows[1], rows[1].copy(), rows[1].copy(), 2**62)


def test_logistic_by_hand() -> None:
    """Losses and slopes of outputs for both labels, infinite ones and NaN."""
    z = np.array([0, -1e4, 1e4, math.log(3), np.inf, -np.inf, np.nan], np.float32)[:, None]
    losses, slopes = LogisticLoss().evaluate(z, np.array([1, 1, 1, 0, 0, 0, 0], np.float32))
    assert np.allclose(losses.ravel()[:4], [math.log(2), 1e4, 0, math.log(4)])
    assert np.allclose(slopes.ravel()[:4], [-0.5, -1, 0, 0.75])
    assert losses.ravel()[4:6].tolist() == [np.inf, 0]
    assert slopes.ravel()[4:6].tolist() == [1, 0]
    assert np.isnan([losses[6], slopes[6]]).all()


@pytest.mark.parametrize("models", [*WIDTHS, 511, 512, 513, 1100])
def test_logistic_as_the_twin(models: int) -> None:
    """Losses and slopes are NumPy's but for rounding, of any number of models."""
    rng = np.random.default_rng(models)
    z = (rng.normal(size=(37, models)) * 30).astype(np.float32)
    labels = (rng.random(37) < 0.5).astype(np.float32)
    for ours, twin in zip(
        *(way(lambda: LogisticLoss().evaluate(z, labels)) for way in (by_kernel, by_twin)), strict=True
    ):
        assert np.allclose(ours, twin, rtol=2e-6, atol=2.5e-7)  # two steps of 1 + exp in float32


def test_logistic_is_exact() -> None:
    """Slopes have all digits of float32 from the least numbers on; losses are those of 1 + exp in float32."""
    z = np.linspace(-103, 103, 200_001, dtype=np.float32)[:, None]
    losses, slopes = LogisticLoss().evaluate(z, np.zeros(len(z), np.float32))
    wide = z.astype(np.float64)
    true = 1 / (1 + np.exp(-wide))
    assert (np.abs(slopes - true) <= 4e-7 * true + 2e-45).all()
    assert np.allclose(losses, np.logaddexp(0, wide), rtol=1e-6, atol=7e-8)


@pytest.mark.parametrize("models", [1, 3, 16, 67, 513])
@pytest.mark.parametrize("weighted", [False, True])
def test_step_as_the_twin(models: int, weighted: bool) -> None:
    """What a step of training needs is the twin's but for rounding; for more than 512 models it is the twin's work."""
    rng = np.random.default_rng(models)
    z = rng.normal(size=(101, models)).astype(np.float32)
    labels = (rng.random(101) < 0.5).astype(np.float32)
    weight = rng.random(101).astype(np.float32) if weighted else None
    ours, twin = (way(lambda: LogisticLoss().step(z, labels, weight)) for way in (by_kernel, by_twin))
    for here, there in zip(ours, twin, strict=True):
        assert here.shape == there.shape
        assert np.allclose(here, there, rtol=1e-5, atol=1e-7)


def test_adam_by_hand() -> None:
    """The first step is as long as the rate, whatever the gradient; rows that are not chosen stay."""
    w, adam = np.ones((3, 2), np.float32), Adam()
    state = adam.state(w.shape)
    adam.update(w, np.array([[1e-3, -1e3]], np.float32), state, np.array([0.1, 0.2]), 1, np.array([1]))
    assert np.allclose(w, [[1, 1], [0.9, 1.2], [1, 1]], atol=1e-4)  # eps is not quite nothing
    assert not state[0][[0, 2]].any()


@pytest.mark.parametrize("models", WIDTHS)
@pytest.mark.parametrize("chosen", [None, [0], [6, 2, 3]])
@pytest.mark.parametrize("rate", [0.1, "each"])
def test_adam_as_the_twin(models: int, chosen: list[int] | None, rate: float | str) -> None:
    """Steps are those of NumPy but for rounding, of all rows or some, with one rate or one for each model."""
    rng = np.random.default_rng(models)
    rates = rng.random(models) if rate == "each" else 0.1
    rows = None if chosen is None else np.array(chosen)
    gradients = rng.normal(size=(5, 7 if rows is None else len(rows), models)).astype(np.float32)

    def trained() -> tuple[Array, ...]:
        w, adam = np.ones((7, models), np.float32), Adam()
        state = adam.state(w.shape)
        for step, gradient in enumerate(gradients, 1):
            adam.update(w, gradient, state, rates, step, rows)
        return w, *state

    for ours, twin in zip(trained(), by_twin(trained), strict=True):
        assert np.allclose(ours, twin, rtol=1e-6, atol=1e-8)


def test_adam_of_infinite_gradients() -> None:
    """NaN and infinite gradients leave the NaN that they leave in NumPy."""

    def trained() -> Array:
        w, adam = np.ones((1, 3), np.float32), Adam()
        with np.errstate(all="ignore"):
            adam.update(w, np.array([[np.nan, np.inf, -0.0]], np.float32), adam.state(w.shape), 0.1, 1)
        return w

    assert np.array_equal(trained(), by_twin(trained), equal_nan=True)
