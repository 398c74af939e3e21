"""Kernels of sums of outer products against hand-made numbers and their NumPy twins."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clary import native
from clary.algorithms.rows import gathered
from clary.algorithms.scatter import Outer
from clary.recordio.batch import Array

pytestmark = pytest.mark.skipif(native.kernels is None, reason=f"no kernels: {native.STATE}")

T = TypeVar("T")


def by_twin(function: Callable[[], T]) -> T:
    """What NumPy makes of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "kernels", None)
        return function()


def random_rows(seed: int, count: int, width: int, share: float = 0.01) -> Array:
    """Dense rows that are mostly zeros, of which some are minus zero, and a few numbers are none."""
    rng = np.random.default_rng(seed)
    rows = np.where(rng.random((count, width)) < share, rng.normal(size=(count, width)), 0).astype(np.float32)
    rows[rng.random(rows.shape) < 0.3] *= -1
    rows[rng.random(rows.shape) < share / 10] = np.nan
    return rows


def test_by_hand() -> None:
    """Columns with values are marked and taken, and products come back to their places; minus zero is no value."""
    rows = np.array([[0, 1, 0, 3, 4], [0, 0, -0.0, 5, np.nan]], np.float32)
    used = np.zeros(5, bool)
    native.kernels.columns_used(rows, used)
    assert used.tolist() == [False, True, False, True, True]
    taken = np.empty((2, 3), np.float32)
    native.kernels.columns_taken(rows, np.array([1, 3, 4]), taken, 5)
    assert taken[:, :2].tolist() == [[1, 3], [0, 5]] and taken[0, 2] == 4 and np.isnan(taken[1, 2])
    products = np.ones((3, 3))
    native.kernels.products_added(np.array([[1, 2], [2, 8]], np.float32), np.array([0, 2]), products, 3)
    assert products.tolist() == [[2, 1, 3], [1, 1, 1], [3, 1, 9]]


@settings(deadline=None, max_examples=80)
@given(
    seed=st.integers(0, 2**32 - 1),
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=3),
    width=st.integers(1, 90),
    share=st.floats(0, 1),
)
def test_any_rows(seed: int, counts: list[int], width: int, share: float) -> None:
    """Rows are gathered as the twin does it, bit by bit, also where there are none."""
    parts = [random_rows(seed + i, count, width, share) for i, count in enumerate(counts)]
    ours, twin = (make(lambda: gathered(parts, np.empty(0, np.float32))) for make in (lambda f: f(), by_twin))
    assert ours.rows.tobytes() == twin.rows.tobytes() and ours.rows.shape == twin.rows.shape
    assert (ours.columns is None) == (twin.columns is None)
    assert ours.columns is None or ours.columns.tolist() == np.asarray(twin.columns).tolist()


def test_rows_of_two_dtypes() -> None:
    """Rows of a smaller dtype than those before them are not copied as bytes: NumPy is asked, and refuses."""
    parts = [np.array([[0, 1.5, 0]], np.float64), np.array([[0, 3.5, 0]], np.float32)]
    for refuse in (lambda: gathered(parts, np.empty(0)), lambda: by_twin(lambda: gathered(parts, np.empty(0)))):
        with pytest.raises(TypeError, match="cast"):
            refuse()


@pytest.mark.parametrize("size", [100, 1024, 5000])
def test_components_as_by_the_twin(size: int) -> None:
    """Components of rows in mini-batches of any size are the twin's but for rounding."""

    def found() -> tuple[Array, Array, Array]:
        rng, outer = np.random.default_rng(0), Outer(90, 5)
        rows = (rng.normal(size=(6000, 90)) * np.arange(90)[::-1]).astype(np.float32)
        rows[:, 20:60] = 0
        rows[:3000, :5] = 0
        for start in range(0, len(rows), size):
            outer.add(rows[start : start + size])
        return outer.solve()[:3]

    for mine, its in zip(found(), by_twin(found), strict=True):
        assert np.allclose(np.abs(mine), np.abs(its), rtol=1e-5, atol=2e-5)


ROWS, COLUMNS, PRODUCTS = np.zeros((2, 3), np.float32), np.array([0, 2]), np.zeros((3, 3))
PART = np.zeros((2, 2), np.float32)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("columns_used", (ROWS, np.zeros(0, bool))),
        ("columns_taken", (ROWS, COLUMNS + 1, PART, 3)),
        ("columns_taken", (ROWS, COLUMNS - 1, PART, 3)),
        ("columns_taken", (ROWS, COLUMNS, PART[:1], 3)),
        ("columns_taken", (ROWS, COLUMNS, PART, 0)),
        ("products_added", (PART, COLUMNS + 1, PRODUCTS, 3)),
        ("products_added", (PART[:1], COLUMNS, PRODUCTS, 3)),
        ("products_added", (PART, COLUMNS, PRODUCTS[:2], 3)),
        ("products_added", (PART, COLUMNS, PRODUCTS, -1)),
        ("products_added", (PART, COLUMNS, PRODUCTS, 2**63 - 1)),
    ],
)
def test_hostile_buffers(name: str, arguments: tuple[Any, ...]) -> None:
    """Columns that are not there, buffers that are too short, and sizes that make no sense, are errors."""
    with pytest.raises(ValueError, match=r"outside|too short"):
        getattr(native.kernels, name)(*arguments)
