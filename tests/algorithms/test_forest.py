"""Random cut trees: how they grow, and their scores against numbers made by hand and the published recursion."""

import math
from collections.abc import Iterator

import numpy as np
import pytest

from clary.algorithms.forest import Forest, grow, score, sizes
from clary.recordio.batch import Array

LARGEST = float(np.finfo(np.float32).max)


def by_hand(first: int = 1) -> Forest:
    """A tree of (0, 0), `first` times, which a cut at x = 1 parts from (4, 0) and (4, 3), and those a cut at y = 2."""
    return Forest(
        roots=np.array([0], np.int32),
        dimensions=np.array([0, 1], np.int32),
        values=np.array([1, 2], np.float32),
        children=np.array([[~0, 1], [~1, ~2]], np.int32),
        boxes=np.array([[[0, 0], [4, 3]], [[4, 0], [4, 3]]], np.float32),
        extents=np.array([7.0, 3.0]),
        points=np.array([[0, 0], [4, 0], [4, 3]], np.float32),
        masses=np.array([first, 1, 1], np.int32),
    )


def below(forest: Forest, link: int) -> Array:
    """The points below a node or leaf, as often as they were given, after a check of all there is between."""
    if link < 0:
        return np.repeat(forest.points[~link][None], forest.masses[~link], axis=0)
    left, right = (below(forest, int(child)) for child in forest.children[link])
    dimension, value = forest.dimensions[link], forest.values[link]
    assert len(left) and len(right)
    assert (left[:, dimension] <= value).all() and (right[:, dimension] > value).all()
    points = np.concatenate([left, right])
    box = np.stack([points.min(axis=0), points.max(axis=0)])
    assert np.array_equal(forest.boxes[link], box)
    assert forest.extents[link] == pytest.approx(float(np.diff(box.astype(float), axis=0).sum()), rel=1e-12)
    return points


def rows_in_order(points: Array) -> list[list[float]]:
    """The rows, sorted."""
    return sorted((points + 0.0).tolist())


def check(forest: Forest, sample: Array) -> None:
    """Assert that a forest is one of these trees."""
    assert len(forest.roots) == len(sample) and forest.size == sample.shape[1]
    assert [array.dtype.name for array in forest] == [
        *("int32", "int32", "float32", "int32", "float32", "float64", "float32", "int32")
    ]
    distinct = np.array([len(np.unique(part + 0.0, axis=0)) for part in sample])
    for root, part in zip(forest.roots.tolist(), sample, strict=True):
        assert rows_in_order(below(forest, root)) == rows_in_order(part)
    assert sizes(forest)[0].tolist() == (2 * distinct - 1).tolist()
    assert len(forest.points) == distinct.sum() == len(forest.values) + len(sample)


def visitor(forest: Forest, root: int, point: list[float]) -> float:
    """The published recursion in double precision, from the leaf to the root, for one tree."""
    path: list[int] = []
    link = root
    while link >= 0:
        path.append(link)
        link = int(forest.children[link, int(point[forest.dimensions[link]] > forest.values[link])])
    mass, depth = int(forest.masses[~link]), len(path)
    if forest.points[~link].tolist() == point:
        return (1 - mass / (2 * forest.size)) / (depth + math.log2(mass + 1))
    found = 1 / (depth + 1)
    for above in reversed(path):
        depth -= 1
        sides = list(zip(*forest.boxes[above].tolist(), strict=True))
        old = sum(high - low for low, high in sides)
        new = sum(max(high, x) - min(low, x) for (low, high), x in zip(sides, point, strict=True))
        if new == old:
            break
        chance = (new - old) / new
        found = chance / (depth + 1) + (1 - chance) * found
    return found


def by_visitor(forest: Forest, points: Array) -> list[float]:
    """Scores by the published recursion."""
    roots, factor = forest.roots.tolist(), math.log2(forest.size + 1)
    return [factor * sum(visitor(forest, root, point) for root in roots) / len(roots) for point in points.tolist()]


