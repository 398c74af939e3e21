"""Containers run by a Docker engine: every group a network in which its hosts have their names; no Compose."""

from __future__ import annotations

import hashlib
import os
import select
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from ..containers.endpoint import LOOPBACK, free_port
from ..errors import ClaryError, MissingExtraError, PlatformError, UserError
from .executors import Container, usable_memory
from .folder import DOCKER

__all__ = ["Dockers"]

_PORT: Final = 8080
_PULL: Final = 600.0  # seconds
_TICK: Final = 0.1  # seconds
_BLOCK: Final = 1 << 16
_HEADER: Final = struct.Struct(">BxxxL")  # of a frame of output: which stream, how many bytes
_KILLED: Final = 137
_GONE: Final = (404, 409)  # HTTP: no such container or network, or one that has ended or is about to go


class Dockers:
    """Runs any image; implements `clary.local.executors.Executor`.

    Parameters
    ----------
    state
        The platform's folder; what this class makes bears a label that is this folder's.
    """

    name = "docker"

    def __init__(self, state: Path) -> None:
        self._state = state
        self._id = hashlib.sha256(os.fsencode(state.resolve())).hexdigest()[:12]
        self._lock = threading.Lock()  # one network for the hosts of a group, which start at once

    def check(self, container: Container) -> None:
        """Whether an engine answers, and has the image if it is one of ours; any other is fetched at the start."""
        self._image(container)

    def start(self, container: Container, group: str) -> _Contained:
        """Start it in the network of its group."""
        image = self._image(container) or self._pulled(container.image)
        (self._state / DOCKER).touch()
        with self._lock, _asking(f"make a network for {group}"):
            network = self._network(group, isolated=container.isolated)
        where = _Place(container, network)
        options = {"image": image, "labels": self._labels(group), **self._limits(container), **where.options}
        with _asking(f"start {container.image}", refused=UserError):
            made = self._client.containers.create(**options)
            try:
                return _Contained(made, where)
            except BaseException:
                made.remove(v=True, force=True)
                raise

    def disband(self, group: str) -> None:
        """Remove its network, and any container that is still in it."""
        client = self._client
        with self._lock, _asking(f"remove the network of {group}"):
            _remove(client, self._labels(group))

    def sweep(self) -> None:
        """Remove the containers and networks that bear our label; where no engine answers, there are none."""
        try:
            client = self._client
        except ClaryError:
            return
        with _asking("remove what an earlier run has left"):
            _remove(client, {"clary.platform": self._id})

    @cached_property
    def _client(self) -> Any:
        try:
            import docker
        except ImportError as error:
            raise MissingExtraError("docker", extra="docker") from error
        with _asking("speak with us"):
            return docker.from_env()

    @cached_property
    def _engine(self) -> Mapping[str, Any]:
        """What the engine says of itself."""
        with _asking("say what it is"):
            info: dict[str, Any] = self._client.info()
            return info

    def _labels(self, group: str) -> dict[str, str]:
        return {"clary.platform": self._id, "clary.group": group}

    def _image(self, container: Container) -> str | None:
        """The name under which the engine has the image; None for one that has to be fetched."""
        names = [container.image]
        if container.algorithm is not None:
            of = (container.algorithm, "all")
            names += [name for algorithm in of for name in (f"clary/{algorithm}:latest", f"clary-{algorithm}:latest")]
        for name in names:
            if self._has(name):
                return name
        if container.algorithm is not None:
            raise UserError(
                f"there is no image of {container.algorithm} here: make it by  make image "
                f"ALGORITHM={container.algorithm}  or all of them by  make images  in clary's source tree"
            )
        return None

    def _has(self, image: str) -> bool:
        images = self._client.images  # which says so where the SDK is missing
        from docker.errors import ImageNotFound

        with _asking(f"look for the image {image}", refused=UserError), suppress(ImageNotFound):
            images.get(image)
            return True
        return False

    def _pulled(self, image: str) -> str:
        """Fetch an image as nobody in particular; one that comes too late is there for the next job."""
        failures: list[ClaryError] = []

        def pull() -> None:
            try:
                with _asking(f"pull {image}"):
                    self._client.images.pull(image, auth_config={})
            except ClaryError as error:
                failures.append(error)

        thread = threading.Thread(target=pull, name=f"pull {image}", daemon=True)
        thread.start()
        thread.join(_PULL)
        advice = f"docker pull {image}  or  docker load  gets it, if need be after  docker login"
        if thread.is_alive():
            raise UserError(f"the image {image} was not pulled within {_PULL:.0f} s: {advice}")
        if failures:
            raise UserError(f"the image {image} is not here; {failures[0]}: {advice}") from failures[0]
        return image

    def _network(self, group: str, *, isolated: bool) -> str | None:
        """The name of the group's network, which is made at need; None where the engine can make none."""
        from docker.errors import APIError

        networks, labels = self._client.networks, self._labels(group)
        name = f"clary-{self._id}-{group}"
        if networks.list(filters=_having(labels)):
            return name
        try:
            networks.create(name, driver="bridge", internal=isolated, labels=labels, check_duplicate=True)
        except APIError:
            if networks.list(filters={"name": "^bridge$"}):
                raise
            return None  # an engine that was started without its own bridge, as this machine can have none
        return name

    def _limits(self, container: Container) -> dict[str, Any]:
        """Whose the processes are, and how much of the machine they may have."""
        options: dict[str, Any] = {}
        if os.getuid() and not any("rootless" in option for option in self._engine.get("SecurityOptions") or ()):
            options["user"] = f"{os.getuid()}:{os.getgid()}"  # the files that they leave are ours
        if (memory := usable_memory(container.instance)) is not None:
            options |= {"mem_limit": memory, "memswap_limit": memory}
        if container.instance.cpus is not None:
            options["nano_cpus"] = min(container.instance.cpus, self._engine["NCPU"]) * 10**9
        return options


