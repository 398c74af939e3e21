"""Jobs from their first line to their exit code."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clary.algorithms import registry
from clary.algorithms.kmeans import KMeansModel
from clary.algorithms.registry import ALGORITHMS, open_artifact

from ..job import COMMAND, CSV, POINTS, SOON, Result, Tree, csv, recordio

UNEXPECTED = "An unexpected error has occurred. Please try again. It is a fault of clary, not of your data:"


def centres(tree: Tree) -> list[list[float]]:
    """The centres of the artifact, sorted."""
    return sorted(KMeansModel.from_bytes(tree.model.read_bytes()).centres.tolist())


def test_first_to_last(tree: Tree) -> None:
    """A job prints AWS's prologue, leaves an artifact, no failure file, and exits with 0."""
    tree.kmeans(_tuning_objective_metric="test:msd", sagemaker_program="x", force_dense="True")
    tree.file("train/a.csv", POINTS)
    result = tree.run()
    assert (result.code, result.failure, centres(tree)) == (0, None, [[0, 1], [10, 1]])
    starts = [
        "Docker entrypoint called with argument(s): train",
        "Reading default configuration from clary.algorithms.kmeans: {'mini_batch_size': '5000'",
        f"Merging with provided configuration from {tree.root}/input/config/hyperparameters.json: {{'feature_dim': '2'",
        "Final configuration: {'mini_batch_size': '5000'",
        "Checkpoint loading and saving are disabled.",
    ]
    assert [text[: len(start)] for text, start in zip(result.messages, starts, strict=False)] == starts
    assert "Test data is not provided." in result.messages


def failing(tree: Tree, what: str) -> None:
    """Spoil one thing of a job that would go well."""
    tree.kmeans().file("train/a.csv", POINTS)
    if what == "file":
        tree.config("hyperparameters.json", "{")
    elif what == "channel":
        (tree.data / "train").rename(tree.data / "training")
    elif what == "rows":
        tree.file("train/a.csv", b"")
    elif what == "few":
        tree.file("train/a.csv", b"1,2\n")
    elif what == "data":
        tree.file("train/a.csv", b"1,2\n3,x\n")
    else:
        tree.kmeans(**{what: "0"})


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("file", "{config}/hyperparameters.json is no JSON: "),
        ("channel", "Unable to read data channel 'train'. Please verify the correct data channel configuration is pr"),
        ("rows", "No training data processed. Either the training channel is empty or the mini-batch size is too high"),
        ("few", "the first mini-batch has 1 rows for k=2 clusters: lower k or give more data"),
        ("data", "Unable to read data channel 'train'. Requested content-type is 'text/csv;label_size=0'. Please veri"),
        ("k", "'0' is not valid under any of the given schemas: hyperparameter 'k' must be an integer of at least 1"),
        ("mini_batch_siz", "Additional properties are not allowed ('mini_batch_siz' was unexpected): did you mean '"),
    ],
)
def test_user_errors(tree: Tree, run_here: Callable[[], int], what: str, told: str) -> None:
    """Whatever the user has to change ends with exit code 2 and AWS's words in the failure file."""
    failing(tree, what)
    assert run_here() == 2
    assert tree.failure.read_text().startswith("Customer Error: " + told.format(config=tree.root / "input/config"))
    assert not tree.model.exists()


def test_nothing_at_all(tree: Tree) -> None:
    """Without any configuration the missing hyperparameters are named."""
    result = tree.run()
    assert result.code == 2
    assert result.failure == (
        "Customer Error: 'feature_dim' is a required property: set 'feature_dim' to an integer of at least 1 and 'k' "
        "to an integer of at least 1"
    )


def test_unknown_algorithm(tree: Tree) -> None:
    """An algorithm that there is not is the user's error."""
    result = tree.run(CLARY_ALGORITHM="kmenas")
    told = f"Customer Error: unknown algorithm 'kmenas': choose from {', '.join(ALGORITHMS)}"
    assert (result.code, result.failure) == (2, told)


def test_no_algorithm(tree: Tree) -> None:
    """A job that is told no algorithm takes none."""
    result = tree.run(CLARY_ALGORITHM="")
    assert result.code == 2
    assert "CLARY_ALGORITHM is not set" in (result.failure or "")


@pytest.mark.parametrize("value", ["x" * 2500, "[" * 2500, "é" * 2500, '"' + "y" * 2498 + '"'])
@pytest.mark.parametrize("name", ["k", "eval_metrics", "z" * 256])
def test_long_stories(tree: Tree, run_here: Callable[[], int], name: str, value: str) -> None:
    """The 1,024 characters that the platform shows tell the story however long a value is."""
    tree.kmeans(**{name: value})
    assert run_here() == 2
    shown = tree.failure.read_text()[:1024]
    assert name[:20] in shown and ("must be" in shown or "known are" in shown)


