"""The ``clary`` command as people type it: words in, one line or a page out."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clary.algorithms.registry import ALGORITHMS
from clary.recordio.batch import Batch
from clary.recordio.csv import format_csv
from clary.recordio.writer import write_batch

CLARY = (sys.executable, "-m", "clary")
SOON = 60.0
ROWS = np.random.default_rng(0).normal(size=(600, 4)).astype(np.float32)


def clary(*words: str | Path, cwd: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A command that ends by itself."""
    return subprocess.run([*CLARY, *words], cwd=cwd, input=stdin, capture_output=True, check=False, timeout=SOON)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows.rec, rows.csv and a model.tar.gz."""
    path = tmp_path_factory.mktemp("cli")
    with (path / "rows.rec").open("wb") as stream:
        write_batch(stream, Batch(ROWS))
    (path / "rows.csv").write_bytes(format_csv([ROWS]))
    done = clary("train", "kmeans", "--train", "rows.rec", "-p", "k=3", cwd=path)
    assert done.returncode == 0, done.stderr
    return path


def test_help_comes_without_numpy() -> None:
    """What takes time to import is not imported for a page of help."""
    code = (
        "import sys, clary.cli; clary.cli.parser().format_help(); print(sorted({'numpy', 'flask'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=SOON)

    assert done.stdout == "[]\n"


def test_the_command_knows_xgboost_without_numpy() -> None:
    """The process that only starts a job does not wait for what the job itself has to import."""
    code = (
        "import sys, clary.cli, clary.containers.train; from clary.algorithms.registry import algorithm;"
        "list(algorithm('xgboost').params.specs()); print(sorted({'numpy', 'ctypes'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=SOON)

    assert done.stdout == "[]\n"


def test_version_is_that_of_the_package(tmp_path: Path) -> None:
    """One line, for bug reports."""
    assert re.fullmatch(rb"clary \d+\.\d+\.\d+\n", clary("--version", cwd=tmp_path).stdout)


def test_algorithms_are_listed_and_described(folder: Path) -> None:
    """The table has every hyperparameter, the JSON is that of CreateAlgorithm."""
    request = json.loads(clary("algorithms", "kmeans", "--json", cwd=folder).stdout)["TrainingSpecification"]
    page = clary("algorithms", "kmeans", cwd=folder).stdout.decode()

    assert "kmeans" in clary("algorithms", cwd=folder).stdout.decode()
    assert all(f"\n{entry['Name']} " in page for entry in request["SupportedHyperParameters"])
    assert request["TrainingChannels"][0]["SupportedInputModes"] == ["File", "Pipe"]


def test_convert_reads_and_writes_streams(folder: Path) -> None:
    """With dashes and flags it stands in the middle of a pipeline."""
    words = ("convert", "-", "-", "--from", "csv", "--to", "recordio")
    done = clary(*words, cwd=folder, stdin=(folder / "rows.csv").read_bytes())

    assert done.stdout == (folder / "rows.rec").read_bytes()


def test_a_series_is_scored_by_its_shingles(tmp_path: Path) -> None:
    """A model that learnt from converted shingles answers for row 8 and each after it."""
    (tmp_path / "series.csv").write_bytes(format_csv([ROWS[:, :1]]))
    words = (
        ("convert", "series.csv", "shingles.rec", "--shingle", "8"),
        ("train", "kmeans", "--train", "shingles.rec", "-p", "k=3"),
        ("predict", "model.tar.gz", "series.csv", "--shingle", "8", "--out", "one.jsonl"),
        ("predict", "model.tar.gz", "shingles.rec", "--out", "other.jsonl"),
    )
    for line in words:
        done = clary(*line, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    answers = (tmp_path / "one.jsonl").read_bytes()

    assert answers == (tmp_path / "other.jsonl").read_bytes()
    assert answers.count(b"\n") == len(ROWS) - 8 + 1


def test_head_shows_rows(folder: Path) -> None:
    """One line about the file, and as many rows as asked for."""
    lines = clary("head", "rows.rec", "-n", "2", cwd=folder).stdout.decode().splitlines()

    assert lines[0] == "rows.rec: recordio, 4 features, dense float32"
    assert len(lines) == 3


def test_datasets_are_real_data(folder: Path, tmp_path: Path) -> None:
    """The digits that scikit-learn brings along become a RecordIO file with labels."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    done = clary("datasets", "digits", "--out", tmp_path / "d.rec", cwd=folder)

    assert done.returncode == 0, done.stderr
    head = clary("head", tmp_path / "d.rec", "-n", "0", cwd=folder).stdout.decode()
    assert head == f"{tmp_path}/d.rec: recordio, 64 features, dense float32, labelled\n"


def test_datasets_are_listed(folder: Path) -> None:
    """The list needs no scikit-learn."""
    assert b"\ndigits  " in clary("datasets", cwd=folder).stdout


