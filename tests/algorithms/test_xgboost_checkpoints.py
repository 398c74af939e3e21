"""Checkpoints of XGBoost jobs that are not simply one's own last: of other jobs, versions, kinds."""

from pathlib import Path

import pytest

from clary.algorithms.xgboost import ALGORITHM
from clary.errors import UserError
from clary.recordio.batch import Batch
from clary.train.checkpoints import CheckpointFolder

from .boosted import VX, VY, X, Y, fit
from .conftest import Notes

LOGISTIC = {"objective": "binary:logistic"}


def kept(folder: Path) -> Notes:
    """A report with a place for checkpoints."""
    return Notes(folder=CheckpointFolder(folder, "xgboost"))


def names(folder: Path) -> list[str]:
    """Files of a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_unreadable_later_ones_do_not_push_out_new_ones(tmp_path: Path) -> None:
    """Damaged checkpoints of later rounds stay where they are, and the newest five of this job too."""
    for number in range(96, 101):
        (tmp_path / f"xgboost-checkpoint.{number}").write_bytes(b"damaged")
    fit(Batch(X, Y), None, kept(tmp_path), num_round=7)
    mine = [f"xgboost-checkpoint.{number}" for number in range(2, 7)]
    assert names(tmp_path) == sorted([*mine, *(f"xgboost-checkpoint.{number}" for number in range(96, 101))])
    notes = kept(tmp_path)
    fit(Batch(X, Y), None, notes, num_round=9)
    assert [number for number, _ in notes.rounds] == [7, 8]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "it has binary:logistic, gbtree and 0 classes, this one reg:squarederror, gbtree and 0"),
        ({**LOGISTIC, "booster": "gblinear"}, "this one binary:logistic, gblinear and 0"),
        ({"objective": "multi:softprob", "num_class": 2}, "this one multi:softprob, gbtree and 2"),
    ],
)
def test_checkpoint_of_another_job(tmp_path: Path, given: dict[str, object], told: str) -> None:
    """A checkpoint of another objective, booster or number of classes is an error, not a beginning."""
    fit(Batch(X, Y), None, kept(tmp_path), **LOGISTIC)
    with pytest.raises(UserError, match=f"xgboost-checkpoint.3 is of another job: .*{told}"):
        fit(Batch(X, Y), None, kept(tmp_path), **given)


def test_checkpoint_in_json(tmp_path: Path) -> None:
    """A checkpoint in another format of the library is one as well."""
    whole = fit(Batch(X, Y), None, kept(tmp_path), **LOGISTIC)
    last = tmp_path / "xgboost-checkpoint.3"
    last.write_bytes(ALGORITHM.load(last.read_bytes()).booster.to_bytes("json"))  # type: ignore[attr-defined]
    notes = kept(tmp_path)
    assert fit(Batch(X, Y), None, notes, **LOGISTIC).to_bytes() == whole.to_bytes()
    assert notes.lines[-1] == "Resuming from iteration 4"


def test_nothing_left_to_do_prints_the_metrics(tmp_path: Path) -> None:
    """A job whose rounds are all done prints those of its last, for a tuning job to find."""
    first, second = kept(tmp_path), kept(tmp_path)
    for notes in (first, second):
        fit(Batch(X, Y), Batch(VX, VY), notes, **LOGISTIC)
    assert [number for number, _ in second.rounds] == [3]
    assert second.rounds[-1] == first.rounds[-1]


def test_snapshot_of_a_resumed_job(tmp_path: Path) -> None:
    """A job that goes on has a model to save before its first round."""
    fit(Batch(X, Y), None, kept(tmp_path), **LOGISTIC)
    notes = kept(tmp_path)
    fit(Batch(X, Y), None, notes, **LOGISTIC, save_model_on_termination="true", num_round=4)
    assert notes.kept is not None
    assert notes.kept().describe()["rounds"] == 4


def test_folders_are_no_checkpoints(tmp_path: Path) -> None:
    """A folder with the name of a checkpoint is passed over."""
    (tmp_path / "xgboost-checkpoint.9").mkdir()
    notes = kept(tmp_path)
    fit(Batch(X, Y), None, notes)
    assert len(notes.rounds) == 4
