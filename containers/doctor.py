"""What of this machine clary can use, and what stands in its way.

Nothing here reaches for the network, and nothing secret is printed.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal

from .. import native
from ..algorithms.memory import available_memory
from ..errors import MissingExtraError, UserError
from ..serve.settings import usable_cores
from .files import size_text

__all__ = ["Finding", "aws", "compose", "disk", "doctor", "packages", "port", "shared_memory"]

_LIMIT: Final = 5  # seconds for the engine to say who it is
_PORT: Final = 8080
_LITTLE_MEMORY: Final = 10**9
_LITTLE_SHARED: Final = 64 * 10**6
_LITTLE_DISK: Final = 2 * 10**9
_NO_DISK: Final = 10**8

_REQUIREMENT: Final = re.compile(
    r'(?P<name>[\w.-]+)(\[[\w,]+\])?>=(?P<least>[\d.]+)(?:;.*extra == [\'"](?P<extra>\w+)[\'"])?'
)
_BLAS_CALLS: Final = ("scipy_openblas_get_{}64_", "openblas_get_{}64_", "scipy_openblas_get_{}", "openblas_get_{}")
_REAL_KEY: Final = re.compile(r"(AKIA|ASIA)[A-Z0-9]{16}")
_ACCOUNT: Final = (
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Variables that lead to an account of AWS, where they are set."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about this machine.

    Parameters
    ----------
    name
        What was looked at.
    state
        ``ok``; ``note`` where something does less than it could; ``wrong`` where clary cannot work.
    found
        What was found, in one line.
    fix
        What puts it right.
    """

    name: str
    state: Literal["ok", "note", "wrong"]
    found: str
    fix: str = ""


def doctor(*, as_json: bool) -> int:
    """Print every finding; return 2 where one of them keeps clary from working."""
    findings = list(_findings())
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            print(f"{finding.state:5}  {finding.name:14}  {finding.found}")
            if finding.fix:
                print(f"{'':23}fix: {finding.fix}")
    return UserError.exit_code if any(finding.state == "wrong" for finding in findings) else 0


def _findings() -> Iterator[Finding]:
    with ThreadPoolExecutor(1) as pool:
        engine = pool.submit(_docker_info)  # it answers while the rest is looked at
        yield Finding("python", "ok", f"{platform.python_version()} ({platform.python_implementation()}) {sys.prefix}")
        yield _processor()
        yield _kernels()
        yield _memory()
        yield from packages(_requirements())
        yield _blas()
        yield _xgboost()
        yield from _docker(engine)
    yield port(_PORT)
    yield disk("folder", Path.cwd(), "work in another one, or give --out and --root")
    yield _temporary()
    yield shared_memory()
    yield _tree(Path("/opt/ml"))
    yield aws(os.environ)


def _kernels() -> Finding:
    """Whether the compiled kernels do the work, or their twins in NumPy."""
    fix = "set CLARY_NATIVE=1" if "CLARY_NATIVE" in native.STATE else "install a C compiler, and clary again"
    return Finding("kernels", "ok" if native.kernels else "note", native.STATE, "" if native.kernels else fix)


def _processor() -> Finding:
    machine = platform.machine()
    found = f"{machine}, {usable_cores()} of {os.cpu_count()} cores"
    if machine in {"x86_64", "aarch64", "arm64"}:
        return Finding("processor", "ok", found)
    return Finding("processor", "note", found, f"expect to compile numpy and others yourself: few wheels for {machine}")


def _memory() -> Finding:
    free = available_memory()
    found = f"{size_text(free)} available"
    if free >= _LITTLE_MEMORY:
        return Finding("memory", "ok", found)
    return Finding("memory", "note", found, "end other programs, or give the container more (docker run --memory)")


def _requirements() -> Sequence[str]:
    """What the package says it needs; nothing where it runs from a source tree that was never installed."""
    try:
        return metadata.requires("clary") or ()
    except metadata.PackageNotFoundError:
        return ()


