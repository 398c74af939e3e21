"""Training jobs of XGBoost from their files to the model: formats, modes, log, signals, checkpoints, hosts."""

from __future__ import annotations

import gzip
import io
import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clary.algorithms.registry import open_artifact
from clary.algorithms.xgboost_model import XGBoostEnsemble
from clary.recordio.batch import CSR, Array, Batch

from ..job import Result, Tree, csv, recordio, until
from ..train.conftest import run_here as run_here  # fixtures
from ..train.conftest import tree as tree
from .boosted import ROWS, VX, VY, X, Y, artifact, fit, lay, libsvm, models, table

RunHere = Callable[..., int]
BINARY = {"objective": "binary:logistic"}


def holes() -> Array:
    """Rows with missing cells."""
    rows = X.copy()
    rows.flat[::9] = np.nan
    return rows


def sparse(rows: Array) -> CSR:
    """The cells that are not missing."""
    held = ~np.isnan(rows)
    return CSR(np.concatenate([[0], held.sum(axis=1).cumsum()]), np.nonzero(held)[1], rows[held], (len(rows), 4))


def parquet(rows: Array, labels: Array) -> bytes:
    """Rows as Parquet, the label first, missing cells as nulls."""
    arrow = pytest.importorskip("pyarrow")
    writer = pytest.importorskip("pyarrow.parquet")
    columns = {f"c{i}": arrow.array(column, from_pandas=True) for i, column in enumerate([labels, *rows.T])}
    stream = io.BytesIO()
    writer.write_table(arrow.table(columns), stream)
    return stream.getvalue()


FORMATS: dict[str, Callable[[], bytes]] = {
    "text/csv": lambda: csv(np.column_stack([Y, holes()])).replace(b"nan", b""),
    "csv": lambda: csv(np.column_stack([Y, holes()])),
    "text/csv; charset=utf-8": lambda: csv(np.column_stack([Y, holes()])).replace(b",", b"\t"),
    "text/csv;label_size=1": lambda: csv(np.column_stack([Y, holes()])).replace(b",", b";"),
    "text/libsvm": lambda: libsvm(Batch(sparse(holes()), Y)),
    "text/x-libsvm": lambda: libsvm(Batch(sparse(holes()), Y)),
    "libsvm": lambda: libsvm(Batch(sparse(holes()), Y)),
    "application/x-parquet": lambda: parquet(holes(), Y),
    "parquet": lambda: parquet(holes(), Y),
    "application/x-recordio-protobuf": lambda: recordio(holes(), Y),
    "recordio-protobuf": lambda: recordio(holes(), Y),
}


def expected(**given: object) -> bytes:
    """The model of the rows with holes."""
    model: bytes = fit(Batch(holes(), Y), num_round=3, **given).to_bytes()
    return model


@pytest.mark.parametrize("mode", ["File", "FastFile"])
@pytest.mark.parametrize("content_type", FORMATS)
def test_formats(tree: Tree, run_here: RunHere, content_type: str, mode: str) -> None:
    """The same rows make the same model in every format, with missing cells, in both modes that have files."""
    lay(tree, {"train/a": FORMATS[content_type]()}, content_type, mode)
    assert artifact(tree, run_here) == expected()


@pytest.mark.parametrize("content_type", [name for name in FORMATS if "libsvm" not in name])
def test_pipes(tree: Tree, run_here: RunHere, content_type: str) -> None:
    """So they do through FIFOs."""
    lay(tree, {}, content_type)
    tree.config("inputdataconfig.json", {"train": {"ContentType": content_type, "TrainingInputMode": "Pipe"}})
    tree.feed("train_0", FORMATS[content_type]())
    assert artifact(tree, run_here) == expected()


def test_default_content_type(tree: Tree, run_here: RunHere) -> None:
    """Without a content type, and without what the platform may leave out, the data is libsvm."""
    lay(tree, {"train/a": FORMATS["libsvm"]()})
    tree.config("inputdataconfig.json", {"train": {}})
    assert artifact(tree, run_here) == expected()


def test_no_channel_configuration(tree: Tree, run_here: RunHere) -> None:
    """A folder is a channel though no configuration says so."""
    lay(tree, {"train/a": FORMATS["libsvm"]()})
    (tree.root / "input/config/inputdataconfig.json").unlink()
    assert artifact(tree, run_here) == expected()


@pytest.mark.parametrize("content_type", ["text/csv", "libsvm"])
def test_many_files(tree: Tree, run_here: RunHere, content_type: str) -> None:
    """Sub-folders, gzip, empty files and names that are not for data: all rows count, in the order of the paths."""
    lines = FORMATS[content_type]().splitlines(keepends=True)
    files = {
        "train/1/deep/er/a.csv": b"".join(lines[:40]),
        "train/2/_SUCCESS": b"",
        "train/2/b.gz": gzip.compress(b"".join(lines[40:90])),
        "train/2/c": b"",
        "train/d.txt": b"".join(lines[90:]),
    }
    assert artifact(lay(tree, files, content_type), run_here) == expected()


