"""The HTTP side of a multi-model endpoint: models come and go while the server runs.

Words and statuses are those of AWS's multi-model server, whose refusals are JSON; a model itself answers and refuses
as it does behind ``/invocations``.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Final

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from ..algorithms.registry import open_artifact
from .app import invocations, ping
from .bodies import Bodies
from .endpoint import Endpoint
from .models import Models, ModelsError, Slot, map_large_pieces
from .places import predictions
from .refusals import RefusedError, one_line, verdict
from .responses import allow, http_verdict, refusal
from .settings import MIB, Settings

__all__ = ["PAGE", "create_app"]

PAGE: Final = 100
"""Models on one page of the list."""

_LOG: Final = logging.getLogger("clary")

_PATHS: Final = "GET /ping or /models, POST to /models or /models/NAME/invoke, GET or DELETE /models/NAME"

_TYPES: Final = {
    400: "BadRequestException",
    404: "ResourceNotFoundException",
    405: "MethodNotAllowedException",
    409: "ConflictStatusException",
    413: "RequestEntityTooLargeException",
    503: "ServiceUnavailableException",
    507: "InsufficientMemoryException",
}
_OTHER: Final = "InternalServerException"


def create_app(settings: Settings) -> Flask:
    """The web application that serves whatever models it is told to load."""
    map_large_pieces()
    server = _Server(settings)
    app = Flask(__name__, static_folder=None)
    app.url_map.converters["name"] = _Name
    app.url_map.merge_slashes = False
    app.add_url_rule("/ping", view_func=ping)
    app.add_url_rule("/models", view_func=server.register, methods=["POST"])
    app.add_url_rule("/models", view_func=server.listed)
    app.add_url_rule("/models/<name:name>", view_func=server.described)
    app.add_url_rule("/models/<name:name>", view_func=server.unregister, methods=["DELETE"])
    app.add_url_rule("/models/<name:name>/invoke", view_func=server.invoke, methods=["POST"])
    app.after_request(server.bodies.finish)
    app.teardown_request(server.end)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _error)
    return app


class _Name(BaseConverter):
    """A model's name in a path: any characters, slashes too."""

    regex = "(?s:.+?)"
    part_isolating = False


class _Server:
    """The models of this process, and what can be asked of them."""

    def __init__(self, settings: Settings) -> None:
        self.bodies = Bodies()
        self._places = predictions(settings.threads)
        self._settings = settings
        self._models = Models(self._open)

    def register(self) -> Response:
        """Load a model."""
        name, url = _registration(self.bodies.whole(MIB))
        self._models.load(name, url)
        _LOG.info("model %r is loaded from %r", name, url)
        return _json(status="Workers scaled")

    def unregister(self, name: str) -> Response:
        """Unload a model; its memory is free when this answers."""
        self._models.unload(name)
        _LOG.info("model %r is unloaded", name)
        return _json(status=f'Model "{name}" unregistered')

    def listed(self) -> Response:
        """The models in the order of their loading, a page at a time."""
        token = request.args.get("next_page_token", "0")
        if not (token.isascii() and token.isdigit()) or len(token) > 18:
            raise RefusedError(400, f"next_page_token={token} is none that this server gave")
        slots, more = self._models.page(int(token), PAGE)
        models = [{"modelName": slot.name, "modelUrl": slot.url} for slot in slots]
        return _json(models=models) if more is None else _json(models=models, nextPageToken=str(more))

    def described(self, name: str) -> Response:
        """One model."""
        return _json(modelName=name, modelUrl=self._models.url(name))

    def invoke(self, name: str) -> Response:
        """Predict for the rows of the request."""
        slot: Slot[Endpoint] = self._models.borrow(name)
        g.slot = slot  # until the request has ended: an error's traceback holds the model longer than this call
        assert slot.content is not None  # noqa: S101  # it was borrowed
        return invocations(slot.content, self.bodies, self._settings.max_payload)

    def end(self, error: BaseException | None) -> None:
        """Give back what the request has borrowed."""
        del error
        if slot := g.pop("slot", None):
            self._models.give_back(slot)

    def _open(self, folder: Path) -> Endpoint:
        algorithm, model = open_artifact(folder, ensemble=self._settings.ensemble)
        return Endpoint(model, algorithm, self._settings, self._places)


def _registration(body: bytes) -> tuple[str, str]:
    """Name and place of the model that is to be loaded."""
    wanted = 'send {"model_name": "NAME", "url": "FOLDER"}'
    try:
        given: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"the body is no JSON: {wanted}") from error
    if not isinstance(given, dict):
        raise RefusedError(400, f"the body is no JSON object: {wanted}")
    name, url = given.get("model_name"), given.get("url")
    for key, value in (("model_name", name), ("url", url)):
        if not isinstance(value, str) or not value or not _is_unicode(value):
            raise RefusedError(400, f"{key} is missing or no text: {wanted}")
    return str(name), str(url)


def _is_unicode(text: str) -> bool:
    """Whether a text from JSON, where half a character can be written, can be sent back and found in a path."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _error(error: Exception) -> Response:
    """A model refuses in its own words; all else is the server's."""
    if isinstance(error, MemoryError):
        error = ModelsError(507, "not enough memory to answer the request")
    status, text = (error.status, str(error)) if isinstance(error, ModelsError) else verdict(error)
    if "slot" in g:
        return refusal(status, text)
    kind = "ModelNotFoundException" if status == 404 else _TYPES.get(status, _OTHER)
    return _refused(status, kind, text)


def _http_error(error: HTTPException) -> Response:
    status, text = http_verdict(error, _PATHS)
    answer = refusal(status, text) if "slot" in g else _refused(status, _TYPES.get(status, _OTHER), text)
    return allow(answer, error)


def _refused(status: int, kind: str, text: str) -> Response:
    _LOG.warning("%d %s", status, one_line(text))
    response = _json(code=status, type=kind, message=text)
    response.status_code = status
    return response


def _json(**fields: Any) -> Response:
    return Response(json.dumps(fields, separators=(",", ":")), content_type="application/json")
