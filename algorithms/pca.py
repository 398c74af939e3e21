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

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final

import numpy as np

from ..errors import ArtifactError, ChannelError, HyperParameterError, UserError
from ..recordio.batch import CSR, Array, Batch, concatenate
from .base import Algorithm, Channel, Metric, Predictions, Report
from .memory import available_memory
from .ndarray import dump_arrays, load_arrays
from .params import HyperParameters, hp
from .rows import Piece, compact, far_mean, less, pieces

__all__ = ["ALGORITHM", "Outer", "PCAModel", "PCAParams", "Sketch", "fit"]

_SEED: Final = 0  # the algorithm has no hyperparameter for it: equal jobs give equal models
_BLOCK: Final = 4096  # rows that are multiplied at a time: fewer are slower, float32 sums of more are less exact
_BLOCK_BYTES: Final = 16 << 20  # of rows that a sketch takes at a time
_FIRST: Final = 256  # rows that tell how far from zero the data is
_FAR: Final = 4.0  # squared distance of the mean from zero, in units of the variance, that costs digits
# Numbers of float64 that are in memory at the end, measured, in units of
_REGULAR_COPIES: Final = 6  # d × d
_VECTORS_COPIES: Final = 5  # d × k
_SKETCH_COPIES: Final = 8  # d × m
_LESS: Final = "algorithm_mode=randomized needs less"


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
        projections = np.concatenate(parts) - offset
        return Predictions("projections", {"projection": projections.astype(np.float32)})

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