class _Place:
    """Where in the network a container is, and what it is told.

    Parameters
    ----------
    container
        Which.
    network
        Its group's; None where there are no networks, so that it has that of this machine.
    """

    def __init__(self, container: Container, network: str | None) -> None:
        if network is None and container.isolated and container.word == "serve":
            raise PlatformError(
                "this Docker engine can make no networks, so nobody could reach a container that is isolated: "
                "start dockerd with a bridge, or do without EnableNetworkIsolation"
            )
        self._container = container
        self._network = network
        self._port = free_port() if network is None and container.word == "serve" else _PORT
        self._published = network is not None and container.word == "serve" and not container.isolated

    @property
    def options(self) -> dict[str, Any]:
        """What the SDK takes to create the container."""
        from docker.types import EndpointConfig, Mount

        container = self._container
        options: dict[str, Any] = {
            "hostname": container.name,
            "command": list(container.arguments) or ([] if container.entrypoint else [container.word]),
            "environment": self._environment,
            "mounts": [Mount("/opt/ml", str(container.tree.root.resolve()), type="bind")],
        }
        if container.entrypoint:
            options["entrypoint"] = list(container.entrypoint)
        if self._network is None:
            return {**options, "network_mode": "none" if container.isolated else "host"}
        if self._published:
            options["ports"] = {f"{_PORT}/tcp": (LOOPBACK,)}  # any free port there
        alias = EndpointConfig("1.22", aliases=[container.name])
        return {**options, "network": self._network, "networking_config": {self._network: alias}}

    @property
    def _environment(self) -> dict[str, str]:
        container = self._container
        environment = dict(container.environment)
        if os.getuid():
            environment.setdefault("HOME", "/tmp")  # noqa: S108  # the container's: nobody else is there
        if container.algorithm is not None:
            environment["CLARY_ALGORITHM"] = container.algorithm
        if container.word == "serve":
            environment["SAGEMAKER_BIND_TO_PORT"] = str(self._port)
            if self._network is None:
                environment["CLARY_BIND"] = LOOPBACK
        return environment

    def address(self, settings: Mapping[str, Any]) -> tuple[str, int]:
        """Where its server is, by what the engine says of its network; port 0 where it has ended already."""
        if self._published:
            bound = (settings.get("Ports") or {}).get(f"{_PORT}/tcp")
            return LOOPBACK, int(bound[0]["HostPort"]) if bound else 0
        if self._network is None:
            return LOOPBACK, self._port
        host = settings["Networks"][self._network]["IPAddress"]
        return (host, _PORT) if host else (LOOPBACK, 0)


