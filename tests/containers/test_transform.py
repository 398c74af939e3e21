"""``clary transform`` on real files, with real servers of small models."""

from __future__ import annotations

import gzip
import http.client
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clary.containers.crc32c import crc32c, masked
from clary.recordio import framing

from ..boosters import ROWS, predicted
from ..boosters import trained as booster
from ..job import csv

Clary = Callable[..., "subprocess.CompletedProcess[bytes]"]
OnTerminal = Callable[..., tuple[int, str]]
Start = Callable[..., "subprocess.Popen[bytes]"]

SOON = 50.0
BY_LINE = ("--split-type", "Line", "--assemble-with", "Line")
CSV = ("--accept", "text/csv", "--content-type", "text/csv")


def transformed(done: subprocess.CompletedProcess[bytes], out: Path) -> dict[str, bytes]:
    """What a job that ended well has written, by name."""
    assert (done.returncode, done.stderr) == (0, b"")
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def answers(clary: Clary, trained: tuple[Path, object]) -> list[bytes]:
    """Lines that the model answers rows.csv with."""
    done = clary("predict", "model.tar.gz", "rows.csv", "--accept", "csv", cwd=trained[0])
    return done.stdout.splitlines(keepends=True)


def test_a_file_is_answered_line_by_line(clary: Clary, folder: Path, tmp_path: Path, answers: list[bytes]) -> None:
    """Many in a request or each in its own: what comes out is the same."""
    words = ("transform", "model.tar.gz", "rows.csv", tmp_path / "out", *BY_LINE, *CSV)
    many = transformed(clary(*words, cwd=folder), tmp_path / "out")
    single = transformed(
        clary(*words, "--strategy", "SingleRecord", "--max-concurrent", "4", cwd=folder), tmp_path / "out"
    )

    assert many == single == {"rows.csv.out": b"".join(answers)}


def test_rows_keep_what_the_model_does_not_see(
    clary: Clary, folder: Path, tmp_path: Path, answers: list[bytes]
) -> None:
    """Filters and a join: an id in, an id out, beside the prediction."""
    rows = (folder / "rows.csv").read_bytes().splitlines()
    (tmp_path / "ids.csv").write_bytes(b"".join(b"id%d,%s\n" % (i, row) for i, row in enumerate(rows)))
    filters = ("--input-filter", "$[1:]", "--join-source", "Input", "--output-filter", "$[0,-2,-1]")
    done = clary("transform", "model.tar.gz", "ids.csv", "out", *BY_LINE, *CSV, *filters, cwd=_at(tmp_path, folder))

    expected = b"".join(b"id%d,%s" % (i, answer) for i, answer in enumerate(answers))
    assert transformed(done, tmp_path / "out") == {"ids.csv.out": expected}


def _at(place: Path, folder: Path) -> Path:
    """A folder that has the model too."""
    (place / "model.tar.gz").symlink_to(folder / "model.tar.gz")
    return place


@pytest.mark.parametrize("kind", ["RecordIO", "TFRecord"])
@pytest.mark.parametrize("strategy", ["SingleRecord", "MultiRecord"])
def test_framed_records_come_with_frames_only_if_there_may_be_many(
    clary: Clary, folder: Path, tmp_path: Path, answers: list[bytes], kind: str, strategy: str
) -> None:
    """The model takes RecordIO with frames and Records without; TFRecords it takes only without their frames."""
    with (folder / "rows.rec").open("rb") as stream:
        payloads = [frame.payload for frame in framing.read_frames(stream)][:50]
    name = "x.rec" if kind == "RecordIO" else "x.tfrecord"
    with (tmp_path / name).open("wb") as stream:
        for payload in payloads:
            framing.write_frame(stream, payload) if kind == "RecordIO" else stream.write(tfrecord(payload))
    words = ("--split-type", kind, "--strategy", strategy, "--accept", "csv", "--assemble-with", "Line")
    media = ("--content-type", "application/x-recordio-protobuf")
    done = clary("transform", "model.tar.gz", tmp_path / name, tmp_path / "out", *words, *media, cwd=folder)

    if (kind, strategy) == ("TFRecord", "MultiRecord"):
        assert done.returncode == 2
        assert b"clary: x.tfrecord: records 0 to 49: the server answered 400: " in done.stderr
    else:
        assert transformed(done, tmp_path / "out") == {f"{name}.out": b"".join(answers[:50])}


