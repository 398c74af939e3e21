"""Artifacts of random cut forest: what is in them, and that no file is taken for one that is none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clary.algorithms.forest import grow, score
from clary.algorithms.kmeans import KMeansModel
from clary.algorithms.ndarray import dump_arrays, load_arrays
from clary.algorithms.randomcutforest import RandomCutForestModel
from clary.algorithms.registry import open_artifact
from clary.errors import ArtifactError
from clary.recordio.batch import Array

Change = Callable[[dict[str, Array]], object]

SAMPLE = np.random.default_rng(0).integers(0, 5, (6, 7, 2)).astype(np.float32)
MODEL = RandomCutForestModel(grow(SAMPLE, np.random.default_rng(1)))
DATA = MODEL.to_bytes()
ROWS = np.array([[0, 0], [1, 3], [9, -9]], np.float32)


def test_arrays() -> None:
    """An artifact is a list of arrays: the version, and the nodes and leaves of all trees."""
    arrays = load_arrays(DATA)
    assert {name: (array.dtype.name, array.ndim) for name, array in arrays.items()} == {
        "randomcutforest": ("int32", 1),
        "roots": ("int32", 1),
        "dimensions": ("int32", 1),
        "values": ("float32", 1),
        "children": ("int32", 2),
        "boxes": ("float32", 3),
        "extents": ("float64", 1),
        "points": ("float32", 2),
        "masses": ("int32", 1),
    }
    assert arrays["randomcutforest"].tolist() == [1]


@pytest.mark.parametrize("shape", [(6, 7, 2), (50, 1, 3), (3, 40, 48), (1, 2, 1), (1, 1, 1)])
def test_round_trip(shape: tuple[int, int, int]) -> None:
    """An artifact gives the same scores as the model that it was made from."""
    sample = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    model = RandomCutForestModel(grow(sample, np.random.default_rng(1)))
    back = RandomCutForestModel.from_bytes(model.to_bytes())
    assert back.to_bytes() == model.to_bytes() and back.describe() == model.describe()
    rows = np.concatenate([sample.reshape(-1, shape[2])[:20], sample[0] + 1])
    assert np.array_equal(back.predict(rows).columns["score"], model.predict(rows).columns["score"])


@pytest.mark.parametrize("end", [*range(0, len(DATA), 97), len(DATA) - 1])
def test_cut(end: int) -> None:
    """An artifact that is cut is refused, wherever."""
    with pytest.raises(ArtifactError):
        RandomCutForestModel.from_bytes(DATA[:end])


def put(name: str, place: Any, value: Any) -> Change:
    """A function that writes into one of the arrays."""
    return lambda arrays: arrays[name].__setitem__(place, value)


def remade(name: str, change: Callable[[Array], Array]) -> Change:
    """A function that replaces one of the arrays."""
    return lambda arrays: arrays.update({name: change(arrays[name])})


def swap(arrays: dict[str, Array]) -> None:
    """Put a root below itself, in the place of its child."""
    roots, children = arrays["roots"], arrays["children"]
    below = next(link for link in children[roots[0]] if link >= 0)
    children[children == below], roots[0] = roots[0], below


def empty(arrays: dict[str, Array]) -> None:
    """Leave no tree."""
    arrays.update({name: array[:0] for name, array in arrays.items() if name != "randomcutforest"})


NOT_FINITE = "a number that is not finite, or a box without extent"
SIZES = "trees of different sizes"
PLACES = "some node or leaf is below none or several"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (put("randomcutforest", 0, 2), r"expected a random cut forest of version 1, found version \[2\]"),
        (lambda arrays: arrays.pop("randomcutforest"), "found arrays called roots, dimensions"),
        (lambda arrays: arrays.pop("boxes"), "expected the arrays roots, .* of a forest"),
        (lambda arrays: arrays.update(more=np.zeros(1)), "expected the arrays roots, .* of a forest"),
        (remade("values", lambda values: values.astype(np.float64)), "expected the arrays roots, .* of a forest"),
        (remade("masses", lambda masses: masses[:, None]), "expected the arrays roots, .* of a forest"),
        (remade("values", lambda values: values[1:]), "has the shape"),
        (remade("dimensions", lambda dimensions: dimensions[1:]), "dimensions has the shape"),
        (remade("children", lambda children: children[:, :1]), "children has the shape"),
        (remade("boxes", lambda boxes: boxes[:, :, :1]), "boxes has the shape"),
        (remade("boxes", lambda boxes: boxes[:, :1]), "boxes has the shape"),
        (remade("extents", lambda extents: extents[:-1]), "extents has the shape"),
        (remade("masses", lambda masses: masses[:-1]), "masses has the shape"),
        (remade("points", lambda points: points[:-1]), "masses has the shape"),
        (remade("roots", lambda roots: roots[:-1]), PLACES),
        (put("children", (0, 0), 10**9), PLACES),
        (put("children", (0, 0), -(2**31)), PLACES),
        (put("children", (0, 0), 0), PLACES),
        (put("children", (slice(None), 0), -1), PLACES),
        (put("roots", 0, -1), PLACES),
        (put("roots", slice(None), 0), PLACES),
        (swap, "a node is below itself"),
        (empty, "there are no trees or no dimensions"),
        (remade("roots", lambda roots: roots[:0]), "there are no trees or no dimensions"),
        (put("dimensions", 3, 2), "a cut across a dimension that is none of 2"),
        (put("dimensions", 3, -1), "a cut across a dimension that is none of 2"),
        (put("masses", 0, 0), SIZES),
        (put("masses", 0, -7), SIZES),
        (put("masses", 0, 2**31 - 1), SIZES),
        (remade("masses", lambda masses: masses + 6 * (np.arange(len(masses)) == 3).astype(np.int32)), SIZES),
        (put("extents", 2, 0), NOT_FINITE),
        (put("extents", 2, -1), NOT_FINITE),
        (put("extents", 2, np.nan), NOT_FINITE),
        (put("values", 2, np.nan), NOT_FINITE),
        (put("boxes", (2, 0, 0), -np.inf), NOT_FINITE),
        (put("points", (2, 1), np.inf), NOT_FINITE),
    ],
)
def test_corrupt(change: Change, told: str) -> None:
    """Arrays that make no forest are refused, with what is wrong."""
    arrays = {name: array.copy() for name, array in load_arrays(DATA).items()}
    change(arrays)
    with pytest.raises(ArtifactError, match=told):
        RandomCutForestModel.from_bytes(dump_arrays(arrays))


def test_no_dimensions() -> None:
    """Points without coordinates make no forest."""
    arrays = load_arrays(DATA)
    arrays |= {"points": arrays["points"][:, :0], "boxes": arrays["boxes"][:, :, :0]}
    with pytest.raises(ArtifactError, match="there are no trees or no dimensions"):
        RandomCutForestModel.from_bytes(dump_arrays(arrays))


def test_root_of_nothing() -> None:
    """A last node that is below none, though all others are in their places, is told."""
    pairs = np.tile(np.array([[0], [1]], np.float32), (6, 1, 1))
    arrays = load_arrays(RandomCutForestModel(grow(pairs, np.random.default_rng(0))).to_bytes())
    assert arrays["roots"].tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ArtifactError, match=PLACES):
        RandomCutForestModel.from_bytes(dump_arrays({**arrays, "roots": arrays["roots"][:-1]}))


@pytest.mark.parametrize("seed", range(300))
def test_damaged(seed: int) -> None:
    """Of an artifact with random bytes in it one is told, or it answers: it never fails otherwise nor hangs."""
    rng = np.random.default_rng(seed)
    data = np.frombuffer(DATA, np.uint8).copy()
    data[rng.integers(0, len(data), 1 + seed % 3)] ^= rng.integers(1, 256, 1 + seed % 3).astype(np.uint8)
    try:
        model = RandomCutForestModel.from_bytes(data.tobytes())
    except ArtifactError:
        return
    assert model.predict(ROWS[:, : model.feature_dim]).columns["score"].shape == (3,)


def test_registry(tmp_path: Path) -> None:
    """A forest is opened as a forest, and the artifact of another algorithm is not taken for one."""
    path = tmp_path / "model_algo-1"
    path.write_bytes(DATA)
    found, model = open_artifact(tmp_path)
    assert found.name == "randomcutforest"
    assert np.array_equal(model.predict(ROWS).columns["score"], score(MODEL.forest, ROWS))
    path.write_bytes(KMeansModel(ROWS).to_bytes())
    assert open_artifact(tmp_path)[0].name == "kmeans"


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ([ROWS], "found arrays called 0"),
        ({"s": ROWS[0], "v": ROWS, "mean": ROWS[0]}, "found arrays called s, v, mean"),
        ([], "found arrays called nothing"),
    ],
)
def test_other_artifacts(arrays: list[Array] | dict[str, Array], told: str) -> None:
    """Of other lists of arrays one is told what is in them."""
    with pytest.raises(ArtifactError, match=f"^expected a random cut forest of version 1, {told}$"):
        RandomCutForestModel.from_bytes(dump_arrays(arrays))


def test_huge_trees() -> None:
    """A tree of more points than any training makes is refused: one chain of them would hold up an endpoint."""
    arrays = load_arrays(DATA)
    with pytest.raises(ArtifactError, match=r"trees of \d+ points, of 16384 at most"):
        RandomCutForestModel.from_bytes(dump_arrays({**arrays, "masses": arrays["masses"] * np.int32(1 << 20)}))
