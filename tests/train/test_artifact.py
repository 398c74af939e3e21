"""Files that are whole or not there, whatever happens while they are written."""

import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clary.algorithms.kmeans import KMeansModel
from clary.errors import HyperParameterError, PlatformError
from clary.train.artifact import write_atomic, write_failure

from ..job import POINTS, Tree, recordio

WIDTH = 20_000


@pytest.fixture
def wide(tmp_path: Path) -> Callable[[str, int], Tree]:
    """A function that makes a tree whose artifact takes a while to write; its data depends on a seed."""

    def make(name: str, seed: int) -> Tree:
        points = np.random.default_rng(seed).normal(size=(12, WIDTH)).astype(np.float32)
        tree = Tree(tmp_path / name).kmeans(None, feature_dim=WIDTH, k=10, local_lloyd_num_trials=1)
        tree.file("train/a.rec", recordio(points))
        return tree

    return make


def temporary(folder: Path) -> list[str]:
    """Names of temporary files."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_killed_at_any_moment(wide: Callable[[str, int], Tree]) -> None:
    """A job killed at any moment leaves the old artifact or the new one, whole; and nothing else for long."""
    first, second = wide("a", 0), wide("b", 1)
    digests = set()
    for tree in (first, second):
        assert tree.run().code == 0
        digests.add(hashlib.sha256(tree.model.read_bytes()).hexdigest())
    second.model.unlink()
    second.model.parent.rmdir()
    second.model.parent.symlink_to(first.model.parent)
    script = Path(__file__).with_name("killed_jobs.py")
    command = [sys.executable, str(script), "40", str(first.root), str(second.root)]
    left = subprocess.run(command, capture_output=True, check=True, timeout=120).stdout.decode().split()
    assert len(left) == 40 and set(left) == digests
    assert first.run().code == 0
    assert temporary(first.model.parent) == []


def test_full_disk(wide: Callable[[str, int], Tree]) -> None:
    """Where the artifact does not fit the job ends with the platform's exit code, and leaves the old file whole."""
    tree = wide("a", 0)
    tree.model.write_bytes(b"old")
    process = tree.start()
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2000, 2000))
    result = tree.end(process)
    assert (result.code, result.failure) == (3, _told(tree))
    assert tree.model.read_bytes() == b"old"
    assert temporary(tree.model.parent) == []


def _told(tree: Tree) -> str:
    return f"Platform Error: cannot write {tree.model}: File too large"


def test_no_place_for_a_model(tree: Tree) -> None:
    """Where the model directory is none the job says so."""
    tree.kmeans().file("train/a.csv", POINTS)
    (tree.root / "model").rmdir()
    (tree.root / "model").write_bytes(b"")
    result = tree.run()
    assert result.code == 3
    assert result.failure is not None and result.failure.startswith(f"Platform Error: cannot write {tree.model}: ")


def test_missing_model_directory(tree: Tree) -> None:
    """A model directory that is missing is made."""
    tree.kmeans().file("train/a.csv", POINTS)
    (tree.root / "model").rmdir()
    assert tree.run().code == 0
    assert KMeansModel.from_bytes(tree.model.read_bytes()).centres.shape == (2, 2)


def test_readable_by_all(tmp_path: Path) -> None:
    """Others may read what was written, whatever the umask."""
    before = os.umask(0o077)
    try:
        write_atomic(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_left_overs(tmp_path: Path) -> None:
    """What a kill has left of a file is removed by the next write, what belongs to others is not."""
    for name in (".file.abc.tmp", ".other.abc.tmp", ".file.abc"):
        (tmp_path / name).write_bytes(b"half")
    write_atomic(tmp_path / "file", b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".file.abc", ".other.abc.tmp", "file"]


def test_directory_in_the_way(tmp_path: Path) -> None:
    """A directory of the same name is not replaced, and nothing is left behind."""
    (tmp_path / "file").mkdir()
    with pytest.raises(PlatformError, match=r"^cannot write \S+/file: "):
        write_atomic(tmp_path / "file", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_first_failure_stays(tmp_path: Path) -> None:
    """A failure file that is there is not written over."""
    write_failure(tmp_path / "failure", PlatformError("the first"))
    write_failure(tmp_path / "failure", HyperParameterError("the second"))
    assert (tmp_path / "failure").read_text() == "Platform Error: the first"


def test_failure(tmp_path: Path) -> None:
    """A failure file tells whose fault it was and what happened; odd characters do no harm."""
    write_failure(tmp_path / "output" / "failure", HyperParameterError("k is \udce9 wrong"))
    assert (tmp_path / "output" / "failure").read_text() == "Customer Error: k is ? wrong"
