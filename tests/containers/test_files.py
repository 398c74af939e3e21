"""Files appear whole or not at all."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from clary.containers.files import atomic


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    """Until the block ends there is nothing under the final name."""
    out = tmp_path / "out"
    with atomic(out) as stream:
        stream.write(b"half")
        assert not out.exists()

    assert out.read_bytes() == b"half"


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """An exception inside the block keeps what was there before and removes the temporary file."""
    out = tmp_path / "out"
    out.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), atomic(out) as stream:
        stream.write(b"new")
        raise ZeroDivisionError

    assert out.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    """Writing through a link replaces the file it points to."""
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with atomic(tmp_path / "link") as stream:
        stream.write(b"x")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"x"


def test_a_fifo_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """What is no regular file, such as /dev/null, survives being named as output."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    seen: list[bytes] = []
    reader = threading.Thread(target=lambda: seen.append(fifo.read_bytes()))
    reader.start()
    with atomic(fifo) as stream:
        stream.write(b"x")
    reader.join(10)

    assert seen == [b"x"]
    assert fifo.is_fifo()
