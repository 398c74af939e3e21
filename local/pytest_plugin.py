"""A fixture for pytest: a local SageMaker for the code under test, which needs no change and no account."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

__all__ = ["LocalSageMaker", "sagemaker_local"]

_START: Final = 60  # seconds
_END: Final = 30
_STEP: Final = 0.02
_FOREIGN: Final = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
"""Variables that would lead the code under test somewhere else, or how they begin."""


@dataclass(frozen=True, slots=True)
class LocalSageMaker:
    """What a test is told of the platform.

    Parameters
    ----------
    url
        Its address, which the environment has as AWS_ENDPOINT_URL.
    folder
        Its state.
    """

    url: str
    folder: Path


@pytest.fixture(scope="session")
def _sagemaker_local_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """A platform of this process's own: with pytest-xdist, each worker has one."""
    from .commands import variables
    from .folder import StateFolder

    folder = tmp_path_factory.mktemp("sagemaker_local")
    with _process(folder) as process:
        deadline = time.monotonic() + _START
        while (address := StateFolder(folder).read()) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                said = (folder.parent / f"{folder.name}.log").read_text(errors="replace")
                pytest.fail(f"clary up does not start:\n{said}", pytrace=False)
            time.sleep(_STEP)
        yield folder, variables(address)


@pytest.fixture
def sagemaker_local(
    _sagemaker_local_platform: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> LocalSageMaker:
    """A local SageMaker that the environment leads boto3 and the SageMaker SDK to while the test runs.

    The platform is one for the whole session, so names of jobs and endpoints have to differ between tests.
    """
    folder, variables = _sagemaker_local_platform
    for name in list(os.environ):
        if name.startswith(_FOREIGN):
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if "boto3" in sys.modules:  # its default session may have seen another environment
        monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    return LocalSageMaker(variables["AWS_ENDPOINT_URL"], folder)


@contextmanager
def _process(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``clary up`` for as long as the block lasts; it ends with this process, however that ends."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "clary", "up", "--port", "0", "--state", str(folder)],
            env={**environment, "CLARY_PARENT": str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
