"""The commands that look at a platform that runs, or end it."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Final

from ..errors import PlatformError
from .folder import Address, StateFolder, default_folder

__all__ = ["env"]

_START: Final = 10  # seconds in which a platform that was started just now has to be there
_STEP: Final = 0.05


def env(*, state: Path | None) -> None:
    """Print the variables that lead SDKs to the platform, for a shell."""
    for name, value in variables(_running(state, _START)).items():
        print(f"export {name}={shlex.quote(value)}")


def variables(address: Address) -> dict[str, str]:
    """What leads SDKs to a platform."""
    found = {
        "AWS_ENDPOINT_URL": address.url,
        "AWS_DEFAULT_REGION": address.region,
        "AWS_REGION": address.region,
    }
    if address.s3:
        found["AWS_ENDPOINT_URL_S3"] = address.s3
    if not address.s3 or address.token:  # else the user's own credentials stay, for their S3
        found |= {"AWS_ACCESS_KEY_ID": address.token or "local", "AWS_SECRET_ACCESS_KEY": "local"}
    return found


def _running(state: Path | None, seconds: float = 0.0) -> Address:
    """The platform that has the folder."""
    folder = StateFolder(state or default_folder())
    deadline = time.monotonic() + seconds
    while (address := folder.read()) is None:
        if time.monotonic() >= deadline:
            raise PlatformError(f"no platform runs with the state in {folder.path}: start one with  clary up")
        time.sleep(_STEP)
    return address
