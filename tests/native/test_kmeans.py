"""Kernels of k-means against hand-made numbers and their NumPy twins."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clary import native
from clary.algorithms.kmeans import KMeansModel, State, update
from clary.algorithms.lloyd import Centres
from clary.algorithms.rows import Piece
from clary.errors import ChannelError
from clary.recordio.batch import Array

pytestmark = pytest.mark.skipif(native.kernels is None, reason=f"no kernels: {native.STATE}")

KERNELS = native.kernels

T = TypeVar("T")

CENTRES = (1, 2, 7, 8, 9, 16, 50, 100, 104, 105, 210)
"""Numbers of centres: alone, whole vectors, whole tiles, and what is left over."""


def by_twin(function: Callable[[], T]) -> T:
    """What NumPy makes of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "kernels", None)
        return function()


def random_rows(seed: int, count: int, width: int, share: float = 0.3) -> Array:
    """Dense rows that are mostly zeros."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random((count, width)) < share, rng.normal(size=(count, width)), 0).astype(np.float32)


def assigned(rows: Array, centres: Array) -> tuple[Array, Array, Array, Array]:
    """Labels, squared distances, sums and counts."""
    sums, counts = np.ones(centres.shape), np.ones(len(centres))
    return *Centres(None, centres).assign(Piece(rows, None), sums, counts), sums, counts


def test_by_hand() -> None:
    """Rows go to the closest centre, the first of several, with the squared distance; sums and counts grow."""
    rows = np.array([[1, 0, 0], [0, 0, 7], [0, -0.0, 0], [4, 0, 0]], np.float32)
    labels, squared, sums, counts = assigned(rows, np.array([[8, 0, 0], [0, 0, 0], [0, 0, 8]], np.float32))
    assert labels.tolist() == [1, 2, 1, 0]
    assert squared.tolist() == [1, 1, 0, 16]
    assert sums.tolist() == [[5, 1, 1], [2, 1, 1], [1, 1, 8]]
    assert counts.tolist() == [2, 3, 2]


@pytest.mark.parametrize("k", CENTRES)
@pytest.mark.parametrize("width", [1, 7, 8, 63, 64, 65, 200, 1000])
def test_assigned_as_by_the_twin(k: int, width: int) -> None:
    """Any number of centres in any number of columns gives what NumPy gives, but for rounding."""
    rows, centres = random_rows(k, 150, width), random_rows(width, k, width, 0.6)
    ours, twin = assigned(rows, centres), by_twin(lambda: assigned(rows, centres))
    assert np.allclose(ours[1], twin[1], rtol=1e-4, atol=1e-4)
    same = ours[0] == twin[0]
    assert same.mean() > 0.95  # rounding decides between centres that are equally far
    assert not same.all() or all(np.allclose(mine, its, atol=1e-4) for mine, its in zip(ours, twin, strict=True))


@settings(deadline=None, max_examples=80)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 80),
    width=st.integers(1, 140),
    k=st.integers(1, 30),
    share=st.floats(0, 0.4),
)
def test_any_rows(seed: int, count: int, width: int, k: int, share: float) -> None:
    """Each row's distance is the least there is, whatever rows there are, also none."""
    rows, centres = random_rows(seed, count, width, share), random_rows(seed + 1, k, width, 1)
    labels, squared, sums, counts = assigned(rows, centres)
    exact = np.square(rows[:, None].astype(np.float64) - centres).sum(axis=2)
    assert np.allclose(squared, exact.min(axis=1, initial=np.inf), rtol=1e-4, atol=1e-4)
    assert np.allclose(exact[np.arange(count), labels], squared, rtol=1e-4, atol=1e-4)
    expected = np.ones(centres.shape)
    np.add.at(expected, labels, rows)
    assert np.allclose(sums, expected, atol=1e-4)
    assert (counts == 1 + np.bincount(labels, minlength=k)).all()


def test_sums_of_many_rows() -> None:
    """Sums of many rows are exact to float64's digits but for those of the few thousand rows added at a time."""
    rows = np.zeros((100_000, 3), np.float32)
    rows[:, 0] = np.float32(0.1)
    _, _, sums, counts = assigned(rows, np.zeros((1, 3), np.float32))
    assert counts.tolist() == [100_001]
    assert sums[0, 0] == pytest.approx(1 + 100_000 * float(np.float32(0.1)), rel=2e-5)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3e38])
