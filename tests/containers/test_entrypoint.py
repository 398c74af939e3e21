"""What a container does with the words it is started with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from clary import cli
from clary.containers.entrypoint import COMMANDS


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The entry point as a process."""
    command = [sys.executable, "-m", "clary.containers.entrypoint", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_another_program_takes_the_place_of_the_process() -> None:
    """The process id stays the same, so signals reach the program."""
    with subprocess.Popen(
        [sys.executable, "-m", "clary.containers.entrypoint", "sh", "-c", "echo $$"], stdout=subprocess.PIPE, text=True
    ) as process:
        out, _ = process.communicate(timeout=60)

    assert int(out) == process.pid


def test_a_program_that_is_not_there_gives_127() -> None:
    """As in a shell, with a sentence."""
    done = run("no-such-program", PATH="/bin")

    assert done.returncode == 127
    assert done.stderr == "clary: cannot run 'no-such-program': No such file or directory\n"


def test_train_is_the_job_of_the_container(tmp_path: Path) -> None:
    """The one word starts the job, which says why it failed in the tree it was given."""
    done = run("train", SAGEMAKER_BASE_DIR=str(tmp_path))

    assert done.stdout.startswith("Docker entrypoint called with argument(s): train\n")
    assert done.returncode == 2
    assert (tmp_path / "output/failure").read_text().startswith("Customer Error: ")


def test_serve_is_the_server_of_the_container(tmp_path: Path) -> None:
    """The one word starts the server, which refuses a folder without a model."""
    done = run("serve", SAGEMAKER_BASE_DIR=str(tmp_path), SAGEMAKER_BIND_TO_PORT="0")

    assert done.stdout.startswith("Docker entrypoint called with argument(s): serve\n")
    assert done.returncode == 2


@pytest.mark.parametrize("words", [("algorithms",), ("--version",), ("train", "--help")], ids=" ".join)
def test_commands_of_clary_are_understood(words: tuple[str, ...]) -> None:
    """More words than train or serve alone are for the command line."""
    done = run(*words)

    assert done.returncode == 0
    assert "clary" in done.stdout or "kmeans" in done.stdout


def test_the_entry_point_knows_every_command() -> None:
    """A word that clary understands is not looked for among programs."""
    page = cli.parser().format_help()

    assert all(f"\n    {name} " in page or f"\n    {name}\n" in page for name in COMMANDS)
    assert page.count("\n    ") - page.count("\n     ") == len(COMMANDS)
