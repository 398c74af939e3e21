"""Models that would make the library crash or run for ever are refused before it sees them."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from clary.algorithms.booster import Booster, Matrix
from clary.algorithms.booster_check import check_model
from clary.algorithms.booster_formats import open_booster
from clary.algorithms.ubjson import read_ubjson
from clary.errors import ArtifactError

ROWS = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)


def trained(**params: str) -> Booster:
    """A small model."""
    matrix = Matrix(ROWS, ROWS.sum(axis=1) > 0)
    booster = Booster({"max_depth": "3", "objective": "binary:logistic", **params}, [matrix])
    for i in range(3):
        booster.update(matrix, i)
    return booster


DOCUMENT = json.loads(trained().to_bytes("json"))
MODEL = ("learner", "gradient_booster", "model")


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"booster": "dart", "rate_drop": "0.5"},
        {"booster": "gblinear"},
        {"objective": "multi:softprob", "num_class": "3"},
        {"num_parallel_tree": "2"},
        {"tree_method": "exact", "gamma": "5"},
    ],
    ids=str,
)
def test_sound_models_pass(params: dict[str, str]) -> None:
    """Whatever kind of model the library writes passes, in both forms."""
    booster = trained(**params)
    check_model(json.loads(booster.to_bytes("json")))
    check_model(read_ubjson(booster.to_bytes()))


def at(document: Any, *path: str | int) -> Any:
    """What lies at a place of a document."""
    for key in path:
        document = document[key]
    return document


def tree(document: Any) -> Any:
    """The first tree."""
    return at(document, *MODEL, "trees", 0)


def put(path: str, index: int, value: int) -> Callable[[Any], None]:
    """Change a number of the first tree."""

    def change(document: Any) -> None:
        tree(document)[path][index] = value

    return change


DAMAGE: dict[str, tuple[Callable[[Any], object], str]] = {
    "child out of the tree": (put("left_children", 0, 1000), "leads out of it"),
    "child before the tree": (put("left_children", 0, -7), "leads out of it"),
    "circle": (put("left_children", 0, 0), "leads out of it"),
    "two parents": (put("left_children", 0, 2), "two parents"),
    "one child": (put("right_children", 0, -1), "one child"),
    "parent out of the tree": (put("parents", 1, 1 << 30), "know its parent"),
    "root with a far parent": (put("parents", 0, 1 << 29), "know its parent"),
    "feature out of the model": (put("split_indices", 0, 3), "a feature there is not"),
    "feature before the model": (put("split_indices", 0, -1), "a feature there is not"),
    "short array": (lambda document: tree(document)["loss_changes"].pop(), "lacks numbers of its nodes"),
    "no nodes": (lambda document: tree(document)["tree_param"].update(num_nodes="0"), "lacks numbers"),
    "kinds of splits": (lambda document: tree(document)["split_type"].pop(), "lacks kinds of splits"),
    "category without a set": (put("split_type", 0, 1), "is no|lacks categories|damaged"),
    "missing key": (lambda document: tree(document).pop("categories_nodes"), "it lacks"),
    "missing cats": (lambda document: at(document, *MODEL).pop("cats"), "it lacks"),
    "missing rounds": (lambda document: at(document, *MODEL).pop("iteration_indptr"), "it lacks"),
    "missing trees": (lambda document: at(document, *MODEL, "trees").pop(), "not as many as it says"),
    "class out of the model": (lambda document: at(document, *MODEL, "tree_info").__setitem__(0, 1), "a class"),
    "rounds out of order": (
        lambda document: at(document, *MODEL, "iteration_indptr").__setitem__(1, 9),
        "one after another",
    ),
    "number of a tree": (lambda document: tree(document).update(id=7), "numbered"),
    "features": (
        lambda document: at(document, "learner", "learner_model_param").update(num_feature="-1"),
        "is no size",
    ),
    "names": (lambda document: document["learner"].update(feature_names=["a"]), "as many as the features"),
    "no learner": (lambda document: document.pop("learner"), "KeyError"),
    "no version": (lambda document: document.update(version=[]), "no version"),
    "a word for a number": (put("left_children", 0, "one"), "damaged"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage(name: str) -> None:
    """A number that leads astray, or a part that is missing, is an ArtifactError that says which."""
    change, told = DAMAGE[name]
    document = copy.deepcopy(DOCUMENT)
    change(document)
    with pytest.raises(ArtifactError, match=told):
        check_model(document)
    with pytest.raises(ArtifactError, match=told):
        open_booster(json.dumps(document).encode())


@pytest.mark.parametrize("key", ["left_children", "left_childre\\u006e"])
def test_a_key_twice(key: str) -> None:
    """Of two values of a key the check and the library could see different ones: that is no model."""
    text = json.dumps(DOCUMENT).replace('"left_children"', f'"{key}": [1000000000], "left_children"', 1)
    with pytest.raises(ArtifactError, match="a key is there twice"):
        open_booster(text.encode())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, ""),
        ({"categories_sizes": [2]}, "lead astray"),
        ({"categories_segments": [1]}, "lead astray"),
        ({"categories_nodes": [1]}, "lacks categories"),
        ({"categories": [-1]}, "a category that is none"),
        ({"categories_sizes": []}, "not whole"),
    ],
    ids=str,
)
def test_categories(change: dict[str, list[int]], told: str) -> None:
    """A node that asks for categories has them, within the list of all."""
    document = copy.deepcopy(DOCUMENT)
    root = {"categories": [1], "categories_nodes": [0], "categories_segments": [0], "categories_sizes": [1]}
    tree(document).update({**root, **change})
    tree(document)["split_type"][0] = 1
    if not told:
        check_model(document)
        return
    with pytest.raises(ArtifactError, match=told):
        check_model(document)


def test_weights() -> None:
    """A linear model has a weight for each feature and a bias, a dart a weight for each tree."""
    linear = json.loads(trained(booster="gblinear").to_bytes("json"))
    at(linear, *MODEL)["weights"].pop()
    dart = json.loads(trained(booster="dart").to_bytes("json"))
    at(dart, "learner", "gradient_booster")["weight_drop"].pop()
    for document in (linear, dart):
        with pytest.raises(ArtifactError, match="weight"):
            check_model(document)


MUTATE = """
import os, sys, numpy as np
from clary.algorithms.booster_formats import open_booster
from clary.errors import ArtifactError, DataError
from clary.algorithms.xgboost_job import load

seed, path = int(sys.argv[1]), sys.argv[2]
rng, whole, refused = np.random.default_rng(seed), open(path, "rb").read(), 0
for _ in range(400):
    data = np.frombuffer(whole, np.uint8).copy()
    for place in rng.integers(len(data), size=rng.integers(1, 4)):
        data[place] = rng.integers(256)
    cut = rng.integers(len(data)) if rng.random() < 0.2 else len(data)
    try:
        model = load(data.tobytes()[:cut])
        model.predict(np.zeros((2, min(model.feature_dim, 100)), np.float32))
    except (ArtifactError, DataError):
        refused += 1
print(refused)
"""


@pytest.mark.parametrize("form", ["ubj", "json"])
def test_changed_bytes(form: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Some bytes changed or the end cut off: a model or an ArtifactError, no crash and no hang."""
    path = tmp_path_factory.mktemp("model") / "model"
    path.write_bytes(trained().to_bytes(form))
    done = subprocess.run([sys.executable, "-c", MUTATE, "7", path], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100
