"""Web-scale k-means: many cumulative centres in one pass over mini-batches, then k of them.

The data is read in mini-batches with K = k × extra_center_factor intermediate centres, each the mean of all rows ever
assigned to it. Then weighted Lloyd iterations on the K centres, a data set of no size at all, find the k final ones.
Each further epoch is a Lloyd iteration of these k centres over all rows. Distances come from float32 matrix products.

References
----------
.. [1] D. Sculley, "Web-Scale K-Means Clustering", WWW 2010.
.. [2] D. Arthur, S. Vassilvitskii, "k-means++: The Advantages of Careful Seeding", SODA 2007.
.. [3] S. Lloyd, "Least Squares Quantization in PCM", IEEE Transactions on Information Theory 28, 1982.
.. [4] Amazon SageMaker developer guide, "How K-Means Clustering Works" and "K-Means Hyperparameters".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from ..errors import ArtifactError, ChannelError
from ..recordio.batch import CSR, Array
from .base import Algorithm, Channel, Metric, Predictions, Report
from .ndarray import dump_arrays, load_arrays
from .params import HyperParameters, hp

__all__ = ["ALGORITHM", "KMeansModel", "KMeansParams", "fit"]

_SEED: Final = 0  # the algorithm has no hyperparameter for it: equal jobs give equal models
_CHUNK_BYTES: Final = 16 << 20  # of rows made dense, or of distances, at a time


class KMeansParams(HyperParameters):
    """Hyperparameters of k-means."""

    hidden = frozenset({"force_dense"})

    feature_dim: int = hp(ge=1, doc="Number of features of a row.")
    k: int = hp(ge=1, doc="Number of clusters.")
    mini_batch_size: int = hp(default=5000, ge=1, tunable=True, doc="Rows of a mini-batch.")
    epochs: int = hp(default=1, ge=1, tunable=True, doc="Passes over the training data.")
    init_method: str = hp(
        default="random",
        choices=("random", "kmeans++"),
        tunable=True,
        doc="How the intermediate centres are chosen from the first mini-batch.",
    )
    extra_center_factor: int | None = hp(
        default=None, ge=1, tunable=True, doc="Intermediate centres for each final one; auto means 10."
    )
    half_life_time_size: int = hp(
        default=0, ge=0, doc="Number of rows after which a row's weight has halved; 0 keeps all weights."
    )
    local_lloyd_max_iter: int = hp(default=300, ge=1, doc="Most Lloyd iterations on the intermediate centres.")
    local_lloyd_tol: float = hp(
        default=0.0001, ge=0, le=1, doc="Relative improvement of the loss below which Lloyd iterations end."
    )
    local_lloyd_num_trials: int | None = hp(
        default=None, ge=1, doc="Starts of the Lloyd iterations, of which the best is kept; auto means 10."
    )
    local_lloyd_init_method: str = hp(
        default="kmeans++", choices=("kmeans++", "random"), doc="How the Lloyd iterations are started."
    )
    eval_metrics: list[str] = hp(
        default=["msd"], choices=("msd", "ssd"), doc="What is computed on the test channel, as a JSON list."
    )


@dataclass(frozen=True, slots=True)
class State:
    """The intermediate centres; every mini-batch makes a new state, so one is always whole."""

    centres: Array  # (K, d) float32
    counts: Array  # (K,) float64


@dataclass(frozen=True, slots=True)
class KMeansModel:
    """The k centres.

    Parameters
    ----------
    centres
        float32, shape (k, d).

    Examples
    --------
    >>> model = KMeansModel(np.array([[0, 0], [10, 0]], np.float32))
    >>> answers = model.predict(np.array([[1, 0], [7, 4]], np.float32)).columns
    >>> answers["closest_cluster"].tolist(), answers["distance_to_cluster"].tolist()
    ([0.0, 1.0], [1.0, 5.0])
    """

    centres: Array

    @property
    def feature_dim(self) -> int:
        """Number of features of a row."""
        return int(self.centres.shape[1])

    def predict(self, features: Array | CSR) -> Predictions:
        """The closest centre of each row of shape (n, d), and the Euclidean distance to it."""
        closest, squared = [], []
        for rows in dense_chunks(features, len(self.centres)):
            labels = nearest_centres(rows, self.centres)[0]
            closest.append(labels.astype(np.float32))
            squared.append(_exact_distances(rows, self.centres, labels))
        columns = {"closest_cluster": np.concatenate(closest), "distance_to_cluster": np.sqrt(np.concatenate(squared))}
        return Predictions("predictions", columns)

    def to_bytes(self) -> bytes:
        """The artifact: one array without a name, as Amazon's container writes it."""
        return dump_arrays([self.centres])

    @classmethod
    def from_bytes(cls, data: bytes) -> KMeansModel:
        """Open an artifact, ours or Amazon's.

        Raises
        ------
        ArtifactError
            When it holds anything but one unnamed array of centres.
        """
        arrays = load_arrays(data)
        if list(arrays) != ["0"] or arrays["0"].ndim != 2 or not arrays["0"].size:
            shapes = {name: array.shape for name, array in arrays.items()}
            raise ArtifactError(f"expected one array of centres, found {shapes}")
        return cls(arrays["0"].astype(np.float32))

    def describe(self) -> Mapping[str, Any]:
        """Number of clusters and norms of the centres."""
        return {"k": len(self.centres), "centre_norms": np.linalg.norm(self.centres, axis=1).tolist()}


