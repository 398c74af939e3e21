"""``clary train``: what it tells a job of its channels."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clary.recordio.csv import format_csv

from .conftest import ROWS

Clary = Callable[..., "subprocess.CompletedProcess[bytes]"]

LABELS = (np.arange(len(ROWS)) % 50 == 0).astype(np.float32)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with the rows as ``a.csv``, and behind a label as ``b.csv``."""
    (tmp_path / "a.csv").write_bytes(format_csv([ROWS]))
    (tmp_path / "b.csv").write_bytes(format_csv([LABELS, ROWS]))
    return tmp_path


def channels(clary: Clary, folder: Path, *words: str) -> dict[str, Any]:
    """The channels' configuration of a job that ended well."""
    done = clary("train", *words, "--root", "ml", cwd=folder)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    found: dict[str, Any] = json.loads((folder / "ml/input/config/inputdataconfig.json").read_text())
    return found


@pytest.mark.parametrize("mode", ["File", "Pipe"])
def test_labels_where_a_channel_needs_them(clary: Clary, files: Path, mode: str) -> None:
    """Random cut forest learns from all columns and is tested with labels; each channel has its distribution."""
    words = ("random-cut-forest", "--train", "a.csv", "--test", "b.csv", "--mode", mode.lower())
    entry = {"TrainingInputMode": mode, "RecordWrapperType": "None"}

    assert channels(clary, files, *words, "-p", "num_trees=50", "num_samples_per_tree=8") == {
        "train": {**entry, "S3DistributionType": "ShardedByS3Key", "ContentType": "text/csv;label_size=0"},
        "test": {**entry, "S3DistributionType": "FullyReplicated", "ContentType": "text/csv;label_size=1"},
    }
    assert json.loads(clary("inspect", "model.tar.gz", cwd=files).stdout)["feature_dim"] == ROWS.shape[1]


def test_no_labels(clary: Clary, files: Path) -> None:
    """PCA has labels in neither channel, and any distribution will do."""
    given = channels(clary, files, "PCA", "--train", "a.csv", "--test", "a.csv", "-p", "num_components=2",
                     "mini_batch_size=100")  # fmt: skip

    assert {entry["ContentType"] for entry in given.values()} == {"text/csv;label_size=0"}
    assert {entry["S3DistributionType"] for entry in given.values()} == {"FullyReplicated"}


def test_a_given_content_type_counts_for_the_width(clary: Clary, files: Path) -> None:
    """With text/csv and no word on labels the first column is one, for the width that is found as for the job."""
    words = ("train", "kmeans", "--train", "b.csv", "--content-type", "text/csv", "-p", "k=3")
    done = clary(*words, cwd=files)

    assert (done.returncode, done.stderr) == (0, b"clary: feature_dim=4, as in b.csv\n")
