"""What the documentation shows is what happens: its code blocks run, its generated pages are fresh."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from clary import __version__
from clary.algorithms.registry import ALGORITHMS
from clary.containers.registries import REGIONS, uri, versions
from clary.local.commands import variables
from clary.local.folder import Address, StateFolder

from .docker.conftest import docker
from .sdk.conftest import Sdk, environment, missing, sdk_of

__all__ = ["sdk_of"]

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs/notes").glob("*.md"))]
BLOCK = re.compile(
    r"^(?:<!-- (docker|sdk2|sdk3) -->\n)?```(bash|python)\n(.*?)^```$"
    r"(?:\n+(?:[^\n`]+:\n+)?```(?:text|json)\n(.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
"""A block that runs: what it needs, its language, its code, and the lines that the page says it prints."""
NUMBER = re.compile(r"-?\d+\.\d+")
TEST = re.compile(r"^def test_", re.MULTILINE)
PIP = re.compile(r"^pip install .*\n", re.MULTILINE)
LIMIT = 240
CLARY = """\
#!/bin/sh
if [ "$1" = up ]; then
    exec '{python}' -m clary "$@" --port 0 >>'{log}' 2>&1
fi
exec '{python}' -m clary "$@"
"""
"""The command as a reader has it, but for the port, which is a free one, and for what `clary up` says meanwhile."""

OFFLINE = {
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"),
    "NO_PROXY": "localhost,127.0.0.1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "1",
    "SAGEMAKER_SUPPRESS_V2_WARNING": "1",
}
"""Lets whoever asks AWS for anything fail at once: nobody listens there."""

Blocks = list[tuple[str, str, str]]


def blocks(page: Path, need: str) -> Blocks:
    """The blocks of a page that need the same, in order."""
    return [tuple(found[1:]) for found in BLOCK.findall(page.read_text()) if found[0] == need]


def having(*needs: str) -> Iterator[Any]:
    """Each page with blocks that need one of these, and which of these."""
    for page in PAGES:
        for need in needs:
            if page != README and blocks(page, need):  # which has a test of its own
                yield pytest.param(page, need, id=f"{page.stem}-{need}" if need else page.stem)


def run(found: Blocks, folder: Path, need: str = "") -> None:
    """Run blocks one after the other as a reader would, on a free port, in one folder; compare what they print.

    What is installed is what there is. A platform that a block has started is there for the others, and ends with them.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    python, words = Path(sys.executable), ["-W", "error"]
    state = StateFolder(folder / "state")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTEST_"))}
    env["CLARY_STATE"] = str(state.path)
    if need.startswith("sdk"):
        python, words = environment(int(need[3:])), []
        env |= {**OFFLINE, "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
        env.pop("PYTHONPATH", None)
    env["PATH"] = os.pathsep.join(map(str, (our_command(folder), Path(sys.executable).parent, env["PATH"])))
    try:
        for kind, code, shown in found:
            env |= {
                name: value.strip("'\"") for name, value in re.findall(r"^export (\w+)=(.*?)\s*(?:#.*)?$", code, re.M)
            }
            code = re.sub(r"(localhost:|-p |--port |PORT=|\"serving_port\": )8080\b", rf"\g<1>{port}", code)
            paths = {"PYTHONPATH": os.environ["PYTHONPATH"]} if kind == "bash" and "PYTHONPATH" in os.environ else {}
            if kind == "bash":
                command = ["bash", "-m", "-eu", "-c", PIP.sub("", code)]
            elif TEST.search(code):
                (folder / "test_it.py").write_text(code)
                command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
            else:
                command = [str(python), *words, "-c", code]
            printed = output(command, folder, env | paths)
            assert [line for line in shown.splitlines() if not prints(printed, line)] == [], f"{code}\n{printed}"
            if (address := state.read()) is not None:
                env |= variables(address)  # as eval has it in the shell of a reader
    finally:
        if (address := state.read()) is not None:
            end(address, state)


def our_command(folder: Path) -> Path:
    """A folder with `clary` alone."""
    commands = folder / "bin"
    commands.mkdir()
    (commands / "clary").write_text(CLARY.format(python=sys.executable, log=folder / "up.log"))
    (commands / "clary").chmod(0o755)
    return commands


def end(address: Address, state: StateFolder) -> None:
    """End a platform."""
    deadline = time.monotonic() + 30
    with suppress(ProcessLookupError):
        os.kill(address.process, signal.SIGTERM)
        while state.read() is not None and time.monotonic() < deadline:
            time.sleep(0.05)
        if state.read() is not None:
            os.kill(address.process, signal.SIGKILL)


def output(command: list[str], folder: Path, env: Mapping[str, str]) -> str:
    """What a command prints; it has to end well."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=LIMIT)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == 0, f"{command[-1]}\n{printed}"
    return printed


def prints(printed: str, line: str) -> bool:
    """Whether a line is there, but for the last digits of fractions; a server's log may follow it without a break."""
    wanted = [float(text) for text in NUMBER.findall(line)]
    pattern = f"({NUMBER.pattern})".join(map(re.escape, NUMBER.split(line)))
    return any(
        [*map(float, match.groups())] == pytest.approx(wanted, rel=1e-2) for match in re.finditer(pattern, printed)
    )


@pytest.fixture
def images() -> Iterator[None]:
    """The images under test by the names that the pages use; afterwards names are as they were."""
    tag = os.environ.get("CLARY_TEST_TAG")
    if tag is None:
        pytest.skip("CLARY_TEST_TAG names no images")
    ours = {
        f"clary{mark}{name}:{word}": f"clary-{name}:{tag}"
        for name in ("kmeans", "all")
        for mark, words in (("-", ("latest",)), ("/", (__version__, *versions(name))))
        for word in words
    }
    awss = [uri("kmeans", region, version) for region in REGIONS for version in versions("kmeans")]
    names = [*ours, *(name for name in awss if name)]
    before = identifiers(names)
    sources = identifiers(list(ours.values()))
    for name, source in ours.items():
        if source in sources:
            docker("tag", source, name)
    yield
    for name in identifiers(names):
        docker(*(("tag", before[name], name) if name in before else ("rmi", name)))


def identifiers(names: list[str]) -> dict[str, str]:
    """Name → identifier, of those images that are here."""
    listed = docker("image", "ls", "--no-trunc", "--format={{.Repository}}:{{.Tag}} {{.ID}}").stdout.splitlines()
    here = dict(line.split() for line in listed)
    return {name: here[name] for name in names if name in here}


@pytest.mark.parametrize(("page", "need"), list(having("")))
def test_code_blocks_run(page: Path, need: str, tmp_path: Path) -> None:
    """Every shell and Python block of the pages runs without an error, and prints what the page shows."""
    pytest.importorskip("sklearn", reason="clary datasets needs the extra 'data'")
    pytest.importorskip("moto", reason="clary up needs the extra 'platform'")
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")

    run(blocks(page, need), tmp_path)


@pytest.mark.docker
@pytest.mark.usefixtures("images")
@pytest.mark.parametrize(("page", "need"), list(having("docker")))
def test_docker_blocks_run(page: Path, need: str, tmp_path: Path) -> None:
    """Every block that needs Docker runs with the images under test."""
    pytest.importorskip("sklearn", reason="clary datasets needs the extra 'data'")

    run(blocks(page, need), tmp_path)


@pytest.mark.docker
@pytest.mark.usefixtures("images")
@pytest.mark.parametrize(("page", "need"), list(having("sdk2", "sdk3")))
def test_sdk_blocks_run(page: Path, need: str, sdk_of: Callable[[int], Sdk]) -> None:
    """Every block for a SageMaker SDK runs with that SDK and the images under test, without AWS."""
    pytest.importorskip("sklearn", reason="clary datasets needs the extra 'data'")
    version = int(need.removeprefix("sdk"))
    if reason := missing(version):
        pytest.skip(reason)
    folder = sdk_of(version).new_root()
    for name in ("home", "tmp"):
        (folder / name).mkdir()

    run(blocks(page, need), folder, need)


def test_readme(tmp_path: Path) -> None:
    """README's commands run, and the answer it shows is the one they give."""
    pytest.importorskip("sklearn", reason="clary datasets needs the extra 'data'")
    pytest.importorskip("moto", reason="clary up needs the extra 'platform'")
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")  # the reader's folder is a clone

    run(blocks(README, ""), tmp_path)


def test_generated_pages_are_fresh() -> None:
    """The pages under docs/reference are what docs/generate.py writes."""
    pytest.importorskip("moto", reason="the operations of clary up need the extra 'platform'")
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)

    for path, text in generate.pages():
        assert path.read_text() == text, f"run python docs/generate.py: {path.name} is old"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file that exists."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    base = page.parent.parent / "reference" if page.parent.name == "notes" else page.parent

    assert [link for link in links if not (base / link).exists()] == []


def test_every_page_is_found() -> None:
    """The site's navigation has every page, and README has every algorithm's."""
    pages = [str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")]
    listed = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    text = README.read_text()

    assert sorted(listed) == sorted(page for page in pages if not page.startswith("notes/"))
    assert [name for name in ALGORITHMS if f"(docs/reference/{name}.md)" not in text] == []


def test_readme_is_short() -> None:
    """README stays under 200 lines."""
    assert len(README.read_text().splitlines()) < 200


def test_the_quickstart_is_short() -> None:
    """README's first block leads from pip to a prediction, without an AWS account, in no more than twelve lines."""
    kind, code, shown = blocks(README, "")[0]
    lines = code.splitlines()

    assert kind == "bash"
    assert len(lines) <= 12
    assert lines[0].startswith("pip install ")
    assert "clary up" in code
    assert "closest_cluster" in shown
