"""``clary`` with an executor in Docker's place whose images are scripts: ``script/NAME`` is NAME.py in a folder."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import clary.local.dockers
from clary.cli import main
from clary.errors import UserError
from clary.local.executors import Container

__all__ = ["Scripts"]

FOLDER = Path(os.environ.get("FOREIGN_SCRIPTS", "."))


class Scripts:
    """Runs scripts; implements `clary.local.executors.Executor`."""

    name = "docker"

    def __init__(self, state: Path) -> None:
        del state

    def check(self, container: Container) -> None:
        """Whether there is such a script."""
        if not container.image.startswith("script/"):
            raise UserError(f"there is no image {container.image}")

    def start(self, container: Container, group: str) -> Script:
        """Start it."""
        del group
        return Script(container)

    def disband(self, group: str) -> None:
        """Nothing is left."""

    def sweep(self) -> None:
        """Nothing is left."""


class Script:
    """One that runs; implements `clary.local.executors.Running`."""

    def __init__(self, container: Container) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.address: tuple[str, int] = probe.getsockname()
        environment = {**os.environ, **container.environment, "SAGEMAKER_BIND_TO_PORT": str(self.address[1])}
        self.process = subprocess.Popen(
            [sys.executable, str(FOLDER / f"{container.image.removeprefix('script/')}.py")],
            env=environment,
            cwd=container.tree.root,
            stdin=subprocess.PIPE,  # whose end tells it that nobody is there any more
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.deadline: float | None = None

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    @property
    def code(self) -> int:
        """Its exit code."""
        return self.process.wait(10)

    def lines(self) -> Iterator[bytes]:
        """Its output."""
        stream = self.process.stdout
        assert stream is not None
        rest = b""
        while True:
            if self.deadline is not None and time.monotonic() > self.deadline:
                self.process.kill()
            if not select.select([stream], [], [], 0.1)[0]:
                yield b""
                continue
            if not (chunk := os.read(stream.fileno(), 65536)):
                return
            *whole, rest = (rest + chunk).split(b"\n")
            yield from (line + b"\n" for line in whole)

    def stop(self, grace: float) -> None:
        """End it."""
        self.deadline = time.monotonic() + grace
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Make sure."""
        self.process.kill()
        with self.process:  # which closes its pipes
            pass


if __name__ == "__main__":
    clary.local.dockers.Dockers = Scripts  # type: ignore[assignment,misc]
    sys.exit(main())
