"""PCA without a job around it, and what numpy makes of the same rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clary.algorithms.pca import ALGORITHM, PCAModel, PCAParams
from clary.recordio.batch import CSR, Array

from .conftest import Notes, Rows

# Their scatter around the mean (2, 1) is [[8, 0], [0, 2]].
CROSS = np.array([[0, 1], [4, 1], [2, 0], [2, 2]], np.float32)
BOTH = ["regular", "randomized"]


@dataclass
class Fitted:
    """A model and what its training told."""

    model: PCAModel
    notes: Notes


def fit(features: Array | CSR, test: Array | CSR | None = None, **given: object) -> Fitted:
    """Train PCA, by default of two components."""
    whole = {"feature_dim": features.shape[1], "num_components": 2, "mini_batch_size": 500, **given}
    channels = {"train": Rows("train", features), **({} if test is None else {"test": Rows("test", test)})}
    notes = Notes()
    model = ALGORITHM.fit(PCAParams.parse({name: str(value) for name, value in whole.items()}), channels, notes)
    assert isinstance(model, PCAModel)
    return Fitted(model, notes)


def by_numpy(rows: Array, *, subtract_mean: bool = True) -> tuple[Array, Array, Array]:
    """All eigenvalues of the scatter, ascending, its eigenvectors and the mean, in double precision."""
    x = rows.astype(np.float64)
    mean = x.mean(axis=0) if subtract_mean else np.zeros(x.shape[1])
    squares, v = np.linalg.eigh((x - mean).T @ (x - mean))
    return squares, v, mean


def variance(model: PCAModel, rows: Array) -> float:
    """What the components capture of the rows' variance."""
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    return float(np.square(centred @ model.v.astype(np.float64)).sum())


def aligned(v: Array, other: Array) -> Array:
    """The columns of `v` with the signs of `other`'s."""
    signed: Array = v * np.sign((v * other).sum(axis=0))
    return signed


def orthonormal(model: PCAModel) -> bool:
    """Whether the components are."""
    v = model.v.astype(np.float64)
    return np.allclose(v.T @ v, np.eye(v.shape[1]), atol=1e-5)
