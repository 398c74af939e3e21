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
from ..errors import (
    AlgorithmError,
    DataError,
    PlatformError,
    UnsupportedAcceptError,
    UnsupportedContentTypeError,
    UserError,
)
from ..recordio.batch import CSR, Array, Batch
from ..recordio.content import MediaType, decode_body, format_of, parse_media_type
from .encode import MEDIA_TYPES, choose, encode, encode_row_texts
from .selected import encode_selected
from .settings import MIB, Settings, usable_cores

__all__ = ["create_app"]

_LOG: Final = logging.getLogger("clary")

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
    app.register_error_handler(Exception, endpoint.error)
    return app


class _UndecodableError(UserError):
    """A body that is not what its content type says, and the status to say it with."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Endpoint:
    """One model and how it is asked."""

    def __init__(self, model: Model, algorithm: Algorithm, settings: Settings) -> None:
        self._model = model
        self._algorithm = algorithm
        self._manners = algorithm.manners
        self._settings = settings
        self._offers = _offers(algorithm, settings.default_accept)
        self._places = threading.BoundedSemaphore(settings.threads)

    def ping(self) -> Response:
        """Say that the model is loaded, with an empty body."""
        return Response(status=200, content_type="text/plain; charset=utf-8")

    def execution_parameters(self) -> Response:
        """How a batch transform had better send its records."""
        most = self._settings.max_payload
        megabytes = max(1, min(_BATCH_PAYLOAD_MB, most // MIB)) if most else _BATCH_PAYLOAD_MB
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

    def error(self, error: Exception) -> Response:
        """What went wrong but for HTTP alone; the server has to answer, so this takes every exception there is."""
        if isinstance(error, UnsupportedContentTypeError):
            return _refusal(415, str(error))
        if isinstance(error, UnsupportedAcceptError):
            return _refusal(406, str(error))
        if isinstance(error, _UndecodableError):
            return _refusal(error.status, str(error))
        if isinstance(error, UserError):
            return _refusal(400, self._manners.unpredictable(str(error)))
        if isinstance(error, PlatformError):
            return _refusal(503, f"{error.prefix}: {error}")
        if isinstance(error, AlgorithmError):
            return _refusal(500, str(error))
        _LOG.error("an invocation failed", exc_info=error)
        return _refusal(500, f"Algorithm Error: the prediction failed ({type(error).__name__}); the log says where")

    def _answer(self) -> Response:
        _check_encoding()
        media = self._content_type()
        body = _read_body(self._settings.max_payload)
        if not body:
            return Response(status=204, content_type="text/plain; charset=utf-8")
        answer = choose(request.headers.get("Accept", ""), self._offers, self._manners.unsupported_accept)
        name = format_of(media).name
        try:
            batch = decode_body(body, media)
        except UserError as error:
            raise _UndecodableError(*self._manners.undecodable(name, str(error))) from error
        features = self._checked(batch, name)
        return Response(self._predicted(features, answer, batch), content_type=MEDIA_TYPES[answer])

    def _predicted(self, features: Array | CSR, answer: str, batch: Batch) -> bytes:
        """The answer's body."""
        keys, select = self._settings.inference_output, self._algorithm.select
        transform = self._settings.batch.lower() == "true"
        if keys and select is not None:
            return encode_selected(select(self._model, features, keys), answer, end=transform)
        predictions = self._model.predict(features)
        if transform and self._manners.row_texts_in_batch:
            return encode_row_texts(predictions)
        return encode(predictions, answer, batch.ids)

    def _content_type(self) -> MediaType:
        """The request's content type, which has to be one that can be read."""
        manners = self._manners
        media = parse_media_type(request.headers.get("Content-Type") or manners.default_request)
        try:
            name = format_of(media).name
        except UnsupportedContentTypeError:
            name = ""
        if name not in manners.requests:
            takes = [MEDIA_TYPES[known] for known in manners.requests]
            raise UnsupportedContentTypeError(manners.unsupported_request(media.type, takes))
        if why := manners.objection(name, media.parameters, piped=False):
            raise UnsupportedContentTypeError(why)
        return MediaType(media.type, manners.request_parameters(media.parameters))

    def _checked(self, batch: Batch, format_name: str) -> Array | CSR:
        """The features of `batch` as float32, as many a row as the model's, and none that it cannot take."""
        features, width = batch.features, self._model.feature_dim
        if isinstance(features, CSR):
            if features.shape[1] < width and (format_name == "libsvm" or self._algorithm.missing):
                features = dataclasses.replace(features, shape=(len(features), width))
            fits = features.shape[1] == width
        else:
            fits = width - self._manners.spare_columns <= features.shape[1] <= width
        if not fits:
            raise DataError(self._manners.wrong_width(format_name, batch.width, width))
        with np.errstate(over="ignore"):  # found below as infinite
            features = (
                features.astype(np.float32, copy=False)
                if isinstance(features, np.ndarray)
                else features.astype(np.float32)
            )
        _check_numbers(features, missing=self._algorithm.missing)
        return features


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


def _check_numbers(features: Array | CSR, *, missing: bool) -> None:
    """Refuse numbers that are none; NaN is allowed where it stands for a missing value."""
    values = features.values if isinstance(features, CSR) else features
    odd = np.isinf(values) if missing else ~np.isfinite(values)
    if odd.any():
        what = "missing (NaN)" if np.isnan(values[odd]).any() else "infinite"
        raise DataError(f"found {what} values in row {_first_row(features, odd)}")


def _first_row(features: Array | CSR, odd: Array) -> int:
    """Number, from 1, of the first row that has one of the values that are marked as `odd`."""
    if isinstance(features, CSR):
        return int(features.row_of[odd][0]) + 1
    return int(np.flatnonzero(odd.any(axis=1))[0]) + 1


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


def _refusal(status: int, text: str) -> Response:
    line = " ".join(text.split())
    _LOG.warning("%d %s", status, line)
    return Response(line, status=status, content_type="text/plain; charset=utf-8")