class _Sums:
    """Number and sum of the rows; whoever inherits sums what the components come from.

    Rows far from zero are seen from a point among them, as float32 would lose what tells them apart.
    """

    def __init__(self, d: int, k: int, *, subtract_mean: bool) -> None:
        self.d, self.k = d, k
        self.subtract_mean = subtract_mean
        self.count = 0
        self.sum = np.zeros(d)
        self.offset: Array | None = None  # (d,) float32
        self._held: list[Batch] = []
        self._rows_held = 0
        self._store = np.empty((0, d), np.float32)

    def _hold(self, features: Array | CSR) -> None:
        if len(features):
            self._held.append(Batch(features))
            self._rows_held += len(features)

    def _taken(self) -> Array | CSR:
        """All rows that are held, together."""
        held, rows = self._held, self._rows_held
        self._held, self._rows_held = [], 0
        if len(held) == 1 or any(isinstance(batch.features, CSR) for batch in held):
            return held[0].features if len(held) == 1 else concatenate(held).features
        if len(self._store) < rows:  # kept, as the system takes longer to give memory than it takes to fill it
            self._store = np.empty((rows, self.d), np.float32)
        return np.concatenate([batch.dense() for batch in held], out=self._store[:rows])

    def _blocks(self) -> Iterator[Array | CSR]:
        """The rows that are held, as seen from the offset, in parts of one size, each about a block."""
        rows = self._taken()
        if self.subtract_mean and not self.count:  # the first rows decide
            self.offset = far_mean(rows[:_FIRST], _FAR)
        self.count += len(rows)
        step = -(-len(rows) // max(1, round(len(rows) / _BLOCK)))
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            yield block if self.offset is None else less(block, self.offset)

    def _add_to_sum(self, piece: Piece) -> None:
        piece.add(self.sum[None], np.ones((1, len(piece.rows)), np.float32) @ piece.rows)

    @property
    def _mean(self) -> Array:
        """Mean of the rows as seen from the offset, float64, shape (d,); zero where none is to be subtracted."""
        return self.sum / self.count if self.subtract_mean else np.zeros(self.d)

    def _model(self, squares: Array, v: Array) -> PCAModel:
        """The model with these components, and the squares of their singular values."""
        return _model(squares, v, self._mean if self.offset is None else self._mean + self.offset)


def _model(squares: Array, v: Array, mean: Array) -> PCAModel:
    s = np.sqrt(np.maximum(squares, 0))  # of components without variance, rounding leaves either sign
    if not s.max() <= np.finfo(np.float32).max:
        raise _too_large()
    return PCAModel(*(array.astype(np.float32) for array in (s, v, mean[None])))


class Outer(_Sums):
    """The sum of the rows' outer products, float64, shape (d, d); few rows are kept themselves.

    Parameters
    ----------
    d, k
        Numbers of columns and of components.
    subtract_mean
        Whether the components are those of the rows less their mean.

    Examples
    --------
    >>> outer = Outer(2, 1)
    >>> outer.add(np.array([[1, 3], [2, 5], [3, 7]], np.float32))
    >>> model, variance = outer.solve()
    >>> model.s.round(4).tolist(), round(variance, 6)
    ([3.1623], 10.0)
    """

    def __init__(self, d: int, k: int, *, subtract_mean: bool = True) -> None:
        super().__init__(d, k, subtract_mean=subtract_mean)
        self._products: Array | None = None  # (d, d)

    def add(self, features: Array | CSR) -> None:
        """Take some rows of shape (n, d), and keep them until there are enough for a fast product."""
        self._hold(features)
        if self._rows_held >= max(_BLOCK, self.d // 2):
            self._multiply()
        elif self._products is None and not isinstance(features, CSR) and 4 * self._rows_held * self.d > _BLOCK_BYTES:
            self._check_few(self.d)

    def solve(self) -> tuple[PCAModel, float]:
        """The components, ascending and with the signs that LAPACK gives them, and the total variance times n."""
        if self._products is None and self._rows_held < self.d // 2:
            return self._solve_few()
        self._multiply()
        assert self._products is not None  # noqa: S101  # there are rows
        if not np.isfinite(self._products).all():
            raise _too_large()
        scatter = self._products - self.count * np.outer(self._mean, self._mean)
        squares, v = np.linalg.eigh(scatter)
        return self._model(squares[-self.k :], v[:, -self.k :]), float(np.trace(scatter))

    def _multiply(self) -> None:
        """Add the products of the rows that are held."""
        if not self._held:
            return
        if self._products is None:
            _check_memory(_REGULAR_COPIES * 8 * self.d**2, _LESS)
            self._products = np.zeros((self.d, self.d))
        with np.errstate(over="ignore", invalid="ignore"):  # `solve` tells
            for block in self._blocks():
                piece = compact(block)
                _add_product(self._products, piece)
                self._add_to_sum(piece)

    def _solve_few(self) -> tuple[PCAModel, float]:
        """The components of few rows: singular vectors, in the columns where any row has a value."""
        rows = self._taken()
        self._hold(rows)  # there may be more to come
        self._check_few(len(np.unique(rows.indices)) if isinstance(rows, CSR) else self.d)
        piece = compact(rows)
        columns = np.arange(self.d) if piece.columns is None else np.union1d(piece.columns, np.arange(self.k))
        x = np.zeros((len(rows), len(columns)))
        x[:, slice(None) if piece.columns is None else np.searchsorted(columns, piece.columns)] = piece.rows
        mean, v = np.zeros(self.d), np.zeros((self.d, self.k))
        if self.subtract_mean:
            mean[columns] = x.mean(axis=0)
            x -= mean[columns]
        squares, v[columns] = _singular_vectors(x, self.k)
        return _model(squares, v, mean), float(np.einsum("ij,ij->", x, x))

    def _check_few(self, columns: int) -> None:
        """Whether there is memory for the singular vectors of what is held; so few rows need less than the sums."""
        n = self._rows_held
        if n < self.d // 2:
            numbers = 2 * n * columns + _REGULAR_COPIES * min(n, columns) ** 2 + _VECTORS_COPIES * columns * self.k
            _check_memory(8 * numbers, _LESS)


def _singular_vectors(x: Array, k: int) -> tuple[Array, Array]:
    """The k largest singular values of x (n, c), squared and ascending, and the right singular vectors, (c, k)."""
    n, c = x.shape
    if n >= c:
        squares, v = np.linalg.eigh(x.T @ x)
        return squares[-k:], v[:, -k:]
    squares, u = np.linalg.eigh(x @ x.T)
    most = min(n, k)
    y = np.zeros((c, k))
    y[:, :most] = x.T @ u[:, : -most - 1 : -1]
    q, r = np.linalg.qr(y)  # orthonormal where singular values are zero, or there are fewer rows than components
    v = q * np.where(np.diag(r) < 0, -1, 1)
    return np.pad(squares[-most:], (k - most, 0)), v[:, ::-1]


def _add_product(products: Array, piece: Piece) -> None:
    """Add the outer products of a piece's rows to the d × d sums."""
    d, columns = len(products), piece.columns
    part = piece.rows.T @ piece.rows
    if columns is None:
        products += part
    elif len(columns) < d // 3:
        products[np.ix_(columns, columns)] += part
    else:  # adding to chosen places one by one would take longer than spreading the part over all
        spread = np.zeros((len(columns) + 1,) * 2, np.float32)
        spread[:-1, :-1] = part
        place = np.full(d, len(columns))
        place[columns] = np.arange(len(columns))
        products += spread.take(place, axis=1).take(place, axis=0)


class Sketch(_Sums):
    """The product of the sum of outer products with a random orthonormal matrix, float64, shape (d, m).

    Parameters
    ----------
    d, k
        Numbers of columns and of components.
    m
        Columns of the random matrix, k at least and d at most; more are more exact.
    subtract_mean
        Whether the components are those of the rows less their mean.

    Examples
    --------
    >>> sketch = Sketch(2, 1, 2)
    >>> sketch.add(np.array([[1, 3], [2, 5], [3, 7]], np.float32))
    >>> model, variance = sketch.solve()
    >>> model.s.round(3).tolist(), round(variance, 4)
    ([3.162], 10.0)
    """

    def __init__(self, d: int, k: int, m: int, *, subtract_mean: bool = True) -> None:
        super().__init__(d, k, subtract_mean=subtract_mean)
        _check_memory(_SKETCH_COPIES * 8 * d * m, "lower num_components or extra_components")
        normal = np.random.default_rng(_SEED).standard_normal((d, m))
        self._random = np.linalg.qr(normal)[0].T.astype(np.float32)  # (m, d)
        self._products = np.zeros((m, d))
        self._squares = 0.0

    def add(self, features: Array | CSR) -> None:
        """Take some rows of shape (n, d), and keep them until there are enough for a fast product."""
        self._hold(features)
        if self._rows_held >= min(_BLOCK, max(len(self._random), _BLOCK_BYTES // (4 * self.d))):
            self._multiply()

    def _multiply(self) -> None:
        if not self._held:
            return
        with np.errstate(over="ignore", invalid="ignore"):  # `solve` tells
            for piece in (piece for block in self._blocks() for piece in pieces(block, len(self._random))):
                part = piece.of(self._random)  # (m, some)
                piece.add(self._products, (piece.rows @ part.T).T @ piece.rows)
                self._add_to_sum(piece)
                self._squares += float(np.einsum("ij,ij->i", piece.rows, piece.rows).sum(dtype=np.float64))

    def solve(self) -> tuple[PCAModel, float]:
        """The components, descending, and the total variance times n."""
        self._multiply()
        if not np.isfinite(self._products).all():
            raise _too_large()
        omega, mean = self._random.astype(np.float64).T, self._mean  # (d, m), (d,)
        y = self._products.T - self.count * np.outer(mean, mean @ omega)  # (d, m)
        core = omega.T @ y  # (m, m)
        # Above the rounding errors, so that all eigenvalues below are positive; those of y itself would be too much,
        # as of many columns core sees few.
        shift = max(np.finfo(np.float32).eps * float(np.linalg.norm(core)), np.finfo(np.float32).tiny)
        y += shift * omega
        squares, w = np.linalg.eigh((core + core.T) / 2 + shift * np.eye(len(core)))
        u, sigma, _ = np.linalg.svd(y @ (w / np.sqrt(np.maximum(squares, shift))), full_matrices=False)
        model = self._model(np.square(sigma[: self.k]) - shift, u[:, : self.k])
        return model, self._squares - self.count * float(mean @ mean)


def _check_memory(needed: int, advice: str) -> None:
    if needed > (available := available_memory()):
        raise UserError(f"not enough memory: about {needed} bytes are needed, {available} are available: {advice}")


def _too_large() -> ChannelError:
    return ChannelError("the numbers of the channel 'train' are too large: their squares overflow float32")


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
        raise ChannelError(
            "No training data processed. Either the training channel is empty or the mini-batch size is too high: "
            "the channel 'train' has no rows"
        )
    with report.timing("finalize.time"):
        model, variance = sums.solve()
    report.keep(lambda: model)
    ratio = _share(float(np.square(model.s, dtype=np.float64).sum()), variance)
    report.quality("train", "explained_variance_ratio", ratio)
    if "test" in channels:
        _evaluate(params, model, channels["test"], report)
    return model


def _so_far(sums: Outer | Sketch) -> PCAModel:
    return sums.solve()[0]


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
        if batch.width != model.feature_dim:
            raise ChannelError(
                f"rows of the channel 'test' have {batch.width} features, those of 'train' have {model.feature_dim}"
            )
        part += float(np.square(model.predict(batch.features).columns["projection"], dtype=np.float64).sum())
        for piece in pieces(batch.features, batch.width):
            near = piece.of(model.mean)
            whole += float(np.square(piece.rows - near, dtype=np.float64).sum())
            whole += len(piece.rows) * (_squared(model.mean) - _squared(near))  # columns without a value
        rows += len(batch)
    if not rows:
        report.warning("the channel 'test' has no rows: there is nothing to evaluate")
        return
    report.score("test", "explained_variance_ratio", _share(part, whole))
    report.quality("test", "explained_variance_ratio", _share(part, whole))


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