def tfrecord(payload: bytes) -> bytes:
    """A TFRecord frame."""
    length = struct.pack("<Q", len(payload))
    checks = [struct.pack("<I", masked(crc32c(data))) for data in (length, payload)]
    return length + checks[0] + payload + checks[1]


def test_a_directory_is_taken_with_all_that_is_below_it(
    clary: Clary, folder: Path, tmp_path: Path, answers: list[bytes]
) -> None:
    """Names are kept and get ``.out``; compressed files are read, hidden ones and markers are none."""
    rows = (folder / "rows.csv").read_bytes().splitlines(keepends=True)
    data = tmp_path / "in"
    (data / "deep/er").mkdir(parents=True)
    (data / ".git").mkdir()
    (data / "one.csv").write_bytes(b"".join(rows[:2]))
    (data / "deep/er/two.csv.gz").write_bytes(gzip.compress(b"".join(rows[2:4])))
    (data / "deep/empty.csv").write_bytes(b"")
    for name in ("_SUCCESS", ".hidden.csv", ".git/x.csv"):
        (data / name).write_bytes(b"no data")
    done = clary("transform", "model.tar.gz", data, tmp_path / "out", *BY_LINE, "--accept", "csv", cwd=folder)

    assert transformed(done, tmp_path / "out") == {
        "deep/empty.csv.out": b"",
        "deep/er/two.csv.gz.out": b"".join(answers[2:4]),
        "one.csv.out": b"".join(answers[:2]),
    }


def test_a_manifest_lists_files(clary: Clary, folder: Path, tmp_path: Path, answers: list[bytes]) -> None:
    """Its prefix is put before each name and is in none of the outputs; Gzip may be said instead of shown."""
    rows = (folder / "rows.csv").read_bytes().splitlines(keepends=True)
    (tmp_path / "data/b").mkdir(parents=True)
    (tmp_path / "data/a").write_bytes(gzip.compress(rows[0]))
    (tmp_path / "data/b/c").write_bytes(gzip.compress(rows[1]))
    (tmp_path / "list.json").write_text(json.dumps([{"prefix": "data/"}, "b/c", "a"]))
    words = ("--manifest", "--compression", "Gzip", *BY_LINE, *CSV)
    done = clary("transform", "model.tar.gz", tmp_path / "list.json", tmp_path / "out", *words, cwd=folder)

    assert transformed(done, tmp_path / "out") == {"a.out": answers[0], "b/c.out": answers[1]}


def test_bad_files_keep_no_good_one_from_its_output(clary: Clary, folder: Path, tmp_path: Path) -> None:
    """Each is named with its line, in the order of the files, and none has an output, not even a part of one."""
    rows = (folder / "rows.csv").read_bytes()
    data = tmp_path / "in"
    data.mkdir()
    for name in ("a", "c", "f"):
        (data / f"{name}.csv").write_bytes(rows)
    (data / "b.csv").write_bytes(rows * 100 + b"1,2,x,4\n")
    (data / "d.csv").write_bytes(b"1,2,3,4\n" + b"1," * (1 << 19) + b"1\n")
    (data / "e.csv.gz").write_bytes(gzip.compress(rows * 100)[:-9])
    words = (*BY_LINE, *CSV, "--max-payload", "1")
    done = clary("transform", "model.tar.gz", data, tmp_path / "out", *words, cwd=folder)
    bad_b, bad_d, bad_e = done.stderr.decode().splitlines()

    assert done.returncode == 2
    assert re.match(r"clary: b\.csv: lines \d+ to 60001: the server answered 400: .*'x' is not a number", bad_b)
    assert bad_d == "clary: d.csv: line 2 has more than the 1048576 bytes of a request (MaxPayloadInMB)"
    assert bad_e.startswith("clary: e.csv.gz: no gzip file, or a damaged one: ")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.csv.out", "c.csv.out", "f.csv.out"]


