"""Files from one format to another."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clary.containers.convert import convert
from clary.containers.formats import Options, open_input
from clary.containers.head import head
from clary.containers.sinks import Target
from clary.errors import ClaryError, DataError, UsageError
from clary.recordio.batch import Batch, concatenate
from clary.recordio.writer import write_batch

FEATURES = np.arange(1500, dtype=np.float32).reshape(500, 3) % 7
LABELS = np.arange(500, dtype=np.float32)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with ``rows.rec`` in it: 500 labelled rows of three features."""
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "rows.rec").open("wb") as stream:
        write_batch(stream, Batch(FEATURES, LABELS))
    return tmp_path


def turn(source: str, out: str, **options: Any) -> None:
    """`convert` with the defaults of the command line."""
    defaults: dict[str, Any] = {"source_format": None, "out_format": None, "label_size": 0, "features": None}
    defaults |= {"first_index": 1, "dtype": "float32", "sparse": None, "shards": 1, "shingle": 1}
    convert(source=source, out=out, **{**defaults, **options})


def rows(path: str, kind: str, **options: Any) -> Batch:
    """All rows of a file."""
    with open_input(path) as given:
        return concatenate(list(given.batches(kind, Options(**options))))


@pytest.mark.parametrize("name", ["x.csv", "x.npy", "x.npz", "x.svm", "x.rec", "x.csv.gz", "x.rec.gz"])
def test_there_and_back_again_is_the_same_file(name: str) -> None:
    """Every format keeps every number and label."""
    turn("rows.rec", name)
    turn(name, "back.rec", label_size=1, sparse=False)

    assert Path("back.rec").read_bytes() == Path("rows.rec").read_bytes()


def test_csv_columns_are_features_unless_labels_are_asked_for() -> None:
    """Nothing is taken for a label that the user did not call one."""
    turn("rows.rec", "x.csv")
    turn("x.csv", "x.rec")

    assert rows("x.rec", "recordio").width == 4
    assert rows("x.rec", "recordio").labels is None


def test_sparse_writes_only_what_is_not_zero() -> None:
    """The values are the same in less room."""
    turn("rows.rec", "sparse.npz", sparse=True)

    assert np.load("sparse.npz")["data"].size == np.count_nonzero(FEATURES)
    assert (rows("sparse.npz", "npz").dense() == FEATURES).all()


def test_shards_share_the_rows_and_keep_them_all() -> None:
    """No shard has more than a tenth more than another, and no row is lost."""
    turn("rows.rec", "x.rec", shards=3)
    parts = [rows(f"x-0000{i}-of-00003.rec", "recordio") for i in range(3)]
    sizes = [len(part) for part in parts]

    assert max(sizes) <= 1.1 * min(sizes) + 1
    assert sorted(concatenate(parts).labels) == LABELS.tolist()  # type: ignore[arg-type]


@pytest.mark.parametrize("block", [150, 1024])
def test_shards_are_equal_however_the_rows_come(block: int) -> None:
    """A batch that ends in the middle of a turn does not cost a shard its other rows."""
    batches = [Batch(np.ones((block, 2), np.float32))] * 100
    Target("x.npy", "npy", shards=2).write(batches)
    sizes = [np.load(f"x-0000{i}-of-00002.npy").shape[0] for i in range(2)]

    assert sum(sizes) == 100 * block
    assert abs(sizes[0] - sizes[1]) <= 100


@pytest.mark.parametrize(("name", "count"), [("x.npy", 501), ("x.npz", 200)])
def test_more_shards_than_rows_leave_some_empty(name: str, count: int) -> None:
    """A few rows still reach as many shards as they can."""
    few = Batch(FEATURES[:150], LABELS[:150])
    Target(name, name[2:], shards=count).write([few])
    sizes = [len(rows(str(path), name[2:])) for path in sorted(Path().glob("x-*"))[:150]]

    assert sizes == [1] * 150


@pytest.mark.parametrize("sparse", [False, True])
def test_empty_shards_keep_the_width(sparse: bool) -> None:
    """A file without rows has the columns and labels of its neighbours."""
    Target("x.npz", "npz", 5, sparse=sparse).write([Batch(FEATURES[:3], LABELS[:3])])
    Target("x.npy", "npy", 5).write([Batch(FEATURES[:3], LABELS[:3])])
    empty = np.load("x-00004-of-00005.npz")

    assert np.load("x-00004-of-00005.npy").shape == (0, 4)
    assert (tuple(empty["shape"]) if sparse else empty["features"].shape) == (0, 3)
    assert empty["labels"].shape == (0,)


@pytest.mark.parametrize("name", ["x.csv", "x.npy", "x.npz", "x.svm", "x.rec", "x.csv.gz"])
def test_shingles_of_every_format_are_the_same(name: str) -> None:
    """Four rows stand side by side, the oldest first, with the label of the newest."""
    turn("rows.rec", name)
    turn(name, "back.rec", label_size=1, sparse=False, shingle=4)
    made = rows("back.rec", "recordio")

    assert np.array_equal(made.dense(), [FEATURES[i : i + 4].ravel() for i in range(497)])
    assert np.array_equal(made.labels, LABELS[3:])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["x.csv", "x.npy", "x.npz", "x.svm", "x.rec"])
def test_shingles_are_written_in_every_format(name: str) -> None:
    """They are rows like any others, of which every shard gets some."""
    turn("rows.rec", name, shingle=100, shards=2)
    turn("rows.rec", "all.npy", shingle=100)
    for i in range(2):
        turn(f"x-0000{i}-of-00002{name[1:]}", f"{i}.npy", label_size=1)
    parts = np.concatenate([np.load("0.npy"), np.load("1.npy")])

    assert parts.shape == (401, 301)
    assert np.array_equal(parts[np.argsort(parts[:, 0])], np.load("all.npy"))


