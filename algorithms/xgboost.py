"""XGBoost: gradient boosted trees.

What the algorithm is, so that whoever only asks does not wait for NumPy; what it does is in `xgboost_job`.

References
----------
- T. Chen, C. Guestrin: XGBoost: A Scalable Tree Boosting System, KDD 2016, https://arxiv.org/abs/1603.02754
- https://docs.aws.amazon.com/sagemaker/latest/dg/xgboost.html
- https://github.com/aws/sagemaker-xgboost-container
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .base import Algorithm, Channel, Model, Report
from .xgboost_manners import XGBoostManners
from .xgboost_metrics import METRICS
from .xgboost_params import XGBoostParams

if TYPE_CHECKING:
    from ..recordio.batch import CSR, Array
    from .xgboost_model import XGBoostEnsemble, XGBoostModel

__all__ = ["ALGORITHM"]

_ARTIFACT: Final = "xgboost-model"


def _fit(params: XGBoostParams, channels: Mapping[str, Channel], report: Report) -> Model:
    from .xgboost_job import fit

    return fit(params, channels, report)


def _load(data: bytes) -> XGBoostModel:
    from .xgboost_job import load

    return load(data)


def _combine(models: Sequence[Any]) -> XGBoostEnsemble:
    from .xgboost_model import XGBoostEnsemble

    return XGBoostEnsemble(models)


def _select(
    model: XGBoostModel | XGBoostEnsemble, features: Array | CSR, keys: Sequence[str]
) -> Mapping[str, Sequence[Any]]:
    from .xgboost_model import select

    return select(model, features, keys)


def _candidates(folder: Path) -> Sequence[Path]:
    """The files of a model directory that are boosters, by their names or by how they begin; in order of number."""
    paths = [path for path in folder.glob("*") if path.is_file() and not path.name.startswith(".")]
    found = [path for path in paths if path.name.startswith(_ARTIFACT) or _looks_like_one(path)]
    return sorted(found, key=lambda path: (len(path.name), path.name))


def _looks_like_one(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"{"):
        return b"learner" in start
    return start.startswith((b"binf", b"CONFIG-offset:")) or b"xgboost.core" in start


ALGORITHM: Final = Algorithm(
    name="xgboost",
    title="XGBoost",
    log_name="XGBoost",
    params=XGBoostParams,
    fit=_fit,
    load=_load,
    channels=("train", "validation"),
    content_types=("libsvm", "csv", "parquet", "recordio"),
    accepts=("csv", "json", "jsonlines", "recordio"),
    metrics=METRICS,
    labelled=("train", "validation"),
    missing=True,
    ignored=("code",),
    artifact=_ARTIFACT,
    candidates=_candidates,
    combine=_combine,
    select=_select,
    manners=XGBoostManners(),
)
