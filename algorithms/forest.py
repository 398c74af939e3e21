"""Random cut trees: how they are grown, and how far outside them a point lies.

Pure functions over arrays, without data channels or hyperparameters. Trees of one size are grown, and points are
asked, level by level and all at once.

References
----------
.. [1] S. Guha, N. Mishra, G. Roy, O. Schrijvers, "Robust Random Cut Forest Based Anomaly Detection on Streams",
       ICML 2016.
.. [2] aws/random-cut-forest-by-aws, AnomalyScoreVisitor: the score of Definition 3 as Amazon computes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from ..recordio.batch import Array

__all__ = ["Forest", "grow", "score", "sizes"]

_GROUP_BYTES: Final = 4 << 20  # of the points of trees that are grown at a time
_PAIR_BYTES: Final = 1 << 20  # of the boxes of the nodes that points are held against at a time


class Forest(NamedTuple):
    """T random cut trees, all with the same number of points, of d dimensions.

    An inner node has a number, and so has a leaf; where either may stand, leaf i is written ``~i``. A child has a
    greater number than its parent.
    """

    roots: Array  # (T,) int32
    dimensions: Array  # (nodes,) int32, of the cut
    values: Array  # (nodes,) float32: what is at most this lies to the left
    children: Array  # (nodes, 2) int32, left and right
    boxes: Array  # (nodes, 2, d) float32, the least and greatest coordinates of the points below
    extents: Array  # (nodes,) float64, sum of the box's sides
    points: Array  # (leaves, d) float32
    masses: Array  # (leaves,) int32, how many points were equal to this one

    @property
    def size(self) -> int:
        """Number of points of a tree."""
        return int(self.masses.sum()) // len(self.roots)


def grow(sample: Array, rng: np.random.Generator, enough: Callable[[int], bool] | None = None) -> Forest:
    """Grow a tree over each part of a sample.

    A node is cut across a dimension, chosen with a probability that is proportional to the extent of the node's
    points along it, at a place uniform in this extent [1]_. Equal points share a leaf.

    Parameters
    ----------
    sample
        The points of each tree, float32, shape (T, M, d).
    rng
        Where the cuts come from.
    enough
        Told the number of trees so far, tells whether to leave it at that.

    Examples
    --------
    >>> forest = grow(np.array([[[0.], [4.], [4.]]], np.float32), np.random.default_rng(0))
    >>> forest.points.ravel().tolist(), forest.masses.tolist(), forest.boxes.ravel().tolist()
    ([0.0, 4.0], [1, 2], [0.0, 4.0])
    """
    trees, size, d = sample.shape
    step = max(1, _GROUP_BYTES // (4 * size * d))
    groups: list[Forest] = []
    for start in range(0, trees, step):
        if enough is not None and groups and enough(start):
            break
        groups.append(_grow_together(sample[start : start + step], rng))
    return _joined(groups)


def _grow_together(sample: Array, rng: np.random.Generator) -> Forest:
    """Grow some trees, a level of all at a time."""
    trees, size, d = sample.shape
    points = sample.reshape(-1, d)
    order = np.arange(len(points))  # the points of a node side by side
    starts = np.arange(0, len(points), size)  # where those of each node of this level begin
    roots = np.empty(trees, np.int32)
    links, places = roots, np.arange(trees)  # whose entries are to name this level's nodes
    inner, leaves = 0, 0
    levels = []
    while len(starts):
        counts = np.diff(starts, append=len(order))
        rows = points[order]
        low, high = np.minimum.reduceat(rows, starts), np.maximum.reduceat(rows, starts)
        extents = high.astype(np.float64) - low  # (nodes, d)
        splits = np.logical_or.reduce(extents, axis=1)
        names = np.where(splits, inner + np.cumsum(splits) - 1, ~(leaves + np.cumsum(~splits) - 1))
        links[places] = names
        inner, leaves = inner + int(splits.sum()), leaves + int((~splits).sum())
        dimensions, values = _cuts(low[splits], high[splits], extents[splits], rng)
        children = np.empty((len(values), 2), np.int32)
        boxes = np.stack([low[splits], high[splits]], axis=1)
        levels.append(
            (
                dimensions,
                values,
                children,
                boxes,
                extents[splits].sum(axis=1),
                low[~splits],
                counts[~splits].astype(np.int32),
            )
        )
        links, places = children.reshape(-1), np.arange(2 * len(values))
        order, starts = _parted(points, order, counts, splits, dimensions, values)
    return Forest(roots, *(np.concatenate(parts) for parts in zip(*levels, strict=True)))


def _cuts(low: Array, high: Array, extents: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """A random dimension and a random place in it for each of some boxes of shape (nodes, d)."""
    each = np.arange(len(low))
    sums = np.cumsum(extents, axis=1)
    chance = rng.random(len(low)) * sums[:, -1]  # less than the last sum, even rounded
    dimensions = (sums <= chance[:, None]).sum(axis=1)  # the first whose sum is greater
    least, most = low[each, dimensions], high[each, dimensions]
    places = least + rng.random(len(low)) * extents[each, dimensions]
    values = places.astype(np.float32)
    values = np.where(values > places, np.nextafter(values, least), values)  # rounded down, no point changes sides
    return dimensions.astype(np.int32), np.minimum(values, np.nextafter(most, least))  # both sides get a point


def _parted(
    points: Array, order: Array, counts: Array, splits: Array, dimensions: Array, values: Array
) -> tuple[Array, Array]:
    """The points of the next level's nodes, and where those of each begin."""
    node = np.repeat(np.cumsum(splits) - 1, counts)  # (points,) number of the node among those that split
    inside = np.repeat(splits, counts)
    order, node = order[inside], node[inside]
    right = points[order, dimensions[node]] > values[node]
    side = 2 * node + right
    lengths = np.bincount(side, minlength=2 * len(values))
    return order[side.argsort(kind="stable")], np.cumsum(lengths) - lengths


