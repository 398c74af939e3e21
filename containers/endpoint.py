"""A model behind HTTP on this machine: the container's ``serve`` as a process."""

from __future__ import annotations

import http.client
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from ..errors import ArtifactError, PlatformError, UsageError
from .artifact import unpack
from .engine import Child
from .screen import write
from .tree import Tree, workspace

__all__ = ["LOOPBACK", "alive", "check_port", "endpoint", "free_port", "hint", "place", "serve", "served"]

LOOPBACK: Final = "127.0.0.1"
_GRACE: Final = 30  # seconds between SIGTERM and SIGKILL, as SageMaker gives an endpoint
_HASTE: Final = 5  # the same for a server of our own, when nobody is left to ask it
_START: Final = 120  # seconds until an endpoint has to answer /ping; the local SDK waits about as long
_ANSWER: Final = 600  # seconds; a prediction may take long, a server that is gone says nothing at all
_TAIL: Final = 15
_STEP: Final = 0.05


def serve(
    models: Sequence[Path],
    *,
    pipeline: bool,
    variables: Sequence[str],
    host: str,
    port: int,
    workers: int | None,
    root: Path | None,
) -> int:
    """Serve a model archive or directory, or several in a row, until a signal ends it; give the exit code."""
    if pipeline:
        from .pipeline import serve_pipeline  # which builds on this module

        return serve_pipeline(models, variables, host=host, port=port, workers=workers, root=root)
    if len(models) > 1:
        raise UsageError(f"{len(models)} models, {' and '.join(map(str, models))}: to ask them in a row add --pipeline")
    [model] = models
    port = port or free_port()
    environment = dict(map(variable, variables)) | {"CLARY_BIND": host, "SAGEMAKER_BIND_TO_PORT": str(port)}
    if workers is not None:
        environment["SAGEMAKER_MODEL_SERVER_WORKERS"] = str(workers)
    with workspace(root) as tree:
        place(model, tree)
        check_port(host, port)
        with closing(Child("serve", tree, environment, grace=_GRACE)) as server, server.forwarding():
            said = False
            for line in server.lines():
                write(line)
                if not said and not line and alive(host, port):
                    said = True
                    print(hint(host, port, str(model)), file=sys.stderr)
            if not said and server.code == ArtifactError.exit_code:
                print(f"clary: {model} cannot be served: the log above says why", file=sys.stderr)
            return 130 if server.signal == signal.SIGINT else server.code


@contextmanager
def endpoint(folder: Path) -> Iterator[http.client.HTTPConnection]:
    """A connection to a server of the model in `folder`, with one worker, as by `served`."""
    with (
        served(folder, {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}) as port,
        closing(http.client.HTTPConnection(LOOPBACK, port, timeout=_ANSWER)) as connection,
    ):
        yield connection


def variable(word: str) -> tuple[str, str]:
    """Name and value of ``KEY=VALUE``."""
    name, equals, value = word.partition("=")
    if not equals or not name.isidentifier():
        raise UsageError(f"--env {word}: write it as KEY=VALUE")
    return name, value


@contextmanager
def served(folder: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """The port on this machine of a server of the model in `folder`, which ends with the block.

    Parameters
    ----------
    folder
        The model's directory, or its archive.
    environment
        Variables for the server.

    Raises
    ------
    ArtifactError
        When the server refuses the model.
    PlatformError
        When it ends for another reason, also in the block, or does not answer ``/ping`` in time.
    """
    port = free_port()
    where = {"CLARY_BIND": LOOPBACK, "SAGEMAKER_BIND_TO_PORT": str(port)}
    with workspace(None) as tree, tempfile.TemporaryFile() as log:
        place(folder, tree)
        with closing(Child("serve", tree, {**environment, **where}, grace=_HASTE, log=log)) as server:
            _wait(server, port, log)
            try:
                yield port
            except PlatformError as error:
                if server.running:
                    raise
                raise PlatformError(_last_words("ended in the middle", log)) from error


def place(model: Path, tree: Tree) -> None:
    """Put the model where the server looks for it."""
    if model.is_dir():
        tree.model.symlink_to(model.resolve())
        return
    tree.model.mkdir()
    unpack(model, tree.model)


def _wait(server: Child, port: int, log: IO[bytes]) -> None:
    """Return when the server answers; the last lines of its log are in the message when it does not."""
    deadline = time.monotonic() + _START
    while not alive(LOOPBACK, port):
        if server.running and time.monotonic() < deadline:
            time.sleep(_STEP)
            continue
        ended = not server.running
        why = "ended before it could answer" if ended else f"did not answer within {_START} s"
        kind = ArtifactError if ended and server.code == ArtifactError.exit_code else PlatformError
        raise kind(_last_words(why, log))


def _last_words(why: str, log: IO[bytes]) -> str:
    log.seek(0)
    tail = log.read().decode(errors="replace").splitlines()[-_TAIL:]
    return "\n".join([f"the server {why}; its last lines were:", *tail])


def alive(host: str, port: int) -> bool:
    """Whether ``/ping`` answers."""
    with closing(http.client.HTTPConnection(_reachable(host), port, timeout=2)) as connection:
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False


def free_port() -> int:
    """A port of this machine that nobody listens at now."""
    with socket.create_server((LOOPBACK, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def check_port(host: str, port: int) -> None:
    """Say at once what would otherwise be found out by asking whose /ping answers."""
    with suppress(OSError), socket.create_connection((_reachable(host), port), timeout=1):
        raise PlatformError(f"port {port} is in use: choose another one with --port")


def _reachable(host: str) -> str:
    return {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)  # noqa: S104


def hint(host: str, port: int, what: str) -> str:
    """How to ask what is being served."""
    url = f"http://{_reachable(host)}:{port}/invocations"
    return f"clary: serving {what}; try:  curl -H 'Content-Type: text/csv' --data-binary @rows.csv {url}"
