"""Optional dependencies, imported where they are used and named where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import MissingExtraError


def require(module: str, *, package: str, extra: str) -> Any:
    """Import `module`, or raise `MissingExtraError` with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(package, extra=extra) from error