def test_points_of_the_tree() -> None:
    """A leaf's own point scores (1 - m/2M) / (depth + log2(m + 1)) times log2(M + 1)."""
    found = score(by_hand(), np.array([[0, 0], [4, 0], [4, 3]], np.float32))
    assert found.dtype == np.float32
    assert found.tolist() == pytest.approx([2 * (5 / 6) / 2, 2 * (5 / 6) / 3, 2 * (5 / 6) / 3])


def test_inside_all_boxes() -> None:
    """A point inside the boxes of all nodes on its way, and none of the tree, scores 1/(depth + 1)."""
    assert score(by_hand(), np.array([[4, 1]], np.float32)).tolist() == pytest.approx([2 / 3])


def test_outside_a_child() -> None:
    """A point inside the root's box and outside the child's is parted by the child's cut with chance 2/5."""
    assert score(by_hand(), np.array([[2, 1]], np.float32)).tolist() == pytest.approx([2 * (2 / 5 / 2 + 3 / 5 / 3)])


def test_outside_all() -> None:
    """A point outside all boxes is parted with chance 1/2 by the child's cut, and with chance 3/10 by the root's."""
    child = 1 / 2 / 2 + 1 / 2 / 3
    assert score(by_hand(), np.array([[7, 0]], np.float32)).tolist() == pytest.approx([2 * (3 / 10 + 7 / 10 * child)])


def test_duplicate() -> None:
    """A point that the tree has twice among four scores 3/4 / (1 + log2(3)) times log2(5)."""
    found = score(by_hand(2), np.zeros((1, 2), np.float32)).tolist()
    assert found == pytest.approx([3 / 4 * math.log2(5) / (1 + math.log2(3))])


def test_depths_by_hand() -> None:
    """A tree of three leaves has five nodes, and the depth of the deepest leaf."""
    assert [counts.tolist() for counts in sizes(by_hand())] == [[5], [2]]


def samples() -> Iterator[tuple[str, Array]]:
    """Trees of all kinds."""
    rng = np.random.default_rng(5)
    for d in (1, 3, 48):
        yield f"normal, {d}", rng.normal(size=(4, 40, d))
        yield f"duplicates, {d}", rng.integers(0, 3, (4, 40, d)) * (rng.random((4, 40, 1)) < 0.7)
        yield f"huge, {d}", rng.uniform(-1, 1, (4, 20, d)) * LARGEST
        yield f"one point, {d}", rng.normal(size=(3, 1, d))
        yield f"all equal, {d}", np.ones((3, 8, d))
        yield f"one tree, {d}", rng.normal(size=(1, 30, d))
    yield "constant columns", rng.normal(size=(4, 30, 5)) * [0, 1, 0, 2, 0] + 7
    yield "one tree of equal points among others", np.where(np.arange(4)[:, None, None] == 2, 1, rng.random((4, 9, 2)))
    yield "two halves", np.sign(rng.normal(size=(4, 30, 3))) * 3e38
    yield "powers", np.tile(np.ldexp(1.0, np.arange(-149, 128)), (2, 1))[..., None]
    yield "powers in each direction", np.eye(100)[None] * np.ldexp(1.0, np.arange(-60, 40))
    yield "integers", rng.integers(0, 1000, (4, 60, 2))
    yield "least numbers", rng.integers(0, 4, (4, 20, 2)) * 2.0**-149
    yield "zeros", rng.choice([0.0, -0.0, 1.0], (4, 12, 2))
    close = [np.float32(1e9)]
    for _ in range(9):
        close.append(np.nextafter(close[-1], np.float32(np.inf)))
    yield "neighbours", rng.permuted(np.tile(close, (5, 1)), axis=1)[..., None]
    yield "neighbours of the largest", np.array([[[LARGEST], [np.nextafter(np.float32(LARGEST), np.float32(0))]]])
    yield "neighbours of the least", -np.array([[[LARGEST], [np.nextafter(np.float32(LARGEST), np.float32(0))]]])
    yield "the whole range", np.array([[[-LARGEST], [LARGEST]]])


