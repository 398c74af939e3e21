"""What tests of the local platform share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clary.local.folder import StateFolder
from clary.local.logs import Logs
from clary.local.platform import Platform
from clary.local.processes import Processes
from clary.local.store import Store

from . import foreign
from .serving import Serving


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A platform that serves models."""
    platform = Serving(tmp_path_factory.mktemp("serving") / "state")
    yield platform
    platform.stop()


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """One without a port, in this process, which soon gives up waiting for another writer; it has no S3."""
    monkeypatch.setattr("clary.local.store._WAIT", 0.2)
    monkeypatch.setattr(foreign, "FOLDER", tmp_path)
    folder = StateFolder(tmp_path / "state")
    folder.path.mkdir()
    made = Platform(
        folder=folder,
        store=Store(folder.database),
        logs=Logs(folder.path),
        s3=None,
        executor=Processes(),
        docker=foreign.Scripts(folder.path),
        region="us-east-1",
    )
    yield made
    made.close()
