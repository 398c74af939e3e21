"""Web-scale k-means: many cumulative centres in one pass over mini-batches, then k of them.

The data is read in mini-batches with K = k × extra_center_factor intermediate centres, each the mean of all rows ever
assigned to it. Then weighted Lloyd iterations on the K centres, a data set of no size at all, find the k final ones.
Each further epoch is a Lloyd iteration of these k centres over all rows. Distances come from float32 matrix products.

References
----------
.. [1] D. Sculley, "Web-Scale K-Means Clustering", WWW 2010.
.. [2] Amazon SageMaker developer guide, "How K-Means Clustering Works" and "K-Means Hyperparameters".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final

import numpy as np

from ..errors import ArtifactError, ChannelError
from ..recordio.batch import CSR, Array
from .base import Algorithm, Channel, Metric, Predictions, Report, no_rows
from .lloyd import (
    Centres,
    exact_distances,
    kmeans_plus_plus,
    lloyd,
    nearest_centres,
    never,
    spanned,
    weighted_mean,
)
from .ndarray import dump_arrays, load_arrays
from .params import HyperParameters, hp
from .rows import dense, few, pieces

__all__ = ["ALGORITHM", "KMeansModel", "KMeansParams", "fit"]

_SEED: Final = 0  # the algorithm has no hyperparameter for it: equal jobs give equal models


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


@dataclass(frozen=True)
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

    @cached_property
    def _seen(self) -> Centres:
        """The same for every request."""
        return Centres.of(self.centres)

    def predict(self, features: Array | CSR) -> Predictions:
        """The closest centre of each row of shape (n, d), and the Euclidean distance to it."""
        found = self._seen.answers(features) if few(features) else None
        closest, distances = self._of_pieces(features) if found is None else found
        return Predictions("predictions", {"closest_cluster": closest, "distance_to_cluster": distances})

    def _of_pieces(self, features: Array | CSR) -> tuple[Array, Array]:
        closest, squared, centres = [], [], self._seen
        for piece in pieces(features, len(centres), centres.offset):
            labels = centres.assign(piece)[0]
            closest.append(labels.astype(np.float32))
            squared.append(centres.distances(piece, labels))
        return np.concatenate(closest), np.sqrt(np.concatenate(squared))

    def to_bytes(self) -> bytes:
        """The artifact: one array without a name, as Amazon's container writes it."""
        return dump_arrays([self.centres])

    @classmethod
    def from_bytes(cls, data: bytes) -> KMeansModel:
        """Open an artifact, ours or Amazon's.

        Raises
        ------
        ArtifactError
            When it holds anything but one unnamed array of centres, all finite.
        """
        arrays = load_arrays(data)
        if list(arrays) != ["0"] or arrays["0"].ndim != 2 or not arrays["0"].size:
            shapes = {name: array.shape for name, array in arrays.items()}
            raise ArtifactError(f"expected one array of centres, found {shapes}")
        if not np.isfinite(arrays["0"]).all():
            raise ArtifactError("the centres are not all finite numbers")
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
        if model is None:
            model = shrink(params, report, state)
            report.keep(partial(_same, model))
        model = _refine(params, model, train, report)
        report.keep(partial(_same, model))
    assert state is not None  # noqa: S101  # there is at least one epoch
    model = model or shrink(params, report, state)
    report.keep(partial(_same, model))
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
        state, msd = update(state, batch.features, decay, lambda: report.stopping)
        report.keep(partial(shrink, params, report, state))
        seen += len(batch)
        total += msd * len(batch)
        if number % 10 == 0:
            report.info(f"Iter {number}: Short term msd {msd:f}. Long term msd {total / seen:f}")
    if state is None:
        raise no_rows()
    report.info(f"processed a total of {seen} examples")
    return state


def _refine(params: KMeansParams, model: KMeansModel, train: Channel, report: Report) -> KMeansModel:
    """A further epoch: one Lloyd iteration of the k centres over all rows."""
    centres = Centres.of(model.centres)
    sums, counts = np.zeros(centres.seen.shape), np.zeros(len(centres))
    for batch in train.batches(params.mini_batch_size):
        for piece in pieces(batch.features, len(centres), centres.offset):
            if report.stopping:
                break  # the channel ends the epoch, and the model of the last one counts
            centres.assign(piece, sums, counts)
    return KMeansModel(_means(sums, counts, centres))


