"""Kernels of factorization machines against hand-made numbers and their NumPy twins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clary import native
from clary.algorithms.fm_model import Block, Machine, Rates, outputs
from clary.algorithms.optimizers import Adam
from clary.recordio.batch import CSR, Array

pytestmark = pytest.mark.skipif(native.kernels is None, reason=f"no kernels: {native.STATE}")


def sparse_rows(seed: int, count: int, width: int, binary: bool) -> CSR:
    """Rows with a few values, which are one or any."""
    rng = np.random.default_rng(seed)
    values = np.ones((count, width)) if binary else rng.normal(size=(count, width))
    return CSR.from_dense((values * (rng.random((count, width)) < 0.2)).astype(np.float32))


def machine(seed: int, width: int, factors: int, clip: float | None = None) -> Machine:
    """A machine with numbers of about one."""
    rng = np.random.default_rng(seed)
    v, w = (rng.normal(size=(width, k)).astype(np.float32) for k in (factors, 1))
    rates = Rates((0.1, 0.01, 0.01), (0.01, 0.001, 0.0001), clip=clip)
    return Machine(v, w, np.full((1, 1), 0.5, np.float32), rates, Adam(0.9, 0.999))


def learned(seed: int, rows: CSR, factors: int, clip: float | None = None) -> tuple[Array, ...]:
    """Outputs, bias, weights and factors after three steps."""
    trained = machine(seed, rows.shape[1], factors, clip)
    y = [trained.learn(Block.of(rows), np.tanh) for _ in range(3)]
    return np.concatenate(y), trained.w0, trained.w, trained.v


def test_forward_by_hand() -> None:
    """Two columns of a row interact by the product of their factors; a row without values has the bias."""
    rows = CSR(np.array([0, 2, 2]), np.array([0, 2]), np.array([1, 2], np.float32), (2, 3))
    v, w = np.array([[1], [2], [3]], np.float32), np.array([10, 20, 30], np.float32)
    assert outputs(rows, v, w, 5.0).tolist() == [81, 5]


def test_backward_by_hand() -> None:
    """Gradients are the sums of slope · x · s - slope · x² · v and of slope · x over the rows, and the decay."""
    rows = np.array([0, 2, 3]), np.array([0, 1, 1]), np.array([1, 2, 3], np.float32)
    s, slopes = np.array([[1, 10], [2, 20]], np.float32), np.array([0.5, 2], np.float32)
    of_v, of_w, squares = (np.full(shape, 9, np.float32) for shape in ((2, 2), 2, 2))
    v, w = np.zeros((2, 2), np.float32), np.zeros(2, np.float32)
    native.kernels.fm_backward(*rows, s, slopes, v, w, of_v, of_w, squares, 2, 0.5, 0.25)
    assert of_v.tolist() == [[0.5, 5], [13, 130]]
    assert of_w.tolist() == [0.5, 7]
    assert squares.tolist() == [0.5, 20]
    v, w = np.array([[1, 2], [3, 4]], np.float32), np.array([5, 6], np.float32)
    native.kernels.fm_backward(*rows, s, slopes, v, w, of_v, of_w, squares, 2, 0.5, 0.25)
    assert of_v.tolist() == [[0.5 - 0.25, 5 - 0.5], [13 - 3 * 19.75, 130 - 4 * 19.75]]
    assert of_w.tolist() == [0.5 + 2.5, 7 + 3]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 20),
    width=st.integers(1, 60),
    factors=st.sampled_from([1, 3, 4, 8, 16, 17, 64, 67]),
    binary=st.booleans(),
    clip=st.sampled_from([None, 0.05]),
)
def test_steps_as_the_twin(seed: int, count: int, width: int, factors: int, binary: bool, clip: float | None) -> None:
    """Outputs and the model after some steps are the twin's but for rounding."""
    rows = sparse_rows(seed, count, width, binary)
    ours = learned(seed, rows, factors, clip)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "kernels", None)
        twin = learned(seed, rows, factors, clip)
    # Adam's steps are as long for gradients of zero but for rounding as for others, so parameters may part a little.
    assert np.allclose(ours[0][:count], twin[0][:count], rtol=1e-4, atol=1e-3)
    for here, there in zip(ours[1:], twin[1:], strict=True):
        assert np.isclose(here, there, rtol=1e-3, atol=1e-3).mean() > 0.99


def test_numbers_that_are_not_finite() -> None:
    """NaN and infinite values reach the outputs of their rows alone."""
    rows = CSR(np.arange(4), np.array([0, 1, 2]), np.array([np.nan, np.inf, 1], np.float32), (3, 60))
    with np.errstate(invalid="ignore"):  # of the steps in NumPy that follow
        y = machine(0, 60, 4).learn(Block.of(rows), np.zeros_like)
    assert np.isfinite(y).tolist() == [False, False, True]


def test_hostile_arrays() -> None:
    """Arrays that are too short, and rows that lie outside of them, are refused."""
    kernels = native.kernels
    good = np.array([0, 1, 2]), np.array([0, 1]), np.ones(2, np.float32)
    v, w, y, s = (np.zeros(shape, np.float32) for shape in ((2, 3), 2, 2, (2, 3)))
    kernels.fm_forward(*good, v, w, w, y, s, 3, 0.0)
    kernels.fm_backward(*good, s, y, v, w, v.copy(), w.copy(), w.copy(), 3, 0.0, 0.0)
    for rows in (
        (np.array([0, 1, 3]), *good[1:]),
        (np.array([0, 2, 1]), *good[1:]),
        (good[0], np.array([0, 2]), good[2]),
        (good[0], np.array([0, -1]), good[2]),
    ):
        with pytest.raises(ValueError, match="outside"):
            kernels.fm_forward(*rows, v, w, w, y, s, 3, 0.0)
        with pytest.raises(ValueError, match="outside"):
            kernels.fm_backward(*rows, s, y, v, w, v.copy(), w.copy(), w.copy(), 3, 0.0, 0.0)
    for i in range(1, 5):
        arrays = [v, w, w, y, s]
        arrays[i] = arrays[i][:1].copy()
        with pytest.raises(ValueError, match="too short"):
            kernels.fm_forward(*good, *arrays, 3, 0.0)
    for i in (0, 1, 2, 3, 5, 6):
        arrays = [s, y, v, w, v.copy(), w.copy(), w.copy()]
        arrays[i] = arrays[i][:1].copy()
        with pytest.raises(ValueError, match="too short"):
            kernels.fm_backward(*good, *arrays, 3, 0.0, 0.0)
    for factors in (0, -1, 7):
        with pytest.raises(ValueError, match=r"outside|too short"):
            kernels.fm_forward(*good, v, w, w, y, s, factors, 0.0)
