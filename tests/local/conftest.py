"""What tests of the local platform share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .serving import Serving


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A platform that serves models."""
    platform = Serving(tmp_path_factory.mktemp("serving") / "state")
    yield platform
    platform.stop()
