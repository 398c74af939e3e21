"""One platform at a time has a state folder, and others can find it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from clary.errors import PlatformError, UserError
from clary.local.folder import Address, StateFolder, default_folder

HERE = Address("http://127.0.0.1:1", 7, "us-east-1", token="secret")


def test_who_has_it_is_found(tmp_path: Path) -> None:
    """The address is there while the platform is, for its user alone as it may hold a token."""
    folder = StateFolder(tmp_path / "state")
    assert folder.read() is None
    with folder.locked():
        assert folder.read() is None
        folder.write(HERE)
        assert folder.read() == HERE
        assert (folder.path / "address.json").stat().st_mode & 0o777 == 0o600
        assert folder.path.stat().st_mode & 0o777 == 0o700
    assert folder.read() is None


def test_two_cannot_have_it(tmp_path: Path) -> None:
    """The second is told where the first is."""
    folder = StateFolder(tmp_path)
    with folder.locked():
        folder.write(HERE)
        with (
            pytest.raises(PlatformError, match=re.escape(HERE.url)),
            StateFolder(tmp_path).locked(),
        ):
            pass
        with pytest.raises(PlatformError, match="another platform runs"):
            folder.clear()
    with folder.locked():
        pass


def test_one_that_was_killed_has_it_no_more(tmp_path: Path) -> None:
    """The lock of a process that was killed is free, and its address counts no more."""
    code = (
        "import sys, time; from pathlib import Path; from clary.local.folder import *\n"
        "folder = StateFolder(Path(sys.argv[1])); lock = folder.locked(); lock.__enter__()\n"
        "folder.write(Address('http://127.0.0.1:1', 7, 'us-east-1')); print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert StateFolder(tmp_path).read() is not None
        process.kill()
    assert StateFolder(tmp_path).read() is None
    with StateFolder(tmp_path).locked():
        assert StateFolder(tmp_path).read() is None


def test_folders_of_others_stay(tmp_path: Path) -> None:
    """A folder that holds something else is neither used nor cleared."""
    (tmp_path / "thesis.tex").write_text("dear")
    folder = StateFolder(tmp_path)
    with pytest.raises(UserError, match="holds something else"), folder.locked():
        pass
    with pytest.raises(UserError, match="holds something else"):
        folder.clear()
    assert (tmp_path / "thesis.tex").read_text() == "dear"


def test_a_lock_alone_makes_no_folder_ours(tmp_path: Path) -> None:
    """Others call files so, too."""
    (tmp_path / "lock").touch()
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(UserError, match="holds something else"):
        StateFolder(tmp_path).clear()
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize("part", ["", ".", "..", "/", "/etc", "a/b", "../a", "a\0"])
def test_folders_for_work_stay_inside(tmp_path: Path, part: str) -> None:
    """A part of such a folder's path is a plain name, or nothing is done there."""
    with pytest.raises(UserError, match="is no name of a folder"):
        StateFolder(tmp_path).work("training-jobs", part)


def test_clearing(tmp_path: Path) -> None:
    """All is removed, and links are, not what they lead to."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    folder = StateFolder(tmp_path / "state")
    with folder.locked():
        (folder.path / "s3/bucket").mkdir(parents=True)
        (folder.path / "logs").symlink_to(outside)
    folder.clear()
    assert [path.name for path in folder.path.iterdir()] == ["lock"]
    assert (outside / "file").exists()


def test_where_it_is_by_default() -> None:
    """CLARY_STATE names it; else it is where XDG keeps state."""
    assert default_folder({"CLARY_STATE": "/a"}) == Path("/a")
    assert default_folder({"XDG_STATE_HOME": "/b"}) == Path("/b/clary")
    assert default_folder({}) == Path.home() / ".local/state/clary"