def test_strange_numbers(value: float) -> None:
    """Numbers that are none, or have no square, give distances that are none, as NumPy's do; training refuses them."""
    rows = np.zeros((20, 70), np.float32)
    rows[3, 5] = value
    centres = random_rows(0, 9, 70, 1)
    squared = assigned(rows, centres)[1]
    assert np.isfinite(squared).tolist() == [i != 3 for i in range(20)]
    with np.errstate(all="ignore"):
        twin = by_twin(lambda: assigned(rows, centres)[1])
    assert np.isfinite(twin).tolist() == np.isfinite(squared).tolist()
    with pytest.raises(ChannelError, match="too large"), np.errstate(all="ignore"):
        update(State(centres, np.ones(9)), rows)


@pytest.mark.parametrize("form", ["float64", "columns", "rows", "fortran", "askew"])
def test_other_forms(form: str) -> None:
    """Rows of float64, and those that are not side by side in memory or begin at an odd place, get the same answers."""
    rows, centres = random_rows(1, 60, 40), random_rows(2, 10, 40, 1)
    wide = np.zeros((60, 80), np.float32)
    wide[:, ::2] = rows
    long, askew = np.repeat(rows, 2, axis=0), np.frombuffer(b"1" + rows.tobytes(), "<f4", offset=1).reshape(rows.shape)
    assert not askew.flags.aligned
    forms = {"float64": rows.astype(np.float64), "columns": wide[:, ::2], "rows": long[::2], "fortran": rows.T.copy().T}
    forms["askew"] = askew
    columns, others = (KMeansModel(centres).predict(x).columns for x in (rows, forms[form]))
    assert columns["closest_cluster"].tolist() == others["closest_cluster"].tolist()
    assert np.allclose(columns["distance_to_cluster"], others["distance_to_cluster"], rtol=1e-6)


def test_centres_by_columns() -> None:
    """Centres that lie in memory column by column learn the same."""
    rows, centres = random_rows(1, 60, 40), random_rows(2, 10, 40, 1)
    (plain, error), (other, same) = (update(State(x, np.ones(10)), rows) for x in (centres, np.asfortranarray(centres)))
    assert plain.centres.tolist() == other.centres.tolist() and error == same


@pytest.mark.parametrize("width", [5, 9, 20])
def test_rows_of_another_width(width: int) -> None:
    """Rows that have more or fewer columns than the centres are refused, whether or not kernels do the work."""
    rows, centres = random_rows(1, 4, width), random_rows(2, 3, 10, 1)
    for ask in (lambda: update(State(centres, np.ones(3)), rows), lambda: KMeansModel(centres).predict(rows)):
        for refuse in (ask, lambda ask=ask: by_twin(ask)):
            with pytest.raises(ValueError, match="mismatch"):
                refuse()


def test_kernels_do_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are mostly zeros, and few rows of any kind, are the kernels'; what is compared here is not one twin."""
    called: list[str] = []

    def counting(name: str) -> Callable[..., Any]:
        return lambda *arguments: called.append(name) or getattr(KERNELS, name)(*arguments)

    names = ["kmeans_assign", "kmeans_distances", "kmeans_answers"]
    monkeypatch.setattr(native, "kernels", SimpleNamespace(**{name: counting(name) for name in names}))
    for rows in (random_rows(1, 150, 40), random_rows(1, 8, 40, 1)):
        KMeansModel(random_rows(2, 10, 40, 1)).predict(rows)
    assert called == names


@pytest.mark.parametrize("count", [1, 5, 500])
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_predictions_as_by_the_twin(count: int, share: float) -> None:
    """Answers for one row and for many, of zeros or without any, are the twin's."""
    rows, centres = random_rows(4, count, 90, share), random_rows(5, 10, 90, 1)
    ours, twin = KMeansModel(centres).predict(rows), by_twin(lambda: KMeansModel(centres).predict(rows))
    for name, column in ours.columns.items():
        assert column.dtype == twin.columns[name].dtype == np.float32
        assert np.allclose(column, twin.columns[name], rtol=1e-5)


