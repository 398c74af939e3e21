"""The real SageMaker SDKs, which `.ci/sdk` sets up in environments of their own, over the images.

Each script of a user runs in a process with a home of its own, dummy credentials, and a proxy where nobody listens:
whoever asks AWS for anything gets an error at once. The SDK v2 does, to count its users, and passes over the error.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from ..docker.conftest import buildable, docker, image_of
from ..golden_job import Golden

__all__ = ["image_of"]

ROOT = Path(__file__).parents[2]
NOBODY = "http://127.0.0.1:9"
NETWORK = "sagemaker-local"
"""What the SDKs call the network of their containers."""

FOLDER = "com.docker.compose.project.working_dir"
"""The label that tells whose container it is."""


@dataclass(frozen=True)
class Outcome:
    """What came of a script."""

    root: Path
    log: str
    answer: dict[str, Any]

    @property
    def output(self) -> Path:
        """Where the script had its results put."""
        return self.root / "output"

    @property
    def container_root(self) -> Path:
        """Where the SDK had the folders of its containers."""
        return self.root / "containers"

    @cached_property
    def model(self) -> dict[str, bytes]:
        """The files of the model."""
        return self.unpacked("model.tar.gz")

    def unpacked(self, name: str) -> dict[str, bytes]:
        """The files of an archive that the SDK has made."""
        [path] = [*self.output.glob(name), *self.container_root.glob(f"compressed_artifacts/{name}")]
        with tarfile.open(path) as archive:
            files = [(member.name, archive.extractfile(member)) for member in archive if member.isfile()]
            return {name: file.read() for name, file in files if file is not None}

    def lines(self, words: str) -> list[str]:
        """Lines of the containers with these words, less the name of the container before them."""
        return [line.split("|\x1b[0m ", 1)[-1] for line in self.log.splitlines() if words in line]


@dataclass(frozen=True)
class Sdk:
    """A version of the SDK."""

    version: int
    new_root: Callable[[], Path]

    def run(self, **spec: Any) -> Outcome:
        """Run the script of this version to its end."""
        root = self.new_root()
        for name in ("home", "tmp", "containers", "output"):
            (root / name).mkdir()
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(root / "home"),
            "TMPDIR": str(root / "tmp"),
            "AWS_ACCESS_KEY_ID": "dummy",
            "AWS_SECRET_ACCESS_KEY": "dummy",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
            "HTTP_PROXY": NOBODY,
            "HTTPS_PROXY": NOBODY,
            "NO_PROXY": "localhost,127.0.0.1",
            "SAGEMAKER_SUPPRESS_V2_WARNING": "1",
            **{name: value for name, value in os.environ.items() if name.startswith("DOCKER_")},
        }
        places = {
            "root": str(root),
            "container_root": str(root / "containers"),
            "output": str(root / "output"),
            "port": free_port(),
        }
        (root / "spec.json").write_text(json.dumps({**places, **spec}))
        script = Path(__file__).with_name(f"v{self.version}_local.py")
        command = [environment(self.version), script, root / "spec.json", root / "answer.json"]
        got = subprocess.run(
            command, env=env, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240, check=False
        )
        log = got.stdout.decode(errors="replace")
        assert got.returncode == 0, log
        return Outcome(root, log, json.loads((root / "answer.json").read_text()))


def environment(version: int) -> Path:
    """The Python of an SDK."""
    return ROOT / f".venv-sdk{version}" / "bin" / "python"


def free_port() -> int:
    """A port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def missing(version: int) -> str:
    """Why an SDK cannot run here, or nothing."""
    if reason := buildable():
        return reason
    module = {2: "sagemaker.local", 3: "sagemaker.train.model_trainer"}[version]
    if not environment(version).exists():
        return f"the SageMaker SDK v{version} is not installed: .ci/sdk does it"
    if subprocess.run([environment(version), "-c", f"import {module}"], capture_output=True, check=False).returncode:
        return f"the SageMaker SDK v{version} in .venv-sdk{version} cannot be imported: remove the folder, run .ci/sdk"
    if "v2" not in docker("compose", "version").stdout and shutil.which("docker-compose") is None:
        return "there is no Docker Compose that the SageMaker SDK takes: .ci/sdk installs it"
    made = docker("network", "create", "clary-sdk-probe")
    docker("network", "rm", "clary-sdk-probe")
    return f"the Docker engine cannot make networks: {made.stderr}" if made.returncode else ""


@pytest.fixture(scope="session")
def sdk_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Sdk]]:
    """Return a function that gives a version of the SDK; what its containers leave is removed at the end."""
    roots: list[Path] = []
    ours = docker("network", "inspect", NETWORK).returncode != 0

    def new_root() -> Path:
        roots.append(tmp_path_factory.mktemp("sdk"))
        return roots[-1]

    yield lambda version: Sdk(version, new_root)
    listed = docker("ps", "--all", "--format", f'{{{{.ID}}}} {{{{.Label "{FOLDER}"}}}}').stdout.splitlines()
    rows = [line.partition(" ") for line in listed]
    left = [name for name, _, folder in rows if any(Path(folder).is_relative_to(root) for root in roots)]
    if left:
        docker("rm", "--force", "--volumes", *left)
    if ours:
        docker("network", "rm", NETWORK)


@pytest.fixture(scope="session")
def v2(sdk_of: Callable[[int], Sdk]) -> Sdk:
    """The SDK v2; without it the test skips."""
    if reason := missing(2):
        pytest.skip(reason)
    return sdk_of(2)


@pytest.fixture(scope="session")
def v3(sdk_of: Callable[[int], Sdk]) -> Sdk:
    """The SDK v3; without it the test skips."""
    if reason := missing(3):
        pytest.skip(reason)
    return sdk_of(3)


def training(golden: Golden, folder: Path, form: str, *, content_type: str | None = "") -> dict[str, Any]:
    """The part of a spec that trains the small job of an algorithm, whose data comes into a folder."""
    types = {"recordio": "application/x-recordio-protobuf", "csv": "text/csv", "libsvm": "text/libsvm"}
    channels = {}
    for name in golden.channels:
        (folder / name).mkdir(parents=True)
        (folder / name / "data").write_bytes(libsvm(golden) if form == "libsvm" else golden.encoded(form, name))
        channels[name] = {
            "path": str(folder / name),
            "content_type": types[form] if content_type == "" else content_type,
        }
    return {
        "instances": 1,
        "hyperparameters": golden.hyperparameters,
        "channels": channels,
        "requests": [],
        "transforms": [],
    }


def libsvm(golden: Golden) -> bytes:
    """The rows as libsvm, whose columns XGBoost counts from 0."""
    labels = golden.labels("train", len(golden.rows))
    assert labels is not None
    lines = io.StringIO()
    for label, row in zip(labels.tolist(), golden.rows.tolist(), strict=True):
        cells = [f"{index}:{value}" for index, value in enumerate(row) if value == value and value != 0]
        lines.write(" ".join([str(label), *cells]) + "\n")
    return lines.getvalue().encode()