def test_libsvm_of_several_widths(tree: Tree, run_here: RunHere) -> None:
    """Files of libsvm may end at different columns: what a row does not reach is missing."""
    rows = X.copy()
    rows[:50, 2:] = np.nan
    whole = sparse(rows)
    parts = [libsvm(Batch(whole, Y)[:50]), libsvm(Batch(whole, Y)[50:])]
    lay(tree, {"train/a": parts[0], "train/b": parts[1]}, None)
    assert artifact(tree, run_here) == fit(Batch(rows, Y), num_round=3).to_bytes()


@pytest.mark.parametrize(("train", "validation"), [(4, 2), (2, 4)])
def test_channels_of_several_widths(
    tree: Tree, run_here: RunHere, capsys: pytest.CaptureFixture[str], train: int, validation: int
) -> None:
    """Where one channel of libsvm is wider than the other, both have as many columns."""
    files = {"train/a": libsvm(Batch(X[:, :train], Y)), "validation/a": libsvm(Batch(VX[:, :validation], VY))}
    artifact(lay(tree, files, None), run_here)
    assert f"Train matrix has {ROWS} rows and 4 columns" in capsys.readouterr().out
    assert open_artifact(tree.root / "model")[1].feature_dim == 4


@pytest.mark.parametrize("width", [3, 5])
def test_csv_of_another_width(tree: Tree, run_here: RunHere, width: int) -> None:
    """Channels of CSV have the same width, or the job is refused."""
    rows = np.column_stack([VX, VX])[:, :width]
    assert lay(tree, {"train/a": table(), "validation/a": table(rows, VY)}) and run_here("xgboost") == 2
    assert f"channel 'validation' has {width} features, those before have 4" in tree.failure.read_text()


def test_weights(tree: Tree, run_here: RunHere) -> None:
    """Weights of rows come with libsvm behind the label, with CSV in the second column."""
    weights = np.random.default_rng(0).uniform(0.1, 3, ROWS).astype(np.float32)
    right = fit(Batch(X, Y, weights), num_round=3).to_bytes()
    lay(tree, {"train/a": libsvm(Batch(X, Y, weights))}, None)
    assert artifact(tree, run_here) == right
    lay(tree, {"train/a": csv(np.column_stack([Y, weights, X]))}, csv_weights=1)
    assert artifact(tree, run_here) == right


def test_queries(tree: Tree, run_here: RunHere) -> None:
    """Query numbers come with libsvm, across files."""
    batch = Batch(X, Y, queries=np.repeat(np.arange(6), 20))
    lay(tree, {"train/a": libsvm(batch[:50]), "train/b": libsvm(batch[50:])}, None, objective="rank:ndcg")
    assert artifact(tree, run_here) == fit(batch, objective="rank:ndcg", num_round=3).to_bytes()


def test_code_channel(tree: Tree, run_here: RunHere) -> None:
    """A channel of code is let be, configured or not."""
    right = artifact(lay(tree, {"train/a": table()}), run_here)
    assert artifact(lay(tree, {"train/a": table(), "code/train.py": b"raise SystemExit"}), run_here) == right


def test_log(tree: Tree) -> None:
    """The log is the container's: what is told at the start, then a line of metrics between tabs for each round."""
    lay(tree, {"train/a": table(), "validation/a": table(VX, VY)}, **BINARY, eval_metric="accuracy,error,auc")
    result = tree.run(CLARY_ALGORITHM="xgboost")
    assert (result.code, result.failure) == (0, None)
    lines = result.text.splitlines()
    stamped = [line for line in lines if line.startswith("[20")]
    assert all(re.match(r"\[\d{4}-\d\d-\d\d:\d\d:\d\d:\d\d:INFO\] \S", line) for line in stamped)
    starts = [
        "Docker entrypoint called with argument(s): train",
        "Imported framework sagemaker_xgboost_container.training",
        "Failed to parse hyperparameter objective value binary:logistic to Json.",
        "Returning the value itself",
        "Failed to parse hyperparameter eval_metric value accuracy,error,auc to Json.",
        "Returning the value itself",
        "No GPUs detected (normal if no gpus installed)",
        "Running XGBoost Sagemaker in algorithm mode",
        "Determined delimiter of CSV input is ','",
        "Determined delimiter of CSV input is ','",
        "Single node training.",
        f"Train matrix has {ROWS} rows and 4 columns",
        "Validation matrix has 80 rows",
    ]
    assert result.messages[: len(starts)] == starts
    number = r"0\.\d{5}"
    for i, line in enumerate(lines[len(starts) :]):
        train, validation = (
            rf"\t{channel}-error:{number}\t{channel}-auc:{number}\t{channel}-accuracy:{number}"
            for channel in ("train", "validation")
        )
        assert re.fullmatch(rf"\[{i}\]{train}{validation}", line)
    assert len(lines) == len(starts) + 3


