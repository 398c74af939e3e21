"""XGBoost's binary format, which versions before 3.1 wrote: made into the UBJSON that today's library takes.

The file is a head of fixed size, the names of the objective and the booster, the booster itself and attributes, all
little-endian. Before 1.0 the head has the base score as a margin, that is, with the objective's link applied; since
then as the user gave it, as UBJSON has it.

References
----------
.. [1] dmlc/xgboost 0.90, 1.2 and 1.7: ``src/learner.cc``, ``src/gbm/gbtree_model.h``, ``src/gbm/gblinear_model.h`` and
   ``include/xgboost/tree_model.h``, the structures and their order.
.. [2] UBJSON, draft 12, https://ubjson.org
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..errors import ArtifactError
from ..recordio.batch import Array

__all__ = ["Legacy", "read_legacy", "ubjson"]

_MAGIC: Final = b"binf"
_HEAD: Final = struct.Struct("<fIiiiIIIi100x")
_TREES: Final = struct.Struct("<ii20xi128x")
_TREE: Final = struct.Struct("<6i124x")
_LINEAR: Final = struct.Struct("<136x")
_NODE: Final = np.dtype([("parent", "<u4"), ("left", "<i4"), ("right", "<i4"), ("split", "<u4"), ("value", "<f4")])
_STATISTICS: Final = np.dtype([("gain", "<f4"), ("cover", "<f4"), ("weight", "<f4"), ("leaves", "<i4")])
_DELETED: Final = 0xFFFFFFFF
_LOW: Final = 0x7FFFFFFF  # the highest bit tells a left child, or that missing values go left
_NONE: Final = -1

_LONGEST_NAME: Final = 64
_BOOSTERS: Final = ("gbtree", "dart", "gblinear")
_LOGIT: Final = ("binary:logistic", "reg:logistic")
_LOG: Final = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox")
_LOGITRAW_PLAIN: Final = (1, 3)  # the version that first took its base score as a margin
_LARGEST: Final = 80.0  # whose exponential is a float32 still
_RENAMED: Final = {"reg:linear": "reg:squarederror"}
_WRITTEN_AS: Final = (1, 7, 6)  # of the version of the document: the last that had only one base score


@dataclass(frozen=True)
class Legacy:
    """A model of the binary format.

    Parameters
    ----------
    document
        The same as UBJSON.
    version
        Of what wrote it, (0, 0) before 1.0.
    """

    document: bytes
    version: tuple[int, int]


def read_legacy(data: bytes, feature_names: Sequence[str] = ()) -> Legacy:
    """Read a model of the binary format, with ``binf`` before it or without.

    Parameters
    ----------
    data
        The file. What follows the attributes is not looked at.
    feature_names
        Written into the document when there is one for each feature.

    Raises
    ------
    ArtifactError
        When it is none, is cut, or has trees that are none.

    Examples
    --------
    >>> read_legacy(b"binf" + bytes(200))
    Traceback (most recent call last):
    clary.errors.ArtifactError: it is neither UBJSON, JSON, XGBoost's binary format nor a pickled Booster
    """
    source = _Source(data, len(_MAGIC) if data.startswith(_MAGIC) else 0)
    if not _is_legacy(data[source.at :]):
        raise ArtifactError("it is neither UBJSON, JSON, XGBoost's binary format nor a pickled Booster")
    base_score, features, classes, has_attributes, _, major, minor, targets, _ = source.take(_HEAD)
    objective, booster = source.text(), source.text()
    groups = max(classes, targets, 1)
    if booster == "gblinear":
        model = {"name": booster, "model": _linear(source, features, groups)}
    else:
        model = _boosted(source, booster, features, groups)
    attributes = source.attributes() if has_attributes else {}
    if not major:
        objective = _RENAMED.get(objective.removeprefix("gpu:"), objective.removeprefix("gpu:"))
    learner = {
        "attributes": {name: text for name, text in attributes.items() if name not in ("objective", "metrics")},
        "feature_names": list(feature_names) if len(feature_names) == features else [],
        "feature_types": [],
        "gradient_booster": model,
        "learner_model_param": {
            "base_score": format(_base_score(base_score, objective, (major, minor)), ".9g"),  # 3.0 reads no more digits
            "boost_from_average": "1",
            "num_class": str(classes),
            "num_feature": str(features),
            "num_target": str(max(targets, 1)),
        },
        "objective": _objective(objective, classes, attributes),
    }
    return Legacy(ubjson({"learner": learner, "version": list(_WRITTEN_AS)}), (major, minor))


def _is_legacy(data: bytes) -> bool:
    """Whether the name of an objective follows a head, and that of a booster follows it."""
    source = _Source(data, 0)
    try:
        source.take(_HEAD)
        source.text(_LONGEST_NAME)
        return source.text(_LONGEST_NAME) in _BOOSTERS
    except ArtifactError:
        return False


def _base_score(score: float, objective: str, version: tuple[int, int]) -> float:
    """The base score as a user would give it to today's library."""
    if not np.isfinite(score):
        raise ArtifactError(f"the base score is {score}")
    if (1, 0) <= version < _LOGITRAW_PLAIN and objective == "binary:logitraw" and 0 < score < 1:
        return math.log(score / (1 - score))
    if version < (1, 0) and objective in _LOGIT:
        return float(np.float32(1 / (1 + math.exp(-max(score, -_LARGEST)))))
    if version < (1, 0) and objective in _LOG:
        return float(np.float32(math.exp(min(score, _LARGEST))))
    return score


