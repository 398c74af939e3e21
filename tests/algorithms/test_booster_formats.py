"""Model files of every XGBoost, real ones: golden/xgboost/make_old.py has them made by the versions themselves."""

import gzip
import json
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clary.algorithms.booster import Booster, Matrix
from clary.algorithms.booster_formats import Origin, open_booster
from clary.errors import ArtifactError

OLD = Path(__file__).parents[1] / "golden" / "xgboost" / "old"
AWS = Path(__file__).parents[3] / "shared" / "data" / "aws_artifacts" / "xgboost_churn" / "model.tar.gz"
NAMES = ("age", "income", "a b", "d", "e", "f")
UNNAMED = tuple(f"f{i}" for i in range(6))  # what versions before 1.4 called them


def unpacked(name: str) -> bytes:
    """One of the old files."""
    return gzip.decompress((OLD / f"{name}.gz").read_bytes())


def told() -> dict[str, tuple[Any, dict[str, Any]]]:
    """What each old model predicted, and for which rows."""
    found = {}
    for path in sorted(OLD.glob("*.json.gz")):
        if path.name.count("-"):
            continue
        version = path.name.removesuffix(".json.gz")
        document = json.loads(unpacked(f"{version}.json"))
        rows = np.array(document["rows"], np.float32)
        found |= {f"{version}-{name}": (rows, expected) for name, expected in document["expected"].items()}
    return found


TOLD = told()


def predict(booster: Booster, rows: Any, rounds: int | None, *, margin: bool) -> Any:
    """Predictions; the library has no other way for a linear booster."""
    if booster.rounds:
        return booster.predict(rows, margin=margin, rounds=rounds or 0)
    return booster.predict_matrix(Matrix(rows), margin=margin)


@pytest.mark.parametrize("name", TOLD)
def test_predictions(name: str) -> None:
    """A model predicts what the version that wrote it did, for missing values too."""
    rows, expected = TOLD[name]
    booster, origin = open_booster(unpacked(name))
    assert np.isnan(rows).any()
    for kind, margin in (("margin", True), ("prediction", False)):
        found = predict(booster, rows, origin.best_rounds, margin=margin)
        wanted = np.array(expected[kind], np.float32).reshape(found.shape)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in TOLD if name.startswith(("1.3", "1.5", "1.7", "3."))])
def test_same_bits(name: str) -> None:
    """Since 1.3 margins of trees are the same to the last bit: sums have the same order."""
    rows, expected = TOLD[name]
    booster, origin = open_booster(unpacked(name))
    found = predict(booster, rows, origin.best_rounds, margin=True)
    np.testing.assert_array_equal(found, np.array(expected["margin"], np.float32).reshape(found.shape))


@pytest.mark.parametrize("name", [name for name, (_, expected) in TOLD.items() if expected["gain"]])
def test_importance(name: str) -> None:
    """Features are as important as that version said."""
    _, expected = TOLD[name]
    booster, origin = open_booster(unpacked(name))
    names = dict(zip(UNNAMED, NAMES, strict=True)) if "age" in expected["gain"] and not origin.feature_names else {}
    found = {names.get(feature, feature): gain for feature, gain in booster.importance().items()}
    assert found == pytest.approx(expected["gain"], rel=1e-4)


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("0.72.1-logistic.p2", Origin("pickled binary", "before 1.0", NAMES)),
        ("0.72.1-forest.p0", Origin("pickled binary", "before 1.0", NAMES, 10)),
        ("0.72.1-linears.bin", Origin("binary", "before 1.0")),
        ("0.90-softprob.p4", Origin("pickled binary", "before 1.0", UNNAMED)),
        ("0.90-forests.p3", Origin("pickled binary", "before 1.0", UNNAMED, 2)),
        ("0.90-linear.p1", Origin("pickled binary", "before 1.0", UNNAMED)),
        ("1.0.2-forest.p4", Origin("pickled binary", "1.0.2", NAMES, 4)),
        ("1.2.1-darts.p4", Origin("pickled binary", "1.2.1", UNNAMED)),
        ("1.3.3-logistic.bin", Origin("binary", "1.3")),
        ("1.3.3-forest.p4", Origin("pickled JSON", "1.3.3", NAMES, 4)),
        ("1.5.2-forest.bin", Origin("binary", "1.5", (), 2)),
        ("1.7.6-forest.bin", Origin("binary", "1.7", (), 1)),
        ("1.7.6-logistic.json", Origin("JSON", "1.7.6", NAMES)),
        ("1.7.6-forest.p5", Origin("pickled UBJSON", "1.7.6", NAMES, 1)),
        ("3.0.5-forest.ubj", Origin("UBJSON", "3.0.5", NAMES, 5)),
    ],
)
def test_origin(name: str, origin: Origin) -> None:
    """The format, the version, the names and the rounds to use are told; rounds of single trees before 1.6."""
    assert open_booster(unpacked(name))[1] == origin


