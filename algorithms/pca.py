"""Principal component analysis: the directions along which rows vary most, in one pass over the data.

``regular`` sums the outer products of the rows, a d × d matrix whose eigenvectors the components are; where a row has
more columns than twice the number of rows, the rows are kept instead and their singular vectors taken. ``randomized``
keeps the product of this matrix with a random one of few columns, from which Nyström's approximation gives the
components [2]_: memory for d × (num_components + extra_components) numbers is all it takes.

References
----------
.. [1] Amazon SageMaker developer guide, "How PCA Works" and "PCA Hyperparameters".
.. [2] J. Tropp, A. Yurtsever, M. Udell, V. Cevher, "Fixed-Rank Approximation of a Positive-Semidefinite Matrix from
       Streaming Data", NIPS 2017, algorithm 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from ..errors import ArtifactError, HyperParameterError
from ..recordio.batch import CSR, Array
from .base import Algorithm, Channel, Metric, Predictions, Report, no_rows
from .ndarray import dump_arrays, load_arrays
from .params import HyperParameters, hp
from .rows import pieces
from .scatter import Outer, Sketch

__all__ = ["ALGORITHM", "PCAModel", "PCAParams", "fit"]


class PCAParams(HyperParameters):
    """Hyperparameters of PCA."""

    hidden = frozenset({"force_dense", "epochs"})

    feature_dim: int = hp(ge=1, doc="Number of features of a row; the data decide where they say otherwise.")
    num_components: int = hp(ge=1, doc="Number of principal components.")
    mini_batch_size: int = hp(ge=1, doc="Rows of a mini-batch; it does not change the result.")
    algorithm_mode: str = hp(
        default="regular",
        choices=("regular", "randomized", "stable"),
        doc="Exact, or approximate in less memory for many features; stable is another word for regular.",
    )
    subtract_mean: bool = hp(
        default=True, doc="Whether the mean is subtracted from rows, both in training and from those of requests."
    )
    extra_components: int = hp(
        default=-1,
        ge=-1,
        doc="Components beyond num_components that make randomized more exact; -1 means the larger of 10 and "
        "num_components.",
    )


@dataclass(frozen=True)
class PCAModel:
    """Principal components, as columns.

    Parameters
    ----------
    s
        Singular values of the centred data, float32, shape (k,): ascending in regular mode.
    v
        Components, float32, shape (d, k), in the order of `s`.
    mean
        What is subtracted from rows, float32, shape (1, d).

    Examples
    --------
    >>> model = PCAModel(np.ones(1, np.float32), np.array([[0.6], [0.8]], np.float32), np.ones((1, 2), np.float32))
    >>> model.predict(np.array([[1, 1], [6, 11]], np.float32)).columns["projection"].tolist()
    [[0.0], [11.0]]
    """

    s: Array
    v: Array
    mean: Array

    @property
    def feature_dim(self) -> int:
        """Number of features of a row."""
        return int(self.v.shape[0])

    @cached_property
    def _wide(self) -> tuple[Array, Array]:
        """The components, and what they make of the mean, as float64: a row's answer is the same in any batch."""
        v = self.v.astype(np.float64)
        return v, (self.mean.astype(np.float64) @ v)[0]

    def predict(self, features: Array | CSR) -> Predictions:
        """The projection (x - mean)v of each row of shape (n, d)."""
        v, offset = self._wide
        parts = [piece.rows.astype(np.float64) @ piece.of(v.T).T for piece in pieces(features, max(v.shape))]
        with np.errstate(over="ignore"):  # what is too large becomes inf
            projections = (np.concatenate(parts) - offset).astype(np.float32)
        return Predictions("projections", {"projection": projections})

    def to_bytes(self) -> bytes:
        """The artifact: the arrays s, v and mean, as Amazon's container writes them."""
        return dump_arrays({"s": self.s, "v": self.v, "mean": self.mean})

    @classmethod
    def from_bytes(cls, data: bytes) -> PCAModel:
        """Open an artifact, ours or Amazon's; one without mean subtracts nothing.

        Raises
        ------
        ArtifactError
            When it holds anything but the arrays s, v and mean of fitting shapes, the latter two finite.
        """
        arrays = load_arrays(data)
        shapes = {name: array.shape for name, array in arrays.items()}
        v = arrays.get("v", np.empty(0))
        if v.ndim != 2 or not v.size or shapes not in _shapes(*v.shape):
            raise ArtifactError(f"expected the arrays s (k), v (d, k) and mean (1, d), found {shapes}")
        with np.errstate(over="ignore"):  # told below
            s, v, mean = (x.astype(np.float32) for x in (arrays["s"], v, arrays.get("mean", np.zeros((1, len(v))))))
        if not np.isfinite(v).all() or not np.isfinite(mean).all():
            raise ArtifactError("the components or the mean are not all finite numbers")
        return cls(s, v, mean)

    def describe(self) -> Mapping[str, Any]:
        """Number of components, their singular values, and whether a mean is subtracted."""
        return {
            "num_components": len(self.s),
            "singular_values": [value if np.isfinite(value) else None for value in self.s.tolist()],
            "subtracts_mean": bool(self.mean.any()),
        }


