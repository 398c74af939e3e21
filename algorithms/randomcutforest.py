"""Random cut forest: how unlike the rest of the data a row is, by trees of random cuts over samples of it.

One pass over the data keeps a uniform sample of num_trees × num_samples_per_tree rows (the reservoir of [2]_), each
part of which becomes a random cut tree [1]_. There is no streaming update after training.

References
----------
.. [1] S. Guha, N. Mishra, G. Roy, O. Schrijvers, "Robust Random Cut Forest Based Anomaly Detection on Streams",
       ICML 2016.
.. [2] J. S. Vitter, "Random Sampling with a Reservoir", ACM Transactions on Mathematical Software 11, 1985,
       algorithm R.
.. [3] Amazon SageMaker developer guide, "How RCF Works", "RCF Hyperparameters", "Tune an RCF Model".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from ..errors import ArtifactError, ChannelError, UserError
from ..recordio.batch import CSR, Array
from .base import Algorithm, Channel, Metric, Predictions, Report, no_rows
from .forest import Forest, grow, score, sizes
from .memory import available_memory
from .ndarray import dump_arrays, load_arrays
from .params import HyperParameters, hp

__all__ = ["ALGORITHM", "RandomCutForestModel", "RandomCutForestParams", "Reservoir", "fit"]

_SEED: Final = 0  # the algorithm has no hyperparameter for it: equal jobs give equal models
_BATCH: Final = 1000  # rows, as SageMaker's container has it: no hyperparameter either
_VERSION: Final = 1  # of the artifact
_LEAST_TREES: Final = 50  # a forest that a stop cuts short has as many as a forest must have
_MOST_POINTS: Final = 1 << 14  # of a tree in an artifact; num_samples_per_tree allows far fewer
_DENSE_BYTES: Final = 16 << 20  # of rows that are made dense float32 at a time
_DEVIATIONS: Final = 3.0  # above the mean, from which a score is an anomaly's


class RandomCutForestParams(HyperParameters):
    """Hyperparameters of random cut forest."""

    hidden = frozenset({"force_dense", "epochs", "mini_batch_size"})

    feature_dim: int = hp(ge=1, le=10000, doc="Number of features of a row.")
    num_trees: int = hp(default=100, ge=50, le=1000, tunable=True, doc="Number of trees.")
    num_samples_per_tree: int = hp(
        default=256,
        ge=1,
        le=2048,
        tunable=True,
        doc="Rows sampled for each tree; about one over the share of anomalies is a good choice.",
    )
    eval_metrics: list[str] = hp(
        default=["accuracy", "precision_recall_fscore"],
        choices=("accuracy", "precision_recall_fscore"),
        doc="What is computed on the test channel, as a JSON list.",
    )


_ARRAYS: Final = {
    "roots": (np.int32, 1),
    "dimensions": (np.int32, 1),
    "values": (np.float32, 1),
    "children": (np.int32, 2),
    "boxes": (np.float32, 3),
    "extents": (np.float64, 1),
    "points": (np.float32, 2),
    "masses": (np.int32, 1),
}
"""The arrays of a `Forest` in the artifact: dtype and number of dimensions."""


@dataclass(frozen=True, slots=True)
class RandomCutForestModel:
    """A forest.

    Parameters
    ----------
    forest
        What `clary.algorithms.forest.grow` made.

    Examples
    --------
    >>> rows = np.array([[[0], [1], [2], [100]]] * 50, np.float32)
    >>> model = RandomCutForestModel(grow(rows, np.random.default_rng(0)))
    >>> model.predict(np.array([[1], [100]], np.float32)).columns["score"].round(2).tolist()
    [0.6..., 1.0...]
    """

    forest: Forest

    @property
    def feature_dim(self) -> int:
        """Number of features of a row."""
        return int(self.forest.points.shape[1])

    def predict(self, features: Array | CSR) -> Predictions:
        """The anomaly score of each row of shape (n, d)."""
        parts = [score(self.forest, piece) for piece in _dense(features)]
        return Predictions("scores", {"score": np.concatenate(parts)})

    def to_bytes(self) -> bytes:
        """The artifact: a list of arrays with names, in a form of our own, as Amazon's is not known."""
        version = np.array([_VERSION], np.int32)
        return dump_arrays({"randomcutforest": version, **self.forest._asdict()})

    @classmethod
    def from_bytes(cls, data: bytes) -> RandomCutForestModel:
        """Open an artifact that clary wrote.

        Raises
        ------
        ArtifactError
            When it is none, is of another version, or its arrays make no forest.
        """
        arrays = load_arrays(data)
        version = arrays.pop("randomcutforest", np.empty(0))
        if version.tolist() != [_VERSION]:
            found = f"version {version.tolist()}" if version.size else f"arrays called {', '.join(arrays) or 'nothing'}"
            raise ArtifactError(f"expected a random cut forest of version {_VERSION}, found {found}")
        kinds = {name: (array.dtype, array.ndim) for name, array in arrays.items()}
        if kinds != {name: (np.dtype(dtype), ndim) for name, (dtype, ndim) in _ARRAYS.items()}:
            raise ArtifactError(f"expected the arrays {', '.join(_ARRAYS)} of a forest, found {kinds}")
        forest = Forest(**arrays)
        if problem := _problem(forest):
            raise ArtifactError(f"the arrays make no forest: {problem}")
        return cls(forest)

    def describe(self) -> Mapping[str, Any]:
        """Number of trees, of rows in each, and their depths."""
        depths = sizes(self.forest)[1]
        return {
            "num_trees": len(self.forest.roots),
            "num_samples_per_tree": self.forest.size,
            "mean_tree_depth": round(float(depths.mean()), 2),
            "max_tree_depth": int(depths.max()),
        }


