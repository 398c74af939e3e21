"""Predictions become the bytes of a response; columns are all that is known of an algorithm here.

Floats are written as the doubles they widen to. JSON has no word for NaN and the infinities, and clients in most
languages refuse a document with one: they are ``null`` in JSON and JSON Lines, ``nan`` and ``inf`` in CSV.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np

from ..algorithms.base import Predictions
from ..algorithms.manners import Manners
from ..errors import UnsupportedAcceptError, UnsupportedContentTypeError
from ..recordio.batch import Array
from ..recordio.content import FORMATS, MediaType, format_of, parse_accept
from ..recordio.csv import format_csv
from . import replies

__all__ = [
    "MEDIA_TYPES",
    "choose",
    "encode",
    "encode_csv",
    "encode_json",
    "encode_jsonlines",
    "encode_recordio",
    "encode_row_texts",
]

Ids = tuple[tuple[str, str], ...] | None

_DECIMALS: Final = 15
"""Most digits after the point of a number in JSON Lines."""

_BLOCK: Final = 4096
"""Rows that are made into JSON at a time."""

_REFUSAL: Final = Manners().unsupported_accept

_EXPONENT_FROM: Final = 1e16
"""Python writes floats from here on with an exponent."""


def encode_json(predictions: Predictions) -> bytes:
    """One JSON object with a list of the rows.

    Examples
    --------
    >>> columns = {"closest_cluster": np.array([5], np.float32), "distance_to_cluster": np.array([36.5], np.float32)}
    >>> encode_json(Predictions("predictions", columns))
    b'{"predictions": [{"closest_cluster": 5.0, "distance_to_cluster": 36.5}]}'
    """
    key = _quoted(predictions.key)
    if (text := replies.written(predictions.columns, replies.JSON)) is not None:
        return b"{%b: [%b]}" % (key.encode(), text[:-2])
    blocks = [json.dumps(rows)[1:-1] for rows in _blocks(predictions.columns)]
    return f"{{{key}: [{', '.join(blocks)}]}}".encode()


def encode_jsonlines(predictions: Predictions) -> bytes:
    """One compact JSON object a line, its keys in alphabetical order.

    Examples
    --------
    >>> columns = {"score": np.array([0.99, 0.5], np.float32), "predicted_label": np.array([1, 0])}
    >>> print(encode_jsonlines(Predictions("predictions", columns)).decode(), end="")
    {"predicted_label":1,"score":0.990000009536743}
    {"predicted_label":0,"score":0.5}
    """
    columns = dict(sorted(predictions.columns.items()))
    if (text := replies.written(columns, replies.JSON_LINES)) is not None:
        return text
    keys = {name: json.dumps(name) + ":" for name in columns}
    lines = [
        "{" + ",".join([keys[name] + _compact(value) for name, value in row.items()]) + "}\n"
        for rows in _blocks(columns)
        for row in rows
    ]
    return "".join(lines).encode()


def encode_csv(predictions: Predictions) -> bytes:
    r"""One line a row, the columns side by side.

    Examples
    --------
    >>> columns = {"label": np.array([1]), "scores": np.array([[0.25, 0.75]])}
    >>> encode_csv(Predictions("predictions", columns))
    b'1,0.25,0.75\n'
    """
    if (text := replies.written(predictions.columns, replies.CSV)) is not None:
        return text
    columns = predictions.columns.values()
    return format_csv([column.astype(np.float64) if column.dtype.kind == "f" else column for column in columns])


def encode_recordio(predictions: Predictions, ids: Ids = None) -> bytes:
    """One framed Record a row, whose ``label`` map holds a float32 tensor for each column."""
    from ..recordio.writer import encode_columns

    columns = {name: column.astype(np.float32, copy=False) for name, column in predictions.columns.items()}
    return encode_columns(columns, ids)


def encode_row_texts(predictions: Predictions) -> bytes:
    r"""One line a row, as Python writes its answer: a number or a list of numbers.

    Examples
    --------
    >>> encode_row_texts(Predictions("predictions", {"score": np.array([[0.25, 0.75]])}))
    b'[0.25, 0.75]\n'
    """
    if (text := replies.written(predictions.columns, replies.ROW_TEXTS)) is not None:
        return text
    [column] = predictions.columns.values()
    return "".join(f"{row}\n" for row in column.tolist()).encode()


_TEXT: Final = {"json": encode_json, "jsonlines": encode_jsonlines, "csv": encode_csv}

MEDIA_TYPES: Final[Mapping[str, str]] = {row.name: row.media_types[0] for row in FORMATS}
"""Name of a format → its usual media type, which a response in it has as Content-Type."""


def encode(predictions: Predictions, name: str, ids: Ids = None) -> bytes:
    """The predictions in the format called `name`; RecordIO alone has a place for the rows' ids."""
    return encode_recordio(predictions, ids) if name == "recordio" else _TEXT[name](predictions)


def choose(accept: str, offered: Sequence[str], words: Callable[[str, Sequence[str]], str] = _REFUSAL) -> str:
    """The name of the format that a client likes best.

    Parameters
    ----------
    accept
        The Accept header, empty where there is none.
    offered
        Names of the formats there are; the first is for clients that accept anything.
    words
        Makes the text of a refusal of the header and the media types there are.

    Raises
    ------
    UnsupportedAcceptError
        When the client accepts none of them.

    Examples
    --------
    >>> choose("text/csv;q=0.5, application/jsonlines", ["json", "jsonlines", "csv"])
    'jsonlines'
    """
    for media in parse_accept(accept):
        for name in offered:
            if _matches(media, name):
                return name
    raise UnsupportedAcceptError(words(accept.strip(), [MEDIA_TYPES[name] for name in offered]))


def _matches(media: MediaType, name: str) -> bool:
    """Whether `media` is the format of that name, or a pattern that covers it."""
    if media.type == "*/*":
        return True
    kind, _, rest = media.type.partition("/")
    if rest == "*":
        return MEDIA_TYPES[name].startswith(kind + "/")
    try:
        return format_of(media).name == name
    except UnsupportedContentTypeError:
        return False


@functools.lru_cache(maxsize=64)
def _quoted(text: str) -> str:
    return json.dumps(text)


def _blocks(columns: Mapping[str, Array]) -> Iterator[list[dict[str, Any]]]:
    """The rows as JSON objects, some at a time: json holds up all threads, ``/ping`` too, while it works."""
    count = len(next(iter(columns.values())))
    for start in range(0, count, _BLOCK):
        fields = [_plain(column[start : start + _BLOCK]) for column in columns.values()]
        yield [dict(zip(columns, row, strict=True)) for row in zip(*fields, strict=True)]


def _plain(column: Array) -> list[Any]:
    """A column as numbers and lists of numbers that JSON can hold."""
    if column.dtype.kind == "f" and not (finite := np.isfinite(column)).all():
        column = column.astype(object)
        column[~finite] = None
    values: list[Any] = column.tolist()
    return values


def _compact(value: Any) -> str:
    """A number, a null or a list of them as JSON without blanks."""
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
