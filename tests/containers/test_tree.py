"""The folder that a job takes for /opt/ml."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clary.containers.tree import Source, Tree, workspace
from clary.errors import ChannelError, UsageError


def test_a_file_mode_tree_has_configuration_and_links(tmp_path: Path) -> None:
    """The job finds strings, the content type and links that keep the sub-folders."""
    (tmp_path / "data/sub").mkdir(parents=True)
    (tmp_path / "data/sub/a.csv").write_text("1\n")
    tree = Tree(tmp_path / "ml")
    tree.build({"k": "3"}, [Source("train", Source.find("train", tmp_path / "data").files, "text/csv")], "File")

    assert json.loads((tree.config / "hyperparameters.json").read_text()) == {"k": "3"}
    channel = json.loads((tree.config / "inputdataconfig.json").read_text())["train"]
    assert (channel["ContentType"], channel["TrainingInputMode"]) == ("text/csv", "File")
    assert (tree.data / "train/sub/a.csv").is_symlink()
    assert (tree.data / "train/sub/a.csv").read_text() == "1\n"


def test_a_pipe_mode_tree_has_no_channel_folder(tmp_path: Path) -> None:
    """In Pipe mode there is nothing named like the channel itself."""
    (tmp_path / "a.csv").write_text("1\n")
    tree = Tree(tmp_path / "ml")
    tree.build({}, [Source.find("train", tmp_path / "a.csv")], "Pipe")

    assert list(tree.data.iterdir()) == []


def test_files_come_in_name_order_without_the_hidden_ones(tmp_path: Path) -> None:
    """Dotfiles, what lies in hidden folders, and _SUCCESS are no data."""
    (tmp_path / ".cache").mkdir()
    for name in ("b", "a", ".hidden", "_SUCCESS", ".cache/x"):
        (tmp_path / name).write_text("")

    assert list(Source.find("train", tmp_path).files) == ["a", "b"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "x" * 65])
def test_channel_names_are_those_that_sagemaker_allows(tmp_path: Path, name: str) -> None:
    """A name that could leave the folder, or that CreateTrainingJob refuses, is refused."""
    with pytest.raises(ChannelError, match="no channel name"):
        Source.find(name, tmp_path)


def test_a_channel_without_files_is_refused(tmp_path: Path) -> None:
    """An empty folder and a missing path each get a sentence."""
    with pytest.raises(ChannelError, match="there is no file in"):
        Source.find("train", tmp_path)
    with pytest.raises(ChannelError, match="does not exist"):
        Source.find("train", tmp_path / "nowhere")


def test_a_temporary_workspace_goes_and_a_named_one_stays(tmp_path: Path) -> None:
    """Only a root that the user named outlives the block."""
    with workspace(None) as tree:
        assert tree.root.is_dir()
    assert not tree.root.exists()
    with workspace(tmp_path / "mine"):
        pass

    assert (tmp_path / "mine").is_dir()


def test_a_root_with_something_in_it_is_refused(tmp_path: Path) -> None:
    """Old files would be taken for part of the job."""
    (tmp_path / "old").write_text("")
    with pytest.raises(UsageError, match="not an empty folder"), workspace(tmp_path):
        pass
