"""The kernels of boosted trees and of replies.

Trees are measured against the library's own Python package, in CPU time of one thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from clary.algorithms.base import Predictions
from clary.algorithms.registry import algorithm
from clary.recordio.batch import Array
from clary.serve.encode import encode

from .timing import Row, best_of
from .xgboost import PARAMETERS, RIVAL, xgboost

__all__ = ["rows"]


def trees() -> Iterator[Row]:
    """One row and a thousand asked of 100 trees; margins have to have the same bits."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(20_000, 28)).astype(np.float32)
    booster = xgboost.train(PARAMETERS, xgboost.DMatrix(data, data.sum(axis=1) > 0), 100)
    booster.set_param({"nthread": 1})
    model = algorithm("xgboost").load(bytes(booster.save_raw("ubj")))
    holed = data[:1000].copy()
    holed[rng.random(holed.shape) < 0.2] = np.nan
    for what, part, times, least in (
        ("one row, 100 trees", data[:1], 300, 20),
        ("1,000 rows, 100 trees", data[:1000], 5, 1),
        ("1,000 rows with missing values, 100 trees", holed, 5, 1),
    ):
        assert model.predict(part).columns["score"].tobytes() == booster.inplace_predict(part).tobytes()
        runs = [
            lambda part=part, times=times: [model.predict(part) for _ in range(times)],
            lambda part=part, times=times: [booster.inplace_predict(part) for _ in range(times)],
        ]
        ours, theirs = (1e6 * seconds / times for seconds in best_of(runs))
        yield Row(what, ours, "µs", f"{RIVAL} inplace_predict", theirs, least, higher_is_better=False)


def replies() -> Iterator[Row]:
    """The text of 1,000 predictions with two columns."""
    rng = np.random.default_rng(0)
    score = rng.random(1000).astype(np.float32)
    columns: dict[str, Array] = {"score": score, "predicted_label": (score > 0.5).astype(np.int64)}
    predictions = Predictions("predictions", columns)
    for name in ("json", "jsonlines", "csv"):
        [seconds] = best_of([lambda name=name: encode(predictions, name)], 20)
        yield Row(f"reply of 1,000 predictions, {name}", 1e3 * seconds, "ms", bar=0.4, higher_is_better=False)


def rows() -> Iterable[Row]:
    """All measurements."""
    yield from trees()
    yield from replies()
