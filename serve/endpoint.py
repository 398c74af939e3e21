"""One model and how it is asked, whoever has read the request."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Final

import numpy as np

from ..algorithms.base import Algorithm, Model
from ..errors import DataError, UnsupportedContentTypeError, UserError
from ..recordio.batch import CSR, Array, Batch
from ..recordio.content import MediaType, decode_body, format_of, parse_media_type
from .encode import MEDIA_TYPES, choose, encode, encode_row_texts
from .places import Places
from .plain import Plain, Reply
from .refusals import RefusedError
from .selected import encode_selected
from .settings import Settings

__all__ = ["Endpoint"]

_TEXTS: Final = 64
"""Values of a header field that are remembered."""


class Endpoint:
    """One model and how it is asked.

    Parameters
    ----------
    model, algorithm
        What answers.
    settings
        Of the server.
    places
        To predict in; endpoints that share a process share them.

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

    def media_type(self, field: Callable[[str], str]) -> MediaType:
        """What the body of a request with these header fields is; who could not be answered need not send one."""
        with self._places:
            return self._asked(field)

    def answer(self, body: bytes, media: MediaType, accept: str) -> Reply:
        """Predict for the rows of a body."""
        with self._places:
            return self._answer(body, media, accept)

    def invoked_plainly(self, request: Plain, body: bytes) -> Reply | None:
        """Predict for the rows of a plain request; None where anything is wrong, which the long way finds again.

        So there is one place that refuses.
        """
        most = self._settings.max_payload
        if not body or (most and len(body) > most):
            return None
        try:
            with self._places:
                return self._answer(body, self._asked(request.field), request.field("Accept"))
        except Exception:  # noqa: BLE001  # it comes again there
            return None

    def _asked(self, field: Callable[[str], str]) -> MediaType:
        _check_encoding(field("Content-Encoding"))
        return self._media_type(field("Content-Type"))

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


def _check_encoding(encoding: str) -> None:
    """Refuse a compressed body."""
    encoding = encoding.strip()
    if encoding.lower() not in ("", "identity"):
        raise UnsupportedContentTypeError(f"content-encoding {encoding} not supported: send the body as it is")


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
    if math.isfinite(np.vdot(values, values)):  # as the sum of squares is, so is each of them
        return
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