def packages(requirements: Sequence[str]) -> Iterator[Finding]:
    """What is there of the packages that are needed, and of those that some command or algorithm needs.

    The library of XGBoost has a finding of its own, because several packages have it.
    """
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        if match is None or match["extra"] == "xgboost":
            continue
        name, least, extra = match["name"], match["least"], match["extra"]
        fix = f"pip install '{f'clary[{extra}]' if extra else f'{name}>={least}'}'"
        state: Literal["note", "wrong"] = "note" if extra else "wrong"
        version = _version(name)
        if version is None:
            yield Finding(name, state, f"not installed{f', optional: extra {extra}' if extra else ''}", fix)
        elif _numbers(version) < _numbers(least):
            yield Finding(name, state, f"{version} is too old: {least} or newer is needed", fix)
        else:
            yield Finding(name, "ok", version)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version, without what follows them: 3.0.0rc1 is older than no 3.0."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _blas() -> Finding:
    """The linear algebra that numpy calls, and how many threads it takes."""
    try:
        import numpy as np
    except ImportError as error:
        return Finding("blas", "wrong", f"numpy cannot be imported: {error}", "pip install --force-reinstall numpy")
    built: Mapping[str, Any] = np.show_config(mode="dicts") or {}
    blas = built.get("Build Dependencies", {}).get("blas", {})
    if not blas.get("found"):
        fix = "pip install --force-reinstall --only-binary numpy numpy"
        return Finding("blas", "note", "numpy has no BLAS and multiplies matrices slowly", fix)
    cores, threads = _openblas("corename"), _openblas("num_threads")
    active = f" for {cores}, {threads} threads" if cores and threads else ""
    return Finding("blas", "ok", f"{blas['name']} {blas.get('version', '')}{active}")


def _openblas(what: str) -> str | None:
    """What the OpenBLAS in this process says of itself; None where there is none, or not on Linux."""
    with suppress(OSError):
        maps = Path("/proc/self/maps").read_text()
        for path in dict.fromkeys(re.findall(r"/\S*blas\S*\.so\S*", maps)):
            library = ctypes.CDLL(path)
            for call in _BLAS_CALLS:
                with suppress(AttributeError):
                    function = library[call.format(what)]
                    function.restype = ctypes.c_char_p if what == "corename" else ctypes.c_int
                    answer = function()
                    return answer.decode() if isinstance(answer, bytes) else str(answer)
    return None


def _xgboost() -> Finding:
    try:
        from ..algorithms.booster import library_version

        return Finding("xgboost", "ok", f"library {library_version()}")
    except MissingExtraError:
        return Finding("xgboost", "note", "not installed, optional: extra xgboost", "pip install 'clary[xgboost]'")
    except (ImportError, OSError) as error:
        fix = "pip install --force-reinstall 'clary[xgboost]'; on macOS also: brew install libomp"
        return Finding("xgboost", "note", f"the library cannot be loaded: {error}", fix)


def _docker_info() -> Mapping[str, Any] | str:
    """What the engine says of itself and of its client, or what docker says in its place."""
    try:
        done = subprocess.run(
            ["docker", "info", "--format", "{{json .}}"],  # noqa: S607  # the user's own docker
            capture_output=True,
            text=True,
            timeout=_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_LIMIT} s"
    except OSError as error:
        return f"the command docker cannot be run: {error.strerror}"
    try:
        info: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return (done.stderr.strip() or f"docker info ended with {done.returncode}").splitlines()[0]
    said = [*(info.get("ServerErrors") or ()), done.stderr]
    return {**info, "Said": " ".join(" ".join(said).split())}


def _docker(engine: Future[Mapping[str, Any] | str]) -> Iterator[Finding]:
    """The command, the engine that it finds, where that keeps its images, and Compose."""
    path = shutil.which("docker")
    if path is None:
        fix = "https://docs.docker.com/engine/install; training and serving without images need none"
        yield Finding(
            "docker command", "note", "not installed, optional: for images and the SageMaker SDK's local mode", fix
        )
        return
    info = engine.result()
    if isinstance(info, str):
        yield Finding("docker command", "note", f"{path}: {info}", "see what  docker info  says")
        return
    client = info.get("ClientInfo") or {}
    yield Finding("docker command", "ok", f"{path} {client.get('Version', '')}".strip())
    if info.get("ServerVersion"):
        yield Finding("engine", "ok", f"{info['ServerVersion']} on {info.get('Architecture')}")
        root = Path(info.get("DockerRootDir") or "/var/lib/docker")
        if os.access(root, os.X_OK):
            yield disk("images", root, "docker image prune", writes=False)
    elif "permission denied" in info["Said"]:
        fix = "sudo usermod -aG docker $USER, then log in again"
        yield Finding("engine", "note", "you may not speak to the Docker engine", fix)
    else:
        found = info["Said"] or "the Docker engine does not answer"
        yield Finding("engine", "note", found, "sudo systemctl start docker, or start Docker Desktop; DOCKER_HOST?")
    plugins = {plugin.get("Name"): plugin.get("Version", "") for plugin in client.get("Plugins") or ()}
    yield compose(plugins.get("compose"), shutil.which("docker-compose"), _version("sagemaker"))


