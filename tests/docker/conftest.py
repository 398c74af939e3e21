"""The images, run by a Docker engine over /opt/ml trees as SageMaker lays them out. Nothing here is simulated."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from clary.recordio import write_numpy_to_dense_tensor

ROOT = Path(__file__).parents[2]
HYPERPARAMETERS = {"k": "10", "feature_dim": "64", "epochs": "2"}

# Asks the server from inside its container: needs neither a bridge nor a free port of the host.
ASK = """
import http.client, sys
port, method, path, media_type, body = sys.argv[1:]
connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=20)
connection.request(method, path, body, {"Content-Type": media_type, "Accept": "application/json"})
response = connection.getresponse()
print(response.status, response.read().decode(), end="")
"""


def docker(*words: str | Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a docker command to its end, whatever that is."""
    return subprocess.run(["docker", *map(str, words)], capture_output=True, text=True, timeout=timeout, check=False)


def inspect(name: str, template: str, kind: str = "container") -> str:
    """Return what the engine knows of a container or an image."""
    found = docker(kind, "inspect", "--format", template, name)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


@dataclass(frozen=True)
class Container:
    """A container that was started in the background."""

    name: str

    @property
    def log(self) -> str:
        """What it has printed so far, on either stream."""
        got = docker("logs", self.name)
        return got.stdout + got.stderr

    @property
    def exit_code(self) -> int:
        """The exit code of its process 1."""
        return int(inspect(self.name, "{{.State.ExitCode}}"))

    def wait(self, seconds: float = 120) -> int:
        """Wait for its end; return its exit code."""
        assert docker("wait", self.name, timeout=seconds).returncode == 0
        return self.exit_code

    def stop(self, grace: int = 30) -> float:
        """Stop it as the platform does, SIGTERM and after the grace SIGKILL; return the seconds this took."""
        start = time.monotonic()
        assert docker("stop", "--time", str(grace), self.name, timeout=grace + 30).returncode == 0
        return time.monotonic() - start

    def ask(self, method: str, path: str, body: str = "", media_type: str = "", port: int = 8080) -> tuple[int, str]:
        """Send one HTTP request; return status and body, or status 0 when nobody listens."""
        got = docker("exec", self.name, "python", "-c", ASK, str(port), method, path, media_type, body)
        status, _, answer = got.stdout.partition(" ")
        return int(status or 0), answer

    def await_ping(self, port: int = 8080, seconds: float = 60) -> None:
        """Wait until it is healthy."""
        deadline = time.monotonic() + seconds
        while self.ask("GET", "/ping", port=port)[0] != 200:
            assert inspect(self.name, "{{.State.Running}}") == "true", self.log
            assert time.monotonic() < deadline, self.log


@dataclass(frozen=True)
class Tree:
    """A folder that becomes /opt/ml."""

    root: Path

    @property
    def mount(self) -> str:
        """The option of `docker run` that puts it in place."""
        return f"--volume={self.root}:/opt/ml"

    @property
    def artifact(self) -> Path:
        """The trained model."""
        return self.root / "model" / "model_algo-1"

    @property
    def failure(self) -> str:
        """The reason a job left behind, if any."""
        path = self.root / "output" / "failure"
        return path.read_text() if path.exists() else ""

    def configure(self, mode: str, hyperparameters: dict[str, str]) -> None:
        """Write the configuration of a job with one channel, `train`."""
        channel = {
            "TrainingInputMode": mode,
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "None",
            "ContentType": "application/x-recordio-protobuf",
        }
        hosts = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"}
        files = {"hyperparameters": hyperparameters, "inputdataconfig": {"train": channel}, "resourceconfig": hosts}
        for name, content in files.items():
            (self.root / "input" / "config" / f"{name}.json").write_text(json.dumps(content))


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's handwritten digits; without scikit-learn, as many points around ten centres."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        rng = np.random.default_rng(0)
        labels = rng.integers(10, size=1797)
        return rng.integers(17, size=(10, 64))[labels] + rng.normal(size=(1797, 64)), labels
    features, labels = load_digits(return_X_y=True)
    return np.asarray(features), np.asarray(labels)