@pytest.mark.parametrize("short", [1, 3, 4, 5, 6])
def test_short_buffers(short: int) -> None:
    """Buffers that are too short are errors."""
    arguments = fitting()
    native.kernels.kmeans_assign(*arguments)
    arguments[short] = arguments[short].ravel()[:-1]
    with pytest.raises(ValueError, match="too short"):
        native.kernels.kmeans_assign(*arguments)


@pytest.mark.parametrize("d", [10, 0, -1, 2**31, 2**62, 2**63 - 1])
@pytest.mark.parametrize("width", [0, -8, 7, 112, 2**62, 2**63 - 8])
def test_sizes_without_sense(d: int, width: int) -> None:
    """So are sizes that make no sense."""
    with pytest.raises(ValueError, match="too short"):
        native.kernels.kmeans_assign(*fitting()[:7], d, width)


@pytest.mark.parametrize("k", [0, 4, 9])
def test_other_numbers_of_centres(k: int) -> None:
    """So are more centres than there is room for, and none."""
    arguments = fitting()
    arguments[2] = np.zeros(k, np.float32)
    with pytest.raises(ValueError, match="too short"):
        native.kernels.kmeans_assign(*arguments)


def fitting() -> list[Any]:
    """Arguments that fit together."""
    rows, tiles, norms = np.zeros((4, 10), np.float32), np.zeros((1, 10, 8), np.float32), np.zeros(3, np.float32)
    labels, squared, sums, counts = np.zeros(4, np.int64), np.zeros(4, np.float32), np.zeros((3, 10)), np.zeros(3)
    return [rows, tiles, norms, labels, squared, sums, counts, 10, 8]


def test_hostile_labels() -> None:
    """Labels that are no centre's, and buffers that are too short, are errors."""
    rows, centres, labels, squared = (
        np.zeros((2, 3), np.float32),
        np.zeros((2, 3), np.float32),
        [0, 1],
        np.zeros(2, "f4"),
    )
    good = np.array(labels, np.int64)
    native.kernels.kmeans_distances(rows, centres, good, squared, 3)
    for wrong in (good + 1, good - 1, good[:1]):
        with pytest.raises(ValueError, match="outside"):
            native.kernels.kmeans_distances(rows, centres, wrong, squared, 3)
    for arguments in ((rows, centres, good, squared[:1], 3), (rows, centres, good, squared, 0)):
        with pytest.raises(ValueError, match="outside"):
            native.kernels.kmeans_distances(*arguments)


@pytest.mark.parametrize("far", [0, 1000])
@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("k", CENTRES)
def test_answers_are_those_of_pieces(k: int, count: int, far: float) -> None:
    """A few rows get the same answers, to the bit, by one kernel as by two; also NaN, and wherever they are."""
    rows, centres = random_rows(k, count, 65) + np.float32(far), random_rows(count, k, 65, 0.6) + np.float32(far)
    rows[-1, 3] = np.nan if k % 2 else 0
    model = KMeansModel(centres)
    found = list(model.predict(rows).columns.values())
    assert model._seen.answers(rows) is not None
    for ours, pieces in zip(found, model._of_pieces(rows), strict=True):
        assert ours.dtype == np.float32 and ours.tobytes() == pieces.tobytes()


@pytest.mark.parametrize("which", [1, 3, 4, 5])
def test_answers_of_short_buffers(which: int) -> None:
    """Buffers that are too short for the rows and the norms are refused."""
    shapes = ((2, 5), (1, 5, 8), (3,), (3, 5), (2,), (2,))
    buffers = [np.ones(shape, np.float32) for shape in shapes]
    native.kernels.kmeans_answers(*buffers, 5, 8)
    buffers[which] = buffers[which].ravel()[:-1].copy()
    with pytest.raises(ValueError, match=r"."):
        native.kernels.kmeans_answers(*buffers, 5, 8)
    with pytest.raises(ValueError, match=r"."):
        native.kernels.kmeans_answers(*buffers, 0, 8)
