"""Answers by key, as bytes."""

import io
import json
import math

import numpy as np
import pytest

from clary.recordio.framing import read_frames
from clary.recordio.record_pb2 import Record
from clary.serve.selected import encode_selected

VALUES = {
    "predicted_label": [1, 0],
    "probabilities": [[0.25, 0.75], [0.5, 0.5]],
    "raw_score": [0.1, 1e-09],
    "predicted_score": [math.nan, math.nan],
    "labels": [[0, 1], [0, 1]],
}


@pytest.mark.parametrize(("end", "last"), [(False, ""), (True, "\n")])
def test_csv(end: bool, last: str) -> None:
    """Keys stand in their order, lists in quotes as Python writes them; the last line ends only where it is told to."""
    lines = ['1,"[0.25, 0.75]",0.1,nan,"[0, 1]"', '0,"[0.5, 0.5]",1e-09,nan,"[0, 1]"']
    assert encode_selected(VALUES, "csv", end=end).decode() == "\n".join(lines) + last


@pytest.mark.parametrize("end", [False, True])
def test_json(end: bool) -> None:
    """One object has a list of the rows, with the bare NaN that Python reads."""
    text = encode_selected(VALUES, "json", end=end).decode()
    assert text.startswith('{"predictions": [{"predicted_label": 1, "probabilities": [0.25, 0.75], "raw_score": 0.1')
    assert text.count('"predicted_score": NaN, ') == 2
    first, second = json.loads(text)["predictions"]
    assert (first["labels"], second["raw_score"]) == ([0, 1], 1e-09)
    assert list(second) == list(VALUES)


def test_jsonlines() -> None:
    """The objects of the rows stand on lines of their own, of which the last ends too."""
    lines = encode_selected(VALUES, "jsonlines", end=False).decode().split("\n")
    whole = json.loads(encode_selected(VALUES, "json", end=False))
    assert lines.pop() == ""
    assert str([*map(json.loads, lines)]) == str(whole["predictions"])


def test_recordio() -> None:
    """A row's record has its own values and no others, as float32."""
    body = encode_selected(VALUES, "recordio", end=False)
    records = [Record.FromString(frame.payload) for frame in read_frames(io.BytesIO(body))]
    assert len(records) == 2
    for i, record in enumerate(records):
        found = {key: list(value.float32_tensor.values) for key, value in record.label.items()}
        expected = {key: np.ravel(column[i]).astype(np.float32).tolist() for key, column in VALUES.items()}
        assert str(sorted(found.items())) == str(sorted(expected.items()))
        assert not record.features
