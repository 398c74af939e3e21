"""Rows of a series side by side."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.errors import DataError, UserError
from clary.recordio import shingles
from clary.recordio.batch import CSR, Array, Batch, concatenate
from clary.recordio.shingles import shingle, shingle_batches


def series(start: int, stop: int, width: int = 2) -> Batch:
    """Return rows, labels, weights and ids that all say their number, from `start` to before `stop`."""
    numbers = np.arange(start, stop, dtype=np.float32)
    features = numbers[:, None] * width + np.arange(width, dtype=np.float32)
    return Batch(features, numbers, -numbers, tuple((str(i), "") for i in range(start, stop)))


def cut(rows: Batch, counts: list[int]) -> list[Batch]:
    """Return the rows in batches of these sizes."""
    return [rows[start:stop] for start, stop in pairwise(np.cumsum([0, *counts]).tolist())]


def test_by_hand() -> None:
    """Three points in shingles of two are two shingles; the oldest point is first."""
    assert shingle(np.array([[1, 2], [3, 4], [5, 6]]), 2).tolist() == [[1, 2, 3, 4], [3, 4, 5, 6]]
    assert shingle(np.array([1, 2, 3]), 2).tolist() == [[1, 2], [2, 3]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
def test_a_copy_of_the_same_dtype(dtype: Any) -> None:
    """What is done to a shingle is done neither to the series nor to the next shingle."""
    rows = np.arange(6, dtype=dtype)
    made = shingle(rows, 3)
    made[0] = 9
    assert (made.dtype, made.flags.c_contiguous) == (dtype, True)
    assert made.tolist() == [[9, 9, 9], [1, 2, 3], [2, 3, 4], [3, 4, 5]]
    assert rows.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("rows", [np.ones((4, 3)), np.ones((4, 0)), np.ones(4), np.ones((3, 4)).T])
def test_the_two_ends(rows: Array) -> None:
    """Shingles of one row are the rows, and one of all rows is a single shingle, whatever the layout in memory."""
    table = rows.reshape(4, -1) if rows.size else rows
    one, all_rows = shingle(rows, 1), shingle(rows, 4)
    assert np.array_equal(one, table)
    assert np.array_equal(all_rows, table.reshape(1, table.size))
    assert not np.shares_memory(one, rows) and not np.shares_memory(all_rows, rows)


@pytest.mark.parametrize(
    ("rows", "size", "sentence"),
    [
        (np.ones(3), 0, "shingle_size is 0: a shingle has at least 1 row"),
        (np.ones(3), -1, "shingle_size is -1: a shingle has at least 1 row"),
        (np.ones((3, 2)), 4, "too few rows for a shingle: 3 of the 4 that one takes"),
        (np.ones((0, 2)), 1, "too few rows for a shingle: 0 of the 1 that one takes"),
        (np.ones((3, 2, 2)), 2, r"the shape \(n,\) or \(n, d\), not \(3, 2, 2\)"),
        (np.ones(()), 1, r"the shape \(n,\) or \(n, d\), not \(\)"),
    ],
)
def test_what_makes_no_shingle(rows: Array, size: int, sentence: str) -> None:
    """The sentence has the numbers that are wrong."""
    with pytest.raises(UserError, match=sentence):
        shingle(rows, size)


@pytest.mark.parametrize("size", [1, 2, 4, 11])
@pytest.mark.parametrize("each", [1, 3, 4, 10, 11])
def test_borders_of_batches_make_no_difference(size: int, each: int) -> None:
    """Batches of one row, of one row less than a shingle, of all rows: label, weight and id are the newest row's."""
    rows = series(0, 11)
    made = concatenate(list(shingle_batches([rows[at : at + each] for at in range(0, 11, each)], size)))
    assert np.array_equal(made.dense(), shingle(rows.dense(), size))
    assert made.labels is not None and made.weights is not None
    assert made.labels.tolist() == list(range(size - 1, 11))
    assert made.weights.tolist() == [-label for label in made.labels]
    assert made.ids == tuple((str(i), "") for i in range(size - 1, 11))


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=9),
    st.integers(1, 30),
    st.integers(1, 4),
    st.sampled_from([np.float32, np.float64, np.int32]),
    st.lists(st.booleans(), min_size=9, max_size=9),
    st.integers(1, 40),
)
def test_a_stream_is_the_whole(
    counts: list[int], size: int, width: int, dtype: Any, sparse: list[bool], cells: int
) -> None:
    """Streamed shingles are those of all rows at once, however the stream is cut, dense or sparse."""
    rows = series(0, sum(counts), width).dense().astype(dtype)
    parts = cut(Batch(rows), counts)
    given_parts = [
        Batch(CSR.from_dense(part.dense())) if thin else part for part, thin in zip(parts, sparse, strict=False)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shingles, "_CELLS", cells)
        if len(rows) < size:
            with pytest.raises(DataError, match=f"too few rows for a shingle: {len(rows)} of the {size}"):
                list(shingle_batches(given_parts, size))
            return
        made = list(shingle_batches(given_parts, size))
    assert all(batch.features.dtype == dtype for batch in made)
    assert all(len(batch) == 1 or batch.dense().size <= cells for batch in made)
    assert np.array_equal(np.concatenate([batch.dense() for batch in made]), shingle(rows, size))


def test_rows_are_copied() -> None:
    """One buffer may serve for all batches."""
    buffer = np.empty((2, 1))

    def batches() -> Iterator[Batch]:
        for i in range(3):
            buffer[:] = i
            yield Batch(buffer)

    made = list(shingle_batches(batches(), 5))
    assert [batch.dense().tolist() for batch in made] == [[[0, 0, 1, 1, 2], [0, 1, 1, 2, 2]]]


def test_shingles_of_a_wide_matrix_fit_into_memory() -> None:
    """Sparse rows become dense a few at a time, of which terabytes would be needed together."""
    rows = 1_000_000
    wide = CSR(np.arange(rows + 1), np.full(rows, 7), np.ones(rows, np.float32), (rows, 1_000_000))
    first = next(shingle_batches([Batch(wide)], 2))
    assert np.flatnonzero(first.dense()[0]).tolist() == [7, 1_000_007]


def test_labels_of_several_values() -> None:
    """Rows of labels stay whole; batches without a label get NaN."""
    labels = np.arange(6.0).reshape(3, 2)
    made = list(shingle_batches([Batch(np.ones((3, 1)), labels), Batch(np.ones((1, 1)))], 2))
    assert np.array_equal(made[0].labels, labels[1:])  # type: ignore[arg-type]
    assert np.isnan(made[1].labels).all()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("batches", "size", "sentence"),
    [
        ([], 1, "too few rows for a shingle: 0 of the 1 that one takes"),
        ([series(0, 2), series(2, 4)], 5, "too few rows for a shingle: 4 of the 5 that one takes"),
        ([series(0, 2), series(2, 4, 3)], 2, "different widths"),
        ([series(0, 2), series(2, 4, 3)], 3, "different widths"),
        ([series(0, 2)], 0, "shingle_size is 0"),
    ],
)
def test_streams_that_make_no_shingles(batches: list[Batch], size: int, sentence: str) -> None:
    """Too few rows, or rows that do not fit side by side, are refused."""
    with pytest.raises(UserError, match=sentence):
        list(shingle_batches(batches, size))


@pytest.mark.parametrize("first", ["shingle_batches", "shingle", "shingles"])
def test_the_package_exports_functions(first: str) -> None:
    """Whatever is imported first, the names of the package are no modules."""
    code = f"from clary.recordio import {first}; from clary.recordio import shingle; print(shingle([1, 2], 2).tolist())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[[1, 2]]\n"
