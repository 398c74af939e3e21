"""AWS's names of images, and `clary images` with a real engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clary import __version__
from clary.algorithms.registry import ALGORITHMS
from clary.containers.images import local_images
from clary.containers.registries import REGIONS, uri, versions

Clary = Callable[..., subprocess.CompletedProcess[bytes]]

ROOT = Path(__file__).parents[2]

SDKS = {"2": "sagemaker.image_uris", "3": "sagemaker.core.image_uris"}
"""Version of the SageMaker SDK → its module that knows the names."""

ASK_SDK = """
import functools, importlib, json, sys
sdk = importlib.import_module(sys.argv[1])
# it would read all of botocore's endpoints for every name
sdk.utils._botocore_resolver = functools.cache(sdk.utils._botocore_resolver)
found = {}
for algorithm in sys.argv[2:]:
    config = sdk.config_for_framework(algorithm)
    config = config.get("training", config)
    words = {word: word for word in config["versions"]} | config.get("version_aliases", {})
    found[algorithm] = {
        word: {region: sdk.retrieve(algorithm, region, word) for region in config["versions"][version]["registries"]}
        for word, version in words.items()
    }
print(json.dumps(found))
"""

REMOTE = "us-isof-south-1"
"""A region that nobody uses by chance."""


def docker(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a docker command to its end."""
    return subprocess.run(["docker", *words], capture_output=True, text=True, timeout=50, check=False)


# Names


@pytest.mark.parametrize(
    ("algorithm", "region", "version", "expected"),
    [
        ("kmeans", "us-east-1", "1", "382416733822.dkr.ecr.us-east-1.amazonaws.com/kmeans:1"),
        ("linear-learner", "eu-central-1", "1", "664544806723.dkr.ecr.eu-central-1.amazonaws.com/linear-learner:1"),
        ("pca", "cn-north-1", "1", "390948362332.dkr.ecr.cn-north-1.amazonaws.com.cn/pca:1"),
        ("xgboost", "us-west-2", "1", "433757028032.dkr.ecr.us-west-2.amazonaws.com/xgboost:1"),
        ("xgboost", "us-west-2", "latest", "433757028032.dkr.ecr.us-west-2.amazonaws.com/xgboost:latest"),
        ("xgboost", "us-west-2", "3.0-5", "246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-xgboost:3.0-5"),
        (
            "xgboost",
            "us-west-2",
            "0.90-2",
            "246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-xgboost:0.90-2-cpu-py3",
        ),
        ("randomcutforest", "us-iso-east-1", "1", "490574956308.dkr.ecr.us-iso-east-1.c2s.ic.gov/randomcutforest:1"),
        ("xgboost", "il-central-1", "1", None),
    ],
)
def test_uri(algorithm: str, region: str, version: str, expected: str | None) -> None:
    """The names are those that the SageMaker SDK gives; the first XGBoost is not everywhere."""
    assert uri(algorithm, region, version) == expected


def test_table() -> None:
    """Every region has the algorithms that AWS wrote, and XGBoost in its newest version."""
    assert len(REGIONS) == 37
    for region in REGIONS:
        assert all(uri(name, region, versions(name)[0]) for name in ALGORITHMS)


@pytest.mark.parametrize("sdk", SDKS)
def test_sdk(sdk: str) -> None:
    """The real SDK gives the same name for every algorithm, version and region that it knows."""
    python = ROOT / f".venv-sdk{sdk}" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"the SageMaker SDK v{sdk} is not installed: .ci/sdk does it")
    done = subprocess.run(
        [python, "-W", "ignore", "-c", ASK_SDK, SDKS[sdk], *ALGORITHMS], capture_output=True, check=True, timeout=50
    )
    known = json.loads(done.stdout.splitlines()[-1])

    assert set(known) == set(ALGORITHMS)
    for algorithm, names in known.items():
        assert set(names) <= set(versions(algorithm))
        for version, expected in names.items():
            ours = {region: name for region in REGIONS if (name := uri(algorithm, region, version))}
            assert ours == expected


# Commands


