"""The artifact of factorization machines."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from clary.algorithms.fm_artifact import FMArtifact, dump, load
from clary.algorithms.mxnet_module import Node, dump_symbol, head_op, load_object, pack, unpack
from clary.algorithms.ndarray import RowSparse, dump_arrays, load_arrays
from clary.errors import ArtifactError

GIVEN = {"feature_dim": "3", "num_factors": "2", "predictor_type": "regressor", "factors_lr": "0.0002"}
MODEL = FMArtifact(
    np.arange(6, dtype=np.float32).reshape(3, 2), np.array([1, 0, 3], np.float32), -0.5, "regressor", GIVEN
)


def test_members() -> None:
    """The ZIP has Amazon's members: its description, the graph, and arrays of which two are row-sparse and whole."""
    members = unpack(dump(MODEL))
    assert list(members) == ["meta.json", "symbol.json", "params"]
    assert members["meta.json"].decode() == (
        '{"version": 1, "epoch_number": 1, "training_parameters": {"feature_dim": "3", "num_factors": "2", '
        '"predictor_type": "regressor", "factors_lr": "0.0002"}, "label_names": ["out_label"]}'
    )
    arrays = load_arrays(members["params"], most_filled=0)
    assert {name: array.shape for name, array in arrays.items()} == {
        "arg:w1_weight": (3, 1),
        "arg:w0_weight": (1,),
        "arg:v": (3, 2),
    }
    row_sparse, dense = (struct.pack("<Ii", 0xF993FAC9, storage) for storage in (1, 0))
    assert (members["params"].count(row_sparse), members["params"].count(dense)) == (2, 1)


def test_symbol() -> None:
    """The graph has Amazon's nodes, with what the optimizer did to each part."""
    symbol = load_object(unpack(dump(MODEL)), "symbol.json")
    names = "data w1_weight dot0 w0_weight broadcast_plus0 v dot2 Square _mulscalar0 concat0 sum0 x_square"
    names += " _square_sum0 dot1 negative0 _mulscalar1 Final_Summation out_label out"
    assert [node["name"] for node in symbol["nodes"]] == names.split()
    assert symbol["arg_nodes"] == [0, 1, 3, 5, 17]
    assert symbol["heads"] == [[18, 0, 0]]
    attrs = {node["name"]: node.get("attrs") for node in symbol["nodes"]}
    assert attrs["data"] == {"__storage_type__": "2"}
    assert attrs["w0_weight"] == {"__lr_mult__": "0.1", "__shape__": "(1,)", "__wd_mult__": "0.01"}
    assert attrs["v"] == {
        "__init__": '["normal", {"sigma": 0.001}]',
        "__lr_mult__": "0.0002",
        "__shape__": "(3, 2)",
        "__storage_type__": "1",
        "__wd_mult__": "1e-05",
    }


