"""Products with sparse rows, and rows in order: what goes beyond the numbers that models have."""

from __future__ import annotations

import numpy as np
import pytest

from clary import native
from clary.algorithms.sparse import merged, times
from clary.recordio.batch import CSR


@pytest.fixture(params=["kernels", "twins"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test, with the kernels and without."""
    if request.param == "twins":
        monkeypatch.setattr(native, "kernels", None)


@pytest.mark.parametrize("width", [1 << 40, 1 << 62, (1 << 63) - 1])
def test_rows_are_merged_whatever_their_width(width: int) -> None:
    """Rows whose places do not fit into 64 bits are put in order as others are."""
    columns = np.array([width - 1, 3, 3, width - 1, 5, 0, 5])
    rows = CSR(np.array([0, 3, 4, 4, 7]), columns, np.arange(1, 8, dtype=np.float32), (4, width))
    found = merged(rows)
    assert found.shape == (4, width)
    assert found.indptr.tolist() == [0, 2, 3, 3, 5]
    assert found.indices.tolist() == [3, width - 1, width - 1, 0, 5]
    assert found.values.tolist() == [5, 1, 4, 6, 12]
    assert found.values.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_numbers_of_any_type_are_added(dtype: type) -> None:
    """What is added to a product may be of another type than the matrix."""
    rows = CSR.from_dense(np.array([[0, 2], [0, 0], [1, 3]], np.float32))
    matrix = np.array([[10, 1], [1, 0]], np.float32)
    first = np.array([100, 7], dtype)
    assert times(rows, matrix, first).tolist() == [[102, 7], [100, 7], [113, 8]]
