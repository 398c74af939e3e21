"""The server as a process: settings, model, socket, then gunicorn until it is told to stop.

A model is loaded before anything listens, and once: the worker processes are forked from this one. Where models come
and go there is one worker process, so that no answer depends on which one a request meets. Nothing is written to disk
but gunicorn's heartbeat files, which have no name and lie in shared memory where there is some.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .. import logs
from ..errors import ClaryError, PlatformError
from .deferred import Deferred, Wsgi
from .places import predictions
from .settings import Settings, usable_cores

if TYPE_CHECKING:
    from types import FrameType

    from ..algorithms.base import Algorithm, Model

__all__ = ["main", "run", "serve"]

GRACE: Final = 25
"""Seconds that running requests have after SIGTERM; SageMaker kills the container after 30."""

KEEP_ALIVE: Final = 65
"""Seconds an idle connection is kept, longer than proxies and the pools of clients keep theirs."""

SPARE_THREADS: Final = 256
"""Threads of a worker for all that is no invocation: ``/ping``, refusals, heads still on their way, connections
that end. None of it takes longer than some seconds; threads are started when they are needed.
"""

IDLE_CONNECTIONS: Final = 1000
"""Connections of a worker beyond those that have a thread."""

BACKLOG: Final = 2048

_AGAIN: Final = 0.5  # seconds

_BLAS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_STOP: Final = (signal.SIGTERM, signal.SIGINT)
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 the files have no name there


def main() -> int:
    """Serve the model in the model directory until a signal ends it, then leave with status 0.

    Returns
    -------
    int
        Exit status, where the server could not start.
    """
    for number in _STOP:
        signal.signal(number, _leave)  # process 1 of a container ignores signals without a handler
    logger = logs.setup()
    gc.disable()  # what is imported and loaded stays: to look for garbage in it takes time and finds none
    try:
        settings = Settings.from_environment(os.environ)
        logs.setup(settings.log_level)
        if settings.multi_model and settings.workers > 1:
            logger.info("a multi-model server has one process, whose threads share the models")
            settings = replace(settings, workers=1)
        _share_cores(settings.workers)
        with _bound(settings.host, settings.port) as listener:
            run(_application(settings), settings, listener)
    except ClaryError as error:
        logger.error("%s: %s", error.prefix, error)
        return error.exit_code
    finally:
        gc.enable()
    return 0


def serve(model: Model, algorithm: Algorithm, settings: Settings, listener: socket.socket) -> None:
    """Answer requests to one model with `run`."""
    run(_of_one(model, algorithm, settings), settings, listener)


def run(app: Wsgi, settings: Settings, listener: socket.socket) -> None:
    """Answer requests on `listener`, which is bound, until a signal ends the process.

    Raises
    ------
    SystemExit
        With status 0 after SIGTERM or SIGINT, in the worker processes too.
    """
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        raise PlatformError(f"cannot listen on port {settings.port}: {error.strerror}") from error
    logging.getLogger("clary").info("number of server workers: %d", settings.workers)
    logging.getLogger("gunicorn.error").addHandler(logging.getLogger("clary").handlers[0])
    _run(app, settings, listener.detach())


def _application(settings: Settings) -> Wsgi:
    """What answers: a model, any number of them, or servers behind this one. It imports numpy, and so reads OMP_…."""
    if settings.pipeline:
        from .pipeline import create_app as create_pipeline

        return create_pipeline(settings)
    if settings.multi_model:

        def make() -> Wsgi:
            from .multi_model import create_app as create_multi_model

            return create_multi_model(settings)

        return Deferred(make, {}) if settings.quick else make()
    from ..algorithms.registry import open_artifact

    logger = logging.getLogger("clary")
    logger.info("loading the model in %s", settings.model_dir)
    algorithm, model = open_artifact(settings.model_dir, ensemble=settings.ensemble)
    logger.info("model loaded: %s with %d features", algorithm.title, model.feature_dim)
    return _of_one(model, algorithm, settings)


def _of_one(model: Model, algorithm: Algorithm, settings: Settings) -> Wsgi:
    """What answers requests to one model."""
    from .endpoint import Endpoint

    endpoint = Endpoint(model, algorithm, settings, predictions(settings.threads))

    def make() -> Wsgi:
        from .app import create_app

        return create_app(endpoint, settings)

    return Deferred(make, {"POST /invocations": endpoint.invoked_plainly}) if settings.quick else make()


def _run(app: Wsgi, settings: Settings, descriptor: int) -> None:
    from gunicorn.app.base import BaseApplication
    from gunicorn.arbiter import Arbiter

    shared = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK | os.X_OK) else None
    options = {
        "bind": f"fd://{descriptor}",
        "workers": settings.workers,
        "worker_class": f"{__package__}.{'quick' if settings.quick else 'connections'}.Worker",  # gunicorn 22: a name
        "threads": settings.threads + SPARE_THREADS,
        "worker_connections": settings.threads + SPARE_THREADS + IDLE_CONNECTIONS,
        "timeout": settings.timeout,
        "graceful_timeout": GRACE,
        "keepalive": KEEP_ALIVE,
        "preload_app": True,
        "worker_tmp_dir": shared and str(shared),
        "control_socket_disable": True,  # it would be a file in the home directory, and one more way in
        "errorlog": None,  # its lines go where ours go
        "logger_class": f"{__package__}.connections.AccessLog",
        "loglevel": _level_name(settings.log_level),
        "when_ready": _interrupt_like_terminate,
        "post_worker_init": _ignore_interrupts,
    }
    if settings.multi_model:
        options["child_exit"] = _end_without_models

    class Patient(Arbiter):
        """gunicorn's parent process; it tells workers to stop until they have heard."""

        def stop(self, graceful: bool = True) -> None:
            with _insisting(lambda: self.kill_workers(signal.SIGTERM)):
                super().stop(graceful)

    class Server(BaseApplication):
        """gunicorn, configured from here alone."""

        def load_config(self) -> None:
            for name, value in options.items():
                if name in self.cfg.settings:  # older gunicorns have no control socket
                    self.cfg.set(name, value)

        def load(self) -> Wsgi:
            return app

        def run(self) -> None:
            arbiter = Patient(self)  # which imports the worker
            gc.enable()
            arbiter.run()

    Server().run()