def test_graph_computes_the_model() -> None:
    """The nodes, each computed as MXNet would, give w0 + x·w + Σ ⟨v_i, v_j⟩ x_i x_j."""
    symbol = load_object(unpack(dump(MODEL)), "symbol.json")
    row = np.array([[2.0, -1.0, 0.5]])
    given = {"data": row, "w1_weight": MODEL.w[:, None], "w0_weight": np.array([MODEL.w0]), "v": MODEL.v}
    operations: dict[str, Any] = {
        "dot": np.matmul,
        "broadcast_add": np.add,
        "elemwise_add": np.add,
        "square": np.square,
        "negative": np.negative,
        "_mul_scalar": lambda x: 0.5 * x,
        "Concat": lambda x, y: np.concatenate([x, y], axis=1),
        "sum": lambda x: x.sum(axis=1, keepdims=True),
        "_square_sum": lambda x: np.square(x).sum(axis=1, keepdims=True),
        "LinearRegressionOutput": lambda x, _: x,
    }
    values: list[Any] = []
    for node in symbol["nodes"]:
        inputs = [values[number] for number, _, _ in node["inputs"]]
        values.append(given.get(node["name"]) if node["op"] == "null" else operations[node["op"]](*inputs))
    pairs = [(0, 1), (0, 2), (1, 2)]
    products = sum(MODEL.v[i] @ MODEL.v[j] * row[0, i] * row[0, j] for i, j in pairs)
    assert values[-1].item() == pytest.approx(MODEL.w0 + row[0] @ MODEL.w + products)


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({}, '["normal", {"sigma": 0.01}]'),
        ({"linear_init_sigma": "0.5"}, '["normal", {"sigma": 0.5}]'),
        ({"linear_init_method": "uniform", "linear_init_scale": "0.1"}, '["uniform", {"scale": 0.1}]'),
        ({"linear_init_method": "uniform"}, '["uniform", {"scale": 0.07}]'),
        ({"linear_init_method": "constant", "linear_init_value": "2"}, '["constant", {"value": 2.0}]'),
        ({"linear_init_method": "other"}, '["other", {}]'),
        ({"linear_init_sigma": "auto"}, '["normal", {"sigma": "auto"}]'),
    ],
)
def test_start(given: dict[str, str], written: str) -> None:
    """The graph tells how the weights were initialised."""
    symbol = load_object(unpack(dump(replace(MODEL, training_parameters=given))), "symbol.json")
    assert symbol["nodes"][1]["attrs"]["__init__"] == written


@pytest.mark.parametrize("predictor_type", ["regressor", "binary_classifier"])
def test_round_trip(predictor_type: str) -> None:
    """A model comes back, and is written the same again."""
    given = {**GIVEN, "predictor_type": predictor_type}
    data = dump(replace(MODEL, predictor_type=predictor_type, training_parameters=given, epoch_number=3))
    back = load(data)
    assert (back.v.tolist(), back.w.tolist(), back.w0) == (MODEL.v.tolist(), MODEL.w.tolist(), -0.5)
    assert (back.v.dtype, back.w.dtype) == (np.float32, np.float32)
    assert (back.predictor_type, back.training_parameters, back.epoch_number) == (predictor_type, given, 3)
    assert dump(back) == data


def changed(**members: bytes | None) -> bytes:
    """The artifact with members replaced, or left out."""
    names = {"meta": "meta.json", "symbol": "symbol.json", "params": "params"}
    new = {names[key]: value for key, value in members.items()}
    return pack({name: data for name, data in {**unpack(dump(MODEL)), **new}.items() if data is not None})


def meta(**changes: Any) -> bytes:
    """A description, changed."""
    return json.dumps({"version": 1, "epoch_number": 1, "training_parameters": {}, **changes}).encode()


def params(**changes: Any) -> bytes:
    """The arrays, changed, dense."""
    values = {"v": np.ones((3, 2), np.float32), "w1_weight": np.ones((3, 1)), "w0_weight": np.ones(1), **changes}
    return dump_arrays({f"arg:{name}": value for name, value in values.items()})


def test_where_the_predictor_type_is() -> None:
    """The head of the graph tells the predictor type; without a graph the hyperparameters do."""
    classifier = dump_symbol([Node("null", "out_label"), Node("LogisticRegressionOutput", "out", ["out_label"])])
    assert load(changed(symbol=classifier, meta=meta())).predictor_type == "binary_classifier"
    assert load(changed(symbol=None)).predictor_type == "regressor"


def test_rows_that_are_missing() -> None:
    """Features that no record had may be missing: their weights are zero."""
    w = RowSparse(np.full((1, 1), 7, np.float32), np.array([2]), 3)
    v = RowSparse(np.full((2, 2), 5, np.float32), np.array([0, 1]), 3)
    back = load(changed(params=params(w1_weight=w, v=v)))
    assert (back.w.tolist(), back.v.tolist()) == ([0, 0, 7], [[5, 5], [5, 5], [0, 0]])


