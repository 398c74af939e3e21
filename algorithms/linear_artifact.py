"""The artifact of the linear learner: what Amazon's container leaves, read and written.

It is a ZIP of an MXNet module and two JSON files. The weights are those for features as they come: no scaling is left
to do. The graph in it is for those who open the artifact with MXNet; nothing here reads it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..errors import ArtifactError
from ..recordio.batch import Array
from .mxnet_module import Node, dump_symbol, load_object, member, pack, shown, unpack
from .ndarray import dump_arrays, finite_float32, load_arrays

__all__ = ["PREDICTOR_TYPES", "LinearArtifact", "dump", "load"]

PREDICTOR_TYPES: Final = ("binary_classifier", "multiclass_classifier", "regressor")

_SYMBOL: Final = "mx-mod-symbol.json"
_PARAMS: Final = "mx-mod-0000.params"
_MANIFEST: Final = "manifest.json"
_ADDITIONAL: Final = "additional-params.json"
_VERSION: Final = {"mx-mod": "mxnet_module", "additional-params.json": "json", "version": 1}
_WEIGHT, _BIAS = "arg:fc0_weight", "arg:fc0_bias"
_METRICS: Final = {
    "quantile": None,
    "huber_delta": None,
    "margin": None,
    "loss_insensitivity": None,
    "eps_insensitive_loss_type": None,
    "accuracy_top_k": 3,
    "f_beta": 1.0,
    "positive_example_weight_mult": 1.0,
    "class_weights": None,
}
"""What Amazon's artifact says of metrics when nothing else was chosen."""


@dataclass(frozen=True)
class LinearArtifact:
    """A linear model: x·w + b for each of c outputs.

    Parameters
    ----------
    weight
        float32, shape (d, c); c is 1 unless there are several classes.
    bias
        float32, shape (c,).
    predictor_type
        One of `PREDICTOR_TYPES`.
    loss_type
        Name of the loss, for example ``logistic`` or ``squared_loss``.
    threshold
        Of a score, from which the label is 1.
    metrics
        Settings of losses and metrics, as ``metrics_params`` has them; what is left out is Amazon's default.

    Examples
    --------
    >>> weight, bias = np.ones((2, 1), np.float32), np.zeros(1, np.float32)
    >>> model = LinearArtifact(weight, bias, "regressor", "squared_loss", 0.5, {})
    >>> load(dump(model)).weight.tolist()
    [[1.0], [1.0]]
    """

    weight: Array
    bias: Array
    predictor_type: str
    loss_type: str
    threshold: float
    metrics: Mapping[str, Any]


def dump(artifact: LinearArtifact) -> bytes:
    """The bytes of the artifact; its threshold counts, not the one that `metrics` may repeat."""
    additional = {
        "threshold": artifact.threshold,
        "loss_type": artifact.loss_type,
        "predictor_type": artifact.predictor_type,
        "metrics_params": {**_METRICS, **artifact.metrics, "threshold": artifact.threshold},
    }
    weight, bias = artifact.weight.astype(np.float32), artifact.bias.astype(np.float32)
    return pack(
        {
            _SYMBOL: _symbol(artifact),
            _MANIFEST: json.dumps(_VERSION).encode(),
            _ADDITIONAL: json.dumps(additional, allow_nan=False).encode(),
            _PARAMS: dump_arrays({_WEIGHT: weight, _BIAS: bias[None, :]}),
        }
    )


def load(data: bytes) -> LinearArtifact:
    """Open an artifact, ours or Amazon's.

    Raises
    ------
    ArtifactError
        When it is no such ZIP, or its members are wrong or do not fit one another.
    """
    members = unpack(data, (_SYMBOL, _PARAMS, _MANIFEST, _ADDITIONAL))
    if not _VERSION.items() <= load_object(members, _MANIFEST).items():
        raise ArtifactError(f"{_MANIFEST} is not {json.dumps(_VERSION)}")
    if _SYMBOL in members:
        load_object(members, _SYMBOL)  # damage is not passed over, even where nobody looks
    additional = load_object(members, _ADDITIONAL)
    predictor_type, loss_type = (additional.get(key) for key in ("predictor_type", "loss_type"))
    if predictor_type not in PREDICTOR_TYPES:
        raise ArtifactError(f"predictor_type is {shown(predictor_type)}, not one of {', '.join(PREDICTOR_TYPES)}")
    if not isinstance(loss_type, str):
        raise ArtifactError(f"loss_type is {shown(loss_type)}, not text")
    metrics = additional.get("metrics_params", {})
    if not isinstance(metrics, dict):
        raise ArtifactError(f"metrics_params is {shown(metrics)}, not an object")
    weight, bias = _parameters(members, predictor_type)
    return LinearArtifact(weight, bias, predictor_type, loss_type, _threshold(additional.get("threshold")), metrics)


def _threshold(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ArtifactError(f"threshold is {shown(value)}, not a number")
    try:
        threshold = float(value)
    except OverflowError:  # JSON has integers of any size
        threshold = math.inf
    if not math.isfinite(threshold):
        raise ArtifactError(f"threshold is {threshold}, not a finite number")
    return threshold


def _parameters(members: Mapping[str, bytes], predictor_type: str) -> tuple[Array, Array]:
    """The weights (d, c) and the bias (c,)."""
    arrays = load_arrays(member(members, _PARAMS))
    if set(arrays) != {_WEIGHT, _BIAS}:
        raise ArtifactError(f"expected the arrays {_WEIGHT} and {_BIAS}, found {', '.join(arrays) or 'none'}")
    weight, bias = arrays[_WEIGHT], arrays[_BIAS]
    if weight.ndim != 2 or not weight.size:
        raise ArtifactError(f"{_WEIGHT} has the shape {weight.shape}, not (feature_dim, outputs)")
    outputs = weight.shape[1]
    if (outputs > 1) != (predictor_type == "multiclass_classifier"):
        raise ArtifactError(f"{_WEIGHT} has the shape {weight.shape}, which is none of a {predictor_type}")
    if bias.shape not in ((1, outputs), (outputs,)):
        raise ArtifactError(f"{_BIAS} has the shape {bias.shape}, not (1, {outputs})")
    return finite_float32(weight, _WEIGHT), finite_float32(bias.reshape(outputs), _BIAS)


def _symbol(artifact: LinearArtifact) -> bytes:
    op = _head(artifact)
    inputs, outputs = artifact.weight.shape
    return dump_symbol(
        [
            Node("null", "data"),
            Node("null", "fc0_weight", attrs={"__shape__": f"({inputs}, {outputs})"}),
            Node("dot", "dot0", ["data", "fc0_weight"]),
            Node("null", "fc0_bias", attrs={"__lr_mult__": "10.0", "__shape__": f"(1, {outputs})"}),
            Node("broadcast_add", "broadcast_plus0", ["dot0", "fc0_bias"]),
            Node("null", "out_label"),
            Node(op, f"{op.lower()}0", ["broadcast_plus0", "out_label"]),
        ]
    )


def _head(artifact: LinearArtifact) -> str:
    """The operation whose result is the score.

    Amazon's for regressors and logistic loss are known. That for several classes is MXNet's usual one. With hinge loss
    the score is x·w + b itself, for which we choose what a regressor has.
    """
    if artifact.predictor_type == "multiclass_classifier":
        return "SoftmaxOutput"
    if artifact.predictor_type == "regressor" or artifact.loss_type == "hinge_loss":
        return "LinearRegressionOutput"
    return "LogisticRegressionOutput"
