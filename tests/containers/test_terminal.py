"""What a person sees of a training on a terminal."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

OnTerminal = Callable[..., tuple[int, str]]


def test_a_terminal_gets_a_progress_line_and_a_table(on_terminal: OnTerminal, folder: Path, tmp_path: Path) -> None:
    """People see one line that moves, then the metrics, the artifact and what to type next."""
    out = str(tmp_path / "m.tar.gz")
    code, seen = on_terminal(
        "train", "kmeans", "--train", "rows.rec", "-p", "k=3", "--mode", "pipe", "--out", out, cwd=folder
    )

    assert code == 0
    assert "\rtraining kmeans  [" in seen
    assert re.search(r"\nmetric +value\ntrain msd +\d", seen)
    assert seen.endswith(f"serve it:  clary serve {out}\n")
    assert "Docker entrypoint" not in seen
    assert "\x1b" not in seen


def test_a_share_that_nobody_knows_is_not_shown(on_terminal: OnTerminal, folder: Path, tmp_path: Path) -> None:
    """In the first epoch of File mode the line counts mini-batches and seconds, and claims no 0 %."""
    words = ("-p", "k=3", "mini_batch_size=1", "--out", str(tmp_path / "m.tar.gz"))
    _, seen = on_terminal("train", "kmeans", "--train", "rows.rec", *words, cwd=folder)

    assert re.search(r"\rtraining kmeans( +mini-batch \d+)?  \d+\.\d s *\r", seen)
    assert " 0 %" not in seen


def test_logs_shows_the_log_on_a_terminal_too(on_terminal: OnTerminal, folder: Path, tmp_path: Path) -> None:
    """Log lines stand above the progress line, whole."""
    out = str(tmp_path / "m.tar.gz")
    _, seen = on_terminal("train", "kmeans", "--train", "rows.rec", "-p", "k=3", "--out", out, "--logs", cwd=folder)

    assert re.search(r"\r\[[^\r\n]+\] #quality_metric: [^\r\n]+\n", seen)


def test_a_dumb_terminal_gets_the_plain_log(on_terminal: OnTerminal, folder: Path, tmp_path: Path) -> None:
    """Where a line cannot be redrawn, nothing is."""
    out = str(tmp_path / "m.tar.gz")
    _, seen = on_terminal("train", "kmeans", "--train", "rows.rec", "-p", "k=3", "--out", out, cwd=folder, term="dumb")

    assert "Docker entrypoint" in seen
    assert "\r" not in seen


def test_a_failure_is_on_one_screen(on_terminal: OnTerminal, folder: Path, tmp_path: Path) -> None:
    """The job's own reason comes last, the end of its log before it, and its exit code is ours."""
    out = str(tmp_path / "m.tar.gz")
    code, seen = on_terminal("train", "kmeans", "--train", "rows.rec", "-p", "k=none", "--out", out, cwd=folder)

    assert code == 2
    assert len(seen.splitlines()) < 24
    assert re.search(r"\n\nclary: Customer Error: .*hyperparameter 'k' must be an integer", seen)


def test_a_warning_is_seen(on_terminal: OnTerminal, folder: Path, tmp_path: Path) -> None:
    """What the job warns of stands above the progress line, in its words alone."""
    words = ("-p", "k=3", "mini_batch_size=100000", "--out", str(tmp_path / "m.tar.gz"))
    code, seen = on_terminal("train", "kmeans", "--train", "rows.rec", *words, cwd=folder)

    assert code == 0
    assert re.search(r"\rclary: Batch size 100000 is bigger than the first batch data\. [^\r\n]+\n", seen)