class _Contained:
    """A container that was created, and now starts; implements `clary.local.executors.Running`."""

    def __init__(self, made: Any, where: _Place) -> None:
        self._made = made
        self._code: int | None = None
        self._deadline: float | None = None
        self._output = made.attach_socket(params={"stdout": 1, "stderr": 1, "stream": 1})
        try:
            made.start()
            made.reload()
        except BaseException:
            self._output._response.close()  # the SDK's way to the socket's owner
            raise
        self._address = where.address(made.attrs["NetworkSettings"])

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        if self._code is None:
            self._code = self._ask()
        return self._code is None

    @property
    def code(self) -> int:
        """Its exit code, as Docker says it."""
        while self.running:
            self._enforce()
            time.sleep(_TICK)
        assert self._code is not None  # noqa: S101  # it has ended
        return self._code

    @property
    def address(self) -> tuple[str, int]:
        """Where its server listens."""
        return self._address

    def lines(self) -> Iterator[bytes]:
        """Its output."""
        frames, rests = b"", {1: b"", 2: b""}  # stdout and stderr are cut into lines each for itself
        while (chunk := self._read()) != b"":
            frames, parts = _unpack(frames + (chunk or b""))
            for stream, part in parts:
                *whole, rests[stream] = (rests[stream] + part).split(b"\n")
                yield from (line + b"\n" for line in whole)
            self._enforce()
            if chunk is None:
                yield b""
        yield from (rest + b"\n" for rest in rests.values() if rest)
        while self.running:
            self._enforce()
            yield b""
            time.sleep(_TICK)

    def stop(self, grace: float) -> None:
        """Tell it to end within `grace` seconds; where it was told so before, the earlier end counts."""
        deadline = time.monotonic() + grace
        if self._deadline is None:
            self._deadline = deadline
            self._signal("SIGTERM")
        self._deadline = min(self._deadline, deadline)

    def close(self) -> None:
        """Kill it where it runs, and remove it."""
        with _asking(f"remove {self._made.short_id}"):
            if self.running:
                self._code = _KILLED
            with _even_gone():
                self._made.remove(v=True, force=True)
        self._output._response.close()

    def _ask(self) -> int | None:
        """The exit code that the engine knows; None where there is none yet."""
        with _asking(f"tell of {self._made.short_id}"), _even_gone():
            state = self._made.client.api.inspect_container(self._made.id)["State"]
            return None if state["Running"] else int(state["ExitCode"])
        return _KILLED  # by somebody who has removed it as well

    def _read(self) -> bytes | None:
        """Some frames of output; empty at its end, None where there is none now."""
        poll = select.poll()
        poll.register(self._output, select.POLLIN | select.POLLHUP)
        ready = poll.poll(1000 * _TICK)
        return os.read(self._output.fileno(), _BLOCK) if ready else None

    def _enforce(self) -> None:
        if self._deadline is not None and time.monotonic() > self._deadline:
            self._signal("SIGKILL")

    def _signal(self, name: str) -> None:
        with _asking(f"send {name}"), _even_gone():
            self._made.kill(signal=name)


def _unpack(frames: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
    """What is left after the last whole frame, and the stream and bytes of each."""
    parts: list[tuple[int, bytes]] = []
    begin = 0
    while len(frames) - begin >= _HEADER.size:
        stream, size = _HEADER.unpack_from(frames, begin)
        end = begin + _HEADER.size + size
        if end > len(frames):
            break
        parts.append((stream, frames[begin + _HEADER.size : end]))
        begin = end
    return frames[begin:], parts


@contextmanager
def _asking(what: str, *, refused: type[ClaryError] = PlatformError) -> Iterator[None]:
    """Say in our own errors what goes wrong while the engine is asked for something.

    Parameters
    ----------
    what
        For, as in "Docker cannot …".
    refused
        Raised where the engine says that it is the request that has to change.
    """
    from docker.errors import APIError, DockerException

    try:
        yield
    except APIError as error:
        kind = refused if error.is_client_error() else PlatformError
        raise kind(f"Docker cannot {what}: {error.explanation or error}") from error
    except (DockerException, OSError) as error:  # the latter is what the SDK's HTTP client raises
        raise PlatformError(f"no Docker engine answers ({error}): is one running? see  clary doctor") from error


@contextmanager
def _even_gone() -> Iterator[None]:
    """Pass over a container or network that is no more."""
    from docker.errors import APIError

    try:
        yield
    except APIError as error:
        if error.status_code not in _GONE:
            raise


def _remove(client: Any, labels: Mapping[str, str]) -> None:
    """Leave no container and no network that has these labels."""
    for left in client.containers.list(all=True, filters=_having(labels), ignore_removed=True):
        with _even_gone():
            left.remove(v=True, force=True)
    for network in client.networks.list(filters=_having(labels)):
        with _even_gone():
            network.remove()


def _having(labels: Mapping[str, str]) -> dict[str, list[str]]:
    return {"label": [f"{name}={value}" for name, value in labels.items()]}