def _joined(groups: list[Forest]) -> Forest:
    """One forest with the trees of all."""
    nodes, leaves = 0, 0
    roots: list[Array] = []
    children: list[Array] = []
    for group in groups:
        for links, moved in ((group.roots, roots), (group.children, children)):
            moved.append(np.where(links < 0, links - leaves, links + nodes).astype(np.int32))
        nodes, leaves = nodes + len(group.values), leaves + len(group.points)
    rest = {
        name: np.concatenate([getattr(group, name) for group in groups])
        for name in ("dimensions", "values", "boxes", "extents", "points", "masses")
    }
    return Forest(roots=np.concatenate(roots), children=np.concatenate(children), **rest)


def score(forest: Forest, points: Array) -> Array:
    """Anomaly scores: the mean over the trees of log2(M + 1) times the published visitor's score [2]_.

    For a tree of M points let the point's leaf have depth e and mass m. A point equal to the leaf's scores
    (1 - m/2M) / (e + log2(m + 1)). For any other the visitor sets out with s = 1/(e + 1) and at each node above, of
    depth e, makes it P/(e + 1) + (1 - P)s, where P is the share that the point would have in the extents of the
    node's box if it grew to hold the point: the chance that a random cut separates it. From the root down this is
    the sum, over the nodes, of P/(e + 1) times the product of 1 - P over all nodes above.

    Parameters
    ----------
    forest
        What `grow` made.
    points
        float32, shape (n, d).

    Returns
    -------
    scores
        float32, shape (n,).

    Examples
    --------
    >>> forest = grow(np.array([[[0.], [4.], [4.]]], np.float32), np.random.default_rng(0))
    >>> score(forest, np.array([[0.], [4.], [12.]], np.float32)).round(4).tolist()
    [0.8333..., 0.5157..., 1.6667...]
    """
    step = max(1, _PAIR_BYTES // (4 * len(forest.roots) * points.shape[1]))
    sums = [_sums(forest, points[start : start + step]) for start in range(0, len(points), step)]
    means: Array = np.concatenate([np.empty(0), *sums]) * (np.log2(forest.size + 1) / len(forest.roots))
    return means.astype(np.float32)


def _sums(forest: Forest, points: Array) -> Array:
    """Sum of the trees' scores for each of a few points, float64, shape (n,)."""
    n, trees, size = len(points), len(forest.roots), forest.size
    sums = np.zeros(n)
    node = np.tile(forest.roots, n)  # where each pair of a point and a tree has come to
    point = np.repeat(np.arange(n), trees)
    weight = np.ones(n * trees)  # chance that no cut above has separated the point
    depth = 0
    while len(node):
        ends = node < 0
        if ends.any():
            begin = _at_leaf(forest, size, ~node[ends], points[point[ends]], depth)
            sums += np.bincount(point[ends], weight[ends] * begin, n)
            node, point, weight = node[~ends], point[~ends], weight[~ends]
        rows = points.take(point, axis=0)
        extents = forest.extents[node]
        stays = weight * (extents / (extents + _outside(rows, forest.boxes.take(node, axis=0))))
        sums += np.bincount(point, (weight - stays) / (depth + 1), n)
        right = rows[np.arange(len(node)), forest.dimensions[node]] > forest.values[node]
        node, weight = forest.children[node, right.astype(np.intp)], stays
        depth += 1
    return sums


def _outside(rows: Array, boxes: Array) -> Array:
    """By how much the sides of each box would grow in all to hold a row; shape (pairs,)."""
    outside = np.minimum(np.maximum(rows, boxes[:, 0]), boxes[:, 1])  # the point of the box that is nearest
    with np.errstate(over="ignore"):
        growth: Array = np.abs(np.subtract(rows, outside, out=outside), out=outside).sum(axis=1)
    if rows.dtype == np.float32 and growth.max(initial=0) == np.inf:  # too much for float32
        far = growth == np.inf
        growth = growth.astype(np.float64)
        growth[far] = _outside(rows[far].astype(np.float64), boxes[far])
    return growth


def _at_leaf(forest: Forest, size: int, leaf: Array, rows: Array, depth: int) -> Array:
    """Where the visitor sets out, for points that came to a leaf at this depth."""
    mass = forest.masses[leaf]
    seen = (1 - mass / (2 * size)) / (depth + np.log2(mass + 1.0))
    return np.where((forest.points[leaf] == rows).all(axis=1), seen, 1 / (depth + 1))


def sizes(forest: Forest) -> tuple[Array, Array]:
    """Number of nodes, leaves among them, and depth of each tree; a tree of one leaf has depth 0."""
    node, tree = forest.roots, np.arange(len(forest.roots))
    counts, depths = np.zeros((2, len(tree)), np.int64)
    level = 0
    while len(node):
        counts += np.bincount(tree, minlength=len(counts))
        depths[tree] = level
        inner = node >= 0
        node, tree = forest.children[node[inner]].reshape(-1), np.repeat(tree[inner], 2)
        level += 1
    return counts, depths