def _objective(name: str, classes: int, attributes: Mapping[str, str]) -> dict[str, Any]:
    """The objective as it was kept since 1.0; before, with what predictions need."""
    if "objective" not in attributes:
        delta = attributes.get("count_poisson_max_delta_step", "0.7")
        return {
            "name": name,
            "reg_loss_param": {"scale_pos_weight": "1"},
            "softmax_multiclass_param": {"num_class": str(classes)},
            "poisson_regression_param": {"max_delta_step": delta},
            "tweedie_regression_param": {"tweedie_variance_power": "1.5"},
        }
    try:
        objective = json.loads(attributes["objective"])
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"the objective is no JSON: {error!s:.100}") from error
    if not isinstance(objective, dict) or not all(_is_setting(value) for value in objective.values()):
        raise ArtifactError("the objective is no object of texts")
    return {"reg_loss_param": {"scale_pos_weight": "1"}, **objective, "name": name}  # 3.0 wants it of reg:gamma


def _is_setting(value: Any) -> bool:
    texts = value.values() if isinstance(value, dict) else [value]
    return all(isinstance(text, str) for text in texts)


def _linear(source: _Source, features: int, groups: int) -> dict[str, Any]:
    """Weights of a linear booster, shape ((d + 1) * groups,); the biases are last."""
    source.take(_LINEAR)
    weights = source.vector()
    if len(weights) != (features + 1) * groups:
        raise ArtifactError(f"{len(weights)} weights for {features} features and {groups} outputs")
    return {"weights": weights}