@contextmanager
def _insisting(say: Callable[[], object]) -> Iterator[None]:
    """Say something again and again meanwhile: a worker that was just forked has no handler that would hear it yet."""
    ended = threading.Event()

    def insist() -> None:
        while not ended.wait(_AGAIN):
            say()

    thread = threading.Thread(target=insist, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _ignore_interrupts(worker: Any) -> None:
    """In a new worker: leave interrupts, which a terminal sends to all processes, to the parent."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end_without_models(arbiter: Any, worker: Any) -> None:
    """In the parent: a new process would know none of the models that the platform has loaded; a new server will."""
    if arbiter.LISTENERS:  # else the server is being stopped
        from gunicorn.errors import HaltServer

        logging.getLogger("clary").error("the process that held the models, %d, has ended", worker.pid)
        raise HaltServer("the models are gone", PlatformError.exit_code)


def _interrupt_like_terminate(arbiter: Any) -> None:
    """In the parent: let the first interrupt end the server in peace, and the second at once."""

    def interrupted(number: int, frame: FrameType | None) -> None:
        del number
        signal.signal(signal.SIGINT, arbiter.signal)
        arbiter.signal(signal.SIGTERM, frame)

    signal.signal(signal.SIGINT, interrupted)


def _bound(host: str, port: int) -> socket.socket:
    """A socket that has its address, and does not listen yet."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PlatformError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return listener


def _share_cores(workers: int) -> None:
    """Keep `workers` processes from starting more BLAS threads than there are cores."""
    if not any(name in os.environ for name in _BLAS):
        os.environ.update(dict.fromkeys(_BLAS, str(max(1, usable_cores() // workers))))


def _level_name(level: int) -> str:
    """The name gunicorn has for a level of logging."""
    names = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}
    return next((name for limit, name in names.items() if level <= limit), "critical")


def _leave(number: int, frame: FrameType | None) -> None:
    """End the process while it has no requests yet."""
    del number, frame
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
