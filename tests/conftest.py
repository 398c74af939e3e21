"""What tests of every folder share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from .golden_job import Golden

settings.register_profile("clary", deadline=None)  # a busy machine is no failure
settings.load_profile("clary")

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Return the place of real data by its name; the test skips where this folder is absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"no {name} in ../shared/data beside the repository")
        return path

    return find


@pytest.fixture(scope="module")
def golden(request: pytest.FixtureRequest) -> Golden:
    """An algorithm and what its folder says."""
    return Golden(request.param)


@pytest.fixture(scope="module")
def artifact(golden: Golden, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The artifact of the small job."""
    return golden.artifact(tmp_path_factory.mktemp("ml"))
