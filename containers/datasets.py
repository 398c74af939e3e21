"""Real data sets that scikit-learn brings along, as files."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..errors import UserError
from ..recordio._extras import require
from ..recordio.batch import Batch
from .formats import format_name
from .screen import table
from .sinks import Target

__all__ = ["DATASETS", "datasets"]


@dataclass(frozen=True, slots=True)
class _Dataset:
    rows: int
    features: int
    label: str
    text: str


DATASETS: Final = {
    "digits": _Dataset(1797, 64, "digit 0 to 9", "grey images of handwritten digits, 8 by 8"),
    "iris": _Dataset(150, 4, "species 0 to 2", "sizes of the flowers of three kinds of iris"),
    "wine": _Dataset(178, 13, "grower 0 to 2", "chemistry of wines from three growers"),
    "breast_cancer": _Dataset(569, 30, "1 is benign", "shapes of cell nuclei in tumours"),
    "diabetes": _Dataset(442, 10, "progression", "body measurements of patients, scaled"),
}
"""Name → what scikit-learn's ``load_<name>`` gives."""


def datasets(
    *, name: str | None, out: str | None, out_format: str | None, dtype: str, sparse: bool | None, shards: int
) -> None:
    """Write the data set `name`, or list what there is."""
    if name is None:
        rows = [(key, str(item.rows), str(item.features), item.label, item.text) for key, item in DATASETS.items()]
        print(table([("name", "rows", "features", "label", "what"), *rows]))
        return
    if name not in DATASETS:
        raise UserError(f"no data set {name!r}: there are {', '.join(DATASETS)}")
    out = out or f"{name}.{_SUFFIXES[out_format or 'recordio']}"
    target = Target(out, format_name(out, out_format or ("csv" if out == "-" else None), "--to"), shards, dtype, sparse)
    source = require("sklearn.datasets", package="scikit-learn", extra="data")
    features, labels = getattr(source, f"load_{name}")(return_X_y=True)
    written = target.write([Batch(features, labels.astype(np.float64))])
    where = "standard output" if out == "-" else out
    print(f"{where}: {written} rows of {features.shape[1]} features, labelled: {DATASETS[name].label}", file=sys.stderr)


_SUFFIXES: Final = {"csv": "csv", "libsvm": "libsvm", "npy": "npy", "npz": "npz", "recordio": "rec"}