@pytest.mark.parametrize("sample", [pytest.param(sample, id=name) for name, sample in samples()])
def test_grown(sample: Array) -> None:
    """Each tree has its points, exact boxes, children parted by the cut, and two nodes less one a distinct point."""
    sample = sample.astype(np.float32)
    before = sample.copy()
    check(grow(sample, np.random.default_rng(0)), sample)
    assert np.array_equal(sample, before)


class Always(np.random.Generator):
    """One number instead of random ones."""

    def __init__(self, number: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.number = number

    def random(self, size: int) -> Array:  # type: ignore[override]
        """The number, `size` times."""
        return np.full(size, self.number)


@pytest.mark.parametrize("number", [0, 1 - 2.0**-53])
@pytest.mark.parametrize("sample", [pytest.param(sample, id=name) for name, sample in samples()])
def test_bounds_of_chance(sample: Array, number: float) -> None:
    """The least and the greatest random number there is make good trees."""
    sample = np.pad(sample, ((0, 0), (0, 0), (1, 1))).astype(np.float32)
    check(grow(sample, Always(number)), sample)


@pytest.mark.parametrize("sample", [pytest.param(sample, id=name) for name, sample in samples()])
def test_published_recursion(sample: Array) -> None:
    """Scores are those of the published recursion, for points of the trees, near them and far from them."""
    sample = sample.astype(np.float32)
    rng = np.random.default_rng(1)
    forest = grow(sample, rng)
    points = sample.reshape(-1, sample.shape[2]).astype(np.float64)
    middle = (points[rng.integers(0, len(points), 12)] + points[rng.integers(0, len(points), 12)]) / 2
    few = np.concatenate([points[:12], middle, middle + 1, middle * 1.5, -middle, middle * 0, middle * 0 + 3e38])
    few = np.clip(few, -LARGEST, LARGEST).astype(np.float32)
    found = score(forest, few)
    assert np.isfinite(found).all()
    assert found.tolist() == pytest.approx(by_visitor(forest, few), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("d", [1, 3, 48])
def test_splits_of_a_batch(monkeypatch: pytest.MonkeyPatch, d: int) -> None:
    """A point's score is the same to the last bit alone, among others, and in pieces of whatever size."""
    rng = np.random.default_rng(2)
    forest = grow(rng.normal(size=(30, 50, d)).astype(np.float32), rng)
    points = np.concatenate([forest.points[:40], rng.normal(size=(40, d)) * 2, rng.normal(size=(4, d)) * 9e37])
    points = points.astype(np.float32)
    whole = score(forest, points)
    assert np.array_equal(np.concatenate([score(forest, points[i : i + 1]) for i in range(len(points))]), whole)
    assert np.array_equal(np.concatenate([score(forest, points[:33]), score(forest, points[33:])]), whole)
    assert np.array_equal(score(forest, points[::-1])[::-1], whole)
    for limit in (1, 4000, 1 << 30):
        monkeypatch.setattr("clary.algorithms.forest._PAIR_BYTES", limit)
        assert np.array_equal(score(forest, points), whole)


def test_no_points() -> None:
    """No points have no scores."""
    found = score(by_hand(), np.empty((0, 2), np.float32))
    assert (found.shape, found.dtype) == ((0,), np.float32)


def test_equal_zeros() -> None:
    """Zero and minus zero are one point."""
    forest = grow(np.array([[[0.0], [-0.0]]], np.float32), np.random.default_rng(0))
    assert (forest.masses.tolist(), len(forest.values)) == ([2], 0)
    assert score(forest, np.array([[0.0], [-0.0]], np.float32)).tolist() == pytest.approx([0.5, 0.5])


def test_one_point_a_tree() -> None:
    """In trees of one point the point scores 1/2, and any other 1."""
    forest = grow(np.zeros((5, 1, 2), np.float32), np.random.default_rng(0))
    assert score(forest, np.array([[0, 0], [0, 1e-40]], np.float32)).tolist() == [0.5, 1]


def test_deep() -> None:
    """Points at the powers of two make trees that are far deeper than the logarithm of their number."""
    forest = grow(np.ldexp(1.0, np.arange(-100, 100)).astype(np.float32).reshape(1, -1, 1), np.random.default_rng(0))
    assert sizes(forest)[1].item() > 70


def roots_of(points: Array, trees: int) -> tuple[Array, Array]:
    """Dimensions and values of the first cuts of many trees of the same points."""
    forest = grow(np.tile(points.astype(np.float32), (trees, 1, 1)), np.random.default_rng(3))
    return forest.dimensions[forest.roots], forest.values[forest.roots]


def chi_square(counts: Array, shares: Array | list[float]) -> float:
    """Pearson's statistic of counts that should have these shares."""
    expected = np.array(shares) * counts.sum()
    return float((np.square(counts - expected) / expected).sum())


def test_choice_of_dimension() -> None:
    """A dimension is cut with a probability that is proportional to its extent, and a constant one never."""
    dimensions, _ = roots_of(np.array([[9, 0, 0, 0, 5], [9, 1, 0, 5, 5], [9, 0, 2, 1, 5]]), 8000)
    counts = np.bincount(dimensions, minlength=5)
    assert counts[[0, 4]].tolist() == [0, 0]
    assert chi_square(counts[1:4], [1 / 8, 2 / 8, 5 / 8]) < 13.8  # once in 1000


def test_choice_of_place() -> None:
    """The place of a cut is uniform in the extent."""
    _, values = roots_of(np.array([[-3], [7], [0], [0.5]]), 8000)
    counts = np.histogram(values, bins=10, range=(-3, 7))[0]
    assert counts.sum() == 8000
    assert chi_square(counts, [0.1] * 10) < 27.9  # once in 1000


def test_choice_between_neighbours() -> None:
    """Of four float32 numbers without others between, each gap is cut as often."""
    start = np.float32(1.6e9)  # a time in seconds: neighbours are 128 apart
    points = start + 128 * np.arange(4)[:, None]
    _, values = roots_of(points, 8000)
    assert set(values.tolist()) == set(points[:3].ravel().tolist())
    assert chi_square(np.unique(values, return_counts=True)[1], [1 / 3] * 3) < 13.8  # once in 1000


def test_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grown some at a time, the trees are one forest all the same."""
    sample = np.random.default_rng(0).integers(0, 4, (10, 9, 2)).astype(np.float32)
    for trees in (1, 3, 10):
        monkeypatch.setattr("clary.algorithms.forest._GROUP_BYTES", 4 * 9 * 2 * trees)
        forest = grow(sample, np.random.default_rng(0))
        check(forest, sample)
        points = sample.reshape(-1, 2)
        assert score(forest, points).tolist() == pytest.approx(by_visitor(forest, points), rel=1e-6)


def test_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked after each group whether it is enough, growth ends with the first trees whole."""
    monkeypatch.setattr("clary.algorithms.forest._GROUP_BYTES", 4 * 9 * 2 * 2)
    sample = np.random.default_rng(0).normal(size=(10, 9, 2)).astype(np.float32)
    asked: list[int] = []

    def enough(grown: int) -> bool:
        asked.append(grown)
        return grown >= 5

    check(grow(sample, np.random.default_rng(0), enough), sample[:6])
    assert asked == [2, 4, 6]


def test_repeatable() -> None:
    """Equal random numbers give equal forests."""
    sample = np.random.default_rng(0).normal(size=(10, 9, 2)).astype(np.float32)
    first, second, other = (grow(sample, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first.values, other.values)
