"""The commands, where the model is one of XGBoost's: of today, of old images, of a stranger."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clary.recordio.batch import Array, Batch
from clary.recordio.writer import write_batch

from ..boosters import ROWS, WIDTH, libsvm, parquet, predicted, present, trained
from ..job import csv

Clary = Callable[..., "subprocess.CompletedProcess[bytes]"]
OnTerminal = Callable[..., tuple[int, str]]

OLD = Path(__file__).parents[1] / "golden" / "xgboost" / "old"
WHOLE = np.nan_to_num(ROWS)
"""Rows without missing values, for which JSON has no word."""


def archive(path: Path, **files: bytes) -> Path:
    """Write a model archive; an underscore in a keyword is a hyphen in a name."""
    with tarfile.open(path, "w:gz") as stream:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("_", "-"))
            member.size = len(content)
            stream.addfile(member, io.BytesIO(content))
    return path


def members(path: Path) -> dict[str, bytes]:
    """The files in an archive."""
    with tarfile.open(path) as stream:
        return {member.name: stream.extractfile(member).read() for member in stream}  # type: ignore[union-attr]


def answers(done: subprocess.CompletedProcess[bytes]) -> list[Any]:
    """The scores in JSON Lines."""
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["score"] for line in done.stdout.splitlines()]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An archive with a model for two classes."""
    return archive(tmp_path / "model.tar.gz", xgboost_model=trained())


def test_training_on_a_terminal(clary: Clary, on_terminal: OnTerminal, tmp_path: Path) -> None:
    """People see a line that moves round by round, and at the end the last round's metrics in a table."""
    (tmp_path / "rows.csv").write_bytes(csv(np.column_stack([np.arange(len(ROWS)) % 2, WHOLE])))
    words = ["train", "xgboost", "--train", "rows.csv", "-p", "num_round=7", "objective=binary:logistic"]
    words += ["eval_metric=error,logloss,f1", "nthread=1", "--out", "m.tar.gz"]
    code, seen = on_terminal(*words, "--channel", "validation=rows.csv", cwd=tmp_path)
    assert code == 0, seen
    assert "\rtraining xgboost  [" in seen or "\rtraining xgboost  0." in seen
    last = re.search(r"\nmetric +value\n(?:[^\n]+\n){6}", seen)
    assert last is not None, seen
    metrics = dict(line.split() for line in last[0].strip().splitlines()[1:])
    assert [*metrics] == [f"{data}-{name}" for data in ("train", "validation") for name in ("error", "logloss", "f1")]
    assert seen.endswith("serve it:  clary serve m.tar.gz\n")
    plain = clary(*words[:-1], "n.tar.gz", "--channel", "validation=rows.csv", cwd=tmp_path).stdout.decode()
    assert plain.count("\n[6]\t") == 1
    line = plain.partition("\n[6]\t")[2].partition("\n")[0]
    assert dict(part.split(":") for part in line.split("\t")) == metrics
    assert members(tmp_path / "m.tar.gz") == members(tmp_path / "n.tar.gz")


def jsonl(rows: Array) -> bytes:
    """An instance a line."""
    return b"".join(json.dumps({"features": row}).encode() + b"\n" for row in rows.astype(float).tolist())


def written(kind: str, rows: Array) -> bytes:
    """Rows as a file of some kind."""
    stream = io.BytesIO()
    if kind == "npy":
        np.save(stream, rows)
    elif kind == "rec":
        write_batch(stream, Batch(rows))
    elif kind == "sparse.rec":
        write_batch(stream, Batch(present(rows)))
    elif kind == "json":
        stream.write(json.dumps({"instances": [{"features": row} for row in rows.astype(float).tolist()]}).encode())
    else:
        writers = {
            "csv": csv,
            "jsonl": jsonl,
            "parquet": parquet,
            "svm": libsvm,
            "svm.gz": lambda rows: gzip.compress(libsvm(rows)),
        }
        stream.write(writers[kind](rows))
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["csv", "svm", "svm.gz", "rec", "sparse.rec", "parquet", "npy"])
def test_predictions(clary: Clary, model: Path, tmp_path: Path, kind: str) -> None:
    """Rows of every format are answered as by the library; libsvm is counted from zero, what it lacks is missing."""
    (tmp_path / f"x.{kind}").write_bytes(written(kind, ROWS))
    done = clary("predict", model, tmp_path / f"x.{kind}", cwd=tmp_path)
    assert np.allclose(answers(done), predicted(trained()), rtol=0, atol=1e-15)


