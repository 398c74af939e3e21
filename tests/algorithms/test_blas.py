"""How many threads multiply."""

from collections.abc import Iterator

import numpy as np
import pytest

from clary.algorithms import blas
from clary.algorithms.blas import product, threads_for


def threads() -> int:
    """How many OpenBLAS would use now."""
    known = blas._functions()
    if known is None:
        pytest.skip("NumPy multiplies with another library than OpenBLAS")
    return known[0]()


@pytest.fixture
def two() -> Iterator[None]:
    """OpenBLAS is allowed two threads, on any machine."""
    before, known = threads(), blas._functions()
    assert known is not None
    known[1](2)
    yield
    known[1](before)


@pytest.mark.usefixtures("two")
def test_small_and_large() -> None:
    """Small products have one thread and large ones all, also after an error."""
    with threads_for(1 << 30):
        assert threads() == 2
    with pytest.raises(ZeroDivisionError), threads_for(1000):
        assert threads() == 1
        _ = 1 / 0
    assert threads() == 2


@pytest.mark.usefixtures("two")
def test_interleaved() -> None:
    """Whoever comes and goes meanwhile leaves none behind with too few."""
    outer, inner = threads_for(1), threads_for(1)
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    inner.__exit__(None, None, None)
    assert threads() == 2


@pytest.mark.parametrize(
    "shapes", [((300, 50), (50, 20)), ((300, 50), (50,)), ((50,), (50, 20)), ((3, 0), (0, 2)), ((0, 3), (3, 2))]
)
def test_product(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    """Products are NumPy's, of matrices, vectors and nothing."""
    rng = np.random.default_rng(0)
    left, right = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    assert np.allclose(product(left, right), left @ right, atol=1e-5)