def test_dense_arrays() -> None:
    """Dense arrays, a flat weight and a scalar of two dimensions will do."""
    back = load(changed(params=params(w1_weight=np.ones(3), w0_weight=np.ones((1, 1)))))
    assert (back.w.tolist(), back.w0, back.w.dtype) == ([1, 1, 1], 1.0, np.float32)


OTHER_HEAD = dump_symbol([Node("null", "data"), Node("SoftmaxOutput", "out", ["data"])])
CLASSIFIER = meta(training_parameters={"predictor_type": "binary_classifier"})
WRONG = {
    "version": (changed(meta=meta(version=2)), "meta.json has the version 2, not 1"),
    "no parameters": (changed(meta=b'{"version": 1}'), "training_parameters in meta.json is None"),
    "numbers": (changed(meta=meta(training_parameters={"epochs": 1})), "not an object with texts"),
    "epoch": (changed(meta=meta(epoch_number="1")), "epoch_number in meta.json is '1'"),
    "no type": (changed(meta=meta(), symbol=None), "predictor_type is None, not one of binary_classifier, regressor"),
    "head": (changed(symbol=OTHER_HEAD), "the head of the symbol is SoftmaxOutput"),
    "graph": (changed(symbol=b"{}"), "the symbol is no graph"),
    "symbol": (changed(symbol=b""), "symbol.json is not JSON"),
    "two types": (changed(meta=CLASSIFIER), "'binary_classifier', but the head of the symbol is LinearRegr"),
    "no meta": (changed(meta=None), "the model has no meta.json, only symbol.json, params"),
    "no params": (changed(params=None), "the model has no params"),
    "names": (changed(params=params(more=np.ones(1))), "found arg:v, arg:w1_weight, arg:w0_weight, arg:more"),
    "no arrays": (changed(params=dump_arrays({})), "found none"),
    "flat factors": (changed(params=params(v=np.ones(3))), "arg:v has the shape (3,), not (feature_dim, num_factors)"),
    "no factors": (changed(params=params(v=np.ones((3, 0)))), "arg:v has the shape (3, 0)"),
    "weights": (changed(params=params(w1_weight=np.ones((2, 1)))), "arg:w1_weight has the shape (2, 1), not (3, 1)"),
    "bias": (changed(params=params(w0_weight=np.ones(2))), "arg:w0_weight has the shape (2,), not (1,)"),
    "infinite": (changed(params=params(w0_weight=np.array([np.inf]))), "arg:w0_weight has numbers that are not finite"),
    "whole": (changed(params=params(v=np.ones((3, 2), np.int8))), "arg:v has numbers of the type int8"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong(what: str) -> None:
    """A member that is wrong, missing, or does not fit the others, is named."""
    data, message = WRONG[what]
    with pytest.raises(ArtifactError) as caught:
        load(data)
    assert message in str(caught.value)


def test_cut_anywhere() -> None:
    """An artifact cut at any byte is an error."""
    data = dump(MODEL)
    for size in range(0, len(data), 3):
        with pytest.raises(ArtifactError):
            load(data[:size])


def test_any_damage() -> None:
    """Changed bytes of the file, or of a member that is whole for the ZIP, give an ArtifactError or a model."""
    rng = np.random.default_rng(0)
    data = dump(MODEL)
    members = unpack(data)

    def damaged(whole: bytes) -> bytes:
        changed = bytearray(whole)
        changed[rng.integers(len(whole))] ^= int(rng.integers(1, 256))
        return bytes(changed)

    cases = [damaged(data) for _ in range(300)]
    cases += [pack({**members, name: damaged(members[name])}) for name in members for _ in range(300)]
    for case in cases:
        try:
            assert np.isfinite(load(case).v).all()
        except ArtifactError as error:
            assert str(error)
    assert head_op(load_object(members, "symbol.json")) == "LinearRegressionOutput"
