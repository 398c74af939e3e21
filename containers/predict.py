"""Batch prediction: a data file in pieces to a server of its own, the answers in order to one file."""

from __future__ import annotations

import http.client
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from ..algorithms.registry import open_artifact
from ..errors import AlgorithmError, PlatformError, UserError
from ..recordio import framing
from ..recordio.batch import Batch
from ..recordio.content import format_of
from ..recordio.writer import write_batch
from .artifact import open_model
from .endpoint import endpoint
from .files import output
from .formats import Options, format_name, media_type, open_input

__all__ = ["predict"]

_LIMIT: Final = 6_000_000  # bytes; SageMaker's own limit for a request is 6 MiB
_PIECE: Final = 500_000  # bytes that are encoded at once, where rows have to be encoded
_SERVER_FAULT: Final = 500


def predict(*, model: Path, data: str, accept: str, content_type: str | None, out: str) -> None:
    """Write the model's answer for every row of `data` to `out`.

    Raises
    ------
    UserError
        When the server refuses a request, with what it says.
    """
    kind = format_of(content_type).name if content_type else format_name(data, None, "--content-type")
    sent = content_type or media_type(kind)
    with open_model(model) as folder, open_input(data) as given, endpoint(folder) as connection:
        if kind in _BORDERS:
            pieces = _cut(given.stream, _BORDERS[kind])
        elif kind == "json":
            pieces = iter([given.stream.read()])
        else:
            width = open_artifact(folder)[1].feature_dim if kind == "libsvm" else None
            pieces = _encode(given.batches(kind, Options(features=width)))
            sent = media_type("recordio")
        answers = (_ask(connection, piece, sent, media_type(accept)) for piece in pieces)
        with output(out) as stream:
            stream.writelines(_joined(answers))


def _line_border(held: bytes) -> int:
    return held.rfind(b"\n") + 1


def _record_border(held: bytes) -> int:
    """Where the last whole record ends; one split over several frames stays together."""
    frames = framing.scan(np.frombuffer(bytearray(held), np.uint8), len(held))
    ends = np.flatnonzero((frames.flags == framing.WHOLE) | (frames.flags == framing.LAST))
    if not len(ends):
        return 0
    last = int(ends[-1])
    return int(frames.starts[last]) + framing.HEADER.size + framing.padded(int(frames.lengths[last]))


_BORDERS: Final[Mapping[str, Callable[[bytes], int]]] = {
    "csv": _line_border,
    "jsonlines": _line_border,
    "recordio": _record_border,
}


def _cut(stream: BinaryIO, border: Callable[[bytes], int]) -> Iterator[bytes]:
    """The stream in pieces of whole records that fit into a request, unless a record does not."""
    held = b""
    while chunk := stream.read(max(_PIECE, _LIMIT - len(held))):
        held += chunk
        if end := border(held):
            yield held[:end]
            held = held[end:]
    if held.strip():
        yield held


def _encode(batches: Iterator[Batch]) -> Iterator[bytes]:
    """Rows of any other format, as RecordIO pieces that fit into a request."""
    held = io.BytesIO()
    for batch in batches:
        rows = batch.astype(np.float32)
        step = max(1, _PIECE // (4 * rows.width + 64)) if isinstance(rows.features, np.ndarray) else 1000
        for start in range(0, len(rows), step):
            write_batch(held, rows[start : start + step])
            if held.tell() > _LIMIT - 2 * _PIECE:
                yield held.getvalue()
                held = io.BytesIO()
    if held.tell():
        yield held.getvalue()


def _ask(connection: http.client.HTTPConnection, piece: bytes, sent: str, accept: str) -> tuple[str, bytes]:
    """Content type and body of the answer to one request."""
    try:
        connection.request("POST", "/invocations", piece, {"Content-Type": sent, "Accept": accept})
        response = connection.getresponse()
        body = response.read()
        connection.close()  # the server would, where the next piece is long in coming
    except (OSError, http.client.HTTPException) as error:
        raise PlatformError(f"the server broke off the connection: {error!r}") from error
    if response.status >= _SERVER_FAULT:
        raise AlgorithmError(
            f"the server failed with status {response.status}: {body.decode(errors='replace').strip()}"
        )
    if response.status != http.client.OK:
        raise UserError(f"the server answered {response.status}: {body.decode(errors='replace').strip()}")
    return response.headers.get_content_type(), body


def _joined(answers: Iterator[tuple[str, bytes]]) -> Iterator[bytes]:
    """One body out of many: lines below lines, records behind records, JSON lists made one."""
    merged: dict[str, list[Any]] = {}
    for kind, body in answers:
        if kind == "application/json":
            for key, rows in json.loads(body).items():
                merged.setdefault(key, []).extend(rows)
        else:
            text = kind != media_type("recordio")
            yield body + b"\n" if text and not body.endswith(b"\n") else body
    if merged:
        yield json.dumps(merged).encode() + b"\n"
