"""Answers by key: what a client has chosen to get becomes the bytes of a response, as Amazon's container writes them.

Unlike anywhere else JSON has bare ``NaN`` here, which Python's reader and pandas take and others refuse.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..algorithms.base import Predictions
from .encode import encode_recordio

__all__ = ["encode_selected"]

Values = Mapping[str, Sequence[Any]]


def encode_selected(values: Values, name: str, *, end: bool) -> bytes:
    """The values of each row in the format called `name`.

    Parameters
    ----------
    values
        For each key a number or a list of numbers a row.
    name
        ``csv``, ``json``, ``jsonlines`` or ``recordio``.
    end
        Whether the last line of CSV ends like the others.

    Examples
    --------
    >>> values = {"predicted_label": [1], "probabilities": [[0.25, 0.75]], "predicted_score": [float("nan")]}
    >>> encode_selected(values, "csv", end=False)
    b'1,"[0.25, 0.75]",nan'
    >>> encode_selected(values, "json", end=False)
    b'{"predictions": [{"predicted_label": 1, "probabilities": [0.25, 0.75], "predicted_score": NaN}]}'
    """
    if name == "recordio":
        return encode_recordio(Predictions("predictions", {key: np.array(column) for key, column in values.items()}))
    rows = list(zip(*values.values(), strict=True))
    if name == "csv":
        lines = "\n".join(",".join(map(_cell, row)) for row in rows)
        return f"{lines}\n".encode() if end else lines.encode()
    objects = [dict(zip(values, row, strict=True)) for row in rows]
    if name == "jsonlines":
        return "".join(json.dumps(each) + "\n" for each in objects).encode()
    return json.dumps({"predictions": objects}).encode()


def _cell(value: Any) -> str:
    return f'"{value}"' if isinstance(value, list) else str(value)
