"""What the platform says, however it says it."""

import json
from typing import Any

import pytest

from clary.errors import UserError
from clary.train.environment import ChannelConfig, Job, Resources, read_job

from ..job import Tree


def read(tree: Tree) -> Job:
    """The job of a tree."""
    return read_job({"SAGEMAKER_BASE_DIR": str(tree.root)})


def test_no_files(tree: Tree) -> None:
    """Without any file a job has no hyperparameters, no configured channels and one host."""
    assert read(tree) == Job(tree.root, {}, {}, Resources("algo-1", ("algo-1",)))


def test_places(tree: Tree) -> None:
    """All places lie under the base directory, which is /opt/ml unless told otherwise."""
    job = read(tree)
    assert (job.data_dir, job.model_dir, job.failure_file) == (tree.data, tree.root / "model", tree.failure)
    assert str(read_job({}).base) == "/opt/ml" == str(read_job({"SAGEMAKER_BASE_DIR": ""}).base)


@pytest.mark.parametrize("name", ["hyperparameters.json", "inputdataconfig.json", "resourceconfig.json"])
@pytest.mark.parametrize("content", ["", " \n", "\ufeff", "{}", "\0\0\0"])
def test_empty_files(tree: Tree, name: str, content: str) -> None:
    """A file with nothing in it is as good as no file."""
    tree.config(name, content)
    assert read(tree) == Job(tree.root)


def test_spelling(tree: Tree) -> None:
    """A file is found whatever the case of its name; the exact name goes first."""
    tree.config("resourceConfig.json", {"current_host": "algo-2", "hosts": ["algo-1", "algo-2"]})
    assert read(tree).resources.current_host == "algo-2"
    tree.config("resourceconfig.json", {"current_host": "algo-3", "hosts": ["algo-3"]})
    assert read(tree).resources.current_host == "algo-3"


def test_directory_named_like_a_file(tree: Tree) -> None:
    """A directory with the name of a file, as a mount of a missing file makes one, is no file."""
    (tree.root / "input/config/hyperparameters.json").mkdir()
    assert read(tree).hyperparameters == {}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is no JSON"),
        (b"\xff\xfe\x00", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "holds a list: expected an object"),
        ('"k"', "holds a str: expected an object"),
    ],
)
@pytest.mark.parametrize("name", ["hyperparameters.json", "resourceconfig.json"])
def test_broken_files(tree: Tree, name: str, content: object, told: str) -> None:
    """A broken file is the user's error, and the message names the file."""
    tree.config(name, content)
    with pytest.raises(UserError, match=f"{name} {told}"):
        read(tree)


def test_bare_values(tree: Tree) -> None:
    """Numbers, booleans, lists and null of a hand-written file become the text that JSON has for them."""
    tree.config("hyperparameters.json", '{"k": 10, "tol": 1e-4, "flag": true, "list": ["msd"], "none": null, "s": "x"}')
    expected = {"k": "10", "tol": "0.0001", "flag": "true", "list": '["msd"]', "none": "null", "s": "x"}
    assert read(tree).hyperparameters == expected


@pytest.mark.parametrize("entry", [{}, None, [], "File", {"ContentType": None, "TrainingInputMode": None}])
def test_channel_without_keys(tree: Tree, entry: Any) -> None:
    """Every key of a channel may be missing or null."""
    tree.config("inputdataconfig.json", {"train": entry})
    assert read(tree).channels == {"train": ChannelConfig(None, "File", "None")}


@pytest.mark.parametrize("odd", [7, ["text/csv"], {"a": 1}, "", "  "])
def test_channel_with_odd_values(tree: Tree, odd: Any) -> None:
    """What is no text counts as not given."""
    tree.config(
        "inputdataconfig.json", {"train": {"ContentType": odd, "RecordWrapperType": odd, "S3DistributionType": odd}}
    )
    assert read(tree).channels["train"] == ChannelConfig()


def test_full_channel(tree: Tree) -> None:
    """The keys that matter here are taken; others are passed over."""
    entry = {
        "TrainingInputMode": "Pipe",
        "S3DistributionType": "ShardedByS3Key",
        "RecordWrapperType": "RecordIO",
        "ContentType": "text/csv",
        "EnableFFM": 3,
    }
    tree.config("inputdataconfig.json", {"train": entry})
    assert read(tree).channels["train"] == ChannelConfig("text/csv", "Pipe", "RecordIO", "ShardedByS3Key")


def test_real_resources(tree: Tree) -> None:
    """Keys of later years, null or not, change nothing."""
    content = {
        "current_host": "algo-1",
        "current_instance_type": "ml.m5.xlarge",
        "current_group_name": "homogeneousCluster",
        "hosts": ["algo-2", "algo-10", "algo-1"],
        "instance_groups": [{"instance_group_name": "homogeneousCluster", "hosts": ["algo-1"]}],
        "network_interface_name": "ethwe",
        "topology": None,
    }
    tree.config("resourceconfig.json", content)
    assert read(tree).resources == Resources("algo-1", ("algo-1", "algo-10", "algo-2"))


@pytest.mark.parametrize(
    ("content", "leads"),
    [
        ({"current_host": "algo-1-x7k2p", "hosts": ["algo-2-aaaaa", "algo-1-x7k2p"]}, True),
        ({"current_host": "algo-2-aaaaa", "hosts": ["algo-2-aaaaa", "algo-1-x7k2p"]}, False),
        ({"current_host": "algo-1"}, True),
        ({"hosts": ["algo-1"]}, True),
        ({"hosts": [], "current_host": "algo-4"}, True),
        ({"hosts": None, "current_host": None}, True),
        ({"hosts": "algo-1", "current_host": "algo-1"}, True),
        ({"hosts": ["algo-1"], "current_host": "algo-7"}, True),
    ],
)
def test_leader(tree: Tree, content: dict[str, Any], leads: bool) -> None:
    """The first host by name leads; so does one that its list of hosts does not know."""
    tree.config("resourceconfig.json", content)
    assert read(tree).resources.is_leader == leads


def test_host_is_not_the_machine(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own name says nothing about the host."""
    monkeypatch.setenv("HOSTNAME", "ip-10-0-0-1")
    tree.config("resourceconfig.json", json.dumps({"current_host": "algo-2", "hosts": ["algo-1", "algo-2"]}))
    assert read(tree).resources == Resources("algo-2", ("algo-1", "algo-2"))
