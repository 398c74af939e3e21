"""Where a benchmark runs: the machine, its load, and the versions of what is measured."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np

import clary
from clary import native

__all__ = ["load", "surroundings"]

_ROOT: Final = Path(__file__).parents[1]
_PEERS: Final = (
    ("orjson", "orjson"),
    ("pandas", "pandas"),
    ("scikit-learn", "scikit-learn"),
    ("protobuf", "protobuf"),
    ("rrcf", "rrcf"),
    ("xlearn", "xlearn"),
    ("xgboost", "xgboost-cpu"),
    ("xgboost", "xgboost"),
    ("gunicorn", "gunicorn"),
    ("Flask", "flask"),
)
"""A peer, and a package that has it."""


def load() -> str:
    """How busy the machine was in the last minute."""
    return f"{os.getloadavg()[0]:.2f}"


def surroundings(load_before: str) -> Mapping[str, str]:
    """What the page has to say of them, after the measurement."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "Date": time.strftime("%Y-%m-%d", time.gmtime()),
        "clary": _version(),
        "Kernels": native.STATE,
        "Machine": f"{_processor()}, {cores} cores, {platform.system()} on {platform.machine()}",
        "Load": f"{load_before} at the start, {load()} at the end",
        "Python": f"{platform.python_version()}, NumPy {np.__version__}, {_blas()}",
        "Peers": ", ".join(_peers()),
    }


def _version() -> str:
    """The version, and the state of the tree where git knows it."""
    words = ["git", "describe", "--always", "--dirty", "--tags"]
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(words, cwd=_ROOT, capture_output=True, check=True, text=True, timeout=10)
        return f"{clary.__version__} ({done.stdout.strip()})"
    return clary.__version__


def _processor() -> str:
    """Its name; on some machines there is none."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or "unknown processor"


def _blas() -> str:
    """The library behind NumPy's products."""
    built: Any = np.show_config(mode="dicts")
    found = built["Build Dependencies"]["blas"]
    return f"{found['name']} {found['version']}"


def _peers() -> list[str]:
    """Names and versions; those that are missing, too."""
    found: dict[str, str] = {}
    for peer, package in _PEERS:
        with suppress(metadata.PackageNotFoundError):
            found[peer] = metadata.version(package)
    return [f"{peer} {found.get(peer, '(not installed)')}" for peer in dict.fromkeys(peer for peer, _ in _PEERS)]
