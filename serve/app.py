"""The HTTP side of an endpoint: ``/ping``, ``/execution-parameters`` and ``/invocations``.

A refusal is one line of plain text, here and in `connections`, which refuses what is no request at all. The
SageMaker Python SDK's local mode looks at no status, so no refusal may read like a prediction; and AWS's wording
stands first in each, because clients compare it.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from functools import partial
from itertools import islice
from typing import Final

import numpy as np
from flask import Flask, Response, jsonify, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge

from ..algorithms.base import Algorithm, Model
from ..errors import DataError, PlatformError, UnsupportedAcceptError, UnsupportedContentTypeError, UserError
from ..recordio.batch import CSR, Array, Batch
from ..recordio.content import MediaType, decode_body, format_of, parse_media_type
from .encode import MEDIA_TYPES, choose, encode
from .settings import MIB, Settings, usable_cores

__all__ = ["create_app"]

_LOG: Final = logging.getLogger("clary")

_REQUESTS: Final = ("csv", "json", "jsonlines", "recordio")
"""Formats every algorithm takes; libsvm only those that train on it."""

_PIECE: Final = MIB
"""Bytes taken off the socket at a time."""

_CUT: Final = "unable to evaluate payload provided: the body of the request did not arrive whole"

_BROKEN: Final = (OSError, ParseException)
"""What goes wrong when a client stops or garbles its body."""

_UNREAD: Final = (404, 405, 413, 415)
"""Statuses that are decided before a body is read to its end."""

_DISCARD: Final = 1 << 30
"""Bytes of a refused request that are read to no use; no service of SageMaker sends more."""

_BATCH_PAYLOAD_MB: Final = 6
_BATCH_TOTAL_MB: Final = 100
"""Batch transform's own default for a payload, and its limit for all that are under way."""


def create_app(model: Model, algorithm: Algorithm, settings: Settings) -> Flask:
    """The web application that serves `model`.

    Raises
    ------
    UserError
        When the default response format in `settings` is none of the algorithm's.
    """
    endpoint = _Endpoint(model, algorithm, settings)
    app = Flask(__name__, static_folder=None)
    app.add_url_rule("/ping", view_func=endpoint.ping)
    app.add_url_rule("/execution-parameters", view_func=endpoint.execution_parameters)
    app.add_url_rule("/invocations", view_func=endpoint.invocations, methods=["POST"])
    app.after_request(endpoint.finish)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _error)
    return app


