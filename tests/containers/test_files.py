"""Files appear whole or not at all."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clary.containers.files import atomic, read_text_within
from clary.containers.sinks import Target
from clary.errors import UsageError
from clary.recordio.batch import Batch


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


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may be larger than a megabyte meanwhile, as on a disk that is nearly full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("size", [1 << 14, 4 << 20], ids=["buffered", "direct"])
def test_what_cannot_be_written_is_said_of_the_users_file(tmp_path: Path, size: int) -> None:
    """The temporary file is nobody's business, and does not stay."""
    out = tmp_path / "out"
    with pytest.raises(OSError, match="File too large") as error, atomic(out) as stream:
        for _ in range((4 << 20) // size):
            stream.write(bytes(size))

    assert error.value.filename == str(out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small_files")
def test_the_arrays_of_npz_go_by_its_name(tmp_path: Path) -> None:
    """They are in temporary files without a name of their own before they are put together."""
    with pytest.raises(OSError, match="File too large") as error:
        Target(str(tmp_path / "x.npz"), "npz").write([Batch(np.zeros((1 << 17, 4), np.float32))])

    assert error.value.filename == str(tmp_path / "x.npz")


def test_a_full_device_is_named() -> None:
    """A device is written to directly, and fails when it is closed at the latest."""
    with pytest.raises(OSError, match="No space left on device") as error, atomic(Path("/dev/full")) as stream:
        stream.write(b"x")

    assert error.value.filename == "/dev/full"


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    """So is the one that a link leads to."""
    (tmp_path / "link").symlink_to(tmp_path / "gone/x")
    with pytest.raises(UsageError, match=r"No such file or directory: .*/no$"), atomic(tmp_path / "no/x"):
        pass
    with pytest.raises(UsageError, match=r"cannot write .*/link: .*/gone$"), atomic(tmp_path / "link"):
        pass


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


def test_what_somebody_else_writes_is_read_within_its_folder(tmp_path: Path) -> None:
    """A file's beginning is its text; links, wherever they are, FIFOs, folders and nothing at all have none."""
    root, secret = tmp_path / "root", tmp_path / "secret"
    (root / "output/folder").mkdir(parents=True)
    (root / "output/failure").write_bytes(b"why\xff" * 1000)
    secret.write_text("secret")
    (root / "output/link").symlink_to(secret)
    (root / "linked").symlink_to(root / "output")
    (root / "outside").symlink_to(tmp_path)
    os.mkfifo(root / "output/fifo")

    assert read_text_within(root, root / "output/failure", 6) == "why\ufffdwh"
    within = ("link", "folder", "fifo", "nothing", "failure/x", "../../secret")
    for name in (*(f"output/{name}" for name in within), "linked/failure", "outside/secret", "nothing/failure"):
        assert read_text_within(root, root / name, 100) == "", name