def buildable() -> str:
    """Return why the image cannot be had here, or nothing."""
    if shutil.which("docker") is None or docker("info").returncode != 0:
        return "no Docker engine answers `docker info`"
    if "CLARY_TEST_TAG" in os.environ:
        return ""
    default = next(line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("ARG BASE_IMAGE"))
    base = os.environ.get("BASE_IMAGE", default.partition("=")[2])
    if docker("image", "inspect", base).returncode == 0 or docker("pull", "--quiet", base, timeout=300).returncode == 0:
        return ""
    return f"the base image {base} cannot be pulled; name another in BASE_IMAGE, or the tag of images in CLARY_TEST_TAG"


@pytest.fixture(scope="session")
def image_of() -> Callable[[str], str]:
    """Return a function that gives an algorithm's image under test: tagged CLARY_TEST_TAG, or built now."""
    if reason := buildable():
        pytest.skip(reason)

    @cache
    def find(algorithm: str) -> str:
        if tag := os.environ.get("CLARY_TEST_TAG"):
            return f"clary-{algorithm}:{tag}"
        name = f"clary-{algorithm}:test"
        words = ["make", "image", f"ALGORITHM={algorithm}", f"IMAGE={name}"]
        made = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
        assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
        return name

    return find


@pytest.fixture(scope="session")
def image(image_of: Callable[[str], str]) -> str:
    """Return the image of k-means."""
    return image_of("kmeans")


@pytest.fixture(scope="session")
def start(image_of: Callable[[str], str]) -> Iterator[Callable[..., Container]]:
    """Return a function that starts an image: options of `docker run`, then the words for the image."""
    names: list[str] = []

    def run(*options: str, words: tuple[str, ...] = (), algorithm: str = "kmeans") -> Container:
        got = docker("run", "--detach", *options, image_of(algorithm), *words)
        assert got.returncode == 0, got.stderr
        names.append(got.stdout.strip())
        return Container(names[-1])

    yield run
    if names:
        docker("rm", "--force", "--volumes", *names, timeout=120)


@pytest.fixture(scope="session")
def new_tree(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Tree]]:
    """Return a function that makes an empty /opt/ml, writable for every user."""
    roots: list[Path] = []

    def make() -> Tree:
        root = tmp_path_factory.mktemp("ml")
        roots.append(root)
        for name in ("input/config", "input/data", "model", "output"):
            (root / name).mkdir(parents=True)
        for folder in (root, root / "model", root / "output"):
            folder.chmod(0o777)
        return Tree(root)

    yield make
    # What root wrote inside a container only root may remove; this is how the SageMaker SDK v3 tidies up.
    for root in roots:
        docker("run", "--rm", f"--volume={root}:/delete", image, "chmod", "-R", "777", "/delete")


@pytest.fixture
def tree(new_tree: Callable[[], Tree]) -> Tree:
    """Return an empty /opt/ml."""
    return new_tree()


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a RecordIO file of handwritten digits."""
    path = tmp_path_factory.mktemp("data") / "digits.rec"
    features, labels = digits()
    with path.open("wb") as file:
        write_numpy_to_dense_tensor(file, features.astype("float32"), labels.astype("float32"))
    return path


@pytest.fixture(scope="session")
def trained(start: Callable[..., Container], new_tree: Callable[[], Tree], records: Path) -> Tree:
    """Return the tree of a finished training job on the digits."""
    tree = new_tree()
    tree.configure("File", HYPERPARAMETERS)
    channel = tree.root / "input" / "data" / "train"
    channel.mkdir()
    shutil.copy(records, channel)
    container = start(tree.mount, words=("train",))
    assert container.wait() == 0, container.log
    return tree
