"""``clary predict`` on files that need several requests, or have something wrong in them."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from clary.recordio.batch import CSR, Array, Batch
from clary.recordio.csv import format_csv
from clary.recordio.libsvm import write_libsvm
from clary.recordio.shingles import shingle
from clary.recordio.writer import write_batch

Clary = Callable[..., "subprocess.CompletedProcess[bytes]"]

LONG = b"0.10000000000000000000000,2.5,3.5,4.50000000000000000000000000\n"
ROWS = 150_000
"""Rows of a file that is larger than a request."""


def lines(path: Path, *, at: int, bad: bytes) -> Path:
    """A csv file of `ROWS` rows, with `bad` in the line `at` and nothing in the third."""
    rows = [LONG] * (ROWS + 1)
    rows[2], rows[at - 1] = b"\n", bad
    path.write_bytes(b"".join(rows))
    assert (at - 2) * len(LONG) > 6_000_000  # so it is not in the first request
    return path


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (b"1,2,x,4\n", "line 140001, column 3: 'x' is not a number"),
        (b"1,2,nan,4\n", "missing (NaN) values in row 140000"),
    ],
)
def test_a_bad_line_is_counted_from_the_beginning_of_the_file(
    clary: Clary, folder: Path, tmp_path: Path, bad: bytes, sentence: str
) -> None:
    """The server sees only the request that the line is in; rows are lines that have something in them."""
    path = lines(tmp_path / "x.csv", at=140_001, bad=bad)
    done = clary("predict", "model.tar.gz", path, cwd=folder)

    assert done.returncode == 2
    assert done.stderr.decode().startswith(f"clary: {path}: the server answered 400: ")
    assert sentence in done.stderr.decode()


def test_a_cut_record_is_counted_from_the_beginning_of_the_file(clary: Clary, folder: Path, tmp_path: Path) -> None:
    """So is its byte: each record of four numbers has forty."""
    with (tmp_path / "x.rec").open("w+b") as stream:
        write_batch(stream, Batch(np.ones((170_000, 4), np.float32)))
        end = stream.tell()
        stream.write((folder / "rows.rec").read_bytes()[:13])
    done = clary("predict", "model.tar.gz", tmp_path / "x.rec", cwd=folder)

    assert end > 6_000_000
    assert f"record 170000 at byte {end}: the stream ends" in done.stderr.decode()


def test_a_bad_row_of_a_numpy_file_is_counted_from_its_beginning(clary: Clary, folder: Path, tmp_path: Path) -> None:
    """Rows that are sent as RecordIO keep their numbers."""
    rows = np.ones((400_000, 4), np.float32)
    rows[390_000] = np.nan
    np.save(tmp_path / "x.npy", rows)
    done = clary("predict", "model.tar.gz", tmp_path / "x.npy", cwd=folder)

    assert b"missing (NaN) values in row 390001" in done.stderr


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.json", "x.rec", "x.svm"])
def test_a_file_without_rows_gets_no_answer(clary: Clary, folder: Path, tmp_path: Path, name: str) -> None:
    """Nothing is no prediction, and no JSON either."""
    (tmp_path / name).write_bytes(b"")
    words = ("--accept", "application/json", "--out", tmp_path / "out")
    done = clary("predict", "model.tar.gz", tmp_path / name, *words, cwd=folder)

    assert (done.returncode, done.stderr.decode()) == (2, f"clary: {tmp_path / name}: there are no rows\n")
    assert not (tmp_path / "out").exists()


def test_empty_lines_behind_a_full_request_are_no_rows(clary: Clary, folder: Path, tmp_path: Path) -> None:
    """They are sent nowhere, so nobody refuses them."""
    rows = b"1,2,3,4\n" * 750_000
    assert len(rows) == 6_000_000
    (tmp_path / "x.csv").write_bytes(rows + b"\n\n")
    done = clary("predict", "model.tar.gz", tmp_path / "x.csv", "--accept", "csv", cwd=folder)

    assert (done.returncode, done.stdout.count(b"\n")) == (0, 750_000)


def test_a_json_file_is_asked_in_several_requests(clary: Clary, folder: Path, tmp_path: Path) -> None:
    """The answer is one document that has every row, in order."""
    rows = np.loadtxt(folder / "rows.csv", delimiter=",").tolist() * 300
    (tmp_path / "x.json").write_text(json.dumps({"instances": [{"features": row} for row in rows]}))
    words = ("--accept", "application/json")
    done = clary("predict", "model.tar.gz", tmp_path / "x.json", *words, cwd=folder)
    small = json.loads(clary("predict", "model.tar.gz", "rows.csv", *words, cwd=folder).stdout)

    assert len(rows) * 40 > 6_000_000
    assert json.loads(done.stdout) == {"predictions": small["predictions"] * 300}


def test_a_bad_instance_of_a_json_file_is_named(clary: Clary, folder: Path) -> None:
    """It is found before anything is sent."""
    body = b'{"instances": [{"features": [1, 2, 3, 4]}, {"features": [1, "x", 3, 4]}]}'
    words = ("predict", "model.tar.gz", "-", "--content-type", "application/json")
    done = clary(*words, cwd=folder, stdin=body)

    assert done.returncode == 2
    assert done.stderr == b"clary: standard input: instances[1]: value 1 is a string, not a number\n"


def test_json_that_is_too_large_for_memory_is_refused(clary: Clary, folder: Path, tmp_path: Path) -> None:
    """It has no place to be cut at, unlike JSON Lines."""
    with (tmp_path / "x.json").open("wb") as stream:
        stream.truncate((256 << 20) + 1)
    done = clary("predict", "model.tar.gz", tmp_path / "x.json", cwd=folder)

    assert done.returncode == 2
    assert b"at most 256 MiB: write JSON Lines" in done.stderr


@pytest.mark.parametrize("suffix", ["csv", "npy"])
def test_label_columns_are_left_out(clary: Clary, folder: Path, tmp_path: Path, suffix: str) -> None:
    """The answers are those for the same rows without a label."""
    rows = np.loadtxt(folder / "rows.csv", delimiter=",")
    labelled = np.column_stack([np.zeros(len(rows)), rows])
    path = tmp_path / f"x.{suffix}"
    np.save(path, labelled) if suffix == "npy" else np.savetxt(path, labelled, delimiter=",")
    done = clary("predict", "model.tar.gz", path, "--label-size", "1", cwd=folder)

    assert done.stdout == clary("predict", "model.tar.gz", "rows.csv", cwd=folder).stdout != b""


def jsonl(stream: BinaryIO, rows: Array) -> None:
    """Write an instance a line."""
    stream.writelines(json.dumps({"features": row}).encode() + b"\n" for row in rows.tolist())


WRITERS: dict[str, Callable[[BinaryIO, Array], object]] = {
    "x.csv": lambda stream, rows: stream.write(format_csv([rows])),
    "x.jsonl": jsonl,
    "x.json": lambda stream, rows: stream.write(
        json.dumps({"instances": [{"features": row} for row in rows.tolist()]}).encode()
    ),
    "x.rec": lambda stream, rows: write_batch(stream, Batch(rows)),
    "sparse.rec": lambda stream, rows: write_batch(stream, Batch(CSR.from_dense(rows))),
    "x.svm": lambda stream, rows: write_libsvm(stream, [Batch(rows)]),
    "x.npy": np.save,
    "x.npz": lambda stream, rows: np.savez(stream, features=rows),
}
SERIES = np.random.default_rng(1).normal(size=(500, 2)).astype(np.float32)
"""Points of which two make a row of the model."""


@pytest.fixture(scope="module")
def expected(clary: Clary, trained: tuple[Path, object], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Answers for shingles of `SERIES` that were made first."""
    path = tmp_path_factory.mktemp("shingles") / "x.csv"
    path.write_bytes(format_csv([shingle(SERIES, 2)]))
    answers = clary("predict", "model.tar.gz", path, cwd=trained[0]).stdout
    assert answers.count(b"\n") == 499
    return answers


