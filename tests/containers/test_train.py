"""``clary train``: the job as a process, with its FIFOs, signals and archive."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Clary = Callable[..., "subprocess.CompletedProcess[bytes]"]
Start = Callable[..., "subprocess.Popen[bytes]"]

SOON = 50.0
LONG = ("-p", "k=3", "epochs=1000000")
"""Training that no test waits for."""


def test_a_pipe_gets_the_log_of_the_job_as_it_is(trained: tuple[Path, subprocess.CompletedProcess[bytes]]) -> None:
    """Lines that SageMaker's users parse pass through, with no carriage return and nothing of ours between."""
    _, done = trained

    assert done.stdout.startswith(b"Docker entrypoint called with argument(s): train\n")
    assert re.search(rb"#quality_metric: host=algo-1, train msd <loss>=\d", done.stdout)
    assert b"\r" not in done.stdout
    assert done.stderr == b"clary: feature_dim=4, as in rows.rec\n"


def test_file_and_pipe_mode_train_the_same_model(clary: Clary, folder: Path, tmp_path: Path) -> None:
    """The way the data comes in does not show in the archive, down to the last byte."""
    out = tmp_path / "pipe.tar.gz"
    words = ("train", "kmeans", "--train", "rows.rec", "-p", "k=3", "epochs=2", "--mode", "pipe", "--out", out)
    assert clary(*words, cwd=folder).returncode == 0

    assert out.read_bytes() == (folder / "model.tar.gz").read_bytes()


def test_csv_trains_without_a_label_column(clary: Clary, folder: Path, tmp_path: Path) -> None:
    """k-means learns from all columns of a CSV file, unless the user says otherwise."""
    out = tmp_path / "csv.tar.gz"
    done = clary("train", "kmeans", "--train", "rows.csv", "-p", "k=3", "--out", out, cwd=folder)

    assert done.stderr == b"clary: feature_dim=4, as in rows.csv\n"
    assert json.loads(clary("inspect", out, cwd=folder).stdout)["feature_dim"] == 4


def test_a_root_keeps_the_tree_of_the_job(clary: Clary, folder: Path, tmp_path: Path) -> None:
    """What the job saw and wrote can be looked at afterwards."""
    root, out = tmp_path / "ml", tmp_path / "m.tar.gz"
    words = ("train", "kmeans", "--train", "rows.rec", "--test", "rows.rec", "-p", "k=3", "--out", out, "--root", root)
    done = clary(*words, cwd=folder)

    assert b"test msd <loss>" in done.stdout
    assert json.loads((root / "input/config/hyperparameters.json").read_text()) == {"k": "3", "feature_dim": "4"}
    assert (root / "model/model_algo-1").is_file()


@pytest.mark.parametrize("mode", ["file", "pipe"])
def test_ctrl_c_ends_a_training_with_the_model_so_far(started: Start, folder: Path, tmp_path: Path, mode: str) -> None:
    """The job is told as the platform would, saves within seconds, and the archive is packed; the code is 130."""
    out = tmp_path / "m.tar.gz"
    words = ("train", "kmeans", "--train", "rows.rec", *LONG, "--mode", mode, "--out", str(out))
    with started(*words, cwd=folder) as process:
        assert process.stdout is not None
        assert any(b"#progress_metric" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, err = process.communicate(timeout=SOON)

    assert process.returncode == 130
    assert time.monotonic() - began < 8
    assert err.decode().endswith(f"clary: told to end; {out} is the model so far\n")
    assert out.is_file()


def test_sigterm_ends_a_training_well(started: Start, folder: Path, tmp_path: Path) -> None:
    """As on the platform, a job that saves when told to end has succeeded."""
    words = ("train", "kmeans", "--train", "rows.rec", *LONG, "--out", str(tmp_path / "m.tar.gz"))
    with started(*words, cwd=folder) as process:
        assert process.stdout is not None
        assert any(b"#progress_metric" in line for line in process.stdout)
        process.terminate()
        process.communicate(timeout=SOON)

    assert process.returncode == 0
    assert (tmp_path / "m.tar.gz").is_file()


def test_a_closed_terminal_leaves_the_model_so_far(folder: Path, tmp_path: Path) -> None:
    """When the terminal goes and the kernel and the shell have both sent their SIGHUP, the model is packed."""
    out = tmp_path / "m.tar.gz"
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "clary", "train", "kmeans", "--train", "rows.rec", *LONG, "--logs", "--out", out]
    with subprocess.Popen(command, cwd=folder, stdout=follower, stderr=follower) as process:
        os.close(follower)
        seen = b""
        while b"#progress_metric" not in seen:
            seen += os.read(leader, 65536)
        os.close(leader)
        for _ in range(2):
            process.send_signal(signal.SIGHUP)
            time.sleep(0.01)
        process.wait(SOON)

    assert out.is_file()


