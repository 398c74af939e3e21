"""``clary up``: a platform behind one port until a signal ends it."""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ..containers.entrypoint import follow
from ..errors import MissingExtraError, PlatformError, UsageError
from .folder import ACCOUNT, Address, StateFolder, default_folder
from .guard import is_loopback

__all__ = ["up"]

_ACCESS_KEY: Final = "local"


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
    from .platform import Platform

    services = Services(folder.path)
    platform = _platform(Platform, folder, address, executor)
    app = App(platform, Guard(address.token), services, Page(platform))
    server = create(app, listening)
    serving = threading.Thread(target=server.run, daemon=True)
    serving.start()
    try:
        threading.Thread(target=_take_up, args=[platform], daemon=True).start()
        folder.write(address)
        _greet(folder, address)
        serving.join()
    except (KeyboardInterrupt, SystemExit):
        pass  # this is how it ends
    finally:
        platform.close()  # while its S3 still answers what runs
        server.close()


def _platform(kind: Any, folder: StateFolder, address: Address, executor: str) -> Any:
    import boto3
    from botocore.config import Config

    from .dockers import Dockers
    from .http_server import THREADS
    from .logs import Logs
    from .processes import Processes
    from .store import Store

    docker = Dockers(folder.path)
    config = Config(
        s3={"addressing_style": "path"},
        retries={"mode": "standard", "max_attempts": 5},
        max_pool_connections=THREADS,
    )
    ours = {"aws_access_key_id": address.token or _ACCESS_KEY, "aws_secret_access_key": _ACCESS_KEY}
    s3 = boto3.session.Session().client(
        "s3",
        endpoint_url=address.s3 or address.url,
        region_name=address.region,
        config=config,
        **({} if address.s3 else ours),
    )
    return kind(
        folder=folder,
        store=Store(folder.database),
        logs=Logs(folder.path),
        s3=s3,
        executor=docker if executor == "docker" else Processes(),
        docker=docker,
        region=address.region,
    )


def _take_up(platform: Any) -> None:
    """Go on where the last platform ended."""
    from .cloudwatch import publish_all
    from .serving import take_up_endpoints
    from .training import take_up_training_jobs
    from .transform import take_up_transform_jobs
    from .tuning import take_up_tuning_jobs

    platform.logs.load()
    publish_all(platform.store)
    take_up_training_jobs(platform)
    take_up_transform_jobs(platform)
    take_up_tuning_jobs(platform)
    take_up_endpoints(platform)


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
    found = {"0.0.0.0": "127.0.0.1", "::": "::1", "localhost": "127.0.0.1"}.get(host, host)  # noqa: S104
    return f"[{found}]" if ":" in found else found