def fit(params: KMeansParams, channels: Mapping[str, Channel], report: Report) -> KMeansModel:
    """Train on the channel ``train`` and score on ``test`` where there is one."""
    train = channels["train"]
    factor = params.extra_center_factor
    if factor is None:
        factor = 10
        report.info(f"'extra_center_factor' was set to 'auto', evaluated to {factor}.")
    state: State | None = None
    model: KMeansModel | None = None
    for _ in report.epochs(params.epochs, train):
        if state is None:
            state = _stream(params, params.k * factor, train, report)
            continue
        model = _refine(params, model or shrink(params, report, state), train)
        report.keep(partial(_same, model))
    assert state is not None  # noqa: S101  # there is at least one epoch
    model = model or shrink(params, report, state)
    report.quality("train", "msd", _weighted_msd(state, model.centres))
    if "test" in channels:
        _score(params, model, channels["test"], report)
    return model


def _stream(params: KMeansParams, K: int, train: Channel, report: Report) -> State:
    """The first epoch: K intermediate centres from mini-batches."""
    state: State | None = None
    seen, total = 0, 0.0
    for number, batch in enumerate(train.batches(params.mini_batch_size), start=1):
        if state is None:
            state = _initialise(params, K, batch.features, report)
        decay = 0.5 ** (len(batch) / params.half_life_time_size) if params.half_life_time_size else 1.0
        state, msd = update(state, batch.features, decay)
        report.keep(partial(shrink, params, report, state))
        seen += len(batch)
        total += msd * len(batch)
        if number % 10 == 0:
            report.info(f"Iter {number}: Short term msd {msd:f}. Long term msd {total / seen:f}")
    if state is None:
        raise ChannelError(
            "No training data processed. Either the training channel is empty or the mini-batch size is too high: "
            "the channel 'train' has no rows"
        )
    report.info(f"processed a total of {seen} examples")
    return state


def _refine(params: KMeansParams, model: KMeansModel, train: Channel) -> KMeansModel:
    """A further epoch: one Lloyd iteration of the k centres over all rows."""
    sums, counts = np.zeros(model.centres.shape), np.zeros(len(model.centres))
    for batch in train.batches(params.mini_batch_size):
        for rows in dense_chunks(batch.features, len(counts)):
            labels = nearest_centres(rows, model.centres)[0]
            sums += group_sums(rows, labels, len(counts))
            counts += np.bincount(labels, minlength=len(counts))
    means = sums / np.maximum(counts, 1)[:, None]
    return KMeansModel(np.where(counts[:, None] > 0, means, model.centres).astype(np.float32))


def _same(model: KMeansModel) -> KMeansModel:
    return model


def _initialise(params: KMeansParams, K: int, features: Array | CSR, report: Report) -> State:
    """K rows of the first mini-batch, each counted once."""
    rows = len(features)
    if rows < params.mini_batch_size:
        report.warning(
            f"Batch size {params.mini_batch_size} is bigger than the first batch data. "
            f"Effective batch size used to initialize is {rows}"
        )
    if rows < params.k:
        raise ChannelError(f"the first mini-batch has {rows} rows for k={params.k} clusters: lower k or give more data")
    rng = np.random.default_rng(_SEED)
    K = min(K, rows)
    if params.init_method == "random":
        chosen = np.sort(rng.choice(rows, K, replace=False))
        centres = np.concatenate([_dense(features[i : i + 1]) for i in chosen.tolist()])
    else:
        centres = kmeans_plus_plus(_dense(features), np.ones(rows), K, rng)
    return State(centres.astype(np.float32), np.ones(K))


