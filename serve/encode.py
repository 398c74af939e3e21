"""Predictions become the bytes of a response; columns are all that is known of an algorithm here.

Floats are written as the doubles they widen to. JSON has no word for NaN and the infinities, and clients in most
languages refuse a document with one: they are ``null`` in JSON and JSON Lines, ``nan`` and ``inf`` in CSV.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import numpy as np

from ..algorithms.base import Predictions
from ..errors import UnsupportedAcceptError, UnsupportedContentTypeError
from ..recordio.batch import Array
from ..recordio.content import MediaType, format_of, parse_accept

__all__ = ["ENCODERS", "Encoder", "choose"]

Ids = tuple[tuple[str, str], ...] | None

_DECIMALS: Final = 15
"""Most digits after the point of a number in JSON Lines."""

_EXPONENT_FROM: Final = 1e16
"""Python writes floats from here on with an exponent."""


def encode_json(predictions: Predictions, ids: Ids = None) -> bytes:
    """One JSON object with a list of the rows.

    Examples
    --------
    >>> columns = {"closest_cluster": np.array([5], np.float32), "distance_to_cluster": np.array([36.5], np.float32)}
    >>> encode_json(Predictions("predictions", columns))
    b'{"predictions": [{"closest_cluster": 5.0, "distance_to_cluster": 36.5}]}'
    """
    del ids  # only RecordIO has a place for them
    names = list(predictions.columns)
    rows = zip(*(_plain(column) for column in predictions.columns.values()), strict=True)
    return json.dumps({predictions.key: [dict(zip(names, row, strict=True)) for row in rows]}).encode()


def encode_jsonlines(predictions: Predictions, ids: Ids = None) -> bytes:
    """One compact JSON object a line, its keys in alphabetical order.

    Examples
    --------
    >>> columns = {"score": np.array([0.99, 0.5], np.float32), "predicted_label": np.array([1, 0])}
    >>> print(encode_jsonlines(Predictions("predictions", columns)).decode(), end="")
    {"predicted_label":1,"score":0.990000009536743}
    {"predicted_label":0,"score":0.5}
    """
    del ids
    names = sorted(predictions.columns)
    fields = [[_compact(value) for value in _plain(predictions.columns[name])] for name in names]
    line = "{{" + ",".join(json.dumps(name).replace("{", "{{").replace("}", "}}") + ":{}" for name in names) + "}}\n"
    return "".join(line.format(*row) for row in zip(*fields, strict=True)).encode()


def encode_csv(predictions: Predictions, ids: Ids = None) -> bytes:
    """One line a row, the columns side by side.

    Examples
    --------
    >>> columns = {"label": np.array([1]), "scores": np.array([[0.25, 0.75]])}
    >>> encode_csv(Predictions("predictions", columns))
    b'1,0.25,0.75\\n'
    """
    del ids
    flat = [column.reshape(len(column), -1).T.tolist() for column in predictions.columns.values()]
    fields = [map(repr, values) for columns in flat for values in columns]
    return "".join(",".join(row) + "\n" for row in zip(*fields, strict=True)).encode()


def encode_recordio(predictions: Predictions, ids: Ids = None) -> bytes:
    """One framed Record a row, whose ``label`` map holds a float32 tensor for each column."""
    from ..recordio.writer import encode_columns

    columns = {name: column.astype(np.float32, copy=False) for name, column in predictions.columns.items()}
    return encode_columns(columns, ids)


@dataclass(frozen=True, slots=True)
class Encoder:
    """How a response format is called and made.

    Parameters
    ----------
    media_type
        What the response's Content-Type says.
    encode
        Makes the body: ``encode(predictions, ids) -> bytes``.
    """

    media_type: str
    encode: Callable[[Predictions, Ids], bytes]


ENCODERS: Final[Mapping[str, Encoder]] = {
    "json": Encoder("application/json", encode_json),
    "jsonlines": Encoder("application/jsonlines", encode_jsonlines),
    "csv": Encoder("text/csv", encode_csv),
    "recordio": Encoder("application/x-recordio-protobuf", encode_recordio),
}
"""Name of a response format → its encoder."""


def choose(accept: str, offered: Sequence[str]) -> Encoder:
    """The encoder that a client likes best.

    Parameters
    ----------
    accept
        The Accept header, empty where there is none.
    offered
        Names of the formats there are; the first is for clients that accept anything.

    Raises
    ------
    UnsupportedAcceptError
        When the client accepts none of them.

    Examples
    --------
    >>> choose("text/csv;q=0.5, application/jsonlines", ["json", "jsonlines", "csv"]).media_type
    'application/jsonlines'
    """
    for media in parse_accept(accept) if accept.strip() else [MediaType("*/*", {})]:
        for name in offered:
            if _matches(media, name):
                return ENCODERS[name]
    supported = ", ".join(ENCODERS[name].media_type for name in offered)
    raise UnsupportedAcceptError(f"Accept type '{accept.strip()}' is not supported. Supported are: {supported}")


def _matches(media: MediaType, name: str) -> bool:
    """Whether `media` is the format of that name, or a pattern that covers it."""
    if media.type == "*/*":
        return True
    kind, _, rest = media.type.partition("/")
    if rest == "*":
        return ENCODERS[name].media_type.startswith(kind + "/")
    try:
        return format_of(media).name == name
    except UnsupportedContentTypeError:
        return False


def _plain(column: Array) -> list[Any]:
    """A column as numbers and lists of numbers that JSON can hold."""
    if column.dtype.kind == "f" and not np.isfinite(column).all():
        return np.where(np.isfinite(column), column.astype(object), None).tolist()
    return column.tolist()


def _compact(value: Any) -> str:
    """A value of a JSON Lines row, without blanks."""
    if isinstance(value, float):
        return _cut(value)
    if isinstance(value, list):
        return "[" + ",".join(map(_compact, value)) + "]"
    return json.dumps(value)


def _cut(value: float) -> str:
    """A finite number with no more than `_DECIMALS` digits after the point, the rest cut off."""
    text = repr(value)
    if "e" in text:
        if abs(value) >= _EXPONENT_FROM:
            return text
        text = f"{Decimal(text):f}"
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals[:_DECIMALS].rstrip('0') or '0'}"