def _means(sums: Array, counts: Array, centres: Centres) -> Array:
    """New centres, float32: the means where there are rows, the old ones elsewhere."""
    some = counts[:, None] > 0
    means = np.where(some, np.divide(sums, counts[:, None], out=sums, where=some), centres.seen)
    return (means if centres.offset is None else means + centres.offset).astype(np.float32)


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
        remedy = "raise mini_batch_size" if rows == params.mini_batch_size else "lower k or give more data"
        raise ChannelError(f"the first mini-batch has {rows} rows for k={params.k} clusters: {remedy}")
    rng = np.random.default_rng(_SEED)
    K = min(K, rows)
    if params.init_method == "random":
        chosen = np.sort(rng.choice(rows, K, replace=False))
        centres = np.concatenate([dense(features[i : i + 1]) for i in chosen.tolist()])
    else:
        centres = kmeans_plus_plus(dense(features), np.ones(rows), K, rng, lambda: report.stopping)
    return State(centres.astype(np.float32), np.ones(K))


def update(
    state: State, features: Array | CSR, decay: float = 1.0, stopping: Callable[[], bool] = never
) -> tuple[State, float]:
    """One mini-batch: each centre becomes the mean of the rows it ever had and those it has now.

    Parameters
    ----------
    state
        The centres so far.
    features
        Rows of shape (n, d).
    decay
        What the counts so far are multiplied with first.
    stopping
        Tells when to leave out the rows that are left.

    Returns
    -------
    state
        The centres after the mini-batch.
    msd
        Mean squared distance of the rows to the centres before it.

    Raises
    ------
    ChannelError
        When the squares of the numbers are too large for float32.

    Examples
    --------
    >>> state = State(np.array([[0.], [10.]], np.float32), np.ones(2))
    >>> state, msd = update(state, np.array([[1.], [2.], [12.]], np.float32))
    >>> state.centres.ravel().tolist(), state.counts.tolist(), msd
    ([1.0, 11.0], [3.0, 2.0], 3.0)
    """
    centres = Centres.of(state.centres)
    counts = state.counts * decay  # (K,)
    sums = centres.seen * counts[:, None]  # (K, d) float64
    squared, seen = 0.0, 0
    for piece in pieces(features, len(centres), centres.offset):
        if stopping() and seen:
            break
        nearest = centres.assign(piece, sums, counts)[1]
        squared += float(nearest.sum(dtype=np.float64))
        seen += len(piece.rows)
    if not np.isfinite(squared):
        raise ChannelError("the numbers of the channel 'train' are too large: their squares overflow float32")
    return State(_means(sums, counts, centres), counts), squared / max(1, seen)


def shrink(params: KMeansParams, report: Report, state: State) -> KMeansModel:
    """The k centres that represent the K intermediate ones best, each weighted with its count."""
    with report.timing("_shrink.time"):
        return _best_of_trials(params, report, state)


def _best_of_trials(params: KMeansParams, report: Report, state: State) -> KMeansModel:
    report.info(f"shrinking {len(state.centres)} centers into {params.k}")
    rng = np.random.default_rng(_SEED)
    points, back = spanned(state.centres.astype(np.float64))
    weights = state.counts
    best, least = points[: params.k], np.inf
    for trial in range(params.local_lloyd_num_trials or 10):
        if report.stopping and trial:
            break
        if params.local_lloyd_init_method == "kmeans++":
            start = kmeans_plus_plus(points, weights, params.k, rng, lambda: report.stopping)
        else:
            start = points[rng.choice(len(points), params.k, replace=False)]
        most, tolerance = params.local_lloyd_max_iter, params.local_lloyd_tol
        centres, msd = lloyd(points, weights, start, most, tolerance, lambda: report.stopping)
        if msd < least:
            best, least = centres, msd
        report.info(f"local kmeans attempt #{trial}. Current mean square distance {msd:f}")
    report.info(f"finished shrinking process. Mean Square Distance = {least:.0f}")
    return KMeansModel(back(best).astype(np.float32))


def _weighted_msd(state: State, centres: Array) -> float:
    """Mean squared distance of the intermediate centres to the final ones, weighted with their counts."""
    points, final = state.centres.astype(np.float64), centres.astype(np.float64)
    return weighted_mean(exact_distances(points, final, nearest_centres(points, final)[0]), state.counts)


def _score(params: KMeansParams, model: KMeansModel, test: Channel, report: Report) -> None:
    """What `eval_metrics` names, over all rows of the test channel."""
    rows, total = 0, 0.0
    for batch in test.batches(params.mini_batch_size):
        distances = model.predict(batch.features).columns["distance_to_cluster"]
        total += float(np.square(distances, dtype=np.float64).sum())
        rows += len(batch)
    if not rows:
        report.warning("the channel 'test' has no rows: there is nothing to evaluate")
        return
    values = {"msd": total / rows, "ssd": total}
    report.evaluation("test", {name: values[name] for name in params.eval_metrics})


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
)
