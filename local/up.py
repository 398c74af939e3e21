"""``clary up``: a platform behind one port until a signal ends it."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ..containers.endpoint import LOOPBACK
from ..containers.entrypoint import follow
from ..errors import MissingExtraError, PlatformError, UsageError
from .edge import guarded
from .folder import ACCOUNT, DOCKER, Address, StateFolder, default_folder
from .guard import is_loopback

if TYPE_CHECKING:
    from .platform import Platform

__all__ = ["up"]

_S3_THREADS: Final = 16
_TICK: Final = 0.2  # seconds
_LAST: Final = 30  # seconds for the end of everything


def up(
    *,
    host: str,
    port: int,
    state: Path | None,
    region: str,
    executor: str,
    token: str,
    s3_endpoint: str,
) -> int:
    """Run a platform until a signal ends it."""
    if not is_loopback(host) and not token:
        raise UsageError(f"--host {host} lets other machines in: give a --token that clients have to show")
    if token and s3_endpoint:
        raise UsageError("--token and --s3-endpoint: clients have one access key, which cannot be both: give one")
    if s3_endpoint and urlsplit(s3_endpoint).scheme not in ("http", "https"):
        raise UsageError(f"--s3-endpoint {s3_endpoint}: write it as http://HOST:PORT")
    follow(os.environ.pop("CLARY_PARENT", None))
    folder = StateFolder(state or default_folder())
    with folder.locked():
        listening = _listen(host, port)
        url = f"http://{_reachable(host)}:{listening.getsockname()[1]}"
        config = "" if s3_endpoint else str(folder.write_config(region, ACCOUNT))
        address = Address(url, os.getpid(), region, token, s3_endpoint, config)
        _run(folder, address, executor, listening)
    return 0


def _run(folder: StateFolder, address: Address, executor: str, listening: socket.socket) -> None:
    """Everything between the lock and its end."""
    try:
        from .http_server import create
        from .services import Services
    except ImportError as error:
        raise MissingExtraError(error.name or "moto", extra="platform") from error
    from .app import App
    from .guard import Guard
    from .page import Page

    shutil.rmtree(folder.work("transform-jobs"), ignore_errors=True)  # they begin anew
    services = Services(folder.path)
    with _served(services, address) as s3, closing(_platform(folder, address, executor, s3)) as platform:
        app = App(platform, Guard(address.token), services, Page(platform))
        server = create(app, listening)
        serving = threading.Thread(target=server.run, daemon=True)
        serving.start()
        try:
            if (folder.path / DOCKER).exists():
                platform.sweep()  # before jobs whose containers have the same names
            threading.Thread(target=_take_up, args=[platform], daemon=True).start()
            folder.write(address)
            _greet(folder, address)
            while serving.is_alive():  # Python handles a signal that another thread gets when this one wakes
                serving.join(_TICK)
            raise PlatformError("the server has ended by itself")
        except (KeyboardInterrupt, SystemExit):
            last = threading.Timer(_LAST, os._exit, [0])  # whatever hangs: all that matters is on disk
            last.daemon = True
            last.start()
            platform.close()  # while the port still answers what runs
        finally:
            server.close()


@contextmanager
def _served(services: Any, address: Address) -> Iterator[Any]:
    """A client of the S3 that the platform works with.

    Of the one that is built in, it has a port of its own: at the common one, its requests could wait for those that
    wait for it.
    """
    import boto3
    from botocore.config import Config

    from .guard import Guard
    from .http_server import THREADS, create

    def client(url: str, **more: Any) -> Any:
        config = Config(
            s3={"addressing_style": "path"},
            retries={"mode": "standard", "max_attempts": 5},
            max_pool_connections=THREADS,
        )
        session = boto3.Session()
        return session.client("s3", endpoint_url=url, region_name=address.region, config=config, **more)

    if address.s3:
        yield client(address.s3)
        return
    secret = secrets.token_hex()
    guard = Guard(secret)

    def app(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        answer: Any = guard.refusal(environ) or services
        found: Iterable[bytes] = answer(environ, start)
        return found

    with socket.create_server((LOOPBACK, 0), backlog=128) as listening:
        server = create(app, listening, _S3_THREADS)
        threading.Thread(target=server.run, daemon=True).start()
        url = f"http://{LOOPBACK}:{listening.getsockname()[1]}"
        try:
            yield client(url, aws_access_key_id=secret, aws_secret_access_key=secret)
        finally:
            server.close()


def _platform(folder: StateFolder, address: Address, executor: str, s3: Any) -> Platform:
    from .dockers import Dockers
    from .logs import Logs
    from .platform import Platform
    from .processes import Processes
    from .store import Store

    docker = Dockers(folder.path)
    return Platform(
        folder=folder,
        store=Store(folder.database),
        logs=Logs(folder.path),
        s3=s3,
        executor=docker if executor == "docker" else Processes(),
        docker=docker,
        region=address.region,
    )


def _take_up(platform: Platform) -> None:
    """Go on where the last platform ended; what cannot be taken up keeps nothing else from it."""
    from .cloudwatch import publish_all
    from .serving import take_up_endpoints
    from .training import take_up_training_jobs
    from .transform import take_up_transform_jobs
    from .tuning import take_up_tuning_jobs

    for step in (
        partial(take_up_training_jobs, platform),
        partial(take_up_transform_jobs, platform),
        partial(take_up_tuning_jobs, platform),
        partial(take_up_endpoints, platform),
        platform.logs.load,
        partial(publish_all, platform.store),
    ):
        guarded("taking up what an earlier platform has left", step, lambda _: None)


def _greet(folder: StateFolder, address: Address) -> None:
    """Say where it is, to people."""
    print(
        f"clary: SageMaker at {address.url}, state in {folder.path}\n"
        f'clary: in another shell:  eval "$(clary env)"  and run your code; Ctrl-C ends it, nothing is lost',
        file=sys.stderr,
        flush=True,
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise PlatformError(f"cannot listen on {host} port {port}: {error.strerror}: choose another --port") from error


def _reachable(host: str) -> str:
    """The host as clients write it; an address rather than a name, which S3's clients would put a bucket before."""
    found = {"0.0.0.0": LOOPBACK, "::": "::1", "localhost": LOOPBACK}.get(host, host)  # noqa: S104
    return f"[{found}]" if ":" in found else found
