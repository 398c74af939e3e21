"""Random cut trees: how they are grown, and how far outside them a point lies.

Pure functions over arrays, without data channels or hyperparameters. In NumPy, trees of one size are grown, and
points are asked, level by level and all at once; the kernels go tree by tree.

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

from .. import native
from ..recordio.batch import Array

__all__ = ["Forest", "grow", "score", "sizes"]

_GROUP_BYTES: Final = 4 << 20  # of the points of trees that are grown at a time
_PAIR_BYTES: Final = 1 << 20  # of the boxes of the nodes that points are held against at a time
_ROWS: Final = 1 << 14  # scored by the kernel at a time, in between which Python hears signals


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
    room = _room(trees, size, d)
    counts = np.zeros((trees, 2), np.int32)
    grown = 0
    for start in range(0, trees, step):
        if enough is not None and start and enough(start):
            break
        grown = min(start + step, trees)
        group = slice(start, grown)
        chances = rng.random((grown - start, size - 1, 2))
        _grow_together(sample[group], chances, Forest(*(array[group] for array in room)), counts[group])
    return _joined(room, counts[:grown])


def _room(trees: int, size: int, d: int) -> Forest:
    """Arrays with an axis for the trees, and in each tree a place for every node and leaf that there may be."""
    return Forest(
        roots=np.empty(trees, np.int32),
        dimensions=np.empty((trees, size - 1), np.int32),
        values=np.empty((trees, size - 1), np.float32),
        children=np.empty((trees, size - 1, 2), np.int32),
        boxes=np.empty((trees, size - 1, 2, d), np.float32),
        extents=np.empty((trees, size - 1)),
        points=np.empty((trees, size, d), np.float32),
        masses=np.empty((trees, size), np.int32),
    )


def _grow_together(sample: Array, chances: Array, room: Forest, counts: Array) -> None:
    """Grow some trees into their room, each tree's nodes and leaves numbered for themselves, and count them.

    Node i of a tree has the random numbers chances[tree, i], so how the trees are grown makes no difference.
    """
    trees, size, d = sample.shape
    if native.kernels is not None:
        sample = np.require(sample, np.float32, ("C", "A"))
        native.kernels.grow_forest(sample, chances, *room, counts, size, d)
        return
    if not np.isfinite(sample).all():
        raise ValueError("the sample has numbers that are not finite")
    points = sample.reshape(-1, d) + np.float32(0)  # minus zero becomes zero
    chances = chances.reshape(-1, 2)
    dimensions, values, extents = (array.reshape(-1) for array in (room.dimensions, room.values, room.extents))
    boxes, leaves, masses = room.boxes.reshape(-1, 2, d), room.points.reshape(-1, d), room.masses.reshape(-1)
    order = np.arange(len(points))  # the points of a node side by side
    starts = np.arange(0, len(points), size)  # where those of each node of this level begin
    tree = np.arange(trees)  # that each node of this level is of
    links, places = room.roots, tree  # whose entries are to name this level's nodes
    while len(starts):
        lengths = np.diff(starts, append=len(order))
        rows = points[order]
        low, high = np.minimum.reduceat(rows, starts), np.maximum.reduceat(rows, starts)
        sides = high.astype(np.float64) - low  # (nodes, d)
        splits = np.logical_or.reduce(sides, axis=1)
        nodes, ends = _numbers(tree[splits], counts[:, 0]), _numbers(tree[~splits], counts[:, 1])
        links[places[splits]], links[places[~splits]] = nodes, ~ends
        nodes, ends = nodes + tree[splits] * (size - 1), ends + tree[~splits] * size  # their places among all
        leaves[ends], masses[ends] = low[~splits], lengths[~splits]
        boxes[nodes, 0], boxes[nodes, 1] = low[splits], high[splits]
        sums = np.cumsum(sides[splits], axis=1)
        extents[nodes] = sums[:, -1]
        dimensions[nodes], values[nodes] = _cuts(low[splits], high[splits], sums, chances[nodes])
        links, places = room.children.reshape(-1), (2 * nodes[:, None] + (0, 1)).reshape(-1)
        order, starts = _parted(points, order, lengths, splits, dimensions[nodes], values[nodes])
        tree = np.repeat(tree[splits], 2)


def _numbers(tree: Array, counts: Array) -> Array:
    """The next numbers in its tree for each of some nodes, sorted by tree, and count them."""
    more = np.bincount(tree, minlength=len(counts))
    numbers = np.arange(len(tree)) + (counts - (more.cumsum() - more))[tree]
    counts += more
    return numbers


def _cuts(low: Array, high: Array, sums: Array, chances: Array) -> tuple[Array, Array]:
    """A random dimension and a random place in it for each of some boxes, of whose sides these are running sums."""
    each = np.arange(len(low))
    chance = chances[:, 0] * sums[:, -1]  # less than the last sum, even rounded
    dimensions = (sums <= chance[:, None]).sum(axis=1)  # the first whose sum is greater
    least, most = low[each, dimensions], high[each, dimensions]
    places = least + chances[:, 1] * (most.astype(np.float64) - least)
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


def _joined(room: Forest, counts: Array) -> Forest:
    """One forest of the first trees, by the numbers of nodes and leaves that each has."""

    def filled(array: Array, numbers: Array) -> Array:
        """What is filled of an array, without the axis of the trees."""
        array, most = array[: len(numbers)], array.shape[1]
        if (numbers == most).all():
            return array.reshape(-1, *array.shape[2:])
        return array[np.arange(most) < numbers[:, None]]

    nodes, leaves = counts.T
    before, leaves_before = np.cumsum(counts, axis=0, dtype=np.int32).T - counts.T
    roots = np.where(nodes > 0, before, ~leaves_before)
    links = filled(room.children, nodes)
    tree = np.repeat(np.arange(len(counts)), nodes)[:, None]
    return Forest(
        roots=roots,
        dimensions=filled(room.dimensions, nodes),
        values=filled(room.values, nodes),
        children=np.where(links < 0, links - leaves_before[tree], links + before[tree]),
        boxes=filled(room.boxes, nodes),
        extents=filled(room.extents, nodes),
        points=filled(room.points, leaves),
        masses=filled(room.masses, leaves),
    )


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
    if native.kernels is not None:
        points = np.require(points, np.float32, ("C", "A"))
        scores = np.empty(len(points), np.float32)
        for start in range(0, len(points), _ROWS):
            piece = slice(start, start + _ROWS)
            native.kernels.score_forest(*forest, points[piece], scores[piece], points.shape[1])
        return scores
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