@pytest.mark.parametrize("name", WRITERS)
def test_shingles_of_every_format(clary: Clary, folder: Path, tmp_path: Path, expected: bytes, name: str) -> None:
    """The model is asked what it would be if the shingles were in the file."""
    with (tmp_path / name).open("wb") as stream:
        WRITERS[name](stream, SERIES)
    done = clary("predict", "model.tar.gz", tmp_path / name, "--shingle", "2", cwd=folder)

    assert done.stderr == b""
    assert done.stdout == expected


@pytest.mark.parametrize("words", [("--label-size", "1"), ("--content-type", "text/csv;label_size=1")])
def test_shingles_have_no_label_columns(
    clary: Clary, folder: Path, tmp_path: Path, expected: bytes, words: tuple[str, ...]
) -> None:
    """They are left out before rows are put side by side, whoever says that they are there."""
    (tmp_path / "x.csv").write_bytes(format_csv([np.ones(len(SERIES), np.float32), SERIES]))
    done = clary("predict", "model.tar.gz", tmp_path / "x.csv", "--shingle", "2", *words, cwd=folder)

    assert done.stdout == expected


def test_shingles_cross_the_borders_of_requests(clary: Clary, folder: Path, tmp_path: Path) -> None:
    """There are n - N + 1 answers, as if the file had been sent at once."""
    series = np.tile(np.arange(8, dtype=np.float32), 50_000)
    np.savetxt(tmp_path / "x.csv", series, fmt="%g")
    words = ("--shingle", "4", "--accept", "csv")
    lines = clary("predict", "model.tar.gz", tmp_path / "x.csv", *words, cwd=folder).stdout.splitlines()

    assert len(lines) * 40 > 2 * 6_000_000
    assert lines == (lines[:8] * 50_000)[:399_997]
    assert len(set(lines[:8])) == 8