def _dense(features: Array | CSR) -> Iterator[Array]:
    """The rows as dense float32 arrays, some at a time."""
    step = max(1, _DENSE_BYTES // (4 * features.shape[1]))
    for start in range(0, max(1, len(features)), step):
        piece = features[start : start + step]
        yield (piece.toarray() if isinstance(piece, CSR) else piece).astype(np.float32, copy=False)


def _problem(forest: Forest) -> str | None:
    """What is wrong with a forest that a file says it is."""
    nodes, leaves, d = len(forest.values), *forest.points.shape
    shapes = {name: array.shape for name, array in forest._asdict().items()}
    wanted = {"dimensions": (nodes,), "children": (nodes, 2), "boxes": (nodes, 2, d), "extents": (nodes,)}
    wanted |= {"masses": (leaves,), "roots": (len(forest.roots),)}
    for name, shape in wanted.items():
        if shapes[name] != shape:
            return f"{name} has the shape {shapes[name]}, not {shape}"
    links = np.concatenate([forest.roots, forest.children.reshape(-1)])
    if not len(forest.roots) or not d:
        return "there are no trees or no dimensions"
    if (
        not -leaves <= links.min() <= links.max() < nodes
        or (np.bincount(links + leaves, minlength=nodes + leaves) != 1).any()
    ):
        return "some node or leaf is below none or several"
    inner = forest.children >= 0
    if (forest.children <= np.arange(nodes)[:, None])[inner].any():
        return "a node is below itself"
    if nodes and not 0 <= forest.dimensions.min() <= forest.dimensions.max() < d:
        return f"a cut across a dimension that is none of {d}"
    sizes_found = np.unique(_points_of_trees(forest))
    if (forest.masses < 1).any() or len(sizes_found) > 1:
        return "trees of different sizes"
    if sizes_found[0] > _MOST_POINTS:  # whose depth could hold up an endpoint
        return f"trees of {int(sizes_found[0])} points, of {_MOST_POINTS} at most"
    numbers = [forest.values, forest.boxes, forest.extents, forest.points]
    if not all(np.isfinite(array).all() for array in numbers) or (forest.extents <= 0).any():
        return "a number that is not finite, or a box without extent"
    return None


def _points_of_trees(forest: Forest) -> Array:
    """Number of points of each tree, shape (T,), in as many steps as the logarithm of the depth."""
    nodes, leaves = len(forest.values), len(forest.masses)
    above = np.empty(nodes + leaves, np.intp)  # of each node, and by its negative number each leaf: a node above it
    above[forest.children.reshape(-1)] = np.repeat(np.arange(nodes), 2)
    above[forest.roots] = forest.roots
    while not np.array_equal(above, further := above[above]):
        above = further
    tree = np.empty(nodes + leaves, np.intp)
    tree[forest.roots] = np.arange(len(forest.roots))
    return np.bincount(tree[above[~np.arange(leaves)]], forest.masses)


class Reservoir:
    """A uniform sample without replacement of a stream of rows.

    Parameters
    ----------
    capacity
        Rows that are kept; while there are no more, all are, in the order of their arrival.
    feature_dim
        Columns of a row.
    rng
        Where chances come from.

    Examples
    --------
    >>> reservoir = Reservoir(3, 1, np.random.default_rng(0))
    >>> reservoir.add(np.arange(100, dtype=np.float32)[:, None])
    >>> reservoir.seen, sorted(reservoir.sample().ravel().tolist())
    (100, [3.0, 23.0, 95.0])
    """

    def __init__(self, capacity: int, feature_dim: int, rng: np.random.Generator) -> None:
        self.seen = 0
        self._rows = np.empty((capacity, feature_dim), np.float32)  # the system gives pages when they are written
        self._rng = rng

    def add(self, rows: Array) -> None:
        """Offer rows of shape (n, feature_dim); how a stream is split into calls makes no difference."""
        first = rows[: max(0, len(self._rows) - self.seen)]
        self._rows[self.seen : self.seen + len(first)] = first
        self.seen += len(first)
        rest = rows[len(first) :]
        numbers = np.arange(self.seen, self.seen + len(rest))
        places = (self._rng.random(len(rest)) * (numbers + 1)).astype(np.int64)  # row i goes to one of 0 … i
        kept = places < len(self._rows)
        self._rows[places[kept]] = rest[kept]  # of several for one place the last stays
        self.seen += len(rest)

    def sample(self) -> Array:
        """The rows: in the order of their arrival if all were kept, else in a random one."""
        if self.seen <= len(self._rows):
            return self._rows[: self.seen]
        return self._rows[np.random.default_rng([_SEED, 1]).permutation(len(self._rows))]


def fit(params: RandomCutForestParams, channels: Mapping[str, Channel], report: Report) -> RandomCutForestModel:
    """Train on the channel ``train`` and evaluate on ``test`` where there is one."""
    train = channels["train"]
    reservoir: Reservoir | None = None
    report.info("Verifying hyperparamemters...")  # the word as Amazon's container writes it
    report.info("Hyperparameters are correct.")
    for _ in report.epochs(1, train):
        report.info("Validating that feature_dim agrees with dimensions in training data...")
        for batch in train.batches(_BATCH):
            reservoir = reservoir or _begin(params, report)
            reservoir.add(batch.dense())
            report.keep(partial(_build, params, reservoir, report))
        report.info("Sampling training data completed.")
        report.info("Early stop condition met. Stopping training.")
        report.end_early()  # one pass is all, and Amazon's container says so
    if reservoir is None:
        raise no_rows()
    report.info("Master node: building Random Cut Forest...")
    report.info("Gathering samples...")
    report.info(f"{reservoir.seen} samples gathered")
    report.info("Building Random Cut Forest...")
    with report.timing("fit_model.time"):
        model = _build(params, reservoir, report)
    report.keep(lambda: model)
    report.info(f"Random Cut Forest built: \n{_info(model.forest)}")
    report.info("Master node: Serializing the RandomCutForest model")
    with report.timing("serialize_model.time"):
        report.measured("model.bytes", len(model.to_bytes()))
    if "test" in channels:
        _evaluate(params, model, channels["test"], report)
    return model


def _begin(params: RandomCutForestParams, report: Report) -> Reservoir:
    """An empty sample, once the first rows have proved to be as wide as they should."""
    report.info("feature_dim is correct.")
    _check_memory(params, report)
    report.info("Initializing Sampler...")
    capacity = params.num_trees * params.num_samples_per_tree
    reservoir = Reservoir(capacity, params.feature_dim, np.random.default_rng([_SEED, 0]))
    report.info("Sampler correctly initialized.")
    report.info("Sampling training data...")
    return reservoir


def _check_memory(params: RandomCutForestParams, report: Report) -> None:
    """Refuse a forest that will not fit, as Amazon's container does before it samples a row."""
    report.info("Validating memory limits...")
    available = available_memory()
    report.info(f"Available memory in bytes: {available}")
    sample = params.num_trees * params.num_samples_per_tree * params.feature_dim * 16
    report.info(f"Estimated sample size in bytes: {sample}")
    needed = sample * 5 // 2
    report.info(f"Estimated memory needed to build the forest in bytes: {needed}")
    if needed > available:
        raise UserError(
            f"not enough memory for the forest: about {needed} bytes are needed, {available} are available: "
            "lower num_trees or num_samples_per_tree, or give the job more memory"
        )
    report.info("Memory limits validated.")


def _build(params: RandomCutForestParams, reservoir: Reservoir, report: Report) -> RandomCutForestModel:
    """The forest over what was sampled so far: parts of equal size, whatever is left over dropped."""
    trees = params.num_trees
    size = min(params.num_samples_per_tree, reservoir.seen // trees)
    if not size:
        raise ChannelError(
            f"the channel 'train' has {reservoir.seen} rows for num_trees={trees}: give at least as many rows as trees"
        )
    sample = reservoir.sample()[: trees * size].reshape(trees, size, -1)
    rng = np.random.default_rng([_SEED, 2])
    return RandomCutForestModel(grow(sample, rng, lambda grown: report.stopping and grown >= _LEAST_TREES))


def _info(forest: Forest) -> str:
    """What Amazon's container says of a forest."""
    nodes, depths = sizes(forest)
    values: dict[str, object] = {
        "num_trees": len(forest.roots),
        "num_samples_in_forest": len(forest.roots) * forest.size,
        "num_samples_per_tree": forest.size,
        "sample_dim": forest.points.shape[1],
        "shingle_size": 1,
        "trees_num_nodes": nodes.tolist(),
        "trees_depth": depths.tolist(),
    }
    for name, counts in (("num_nodes", nodes), ("tree_depth", depths)):
        values |= {f"max_{name}": counts.max(), f"min_{name}": counts.min(), f"avg_{name}": int(counts.mean())}
    values["mem_size"] = sum(array.nbytes for array in forest)
    return "ForestInfo{" + ", ".join(f"{name}: {value}" for name, value in values.items()) + "}"


def _evaluate(params: RandomCutForestParams, model: RandomCutForestModel, test: Channel, report: Report) -> None:
    """What `eval_metrics` names, of anomalies told by their scores."""
    scores, labels = [np.empty(0, np.float32)], [np.empty(0, bool)]
    for batch in test.batches(_BATCH):
        scores.append(model.predict(batch.features).columns["score"])
        labels.append(_is_anomaly(batch.labels))
    if not sum(map(len, scores)):
        report.warning("the channel 'test' has no rows: there is nothing to evaluate")
        return
    values = evaluate(np.concatenate(scores), np.concatenate(labels))
    chosen = {"accuracy": ("accuracy",), "precision_recall_fscore": ("precision", "recall", "f1")}
    names = [name for key in params.eval_metrics for name in chosen[key]]
    report.evaluation("test", {name: values[name] for name in names})


def _is_anomaly(labels: Array | None) -> Array:
    """Labels 0 and 1 as truth values."""
    if labels is None or not np.isin(labels, (0, 1)).all() or labels.ndim > 1:
        found = "none" if labels is None else f"{np.unique(labels[~np.isin(labels, (0, 1))])[:3].tolist()}"
        if labels is not None and labels.ndim > 1:
            found = f"{labels.shape[1]} numbers for a row"
        raise ChannelError(
            f"the channel 'test' needs the label 0 or 1 for every row, 1 for an anomaly; found {found}: "
            "in CSV it is the first column, with the content type text/csv;label_size=1"
        )
    anomaly: Array = labels == 1
    return anomaly


def evaluate(scores: Array, labels: Array) -> dict[str, float]:
    """Accuracy, precision, recall and F1 where scores above mean + 3 standard deviations are taken for anomalies.

    Parameters
    ----------
    scores
        Shape (n,).
    labels
        Whether each is one, bool, shape (n,).

    Examples
    --------
    >>> evaluate(np.array([1.0] * 19 + [9.0]), np.array([False] * 18 + [True] * 2))
    {'accuracy': 0.95, 'precision': 1.0, 'recall': 0.5, 'f1': 0.6666666666666666}
    """
    wide = scores.astype(np.float64)
    found = wide > wide.mean() + _DEVIATIONS * wide.std()
    hits = int((found & labels).sum())
    wrong = int(found.sum()) + int(labels.sum()) - 2 * hits
    return {
        "accuracy": 1 - wrong / len(scores),
        "precision": hits / max(1, int(found.sum())),
        "recall": hits / max(1, int(labels.sum())),
        "f1": 2 * hits / max(1, 2 * hits + wrong),
    }


ALGORITHM = Algorithm(
    name="randomcutforest",
    title="Random cut forest",
    log_name="RandomCutForest",
    params=RandomCutForestParams,
    fit=fit,
    load=RandomCutForestModel.from_bytes,
    channels=("train", "test"),
    content_types=("recordio", "csv"),
    accepts=("json", "jsonlines", "csv", "recordio"),
    metrics=(
        Metric("accuracy", minimize=False, channels=("test",), doc="Share of the rows that are told right."),
        Metric("precision", minimize=False, channels=("test",), doc="Share of true anomalies among those found."),
        Metric("recall", minimize=False, channels=("test",), doc="Share of the anomalies that are found."),
        Metric("f1", minimize=False, channels=("test",), doc="Harmonic mean of precision and recall."),
    ),
    labelled=("test",),
    distribution={"train": "ShardedByS3Key", "test": "FullyReplicated"},
)