def test_rounds_of_classes() -> None:
    """How many trees a round has is seen where there are classes: two times three here, of 24."""
    booster, _ = open_booster(unpacked("0.90-forests.p3"))
    model = json.loads(booster.to_bytes("json"))["learner"]["gradient_booster"]["model"]
    assert model["gbtree_model_param"]["num_trees"] == "24"
    assert model["tree_info"][:6] == [0, 0, 1, 1, 2, 2]
    assert booster.rounds == 4


def test_deleted_nodes() -> None:
    """Nodes that were pruned keep their places, so that leaves have their old numbers."""
    booster, _ = open_booster(unpacked("0.90-pruned.p3"))
    trees = json.loads(booster.to_bytes("json"))["learner"]["gradient_booster"]["model"]["trees"]
    assert sum(int(tree["tree_param"]["num_deleted"]) for tree in trees) > 0
    assert {tree["tree_param"]["num_nodes"] == str(len(tree["parents"])) for tree in trees} == {True}


def test_round_trip() -> None:
    """A model that was opened is written and opened again as any other, and predicts the same."""
    rows, _ = TOLD["0.90-logistic.p3"]
    booster, _ = open_booster(unpacked("0.90-logistic.p3"))
    again, origin = open_booster(booster.to_bytes())
    assert (origin.format, origin.feature_names) == ("UBJSON", NAMES)
    np.testing.assert_array_equal(booster.predict(rows), again.predict(rows))


def test_training_goes_on() -> None:
    """An old model can be trained further."""
    rows, _ = TOLD["1.3.3-logistic.bin"]
    booster, _ = open_booster(unpacked("1.3.3-logistic.bin"))
    rounds = booster.rounds
    booster.update(Matrix(rows, np.arange(len(rows)) % 2), rounds)
    assert booster.rounds == rounds + 1


def test_amazon() -> None:
    """Amazon's own artifact, of the time of 0.90, is opened: 69 features, 100 rounds."""
    if not AWS.is_file():
        pytest.skip(f"{AWS} is not here")
    with tarfile.open(AWS) as archive:
        file = archive.extractfile("xgboost-model")
        assert file is not None
        booster, origin = open_booster(file.read())
    assert origin == Origin("pickled binary", "before 1.0", tuple(f"f{i}" for i in range(69)))
    assert (booster.feature_count, booster.rounds) == (69, 100)
    found = booster.predict(np.zeros((2, 69), np.float32))
    assert np.all((found > 0) & (found < 1))


def u64(number: int) -> bytes:
    """A size in the binary format."""
    return struct.pack("<Q", number)


def binary(
    objective: bytes, body: bytes = b"", score: float = 0.5, features: int = 1, booster: bytes = b"gbtree"
) -> bytes:
    """A model in the binary format before 1.0."""
    head = struct.pack("<fI128x", score, features)
    return head + u64(len(objective)) + objective + u64(len(booster)) + booster + body


def tree(*nodes: tuple[int, int, int, int, float], roots: int = 1, deleted: int = 0, leaf_vector: int = 0) -> bytes:
    """A tree of nodes: parent, left, right, feature and value."""
    head = struct.pack("<6i124x", roots, len(nodes), deleted, 0, 1, leaf_vector)
    return head + b"".join(struct.pack("<3iIf", *node) for node in nodes) + bytes(16 * len(nodes))


def trees(*each: bytes, owners: tuple[int, ...] | None = None, leaf_vector: int = 0) -> bytes:
    """A booster of trees."""
    owners = owners or (0,) * len(each)
    head = struct.pack("<ii20xi128x", len(each), 1, leaf_vector)
    return head + b"".join(each) + struct.pack(f"<{len(owners)}i", *owners)


