"""What an algorithm declares of its channels, and what it measures: the job keeps to it without knowing its name."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clary.algorithms.base import Algorithm
from clary.algorithms.kmeans import ALGORITHM
from clary.algorithms.pca import PCAModel
from clary.errors import ChannelError
from clary.recordio.batch import CSR
from clary.train.channels import DataChannel
from clary.train.environment import Job
from clary.train.metrics import METRICS_REGEX
from clary.train.report import JobReport
from clary.train.stop import Stop

from ..job import CSV, POINTS, Tree, csv, recordio

Open = Callable[..., DataChannel]
Run = Callable[..., int]

SHARDED: Algorithm = replace(ALGORITHM, distribution={"train": "ShardedByS3Key"})


def distributed(tree: Tree, given: object) -> None:
    """Configure a k-means job whose channel is distributed in a way."""
    tree.kmeans().file("train/a.csv", POINTS)
    tree.config("inputdataconfig.json", {"train": {"ContentType": CSV, "S3DistributionType": given}})


def test_wrong_distribution(tree: Tree, channel: Open) -> None:
    """A channel that is distributed as it must not be is refused, with both names."""
    distributed(tree, "FullyReplicated")
    with pytest.raises(ChannelError) as caught:
        channel(algorithm=SHARDED)
    assert str(caught.value) == (
        "The channel 'train' has S3DistributionType FullyReplicated. K-means takes ShardedByS3Key only: set "
        "S3DistributionType to ShardedByS3Key"
    )


@pytest.mark.parametrize("given", ["ShardedByS3Key", "shardedbys3key", "", None, 3])
def test_distribution_that_will_do(tree: Tree, channel: Open, given: object) -> None:
    """The right distribution in any case will do, and so will none, as on a laptop."""
    distributed(tree, given)
    assert sum(map(len, channel(algorithm=SHARDED).batches(100))) == 4


@pytest.mark.parametrize("given", ["FullyReplicated", "ShardedByS3Key", "Somehow"])
def test_any_distribution(tree: Tree, channel: Open, given: str) -> None:
    """An algorithm that declares nothing takes any distribution."""
    distributed(tree, given)
    assert sum(map(len, channel().batches(100))) == 4


@pytest.mark.parametrize(
    ("train", "test", "code", "told"),
    [
        ("ShardedByS3Key", "FullyReplicated", 0, None),
        (None, None, 0, None),
        ("FullyReplicated", "FullyReplicated", 2, "The channel 'train' has S3DistributionType FullyReplicated."),
        ("ShardedByS3Key", "ShardedByS3Key", 2, "The channel 'test' has S3DistributionType ShardedByS3Key."),
    ],
)
def test_each_channel_has_its_distribution(
    tree: Tree, run_here: Run, train: str | None, test: str | None, code: int, told: str | None
) -> None:
    """Random cut forest takes training data in parts and test data whole; all else ends with exit code 2."""
    rows = np.random.default_rng(0).normal(size=(100, 2))
    tree.config("hyperparameters.json", {"feature_dim": "2", "num_trees": "50", "num_samples_per_tree": "2"})
    tree.config(
        "inputdataconfig.json",
        {
            "train": {"ContentType": "text/csv;label_size=0", "S3DistributionType": train},
            "test": {"ContentType": "text/csv;label_size=1", "S3DistributionType": test},
        },
    )
    tree.file("train/a.csv", csv(rows))
    tree.file("test/a.csv", csv(np.column_stack([np.zeros(100), rows])))

    assert run_here("randomcutforest") == code
    assert tree.failure.exists() == bool(told)
    if told:
        assert tree.failure.read_text().startswith(f"Customer Error: {told} Random cut forest takes ")
        assert not tree.model.exists()


WIDER = "cannot copy sequence with size {} to array axis with dimension {}: a row of channel 'train' has {} features, "


def test_first_width_counts(tree: Tree, channel: Open) -> None:
    """Where no width is asked for, rows need as many columns as the first, whatever file they are in."""
    tree.kmeans().file("train/a.csv", b"1,2,3\n4,5,6\n")
    tree.file("train/b.csv", b"1,2\n")
    train = channel(None)
    with pytest.raises(ChannelError) as caught:
        list(train.batches(100))
    assert str(caught.value) == WIDER.format(2, 3, 2) + "those before have 3"


def test_first_width_stays(tree: Tree, channel: Open) -> None:
    """The width of the first pass holds for the next, and for sparse rows as for dense ones."""
    tree.kmeans(None)
    tree.feed("train_0", recordio(np.ones((3, 4), np.float32)))
    tree.feed("train_1", recordio(CSR.from_dense(np.ones((3, 9), np.float32))))
    train = channel(None)
    assert [batch.width for batch in train.batches(2)] == [4, 4]
    with pytest.raises(ChannelError, match=r"has 9 features, those before have 4$"):
        list(train.batches(2))


@pytest.mark.parametrize(("algorithm", "code"), [("pca", 0), ("kmeans", 2)])
def test_width_of_the_data(tree: Tree, run_here: Run, algorithm: str, code: int) -> None:
    """A wrong feature_dim is an error, unless the algorithm says that the data decide."""
    given = {"feature_dim": "2", "mini_batch_size": "10"}
    tree.config("hyperparameters.json", given | ({"num_components": "1"} if algorithm == "pca" else {"k": "2"}))
    tree.config("inputdataconfig.json", {"train": {"ContentType": CSV}})
    tree.file("train/a.csv", csv(np.random.default_rng(0).normal(size=(20, 3))))

    assert run_here(algorithm) == code
    if code:
        assert WIDER.format(3, 2, 3) + "feature_dim is 2" in tree.failure.read_text()
    else:
        assert PCAModel.from_bytes(tree.model.read_bytes()).feature_dim == 3


def metrics(text: str) -> list[dict[str, dict[str, float]]]:
    """The values of all ``#metrics`` lines."""
    return [json.loads(found)["Metrics"] for found in re.findall(METRICS_REGEX, text, re.MULTILINE)]


