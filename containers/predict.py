"""Batch prediction: a data file in pieces to a server of its own, the answers in order to one file."""

from __future__ import annotations

import http.client
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

import numpy as np

from ..algorithms.registry import open_artifact
from ..errors import AlgorithmError, ArtifactError, DataError, PlatformError, UsageError, UserError
from ..recordio import framing
from ..recordio.batch import Batch
from ..recordio.content import format_of, parse_media_type
from ..recordio.jsonlines import read_json
from ..recordio.shingles import shingle_batches
from ..recordio.writer import write_batch
from .artifact import open_model
from .endpoint import endpoint
from .files import output
from .formats import Input, Options, format_name, media_type, open_input

__all__ = ["predict"]

_LIMIT: Final = 6_000_000  # bytes; SageMaker's own limit for a request is 6 MiB
_PIECE: Final = 500_000  # bytes that are encoded at once, where rows have to be encoded
_LARGEST_JSON: Final = 256 << 20  # bytes; Python's objects for them take about ten times as much
_SERVER_FAULT: Final = 500
_PLACE: Final = re.compile(r"\b(line|row|record) (\d+)(?: at byte (\d+))?")


@dataclass(frozen=True, slots=True)
class _Piece:
    """Body of a request, and how many lines, rows, records and bytes of the file were in those before it.

    Each row of the body is `shingle` rows of the file.
    """

    body: bytes
    before: Mapping[str, int]
    shingle: int = 1

    def placed(self, text: str) -> str:
        """What the server says of a place in the body, said of the place in the file."""
        return _PLACE.sub(self._moved, text, count=1)

    def _moved(self, place: re.Match[str]) -> str:
        unit, number, byte = place.groups()
        first = int(number) + self.before.get(unit, 0)
        if self.shingle > 1:
            return f"rows {first} to {first + self.shingle - 1}"
        moved = f"{unit} {first}"
        return moved if byte is None else f"{moved} at byte {int(byte) + self.before.get('byte', 0)}"


def predict(
    *, model: Path, data: str, accept: str, content_type: str | None, out: str, label_size: int, shingle: int
) -> None:
    """Write the model's answer for every row of `data` to `out`; with `shingle`, for every so many of them in a row.

    Raises
    ------
    UserError
        When the server refuses a request, with what it says.
    DataError
        When that is for the data, or there is no row.
    """
    kind = format_of(content_type).name if content_type else format_name(data, None, "--content-type")
    media = content_type or media_type(kind)
    if label_size and kind == "csv":
        media += f";label_size={label_size}"
    with (
        output(out) as stream,
        open_model(model) as folder,
        open_input(data) as given,
        _server(model, folder) as connection,
    ):
        cut = shingle == 1 and _is_taken(kind, media, folder)
        if cut:
            pieces = _cut(given.stream, *_CUTS[kind])
        else:
            pieces = _encode(_rows(given, kind, media, folder, Options(label_size), shingle), shingle)
        sent = media if cut else media_type("recordio")
        answers = (_ask(connection, piece, sent, media_type(accept)) for piece in pieces)
        first = next(answers, None)
        if first is None:
            raise DataError("there are no rows")
        stream.writelines(_joined(chain([first], answers)))


@contextmanager
def _server(model: Path, folder: Path) -> Iterator[http.client.HTTPConnection]:
    """A connection to a server of the model in `folder`, which the user knows as `model`."""
    try:
        with endpoint(folder) as connection:
            yield connection
    except ArtifactError as error:
        raise ArtifactError(f"{model}: {error}") from error


def _rows(given: Input, kind: str, media: str, folder: Path, options: Options, shingle: int) -> Iterator[Batch]:
    """What the model is asked, decoded here: rows that cannot be cut out of the file, and shingles of any."""
    if kind == "json":
        rows = _json(given.stream)
    elif kind == "libsvm":
        first = int(_parameters(folder).get("first_index", options.first_index))
        rows = given.batches(kind, replace(options, features=_width(folder, shingle), first_index=first))
    elif kind in _CUTS:
        said = media.partition(";")  # the parameters of a media type count too
        usual = (f"{name}={value}" for name, value in _parameters(folder).items())
        rows = given.batches(";".join([said[0], *usual, said[2]]), options)
    else:
        rows = given.batches(kind, options)
    return rows if shingle == 1 else shingle_batches(rows, shingle)


def _is_taken(kind: str, media: str, folder: Path) -> bool:
    """Whether the server reads this format itself, labels and all, and the file can be cut into requests."""
    labels = parse_media_type(media).parameters.get("label_size", "0")
    if kind in _ALWAYS_TAKEN and labels == "0":
        return True
    manners = open_artifact(folder)[0].manners
    leaves_out = manners.request_parameters({"label_size": labels})["label_size"]
    return kind in _CUTS and kind in manners.requests and leaves_out == labels


