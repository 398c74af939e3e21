"""Rows of predictions as text, by the compiled kernel; `encode` does the same where there is none."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

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
    if native.kernels is None:
        return None
    tables, widths, whole = [], [], b""
    for column in columns.values():
        is_whole = column.dtype == np.int64
        if not (is_whole or column.dtype == np.float32) or column.ndim > 2 or not column.size:
            return None
        if is_whole and not (column.min() > -_EXACT and column.max() < _EXACT):
            return None
        widths.append(0 if column.ndim == 1 else column.shape[1])
        tables.append(column[:, None] if column.ndim == 1 else column)
        whole += bytes([is_whole]) * tables[-1].shape[1]
    text, ends = _around(form, tuple(columns), tuple(widths))
    rows, step = len(tables[0]), max(1, _NUMBERS // len(ends))
    found = []
    for start in range(0, rows, step):
        part = [table[start : start + step] for table in tables]
        numbers = np.concatenate(part, axis=1, dtype=np.float32, casting="unsafe")
        out = bytearray(len(numbers) * (len(text) + _LONGEST * len(ends)))
        size = native.kernels.replies(len(numbers), form.cut, text, ends, whole, numbers, out)
        if size < 0:
            return None
        found.append(bytes(memoryview(out)[:size]))
    return b"".join(found)


@functools.lru_cache(maxsize=64)
def _around(form: Form, names: Sequence[str], widths: Sequence[int]) -> tuple[bytes, Array]:
    """The text around the numbers of a row, and where it ends before each of them and after the last.

    A column that is none of lists has the width 0.
    """
    pieces, before = [], form.start
    for name, width in zip(names, widths, strict=True):
        if form.colon is not None:
            before += json.dumps(name) + form.colon
        wide = form.brackets and width > 0
        pieces += [before + "[" * wide, *[form.comma] * (width - 1)]
        before = "]" * wide + form.comma
    pieces.append(before.removesuffix(form.comma) + form.end)
    texts = [piece.encode() for piece in pieces]
    return b"".join(texts), np.array(list(accumulate(map(len, texts))), np.int64)