def _shapes(d: int, k: int) -> list[dict[str, tuple[int, ...]]]:
    """What an artifact may hold."""
    both = {"s": (k,), "v": (d, k)}
    return [both, {**both, "mean": (1, d)}]


def fit(params: PCAParams, channels: Mapping[str, Channel], report: Report) -> PCAModel:
    """Train on the channel ``train`` and evaluate on ``test`` where there is one."""
    train = channels["train"]
    sums: Outer | Sketch | None = None
    for _ in report.epochs(1, train):
        for batch in train.batches(params.mini_batch_size):
            if sums is None:
                sums = _begin(params, batch.width, report)
                report.keep(partial(_so_far, sums))
            sums.add(batch.features)
    if sums is None:
        raise no_rows()
    with report.timing("finalize.time"):
        *arrays, variance = sums.solve()
        model = PCAModel(*arrays)
    report.keep(lambda: model)
    ratio = _share(float(np.square(model.s, dtype=np.float64).sum()), variance)
    report.quality("train", "explained_variance_ratio", ratio)
    if "test" in channels:
        _evaluate(params, model, channels["test"], report)
    return model


def _so_far(sums: Outer | Sketch) -> PCAModel:
    return PCAModel(*sums.solve()[:3])


def _begin(params: PCAParams, d: int, report: Report) -> Outer | Sketch:
    """What is to be summed over rows of d columns."""
    k = params.num_components
    randomized = params.algorithm_mode == "randomized"
    executor = f"<{'Randomized' if randomized else ''}PCAExecutor on cpu(0)>"
    report.info(f"The default executor is {executor}.")
    report.info(f"{d} feature(s) found in 'data'.")
    report.info(f"{executor} is assigned to batch slice from 0 to {params.mini_batch_size - 1}.")
    if d != params.feature_dim:
        report.warning(f"feature_dim is {params.feature_dim}, but rows of the channel 'train' have {d}, which counts")
    if k > d:
        raise HyperParameterError(f"num_components={k} is more than the {d} features of a row: set it to {d} at most")
    if not randomized:
        return Outer(d, k, subtract_mean=params.subtract_mean)
    extra = params.extra_components if params.extra_components >= 0 else max(10, k)
    if k + extra >= d:
        report.warning(
            "The total number of components and extra components should be less than the number of features."
        )
    return Sketch(d, k, min(d, k + extra), subtract_mean=params.subtract_mean)


def _squared(mean: Array) -> float:
    return float(np.square(mean, dtype=np.float64).sum())


def _share(part: float, whole: float) -> float:
    """Part of a whole, all of it where there is nothing."""
    return min(1.0, part / whole) if whole > 0 else 1.0


def _evaluate(params: PCAParams, model: PCAModel, test: Channel, report: Report) -> None:
    """The share of the test rows' variance around the model's mean that the components hold."""
    part = whole = 0.0
    rows = 0
    for batch in test.batches(params.mini_batch_size):
        part += float(np.square(model.predict(batch.features).columns["projection"], dtype=np.float64).sum())
        for piece in pieces(batch.features, batch.width):
            near = piece.of(model.mean)
            whole += float(np.square(piece.rows - near, dtype=np.float64).sum())
            whole += len(piece.rows) * (_squared(model.mean) - _squared(near))  # columns without a value
        rows += len(batch)
    if not rows:
        report.warning("the channel 'test' has no rows: there is nothing to evaluate")
        return
    report.evaluation("test", {"explained_variance_ratio": _share(part, whole)})


ALGORITHM = Algorithm(
    name="pca",
    title="Principal component analysis",
    log_name="PCA",
    params=PCAParams,
    fit=fit,
    load=PCAModel.from_bytes,
    channels=("train", "test"),
    content_types=("recordio", "csv"),
    accepts=("json", "jsonlines", "csv", "recordio"),
    metrics=(
        Metric(
            "explained_variance_ratio",
            minimize=False,
            channels=("train", "test"),
            doc="Share of the variance that the components hold.",
        ),
    ),
    strict_width=False,
)