def test_failure_comes_last(tree: Tree, tmp_path: Path) -> None:
    """The failure file is written after the last line of the log."""
    env = {**os.environ, "SAGEMAKER_BASE_DIR": str(tree.root), "CLARY_ALGORITHM": "kmeans"}
    with (tmp_path / "log").open("wb") as log:
        assert subprocess.run(COMMAND, env=env, stdout=log, timeout=SOON, check=False).returncode == 2
    assert (tmp_path / "log").stat().st_mtime_ns <= tree.failure.stat().st_mtime_ns


def test_first_failure_stays(tree: Tree, run_here: Callable[[], int]) -> None:
    """A failure file that is there stays, and the exit code tells of the new error."""
    tree.failure.write_text("somebody else's")
    assert run_here() == 2
    assert tree.failure.read_text() == "somebody else's"


BROKEN = """
from dataclasses import replace
from clary.algorithms.kmeans import ALGORITHM
def fit(params, channels, report):
    raise {error}
ALGORITHM = replace(ALGORITHM, name="broken", fit=fit)
"""


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        ("ZeroDivisionError('by nothing')", 1, f"Algorithm Error: {UNEXPECTED} ZeroDivisionError: by nothing"),
        ("ValueError('odd')", 1, f"Algorithm Error: {UNEXPECTED} ValueError: odd"),
        ("MemoryError()", 3, "Platform Error: MemoryError: "),
        ("OSError(5, 'Input/output error')", 3, "Platform Error: OSError: [Errno 5] Input/output error"),
    ],
)
def test_unexpected_errors(
    tree: Tree, run_here: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str, code: int,
    told: str,
) -> None:  # fmt: skip
    """An error that nobody expected is ours, or the platform's where the platform ran out of something."""
    (tmp_path / "broken_algorithm.py").write_text(BROKEN.format(error=error))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_algorithm", raising=False)
    monkeypatch.setattr(registry, "ALGORITHMS", {"kmeans": "broken_algorithm"})
    tree.kmeans().file("train/a.csv", POINTS)
    assert run_here() == code
    assert tree.failure.read_text().startswith(told)


def wait_for(process: subprocess.Popen[bytes], text: bytes) -> None:
    """Read a job's log as far as a line that holds `text`."""
    assert process.stdout is not None
    assert any(text in line for line in iter(process.stdout.readline, b""))


def told_to_end(tree: Tree, process: subprocess.Popen[bytes]) -> Result:
    """Tell a job to end, and see that it ends soon enough and well."""
    process.send_signal(signal.SIGTERM)
    told = time.monotonic()
    result = tree.end(process)
    assert time.monotonic() - told < 8
    assert (result.code, result.failure) == (0, None), result.text
    return result


def test_told_to_end_while_streaming(tree: Tree) -> None:
    """A job told to end in the middle of an endless pass saves what it has learnt so far, whole."""
    tree.kmeans(mini_batch_size=1000).feed("train_0", POINTS * 1000, endless=True)
    process = tree.start()
    wait_for(process, b"Iter 20:")
    result = told_to_end(tree, process)
    assert "told to end: saving the model so far" in result.text
    assert np.allclose(centres(tree), [[0, 1], [10, 1]], atol=0.01)


@pytest.mark.parametrize("name", ["train_1", "test_0"])
def test_told_to_end_later(tree: Tree, name: str) -> None:
    """So does one that waits for its second pass, or for its test data."""
    tree.kmeans(epochs=2 if name == "train_1" else 1, mode="Pipe").feed("train_0", POINTS)
    entry = {"TrainingInputMode": "Pipe", "ContentType": CSV}
    tree.config("inputdataconfig.json", {"train": entry, "test": entry})
    process = tree.start()
    wait_for(process, b"finished shrinking process" if name == "test_0" else b"shrinking 4 centers into 2")
    time.sleep(0.1)
    told_to_end(tree, process)
    assert centres(tree) == [[0, 1], [10, 1]]


def test_told_to_end_while_shrinking(tree: Tree) -> None:
    """Many clusters take minutes to find; a job told to end then has a model within the time that it has."""
    points = np.random.default_rng(0).normal(size=(4000, 300)).astype(np.float32)
    tree.kmeans(None, feature_dim=300, k=400).file("train/a.rec", recordio(points))
    process = tree.start()
    wait_for(process, b"shrinking 4000 centers into 400")
    told_to_end(tree, process)
    assert KMeansModel.from_bytes(tree.model.read_bytes()).centres.shape == (400, 300)


