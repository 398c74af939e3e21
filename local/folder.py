"""The folder that a platform keeps its state in, which one platform at a time may open."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from ..containers.files import atomic
from ..errors import PlatformError, UserError

__all__ = ["ACCOUNT", "DOCKER", "Address", "StateFolder", "default_folder"]

ACCOUNT: Final = "123456789012"
"""The account that everything is in: moto's, which STS tells clients."""

DOCKER: Final = "docker"
"""The file that tells that containers of Docker's were started."""

_OURS: Final = "clary.db"
_LOCK: Final = "lock"
_ADDRESS: Final = "address.json"
_CONFIG_FILE: Final = "sagemaker.yaml"
_NAMES: Final = frozenset((_LOCK, _ADDRESS, _CONFIG_FILE, DOCKER, "logs", "s3", "s3-parts", "work"))
"""All that there is in a state folder, beside the database."""

_CONFIG: Final = """\
SchemaVersion: '1.0'
SageMaker:
  PythonSDK:
    Modules:
      TelemetryOptOut: true
      Session:
        DefaultS3Bucket: {bucket}
"""
_TRIES: Final = 5
_PAUSE: Final = 0.02  # seconds


@dataclass(frozen=True, slots=True)
class Address:
    """Where a platform that runs can be reached.

    Parameters
    ----------
    url
        Of its one port.
    process
        Its process.
    region
        In which its things are.
    token
        What clients show in the place of an access key; empty where they need not.
    s3
        Address of the S3 it works with, where that is another one; empty otherwise.
    config
        File with defaults for the SageMaker SDK; empty for none.
    """

    url: str
    process: int
    region: str
    token: str = ""
    s3: str = ""
    config: str = ""


def default_folder(env: Mapping[str, str] = os.environ) -> Path:
    """Where state is kept unless another folder is named: ``CLARY_STATE``, or as XDG has it."""
    if given := env.get("CLARY_STATE"):
        return Path(given)
    return Path(env.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "clary"


class StateFolder:
    """A state folder.

    Parameters
    ----------
    path
        Of the folder, which may not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def database(self) -> Path:
        """What is known of all things."""
        return self.path / _OURS

    def work(self, *parts: str) -> Path:
        """A folder for something that runs.

        Raises
        ------
        UserError
            When a part is no plain name: it could lead anywhere, and what is there is removed some time.
        """
        if wrong := [part for part in parts if not part or part in (".", "..") or "/" in part or "\0" in part]:
            raise UserError(f"{wrong[0]!r} is no name of a folder")
        return self.path.joinpath("work", *parts)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The folder for ourselves alone.

        Raises
        ------
        UserError
            When it is a folder of somebody else's.
        PlatformError
            When another platform has it.
        """
        if self.path.exists() and not (self.path.is_dir() and self._is_ours()):
            raise UserError(f"{self.path} holds something else than a platform's state: name another folder")
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.path / _LOCK).open("a") as lock:
            if not _lock(lock):
                address = self.read()
                where = f" at {address.url}" if address else ""
                raise PlatformError(
                    f"another platform runs{where} with the state in {self.path}: "
                    "end it with  clary down, or name another folder with --state"
                )
            (self.path / _ADDRESS).unlink(missing_ok=True)  # of a platform that was killed
            try:
                yield
            finally:
                (self.path / _ADDRESS).unlink(missing_ok=True)

    def write(self, address: Address) -> None:
        """Let others find the platform that has the folder."""
        content = {name: getattr(address, name) for name in Address.__slots__}
        with atomic(self.path / _ADDRESS) as stream:
            os.fchmod(stream.fileno(), 0o600)  # it may hold a token
            stream.write(json.dumps(content).encode())

    def write_config(self, region: str, account: str) -> Path:
        """Defaults for the SageMaker SDK: its name for a bucket, which it would have to ask the real STS for.

        It asks there whatever AWS_ENDPOINT_URL says, and tells Amazon of each call unless it is told not to.
        """
        path = self.path / _CONFIG_FILE
        with atomic(path) as stream:
            stream.write(_CONFIG.format(bucket=f"sagemaker-{region}-{account}").encode())
        return path

    def read(self) -> Address | None:
        """Where the platform that has the folder is; None where none has."""
        if not self._is_locked():
            return None
        with suppress(OSError, ValueError, TypeError):
            found: dict[str, Any] = json.loads((self.path / _ADDRESS).read_bytes())
            address = Address(**found)
            os.kill(address.process, 0)  # else it is that of one that was killed, and the next is not there yet
            return address
        return None

    def clear(self) -> None:
        """Remove everything that a platform has kept.

        Raises
        ------
        PlatformError
            When one runs.
        """
        if not self.path.exists():
            return
        with self.locked():
            for path in self.path.iterdir():
                if path.name != _LOCK:
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def _is_ours(self) -> bool:
        names = (path.name for path in self.path.iterdir())
        return all(name in _NAMES or name.startswith(_OURS) or name.endswith(".tmp") for name in names)

    def _is_locked(self) -> bool:
        try:
            with (self.path / _LOCK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False


def _lock(file: IO[str]) -> bool:
    """Take the lock; whoever looks whether it is taken has it for a moment too."""
    for _ in range(_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_PAUSE)
    return False