LEFT = -(1 << 31)
LEAF = (-1, -1, -1, 0, 2.5)
STUMP = ((-1, 1, 2, 0, 0.5), (LEFT, -1, -1, 0, 1.0), (0, -1, -1, 0, 2.0))


def test_by_hand() -> None:
    """A stump made byte by byte: 0.5 and 1 to the left, 0.5 and 2 to the right, where missing values go."""
    booster, _ = open_booster(binary(b"reg:linear", trees(tree(*STUMP))))
    assert booster.predict(np.array([[0], [1], [np.nan]], np.float32)).tolist() == [1.5, 2.5, 2.5]


@pytest.mark.parametrize(
    ("objective", "score", "told"),
    [
        (b"binary:logistic", 0.0, 0.5),
        (b"binary:logitraw", 0.25, 0.25),
        (b"count:poisson", 0.0, 1.0),
        (b"reg:linear", -3.0, -3.0),
        (b"gpu:reg:linear", 4.0, 4.0),
    ],
)
def test_base_score(objective: bytes, score: float, told: float) -> None:
    """Before 1.0 the base score was kept as a margin: for log and logit it is turned back, for others it stays."""
    booster, _ = open_booster(binary(objective, trees(tree(LEAF)), score))
    kept = json.loads(booster.to_bytes("json"))["learner"]["learner_model_param"]["base_score"]
    assert float(kept.strip("[]")) == told
    assert booster.predict(np.zeros((1, 1), np.float32), margin=True) == score + 2.5


def changed(nodes: tuple[Any, ...], number: int, **fields: int) -> bytes:
    """A tree with other numbers in a node."""
    names = ("parent", "left", "right", "split", "value")
    node = {**dict(zip(names, nodes[number], strict=True)), **fields}
    return tree(*nodes[:number], tuple(node.values()), *nodes[number + 1 :])  # type: ignore[arg-type]