def _parameters(folder: Path) -> Mapping[str, str]:
    """What the algorithm takes for granted of a content type."""
    return open_artifact(folder)[0].manners.channel_parameters


def _width(folder: Path, shingle: int) -> int:
    """Number of columns of a row of the file, which libsvm does not tell."""
    wanted = open_artifact(folder)[1].feature_dim
    if wanted % shingle:
        raise UsageError(f"--shingle {shingle}: the model's {wanted} features are not {shingle} rows side by side")
    return wanted // shingle


def _json(stream: BinaryIO) -> Iterator[Batch]:
    body = stream.read(_LARGEST_JSON + 1)
    if len(body) > _LARGEST_JSON:
        raise DataError(f"JSON has to be read as a whole, here at most {_LARGEST_JSON >> 20} MiB: write JSON Lines")
    return iter([read_json(body)] if body.strip() else [])


def _line_border(held: bytes) -> int:
    return held.rfind(b"\n") + 1


def _lines(body: bytes) -> Mapping[str, int]:
    return {"line": body.count(b"\n"), "row": sum(1 for line in body.split(b"\n") if line.strip())}


def _scanned(held: bytes) -> tuple[int, int]:
    """Number of whole records, and where the last ends; one split over several frames stays together."""
    frames = framing.scan(np.frombuffer(bytearray(held), np.uint8), len(held))
    ends = np.flatnonzero((frames.flags == framing.WHOLE) | (frames.flags == framing.LAST))
    if not len(ends):
        return 0, 0
    last = int(ends[-1])
    return len(ends), int(frames.starts[last]) + framing.HEADER.size + framing.padded(int(frames.lengths[last]))


def _record_border(held: bytes) -> int:
    return _scanned(held)[1]


def _records(body: bytes) -> Mapping[str, int]:
    count, end = _scanned(body)
    return {"record": count, "row": count, "byte": end}


_CUTS: Final[Mapping[str, tuple[Callable[[bytes], int], Callable[[bytes], Mapping[str, int]]]]] = {
    "csv": (_line_border, _lines),
    "jsonlines": (_line_border, _lines),
    "libsvm": (_line_border, _lines),
    "recordio": (_record_border, _records),
}
"""Where the last whole row of a piece ends, and what is counted in a piece."""


_ALWAYS_TAKEN: Final = ("csv", "recordio")
"""Formats that every algorithm's server reads."""


def _cut(
    stream: BinaryIO, border: Callable[[bytes], int], count: Callable[[bytes], Mapping[str, int]]
) -> Iterator[_Piece]:
    """The stream in pieces of whole rows, all counted."""
    before: Counter[str] = Counter()
    for body in _bodies(stream, border):
        if body.strip():
            yield _Piece(body, Counter(before))
        before.update(count(body))


def _bodies(stream: BinaryIO, border: Callable[[bytes], int]) -> Iterator[bytes]:
    """The stream in pieces of whole rows that fit into a request, unless a row does not."""
    held = b""
    while chunk := stream.read(max(_PIECE, _LIMIT - len(held))):
        held += chunk
        if end := border(held):
            yield held[:end]
            held = held[end:]
    if held:
        yield held


def _encode(batches: Iterator[Batch], shingle: int) -> Iterator[_Piece]:
    """Decoded rows as RecordIO pieces that fit into a request."""
    held = io.BytesIO()
    sent = taken = 0
    for batch in batches:
        rows = batch.astype(np.float32)
        step = max(1, _PIECE // (4 * rows.width + 64)) if isinstance(rows.features, np.ndarray) else 1000
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            write_batch(held, part)
            taken += len(part)
            if held.tell() > _LIMIT - 2 * _PIECE:
                yield _Piece(held.getvalue(), {"row": sent}, shingle)
                held, sent = io.BytesIO(), taken
    if held.tell():
        yield _Piece(held.getvalue(), {"row": sent}, shingle)


def _ask(connection: http.client.HTTPConnection, piece: _Piece, sent: str, accept: str) -> tuple[str, bytes]:
    """Content type and body of the answer to one request."""
    try:
        connection.request("POST", "/invocations", piece.body, {"Content-Type": sent, "Accept": accept})
        response = connection.getresponse()
        body = response.read()
        connection.close()  # the server would, where the next piece is long in coming
    except (OSError, http.client.HTTPException) as error:
        raise PlatformError(f"the server broke off the connection: {error!r}") from error
    if response.status != http.client.OK:
        _refuse(response.status, piece.placed(body.decode(errors="replace").strip()))
    return response.headers.get_content_type(), body


def _refuse(status: int, text: str) -> NoReturn:
    if status >= _SERVER_FAULT:
        raise AlgorithmError(f"the server failed with status {status}: {text}")
    kind = DataError if status == http.client.BAD_REQUEST else UserError
    raise kind(f"the server answered {status}: {text}")


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