def test_a_whole_file_is_one_request(clary: Clary, folder: Path, tmp_path: Path, answers: list[bytes]) -> None:
    """It has to fit, unless no limit is asked for: then it is streamed."""
    rows = (folder / "rows.csv").read_bytes()
    (tmp_path / "x.csv").write_bytes(rows * 80)
    words = ("transform", "model.tar.gz", tmp_path / "x.csv", tmp_path / "out", *CSV, "--max-payload")
    refused = clary(*words, "1", cwd=folder)
    streamed = clary(*words, "0", cwd=folder)

    assert len(rows * 80) > 1 << 20
    assert refused.returncode == 2
    assert refused.stderr.startswith(b"clary: x.csv: it is larger than the 1048576 bytes of a request (MaxPayloadInMB)")
    assert transformed(streamed, tmp_path / "out") == {"x.csv.out": b"".join(answers) * 80}


def test_xgboost_is_told_that_it_is_a_batch(clary: Clary, tmp_path: Path) -> None:
    """Its answers then stand one a line; the server has what ``--env`` says, too."""
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("xgboost-model")
        member.size = len(booster())
        archive.addfile(member, io.BytesIO(booster()))
    rows = np.nan_to_num(ROWS)
    (tmp_path / "x.csv").write_bytes(csv(rows))
    words = ("transform", "model.tar.gz", "x.csv", "out", *BY_LINE, "--accept", "text/csv")
    scores = transformed(clary(*words, cwd=tmp_path), tmp_path / "out")["x.csv.out"]
    env = ("--env", "SAGEMAKER_INFERENCE_OUTPUT=predicted_label")
    labels = transformed(clary(*words, *env, cwd=tmp_path), tmp_path / "out")["x.csv.out"]
    expected = predicted(booster(), rows)

    np.testing.assert_allclose([float(line) for line in scores.splitlines()], expected, rtol=1e-6)
    assert [int(float(line)) for line in labels.splitlines()] == (expected > 0.5).astype(int).tolist()


