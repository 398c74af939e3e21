"""The algorithms that there are, and the artifacts they know."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clary.algorithms.kmeans import KMeansModel
from clary.algorithms.ndarray import dump_arrays
from clary.algorithms.registry import ALGORITHMS, algorithm, open_artifact
from clary.errors import ArtifactError, UserError

CENTRES = np.array([[0, 0], [3, 4]], np.float32)


@pytest.mark.parametrize("name", ["kmeans", "KMeans", "k-means", "K_Means", " kmeans "])
def test_spellings(name: str) -> None:
    """An algorithm is found by AWS's name in any case, and by the way people write it."""
    assert algorithm(name).name == "kmeans"


@pytest.mark.parametrize("name", ["", "kmean", "../kmeans", "clary.algorithms.kmeans"])
def test_unknown(name: str) -> None:
    """Of an unknown algorithm one is told which there are."""
    with pytest.raises(UserError, match=f"^unknown algorithm {name!r}: choose from {', '.join(ALGORITHMS)}$"):
        algorithm(name)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_declarations(name: str) -> None:
    """Each algorithm is declared under its own name, and what it declares hangs together."""
    found = algorithm(name)
    assert found is importlib.import_module(ALGORITHMS[name]).ALGORITHM
    assert found.name == name and found.title and found.log_name
    assert found.channels[0] == "train" and found.content_types and found.accepts
    assert all({*metric.channels} <= {*found.channels} for metric in found.metrics)
    assert len({metric.name for metric in found.metrics}) == len(found.metrics)


def test_lazy() -> None:
    """The registry imports no algorithm before it is asked for."""
    code = "import sys, clary.algorithms.registry; print('clary.algorithms.kmeans' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"


def test_open_artifact(tmp_path: Path) -> None:
    """An artifact is found by its name among whatever else lies there."""
    for name in ("model.tar.gz", "._model_algo-1", ".model_algo-1.x.tmp", "state_0000", "code"):
        (tmp_path / name).write_bytes(b"none of ours")
    (tmp_path / "model_algo-1").write_bytes(KMeansModel(CENTRES).to_bytes())
    found, model = open_artifact(tmp_path)
    assert (found.name, model.feature_dim, model.describe()["k"]) == ("kmeans", 2, 2)


@pytest.mark.parametrize("folder", [".", "nowhere"])
def test_no_artifact(tmp_path: Path, folder: str) -> None:
    """Without an artifact one is told what was looked for, and where."""
    with pytest.raises(
        ArtifactError, match=r"^no model artifact in \S+: expected a file named model_algo-1 or xgboost-model$"
    ):
        open_artifact(tmp_path / folder)


def test_directory_instead_of_artifact(tmp_path: Path) -> None:
    """A directory with the name of an artifact is none."""
    (tmp_path / "model_algo-1").mkdir()
    with pytest.raises(ArtifactError, match="no model artifact"):
        open_artifact(tmp_path)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "kmeans: the file is cut"),
        (KMeansModel(CENTRES).to_bytes()[:-1], "kmeans: the file is cut"),
        (dump_arrays([CENTRES, CENTRES]), "kmeans: expected one array of centres"),
        (dump_arrays({"mean": CENTRES}), "kmeans: expected one array of centres"),
        (dump_arrays([CENTRES[0]]), "kmeans: expected one array of centres"),
        (dump_arrays([CENTRES[:0]]), "kmeans: expected one array of centres"),
    ],
)
def test_foreign_artifact(tmp_path: Path, data: bytes, told: str) -> None:
    """Of an artifact that nobody knows one is told what each algorithm says of it."""
    (tmp_path / "model_algo-1").write_bytes(data)
    with pytest.raises(ArtifactError, match=f"^no algorithm can read the artifact in .*: {told}"):
        open_artifact(tmp_path)