def rounds(result: Result) -> list[int]:
    """Numbers of the rounds that a job has told."""
    return [int(number) for number in re.findall(r"^\[(\d+)\]\t", result.text, re.MULTILINE)]


def wait_for(process: subprocess.Popen[bytes], text: bytes) -> None:
    """Read a job's log as far as a line that holds `text`."""
    assert process.stdout is not None
    assert any(text in line for line in iter(process.stdout.readline, b""))


@pytest.mark.parametrize("saves", [True, False])
def test_told_to_end(tree: Tree, saves: bool) -> None:
    """A job that is told to end leaves its model so far if it is to, and ends well in either case."""
    lay(tree, {"train/a": table()}, num_round=10**6, save_model_on_termination=str(saves).lower())
    process = tree.start(CLARY_ALGORITHM="xgboost")
    wait_for(process, b"[9]\t")
    process.send_signal(signal.SIGTERM)
    result = tree.end(process)
    assert (result.code, result.failure) == (0, None)
    assert models(tree) == (["xgboost-model"] if saves else [])
    if saves:
        found, model = open_artifact(tree.root / "model")
        assert found.name == "xgboost" and model.describe()["rounds"] == (rounds(result) or [9])[-1] + 1


def test_told_to_end_in_cross_validation(tree: Tree) -> None:
    """The models of all parts so far are saved, that of the part under way too."""
    lay(tree, {"train/a": table()}, num_round=200, _kfold=100, save_model_on_termination="true")
    process = tree.start(CLARY_ALGORITHM="xgboost")
    wait_for(process, b"cross validation fold 3")
    wait_for(process, b"[9]\t")
    process.send_signal(signal.SIGTERM)
    assert tree.end(process).code == 0
    model = open_artifact(tree.root / "model")[1]
    assert isinstance(model, XGBoostEnsemble) and 3 <= len(model.members) < 100
    assert {member.describe()["rounds"] for member in model.members[:2]} == {200}


def test_told_to_end_before_a_round(tree: Tree) -> None:
    """A job that is told to end while it waits for data has no model, and ends well."""
    lay(tree, {}, save_model_on_termination="true")
    entry = {"ContentType": "text/csv", "TrainingInputMode": "Pipe"}
    tree.config("inputdataconfig.json", {"train": entry})
    process = tree.start(CLARY_ALGORITHM="xgboost")
    wait_for(process, b"pipe input mode")
    process.send_signal(signal.SIGTERM)
    result = tree.end(process)
    assert (result.code, result.failure, models(tree), rounds(result)) == (0, None, [], [])


def checkpointed(tree: Tree, **given: object) -> Tree:
    """A job with a place for checkpoints."""
    lay(tree, {"train/a": table(), "validation/a": table(VX, VY)}, **given)
    tree.config("checkpointconfig.json", {"LocalPath": "/opt/ml/checkpoints", "S3Uri": "s3://a/b"})
    return tree


def test_killed(tree: Tree) -> None:
    """A job that is killed goes on where it was when it is started again, and makes the model that it would have."""
    checkpointed(tree, num_round=150)
    folder = tree.root / "checkpoints"
    process = tree.start(CLARY_ALGORITHM="xgboost")
    seen: set[str] = set()

    def enough() -> bool:
        seen.update(path.name for path in folder.glob("*"))
        return "xgboost-checkpoint.7" in seen

    until(enough)
    process.kill()
    assert tree.end(process).code == -signal.SIGKILL
    assert models(tree) == []
    kept = {path.name for path in folder.iterdir()}
    whole = [name for name in kept if re.fullmatch(r"xgboost-checkpoint\.\d+", name)]
    unfinished = {name for name in kept | seen if not re.fullmatch(r"xgboost-checkpoint\.\d+", name)}
    assert all(name.endswith(".sagemaker-ignore") for name in unfinished) and 5 <= len(whole) <= 6
    last = max(int(name.rpartition(".")[2]) for name in whole)
    result = tree.run(CLARY_ALGORITHM="xgboost")
    assert result.code == 0 and rounds(result) == [*range(last + 1, 150)]
    place = result.messages.index(f"Checkpoint loaded from {folder}/xgboost-checkpoint.{last}")
    assert result.messages[place + 1] == f"Resuming from iteration {last + 1}"
    model = (tree.root / "model" / "xgboost-model").read_bytes()
    assert model == fit(Batch(X, Y), num_round=150).to_bytes()


