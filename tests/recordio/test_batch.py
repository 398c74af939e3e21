"""Batches and the small CSR matrix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.errors import DataError
from clary.recordio.batch import CSR, Batch, alike, concatenate, rebatch, split_labels

DENSE = np.array([[0.0, 0.0, 7.0], [0.0, 0.0, 0.0], [1.0, 2.0, 0.0], [0.0, 3.0, 0.0]])


def rows(start: int, stop: int) -> Batch:
    """Return labelled rows that say their number."""
    numbers = np.arange(start, stop, dtype=np.float32)
    return Batch(np.stack([numbers, -numbers], axis=1), numbers)


def test_csr_and_back() -> None:
    """A dense array is the same after its way through CSR."""
    csr = CSR.from_dense(DENSE)
    assert csr.indptr.tolist() == [0, 1, 1, 3, 4]
    assert csr.row_of.tolist() == [0, 2, 2, 3]
    assert np.array_equal(csr.toarray(), DENSE)


@pytest.mark.parametrize(("start", "stop"), [(0, 4), (1, 3), (2, 2), (3, 1), (0, 99), (-2, None)])
def test_csr_slice(start: int, stop: int | None) -> None:
    """A slice of a CSR matrix is the slice of its rows."""
    part = CSR.from_dense(DENSE)[start:stop]
    assert np.array_equal(part.toarray(), DENSE[start:stop])
    assert len(part) == len(DENSE[start:stop])


def test_csr_adds_what_shares_a_place() -> None:
    """Values with one key are added, as scipy does."""
    assert CSR(np.array([0, 2]), np.array([1, 1]), np.array([2.0, 3.0]), (1, 2)).toarray().tolist() == [[0.0, 5.0]]


def test_csr_with_scipy() -> None:
    """A scipy matrix is the same after its way through CSR."""
    sparse = pytest.importorskip("scipy.sparse")
    csr = CSR.from_scipy(sparse.coo_array(DENSE))
    assert np.array_equal(csr.toarray(), DENSE)
    assert np.array_equal(csr.to_scipy().toarray(), DENSE)


def test_batch_slice() -> None:
    """A slice of a batch is that of all it holds, without a copy."""
    batch = Batch(DENSE, np.arange(4), np.ones(4), tuple((str(i), "") for i in range(4)))
    part = batch[1:3]
    assert part.labels is not None
    assert (len(part), part.width, part.labels.tolist(), part.ids) == (2, 3, [1, 2], (("1", ""), ("2", "")))
    assert np.shares_memory(part.dense(), DENSE)


@pytest.mark.parametrize("sparse", [False, True])
def test_batch_of_another_dtype(sparse: bool) -> None:
    """Features and labels get a dtype; the numbers stay."""
    batch = Batch(CSR.from_dense(DENSE) if sparse else DENSE, np.arange(4)).astype(np.float32)
    assert batch.labels is not None
    assert (batch.features.dtype, batch.labels.dtype) == (np.float32, np.float32)
    assert np.array_equal(batch.dense(), DENSE)


def test_concatenate_owns_its_memory() -> None:
    """What was joined no longer changes with its parts."""
    features = DENSE.copy()
    joined = concatenate([Batch(features)])
    features[:] = -1
    assert np.array_equal(joined.dense(), DENSE)


def test_concatenate_dense_and_sparse() -> None:
    """Dense and sparse rows together are sparse."""
    joined = concatenate([Batch(DENSE), Batch(CSR.from_dense(DENSE))])
    assert isinstance(joined.features, CSR)
    assert np.array_equal(joined.dense(), np.concatenate([DENSE, DENSE]))


def test_concatenate_fills_labels() -> None:
    """Rows without a label among labelled ones get NaN, those without an identity empty texts."""
    joined = concatenate([rows(1, 3), Batch(DENSE[:1, :2], ids=(("u", "m"),))])
    assert joined.labels is not None
    assert np.array_equal(joined.labels, [1, 2, np.nan], equal_nan=True)
    assert joined.ids == (("", ""), ("", ""), ("u", "m"))


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "no rows"),
        ([Batch(np.ones((1, 2))), Batch(np.ones((1, 3)))], "different widths"),
        ([Batch(np.ones((1, 2)), np.ones(1)), Batch(np.ones((1, 2)), np.ones((1, 2)))], "different numbers of values"),
    ],
)
def test_concatenate_refuses(batches: list[Batch], message: str) -> None:
    """Rows that do not fit together are refused."""
    with pytest.raises(DataError, match=message):
        concatenate(batches)


@given(st.lists(st.integers(0, 9), max_size=9), st.integers(1, 12), st.booleans())
def test_rebatch(counts: list[int], size: int, sparse: bool) -> None:
    """Batches of an exact size hold the same rows in the same order."""
    ends = np.cumsum([0, *counts])
    parts = [rows(start, stop) for start, stop in pairwise(ends.tolist())]
    given_parts = [Batch(CSR.from_dense(part.dense()), part.labels) for part in parts] if sparse else parts
    made = list(rebatch(given_parts, size))
    assert [len(batch) for batch in made] == [min(size, ends[-1] - at) for at in range(0, ends[-1], size)]
    assert [batch.dense().tolist() for batch in made] == [
        rows(at, min(at + size, ends[-1])).dense().tolist() for at in range(0, ends[-1], size)
    ]


def ranked(start: int, stop: int) -> Batch:
    """Rows with query numbers."""
    return replace(rows(start, stop), queries=np.arange(start, stop) // 3)


def test_queries_follow_their_rows() -> None:
    """Query numbers are sliced, joined and dealt out with their rows, and stay whole numbers."""
    parts = [ranked(0, 4), ranked(4, 4), Batch(np.empty((0, 2))), ranked(4, 9).astype(np.float64)]
    expected = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for batch in (concatenate(parts), next(rebatch(parts, 9))):
        assert batch.queries is not None
        assert (batch.queries.dtype, batch.queries.tolist()) == (np.int64, expected)
    dealt = [batch.queries for batch in rebatch(parts, 2)]
    assert np.concatenate([queries for queries in dealt if queries is not None]).tolist() == expected
    middle = ranked(0, 9)[2:4].queries
    assert middle is not None
    assert middle.tolist() == [0, 1]


def test_queries_of_no_rows() -> None:
    """A batch without rows gives the others no query numbers."""
    assert concatenate([ranked(0, 0), rows(0, 3)]).queries is None


def test_queries_of_some_rows() -> None:
    """Rows with and without a query number do not fit together, even in different batches."""
    message = r"some rows have a query number \(qid:\) and some have none"
    with pytest.raises(DataError, match=message):
        concatenate([ranked(0, 2), rows(2, 3)])
    for size in (2, 4):
        with pytest.raises(DataError, match=message):
            list(rebatch([rows(0, 2), ranked(2, 4)], size))


def test_split_labels() -> None:
    """The first columns become labels: none, one of shape (n,), or several; some feature has to be left."""
    assert split_labels(DENSE, 0).labels is None
    one, two = split_labels(DENSE, 1), split_labels(DENSE, 2)
    assert one.labels is not None and two.labels is not None
    assert (one.labels.shape, one.width, two.labels.shape, two.width) == ((4,), 2, (4, 2), 1)
    for size in (-1, 3):
        with pytest.raises(DataError, match=f"label_size is {size}, but rows have 3 fields: no features are left"):
            split_labels(DENSE, size)


def test_rebatch_copies() -> None:
    """Rows are copied before the next batch is asked for, so one buffer may serve for all."""
    buffer = np.empty((2, 1))

    def batches() -> Iterator[Batch]:
        for i in range(3):
            buffer[:] = i
            yield Batch(buffer)

    (made,) = rebatch(batches(), 6)
    assert made.dense().ravel().tolist() == [0, 0, 1, 1, 2, 2]


def test_rebatch_takes_no_memory_ahead() -> None:
    """An enormous size costs what the rows need, not what it could hold."""
    (made,) = rebatch([rows(0, 5), rows(5, 9)], 1 << 40)
    assert np.array_equal(made.dense(), rows(0, 9).dense())


def test_rebatch_mixed() -> None:
    """Dense rows, sparse rows and rows of another dtype make one batch."""
    parts = [rows(0, 2), Batch(CSR.from_dense(rows(2, 4).dense())), rows(4, 6).astype(np.float64)]
    (made,) = rebatch(parts, 6)
    assert np.array_equal(made.dense(), rows(0, 6).dense())


def test_alike_keeps_zeros_among_missing_values() -> None:
    """Dense rows beside sparse ones keep their zeros as values, and get the width of the widest."""
    dense = Batch(np.array([[0, 5]], np.float32))
    sparse = Batch(CSR.from_dense(np.array([[0, 0, 7]], np.float32)))
    one, other = alike([dense, sparse])
    assert isinstance(one.features, CSR) and isinstance(other.features, CSR)
    assert (one.features.indices.tolist(), one.features.values.tolist()) == ([0, 1], [0, 5])
    assert other.features.indices.tolist() == [2]
    assert one.width == other.width == 3


def test_alike_fills_dense_rows_with_nan() -> None:
    """Dense rows that lack columns of others get NaN."""
    [one, other] = alike([Batch(np.ones((1, 1), np.float32)), Batch(np.ones((1, 2), np.float32))])
    assert np.array_equal(one.dense(), [[1, np.nan]], equal_nan=True)
    assert other.dense().tolist() == [[1, 1]]
