"""A model behind HTTP on this machine: the container's ``serve`` as a process."""

from __future__ import annotations

import http.client
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from ..errors import ArtifactError, PlatformError
from .artifact import unpack
from .engine import Child
from .screen import write
from .tree import Tree, workspace

__all__ = ["endpoint", "serve"]

_LOOPBACK: Final = "127.0.0.1"
_GRACE: Final = 30  # seconds between SIGTERM and SIGKILL, as SageMaker gives an endpoint
_START: Final = 120  # seconds until an endpoint has to answer /ping; the local SDK waits about as long
_ANSWER: Final = 600  # seconds; a prediction may take long, a server that is gone says nothing at all
_TAIL: Final = 15
_STEP: Final = 0.05


def serve(model: Path, *, host: str, port: int, workers: int | None, root: Path | None) -> int:
    """Serve a model archive or directory until a signal ends it; give the exit code."""
    port = port or _free_port()
    environment = {"CLARY_BIND": host, "SAGEMAKER_BIND_TO_PORT": str(port)}
    if workers is not None:
        environment["SAGEMAKER_MODEL_SERVER_WORKERS"] = str(workers)
    with workspace(root) as tree:
        _place(model, tree)
        _check_port(host, port)
        with closing(Child("serve", tree, environment, grace=_GRACE)) as server, server.forwarding():
            said = False
            for line in server.lines():
                write(line)
                if not said and not line and _alive(host, port):
                    said = True
                    print(_hint(host, port, model), file=sys.stderr)
            if not said and server.code == ArtifactError.exit_code:
                print(f"clary: {model} cannot be served: the log above says why", file=sys.stderr)
            return 130 if server.signal == signal.SIGINT else server.code


@contextmanager
def endpoint(folder: Path) -> Iterator[http.client.HTTPConnection]:
    """A connection to a server of the model in `folder` on a free port, both of which end with the block.

    Raises
    ------
    ArtifactError
        When the server refuses the model.
    PlatformError
        When it ends for another reason or does not answer ``/ping`` in time.
    """
    port = _free_port()
    environment = {"CLARY_BIND": _LOOPBACK, "SAGEMAKER_BIND_TO_PORT": str(port), "SAGEMAKER_MODEL_SERVER_WORKERS": "1"}
    with workspace(None) as tree, tempfile.TemporaryFile() as log:
        _place(folder, tree)
        with closing(Child("serve", tree, environment, grace=_GRACE, log=log)) as server:
            _wait(server, port, log)
            with closing(http.client.HTTPConnection(_LOOPBACK, port, timeout=_ANSWER)) as connection:
                yield connection


def _place(model: Path, tree: Tree) -> None:
    """Put the model where the server looks for it."""
    if model.is_dir():
        tree.model.symlink_to(model.resolve())
        return
    tree.model.mkdir()
    unpack(model, tree.model)


def _wait(server: Child, port: int, log: IO[bytes]) -> None:
    """Return when the server answers; the last lines of its log are in the message when it does not."""
    deadline = time.monotonic() + _START
    while not _alive(_LOOPBACK, port):
        if server.running and time.monotonic() < deadline:
            time.sleep(_STEP)
            continue
        ended = not server.running
        log.seek(0)
        tail = log.read().decode(errors="replace").splitlines()[-_TAIL:]
        why = "ended before it could answer" if ended else f"did not answer within {_START} s"
        kind = ArtifactError if ended and server.code == ArtifactError.exit_code else PlatformError
        raise kind("\n".join([f"the server {why}; its last lines were:", *tail]))


def _alive(host: str, port: int) -> bool:
    """Whether ``/ping`` answers."""
    with closing(http.client.HTTPConnection(_reachable(host), port, timeout=2)) as connection:
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False


def _free_port() -> int:
    with socket.create_server((_LOOPBACK, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _check_port(host: str, port: int) -> None:
    """Say at once what would otherwise be found out by asking whose /ping answers."""
    with suppress(OSError), socket.create_connection((_reachable(host), port), timeout=1):
        raise PlatformError(f"port {port} is in use: choose another one with --port")


def _reachable(host: str) -> str:
    return {"0.0.0.0": _LOOPBACK, "::": "::1"}.get(host, host)  # noqa: S104


def _hint(host: str, port: int, model: Path) -> str:
    url = f"http://{_reachable(host)}:{port}/invocations"
    return f"clary: serving {model}; try:  curl -H 'Content-Type: text/csv' --data-binary @rows.csv {url}"
