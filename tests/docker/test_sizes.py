"""No image is larger than it has to be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clary.algorithms.registry import ALGORITHMS

from .conftest import docker

pytestmark = pytest.mark.docker

LIMITS = {**dict.fromkeys(ALGORITHMS, 120), "xgboost": 260, "all": 260}
"""Megabytes that an image may add to its base."""


def added(image: str) -> float:
    """Megabytes of the layers above the base, of which the one with clary is the lowest.

    The history has them all, whether the base image itself is here or only in a builder's cache.
    """
    history = docker("history", "--no-trunc", "--human=false", "--format={{.Size}} {{.CreatedBy}}", image)
    assert history.returncode == 0, history.stderr
    total = 0
    for line in history.stdout.splitlines():
        size, _, command = line.partition(" ")
        total += int(size)
        if "COPY" in command and "/opt/clary" in command:
            return total / 1e6
    raise AssertionError(f"no layer of {image} has clary: {history.stdout}")


@pytest.mark.parametrize("name", LIMITS)
def test_size(image_of: Callable[[str], str], name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What an image adds to its base is within the limit; CI's log has the number."""
    size = added(image_of(name))
    with capsys.disabled():
        print(f"\n{image_of(name)}: {size:.0f} MB more than its base, of {LIMITS[name]} MB allowed")
    assert 40 < size <= LIMITS[name]