def _boosted(source: _Source, booster: str, features: int, groups: int) -> dict[str, Any]:
    """A booster of trees, with the weight of each tree when trees are dropped out."""
    count, parallel, leaf_vector = source.take(_TREES)
    if leaf_vector:
        raise ArtifactError("the leaves are vectors, which cannot be read")
    trees = [_tree(source, number, features) for number in range(count)]
    if not trees:
        raise ArtifactError("the model has no trees")
    owners = source.array("<i4", count)  # of the output that a tree adds to
    if owners.min() < 0 or owners.max() >= groups or count % groups:
        raise ArtifactError(f"{count} trees for the outputs {owners.min()} to {owners.max()} of {groups}")
    if groups > 1:
        parallel = int(np.argmax(owners != owners[0]))
    together = groups * max(parallel, 1)
    if count % together:
        raise ArtifactError(f"{count} trees, {together} in each round")
    model = {
        "gbtree_model_param": {"num_parallel_tree": str(together // groups), "num_trees": str(count)},
        "iteration_indptr": list(range(0, count + 1, together)),
        "tree_info": owners.tolist(),
        "trees": trees,
    }
    inner = {"name": "gbtree", "model": model}
    if booster == "gbtree":
        return inner
    weights = source.vector()
    if len(weights) != count:
        raise ArtifactError(f"{len(weights)} weights for {count} trees")
    return {"name": booster, "gbtree": inner, "weight_drop": weights.tolist()}


def _tree(source: _Source, number: int, features: int) -> dict[str, Any]:
    """One tree; deleted nodes keep their place."""
    roots, count, deleted, _, _, leaf_vector = source.take(_TREE)
    if roots > 1 or leaf_vector > 1 or count < 1:
        raise ArtifactError(f"tree {number} has {roots} roots, {count} nodes and leaves of {leaf_vector} values")
    nodes, statistics = source.array(_NODE, count), source.array(_STATISTICS, count)
    gone = nodes["split"] == _DELETED
    inner = (nodes["left"] != _NONE) & ~gone
    _check(nodes, gone, inner, number, features)
    if gone.sum() != deleted:
        raise ArtifactError(f"tree {number} has {gone.sum()} deleted nodes, not {deleted}")
    return {
        "base_weights": statistics["weight"],
        "categories": np.empty(0, np.int32),
        "categories_nodes": np.empty(0, np.int32),
        "categories_segments": np.empty(0, np.int64),
        "categories_sizes": np.empty(0, np.int64),
        "default_left": (nodes["split"] > _LOW).astype(np.uint8),
        "id": number,
        "left_children": np.where(inner, nodes["left"], _NONE),
        "loss_changes": statistics["gain"],
        "parents": np.where(gone, 0, nodes["parent"] & _LOW).astype(np.int32),  # the library goes there, unchecked
        "right_children": np.where(inner, nodes["right"], _NONE),
        "split_conditions": nodes["value"],
        "split_indices": (nodes["split"] & _LOW).astype(np.int32),
        "split_type": np.zeros(count, np.uint8),
        "sum_hessian": statistics["cover"],
        "tree_param": {
            "num_deleted": str(deleted),
            "num_feature": str(features),
            "num_nodes": str(count),
            "size_leaf_vector": "1",
        },
    }


def _check(nodes: Array, gone: Array, inner: Array, number: int, features: int) -> None:
    """Refuse what is no tree: from the root, each step leads to a node that has the one it comes from as its parent.

    As each node has one parent, and the root none, no way leads into a circle; and no node is left aside.
    """
    parents = (nodes["parent"] & _LOW).astype(np.int64)
    parents[nodes["parent"] == _DELETED] = _NONE  # all ones, too
    places = np.flatnonzero(inner)
    sound = not gone[0] and parents[0] == _NONE and bool(np.all(nodes["split"][places] & _LOW < features))
    for side in ("left", "right"):
        children = nodes[side][places]
        inside = bool(np.all((children > 0) & (children < len(nodes))))
        sound = sound and inside and not gone[children].any() and bool(np.all(parents[children] == places))
    alone = len(nodes) - gone.sum() - 1 - 2 * len(places)
    if not sound or alone or np.any(nodes["left"][places] == nodes["right"][places]):
        raise ArtifactError(f"tree {number} is damaged: its nodes make no tree")


class _Source:
    """Bytes, read from some place on; never beyond the end."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def bytes(self, size: int) -> bytes:
        if not 0 <= size <= len(self.data) - self.at:
            raise ArtifactError(f"the model is cut: {size} bytes wanted at byte {self.at} of {len(self.data)}")
        self.at += size
        return self.data[self.at - size : self.at]

    def take(self, form: struct.Struct) -> tuple[Any, ...]:
        return form.unpack(self.bytes(form.size))

    def count(self) -> int:
        return int.from_bytes(self.bytes(8), "little")

    def array(self, dtype: np.dtype[Any] | str, count: int) -> Array:
        return np.frombuffer(self.bytes(np.dtype(dtype).itemsize * count), dtype)

    def vector(self) -> Array:
        return self.array("<f4", self.count())

    def text(self, longest: int | None = None) -> str:
        size = self.count()
        if longest is not None and size > longest:
            raise ArtifactError(f"a name of {size} bytes")
        try:
            return self.bytes(size).decode()
        except UnicodeDecodeError as error:
            raise ArtifactError(f"what should be text is none: {error!s:.100}") from error

    def attributes(self) -> dict[str, str]:
        return {self.text(): self.text() for _ in range(self.count())}


_MARKERS: Final = {"f4": b"d", "i4": b"l", "i8": b"L", "u1": b"U"}


def ubjson(value: Any) -> bytes:
    r"""A value as UBJSON, as the library writes it: arrays have a type, lists have none.

    Examples
    --------
    >>> ubjson([])
    b'[#L\x00\x00\x00\x00\x00\x00\x00\x00'
    >>> ubjson(np.array([1, 2], np.uint8))
    b'[$U#L\x00\x00\x00\x00\x00\x00\x00\x02\x01\x02'
    """
    if isinstance(value, Mapping):
        return b"{" + b"".join(_sized(key.encode()) + ubjson(item) for key, item in value.items()) + b"}"
    if isinstance(value, str):
        return b"S" + _sized(value.encode())
    if isinstance(value, int):
        return b"L" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"d" + struct.pack(">f", value)
    if isinstance(value, list):
        return b"[#L" + struct.pack(">q", len(value)) + b"".join(map(ubjson, value))
    data: bytes = value.astype(value.dtype.newbyteorder(">")).tobytes()
    return b"[$" + _MARKERS[value.dtype.str[1:]] + b"#L" + struct.pack(">q", len(value)) + data


def _sized(data: bytes) -> bytes:
    return b"L" + struct.pack(">q", len(data)) + data