def compose(plugin: str | None, command: str | None, sdk: str | None) -> Finding:
    """Whether the SageMaker SDK's local mode finds a Docker Compose that it knows.

    Parameters
    ----------
    plugin
        Version of ``docker compose``.
    command
        Where ``docker-compose`` is, which the SDK takes whatever its version.
    sdk
        Version of the package sagemaker.
    """
    if plugin is None and command is None:
        fix = "https://docs.docker.com/compose/install"
        return Finding("compose", "note", "not installed, optional: for the SageMaker SDK's local mode", fix)
    knows = sdk is not None and _numbers(sdk) >= (2, 258)
    if command or plugin is None or knows or _numbers(plugin)[:1] == (2,):
        return Finding("compose", "ok", f"docker compose {plugin}" if plugin else f"{command}")
    found = f"docker compose {plugin}: the SageMaker SDK v2 knows no other than version 2 before its own 2.258"
    return Finding("compose", "note", found, "install Compose 2, or any as the command docker-compose, or the SDK v3")


def port(number: int) -> Finding:
    """Whether a server can take the port of every SageMaker container."""
    try:
        with socket.create_server(("", number)):
            return Finding("port", "ok", f"{number} is free")
    except OSError as error:
        fix = f"end what listens there (ss -ltnp 'sport = :{number}'), or clary serve --port 8081"
        return Finding("port", "note", f"{number} cannot be taken: {error.strerror}", fix)


def disk(name: str, folder: Path, fix: str, *, writes: bool = True) -> Finding:
    """How much room there is in a folder, and whether we may write there."""
    free = shutil.disk_usage(folder).free
    found = f"{folder}: {size_text(free)} free"
    if writes and not os.access(folder, os.W_OK):
        return Finding(name, "note", f"{folder} cannot be written to", fix)
    return Finding(name, "ok", found) if free >= _LITTLE_DISK else Finding(name, "note", found, fix)


def _temporary() -> Finding:
    fix = "free some, or set TMPDIR to a folder with more room"
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        return Finding("temporary", "wrong", f"no folder for temporary files: {error.strerror}", fix)
    finding = disk("temporary", folder, fix)
    return dataclasses.replace(finding, state="wrong") if shutil.disk_usage(folder).free < _NO_DISK else finding


def shared_memory(folder: Path = Path("/dev/shm")) -> Finding:  # noqa: S108  # the only place
    """Room for what processes share."""
    if not folder.is_dir():
        return Finding("shared", "ok", f"no {folder} here: temporary files take its place")
    size = shutil.disk_usage(folder).total
    found = f"{folder}: {size_text(size)}"
    if size >= _LITTLE_SHARED:
        return Finding("shared", "ok", found)
    return Finding("shared", "note", found, "docker run --shm-size=256m")


def _tree(root: Path) -> Finding:
    """Where a container has its job; on a laptop it is not there, and need not be."""
    if not root.is_dir():
        return Finding("job folder", "ok", f"no {root}: clary train makes a tree of its own")
    where = "" if os.access(root, os.W_OK) else ", which cannot be written to"
    return Finding("job folder", "ok", f"{root} is there{where}: clary train and clary serve without a word use it")


def aws(environment: Mapping[str, str]) -> Finding:
    """Whether the SageMaker SDK would find an account to go to."""
    real = [name for name in _ACCOUNT if environment.get(name)]
    if _REAL_KEY.fullmatch(environment.get("AWS_ACCESS_KEY_ID", "")):
        real.append("AWS_ACCESS_KEY_ID")
    if not real:
        return Finding("aws", "ok", "no variable leads to an account")
    found = f"{', '.join(real)}: what the SageMaker SDK does not do locally it does in that account"
    fix = f"unset {' '.join(real)}; local mode takes any words: AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x"
    return Finding("aws", "note", found, fix)
