"""The HTTP side of an endpoint: ``/ping``, ``/execution-parameters`` and ``/invocations``."""

from __future__ import annotations

from typing import Final

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from .bodies import Bodies
from .endpoint import Endpoint
from .plain import PING
from .refusals import verdict
from .responses import allow, http_verdict, refusal
from .settings import MIB, Settings, usable_cores

__all__ = ["create_app", "invocations", "ping"]

_PATHS: Final = "POST to /invocations, GET /ping or /execution-parameters"

_BATCH_PAYLOAD_MB: Final = 6
_BATCH_TOTAL_MB: Final = 100
"""Batch transform's own default for a payload, and its limit for all that are under way."""


def create_app(endpoint: Endpoint, settings: Settings) -> Flask:
    """The web application that serves a model."""
    bodies = Bodies()
    app = Flask(__name__, static_folder=None)
    app.add_url_rule("/ping", view_func=ping)
    app.add_url_rule("/execution-parameters", "parameters", lambda: _execution_parameters(settings))
    app.add_url_rule(
        "/invocations", "invocations", lambda: invocations(endpoint, bodies, settings.max_payload), methods=["POST"]
    )
    app.after_request(bodies.finish)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _error)
    return app


def ping() -> Response:
    """Say that all is well, with an empty body."""
    return Response(PING.body, content_type=PING.content_type)


def invocations(endpoint: Endpoint, bodies: Bodies, most: int) -> Response:
    """Predict for the rows of the request, of which there may be `most` bytes."""
    fields = request.headers
    media = endpoint.media_type(lambda name: fields.get(name, ""))
    if not (body := bodies.whole(most)):
        return Response(status=204, content_type="text/plain; charset=utf-8")
    reply = endpoint.answer(body, media, fields.get("Accept", ""))
    return Response(reply.body, content_type=reply.content_type)


def _execution_parameters(settings: Settings) -> Response:
    """How a batch transform had better send its records."""
    most = settings.max_payload
    megabytes = max(1, min(_BATCH_PAYLOAD_MB, most // MIB)) if most else _BATCH_PAYLOAD_MB
    return jsonify(
        MaxConcurrentTransforms=min(usable_cores(), _BATCH_TOTAL_MB // megabytes),
        # the SageMaker Python SDK's local mode knows only the spelling of the API
        BatchStrategy="MultiRecord" if settings.batch == "True" else "MULTI_RECORD",
        MaxPayloadInMB=megabytes,
    )


def _http_error(error: HTTPException) -> Response:
    return allow(refusal(*http_verdict(error, _PATHS)), error)


def _error(error: Exception) -> Response:
    return refusal(*verdict(error))