@pytest.mark.parametrize(("host", "writes"), [("algo-1", True), ("algo-2", False)])
def test_only_the_leader_writes(tree: Tree, host: str, writes: bool) -> None:
    """Of several hosts only the first by name writes the artifact; the others end as well."""
    tree.kmeans().file("train/a.csv", POINTS)
    tree.config("resourceconfig.json", {"current_host": host, "hosts": ["algo-1", "algo-2"]})
    result = tree.run()
    assert (result.code, tree.model.exists()) == (0, writes)
    assert ("the artifact is written by algo-1" in result.text) != writes
    assert f"#quality_metric: host={host}, train msd <loss>=" in result.text


def test_host_told_to_end(tree: Tree) -> None:
    """A host that is not the leader and is told to end writes nothing."""
    tree.kmeans().feed("train_0", POINTS * 1000, endless=True)
    tree.config("resourceconfig.json", {"current_host": "algo-2", "hosts": ["algo-1", "algo-2"]})
    process = tree.start()
    wait_for(process, b"Iter 10:")
    told_to_end(tree, process)
    assert not tree.model.exists()


@pytest.mark.parametrize(("host", "code"), [("algo-1", 2), ("algo-2", 0)])
def test_host_without_data(tree: Tree, run_here: Callable[[], int], host: str, code: int) -> None:
    """A host that got no part of a sharded channel has nothing to do, unless the model is its."""
    tree.kmeans().data.joinpath("train").mkdir()
    tree.config("resourceconfig.json", {"current_host": host, "hosts": ["algo-1", "algo-2"]})
    assert run_here() == code


def test_test_channel_without_rows(tree: Tree, run_here: Callable[[], int], capsys: pytest.CaptureFixture[str]) -> None:
    """An empty test channel gives no metric, and no error."""
    tree.kmeans().file("train/a.csv", POINTS)
    tree.config("inputdataconfig.json", {"train": {"ContentType": CSV}, "test": {"ContentType": CSV}})
    tree.file("test/a.csv", b"")
    assert run_here() == 0
    out = capsys.readouterr().out
    assert "the channel 'test' has no rows" in out and "test msd" not in out


def test_file_and_pipe_agree(tree: Tree, tmp_path: Path) -> None:
    """Directory, FIFO and FastFile give the same artifact, byte for byte, over several epochs."""
    points = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    for mode in ("File", "FastFile", "Pipe"):
        one = Tree(tmp_path / mode).kmeans(mode=mode, epochs=3, mini_batch_size=64)
        if mode == "Pipe":
            for number in range(3):
                one.feed(f"train_{number}", csv(points), late=0.1 * number)
        else:
            one.file("train/a.csv", csv(points[:200]))
            one.file("train/b.csv", csv(points[200:]))
        assert one.run().code == 0
        (tmp_path / mode).joinpath("model/model_algo-1").rename(tmp_path / f"{mode}.model")
    assert len({(tmp_path / f"{mode}.model").read_bytes() for mode in ("File", "FastFile", "Pipe")}) == 1
    assert tree.model.parent.is_dir()


def test_dirty_model_directory(tree: Tree) -> None:
    """The artifact is written among whatever lies there, and found again by its name."""
    tree.kmeans().file("train/a.csv", POINTS)
    for name in ("model.tar.gz", ".DS_Store", "model_algo-1"):
        (tree.root / "model" / name).write_bytes(b"old")
    assert tree.run().code == 0
    found, model = open_artifact(tree.root / "model")
    assert (found.name, model.feature_dim) == ("kmeans", 2)


SHOW_MODULES = "import sys; from clary.train.job import main; assert not main(); print('MODULES', *sys.modules)"


@pytest.mark.parametrize("content_type", [CSV, None])
def test_what_is_imported(tree: Tree, content_type: str | None) -> None:
    """A k-means job imports none of the large packages, and protobuf only for records that need it."""
    tree.kmeans(content_type)
    tree.file("train/a", POINTS if content_type else recordio(np.array([[0, 0], [10, 1]], np.float32)))
    env = {**os.environ, "SAGEMAKER_BASE_DIR": str(tree.root), "CLARY_ALGORITHM": "kmeans"}
    out = subprocess.run([sys.executable, "-c", SHOW_MODULES], env=env, capture_output=True, timeout=SOON, check=True)
    modules = {name.partition(".")[0] for name in out.stdout.decode().partition("MODULES ")[2].split()}
    assert "numpy" in modules
    assert not modules & {"scipy", "sklearn", "xgboost", "pandas", "docker", "flask", "gunicorn", "google"}
