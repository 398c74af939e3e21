"""The page at ``/``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .platform import Platform

__all__ = ["Page"]


class Page:
    """The page."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer."""
        start("200 OK", [("Content-Type", "text/plain")])
        return [b"clary"]