def test_cross_validation(tree: Tree, run_here: RunHere, capsys: pytest.CaptureFixture[str]) -> None:
    """Each part has a model file and a folder of checkpoints; a second start only finds what the first has made."""
    checkpointed(tree, _kfold=2, _num_cv_round=2, **BINARY)
    names = [f"xgboost-model-{number}" for number in range(4)]
    contents, logs = [], []
    for _ in range(2):
        assert run_here("xgboost") == 0
        assert models(tree) == names
        contents.append([(tree.root / "model" / name).read_bytes() for name in names])
        logs.append(capsys.readouterr().out)
    assert contents[0] == contents[1] and len({*contents[0]}) == 4
    means = [line for line in logs[0].splitlines() if line.startswith("[3]\t")]
    assert len(means) == 3 and means == [line for line in logs[1].splitlines() if line.startswith("[3]\t")]
    folders = tree.root / "checkpoints"
    assert sorted(path.name for path in folders.iterdir()) == [f"model-{number}" for number in range(4)]
    assert sorted(path.name for path in (folders / "model-3").iterdir())[-1] == "xgboost-checkpoint.2"
    lines = (tree.root / "output" / "data" / "predictions.csv").read_text().splitlines()
    assert len(lines) == ROWS + 80 and all(re.fullmatch(r"[01]\.0+,0\.\d{6},[01]\.0+", line) for line in lines)
    assert isinstance(open_artifact(tree.root / "model")[1], XGBoostEnsemble)


@pytest.mark.parametrize(("host", "writes"), [("algo-1", True), ("algo-2", False)])
def test_only_the_leader_writes(tree: Tree, run_here: RunHere, host: str, writes: bool) -> None:
    """Of several hosts the first writes model, checkpoints and predictions; the others end as well."""
    checkpointed(tree, _kfold=2).config("resourceconfig.json", {"current_host": host, "hosts": ["algo-1", "algo-2"]})
    assert run_here("xgboost") == 0
    places = [tree.root / "checkpoints" / "model-0", tree.root / "output" / "data" / "predictions.csv"]
    assert [bool(models(tree)), *(path.exists() for path in places)] == [writes] * 3


def test_host_without_data(tree: Tree, run_here: RunHere) -> None:
    """A host that got no part of a sharded channel ends well."""
    lay(tree, {"train/a": table()}).config("resourceconfig.json", {"current_host": "b", "hosts": ["a", "b"]})
    (tree.data / "train" / "a").unlink()
    assert run_here("xgboost") == 0 and models(tree) == []


def test_early_stopping(tree: Tree, run_here: RunHere) -> None:
    """A job that stops early saves the model of its best round, and describes it."""
    given = {**BINARY, "num_round": 50, "early_stopping_rounds": 3, "eval_metric": "logloss"}
    lay(tree, {"train/a": table(), "validation/a": table(VX, VY)}, **given)
    artifact(tree, run_here)
    described = open_artifact(tree.root / "model")[1].describe()
    assert described["rounds"] == described["best_iteration"] + 1 < 47
    assert described["best_score"] < np.log(2)


def test_bare_numbers(tree: Tree, run_here: RunHere) -> None:
    """Hyperparameters may be numbers of JSON, or texts with quotes of their own."""
    right = artifact(lay(tree, {"train/a": table()}, **BINARY, eta=0.5), run_here)
    tree.config("hyperparameters.json", json.dumps({"num_round": 3, "eta": 0.5, "objective": '"binary:logistic"'}))
    assert artifact(tree, run_here) == right


def test_abalone(tree: Tree, run_here: RunHere, shared_data: Callable[[str], Path]) -> None:
    """A folder of libsvm files with an empty one among them is trained on as a whole."""
    folder = shared_data("abalone")
    files = {f"{path.parent.name}/{path.name}": path.read_bytes() for path in sorted(folder.glob("*/*"))}
    lay(tree, {**files, "train/empty": b""}, "libsvm", objective="reg:squarederror")
    artifact(tree, run_here)
    assert open_artifact(tree.root / "model")[1].feature_dim == 9


def test_caches_are_no_data(tree: Tree, run_here: RunHere) -> None:
    """What the library has left beside the rows is passed over, by this algorithm alone."""
    lay(tree, {"train/rows.csv": table(), "train/rows.csv.cache": b"\0"})
    assert artifact(tree, run_here) == fit(Batch(X, Y), num_round=3).to_bytes()


def test_gzip_is_told_by_what_it_holds(tree: Tree) -> None:
    """The delimiter that the log tells is that of the unzipped rows."""
    lay(tree, {"train/rows.csv.gz": gzip.compress(table().replace(b",", b"\t"))}, "text/csv")
    assert "Determined delimiter of CSV input is '\t'" in tree.run(CLARY_ALGORITHM="xgboost").text
