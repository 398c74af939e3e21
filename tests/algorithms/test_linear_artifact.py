"""The artifact of the linear learner, with one that Amazon's container wrote."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clary.algorithms.linear_artifact import LinearArtifact, dump, load
from clary.algorithms.mxnet_module import head_op, load_object, pack, unpack
from clary.algorithms.ndarray import dump_arrays
from clary.errors import ArtifactError
from clary.recordio.batch import Array

FOLDER = "aws_artifacts/linear_learner_binary"
PARAMS = "mx-mod-0000.params"
ADDITIONAL = "additional-params.json"


@pytest.fixture
def amazons(shared_data: Callable[[str], Path]) -> bytes:
    """The one member of a model.tar.gz of Amazon's."""
    with tarfile.open(shared_data(f"{FOLDER}/model.tar.gz")) as archive:
        file = archive.extractfile("model_algo-1")
        assert file is not None
        return file.read()


@pytest.fixture
def adults(shared_data: Callable[[str], Path]) -> tuple[Array, Array]:
    """Labelled rows of the same data set."""
    instances = json.loads((shared_data(FOLDER) / "validation.json").read_text())["instances"]
    features = np.array([instance["features"] for instance in instances], np.float32)
    return features, np.array([instance["label"] for instance in instances])


def probabilities(artifact: LinearArtifact, features: Array) -> Array:
    """Scores of a binary classifier, in double precision."""
    z = features.astype(np.float64) @ artifact.weight.astype(np.float64) + artifact.bias
    return 1 / (1 + np.exp(-z[:, 0]))


def test_amazons(amazons: bytes, adults: tuple[Array, Array]) -> None:
    """Amazon's artifact opens, and answers as its endpoint did."""
    artifact = load(amazons)
    assert (artifact.weight.shape, artifact.bias.shape, artifact.weight.dtype) == ((14, 1), (1,), np.float32)
    assert (artifact.predictor_type, artifact.loss_type) == ("binary_classifier", "logistic")
    assert artifact.threshold == artifact.metrics["threshold"] == 0.46301859617233276
    assert (artifact.metrics["accuracy_top_k"], artifact.metrics["f_beta"]) == (3, 1.0)
    row = np.array([[28, 2, 133937, 9, 13, 2, 0, 0, 4, 1, 15024, 0, 55, 37]])
    assert probabilities(artifact, row)[0] == pytest.approx(0.98997736, abs=1e-6)
    features, labels = adults
    assert len(labels) == 666
    accuracy = ((probabilities(artifact, features) >= artifact.threshold) == labels).mean()
    assert accuracy == pytest.approx(0.84384, abs=1e-5)


def test_amazons_again(amazons: bytes) -> None:
    """What was opened is written as Amazon wrote it, but for the numbers that MXNet gives to names."""
    wanted, members = unpack(amazons), unpack(dump(load(amazons)))
    symbol = "mx-mod-symbol.json"
    wanted[symbol] = wanted[symbol].replace(b'39"', b'0"')
    assert members == wanted


def model(
    predictor_type: str = "regressor", loss_type: str = "squared_loss", outputs: int = 1, **metrics: Any
) -> LinearArtifact:
    """A model of three features."""
    weight = np.arange(3 * outputs, dtype=np.float32).reshape(3, outputs)
    return LinearArtifact(weight, np.full(outputs, 0.5, np.float32), predictor_type, loss_type, 0.25, metrics)