@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_predictions_for_json(clary: Clary, model: Path, tmp_path: Path, kind: str) -> None:
    """Rows in JSON, which a server of this model does not take, are answered too."""
    (tmp_path / f"x.{kind}").write_bytes(written(kind, WHOLE))
    done = clary("predict", model, tmp_path / f"x.{kind}", "--accept", "application/json", cwd=tmp_path)
    expected = [{"score": score} for score in predicted(trained(), WHOLE).tolist()]
    assert json.loads(done.stdout) == {"predictions": expected}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("csv", ("--label-size", "1")),
        ("csv", ("--content-type", "text/csv;label_size=1")),
        ("npy", ("--label-size", "1")),
        ("parquet", ("--label-size", "1")),
    ],
)
def test_label_columns_are_left_out(
    clary: Clary, model: Path, tmp_path: Path, kind: str, words: tuple[str, ...]
) -> None:
    """Training data can be predicted, though the server itself takes no labels; CSV has any delimiter."""
    rows = written(kind, np.column_stack([np.arange(len(ROWS), dtype=np.float32), ROWS]))
    (tmp_path / f"x.{kind}").write_bytes(rows.replace(b",", b";") if words[0] == "--content-type" else rows)
    done = clary("predict", model, tmp_path / f"x.{kind}", *words, cwd=tmp_path)
    assert np.allclose(answers(done), predicted(trained()), rtol=0, atol=1e-15)


def test_predictions_for_more_than_a_request(clary: Clary, model: Path, tmp_path: Path) -> None:
    """A file is cut into requests between its rows."""
    body = libsvm(ROWS)
    times = 6_500_000 // len(body)
    (tmp_path / "x.svm").write_bytes(body * times)
    done = clary("predict", model, tmp_path / "x.svm", "--accept", "csv", cwd=tmp_path)
    assert done.stdout == "".join(f"{score!r}\n" for score in predicted(trained()).tolist()).encode() * times


def test_rows_that_do_not_fit(clary: Clary, model: Path, tmp_path: Path) -> None:
    """The server's own words come through."""
    done = clary("predict", model, "-", "--content-type", "csv", cwd=tmp_path, stdin=b"1,2\n")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"answered 400: Unable to evaluate payload provided: Feature size of csv inference data 2 is" in done.stderr


def test_inspect(clary: Clary, on_terminal: OnTerminal, tmp_path: Path, model: Path) -> None:
    """What the model is for and what it looks at most, for programs and for people."""
    found = json.loads(clary("inspect", model, cwd=tmp_path).stdout)
    assert (found["algorithm"], found["feature_dim"], found["rounds"]) == ("xgboost", WIDTH, 4)
    assert next(iter(found["importance"])) == "f0"
    assert found["files"] == {"xgboost-model": len(trained())}
    code, seen = on_terminal("inspect", str(model), cwd=tmp_path)
    assert code == 0
    assert re.search(r"\nobjective +binary:logistic\nbooster +gbtree\nrounds +4\nformat +UBJSON\n", seen)
    assert re.search(r"\nimportance .*f0", seen)


def test_inspect_a_linear_model(clary: Clary, tmp_path: Path) -> None:
    """A linear model has weights, of which the largest are told."""
    (tmp_path / "linear").mkdir()
    (tmp_path / "linear/xgboost-model").write_bytes(trained(booster="gblinear"))
    found = json.loads(clary("inspect", "linear", cwd=tmp_path).stdout)
    assert (found["booster"], len(found["importance"])) == ("gblinear", WIDTH)
    weights = [*found["importance"].values()]
    assert weights == sorted(weights, reverse=True)


def test_convert_keeps_other_files(clary: Clary, tmp_path: Path) -> None:
    """What lies beside the model comes along."""
    folder = tmp_path / "old"
    (folder / "code").mkdir(parents=True)
    (folder / "xgboost-model").write_bytes(trained())
    (folder / "code/inference.py").write_text("pass\n")
    assert clary("convert-model", folder, "new.tar.gz", cwd=tmp_path).returncode == 0
    with tarfile.open(tmp_path / "new.tar.gz") as archive:
        assert archive.getnames() == ["code/inference.py", "xgboost-model"]


def test_inspect_an_ensemble(clary: Clary, tmp_path: Path) -> None:
    """It is told how many models there are."""
    path = archive(tmp_path / "m.tar.gz", xgboost_model_0=trained(), xgboost_model_1=trained(seed="1"))
    found = json.loads(clary("inspect", path, cwd=tmp_path).stdout)
    assert (found["models"], found["objective"]) == (2, "binary:logistic")
    assert list(found["files"]) == ["xgboost-model-0", "xgboost-model-1"]