def test_the_demo_ends_with_answers(tmp_path: Path) -> None:
    """What ``make demo`` runs asks a live endpoint in two formats, and gets the same answers."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    demo = Path(__file__).parents[1] / "examples/demo.py"
    done = subprocess.run(
        [sys.executable, demo], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=SOON
    )
    answers = [line for line in done.stdout.splitlines() if line.startswith('  {"predictions"')]

    assert len(answers) == 2
    assert answers[0] == answers[1]


TRAIN = ("train", "kmeans", "--train", "rows.rec")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("trian",), "invalid choice: 'trian'"),
        (("train", "kmean", "--train", "rows.rec"), "unknown algorithm 'kmean'"),
        (("train", "kmeans"), "kmeans needs the channel train: give it with --train PATH"),
        (("train", "kmeans", "--train", "no.rec"), "channel 'train': no.rec does not exist"),
        ((*TRAIN, "-p", "k"), "-p k: write it as NAME=VALUE"),
        ((*TRAIN, "-p", "k=3", "k=4"), "the hyperparameter k is given twice"),
        ((*TRAIN, "--channel", "a b=rows.rec"), "'a b' is no channel name"),
        ((*TRAIN, "--channel", "train=rows.rec"), "the channel train is given twice"),
        ((*TRAIN, "--out", "no/m.tar.gz"), "there is no directory no"),
        ((*TRAIN, "--out", "."), "--out . is a directory: name a file"),
        ((*TRAIN, "--out", "/proc/m.tar.gz"), "--out /proc/m.tar.gz cannot be written: "),
        ((*TRAIN, "--root", "."), "is not an empty folder"),
        ((*TRAIN, "-p", "k=3", "feature_dim=9"), "Customer Error: "),
        ((*TRAIN, "-p", "k=3", "kk=3"), "did you mean 'k'?"),
        (("serve", "no.tar.gz"), "no.tar.gz does not exist"),
        (("serve", "model.tar.gz", "--port", "99999"), "'99999' is not a whole number from 0 to 65535"),
        (("serve", "model.tar.gz", "--host", ""), "argument --host: an empty address"),
        (("predict", "rows.csv", "rows.csv"), "rows.csv is no tar.gz archive"),
        (("predict", "model.tar.gz", "no.csv"), "no.csv: No such file or directory"),
        (("predict", "model.tar.gz", "model.tar.gz"), "does not tell the format: say it with --content-type"),
        (
            ("predict", "model.tar.gz", "rows.csv", "--shingle", "0"),
            "--shingle: '0' is not a whole number of at least 1",
        ),
        (("inspect", "rows.rec"), "rows.rec is no tar.gz archive"),
        (
            ("algorithms", "nope"),
            f"unknown algorithm 'nope': choose from {', '.join(ALGORITHMS)}",
        ),
        (
            ("train", "rfc", "--train", "rows.rec"),
            f"unknown algorithm 'rfc': choose from {', '.join(ALGORITHMS)}",
        ),
        (("convert", "rows.csv", "x.foo"), "x.foo: the name does not tell the format: say it with --to"),
        (("convert", "rows.rec", "x.rec", "--shingle", "601"), "rows.rec: too few rows for a shingle: 600 of the 601"),
        (("convert", "rows.rec", "no/x.csv"), "No such file or directory"),
        (("head", "rows.csv", "--from", "recordio"), "rows.csv: record 0 at byte 0: expected the RecordIO magic"),
        (("datasets", "mnist"), "no data set 'mnist': there are digits, iris"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_wrong_is_said_in_one_line(folder: Path, words: tuple[str, ...], sentence: str) -> None:
    """Exit code 2, the sentence as the last line on standard error, no traceback."""
    done = clary(*words, cwd=folder)
    last = done.stderr.decode().splitlines()[-1]

    assert done.returncode == 2
    assert last.startswith("clary: ")
    assert sentence in last
    assert b"Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("word", "name"),
    [
        *(
            ("rcf", "randomcutforest"),
            ("random-cut-forest", "randomcutforest"),
            ("RANDOM_CUT_FOREST", "randomcutforest"),
        ),
        *(("RandomCutForest", "randomcutforest"), ("PCA", "pca"), ("Principal-Component-Analysis", "pca")),
    ],
)
def test_algorithms_have_several_names(tmp_path: Path, word: str, name: str) -> None:
    """An algorithm is found by AWS's name, its abbreviation and its words, in any case."""
    done = clary("algorithms", word, cwd=tmp_path)

    assert done.returncode == 0
    assert f"({name}); channels: train, test".encode() in done.stdout


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("algorithms >&-", 0),
        ("algorithms nope 2>&-", 2),
        ("inspect model.tar.gz <&- >&- 2>&-", 0),
        ("convert rows.rec x.csv >&-", 0),
        ("train kmeans --train rows.rec -p k=3 --out x.tar.gz >&- 2>&-", 0),
        ("predict model.tar.gz rows.csv --out x.jsonl <&- >&- 2>&-", 0),
    ],
)
def test_closed_streams_are_no_harm(folder: Path, command: str, code: int) -> None:
    """What would be said is said to nobody, and the work is done."""
    line = f"{shlex.join(CLARY)} {command}"
    done = subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, check=False, timeout=SOON)

    assert done.returncode == code
    assert b"Traceback" not in done.stdout + done.stderr


INTERRUPTED = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    raise ImportError("what NumPy makes of it")
"""


def test_ctrl_c_is_quiet_from_the_beginning(folder: Path, tmp_path: Path) -> None:
    """While clary imports what a command needs, Ctrl-C ends it without a traceback."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
    (tmp_path / "numpy.py").write_text(INTERRUPTED)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [*CLARY, "head", "rows.csv"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False, timeout=SOON)

    assert (done.returncode, done.stderr) == (130, b"")
