"""`clary doctor` on this machine, and on this machine with something amiss."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from clary.containers.doctor import Finding, aws, compose, disk, packages, port, shared_memory

Clary = Callable[..., subprocess.CompletedProcess[bytes]]


def found(clary: Clary, folder: Path) -> dict[str, dict[str, Any]]:
    """Every finding, by name."""
    done = clary("doctor", "--json", cwd=folder)
    assert done.returncode == 0, done.stdout
    return {finding["name"]: finding for finding in json.loads(done.stdout)}


def docker_that_says(folder: Path, text: str, code: int = 0) -> None:
    """Put a program called docker into the folder."""
    (folder / "said").write_text(text)
    program = folder / "docker"
    program.write_text(f"#!/bin/sh\ncat {folder}/said\nexit {code}\n")
    program.chmod(0o755)


# This machine


def test_every_finding_is_a_line(clary: Clary, tmp_path: Path) -> None:
    """A line says state, name and what was found; where something is amiss, the next one what puts it right."""
    done = clary("doctor", cwd=tmp_path)
    lines = done.stdout.decode().splitlines()
    states = [line.split()[0] for line in lines if not line.startswith(" ")]

    assert done.returncode == 0, done.stdout
    assert set(states) <= {"ok", "note"}
    assert all(line.split()[0] == "fix:" for line in lines if line.startswith(" "))
    assert sum(line.startswith(" ") for line in lines) == states.count("note")


def test_what_tests_need_is_there(clary: Clary, tmp_path: Path) -> None:
    """The packages that these tests run with are found, with their versions and the native code behind them."""
    findings = found(clary, tmp_path)

    assert findings["python"]["found"].startswith(".".join(map(str, sys.version_info[:3])))
    for name in ("numpy", "protobuf", "flask", "gunicorn", "blas", "temporary", "folder"):
        assert findings[name]["state"] == "ok", findings[name]
    assert "threads" in findings["blas"]["found"]


def test_no_import_of_numpy_is_needed_to_say_so(tmp_path: Path) -> None:
    """Where numpy cannot be imported that is a finding, and the exit code tells."""
    (tmp_path / "numpy.py").write_text("raise ImportError('no such thing')")
    words = [sys.executable, "-m", "clary", "doctor", "--json"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(words, env=environment, capture_output=True, check=False, timeout=50)
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)}

    assert done.returncode == 2, done.stderr
    assert findings["blas"] == {
        "name": "blas",
        "state": "wrong",
        "found": "numpy cannot be imported: no such thing",
        "fix": "pip install --force-reinstall numpy",
    }


# Packages


def test_a_package_that_is_missing() -> None:
    """One that is needed is wrong, one of an extra is a note with the extra's name."""
    needed, optional = packages(["no-such-thing>=1.0", 'no-other-thing>=2; extra == "data"'])

    assert (needed.state, needed.fix) == ("wrong", "pip install 'no-such-thing>=1.0'")
    assert (optional.state, optional.fix) == ("note", "pip install 'clary[data]'")


def test_a_package_that_is_too_old() -> None:
    """Versions are compared number by number."""
    old, new = packages(["numpy>=999.0", "numpy>=1.9"])

    assert old.state == "wrong"
    assert "too old: 999.0 or newer is needed" in old.found
    assert new.state == "ok"


# Docker


def test_no_docker(clary: Clary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Docker is well: only images are out of reach."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert found(clary, tmp_path)["docker command"]["state"] == "note"


def test_no_engine(clary: Clary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that does not answer is said to be so, and what starts it."""
    client = {"Version": "28.0", "Plugins": [{"Name": "compose", "Version": "v2.30.1"}]}
    docker_that_says(tmp_path, json.dumps({"ServerErrors": ["Cannot connect"], "ClientInfo": client}), 1)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    findings = found(clary, tmp_path)

    assert findings["docker command"]["found"].endswith("docker 28.0")
    assert (findings["engine"]["state"], findings["engine"]["found"]) == ("note", "Cannot connect")
    assert "start docker" in findings["engine"]["fix"]
    assert findings["compose"]["found"] == "docker compose v2.30.1"


def test_a_docker_that_talks_nonsense(clary: Clary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be understood is a note, not a crash."""
    docker_that_says(tmp_path, "docker: not today", 1)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    assert found(clary, tmp_path)["docker command"]["state"] == "note"


@pytest.mark.parametrize(
    ("plugin", "command", "sdk", "state"),
    [
        ("v2.39.1", None, None, "ok"),
        ("2.10.2", None, "2.257.7", "ok"),
        ("v5.0.1", None, None, "note"),
        ("v5.0.1", None, "2.257.7", "note"),
        ("v5.0.1", None, "2.258.0", "ok"),
        ("v5.0.1", None, "3.1.0", "ok"),
        ("v5.0.1", "/usr/bin/docker-compose", "2.257.7", "ok"),
        (None, "/usr/bin/docker-compose", None, "ok"),
        (None, None, None, "note"),
    ],
)
def test_compose(plugin: str | None, command: str | None, sdk: str | None, state: str) -> None:
    """Version 2 is known to every SDK, a docker-compose of any version too, version 5 only to a new one."""
    finding = compose(plugin, command, sdk)

    assert finding.state == state
    assert bool(finding.fix) == (state == "note")


# The machine


def test_port() -> None:
    """A port that somebody listens on is not free; when he has ended it is, unless another was quicker."""
    free = []
    for _ in range(5):
        with socket.create_server(("", 0)) as server:
            number = server.getsockname()[1]
            taken = port(number)
        free.append(port(number).state)
        assert taken.state == "note"
        assert str(number) in taken.fix
    assert "ok" in free


def test_disk(tmp_path: Path) -> None:
    """A folder that cannot be written to is told, where it has to be."""
    assert disk("proc", Path("/proc/sys"), "", writes=True).found == "/proc/sys cannot be written to"
    assert disk("here", tmp_path, "").found.startswith(f"{tmp_path}: ")


def test_shared_memory(tmp_path: Path) -> None:
    """Without shared memory temporary files do."""
    assert shared_memory(tmp_path / "none").state == "ok"


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, ""),
        ({"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}, ""),
        ({"AWS_PROFILE": "work"}, "AWS_PROFILE"),
        ({"AWS_PROFILE": ""}, ""),
        ({"AWS_ACCESS_KEY_ID": "AKIA" + "IOSFODNN7EXAMPLE"}, "AWS_ACCESS_KEY_ID"),
    ],
)
def test_aws(environment: Mapping[str, str], told: str) -> None:
    """What leads to an account is told by its name, never by its value; what tests use is not."""
    finding = aws(environment)

    assert finding.state == ("note" if told else "ok")
    assert told in finding.found
    assert not any(value in f"{finding.found} {finding.fix}" for value in environment.values() if len(value) > 3)


def test_a_finding_needs_no_fix() -> None:
    """What is well has none."""
    assert Finding("thing", "ok", "well").fix == ""