@pytest.fixture(scope="module")
def kmeans() -> Iterator[str]:
    """The ID of the local image of k-means that the command would choose."""
    if shutil.which("docker") is None or docker("info").returncode != 0:
        pytest.skip("no Docker engine answers `docker info`")
    names = [f"clary/kmeans:{__version__}", "clary/kmeans:latest", "clary-kmeans:latest"]
    source = f"clary-kmeans:{os.environ.get('CLARY_TEST_TAG', 'test')}"
    here = [name for name in names if docker("image", "inspect", name).returncode == 0]
    if not here:
        if docker("tag", source, names[-1]).returncode != 0:
            pytest.skip(f"no image of k-means is here: neither {', '.join(names)} nor {source}")
        here = names[-1:]
        source = ""
    before = {image.id: image.tags for image in local_images()}
    yield docker("image", "inspect", "--format={{.Id}}", here[0]).stdout.strip()
    new = [
        tag for image in local_images() for tag in image.tags if tag not in before.get(image.id, ()) and REMOTE in tag
    ]
    docker("image", "rm", *new, *([] if source else here))


@pytest.mark.docker
@pytest.mark.parametrize("way", ["flag", "AWS_REGION", "AWS_DEFAULT_REGION"])
def test_tag_aws(clary: Clary, kmeans: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """The image has AWS's names in the region that was said, one a line; doing it twice changes nothing."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    words = ["--region", REMOTE] if way == "flag" else []
    if not words:
        monkeypatch.setenv(way, REMOTE)
    for _ in range(2):
        done = clary("images", "tag-aws", "--algorithm", "kmeans", *words, cwd=tmp_path)

        assert done.returncode == 0, done.stderr
        assert done.stdout.decode().split() == [uri("kmeans", REMOTE, word) for word in ("1", "latest")]
        for name in done.stdout.decode().split():
            assert docker("image", "inspect", "--format={{.Id}}", name).stdout.strip() == kmeans


@pytest.mark.docker
def test_list(clary: Clary, kmeans: str, tmp_path: Path) -> None:
    """Elsewhere than on a terminal there is one line a tag: name, ID, bytes and date."""
    done = clary("images", "list", cwd=tmp_path)
    rows = [line.split("\t") for line in done.stdout.decode().splitlines()]

    assert done.returncode == 0, done.stderr
    assert [len(row) for row in rows] == [4] * len(rows)
    assert kmeans in {row[1] for row in rows}
    assert all(int(row[2]) > 10**8 for row in rows)


@pytest.mark.docker
@pytest.mark.usefixtures("kmeans")
def test_list_on_a_terminal(on_terminal: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    """A person sees a table, a row for each repository."""
    code, text = on_terminal("images", "list", cwd=tmp_path)

    assert code == 0
    assert text.split("\n")[0].split() == ["image", "tags", "size", "created", "(UTC)"]
    assert "kmeans" in text


def test_unknown_region(clary: Clary, tmp_path: Path) -> None:
    """A region that AWS has no image in is refused with those where it has."""
    done = clary("images", "tag-aws", "--region", "mars-north-1", cwd=tmp_path)

    assert done.returncode == 2
    assert b"AWS has no image of these algorithms in 'mars-north-1': choose from af-south-1, " in done.stderr


def test_unknown_algorithm(clary: Clary, tmp_path: Path) -> None:
    """An algorithm that clary does not have is refused with those that it has."""
    done = clary("images", "tag-aws", "--algorithm", "k-nn", cwd=tmp_path)

    assert done.returncode == 2
    assert b"unknown algorithm 'k-nn': choose from kmeans" in done.stderr


def test_no_engine(clary: Clary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an engine, or without the command, one sentence says so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    done = clary("images", "list", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (3, b"clary: the command docker is not here: see  clary doctor\n")

    (tmp_path / "docker").write_text("#!/bin/sh\necho Cannot connect >&2\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    done = clary("images", "list", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr == b"clary: docker image ls failed: Cannot connect (see  clary doctor)\n"


def test_no_image(clary: Clary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an image is missing the message says which, and what builds it."""
    (tmp_path / "docker").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    done = clary("images", "tag-aws", "--algorithm", "pca", cwd=tmp_path)

    assert done.returncode == 2
    assert b"there is no local image of pca: run  make images  in clary's source tree" in done.stderr
