"""What the documentation shows is what happens: its code blocks run, its generated pages are fresh."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clary.algorithms.registry import ALGORITHMS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs/notes").glob("*.md"))]
BLOCK = re.compile(r"^(<!-- docker -->\n)?```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LIMIT = 120


def blocks(docker: bool) -> Iterator[Any]:
    """Each page that has blocks of the kind, with all of them in order."""
    for page in PAGES:
        found = [(kind, code) for mark, kind, code in BLOCK.findall(page.read_text()) if bool(mark) == docker]
        if found and page != README:  # it has a test of its own
            yield pytest.param(found, id=page.stem)


def run(found: list[tuple[str, str]], folder: Path) -> str:
    """Run blocks one after the other as a reader would, on a free port, in one folder; give what they print."""
    printed = ""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for kind, code in found:
        words = [sys.executable, "-W", "error", "-c"] if kind == "python" else ["bash", "-m", "-eu", "-c"]
        process = subprocess.Popen(
            [
                *words,
                code.replace("8080:8080", f"{port}:8080")
                .replace("localhost:8080", f"localhost:{port}")
                .replace("--port 8080", f"--port {port}"),
            ],
            cwd=folder,
            env={**os.environ, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=LIMIT)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        assert process.returncode == 0, f"{code}\n{output}"
        printed += output
    return printed


@pytest.mark.parametrize("found", list(blocks(docker=False)))
def test_code_blocks_run(found: list[tuple[str, str]], tmp_path: Path) -> None:
    """Every shell and Python block of the pages runs without an error."""
    pytest.importorskip("sklearn", reason="clary datasets needs the extra 'data'")
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")

    run(found, tmp_path)


@pytest.mark.docker
@pytest.mark.parametrize("found", list(blocks(docker=True)))
def test_docker_blocks_run(found: list[tuple[str, str]], tmp_path: Path) -> None:
    """Every shell block that needs Docker runs with the image under test."""
    pytest.importorskip("sklearn", reason="clary datasets needs the extra 'data'")
    tag = os.environ.get("CLARY_TEST_TAG")
    if tag is None:
        pytest.skip("CLARY_TEST_TAG names no images")
    subprocess.run(["docker", "tag", f"clary-kmeans:{tag}", "clary-kmeans"], check=True, timeout=LIMIT)

    run(found, tmp_path)


def test_readme(tmp_path: Path) -> None:
    """README's commands run, and the answer it shows is the one they give."""
    pytest.importorskip("sklearn", reason="clary datasets needs the extra 'data'")
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    page = README.read_text()
    [shown] = re.findall(r"^```json\n(.*?)\n```$", page, re.MULTILINE)
    printed = run([(kind, code) for _, kind, code in BLOCK.findall(page)], tmp_path)
    given, _ = json.JSONDecoder().raw_decode(printed[printed.index('{"predictions"') :])

    for one, other in zip(json.loads(shown)["predictions"], given["predictions"], strict=True):
        assert one == pytest.approx(other, rel=1e-3)


def test_generated_pages_are_fresh() -> None:
    """The pages under docs/reference are what docs/generate.py writes."""
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