def update(state: State, features: Array | CSR, decay: float = 1.0) -> tuple[State, float]:
    """One mini-batch: each centre becomes the mean of the rows it ever had and those it has now.

    Parameters
    ----------
    state
        The centres so far.
    features
        Rows of shape (n, d).
    decay
        What the counts so far are multiplied with first.

    Returns
    -------
    state
        The centres after the mini-batch.
    msd
        Mean squared distance of the rows to the centres before it.

    Examples
    --------
    >>> state = State(np.array([[0.], [10.]], np.float32), np.ones(2))
    >>> state, msd = update(state, np.array([[1.], [2.], [12.]], np.float32))
    >>> state.centres.ravel().tolist(), state.counts.tolist(), msd
    ([1.0, 11.0], [3.0, 2.0], 3.0)
    """
    K = len(state.counts)
    sums = state.centres * (state.counts * decay)[:, None]  # (K, d) float64
    counts = state.counts * decay  # (K,)
    squared = 0.0
    for rows in dense_chunks(features, K):  # (m, d)
        labels, nearest = nearest_centres(rows, state.centres)
        sums += group_sums(rows, labels, K)
        counts = counts + np.bincount(labels, minlength=K)
        squared += float(nearest.sum(dtype=np.float64))
    some = counts[:, None] > 0  # a short half-life can leave a centre with no weight
    means = np.divide(sums, counts[:, None], out=sums, where=some)
    centres = np.where(some, means, state.centres).astype(np.float32)
    return State(centres, counts), squared / max(1, len(features))


def shrink(params: KMeansParams, report: Report, state: State) -> KMeansModel:
    """The k centres that represent the K intermediate ones best, each weighted with its count."""
    with report.timing("_shrink.time"):
        return _best_of_trials(params, report, state)


def _best_of_trials(params: KMeansParams, report: Report, state: State) -> KMeansModel:
    report.info(f"shrinking {len(state.centres)} centers into {params.k}")
    rng = np.random.default_rng(_SEED)
    points, weights = state.centres.astype(np.float64), state.counts
    best, least = points[: params.k], np.inf
    for trial in range(params.local_lloyd_num_trials or 10):
        if report.stopping and trial:
            break
        if params.local_lloyd_init_method == "kmeans++":
            start = kmeans_plus_plus(points, weights, params.k, rng)
        else:
            start = points[rng.choice(len(points), params.k, replace=False)]
        centres, msd = lloyd(points, weights, start, params.local_lloyd_max_iter, params.local_lloyd_tol)
        if msd < least:
            best, least = centres, msd
        report.info(f"local kmeans attempt #{trial}. Current mean square distance {msd:f}")
    report.info(f"finished shrinking process. Mean Square Distance = {least:.0f}")
    return KMeansModel(best.astype(np.float32))


def kmeans_plus_plus(points: Array, weights: Array, k: int, rng: np.random.Generator) -> Array:
    """Choose k starting centres, each with probability ∝ weight × squared distance to those chosen before.

    Parameters
    ----------
    points
        Shape (n, d), n ≥ k.
    weights
        Shape (n,).
    """
    squares = np.einsum("ij,ij->i", points, points)  # (n,)
    chosen = [int(rng.choice(len(points), p=weights / weights.sum()))]
    nearest = np.full(len(points), np.inf)
    for _ in range(k - 1):
        last = chosen[-1]
        nearest = np.minimum(nearest, squares - 2 * (points @ points[last]) + squares[last])
        nearest[chosen] = 0
        mass = np.maximum(nearest, 0) * weights
        if not mass.sum() > 0:  # fewer than k different points: any of those left
            mass = np.ones(len(points))
            mass[chosen] = 0
        chosen.append(int(rng.choice(len(points), p=mass / mass.sum())))
    picked: Array = points[chosen]
    return picked


def lloyd(points: Array, weights: Array, centres: Array, most: int, tolerance: float) -> tuple[Array, float]:
    """Weighted Lloyd iterations.

    Parameters
    ----------
    points, weights
        Shapes (n, d) and (n,).
    centres
        Where to start, shape (k, d); a centre that loses all points stays where it is.
    most
        Most iterations.
    tolerance
        Relative improvement of the loss below which they end.

    Returns
    -------
    centres
        Shape (k, d).
    msd
        Weighted mean squared distance to them.

    Examples
    --------
    >>> points = np.array([[0.], [1.], [9.]])
    >>> lloyd(points, np.array([1., 3., 1.]), points[:2], most=10, tolerance=0)
    (array([[0.75],
           [9.  ]]), 0.15)
    """
    k, before = len(centres), np.inf
    labels, nearest = nearest_centres(points, centres)
    for _ in range(most):
        mass = np.bincount(labels, weights, minlength=k)[:, None]
        means = group_sums(points, labels, k, weights) / np.maximum(mass, np.finfo(float).tiny)
        centres = np.where(mass > 0, means, centres)
        labels, nearest = nearest_centres(points, centres)
        msd = float(nearest @ weights / weights.sum())
        if before - msd <= tolerance * msd:
            break
        before = msd
    return centres, _weighted_mean(_exact_distances(points, centres, labels), weights)