@pytest.mark.parametrize(("at", "place"), [(2, "rows 1 to 4"), (4, "rows 1 to 4"), (390_001, "rows 389998 to 390001")])
def test_a_bad_point_is_in_the_rows_of_its_first_shingle(
    clary: Clary, folder: Path, tmp_path: Path, at: int, place: str
) -> None:
    """They are counted from the beginning of the file, so that who looks there finds the point."""
    series = np.ones(400_000, np.float32)
    series[at - 1] = np.nan
    np.save(tmp_path / "x.npy", series)
    done = clary("predict", "model.tar.gz", tmp_path / "x.npy", "--shingle", "4", cwd=folder)

    assert done.returncode == 2
    assert done.stderr.decode().endswith(f"found missing (NaN) values in {place}\n")


@pytest.mark.parametrize(
    ("body", "size", "sentence"),
    [
        (b"1\n2\nx\n4\n", "2", "line 3, column 1: 'x' is not a number"),
        (b"1\n2\n3\n", "4", "too few rows for a shingle: 3 of the 4 that one takes"),
        (b"", "4", "too few rows for a shingle: 0 of the 4 that one takes"),
        (b"1\n2\n3\n", "3", "wrong number of features: 3 instead of 4"),
    ],
)
def test_what_makes_no_shingle_gets_a_sentence(
    clary: Clary, folder: Path, body: bytes, size: str, sentence: str
) -> None:
    """It names the file, and lines as they are there."""
    words = ("predict", "model.tar.gz", "-", "--content-type", "text/csv", "--shingle", size)
    done = clary(*words, cwd=folder, stdin=body)

    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().startswith("clary: standard input: ")
    assert sentence in done.stderr.decode()


def test_libsvm_rows_have_to_fit_the_model_side_by_side(clary: Clary, folder: Path) -> None:
    """How wide they are follows from the model."""
    words = ("predict", "model.tar.gz", "-", "--content-type", "text/libsvm", "--shingle", "3")
    done = clary(*words, cwd=folder, stdin=b"0 1:1\n" * 9)

    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"clary: --shingle 3: the model's 4 features are not 3 rows side by side\n"


def test_shingles_of_standard_input(clary: Clary, folder: Path, expected: bytes) -> None:
    """Standard input is a series like any file."""
    stream = io.BytesIO()
    write_batch(stream, Batch(SERIES))
    words = ("predict", "model.tar.gz", "-", "--content-type", "application/x-recordio-protobuf", "--shingle", "2")

    assert clary(*words, cwd=folder, stdin=stream.getvalue()).stdout == expected