@pytest.mark.parametrize("name", sorted(path.name for path in OLD.glob("*-logistic.[pb]*")))
def test_convert_an_old_model(clary: Clary, tmp_path: Path, name: str) -> None:
    """A file of an old image becomes UBJSON, and the answers are those that the image gave."""
    old = gzip.decompress((OLD / name).read_bytes())
    version, form = name.removesuffix(".gz").split("-")
    told = json.loads(gzip.decompress((OLD / f"{version}.json.gz").read_bytes()))
    rows = np.array(told["rows"], np.float32)
    archive(tmp_path / "old.tar.gz", xgboost_model=old)
    done = clary("convert-model", "old.tar.gz", "new.tar.gz", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    [(member, data)] = members(tmp_path / "new.tar.gz").items()
    assert (member, data[:2]) == ("xgboost-model", b"{L")
    np.testing.assert_allclose(predicted(data, rows), np.ravel(told["expected"][form]["prediction"]), rtol=1e-6)
    (tmp_path / "x.csv").write_bytes(csv(rows))
    before = answers(clary("predict", "old.tar.gz", "x.csv", cwd=tmp_path))
    assert np.allclose(before, predicted(data, rows), rtol=0, atol=1e-15)


def test_convert_a_model_of_aws(clary: Clary, shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    """A pickle that a training job left in 2019 answers the same once it is UBJSON."""
    old = shared_data("aws_artifacts/xgboost_churn/model.tar.gz")
    (tmp_path / "x.csv").write_bytes(csv(np.random.default_rng(5).integers(0, 200, (40, 69))))
    done = clary("convert-model", old, "new.tar.gz", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    both = [clary("predict", path, "x.csv", cwd=tmp_path).stdout for path in (old, "new.tar.gz")]
    assert both[0] == both[1]
    assert len(set(both[0].splitlines())) > 20
    found = json.loads(clary("inspect", "new.tar.gz", cwd=tmp_path).stdout)
    assert (found["feature_dim"], found["format"]) == (69, "UBJSON")


def test_convert_a_folder(on_terminal: OnTerminal, tmp_path: Path) -> None:
    """A model directory will do, of several models each is kept, and people are told what was written."""
    (tmp_path / "old").mkdir()
    for number in range(2):
        (tmp_path / f"old/xgboost-model-{number}").write_bytes(trained(seed=str(number)))
    (tmp_path / "old/.DS_Store").write_bytes(b"none of ours")
    code, seen = on_terminal("convert-model", "old", "new.tar.gz", cwd=tmp_path)
    assert code == 0
    assert re.fullmatch(r"new\.tar\.gz: xgboost, [0-9.]+ kB\n", seen)
    assert members(tmp_path / "new.tar.gz") == {
        f"xgboost-model-{number}": trained(seed=str(number)) for number in (0, 1)
    }


def test_convert_in_place(clary: Clary, model: Path) -> None:
    """A model may be written where it came from."""
    before = members(model)
    assert clary("convert-model", model, model, cwd=model.parent).returncode == 0
    assert members(model) == before


def test_convert_another_algorithm(clary: Clary, folder: Path, tmp_path: Path) -> None:
    """Models that have but one version stay what they are."""
    done = clary("convert-model", "model.tar.gz", tmp_path / "new.tar.gz", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert members(tmp_path / "new.tar.gz") == members(folder / "model.tar.gz")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "clary: the following arguments are required: OLD, NEW (see clary convert-model --help)\n"),
        (("model.tar.gz",), "clary: the following arguments are required: NEW (see clary convert-model --help)\n"),
        (("none.tar.gz", "new.tar.gz"), "clary: none.tar.gz does not exist\n"),
        (("model.tar.gz", "no/new.tar.gz"), "clary: cannot write no/new.tar.gz: No such file or directory: no\n"),
        (("x.csv", "new.tar.gz"), "clary: x.csv is no tar.gz archive, or a damaged one: Not a gzipped file (b'1,')\n"),
    ],
)
def test_convert_nothing(clary: Clary, model: Path, words: tuple[str, ...], sentence: str) -> None:
    """What cannot be done gets a sentence, and leaves nothing behind."""
    (model.parent / "x.csv").write_bytes(b"1,2\n")
    before = sorted(model.parent.iterdir())
    done = clary("convert-model", *words, cwd=model.parent)
    assert (done.returncode, done.stderr.decode()) == (2, sentence)
    assert sorted(model.parent.iterdir()) == before


def test_a_failed_conversion_leaves_what_was_there(clary: Clary, model: Path) -> None:
    """The new file takes the place of an old one only when it is whole."""
    before = model.read_bytes()
    archive(model.with_name("bad.tar.gz"), xgboost_model=trained()[:-10])
    done = clary("convert-model", "bad.tar.gz", "model.tar.gz", cwd=model.parent)
    assert done.returncode == 2
    assert b"bad.tar.gz: xgboost: Model xgboost-model cannot be loaded: " in done.stderr
    assert model.read_bytes() == before


class Hostile:
    """Pickled as a command of the shell."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize(("command", "protocol"), [("serve", 4), ("predict", 2), ("inspect", 0), ("convert-model", 3)])
def test_a_hostile_pickle(clary: Clary, tmp_path: Path, command: str, protocol: int) -> None:
    """A pickle that would run something is refused by every command, and nothing is run."""
    marker = tmp_path / "executed"
    data = pickle.dumps(Hostile(marker), protocol)
    archive(tmp_path / "bad.tar.gz", xgboost_model=data)
    (tmp_path / "x.csv").write_bytes(b"1,2,3\n")
    words = {"predict": ["x.csv"], "convert-model": ["new.tar.gz"]}.get(command, [])
    done = clary(command, "bad.tar.gz", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert b"Model xgboost-model cannot be loaded: " in done.stdout + done.stderr
    assert b"Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "new.tar.gz").exists()
    assert not marker.exists()
    pickle.loads(data)  # noqa: S301  # it would have
    assert marker.exists()
