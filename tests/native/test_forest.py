"""The kernels of random cut forests against their twins in NumPy: trees have the same bits, scores agree."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clary import native
from clary.algorithms.forest import Forest, grow, score
from clary.recordio.batch import Array

pytestmark = pytest.mark.skipif(native.kernels is None, reason=f"the kernels are {native.STATE}")

LARGEST = float(np.finfo(np.float32).max)
TINY = float(np.finfo(np.float32).smallest_subnormal)
WIDTHS = (1, 2, 7, 8, 9, 16, 31, 48, 100)  # around the kernel's lanes
BY_HAND = Forest(
    roots=np.array([0], np.int32),
    dimensions=np.array([0, 1], np.int32),
    values=np.array([1, 2], np.float32),
    children=np.array([[~0, 1], [~1, ~2]], np.int32),
    boxes=np.array([[[0, 0], [4, 3]], [[4, 0], [4, 3]]], np.float32),
    extents=np.array([7.0, 3.0]),
    points=np.array([[0, 0], [4, 0], [4, 3]], np.float32),
    masses=np.array([2, 1, 1], np.int32),
)
"""A cut at x = 1 parts (0, 0), there twice, from (4, 0) and (4, 3), and those a cut at y = 2."""


def normal(*shape: int, seed: int = 0) -> Array:
    """Normal numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def twins_scores(forest: Forest, points: Array) -> Array:
    """Scores by NumPy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "kernels", None)
        return score(forest, points)


def twins_trees(sample: Array, seed: int = 0) -> Forest:
    """A forest by NumPy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "kernels", None)
        return grow(sample, np.random.default_rng(seed))


def check(sample: Array, points: Array, seed: int = 0) -> None:
    """Assert that both ways grow the same trees, and score points alike."""
    forest, twin = grow(sample, np.random.default_rng(seed)), twins_trees(sample, seed)
    for name, mine, other in zip(Forest._fields, forest, twin, strict=True):
        assert (name, mine.dtype, mine.shape) == (name, other.dtype, other.shape)
        assert mine.tobytes() == other.tobytes(), name
    assert score(forest, points) == pytest.approx(twins_scores(forest, points), rel=1e-6, abs=1e-7, nan_ok=True)


def test_by_hand() -> None:
    """Scores are those worked out by hand."""
    # (0, 0), of mass 2 at depth 1: (1 - 2/8) / (1 + log2 3). (8, 3): 4 of 11 at the root, 4 of 7 below, and a leaf.
    seen = 0.75 / (1 + np.log2(3))
    below = 4 / 7 / 2 + 3 / 7 / 3
    wanted = np.log2(5) * np.array([seen, 4 / 11 + 7 / 11 * below])
    assert score(BY_HAND, np.array([[0, 0], [8, 3]], np.float32)) == pytest.approx(wanted.astype(np.float32), rel=1e-6)


@pytest.mark.parametrize("d", WIDTHS)
@pytest.mark.parametrize(("trees", "size"), [(1, 1), (3, 2), (20, 60), (2, 300)])
def test_normal(d: int, trees: int, size: int) -> None:
    """Trees and scores agree for points of the sample, between them and far from them."""
    sample = normal(trees, size, d)
    check(sample, np.concatenate([sample[0], normal(150, d, seed=1) * 2, sample[0] + 100]))


@pytest.mark.parametrize("d", WIDTHS)
def test_equal_points(d: int) -> None:
    """Points that are often the same, minus zeros among them, share leaves."""
    sample = np.random.default_rng(0).integers(-1, 2, (10, 40, d)).astype(np.float32) * np.float32(-1)
    sample[:, :20] = sample[:, :1]
    check(sample, np.concatenate([sample[0], -sample[1] * 0]))


@pytest.mark.parametrize("d", WIDTHS)
@pytest.mark.parametrize("scale", [TINY, 1e-38, 3e37])
def test_extremes(d: int, scale: float) -> None:
    """The least and the greatest numbers there are; sums that are too much for float32."""
    sample = np.clip(normal(5, 30, d), -3, 3) * np.float32(scale)
    far = np.full((2, d), LARGEST, np.float32) * np.array([[1], [-1]], np.float32)
    check(sample, np.concatenate([sample[0], far, np.zeros((1, d), np.float32)]))


