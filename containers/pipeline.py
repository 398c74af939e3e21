"""Models in a row behind one port of this machine: a server for each, and one in front of them."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import ArtifactError, PlatformError, UsageError
from ..serve.settings import usable_cores
from .endpoint import alive, check_port, hint, place, variable
from .engine import Child
from .screen import write
from .tree import Tree, workspace

__all__ = ["LIMITS", "serve_pipeline"]

LIMITS: Final = (2, 15)
"""Fewest and most models of a pipeline, on SageMaker too."""

_LOOPBACK: Final = "127.0.0.1"
_GRACE: Final = 30  # seconds between SIGTERM and SIGKILL, as SageMaker gives an endpoint
_DRAIN: Final = 5  # seconds for the last lines of a server that has ended


@dataclass(frozen=True, slots=True)
class _Container:
    """One of the models, and the server of it."""

    name: str
    model: Path
    port: int
    server: Child

    def print_lines(self) -> None:
        """Show what the server says, under its name, until it ends."""
        for line in self.server.lines():
            _print_line(self.name, line)

    def last_words(self) -> str:
        """How the server has ended."""
        if self.server.code == ArtifactError.exit_code:
            return f"{self.name} cannot serve {self.model}: the log above says why"
        return f"{self.name}, which served {self.model}, has ended with exit code {self.server.code}"


def serve_pipeline(
    models: Sequence[Path], variables: Sequence[str], *, host: str, port: int, workers: int | None, root: Path | None
) -> int:
    """Serve model archives or directories in a row until a signal or the end of a server; give the exit code."""
    fewest, most = LIMITS
    if not fewest <= len(models) <= most:
        raise UsageError(f"a pipeline has {fewest} to {most} models, got {len(models)}")
    given = _variables(variables, len(models))
    with workspace(root) as tree, ExitStack() as stack:
        free, *ports = _free_ports(len(models) + 1)
        port = port or free
        check_port(host, port)
        trees = [_prepared(tree, number, model) for number, model in enumerate(models, 1)]
        processes = workers or max(1, usable_cores() // len(models))
        environments = [mine | _environment(_LOOPBACK, at, processes) for mine, at in zip(given, ports, strict=True)]
        started = stack.enter_context(_servers(models, trees, environments))
        environment = _environment(host, port, 1) | {"CLARY_PIPELINE": ",".join(map(str, ports))}
        front = stack.enter_context(closing(Child("serve", tree, environment, grace=_GRACE)))
        return _watch(front, started, host, port)


def _variables(words: Sequence[str], count: int) -> list[dict[str, str]]:
    """The variables of each model, of ``KEY=VALUE`` for all and ``N:KEY=VALUE`` for one."""
    found: list[dict[str, str]] = [{} for _ in range(count)]
    for word in words:
        number, colon, rest = word.partition(":")
        one = bool(colon) and number.isdecimal()
        if one and not 1 <= int(number) <= count:
            raise UsageError(f"--env {word}: there is no model {number}, they are 1 to {count}")
        name, value = variable(rest if one else word)
        for variables in [found[int(number) - 1]] if one else found:
            variables[name] = value
    return found


@contextmanager
def _servers(
    models: Sequence[Path], trees: Sequence[Tree], environments: Sequence[dict[str, str]]
) -> Iterator[list[_Container]]:
    """A server for each model, which end with the block."""
    with ExitStack() as stack:
        started: list[_Container] = []
        threads: list[threading.Thread] = []
        for number, (model, tree, environment) in enumerate(zip(models, trees, environments, strict=True), 1):
            child = Child("serve", tree, environment, grace=_GRACE)
            port = int(environment["SAGEMAKER_BIND_TO_PORT"])
            stack.enter_context(closing(child))
            started.append(_Container(f"container-{number}", model, port, child))
            threads.append(threading.Thread(target=started[-1].print_lines, daemon=True))
            threads[-1].start()
        try:
            yield started
        finally:
            for container in started:
                container.server.stop()
            for thread in threads:
                thread.join(_GRACE + _DRAIN)


def _watch(front: Child, containers: Sequence[_Container], host: str, port: int) -> int:
    """Show what is said until the front ends, which it does when a container has; give the exit code."""
    ready, ended = False, None
    with front.forwarding():
        for line in front.lines():
            _print_line("pipeline", line)
            if ended is None and front.signal is None:
                ended = next((each for each in containers if not each.server.running), None)
                if ended is not None:
                    front.stop()
                elif not ready and not line:
                    ready = all(alive(_LOOPBACK, each.port) for each in containers) and alive(host, port)
                    if ready:
                        print(hint(host, port, ", then ".join(str(each.model) for each in containers)), file=sys.stderr)
    if ended is not None:
        print(f"clary: {ended.last_words()}; the pipeline ends with it", file=sys.stderr)
        return ended.server.code or PlatformError.exit_code
    return 130 if front.signal == signal.SIGINT else front.code


def _prepared(tree: Tree, number: int, model: Path) -> Tree:
    """A tree of its own for a container, with its model."""
    own = Tree(tree.root / f"container-{number}")
    own.root.mkdir()
    place(model, own)
    return own


def _environment(host: str, port: int, workers: int) -> dict[str, str]:
    return {
        "CLARY_BIND": host,
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "SAGEMAKER_MODEL_SERVER_WORKERS": str(workers),
    }


def _print_line(name: str, line: bytes) -> None:
    if line:
        write(f"{name}: ".encode() + line)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, each another one."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server((_LOOPBACK, 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]
