"""The artifact of factorization machines: what Amazon's container leaves, read and written.

It is a ZIP of an MXNet module's graph and arrays, and of JSON with the hyperparameters. The weights and factors are
row-sparse arrays with all their rows. The graph carries the learning rate and the decay of each of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..errors import ArtifactError
from ..recordio.batch import Array
from .mxnet_module import Node, dump_symbol, head_op, load_object, member, pack, shown, unpack
from .ndarray import RowSparse, dump_arrays, finite_float32, load_arrays

__all__ = ["PREDICTOR_TYPES", "FMArtifact", "dump", "load"]

_OPS: Final = {"binary_classifier": "LogisticRegressionOutput", "regressor": "LinearRegressionOutput"}
_TYPES: Final = {op: name for name, op in _OPS.items()}
PREDICTOR_TYPES: Final = tuple(_OPS)

_META, _SYMBOL, _PARAMS = "meta.json", "symbol.json", "params"
_VERSION: Final = 1
_W, _W0, _V = "arg:w1_weight", "arg:w0_weight", "arg:v"
_CSR, _ROW_SPARSE = "2", "1"  # storage types


@dataclass(frozen=True)
class FMArtifact:
    """A factorization machine: w0 + x·w + Σ_{i<j} ⟨v_i, v_j⟩ x_i x_j.

    Parameters
    ----------
    v
        Factors, float32, shape (d, k).
    w
        Weights, float32, shape (d,).
    w0
        Bias.
    predictor_type
        ``regressor`` or ``binary_classifier``.
    training_parameters
        Every hyperparameter of the training, as text.
    epoch_number
        What Amazon's artifact calls so; 1 in all that are known.

    Examples
    --------
    >>> machine = FMArtifact(np.ones((3, 2), np.float32), np.ones(3, np.float32), 0.5, "regressor", {})
    >>> load(dump(machine)).v.shape
    (3, 2)
    """

    v: Array
    w: Array
    w0: float
    predictor_type: str
    training_parameters: Mapping[str, str]
    epoch_number: int = 1


def dump(artifact: FMArtifact) -> bytes:
    """The bytes of the artifact."""
    meta = {
        "version": _VERSION,
        "epoch_number": artifact.epoch_number,
        "training_parameters": dict(artifact.training_parameters),
        "label_names": ["out_label"],
    }
    arrays: dict[str, Array | RowSparse] = {
        _W: RowSparse(artifact.w.astype(np.float32)[:, None]),
        _W0: np.array([artifact.w0], np.float32),
        _V: RowSparse(artifact.v.astype(np.float32)),
    }
    members = {_META: json.dumps(meta).encode(), _SYMBOL: _symbol(artifact), _PARAMS: dump_arrays(arrays)}
    return pack(members)


def load(data: bytes) -> FMArtifact:
    """Open an artifact, ours or Amazon's.

    Raises
    ------
    ArtifactError
        When it is no such ZIP, or its members are wrong or do not fit one another.
    """
    members = unpack(data, (_META, _SYMBOL, _PARAMS))
    meta = load_object(members, _META)
    if meta.get("version") != _VERSION:
        raise ArtifactError(f"{_META} has the version {shown(meta.get('version'))}, not {_VERSION}")
    parameters = meta.get("training_parameters")
    if not isinstance(parameters, dict) or not all(isinstance(value, str) for value in parameters.values()):
        raise ArtifactError(f"training_parameters in {_META} is {shown(parameters)}, not an object with texts")
    epoch = meta.get("epoch_number", 1)
    if not isinstance(epoch, int):
        raise ArtifactError(f"epoch_number in {_META} is {shown(epoch)}, not a number")
    predictor_type = _predictor_type(members, parameters)
    v, w, w0 = _arrays(members)
    return FMArtifact(v, w, w0, predictor_type, parameters, epoch)


def _predictor_type(members: Mapping[str, bytes], parameters: Mapping[str, str]) -> str:
    """What the head of the graph tells; without a graph, what the training was told."""
    told = parameters.get("predictor_type")
    if _SYMBOL not in members:
        if told not in PREDICTOR_TYPES:
            raise ArtifactError(f"predictor_type is {shown(told)}, not one of {', '.join(PREDICTOR_TYPES)}")
        return str(told)
    op = head_op(load_object(members, _SYMBOL))
    if op not in _TYPES:
        raise ArtifactError(f"the head of the symbol is {op:.80}, not one of {', '.join(_TYPES)}")
    if told not in (None, _TYPES[op]):
        raise ArtifactError(f"predictor_type is {shown(told)}, but the head of the symbol is {op}")
    return _TYPES[op]


def _arrays(members: Mapping[str, bytes]) -> tuple[Array, Array, float]:
    """The factors (d, k), the weights (d,) and the bias."""
    arrays = load_arrays(member(members, _PARAMS))
    if set(arrays) != {_W, _W0, _V}:
        raise ArtifactError(f"expected the arrays {_W}, {_W0} and {_V}, found {', '.join(arrays) or 'none'}")
    v, w, w0 = arrays[_V], arrays[_W], arrays[_W0]
    if v.ndim != 2 or not v.size:
        raise ArtifactError(f"{_V} has the shape {v.shape}, not (feature_dim, num_factors)")
    if w.shape not in ((len(v), 1), (len(v),)):
        raise ArtifactError(f"{_W} has the shape {w.shape}, not ({len(v)}, 1)")
    if w0.size != 1:
        raise ArtifactError(f"{_W0} has the shape {w0.shape}, not (1,)")
    w = finite_float32(w.reshape(len(v)), _W)
    return finite_float32(v, _V), w, float(finite_float32(w0.reshape(1), _W0)[0])


def _symbol(artifact: FMArtifact) -> bytes:
    """The graph: ½ Σ_f (Σ_i v_if x_i)² is summed with the linear part, ½ Σ_i x_i² Σ_f v_if² taken off."""
    d, k = artifact.v.shape
    sparse = {"__storage_type__": _ROW_SPARSE}
    hints = {name: _hints(artifact.training_parameters, name) for name in _DEFAULTS}
    start = {name: {"__init__": _start(artifact.training_parameters, name)} for name in ("linear", "factors")}
    half, sums = {"scalar": "0.5"}, {"axis": "1", "keepdims": "True"}
    return dump_symbol(
        [
            Node("null", "data", attrs={"__storage_type__": _CSR}),
            Node("null", "w1_weight", attrs={"__shape__": f"({d}, 1)", **start["linear"], **hints["linear"], **sparse}),
            Node("dot", "dot0", ["data", "w1_weight"]),
            Node("null", "w0_weight", attrs={"__shape__": "(1,)", **hints["bias"]}),
            Node("broadcast_add", "broadcast_plus0", ["dot0", "w0_weight"]),
            Node("null", "v", attrs={"__shape__": f"({d}, {k})", **start["factors"], **hints["factors"], **sparse}),
            Node("dot", "dot2", ["data", "v"]),
            Node("square", "Square", ["dot2"]),
            Node("_mul_scalar", "_mulscalar0", ["Square"], half),
            Node("Concat", "concat0", ["broadcast_plus0", "_mulscalar0"], {"dim": "1", "num_args": "2"}),
            Node("sum", "sum0", ["concat0"], sums),
            Node("square", "x_square", ["data"]),
            Node("_square_sum", "_square_sum0", ["v"], sums),
            Node("dot", "dot1", ["x_square", "_square_sum0"]),
            Node("negative", "negative0", ["dot1"]),
            Node("_mul_scalar", "_mulscalar1", ["negative0"], half),
            Node("elemwise_add", "Final_Summation", ["sum0", "_mulscalar1"]),
            Node("null", "out_label"),
            Node(_OPS[artifact.predictor_type], "out", ["Final_Summation", "out_label"]),
        ]
    )


_DEFAULTS: Final = {
    "bias": {"lr": "0.1", "wd": "0.01"},
    "linear": {"lr": "0.001", "wd": "0.001", "init_sigma": "0.01", "init_scale": "0.07"},
    "factors": {"lr": "0.0001", "wd": "1e-05", "init_sigma": "0.001", "init_scale": "0.07"},
}
"""Hyperparameters of the parts of the model, where the training's are not known; the scale is MXNet's."""


def _hints(parameters: Mapping[str, str], part: str) -> dict[str, str]:
    """Learning rate and decay of a part: one optimizer has the rate 1 for all."""
    given = {key: parameters.get(f"{part}_{key}", _DEFAULTS[part][key]) for key in ("lr", "wd")}
    return {"__lr_mult__": given["lr"], "__wd_mult__": given["wd"]}


def _start(parameters: Mapping[str, str], part: str) -> str:
    """How a part was initialised, as MXNet writes it: ``["normal", {"sigma": 0.01}]``."""
    method = parameters.get(f"{part}_init_method", "normal")
    key = {"normal": "sigma", "uniform": "scale", "constant": "value"}.get(method)
    text = parameters.get(f"{part}_init_{key}", _DEFAULTS[part].get(f"init_{key}"))
    options: dict[str, Any] = {key: _number(text)} if key and text is not None else {}
    return json.dumps([method, options])


def _number(text: str) -> float | str:
    """A number, or the text as it is: the graph is for reading, and what is odd in it stays so."""
    try:
        return float(text)
    except ValueError:
        return text