@pytest.mark.parametrize("d", WIDTHS)
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_not_finite(d: int, odd: float) -> None:
    """Points with a number that is none or infinite, wherever, score what the twin gives them; no tree takes them."""
    points = normal(d, d)
    points[np.diag_indices(d)] = odd
    check(normal(5, 20, d), points)
    sample = normal(2, d, d)
    sample[1, d // 2, d // 2] = odd
    for way in (grow, lambda sample, _: twins_trees(sample)):
        with pytest.raises(ValueError, match="the sample has numbers that are not finite"):
            way(sample, np.random.default_rng(0))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_numbers(data: st.DataObject) -> None:
    """Whatever finite numbers there are, both ways give the same."""
    trees, size, d = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 20)))
    numbers = st.floats(-LARGEST, LARGEST, width=32) | st.sampled_from([0.0, -0.0, 1.0, TINY, LARGEST])
    sample = data.draw(arrays(np.float32, (trees, size, d), elements=numbers))
    points = data.draw(arrays(np.float32, (5, d), elements=numbers))
    check(sample, np.concatenate([sample[0], points]), data.draw(st.integers(0, 9)))


@pytest.mark.parametrize("d", [1, 5, 48, 9000])
def test_blocks(d: int) -> None:
    """More points than go down a tree together have the scores that they have alone, to the last bit."""
    forest = grow(normal(3, 20, d), np.random.default_rng(0))
    points = normal(70 if d == 9000 else 5000, d, seed=3)
    found = score(forest, points)
    for i in (0, 14, 15, 63, 64, len(points) - 1):
        assert score(forest, points[i : i + 1])[0] == found[i]
    assert np.array_equal(score(forest, points[::-1])[::-1], found)


def test_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python hands points over in pieces, which makes no difference."""
    forest, points = grow(normal(3, 20, 4), np.random.default_rng(0)), normal(50, 4)
    found = score(forest, points)
    monkeypatch.setattr("clary.algorithms.forest._ROWS", 7)
    assert np.array_equal(score(forest, points), found)
    assert score(forest, points[:0]).shape == (0,)


def test_layouts() -> None:
    """Arrays that are not contiguous, may not be written to, or begin between the places of numbers are taken."""
    sample = np.asfortranarray(normal(4, 10, 3))
    points = normal(20, 6)[:, ::2]
    points.setflags(write=False)
    check(sample, points)
    room = np.empty(points.nbytes + 1, np.uint8)[1:]
    askew = np.frombuffer(room, np.float32).reshape(points.shape)
    askew[...] = points
    check(sample, askew)


def test_other_numbering() -> None:
    """Forests whose nodes are not tree by tree, as artifacts have had them, are scored the same."""
    forest = grow(normal(6, 30, 5), np.random.default_rng(0))
    nodes = np.argsort(np.arange(len(forest.values)) % 29, kind="stable")  # every tree's first node, every second, …
    places = np.argsort(nodes).astype(np.int32)
    mixed = {name: getattr(forest, name)[nodes] for name in ("dimensions", "values", "boxes", "extents", "children")}
    links = mixed["children"]
    mixed["children"] = np.where(links < 0, links, places[np.maximum(links, 0)])
    other = forest._replace(roots=places[forest.roots], **mixed)
    assert not np.array_equal(other.children, forest.children)
    points = normal(50, 5, seed=1)
    assert np.array_equal(score(other, points), score(forest, points))


def test_deep_chain() -> None:
    """A tree that is one chain of 16,383 cuts is gone down without recursion."""
    size = 1 << 14
    points = np.arange(size, dtype=np.float32)[:, None]
    forest = Forest(
        roots=np.zeros(1, np.int32),
        dimensions=np.zeros(size - 1, np.int32),
        values=points[:-1, 0],
        children=np.stack([~np.arange(size - 1), np.append(np.arange(1, size - 1), ~(size - 1))], 1).astype(np.int32),
        boxes=np.stack([points[:-1], np.full((size - 1, 1), size - 1, np.float32)], axis=1),
        extents=size - 1.0 - np.arange(size - 1),
        points=points,
        masses=np.ones(size, np.int32),
    )
    asked = np.array([[0], [size - 1], [size + 5], [-3]], np.float32)
    assert score(forest, asked) == pytest.approx(twins_scores(forest, asked), rel=1e-6)


@pytest.mark.parametrize(("name", "change"), [*product(Forest._fields[1:], (-1, 1)), ("roots", -1)])
def test_lengths(name: str, change: int) -> None:
    """Arrays of a forest whose lengths do not agree are refused."""
    array = getattr(BY_HAND, name).reshape(-1)
    other = np.resize(array, len(array) + change)
    with pytest.raises(ValueError, match=r"the lengths of the arrays do not agree|the arrays make no forest"):
        score(BY_HAND._replace(**{name: other}), np.zeros((1, 2), np.float32))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("roots", 2),
        ("roots", -4),
        ("roots", -(2**31)),
        ("dimensions", 2),
        ("dimensions", -1),
        ("children", 0),
        ("children", 2),
        ("children", 2**31 - 1),
        ("children", -4),
        ("children", -(2**31)),
    ],
)
def test_wild_links(name: str, value: int) -> None:
    """Links and dimensions that lead out of the arrays, or round in a circle, are refused."""
    array = getattr(BY_HAND, name).copy()
    array.reshape(-1)[-1] = value
    with pytest.raises(ValueError, match="the arrays make no forest"):
        score(BY_HAND._replace(**{name: array}), np.array([[9, 9]], np.float32))


def test_width_of_rows() -> None:
    """Rows of another width than the forest's are refused."""
    for d in (1, 3):
        with pytest.raises(ValueError, match="do not agree"):
            score(BY_HAND, np.zeros((6, d), np.float32))