LINEAR = bytes(136)
DAMAGED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "neither UBJSON, JSON"),
    "text": (b"age,income\n1,2\n" * 50, "neither UBJSON, JSON"),
    "other booster": (binary(b"reg:linear", booster=b"gbforest"), "neither UBJSON, JSON"),
    "long name": (binary(b"x" * 65, trees(tree(LEAF))), "neither UBJSON, JSON"),
    "no trees": (binary(b"reg:linear", trees()), "no trees"),
    "trees beyond the end": (binary(b"reg:linear", struct.pack("<ii152x", 1 << 30, 1)), "the model is cut"),
    "nodes beyond the end": (
        binary(b"reg:linear", struct.pack("<ii152x", 1, 1) + struct.pack("<6i124x", 1, 1 << 30, 0, 0, 1, 0)),
        "the model is cut",
    ),
    "no nodes": (binary(b"reg:linear", trees(tree())), "0 nodes"),
    "two roots": (binary(b"reg:linear", trees(tree(LEAF, roots=2))), "2 roots"),
    "leaf vectors": (binary(b"reg:linear", trees(tree(LEAF), leaf_vector=3)), "vectors"),
    "leaf vector of a tree": (binary(b"reg:linear", trees(tree(LEAF, leaf_vector=3))), "3 values"),
    "deleted nodes": (binary(b"reg:linear", trees(tree(LEAF, deleted=1))), "0 deleted nodes, not 1"),
    "child beyond the end": (binary(b"reg:linear", trees(changed(STUMP, 0, right=3))), "no tree"),
    "child before the start": (binary(b"reg:linear", trees(changed(STUMP, 0, right=-2))), "no tree"),
    "circle": (binary(b"reg:linear", trees(changed(STUMP, 1, left=0, right=0))), "no tree"),
    "own child": (binary(b"reg:linear", trees(changed(STUMP, 1, left=1, right=2))), "no tree"),
    "one child": (binary(b"reg:linear", trees(changed(STUMP, 0, right=1))), "no tree"),
    "other parent": (binary(b"reg:linear", trees(changed(STUMP, 2, parent=1))), "no tree"),
    "root with a parent": (binary(b"reg:linear", trees(changed(STUMP, 0, parent=1))), "no tree"),
    "node aside": (binary(b"reg:linear", trees(tree(*STUMP, (5, -1, -1, 0, 1.0)))), "no tree"),
    "feature beyond the last": (binary(b"reg:linear", trees(changed(STUMP, 0, split=1))), "no tree"),
    "deleted child": (binary(b"reg:linear", trees(changed(STUMP, 2, split=0xFFFFFFFF))), "no tree"),
    "deleted root": (binary(b"reg:linear", trees(changed((LEAF,), 0, split=0xFFFFFFFF))), "no tree"),
    "other output": (binary(b"reg:linear", trees(tree(LEAF), owners=(1,))), "outputs 1 to 1 of 1"),
    "base score": (binary(b"reg:linear", trees(tree(LEAF)), float("nan")), "the base score is nan"),
    "objective": (binary(b"reg:none", trees(tree(LEAF))), "the XGBoost library refuses it"),
    "weights of trees": (binary(b"reg:linear", trees(tree(LEAF)) + u64(0), booster=b"dart"), "0 weights for 1 trees"),
    "weights": (binary(b"reg:linear", LINEAR + u64(1) + bytes(4), booster=b"gblinear"), "1 weights for 1 features"),
    "weights beyond the end": (binary(b"reg:linear", LINEAR + u64(1 << 62), booster=b"gblinear"), "is cut"),
    "configuration without model": (b"CONFIG-offset:" + u64(1 << 63), "neither UBJSON, JSON"),
    "pickle without model": (b"\x80\x03cxgboost.core\nBooster\n)\x81}b.", "it holds no model"),
    "JSON": (b'{"learner": 1}', "it is no model of XGBoost, or a damaged one"),
    "cut JSON": (b'{"learner": ', "the JSON holds no model"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged(name: str) -> None:
    """What is no model, or none that can be, is refused with its reason before the library could stumble."""
    data, message = DAMAGED[name]
    with pytest.raises(ArtifactError, match=message):
        open_booster(data)


def with_attributes(**texts: str) -> bytes:
    """A model with attributes, which a byte of the head announces."""
    data = bytearray(binary(b"reg:linear", trees(tree(LEAF))))
    data[12] = 1
    pairs = [text.encode() for pair in texts.items() for text in pair]
    return bytes(data) + u64(len(texts)) + b"".join(u64(len(text)) + text for text in pairs)


def test_attributes() -> None:
    """Attributes are kept."""
    booster, _ = open_booster(with_attributes(note="é", best_score="0.5"))
    assert (booster.attribute("note"), booster.attribute("best_score")) == ("é", "0.5")


@pytest.mark.parametrize("objective", ["{", "[]", '{"name": 1}', '{"a": {"b": {}}}', "[" * 100_000])
def test_damaged_objective(objective: str) -> None:
    """An objective that is no object of texts is refused."""
    with pytest.raises(ArtifactError, match="the objective is no"):
        open_booster(with_attributes(objective=objective))


@pytest.mark.parametrize("model", [b'{"Model"}', b'{"Model": 1}', b'{"Model": {"learner": []}}', b'{"a": '])
def test_damaged_snapshot(model: bytes) -> None:
    """A pickle with JSON that holds no model is refused."""
    data = b"\x80\x03cxgboost.core\nBooster\n)\x81}X\x06\0\0\0handleB" + struct.pack("<I", len(model)) + model + b"sb."
    with pytest.raises(ArtifactError, match="the JSON holds no model"):
        open_booster(data)


@pytest.mark.parametrize("name", ["0.72.1-linears.bin", "0.90-poisson.bin", "1.7.6-dart.bin"])
def test_cut(name: str) -> None:
    """A binary file that ends early is refused or, where nothing but attributes is cut, still a model."""
    data = unpacked(name)
    for length in range(0, len(data) - 400, 53 if len(data) > 1000 else 1):
        with pytest.raises(ArtifactError):
            open_booster(data[:length])


@pytest.mark.parametrize("name", ["0.90-pruned.p3", "1.2.1-aft.p4", "1.7.6-dart.bin", "0.72.1-linears.bin"])
def test_flipped(name: str) -> None:
    """With changed bytes it is a model that predicts, or refused."""
    data, chance = unpacked(name), np.random.default_rng(3)
    rows, _ = TOLD[name]
    for _ in range(100):
        damaged = bytearray(data)
        damaged[chance.integers(len(data))] = chance.choice(np.array([0, 128, 255, chance.integers(256)]))
        try:
            booster, origin = open_booster(bytes(damaged))
        except ArtifactError:
            continue
        booster.set({"nthread": "1"})
        if booster.feature_count == rows.shape[1]:
            assert len(predict(booster, rows, origin.best_rounds, margin=True)) == len(rows)