def test_too_few_rows_for_a_shingle_leave_no_file(folder: Path) -> None:
    """The sentence has the name of the file and both numbers."""
    with pytest.raises(DataError, match=r"^rows\.rec: too few rows for a shingle: 500 of the 501 that one takes$"):
        turn("rows.rec", "x.rec", shingle=501)

    assert [path.name for path in folder.iterdir()] == ["rows.rec"]


def test_float64_is_kept_where_asked_for() -> None:
    """The numbers of a file have the dtype that the user names."""
    turn("rows.rec", "x.npy", dtype="float64")

    assert np.load("x.npy").dtype == np.float64


def test_a_fifo_is_read_where_one_pass_is_enough() -> None:
    """What another program writes need not be stored first."""
    os.mkfifo("fifo")
    writer = threading.Thread(target=lambda: Path("fifo").write_bytes(Path("rows.rec").read_bytes()))
    writer.start()
    turn("fifo", "x.rec", source_format="recordio")
    writer.join(10)

    assert Path("x.rec").read_bytes() == Path("rows.rec").read_bytes()


def test_libsvm_from_a_fifo_needs_the_number_of_columns() -> None:
    """The width is found in a first pass, which a FIFO does not have."""
    os.mkfifo("fifo")
    writer = threading.Thread(target=lambda: Path("fifo").open("wb").close())
    writer.start()
    with pytest.raises(UsageError, match="say with --features"):
        turn("fifo", "x.rec", source_format="libsvm")
    writer.join(10)


def test_libsvm_can_count_from_zero() -> None:
    """first_index shifts the columns both ways."""
    Path("x.svm").write_text("1 0:5 2:7\n")
    turn("x.svm", "y.svm", first_index=0)

    assert Path("y.svm").read_text() == "1 0:5 2:7\n"
    assert rows("x.svm", "libsvm", first_index=0).dense().tolist() == [[5, 0, 7]]


@pytest.mark.parametrize(
    ("out", "options", "sentence"),
    [
        ("x.unknown", {}, "does not tell the format: say it with --to"),
        ("x.csv", {"sparse": True}, "csv has no sparse form"),
        ("x.svm", {"sparse": False}, "libsvm has no dense form"),
        ("x.npy.gz", {"out_format": "npy"}, "leave off .gz"),
        ("-", {"out_format": "npz"}, "npz cannot go to standard output"),
        ("-", {"out_format": "csv", "shards": 2}, "several files cannot go to standard output"),
        ("x.rec", {"shards": 1001}, "--shards 1001: at most 1000 files of recordio"),
        ("x.npz", {"shards": 201}, "--shards 201: at most 200 files of npz"),
        ("no/x.rec", {}, "cannot write no/x.rec: No such file or directory: no$"),
        ("rows.rec/x.rec", {}, "cannot write rows.rec/x.rec: Not a directory: rows.rec$"),
    ],
)
def test_what_cannot_be_written_gets_a_sentence(out: str, options: dict[str, Any], sentence: str) -> None:
    """A wish that no format fulfils is refused before anything is read."""
    with pytest.raises(UsageError, match=sentence):
        turn("rows.rec", out, **options)


def test_bad_data_leaves_no_file_and_names_the_old_one(folder: Path) -> None:
    """The output of a conversion that fails half way does not appear."""
    Path("bad.csv").write_text("1,2\n" * 100_000 + "1,x\n")
    with pytest.raises(DataError, match=r"bad\.csv: .*100001"):
        turn("bad.csv", "x.npz")

    assert sorted(path.name for path in folder.iterdir()) == ["bad.csv", "rows.rec"]


def test_a_cut_gzip_file_is_an_error() -> None:
    """Half a compressed file is no data set."""
    turn("rows.rec", "x.csv.gz")
    Path("x.csv.gz").write_bytes(Path("x.csv.gz").read_bytes()[:-20])
    with pytest.raises(DataError, match=r"x\.csv\.gz: no gzip file, or a damaged one"):
        turn("x.csv.gz", "y.rec")


def test_no_rows_are_no_data_set() -> None:
    """An empty file converts to nothing, and says so."""
    Path("empty.csv").write_bytes(b"")
    with pytest.raises(ClaryError, match="there are no rows"):
        turn("empty.csv", "x.rec")


def test_head_shows_the_kind_and_the_first_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """The label stands before the values."""
    head(source="rows.rec", count=2, source_format=None, label_size=0)

    assert capsys.readouterr().out.splitlines() == [
        "rows.rec: recordio, 3 features, dense float32, labelled",
        "0 | 0 1 2",
        "1 | 3 4 5",
    ]


def test_head_is_told_which_columns_are_labels(capsys: pytest.CaptureFixture[str]) -> None:
    """A csv file does not say so itself."""
    turn("rows.rec", "x.csv")
    head(source="x.csv", count=1, source_format=None, label_size=1)

    assert capsys.readouterr().out.splitlines() == ["x.csv: csv, 3 features, dense float32, labelled", "0 | 0 1 2"]


def test_head_shows_sparse_rows_as_pairs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns of sparse rows are numbered from 0, and standard input is a file like any other."""
    turn("rows.rec", "x.npz", sparse=True)
    turn("x.npz", "x.rec")
    with Path("x.rec").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        head(source="-", count=1, source_format="recordio", label_size=0)

    assert capsys.readouterr().out.splitlines()[1:] == ["0 | 1:1 2:2"]
