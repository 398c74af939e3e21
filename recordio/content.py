"""The one table of content types: which bytes training and serving can read, and who reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import PurePath
from typing import TYPE_CHECKING, BinaryIO

from ..errors import DataError, UnsupportedContentTypeError, UserError

if TYPE_CHECKING:
    from .batch import Batch

__all__ = [
    "FORMATS",
    "Format",
    "MediaType",
    "decode_body",
    "decode_stream",
    "format_of",
    "format_of_file",
    "parse_accept",
    "parse_media_type",
]


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type in lower case, and its parameters, whose names are in lower case.

    Examples
    --------
    >>> MediaType("text/csv", {"label_size": "0"}).type
    'text/csv'
    """

    type: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Format:
    """One row of the table.

    Parameters
    ----------
    name
        What we call it.
    media_types
        Its media types, the usual one first; those without a slash are short names that SageMaker takes for channels.
    suffixes
        How its files' names end.
    stream
        Reads ``(stream, media type, default of label_size)`` in bounded memory where the format allows it.
    body
        Reads the whole body of a request, where that differs from reading it as a stream.
    """

    name: str
    media_types: tuple[str, ...]
    suffixes: tuple[str, ...]
    stream: Callable[[BinaryIO, MediaType, int], Iterator[Batch]]
    body: Callable[[bytes, MediaType], Batch] | None = None


def parse_media_type(text: str | None) -> MediaType:
    """Parse a Content-Type; a missing or empty one is ``application/octet-stream``, as in HTTP.

    Examples
    --------
    >>> parse_media_type('Text/CSV; Label_Size=1; charset="utf-8";')
    MediaType(type='text/csv', parameters={'label_size': '1', 'charset': 'utf-8'})
    """
    name, semicolon, rest = (text or "").partition(";")
    parameters = {
        key.lower(): re.sub(r"\\(.)", r"\1", value[1:-1]) if value[:1] == '"' else value.strip()
        for key, value in re.findall(r';\s*([^\s;=]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;"]*)', semicolon + rest)
    }
    return MediaType(name.strip().lower() or "application/octet-stream", parameters)


