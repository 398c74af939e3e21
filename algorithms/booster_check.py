"""Whether a model document can be trusted to the XGBoost library, which follows whatever numbers it finds in one.

A tree whose children lead out of it, or in a circle, ends in a crash or never; both would take the server along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from ..errors import ArtifactError

__all__ = ["check_model"]

_PER_NODE: Final = (
    *("left_children", "right_children", "parents", "split_indices", "split_conditions", "default_left"),
    *("loss_changes", "sum_hessian"),
)
"""Arrays that have a number for each node of a tree."""

_MOST: Final = 1 << 31

_NO_PARENT: Final = _MOST - 1

_STRAY: Final = "a tree has a node that does not know its parent"

_SINCE: Final = {
    (1, 6): ("categories", "categories_nodes", "categories_segments", "categories_sizes", "split_type"),
    (2, 0): ("iteration_indptr",),
    (3, 1): ("cats",),
}
"""What the library counts on in models from a version on."""


def check_model(document: Any) -> None:
    """Check the numbers by which the library finds its way in a model.

    Parameters
    ----------
    document
        A model as `read_ubjson` or `json.loads` reads it.

    Raises
    ------
    ArtifactError
        When something is missing or leads astray.
    """
    try:
        _check(document)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, IndexError) as error:
        why = f"{type(error).__name__} {error!s:.100}"
        raise ArtifactError(f"it is no model of XGBoost, or a damaged one: {why}") from error


def _check(document: Any) -> None:
    learner, version = document["learner"], tuple(map(int, document["version"]))
    _require(len(version) == 3 and isinstance(learner["attributes"], Mapping), "it has no version or no attributes")
    sizes = learner["learner_model_param"]
    features = _number(sizes["num_feature"])
    groups = max(1, _number(sizes["num_class"]), _number(sizes.get("num_target", "1")))
    _require(isinstance(learner["objective"]["name"], str), "the objective has no name")
    for name in ("feature_names", "feature_types"):
        _require(len(learner.get(name, ())) in (0, features), f"{name} are not as many as the features")
    booster = learner["gradient_booster"]
    if booster["name"] == "gblinear":
        weights = booster["model"]["weights"]
        _require(len(weights) == (features + 1) * groups, "the weights are not as many as the features")
        return
    if booster["name"] == "dart":
        drops, booster = booster["weight_drop"], booster["gbtree"]
        _require(len(drops) == len(booster["model"]["trees"]), "weight_drop is not as long as there are trees")
    for known in (booster["model"], *booster["model"]["trees"]):
        _check_keys(known, version)
    _check_trees(booster["model"], features, groups)


def _check_keys(known: Mapping[str, Any], version: tuple[int, ...]) -> None:
    """Look for what is new in a version; a tree has other keys than the model around it."""
    of_tree = "tree_param" in known
    for since, names in _SINCE.items():
        if version >= since and of_tree == ("split_type" in names):
            missing = [name for name in names if name not in known]
            _require(not missing, f"it lacks {missing}")


def _check_trees(model: Mapping[str, Any], features: int, groups: int) -> None:
    trees, info = model["trees"], np.asarray(model["tree_info"], np.int64)
    count = _number(model["gbtree_model_param"]["num_trees"])
    _require(count == len(trees) == len(info), "the trees are not as many as it says")
    _require(not len(info) or (info.min() >= 0 and info.max() < groups), "a tree is of a class that there is not")
    _require(sorted(tree["id"] for tree in trees) == list(range(count)), "the trees are not numbered one after another")
    rounds = np.asarray(model.get("iteration_indptr", (0, count)), np.int64)
    ordered = len(rounds) > 0 and rounds[0] == 0 and rounds[-1] == count and bool((np.diff(rounds) >= 0).all())
    _require(ordered, "the trees of the rounds are not one after another")
    if count:
        _check_nodes(trees, features)
    for tree in trees:
        if len(tree.get("categories_nodes", ())) or not _is_numeric(tree):
            _check_categories(tree)


def _check_nodes(trees: Sequence[Mapping[str, Any]], features: int) -> None:
    """Every node but the root has one parent, so that each way ends at a leaf, and asks for a feature there is."""
    counts = np.array([_count(tree) for tree in trees])
    left, right, asked = (
        np.concatenate([tree[name] for tree in trees]) for name in ("left_children", "right_children", "split_indices")
    )
    nodes, starts = np.repeat(counts, counts), np.repeat(np.cumsum(counts) - counts, counts)
    inner = left != -1
    _require(np.array_equal(inner, right != -1), "a tree has a node with one child")
    for children in (left[inner], right[inner]):
        _require(bool(((children > 0) & (children < nodes[inner])).all()), "a tree has a node that leads out of it")
    children = np.concatenate([(left + starts)[inner], (right + starts)[inner]])
    _require(np.bincount(children, minlength=1).max() <= 1, "a tree has a node with two parents")
    places = np.arange(len(left)) - starts  # of each node in its tree
    parents = np.concatenate([tree["parents"] for tree in trees])
    known = np.array_equal(parents[children], np.concatenate([places[inner]] * 2))
    rest = np.delete(parents, children)  # roots, and nodes that were pruned away
    _require(known and bool(((rest == _NO_PARENT) | ((rest >= -1) & (rest < nodes.max()))).all()), _STRAY)
    asked = asked[inner]
    _require(
        not len(asked) or bool(asked.min() >= 0 and asked.max() < features), "a tree asks for a feature there is not"
    )


def _count(tree: Mapping[str, Any]) -> int:
    """Number of nodes of a tree, which has a number of each kind for each of them."""
    param = tree["tree_param"]
    nodes, values = _number(param["num_nodes"]), max(1, _number(param["size_leaf_vector"]))
    whole = nodes > 0 and all(len(tree[name]) == nodes for name in _PER_NODE)
    _require(whole and len(tree["base_weights"]) == nodes * values, f"tree {tree['id']} lacks numbers of its nodes")
    return nodes


def _is_numeric(tree: Mapping[str, Any]) -> bool:
    """Whether no node of a tree asks for a category."""
    kinds = tree.get("split_type", ())
    _require(len(kinds) in (0, len(tree["left_children"])), f"tree {tree['id']} lacks kinds of splits")
    return not np.any(kinds)


def _check_categories(tree: Mapping[str, Any]) -> None:
    nodes, named = len(tree["left_children"]), f"tree {tree['id']}"
    of_nodes, segments, sizes, chosen = (
        np.asarray(tree[name], np.int64)
        for name in ("categories_nodes", "categories_segments", "categories_sizes", "categories")
    )
    _require(len(of_nodes) == len(segments) == len(sizes), f"{named} has categories that are not whole")
    _require(set(np.flatnonzero(tree["split_type"])) <= set(of_nodes.tolist()), f"{named} lacks categories")
    found = of_nodes.min() >= 0 and of_nodes.max() < nodes and segments.min() >= 0 and sizes.min() >= 0
    _require(bool(found and (segments + sizes).max() <= len(chosen)), f"{named} has categories that lead astray")
    known = not len(chosen) or (chosen.min() >= 0 and chosen.max() < _CATEGORIES)
    _require(bool(known), f"{named} has a category that is none")


_CATEGORIES: Final = 1 << 24
"""The library holds categories in floats, which tell no more apart."""


def _number(text: str | int) -> int:
    """A size, which the library writes as text."""
    number = int(text)
    _require(0 <= number < _MOST, f"{text!s:.20} is no size")
    return number


def _require(holds: bool | np.bool_, why: str) -> None:
    if not holds:
        raise ArtifactError(f"it is no model of XGBoost, or a damaged one: {why}")
