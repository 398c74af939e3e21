"""The compiled kernels, where there are any.

Each has a twin in NumPy, which does the same where the package was installed without a compiler, or where
``CLARY_NATIVE=0`` says so.
"""

from __future__ import annotations

import os
from typing import Any, Final

__all__ = ["STATE", "kernels"]

kernels: Any = None
"""The extension module ``clary._native``; None where the twins do its work."""

if os.environ.get("CLARY_NATIVE", "1") == "0":
    _state = "switched off by CLARY_NATIVE=0"
else:
    try:
        from . import _native as kernels  # type: ignore[attr-defined, no-redef]

        _state = "active"
    except ImportError as error:
        _state = f"not there: {error}"

STATE: Final = _state
"""For people: whether the kernels are active, and why not."""