def parse_accept(text: str | None) -> list[MediaType]:
    """Parse an Accept: what the client wants most comes first, what it refuses (``q=0``) is left out.

    A missing or empty one is ``*/*``. A ``q`` that is no number counts as 1.

    Examples
    --------
    >>> [media.type for media in parse_accept("text/csv;q=0.5, application/json, text/html;q=0")]
    ['application/json', 'text/csv']
    """
    wanted: list[tuple[float, MediaType]] = []
    for part in re.findall(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+', text or ""):
        if part.strip():
            media = parse_media_type(part)
            rest = {key: value for key, value in media.parameters.items() if key != "q"}
            wanted.append((_quality(media.parameters.get("q", "1")), MediaType(media.type, rest)))
    if not wanted:
        return [MediaType("*/*")]
    return [media for quality, media in sorted(wanted, key=lambda pair: -pair[0]) if quality > 0]


def format_of(media: MediaType | str) -> Format:
    """The format of a content type.

    Raises
    ------
    UnsupportedContentTypeError
        When there is none; the message lists those that there are.

    Examples
    --------
    >>> format_of("text/csv; label_size=0").name
    'csv'
    """
    media = parse_media_type(media) if isinstance(media, str) else media
    for row in FORMATS:
        if media.type in row.media_types:
            return row
    known = ", ".join(name for row in FORMATS for name in row.media_types if "/" in name)
    raise UnsupportedContentTypeError(f"content-type {media.type} not supported; supported are {known}")


def format_of_file(name: str | PurePath) -> Format:
    """The format that a file's name tells; ``.gz`` at its end does not count.

    Raises
    ------
    UnsupportedContentTypeError
        When its suffix tells nothing; the message lists those that do.

    Examples
    --------
    >>> format_of_file("train/part-0.CSV.gz").name
    'csv'
    """
    path = PurePath(str(name).lower().removesuffix(".gz"))
    for row in FORMATS:
        if path.suffix in row.suffixes:
            return row
    known = ", ".join(suffix for row in FORMATS for suffix in row.suffixes)
    raise UnsupportedContentTypeError(f"the name of {name} does not tell its format; known suffixes are {known}")


def decode_stream(stream: BinaryIO, media: MediaType, *, default_label_size: int) -> Iterator[Batch]:
    r"""Read training data. A batch may be a view that holds until the next is asked for; `rebatch` copies.

    Parameters
    ----------
    media
        Its parameter ``label_size`` counts for CSV and Parquet, ``delimiter`` (one character, ``tab`` or ``auto``) for
        CSV, ``first_index`` (0 or 1) for libsvm; all others are ignored.
    default_label_size
        For CSV and Parquet whose media type does not say.

    Raises
    ------
    UnsupportedContentTypeError, DataError, UserError
        For an unknown type, for wrong data, for a wrong parameter.

    Examples
    --------
    >>> [batch] = decode_stream(BytesIO(b"1,2,3\n"), parse_media_type("text/csv;label_size=1"), default_label_size=0)
    >>> batch.labels
    array([1.], dtype=float32)
    """
    return format_of(media).stream(stream, media, default_label_size)


def decode_body(body: bytes, media: MediaType) -> Batch:
    r"""Read the rows of a request; those in CSV and Parquet have no label unless the media type says otherwise.

    Those in libsvm may have one or not.

    Raises
    ------
    UnsupportedContentTypeError, DataError, UserError
        For an unknown type, for wrong data or none, for a wrong parameter.

    Examples
    --------
    >>> decode_body(b"1,2,3\n", parse_media_type("text/csv")).features
    array([[1., 2., 3.]], dtype=float32)
    """
    row = format_of(media)
    if row.body is not None and body:
        return row.body(body, media)
    batches = list(row.stream(BytesIO(body), media, 0)) if body else []
    if not batches:
        raise DataError("the body has no rows")
    if len(batches) == 1:
        return batches[0]
    from .batch import concatenate

    return concatenate(batches)


def _quality(text: str) -> float:
    return float(text) if re.fullmatch(r"\d*\.?\d+|\d+\.", text) else 1.0


def _whole_number(media: MediaType, name: str, default: int, largest: int | None = None) -> int:
    text = media.parameters.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or (largest is not None and int(text) > largest):
        what = "a whole number" if largest is None else " or ".join(map(str, range(largest + 1)))
        raise UserError(f"{name}={text} in content-type {media.type}: {name} must be {what}")
    return int(text)


def _delimiter(media: MediaType) -> str:
    """The character between the cells of CSV, or ``auto``."""
    text = media.parameters.get("delimiter")
    if text is None:
        return ","
    if text.lower() in ("tab", "\\t"):
        return "\t"
    if text.lower() == "auto":
        return "auto"
    if len(text) != 1 or not text.isascii() or text.isalnum() or text in '+-._"\r\n':
        raise UserError(
            f"delimiter={text} in content-type {media.type}: delimiter must be one character that is no part of a "
            'number (some need quotes: ";"), or tab, or auto'
        )
    return text


# Each reader is imported when it is first used: a server that only sees CSV starts without the others.


def _stream_recordio(stream: BinaryIO, _media: MediaType, _label_size: int) -> Iterator[Batch]:
    from .reader import read_views

    return read_views(stream)


def _body_recordio(body: bytes, _media: MediaType) -> Batch:
    from .reader import read_body

    return read_body(body)


def _stream_csv(stream: BinaryIO, media: MediaType, label_size: int) -> Iterator[Batch]:
    from .csv import read_csv

    return read_csv(stream, label_size=_whole_number(media, "label_size", label_size), delimiter=_delimiter(media))


def _body_csv(body: bytes, media: MediaType) -> Batch:
    from .csv import read_csv_body

    return read_csv_body(body, label_size=_whole_number(media, "label_size", 0), delimiter=_delimiter(media))


def _stream_libsvm(stream: BinaryIO, media: MediaType, _label_size: int) -> Iterator[Batch]:
    from .libsvm import read_libsvm

    return read_libsvm(stream, first_index=_whole_number(media, "first_index", 1, largest=1))


def _body_libsvm(body: bytes, media: MediaType) -> Batch:
    from .libsvm import read_libsvm_body

    return read_libsvm_body(body, first_index=_whole_number(media, "first_index", 1, largest=1))


def _stream_parquet(stream: BinaryIO, media: MediaType, label_size: int) -> Iterator[Batch]:
    from .parquet import read_parquet

    return read_parquet(stream, label_size=_whole_number(media, "label_size", label_size))


def _body_parquet(body: bytes, media: MediaType) -> Batch:
    from .parquet import read_parquet_body

    return read_parquet_body(body, label_size=_whole_number(media, "label_size", 0))


def _stream_json(stream: BinaryIO, media: MediaType, _label_size: int) -> Iterator[Batch]:
    yield _body_json(stream.read(), media)


def _body_json(body: bytes, _media: MediaType) -> Batch:
    from .jsonlines import read_json

    return read_json(body)


def _stream_jsonlines(stream: BinaryIO, _media: MediaType, _label_size: int) -> Iterator[Batch]:
    from .jsonlines import read_jsonlines

    return read_jsonlines(stream)


FORMATS = (
    Format(
        "recordio",
        ("application/x-recordio-protobuf", "recordio-protobuf"),
        (".rec", ".recordio", ".pbr", ".pb"),
        _stream_recordio,
        _body_recordio,
    ),
    Format("csv", ("text/csv", "csv"), (".csv",), _stream_csv, _body_csv),
    Format(
        "libsvm",
        ("text/libsvm", "text/x-libsvm", "libsvm"),
        (".libsvm", ".svm", ".svmlight"),
        _stream_libsvm,
        _body_libsvm,
    ),
    Format("parquet", ("application/x-parquet", "parquet"), (".parquet", ".pq"), _stream_parquet, _body_parquet),
    Format("json", ("application/json",), (".json",), _stream_json, _body_json),
    Format("jsonlines", ("application/jsonlines",), (".jsonl", ".jsonlines"), _stream_jsonlines),
)
