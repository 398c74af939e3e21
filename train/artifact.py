"""Files that matter, written so that a kill at any moment leaves the old one, the new one or none."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from ..errors import ClaryError, PlatformError

__all__ = ["open_to_all", "write_atomic", "write_failure"]


def write_atomic(path: Path, data: bytes, suffix: str = ".tmp") -> None:
    """Write a file in one step: under a temporary name, to the disk, then renamed.

    Temporary files begin with a dot, so that a server and the next job pass over one that a kill has left; the next
    write of the same file removes them. They end with `suffix`.

    Raises
    ------
    PlatformError
        When the file system refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for stale in path.parent.glob(f".{path.name}.*{suffix}"):
            stale.unlink(missing_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=suffix, dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)  # noqa: PTH101  # the platform and other users read it
            os.rename(name, path)  # noqa: PTH104
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise PlatformError(f"cannot write {path}: {error.strerror or error}") from error


def write_failure(path: Path, error: ClaryError) -> None:
    """Write the failure file, unless there is one: the first reason is the one to tell.

    The file begins with whose fault it is; what matters comes within the first 1,024 characters.
    """
    if path.exists():
        return
    write_atomic(path, f"{error.prefix}: {error}".encode(errors="replace"))


def open_to_all(folder: Path) -> None:
    """Let everybody read, change and remove what is root's in a folder, and the folder if it is root's.

    In a container a job is mostly root's, and so is what it leaves; the host's user could not remove it. Nothing
    happens for any other user, whose files are his own anyway.
    """
    if os.geteuid() != 0:
        return
    for parent, _, names in os.walk(folder):
        for path in (Path(parent), *(Path(parent, name) for name in names)):
            with suppress(OSError):  # a file system may refuse, another host may be at work in the same folder
                found = path.lstat()
                if found.st_uid == 0 and not stat.S_ISLNK(found.st_mode):
                    path.chmod(stat.S_IMODE(found.st_mode) | (0o777 if path.is_dir() else 0o666))


def _sync_folder(folder: Path) -> None:
    """Make a rename last; some file systems cannot, and need not."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # a folder may be writable and not readable
        return
    with suppress(OSError):
        os.fsync(handle)
    os.close(handle)