def group_sums(rows: Array, labels: Array, k: int, weights: Array | None = None) -> Array:
    """Sum of the rows of each label.

    Rows of one label are gathered and summed by one vector-matrix product; for the sizes here that is several times
    faster than the product with a one-hot matrix.

    Parameters
    ----------
    rows
        Shape (n, d).
    labels
        Integers below k, shape (n,).
    weights
        Of the rows, shape (n,); all ones by default.

    Returns
    -------
    sums
        Shape (k, d), of the rows' dtype.
    """
    sums = np.zeros((k, rows.shape[1]), rows.dtype)
    order = labels.argsort(kind="stable")
    weights = np.ones(len(rows), rows.dtype) if weights is None else weights[order]
    ends = np.bincount(labels, minlength=k).cumsum()
    for label in np.flatnonzero(np.diff(ends, prepend=0)).tolist():
        start, end = (ends[label - 1] if label else 0), ends[label]
        np.dot(weights[start:end], rows[order[start:end]], out=sums[label])
    return sums


def nearest_centres(rows: Array, centres: Array) -> tuple[Array, Array]:
    """Closest centre of each row and the squared distance, by one matrix product.

    Parameters
    ----------
    rows, centres
        Shapes (n, d) and (k, d), of one dtype.

    Returns
    -------
    labels, squared
        Both of shape (n,); a distance is exact up to the rounding of the squared norms.
    """
    scores = rows @ centres.T  # (n, k)
    scores *= -2
    scores += np.einsum("ij,ij->i", centres, centres)
    labels = scores.argmin(axis=1)
    squared = np.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
    squared += np.einsum("ij,ij->i", rows, rows)
    return labels, np.maximum(squared, 0)


def _exact_distances(rows: Array, centres: Array, labels: Array) -> Array:
    """Squared distance of each row to its centre, from the differences: no cancellation, shape (n,)."""
    differences = rows - centres[labels]
    squared: Array = np.einsum("ij,ij->i", differences, differences)
    return squared


def dense_chunks(features: Array | CSR, centres: int) -> Iterator[Array]:
    """Dense pieces of the rows, bounded in the bytes of rows and of distances to the centres."""
    row_bytes = 4 * max(centres, int(features.shape[1]) if isinstance(features, CSR) else 1)
    step = max(1, _CHUNK_BYTES // row_bytes)
    for start in range(0, len(features), step):
        rows = features[start : start + step]
        yield _dense(rows)


def _weighted_msd(state: State, centres: Array) -> float:
    """Mean squared distance of the intermediate centres to the final ones, weighted with their counts."""
    points, final = state.centres.astype(np.float64), centres.astype(np.float64)
    return _weighted_mean(_exact_distances(points, final, nearest_centres(points, final)[0]), state.counts)


def _score(params: KMeansParams, model: KMeansModel, test: Channel, report: Report) -> None:
    """What `eval_metrics` names, over all rows of the test channel."""
    rows, total = 0, 0.0
    for batch in test.batches(params.mini_batch_size):
        distances = model.predict(batch.features).columns["distance_to_cluster"]
        total += float(np.square(distances, dtype=np.float64).sum())
        rows += len(batch)
    values = {"msd": total / max(1, rows), "ssd": total}
    for name in params.eval_metrics:
        report.score("test", name, values[name])
    for name in params.eval_metrics:
        report.quality("test", name, values[name])


def _weighted_mean(values: Array, weights: Array) -> float:
    return float(values @ weights / weights.sum())


def _dense(features: Array | CSR) -> Array:
    return features.toarray() if isinstance(features, CSR) else features


ALGORITHM = Algorithm(
    name="kmeans",
    title="K-means",
    log_name="AWS/KMeansWebscale",
    params=KMeansParams,
    fit=fit,
    load=KMeansModel.from_bytes,
    channels=("train", "test"),
    content_types=("recordio", "csv"),
    accepts=("json", "jsonlines", "csv", "recordio"),
    metrics=(
        Metric("msd", minimize=True, channels=("train", "test"), doc="Mean squared distance to the closest centre."),
        Metric("ssd", minimize=True, channels=("test",), doc="Sum of squared distances to the closest centre."),
    ),
    labelled=False,
)