def test_a_server_that_runs_can_be_asked(
    clary: Clary, started: Start, folder: Path, tmp_path: Path, answers: list[bytes]
) -> None:
    """Its address stands in the place of the model; it goes on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with started("serve", "model.tar.gz", "--port", str(port), "--workers", "1", cwd=folder) as server:
        url = f"http://127.0.0.1:{port}"
        done = clary("transform", url, "rows.csv", tmp_path / "out", *BY_LINE, *CSV, cwd=folder)
        assert transformed(done, tmp_path / "out") == {"rows.csv.out": b"".join(answers)}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SOON)
        connection.request("GET", "/ping")
        assert connection.getresponse().status == 200
        connection.close()
        server.terminate()
        server.communicate(timeout=SOON)


@pytest.fixture
def two(folder: Path, tmp_path: Path) -> Path:
    """A folder with a file that is soon done, and one that takes long."""
    (tmp_path / "in").mkdir()
    rows = (folder / "rows.csv").read_bytes()
    (tmp_path / "in/a.csv").write_bytes(rows[: rows.index(b"\n") + 1])
    (tmp_path / "in/b.csv").write_bytes(rows * 1000)
    return _at(tmp_path, folder)


LONG = ("transform", "model.tar.gz", "in", "out", *BY_LINE, *CSV, "--strategy", "SingleRecord")


def test_a_server_that_dies_ends_the_job(started: Start, two: Path) -> None:
    """What was complete is there, nothing else is, and the message has the server's last words."""
    with started(*LONG, cwd=two) as process:
        _until(lambda: (two / "out/a.csv.out").exists())
        [child] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.killpg(int(child), signal.SIGKILL)
        _, err = process.communicate(timeout=SOON)

    assert process.returncode == 3
    assert err.startswith(b"clary: the server ended in the middle; its last lines were:\n")
    assert [path.name for path in (two / "out").iterdir()] == ["a.csv.out"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_job_that_is_told_to_end_leaves_no_torn_file(
    started: Start, two: Path, number: signal.Signals, code: int
) -> None:
    """It says nothing, its server is gone, and what was complete stays."""
    with started(*LONG, cwd=two) as process:
        _until(lambda: (two / "out/a.csv.out").exists())
        [child] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        began = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=SOON)

    assert (process.returncode, out, err) == (code, b"", b"")
    assert time.monotonic() - began < 15
    assert not Path(f"/proc/{child}").exists()
    assert [path.name for path in (two / "out").iterdir()] == ["a.csv.out"]


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_terminal_gets_a_bar_and_a_table(on_terminal: OnTerminal, folder: Path, tmp_path: Path) -> None:
    """Files, records, requests and seconds."""
    words = ("transform", "model.tar.gz", "rows.csv", str(tmp_path / "out"), *BY_LINE, *CSV)
    code, seen = on_terminal(*words, "--strategy", "SingleRecord", cwd=folder)

    assert code == 0
    assert re.search(r"\r\[[#.]{24}\] +\d+ %  0 of 1 files  \d+ requests", seen)
    head, row = seen.splitlines()[-2:]
    assert head.rpartition("\r")[2].split() == ["files", "failed", "records", "requests", "seconds"]
    assert re.fullmatch(r"1 +0 +600 +600 +\d+\.\d", row)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("model.tar.gz", "none.csv", "out"), "none.csv does not exist"),
        (("model.tar.gz", "nothing", "out"), "there is no file in nothing"),
        (("model.tar.gz", ".", "out"), "out is in .: its files would be taken for input the next time"),
        (("model.tar.gz", "rows.csv", "out", "--max-payload", "101"), "MaxPayloadInMB 101 is not allowed"),
        (("model.tar.gz", "rows.csv", "out", "--max-concurrent", "17", "--max-payload", "6"), "is 102 MB: at most 100"),
        (("model.tar.gz", "rows.csv", "out", "--env", "A"), "--env A: write it as NAME=VALUE"),
        (("model.tar.gz", "rows.csv", "out", "--input-filter", "$..a"), "is not understood from '..a' on"),
        (("model.tar.gz", "rows.csv", "out", "--join-source", "Input"), "an Accept that is the same: got text/csv and"),
        (("model.tar.gz", "mixed", "out"), "a.csv and b.jsonl have different formats"),
        (("model.tar.gz", "rows.csv", "out", "--manifest"), "rows.csv is no manifest"),
        (("model.tar.gz", "s3.json", "out", "--manifest"), "the prefix s3://b/ is not on this machine"),
        (("model.tar.gz", "up.json", "out", "--manifest"), "'../rows.csv' leads out of the prefix"),
        (("model.tar.gz", "gone.json", "out", "--manifest"), "gone.csv is listed, but there is no file"),
        (("model.tar.gz", "empty.json", "out", "--manifest"), 'write [{"prefix": "folder/"}, "name", …]'),
        (("none.tar.gz", "rows.csv", "out"), "none.tar.gz does not exist"),
        (("http://localhost:1/x", "rows.csv", "out"), "is no address of a server: write http://HOST:PORT"),
        (("http://localhost:99999", "rows.csv", "out"), "http://localhost:99999: Port out of range"),
        (("http://localhost:1", "rows.csv", "out", "--env", "A=b"), "--env is for a server that is started here"),
    ],
)
def test_what_cannot_be_is_said_at_once(
    run: Callable[..., str], folder: Path, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    """In one line, before any server is started."""
    _at(tmp_path, folder)
    (tmp_path / "rows.csv").symlink_to(folder / "rows.csv")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "mixed").mkdir()
    for name in ("mixed/a.csv", "mixed/b.jsonl"):
        (tmp_path / name).write_bytes(b"1\n")
    for name, listed in {
        "s3": [{"prefix": "s3://b/"}, "a.csv"],
        "up": [{"prefix": "mixed/"}, "../rows.csv"],
        "gone": ["gone.csv"],
        "empty": [{"prefix": "mixed/"}],
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(listed))

    assert sentence in run(*words)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command in this process, where nothing is started, and gives what it says of a mistake."""
    from clary.cli import main

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> str:
        code = main(["transform", *words])
        for number, handler in before.items():
            signal.signal(number, handler)
        assert code == 2
        return capsys.readouterr().err

    return run