class _Endpoint:
    """One model and how it is asked."""

    def __init__(self, model: Model, algorithm: Algorithm, settings: Settings) -> None:
        self._model = model
        self._settings = settings
        self._takes = (*_REQUESTS, "libsvm") if "libsvm" in algorithm.content_types else _REQUESTS
        self._offers = _offers(algorithm, settings.default_accept)
        self._places = threading.BoundedSemaphore(settings.threads)

    def ping(self) -> Response:
        """Say that the model is loaded, with an empty body."""
        return Response(status=200, content_type="text/plain; charset=utf-8")

    def execution_parameters(self) -> Response:
        """How a batch transform had better send its records."""
        limit = self._settings.max_payload // MIB or _BATCH_PAYLOAD_MB
        megabytes = max(1, min(_BATCH_PAYLOAD_MB, limit))
        return jsonify(
            MaxConcurrentTransforms=min(usable_cores(), _BATCH_TOTAL_MB // megabytes),
            # the SageMaker Python SDK's local mode knows only the spelling of the API
            BatchStrategy="MultiRecord" if self._settings.batch == "True" else "MULTI_RECORD",
            MaxPayloadInMB=megabytes,
        )

    def invocations(self) -> Response:
        """Predict for the rows of the request."""
        if not self._places.acquire(blocking=False):
            raise PlatformError(f"all {self._settings.threads} places are taken by running requests: try again later")
        try:
            return self._answer()
        finally:
            self._places.release()

    def finish(self, response: Response) -> Response:
        """End the connection after a refusal, if what the client still sends cannot be read first."""
        if response.status_code == 503 or (response.status_code in _UNREAD and not self._discard_body()):
            response.headers["Connection"] = "close"
        return response

    def _discard_body(self) -> bool:
        """Read what is left of a request, so that a client that first writes it all gets to see the answer.

        Returns
        -------
        bool
            Whether all of it could be read. It takes a place: clients that stall must not get all threads.
        """
        if not self._places.acquire(blocking=False):
            return False
        most = _DISCARD // _PIECE
        try:
            return sum(1 for _ in islice(iter(partial(request.stream.read, _PIECE), b""), most)) < most
        except _BROKEN:
            return False
        finally:
            self._places.release()

    def _answer(self) -> Response:
        _check_encoding()
        media = self._content_type()
        body = _read_body(self._settings.max_payload)
        if not body:
            return Response(status=204, content_type="text/plain; charset=utf-8")
        answer = choose(request.headers.get("Accept", ""), self._offers)
        batch = decode_body(body, media)
        if format_of(media).name == "libsvm":
            batch = _widened(batch, self._model.feature_dim)
        predictions = self._model.predict(_checked(batch, self._model.feature_dim))
        return Response(encode(predictions, answer, batch.ids), content_type=MEDIA_TYPES[answer])

    def _content_type(self) -> MediaType:
        """The request's content type, which has to be one that can be read."""
        media = parse_media_type(request.headers.get("Content-Type"))
        try:
            known = format_of(media).name in self._takes
        except UnsupportedContentTypeError:
            known = False
        if not known:
            takes = ", ".join(MEDIA_TYPES[name] for name in self._takes)
            raise UnsupportedContentTypeError(f"content-type {media.type} not supported. Supported are: {takes}")
        return media


def _offers(algorithm: Algorithm, default: str) -> tuple[str, ...]:
    """Names of the response formats, the default first."""
    if not default:
        return algorithm.accepts
    try:
        first = format_of(parse_media_type(default)).name
    except UnsupportedContentTypeError:
        first = ""
    if first not in algorithm.accepts:
        known = ", ".join(MEDIA_TYPES[name] for name in algorithm.accepts)
        raise UserError(f"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT={default!r} is not one of {known}")
    return (first, *(name for name in algorithm.accepts if name != first))


def _check_encoding() -> None:
    """Refuse a compressed body."""
    encoding = request.headers.get("Content-Encoding", "").strip()
    if encoding.lower() not in ("", "identity"):
        raise UnsupportedContentTypeError(f"content-encoding {encoding} not supported: send the body as it is")


def _read_body(limit: int) -> bytes:
    """The whole body of the request, chunked or not; `limit` is in bytes, 0 for none."""
    pieces: list[bytes] = []
    size = 0  # counted, because the length of a chunked body is not announced
    try:
        for piece in iter(partial(request.stream.read, _PIECE), b""):
            size += len(piece)
            if limit and size > limit:
                raise RequestEntityTooLarge(f"the payload is larger than {limit} bytes, which is MAX_CONTENT_LENGTH")
            pieces.append(piece)
    except _BROKEN as error:
        raise BadRequest(_CUT) from error
    if size < (request.content_length or 0):
        raise BadRequest(_CUT)
    return b"".join(pieces)


def _widened(batch: Batch, width: int) -> Batch:
    """The same rows with `width` columns: in libsvm a row is as wide as its last value."""
    features = batch.features
    if isinstance(features, CSR) and features.shape[1] < width:
        return dataclasses.replace(batch, features=dataclasses.replace(features, shape=(len(features), width)))
    return batch


def _checked(batch: Batch, width: int) -> Array | CSR:
    """The features of `batch` as float32, all finite and `width` of them a row."""
    features = batch.features
    if batch.width != width:
        hint = "; send no label column" if batch.width == width + 1 else ""
        raise DataError(f"wrong number of features: {batch.width} instead of {width}{hint}")
    with np.errstate(over="ignore"):  # found below as infinite
        features = features.astype(np.float32) if isinstance(features, CSR) else features.astype(np.float32, copy=False)
    values = features.values if isinstance(features, CSR) else features
    if not np.isfinite(values).all():
        what = "missing (NaN)" if np.isnan(values).any() else "infinite"
        raise DataError(f"found {what} values in row {_first_odd_row(features)}")
    return features


def _first_odd_row(features: Array | CSR) -> int:
    """Number, from 1, of the first row that has a value that is not finite."""
    if isinstance(features, CSR):
        return int(features.row_of[~np.isfinite(features.values)][0]) + 1
    return int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0]) + 1


def _http_error(error: HTTPException) -> Response:
    """An answer that is decided by HTTP alone: the path, the method, the size."""
    text = error.description or error.name
    if isinstance(error, NotFound):
        text = f"there is nothing at {request.path}: POST to /invocations, GET /ping or /execution-parameters"
    elif isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted({*(error.valid_methods or ())} - {"HEAD", "OPTIONS"}))
        text = f"{request.path} does not take {request.method}: use {allowed}"
    refusal = _refusal(error.code or 500, text)
    if isinstance(error, MethodNotAllowed):
        refusal.allow.update(error.valid_methods or ())
    if isinstance(error, BadRequest):
        refusal.headers["Connection"] = "close"  # nobody knows where the next request would begin
    return refusal


def _error(error: Exception) -> Response:
    """Anything else that went wrong; the server has to answer, so this takes every exception there is."""
    if isinstance(error, UnsupportedContentTypeError):
        return _refusal(415, str(error))
    if isinstance(error, UnsupportedAcceptError):
        return _refusal(406, str(error))
    if isinstance(error, UserError):
        return _refusal(400, f"unable to evaluate payload provided: {error}")
    if isinstance(error, PlatformError):
        return _refusal(503, f"{error.prefix}: {error}")
    _LOG.error("an invocation failed", exc_info=error)
    return _refusal(500, f"Algorithm Error: the prediction failed ({type(error).__name__}); the log says where")


def _refusal(status: int, text: str) -> Response:
    line = " ".join(text.split())
    _LOG.warning("%d %s", status, line)
    return Response(line, status=status, content_type="text/plain; charset=utf-8")
