"""Rows of predictions as text, by the compiled kernel; `encode` does the same where there is none."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

import numpy as np

from .. import native
from ..recordio.batch import Array

__all__ = ["CSV", "JSON", "JSON_LINES", "ROW_TEXTS", "Form", "written"]

_NUMBERS: Final = 1 << 16
"""Numbers that the kernel writes at a time."""

_EXACT: Final = 1 << 24
"""Whole numbers below it are sure to be told apart by float32, which the kernel takes."""

_LONGEST: Final = 24
"""Most characters of a number, as native/replies.c has it."""


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """What stands around the numbers of a row.

    Parameters
    ----------
    start, comma, end
        Before the first number, between two, after the last.
    colon
        Between a column's name and its numbers; None where names are left out.
    brackets
        Whether the numbers of one column stand in brackets.
    cut
        Whether numbers have no exponent, and no more than 15 decimals.
    """

    start: str
    comma: str
    end: str
    colon: str | None = None
    brackets: bool = True
    cut: bool = False


JSON: Final = Form("{", ", ", "}, ", ": ")
JSON_LINES: Final = Form("{", ",", "}\n", ":", cut=True)
CSV: Final = Form("", ",", "\n", brackets=False)
ROW_TEXTS: Final = Form("", ", ", "\n")


def written(columns: Mapping[str, Array], form: Form) -> bytes | None:
    r"""All rows; None where there is no kernel, or it has no way for the numbers.

    Examples
    --------
    >>> columns = {"label": np.array([1], np.float32), "scores": np.array([[0.25, 0.75]], np.float32)}
    >>> written(columns, JSON) if native.kernels else b'{"label": 1.0, "scores": [0.25, 0.75]}, '
    b'{"label": 1.0, "scores": [0.25, 0.75]}, '
    """
    kernels = native.kernels
    if kernels is None:
        return None
    tables = list(columns.values())
    around = _around(form, tuple(columns), tuple([(column.dtype, column.shape[1:]) for column in tables]))
    if around is None or not tables[0].size or any(map(_too_large, tables)):
        return None
    text, ends, whole, row = around
    rows, step = len(tables[0]), max(1, _NUMBERS // len(whole))
    found = []
    for start in range(0, rows, step):
        part = [table[start : start + step] for table in tables] if rows > step else tables
        numbers = np.empty((len(part[0]), len(whole)), np.float32)
        for column, place in zip(part, row, strict=True):
            numbers[:, place] = column
        out = bytearray(len(numbers) * (len(text) + _LONGEST * len(whole)))
        size = kernels.replies(len(numbers), form.cut, text, ends, whole, numbers, out)
        if size < 0:
            return None
        found.append(bytes(out[:size]))
    return b"".join(found) if len(found) > 1 else found[0]


def _too_large(column: Array) -> bool:
    """Whether whole numbers are not sure to be told apart by float32."""
    return column.dtype == np.int64 and not (column.min() > -_EXACT and column.max() < _EXACT)


@functools.lru_cache(maxsize=64)
def _around(
    form: Form, names: Sequence[str], kinds: Sequence[tuple[np.dtype[Any], tuple[int, ...]]]
) -> tuple[bytes, Array, bytes, list[int | slice]] | None:
    """What is the same for all rows with columns of these names, and dtypes and shapes of a value.

    The text around the numbers; where it ends before each of them and after the last; which are whole; where in a row
    those of each column stand. None where there is no way to write them.
    """
    pieces, before, whole = [], form.start, b""
    places: list[int | slice] = []
    for name, (dtype, shape) in zip(names, kinds, strict=True):
        if dtype not in (np.int64, np.float32) or len(shape) > 1 or shape == (0,):
            return None
        if form.colon is not None:
            before += json.dumps(name) + form.colon
        wide, width = form.brackets and bool(shape), shape[0] if shape else 1
        pieces += [before + "[" * wide, *[form.comma] * (width - 1)]
        before = "]" * wide + form.comma
        places.append(slice(len(whole), len(whole) + width) if shape else len(whole))
        whole += bytes([dtype == np.int64]) * width
    pieces.append(before.removesuffix(form.comma) + form.end)
    texts = [piece.encode() for piece in pieces]
    return b"".join(texts), np.array(list(accumulate(map(len, texts))), np.int64), whole, places