def test_measurements(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What an algorithm measures stands in the #metrics line beside the times, once, with its least and most."""
    report = JobReport(ALGORITHM, Job(tmp_path), Stop())
    for value in (3, 5):
        report.measured("model.bytes", value)
    report.measured("alone", 0.5)
    report.phases()
    report.phases()
    first, second = metrics(capsys.readouterr().out)
    assert first == {
        "model.bytes": {"sum": 8.0, "count": 2, "min": 3, "max": 5},
        "alone": {"sum": 0.5, "count": 1, "min": 0.5, "max": 0.5},
    }
    assert second == {}


def test_measurements_of_a_job(tree: Tree) -> None:
    """A random cut forest tells the bytes of its model, which are those of its file."""
    rows = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    tree.config("hyperparameters.json", {"feature_dim": "2", "num_trees": "50"})
    tree.file("train/a.rec", recordio(rows))
    result = tree.run(CLARY_ALGORITHM="randomcutforest")
    assert result.code == 0, result.text
    [told] = [values["model.bytes"] for values in metrics(result.text) if "model.bytes" in values]
    assert told["sum"] == tree.model.stat().st_size


def test_lost_column(tree: Tree, channel: Open) -> None:
    """An algorithm that takes rows of any width still tells that a feature was taken for a label."""
    algorithm = replace(ALGORITHM, strict_width=False)
    tree.kmeans("text/csv").file("train/a.csv", POINTS)
    with pytest.raises(ChannelError, match=r"unless the content type says ;label_size=0$"):
        list(channel(algorithm=algorithm, width=2).batches(100))
    tree.kmeans("text/csv;label_size=1")
    assert sum(map(len, channel(algorithm=algorithm, width=2).batches(100))) == 4


def test_hint_of_a_labelled_channel(tree: Tree, channel: Open) -> None:
    """Where rows begin with a label, a missing column is told as the label's."""
    tree.kmeans("text/csv").file("train/a.csv", POINTS)
    with pytest.raises(ChannelError, match=r"in text/csv;label_size=1 the first column of this channel is its label$"):
        list(channel(algorithm=replace(ALGORITHM, labelled=("train",)), width=2).batches(100))
