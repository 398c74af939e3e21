"""Small models of XGBoost of every objective, and what the library's own package makes of them."""

from __future__ import annotations

import functools
import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from clary.algorithms.booster import Booster, Matrix
from clary.recordio.batch import CSR, Array

WIDTH = 5
_rng = np.random.default_rng(3)
ROWS = _rng.normal(size=(60, WIDTH)).astype(np.float32)
ROWS[_rng.random(ROWS.shape) < 0.2] = np.nan
_SIGNAL = np.nan_to_num(ROWS[:, 0]) * 2 + np.nan_to_num(ROWS[:, 1]) + 0.3 * _rng.normal(size=len(ROWS))
_LABELS = {"binary": _SIGNAL > 0, "multi": np.digitize(_SIGNAL, [-1, 1]), "reg": np.exp(_SIGNAL / 4) / 4}
"""By the first word of an objective."""


@functools.cache
def trained(objective: str = "binary:logistic", rounds: int = 4, **params: str) -> bytes:
    """A model file."""
    kind = objective.partition(":")[0]
    matrix = Matrix(ROWS, _LABELS.get(kind, _LABELS["reg"]).astype(np.float32))
    classes = {"num_class": "3"} if kind == "multi" else {}
    usual = {"objective": objective, "max_depth": "3", "eta": "0.7", "nthread": "1"}
    booster = Booster({**usual, **classes, **params}, [matrix])
    for iteration in range(rounds):
        booster.update(matrix, iteration)
    return booster.to_bytes()


def predicted(model: bytes, rows: Array | CSR = ROWS) -> Array:
    """The predictions of the library's own package, which takes the library's log of the thread that imports it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_predicted, model, rows).result()


def _predicted(model: bytes, rows: Array | CSR) -> Array:
    import xgboost

    booster = xgboost.Booster({"nthread": 1}, model_file=bytearray(model))
    features = rows.to_scipy() if isinstance(rows, CSR) else rows
    found: Array = booster.predict(xgboost.DMatrix(features, nthread=1), validate_features=False)
    return found


def present(rows: Array) -> CSR:
    """The values of the rows that are not missing; zeros stay."""
    there = ~np.isnan(rows)
    indptr = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
    n, d = rows.shape
    return CSR(indptr.astype(np.int64), np.nonzero(there)[1].astype(np.int64), rows[there], (n, d))


def libsvm(rows: Array, *, label: str = "") -> bytes:
    """Rows as libsvm, counted from zero; what is missing is left out."""
    lines = (
        " ".join([*([label] if label else []), *(f"{i}:{row[i]:.9g}" for i in np.flatnonzero(~np.isnan(row)))])
        for row in rows
    )
    return "".join(line + "\n" for line in lines).encode()


def parquet(rows: Array) -> bytes:
    """Rows as Parquet, in which what is missing is null."""
    import pyarrow
    import pyarrow.parquet

    stream = io.BytesIO()
    columns = {f"c{i}": pyarrow.array(column, from_pandas=True) for i, column in enumerate(rows.T)}
    pyarrow.parquet.write_table(pyarrow.table(columns), stream)
    return stream.getvalue()
