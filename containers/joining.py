"""What is sent of a record, and what is written of an answer: filters, the join with the input, assembly.

A row of CSV counts as an array of its fields as they stand there, quotes and all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ..errors import DataError, UnsupportedContentTypeError, UsageError
from ..recordio.content import format_of, parse_media_type
from .jsonpath import JsonPath
from .splitting import Numbered, Piece
from .transform_job import TransformJob

__all__ = ["Processing"]


class _Format(NamedTuple):
    """How a row is read and written, and whether each is a line."""

    load: Callable[[bytes], Any]
    dump: Callable[[Any], bytes]
    lines: bool


class Processing:
    """The filters, the join and the assembly of a job.

    Parameters
    ----------
    job
        Its settings.

    Raises
    ------
    UsageError
        When they do not fit together.
    """

    def __init__(self, job: TransformJob) -> None:
        self._split, self._assemble = job.split_type, job.assemble_with
        self._input, self._output = JsonPath(job.input_filter), JsonPath(job.output_filter)
        self._join = job.join_source == "Input"
        if self._join:
            self._check_join(job)
        self._sent = self._format(self._input, "ContentType", job.content_type)
        self._answered = self._format(self._output, "Accept", job.accept)

    @property
    def prepare(self) -> Callable[[Numbered], bytes] | None:
        """Makes what is sent out of a record; None where that is the record itself."""
        return None if self._input.whole else self._filtered

    @property
    def keeps_records(self) -> bool:
        """Whether an answer is written with what it is the answer to."""
        return self._join

    def finish(self, piece: Piece, answer: bytes) -> bytes:
        """What is written for the answer to a piece.

        Raises
        ------
        DataError
            When the answer cannot be taken apart, has another number of records, or lacks what the filter asks for.
        """
        line = self._assemble == "Line"
        if self._output.whole and not self._join:
            return answer + b"\n" if line and not answer.endswith(b"\n") else answer
        form = self._answered
        outputs = [_loaded(form, text, "the answer") for text in _texts(form, answer, several=piece.count > 1)]
        rows = self._joined(piece.given, outputs) if self._join else iter(outputs)
        end = b"\n" if line or form.lines else b""
        return b"".join(form.dump(self._selected(row)) + end for row in rows)

    def _selected(self, row: Any) -> Any:
        try:
            return self._output(row)
        except DataError as error:
            raise DataError(f"OutputFilter {error}") from error

    def _check_join(self, job: TransformJob) -> None:
        if not job.content_type or not job.accept or _type(job.content_type) != _type(job.accept):
            types = f"{job.content_type or 'none'} and {job.accept or 'none'}"
            raise UsageError(f"JoinSource Input needs a ContentType, and an Accept that is the same: got {types}")
        if self._split == "Line" and self._assemble != "Line":
            raise UsageError("JoinSource Input with SplitType Line needs AssembleWith Line")

    def _format(self, path: JsonPath, field: str, media: str) -> _Format:
        """The format of records or answers, checked where they are to be read."""
        if path.whole and not self._join:
            return _PLAIN
        if self._split not in ("None", "Line"):
            raise UsageError(f"records of SplitType {self._split} cannot be filtered or joined: they are bytes")
        try:
            kind = format_of(media).name if media else ""
        except UnsupportedContentTypeError:
            kind = ""
        if kind not in _FORMATS:
            raise UsageError(
                f"filters and joins need as {field} text/csv, application/json or application/jsonlines: "
                f"got {media or 'none'}"
            )
        if kind == "csv":
            path.check_for_rows()
        return _FORMATS[kind]

    def _filtered(self, record: Numbered) -> bytes:
        number, body = record
        form = self._sent
        if not form.lines and self._split == "None":
            return form.dump(self._asked(body, ""))
        lines = enumerate(body.split(b"\n"), max(1, number))
        texts = (form.dump(self._asked(line, f"line {i}: ")) for i, line in lines if line.strip())
        return b"".join(text + b"\n" for text in texts)

    def _asked(self, text: bytes, where: str) -> Any:
        """What the input filter leaves of a row."""
        row = _loaded(self._sent, text, f"{where}the record")
        try:
            return self._input(row)
        except DataError as error:
            raise DataError(f"{where}InputFilter {error}") from error

    def _joined(self, given: Sequence[bytes], outputs: Sequence[Any]) -> Iterator[Any]:
        form = self._sent
        texts = [text for record in given for text in _texts(form, record, several=False)]
        if len(texts) != len(outputs):
            raise DataError(f"{len(texts)} records were sent and {len(outputs)} came back: only as many can be joined")
        for text, output in zip(texts, outputs, strict=True):
            row = _loaded(form, text, "the record")
            if form is _FORMATS["csv"]:
                yield [*row, *output]
            elif isinstance(row, dict):
                yield {**row, "SageMakerOutput": output}
            else:
                yield {"SageMakerInput": row, "SageMakerOutput": output}


def _type(media: str) -> str:
    return parse_media_type(media).type


def _texts(form: _Format, body: bytes, *, several: bool) -> list[bytes]:
    """The rows in a body; a JSON document is one row, unless several are asked for, one a line."""
    if form.lines or several:
        return [line for line in body.split(b"\n") if line.strip()]
    return [body]


def _loaded(form: _Format, text: bytes, what: str) -> Any:
    try:
        return form.load(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what} is no JSON: {error}") from error


def _fields(line: bytes) -> list[bytes]:
    r"""The fields of a line of CSV; a comma between quotes ends none.

    Examples
    --------
    >>> _fields(b'1,"a, b",2\r')
    [b'1', b'"a, b"', b'2']
    """
    merged: list[bytes] = []
    inside = False
    for part in line.rstrip(b"\r\n").split(b","):
        if inside:
            merged[-1] += b"," + part
        else:
            merged.append(part)
        inside ^= bool(part.count(b'"') % 2)
    return merged


def _line(row: bytes | list[bytes]) -> bytes:
    return row if isinstance(row, bytes) else b",".join(row)


class _Number(str):
    """A number as it was written: what is only passed on must not be rounded."""


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number there")


def _read(text: bytes) -> Any:
    return json.loads(text, parse_int=_Number, parse_float=_Number, parse_constant=_no_number)


def _json(value: Any) -> bytes:
    return _written(value).encode()


def _written(value: Any) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{_written(key)}:{_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


_PLAIN: Final = _Format(bytes, bytes, lines=False)
_FORMATS: Final[Mapping[str, _Format]] = {
    "csv": _Format(_fields, _line, lines=True),
    "json": _Format(_read, _json, lines=False),
    "jsonlines": _Format(_read, _json, lines=True),
}
