"""The trees of an XGBoost model, laid out for the compiled kernel, which answers with the bits of the library itself.

The library is asked beforehand, so whatever it does in another way than the kernel stays with it: linear models,
categories, vectors in the leaves, objectives that are not listed here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from .. import native
from ..recordio.batch import CSR, Array
from .booster import Booster
from .ubjson import read_ubjson

__all__ = ["Trees"]

_IDENTITY: Final = 0
_SIGMOID: Final = 1
_EXPONENTIAL: Final = 2
_HINGE: Final = 3
_SOFTMAX: Final = 4
_CLASS: Final = 5
"""What makes an answer of margins, by the numbers of native/trees.c."""

_LINKS: Final[Mapping[str, int]] = {
    **dict.fromkeys(
        ("reg:squarederror", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror"), _IDENTITY
    ),
    **dict.fromkeys(("reg:quantileerror", "binary:logitraw", "rank:pairwise", "rank:ndcg", "rank:map"), _IDENTITY),
    **dict.fromkeys(("binary:logistic", "reg:logistic"), _SIGMOID),
    **dict.fromkeys(("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox"), _EXPONENTIAL),
    "binary:hinge": _HINGE,
    "multi:softprob": _SOFTMAX,
    "multi:softmax": _CLASS,
}

_WIDEST: Final = 1 << 22
_MOST_GROUPS: Final = 1 << 12
"""Columns and margins of a row: a small file may claim any number, and each would cost memory here."""

_PROBES: Final = 64
_PROBED: Final = 1 << 20
"""Rows, and numbers, that the library is asked about at most."""


class Trees:
    """A model that the kernel can answer for; any number of threads may ask.

    Parameters
    ----------
    forest
        The kernel's own.
    width
        Number of columns.
    groups
        How many margins a row has.
    link
        What makes an answer of them.
    """

    def __init__(self, forest: Any, width: int, groups: int, link: int) -> None:
        self._forest = forest
        self._width = width
        self._groups = groups
        self._link = link

    @classmethod
    def of(cls, booster: Booster, rounds: int = 0) -> Trees | None:
        """The trees of a model's first rounds, 0 for all; None where the library has to answer."""
        if native.kernels is None or booster.feature_count > _WIDEST:
            return None
        learner = read_ubjson(booster.to_bytes())["learner"]
        link, gradient_booster = _LINKS.get(learner["objective"]["name"]), learner["gradient_booster"]
        if link is None or gradient_booster["name"] not in ("gbtree", "dart"):
            return None
        model = gradient_booster.get("gbtree", gradient_booster)["model"]
        count = int(model["iteration_indptr"][rounds or -1])
        trees = model["trees"][:count]
        if not trees or any(map(_is_special, trees)):
            return None
        sizes = learner["learner_model_param"]
        groups = max(1, int(sizes["num_class"]), int(sizes.get("num_target", "1")))
        width = int(sizes["num_feature"])
        if groups > _MOST_GROUPS:
            return None
        bases = np.broadcast_to(np.array(json.loads(sizes["base_score"]), np.float32), groups)
        weights = gradient_booster.get("weight_drop", ())[:count]
        each = [
            _joined(trees, name, kind)
            for name, kind in (
                *(("left_children", "i4"), ("right_children", "i4"), ("split_indices", "i4")),
                *(("split_conditions", "f4"), ("default_left", "u1")),
            )
        ]
        counts = np.array([len(tree["left_children"]) for tree in trees], np.int32)
        of_trees = (counts, np.array(model["tree_info"][:count], np.int32), np.array(weights, np.float32))
        forest = native.kernels.trees_plant(*of_trees, *each, np.ascontiguousarray(bases), width, link)
        found = cls(forest, width, groups, link)
        probes = _probes(each[2][each[0] != -1], each[3][each[0] != -1], width)
        return found if found._agrees(booster, rounds, probes) else None

    def scores(self, features: Array | CSR, *, margin: bool = False) -> Array | None:
        """What the library would answer, float32, shape (n,) or (n, k); None where it has to be asked itself."""
        if native.kernels is None or features.shape[1] != self._width:
            return None
        n = features.shape[0]
        out = np.empty(n * self._groups, np.float32)
        if isinstance(features, CSR):
            parts = (
                _plain(part, kind)
                for part, kind in ((features.indptr, "i8"), (features.indices, "i8"), (features.values, "f4"))
            )
            if margin or not native.kernels.trees_sparse(self._forest, n, *parts, out):
                return None
        else:
            native.kernels.trees_dense(self._forest, n, margin, _plain(features, "f4"), out)
        if self._link == _CLASS and not margin:
            return out[:n]
        return out if self._groups == 1 else out.reshape(n, self._groups)

    def _agrees(self, booster: Booster, rounds: int, probes: Array) -> bool:
        """Whether the library gives the same bits, and the same shape."""
        for margin in (True, False):
            ours, theirs = self.scores(probes, margin=margin), booster.predict(probes, margin=margin, rounds=rounds)
            if ours is None or ours.shape != theirs.shape or ours.tobytes() != theirs.tobytes():
                return False
        return True


def _is_special(tree: Mapping[str, Any]) -> bool:
    """Whether a tree has more than thresholds and one number in each leaf."""
    return int(tree["tree_param"]["size_leaf_vector"]) > 1 or bool(np.any(tree["split_type"]))


def _joined(trees: list[Mapping[str, Any]], name: str, kind: str) -> Array:
    """A number for each node of all trees."""
    return np.ascontiguousarray(np.concatenate([tree[name] for tree in trees]), kind)


def _plain(numbers: Array, kind: str) -> Array:
    """The numbers as kernels take them, copied where they lie otherwise; `np.require` takes as long as a row."""
    plain = np.ascontiguousarray(numbers, kind)
    return plain if plain.flags.aligned else plain.copy()


def _probes(features: Array, thresholds: Array, width: int) -> Array:
    """Rows, many of whose values are just on a threshold and others missing; the first has nothing."""
    rows = np.full((max(2, min(_PROBES, _PROBED // width)), width), np.nan, np.float32)
    if len(features):
        rng = np.random.default_rng(0)
        picks = rng.integers(len(features), size=(len(rows) - 1, min(2 * width, 1024)))
        rows[np.arange(1, len(rows))[:, None], features[picks]] = thresholds[picks]
    return rows