KINDS = {
    "regressor": (model(), "LinearRegressionOutput"),
    "quantile": (model(loss_type="quantile_loss", quantile=0.9), "LinearRegressionOutput"),
    "binary": (model("binary_classifier", "logistic"), "LogisticRegressionOutput"),
    "hinge": (model("binary_classifier", "hinge_loss", margin=2.0), "LinearRegressionOutput"),
    "multiclass": (model("multiclass_classifier", "softmax_loss", 4, class_weights=[1, 2, 3, 4]), "SoftmaxOutput"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind: str) -> None:
    """A model of each kind comes back; its graph ends in the operation that gives its score."""
    artifact, op = KINDS[kind]
    data = dump(artifact)
    back = load(data)
    assert back.weight.tolist() == artifact.weight.tolist()
    assert back.bias.tolist() == artifact.bias.tolist()
    assert (back.predictor_type, back.loss_type, back.threshold) == (artifact.predictor_type, artifact.loss_type, 0.25)
    assert {**back.metrics, **artifact.metrics} == back.metrics
    assert head_op(load_object(unpack(data), "mx-mod-symbol.json")) == op
    assert dump(back) == data == dump(artifact)


def test_one_threshold() -> None:
    """A threshold that is replaced is written at both places."""
    artifact = replace(load(dump(model())), threshold=0.75)
    additional = load_object(unpack(dump(artifact)), ADDITIONAL)
    assert additional["threshold"] == additional["metrics_params"]["threshold"] == 0.75


def arrays(weight: Any, bias: Any, names: tuple[str, str] = ("arg:fc0_weight", "arg:fc0_bias")) -> bytes:
    """The parameters of a model."""
    return dump_arrays(dict(zip(names, (np.asarray(weight), np.asarray(bias)), strict=True)))


COLUMN = np.ones((3, 1), np.float32)
ONE = np.ones(1, np.float32)


def test_what_may_differ() -> None:
    """The graph may be missing, a bias flat, numbers of other precision, the order and the other metrics any."""
    members = unpack(dump(model()))
    del members["mx-mod-symbol.json"]
    members[PARAMS] = dump_arrays({"arg:fc0_bias": np.ones(1), "arg:fc0_weight": np.ones((3, 1), np.float16)})
    members[ADDITIONAL] = b'{"predictor_type": "regressor", "loss_type": "new_loss", "threshold": 1}'
    back = load(pack(members))
    assert (back.weight.dtype, back.bias.dtype, back.bias.shape) == (np.float32, np.float32, (1,))
    assert (back.loss_type, back.threshold, back.metrics) == ("new_loss", 1.0, {})


def additional(**changes: Any) -> bytes:
    """The settings of a regressor, changed."""
    return json.dumps({"threshold": 0.5, "loss_type": "l", "predictor_type": "regressor", **changes}).encode()


WRONG = {
    "manifest of other version": ("manifest.json", b'{"mx-mod": "mxnet_module", "version": 2}', "manifest.json is not"),
    "manifest of other kind": ("manifest.json", b"[]", "manifest.json is a list"),
    "symbol": ("mx-mod-symbol.json", b"{", "mx-mod-symbol.json is not JSON"),
    "settings": (ADDITIONAL, b"1", "additional-params.json is 1, not an object"),
    "predictor type": (
        ADDITIONAL,
        additional(predictor_type="oracle"),
        "predictor_type is 'oracle', not one of binary",
    ),
    "no predictor type": (ADDITIONAL, b"{}", "predictor_type is None"),
    "predictor type of other kind": (ADDITIONAL, additional(predictor_type=[[]]), "predictor_type is a list"),
    "loss": (ADDITIONAL, additional(loss_type=None), "loss_type is None, not text"),
    "threshold": (ADDITIONAL, additional(threshold="0.5"), "threshold is '0.5', not a number"),
    "truth": (ADDITIONAL, additional(threshold=True), "threshold is True, not a number"),
    "infinite threshold": (ADDITIONAL, additional(threshold=float("nan")), "threshold is nan, not a finite"),
    "large threshold": (ADDITIONAL, additional(threshold=10**400), "threshold is inf, not a finite"),
    "metrics": (ADDITIONAL, additional(metrics_params=[1]), "metrics_params is a list, not an object"),
    "other outputs": (ADDITIONAL, additional(predictor_type="multiclass_classifier"), "shape (3, 1), which is none of"),
    "params": (PARAMS, b"", "the file is cut"),
    "names": (PARAMS, arrays(COLUMN, ONE, ("arg:w", "arg:b")), "found arg:w, arg:b"),
    "no arrays": (PARAMS, dump_arrays({}), "found none"),
    "flat weights": (PARAMS, arrays(COLUMN[:, 0], ONE), "shape (3,), not (feature_dim, outputs)"),
    "no weights": (PARAMS, arrays(COLUMN[:0], ONE), "shape (0, 1), not (feature_dim, outputs)"),
    "two outputs": (PARAMS, arrays(np.ones((3, 2)), np.ones(2)), "shape (3, 2), which is none of a regressor"),
    "bias": (PARAMS, arrays(COLUMN, np.ones((2, 1))), "shape (2, 1), not (1, 1)"),
    "no numbers": (PARAMS, arrays(COLUMN * np.nan, ONE), "arg:fc0_weight has numbers that are not finite"),
    "infinite bias": (PARAMS, arrays(COLUMN, np.array([1e300])), "arg:fc0_bias has numbers that are not finite"),
    "whole numbers": (PARAMS, arrays(np.ones((3, 1), np.int32), ONE), "arg:fc0_weight has numbers of the type int32"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong(what: str) -> None:
    """A member that is wrong, or does not fit the others, is named."""
    name, data, message = WRONG[what]
    with pytest.raises(ArtifactError) as caught:
        load(pack({**unpack(dump(model())), name: data}))
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["manifest.json", ADDITIONAL, PARAMS])
def test_missing(name: str) -> None:
    """Each member but the graph has to be there."""
    members = unpack(dump(model()))
    del members[name]
    with pytest.raises(ArtifactError, match=f"the model has no {name}"):
        load(pack(members))


def test_cut_anywhere() -> None:
    """An artifact cut at any byte is an error."""
    data = dump(model())
    for size in range(len(data)):
        with pytest.raises(ArtifactError):
            load(data[:size])


def test_any_damage() -> None:
    """Changed bytes of the file, or of a member that is whole for the ZIP, give an ArtifactError or a model."""
    rng = np.random.default_rng(0)
    data = dump(KINDS["multiclass"][0])
    members = unpack(data)

    def damaged(whole: bytes) -> bytes:
        changed = bytearray(whole)
        changed[rng.integers(len(whole))] ^= int(rng.integers(1, 256))
        return bytes(changed)

    cases = [damaged(data) for _ in range(300)]
    cases += [pack({**members, name: damaged(members[name])}) for name in members for _ in range(300)]
    for case in cases:
        try:
            assert np.isfinite(load(case).weight).all()
        except ArtifactError as error:
            assert str(error)