def test_arguments() -> None:
    """The kernels count their arguments, refuse buffers that begin amid a number, and dimensions that cannot be."""
    kernels, rows, scores = native.kernels, np.zeros((1, 2), np.float32), np.zeros(1, np.float32)
    with pytest.raises(TypeError, match="expected 11 arguments"):
        kernels.score_forest(*BY_HAND, rows, scores)
    with pytest.raises(TypeError, match="expected 13 arguments"):
        kernels.grow_forest()
    for d in (0, -1, -5, 1, 2**24 + 1, 2**62, 2**63 - 1):
        with pytest.raises(ValueError, match="do not agree"):
            kernels.score_forest(*BY_HAND, rows, scores, d)
    with pytest.raises(OverflowError):
        kernels.score_forest(*BY_HAND, rows, scores, 2**70)
    amid = np.zeros(9, np.uint8)[1:].view(np.float32)
    with pytest.raises(ValueError, match="do not agree"):
        kernels.score_forest(*BY_HAND, amid, scores, 2)
    scores.setflags(write=False)
    with pytest.raises((BufferError, ValueError)):
        kernels.score_forest(*BY_HAND, rows, scores, 2)


def room(trees: int, size: int, d: int) -> list[Array]:
    """Arguments for growing, all but the last two."""
    nodes, leaves = trees * (size - 1), trees * size
    return [
        *(normal(leaves * d), np.full(2 * nodes, 0.5), np.zeros(trees, np.int32), np.zeros(nodes, np.int32)),
        *(np.zeros(nodes, np.float32), np.zeros(2 * nodes, np.int32), np.zeros(2 * nodes * d, np.float32)),
        *(np.zeros(nodes), np.zeros(leaves * d, np.float32), np.zeros(leaves, np.int32), np.zeros(2 * trees, np.int32)),
    ]


@pytest.mark.parametrize("which", range(11))
@pytest.mark.parametrize("change", [-1, 1])
def test_lengths_for_growing(which: int, change: int) -> None:
    """Room for trees that is too small or too large is refused."""
    given = room(4, 5, 3)
    given[which] = np.resize(given[which], len(given[which]) + change)
    with pytest.raises(ValueError, match="do not agree"):
        native.kernels.grow_forest(*given, 5, 3)


@pytest.mark.parametrize(("size", "d"), [(0, 3), (-1, 3), (5, 0), (5, -1), (2**62, 3), (5, 2**62), (4, 3), (5, 4)])
def test_shapes_for_growing(size: int, d: int) -> None:
    """Shapes that the room has not are refused."""
    with pytest.raises(ValueError, match="do not agree"):
        native.kernels.grow_forest(*room(4, 5, 3), size, d)


@pytest.mark.parametrize("chance", [np.nan, np.inf, -np.inf, -1.0, 7.0, 1.0, 1e300])
def test_wild_chances(chance: float) -> None:
    """Chances that are none never lead out of the room."""
    given = room(4, 5, 3)
    given[0][::3] = 0  # a dimension without extent
    given[1][:] = chance
    try:
        native.kernels.grow_forest(*given, 5, 3)
    except ValueError as error:
        assert str(error) == "the sample has numbers that are not finite"


def test_threads() -> None:
    """Threads that score with one forest at once get what one gets alone."""
    forest, points = grow(normal(20, 60, 9), np.random.default_rng(0)), normal(3000, 9)
    wanted = score(forest, points)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: score(forest, points), range(16)):
            assert np.array_equal(found, wanted)
