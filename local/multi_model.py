"""Models that a container loads when they are first asked for, and gives up when there is no room for others."""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..errors import ArtifactError, ChannelError, ClaryError
from .connections import Answer, Connections
from .faults import ModelNotReadyException, ValidationError
from .manifests import Location
from .model_data import MissingDataError, place_archive

__all__ = ["MultiModel", "RefusedLoadError"]

_LOAD: Final = 360.0  # seconds that a container has to load a model
_AT_ONCE: Final = 4  # models that are fetched and loaded at a time
_ADVICE: Final = (
    "Please ensure that there is an object located at the URL and that the role passed to CreateModel has permissions "
    "to download the model."
)


class RefusedLoadError(ClaryError):
    """The container does not load a model.

    Parameters
    ----------
    answer
        What it says.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"the container answers {answer.status}")
        self.answer = answer


@dataclass(slots=True)
class _Model:
    """One of them."""

    name: str
    loading: threading.Lock = field(default_factory=threading.Lock)
    loaded: bool = False
    users: int = 0


class MultiModel:
    """The models of one container.

    Parameters
    ----------
    s3
        A client.
    prefix
        Where the archives are.
    root
        What is /opt/ml in the container.
    seen
        The same as the container calls it.
    connections
        To the container.
    """

    def __init__(self, s3: Any, prefix: str, root: Path, seen: str, connections: Connections) -> None:
        self._s3 = s3
        self._prefix = Location.of(prefix)
        self._folder = root / "models"
        self._seen = f"{seen}/models"
        self._connections = connections
        self._lock = threading.Lock()
        self._models: OrderedDict[str, _Model] = OrderedDict()  # that was asked last is the last
        self._loads = threading.BoundedSemaphore(_AT_ONCE)
        self._room = threading.Lock()  # one at a time makes room: two could each unload what the other has loaded

    @contextmanager
    def opened(
        self, target: str, body: bytes, headers: Mapping[str, str], timeout: float
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer of a model, of which the body is still to be read.

        Raises
        ------
        ValidationError
            When the request names no model, or there is none.
        ModelNotReadyException
            When it is not loaded in time.
        RefusedLoadError
            When the container does not load it.
        """
        at = self._location(target)
        with self._in_use(at) as model:
            path = f"/models/{model.name}/invoke"
            with self._connections.opened("POST", path, body, headers, timeout=timeout) as response:
                yield response

    def _location(self, target: str) -> Location:
        """The archive that a request means."""
        if not target:
            raise ValidationError("TargetModel is missing: this is a multi-model endpoint, so name one of its archives")
        place = target.removeprefix("/")
        if ".." in place.split("/") or "\0" in place or not place:
            raise ValidationError(f"TargetModel {target!r} leads out of the folder that the models are in")
        prefix = self._prefix.key
        return Location(self._prefix.bucket, f"{prefix}{'' if prefix.endswith('/') or not prefix else '/'}{place}")

    @contextmanager
    def _in_use(self, at: Location) -> Iterator[_Model]:
        """A model that is loaded, and stays so for the block."""
        with self._lock:
            model = self._models.setdefault(at.key, _Model(hashlib.sha256(at.key.encode()).hexdigest()[:32]))
            self._models.move_to_end(at.key)
            model.users += 1
        try:
            if not model.loading.acquire(timeout=_LOAD):
                raise ModelNotReadyException(f"the model {at} is still loading")
            try:
                if not model.loaded:
                    with self._turn(at):
                        self._load(model, at)
            finally:
                model.loading.release()
            yield model
        finally:
            self._give_back(at.key, model)

    @contextmanager
    def _turn(self, at: Location) -> Iterator[None]:
        """Wait until few others are being loaded: they would only keep each other from it."""
        if not self._loads.acquire(timeout=_LOAD):
            raise ModelNotReadyException(f"the model {at} waits for others to be loaded")
        try:
            yield
        finally:
            self._loads.release()

    def _load(self, model: _Model, at: Location) -> None:
        """Fetch a model and have it loaded; others go where there is no room."""
        folder = self._folder / model.name / "model"
        try:
            folder.mkdir(parents=True)
            self._fetch(at, folder)
            body = json.dumps({"model_name": model.name, "url": f"{self._seen}/{model.name}/model"}).encode()
            with self._room:
                answer = self._post(body)
                while answer.status == http.client.INSUFFICIENT_STORAGE and self._unload_one():
                    answer = self._post(body)
            if answer.status not in (http.client.OK, http.client.CONFLICT):
                raise RefusedLoadError(answer)
            model.loaded = True
        finally:
            if not model.loaded:
                shutil.rmtree(folder.parent, ignore_errors=True)

    def _fetch(self, at: Location, folder: Path) -> None:
        try:
            place_archive(self._s3, at, folder, lambda: False)
        except (MissingDataError, ChannelError) as error:
            told = f"Failed to download model data(bucket: {at.bucket}, key: {at.key}). {_ADVICE}"
            raise ValidationError(told) from error
        except ArtifactError as error:
            raise ValidationError(f"Failed to extract model data archive: {error}") from error

    def _post(self, body: bytes) -> Answer:
        headers = {"Content-Type": "application/json"}
        return self._connections.ask("POST", "/models", body, headers, timeout=_LOAD)

    def _unload_one(self) -> bool:
        """Give up the model that nobody has asked for the longest; whether there is one that is not in use."""
        with self._lock:
            key = next((key for key, model in self._models.items() if model.loaded and not model.users), None)
            if key is None:
                return False
            model = self._models[key]
            model.users += 1  # so that it is not forgotten before it has gone
        try:
            with model.loading:
                if model.users == 1:  # nobody has asked for it meanwhile
                    self._connections.ask("DELETE", f"/models/{model.name}", timeout=_LOAD)
                    model.loaded = False
                    shutil.rmtree(self._folder / model.name, ignore_errors=True)
        finally:
            self._give_back(key, model)
        return True

    def _give_back(self, key: str, model: _Model) -> None:
        with self._lock:
            model.users -= 1
            if not model.loaded and not model.users:
                self._models.pop(key, None)
