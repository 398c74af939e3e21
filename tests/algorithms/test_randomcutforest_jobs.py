"""Training jobs of random cut forest, as real processes."""

from pathlib import Path

import numpy as np
import pytest

from clary.algorithms.registry import open_artifact
from clary.recordio.batch import Array

from ..job import Result, Tree, csv

CSV = {"train": "text/csv;label_size=0", "test": "text/csv;label_size=1"}


def rows() -> Array:
    """300 rows of a square, three of them far off."""
    made: Array = np.random.default_rng(0).uniform(-1, 1, (300, 2))
    made[40::100] *= 1000
    return made.astype(np.float32)


def job(
    root: Path, train: bytes, distributions: dict[str, str | None] | None = None, types: dict[str, str] = CSV
) -> Tree:
    """A job on these training rows; with a test channel of the rows, the three labelled 1, where one is wanted."""
    tree = Tree(root)
    tree.config("hyperparameters.json", {"feature_dim": "2", "num_trees": "50", "force_dense": "True"})
    given = {"train": None, **(distributions or {})}
    entries = {name: {"ContentType": types[name], "TrainingInputMode": "File"} for name in given}
    for name, distribution in given.items():
        if distribution:
            entries[name]["S3DistributionType"] = distribution
    tree.config("inputdataconfig.json", entries)
    tree.file("train/rows.csv", train)
    if "test" in given:
        tree.file("test/rows.csv", csv(np.column_stack([np.arange(300) % 100 == 40, rows()])))
    return tree


def run(tree: Tree) -> Result:
    """How the job ends."""
    return tree.run(CLARY_ALGORITHM="randomcutforest")


def test_whole_job(tmp_path: Path) -> None:
    """A job on CSV, without a label in train and with one in test, prints its metrics and leaves a model."""
    result = run(job(tmp_path, csv(rows()), {"train": "ShardedByS3Key", "test": "FullyReplicated"}))
    assert (result.code, result.failure) == (0, None)
    assert "#test_score (algo-1) : ('f1', 1.0)" in result.messages
    assert "#quality_metric: host=algo-1, test f1 <score>=1.0" in result.messages
    assert "#progress_metric: host=algo-1, completed 100 % epochs" in result.messages
    found, model = open_artifact(tmp_path / "model")
    scores = model.predict(rows()).columns["score"]
    assert found.name == "randomcutforest" and set(scores.argsort()[-3:].tolist()) == {40, 140, 240}


def test_without_test_channel(tmp_path: Path) -> None:
    """Without a test channel, and without a word on the distribution, a job is as good."""
    result = run(job(tmp_path, csv(rows())))
    assert result.code == 0 and "Test data is not provided." in result.messages
    assert "#test_score" not in result.text and "#quality_metric" not in result.text


def refused(tree: Tree) -> str:
    """Why the job is the user's fault; there is no model then."""
    result = run(tree)
    assert result.code == 2 and result.failure is not None and not tree.model.exists()
    assert result.failure.startswith("Customer Error: ")
    return result.failure.removeprefix("Customer Error: ")


def test_label_size_forgotten(tmp_path: Path) -> None:
    """Forgetting label_size=0 is told in Amazon's words, with the content type to give."""
    text = refused(job(tmp_path, csv(rows()), types={"train": "text/csv"}))
    assert text.startswith("cannot copy sequence with size 1 to array axis with dimension 2: ")
    assert "label_size=0" in text


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (b"nan", "missing (NaN) values"),
        (b"inf", "infinite floating point values"),
        (b"1e39", "infinite floating point values"),
    ],
)
def test_numbers_that_are_none(tmp_path: Path, cell: bytes, words: str) -> None:
    """NaN and infinity in the training rows are refused in Amazon's words."""
    text = refused(job(tmp_path, csv(rows()) + cell + b",0\n"))
    expected = f"Unable to read data channel 'train'. Found {words}. Please remove any {words} in the input data."
    assert text.startswith(expected)


@pytest.mark.parametrize(
    ("distributions", "channel", "wanted"),
    [
        ({"train": "FullyReplicated"}, "train", "ShardedByS3Key"),
        ({"train": "ShardedByS3Key", "test": "ShardedByS3Key"}, "test", "FullyReplicated"),
    ],
)
def test_distribution(tmp_path: Path, distributions: dict[str, str | None], channel: str, wanted: str) -> None:
    """Training rows have to be sharded and test rows replicated, where the configuration says how they are."""
    text = refused(job(tmp_path, csv(rows()), distributions))
    assert text.startswith(f"The channel '{channel}' has S3DistributionType {distributions[channel]}.")
    assert text.rstrip().endswith(f"set S3DistributionType to {wanted}")


def test_test_rows_without_label(tmp_path: Path) -> None:
    """Test rows without a label are told with the content type that gives one."""
    tree = job(tmp_path, csv(rows()), {"test": None}, {**CSV, "test": "text/csv;label_size=0"})
    tree.file("test/rows.csv", csv(rows()))
    assert "for every row, 1 for an anomaly; found none: in CSV" in refused(tree)