def test_a_model_that_cannot_be_packed_is_kept(clary: Clary, folder: Path, tmp_path: Path) -> None:
    """A disk that is full when the training has ended does not cost the training."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    done = clary("train", "kmeans", "--train", "rows.rec", "-p", "k=3", "--out", "/dev/full", cwd=folder)
    found = re.search(rb"\nclary: /dev/full could not be written: .*; the model is kept in (/.+)\n", done.stderr)

    assert done.returncode == 3
    assert found
    kept = Path(os.fsdecode(found[1]))
    assert clary("inspect", kept, cwd=folder).returncode == 0
    kept.joinpath("model_algo-1").rename(tmp_path / "model_algo-1")
    kept.rmdir()


def test_modules_in_the_users_folder_are_not_taken(folder: Path, tmp_path: Path) -> None:
    """A numpy.py of the user's is none of the job's business, whatever the version of Python."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here/numpy.py").write_text("raise SystemExit('the wrong one')")
    words = (sys.executable, "-c", "import sys; del sys.path[0]; from clary.cli import main; sys.exit(main())")
    train = ("train", "kmeans", "--train", folder / "rows.rec", "-p", "k=3")
    done = subprocess.run([*words, *train], cwd=tmp_path / "here", capture_output=True, check=False, timeout=SOON)

    assert done.returncode == 0, done.stdout


def test_a_job_ends_with_who_started_it(started: Start, folder: Path, tmp_path: Path) -> None:
    """Nothing trains on for nobody when ``clary train`` is killed."""
    root = tmp_path / "ml"
    with started("train", "kmeans", "--train", "rows.rec", *LONG, "--root", str(root), cwd=folder) as process:
        assert process.stdout is not None
        assert any(b"#progress_metric" in line for line in process.stdout)
        job = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        process.kill()
        process.communicate(timeout=SOON)  # until the job has closed its output too
        deadline = time.monotonic() + SOON
        while _runs(job) and time.monotonic() < deadline:
            time.sleep(0.05)

    assert not _runs(job)


def _runs(job: int) -> bool:
    """Whether a process is neither gone nor a zombie that waits for its new parent."""
    try:
        return Path(f"/proc/{job}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_channel_that_nobody_reads_is_told(clary: Clary, folder: Path, tmp_path: Path) -> None:
    """As on the platform it is allowed, but a misspelt name would otherwise pass unseen."""
    words = ("--train", "rows.rec", "--channel", "tset=rows.rec", "-p", "k=3", "--out", tmp_path / "m.tar.gz")
    done = clary("train", "kmeans", *words, cwd=folder)

    assert done.returncode == 0
    assert b"clary: kmeans reads the channels train, test: tset is not used\n" in done.stderr


def test_a_second_ctrl_c_does_not_wait(started: Start, folder: Path, tmp_path: Path) -> None:
    """A job that cannot react is killed, and no model appears."""
    words = ("train", "kmeans", "--train", "rows.rec", *LONG, "--out", str(tmp_path / "m.tar.gz"))
    with started(*words, cwd=folder) as process:
        assert process.stdout is not None
        assert any(b"#progress_metric" in line for line in process.stdout)
        job = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        os.kill(job, signal.SIGSTOP)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)
        _, err = process.communicate(timeout=8)

    assert process.returncode == 130
    assert err.decode().endswith("did not end by itself and was stopped: there is no model\n")
    assert not (tmp_path / "m.tar.gz").exists()


def test_a_channel_that_cannot_be_fed_fails_the_training(clary: Clary, folder: Path, tmp_path: Path) -> None:
    """A model of half the data is no model, however well the job thinks it went."""
    whole = gzip.compress((folder / "rows.csv").read_bytes() * 50)
    (tmp_path / "cut.csv.gz").write_bytes(whole[:-1000])
    out = tmp_path / "m.tar.gz"
    words = ("--train", tmp_path / "cut.csv.gz", "--mode", "pipe", "-p", "k=3", "feature_dim=4", "--out", out)
    done = clary("train", "kmeans", *words, cwd=folder)

    assert done.returncode == 2
    assert done.stderr.startswith(b"clary: channel 'train' could not be fed: ")
    assert not out.exists()


def test_a_reader_that_goes_away_ends_the_training(started: Start, folder: Path, tmp_path: Path) -> None:
    """``clary train … | head -1`` leaves neither a process nor a traceback."""
    words = ("train", "kmeans", "--train", "rows.rec", *LONG, "--out", str(tmp_path / "m.tar.gz"))
    with started(*words, cwd=folder) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()

        assert process.wait(SOON) == 141
        assert process.stderr.read() == b"clary: feature_dim=4, as in rows.rec\n"
