"""The HTTP side of an endpoint: ``/ping``, ``/execution-parameters`` and ``/invocations``."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Final

import numpy as np
from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from ..algorithms.base import Algorithm, Model
from ..errors import DataError, UnsupportedContentTypeError, UserError
from ..recordio.batch import CSR, Array, Batch
from ..recordio.content import MediaType, decode_body, format_of, parse_media_type
from .bodies import Places, check_encoding
from .encode import MEDIA_TYPES, choose, encode, encode_row_texts
from .plain import PING, Plain, Reply
from .refusals import RefusedError, allow, http_verdict, refusal, verdict
from .selected import encode_selected
from .settings import MIB, Settings, usable_cores

__all__ = ["SHORTCUTS", "Endpoint", "create_app", "ping", "ping_plainly"]

SHORTCUTS: Final = "clary.shortcuts"
"""Name among an application's extensions of what `quick` may answer in its place."""

_PATHS: Final = "POST to /invocations, GET /ping or /execution-parameters"

_TEXTS: Final = 64
"""Values of a header field that are remembered."""

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
    places = Places(settings.threads)
    endpoint = Endpoint(model, algorithm, settings, places)
    app = Flask(__name__, static_folder=None)
    app.add_url_rule("/ping", view_func=ping)
    app.add_url_rule("/execution-parameters", view_func=endpoint.execution_parameters)
    app.add_url_rule("/invocations", view_func=endpoint.invocations, methods=["POST"])
    app.after_request(places.finish)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _error)
    app.extensions[SHORTCUTS] = {"GET /ping": ping_plainly, "POST /invocations": endpoint.invoked_plainly}
    return app


def ping() -> Response:
    """Say that all is well, with an empty body."""
    return Response(PING.body, content_type=PING.content_type)


def ping_plainly(request: Plain, body: bytes) -> Reply:
    """Say so to who asked plainly."""
    del request, body
    return PING


class Endpoint:
    """One model and how it is asked.

    Parameters
    ----------
    model, algorithm
        What answers.
    settings
        Of the server.
    places
        How much the process takes on; endpoints that share a process share them.

    Raises
    ------
    UserError
        When the default response format in `settings` is none of the algorithm's.
    """

    def __init__(self, model: Model, algorithm: Algorithm, settings: Settings, places: Places) -> None:
        self._model = model
        self._algorithm = algorithm
        self._manners = algorithm.manners
        self._settings = settings
        self._offers = _offers(algorithm, settings.default_accept)
        self._places = places
        # of texts that come again and again
        self._media_type = functools.lru_cache(_TEXTS)(self._media_type_of)
        self._choice = functools.lru_cache(_TEXTS)(self._choice_for)

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
        fields, most = request.headers, self._settings.max_payload
        reply = self._reply(lambda name: fields.get(name, ""), lambda: self._places.body(most))
        if reply is None:
            return Response(status=204, content_type="text/plain; charset=utf-8")
        return Response(reply.body, content_type=reply.content_type)

    def invoked_plainly(self, request: Plain, body: bytes) -> Reply | None:
        """Predict for the rows of a plain request; None where anything is wrong, which `invocations` finds again.

        So there is one place that refuses.
        """
        most = self._settings.max_payload
        if most and len(body) > most:
            return None
        try:
            return self._reply(request.field, lambda: body)
        except Exception:  # noqa: BLE001  # it comes again there
            return None

    def _reply(self, field: Callable[[str], str], read: Callable[[], bytes]) -> Reply | None:
        """The answer to a request with these header fields and the body that `read` gives; None if it is empty."""
        with self._places.predicting():  # who could not be answered need not send a body
            check_encoding(field("Content-Encoding"))
            media = self._media_type(field("Content-Type"))
        if not (body := read()):
            return None
        with self._places.predicting():
            return self._answer(body, media, field("Accept"))

    def _answer(self, body: bytes, media: MediaType, accept: str) -> Reply:
        answer = self._choice(accept)
        name = format_of(media).name
        try:
            batch = decode_body(body, media)
        except UserError as error:
            raise RefusedError(*self._manners.undecodable(name, str(error))) from error
        try:
            predicted = self._predicted(self._checked(batch, name), answer, batch)
        except UserError as error:
            raise RefusedError(400, self._manners.unpredictable(str(error))) from error
        return Reply(predicted, MEDIA_TYPES[answer])

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

    def _choice_for(self, accept: str) -> str:
        """Name of the response's format."""
        return choose(accept, self._offers, self._manners.unsupported_accept)

    def _media_type_of(self, content_type: str) -> MediaType:
        """The request's content type, which has to be one that can be read."""
        manners = self._manners
        media = parse_media_type(content_type or manners.default_request)
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
        if isinstance(features, CSR) or features.dtype != np.float32:
            with np.errstate(over="ignore"):  # found below as infinite
                features = features.astype(np.float32)
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


def _check_numbers(features: Array | CSR, *, missing: bool) -> None:
    """Refuse numbers that are none; NaN is allowed where it stands for a missing value."""
    values = features.values if isinstance(features, CSR) else features
    good = ~np.isinf(values) if missing else np.isfinite(values)
    if not good.all():
        odd = ~good
        what = "missing (NaN)" if np.isnan(values[odd]).any() else "infinite"
        raise DataError(f"found {what} values in row {_first_row(features, odd)}")


def _first_row(features: Array | CSR, odd: Array) -> int:
    """Number, from 1, of the first row that has one of the values that are marked as `odd`."""
    if isinstance(features, CSR):
        return int(features.row_of[odd][0]) + 1
    return int(np.flatnonzero(odd.any(axis=1))[0]) + 1


def _http_error(error: HTTPException) -> Response:
    return allow(refusal(*http_verdict(error, _PATHS)), error)


def _error(error: Exception) -> Response:
    return refusal(*verdict(error))
