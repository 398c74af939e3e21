"""Predictions as bytes, and the choice among formats."""

import json
from typing import Any

import numpy as np
import pytest

from clary.algorithms.base import Predictions
from clary.errors import UnsupportedAcceptError
from clary.recordio.framing import read_frames
from clary.recordio.record_pb2 import Record
from clary.serve.encode import choose, encode

ALL = ("json", "jsonlines", "csv", "recordio")


def single(values: Any, dtype: Any = np.float32) -> Predictions:
    """Predictions with one column ``score``."""
    return Predictions("predictions", {"score": np.array(values, dtype)})


KMEANS = Predictions(
    "predictions",
    {"distance_to_cluster": np.array([36.5], np.float32), "closest_cluster": np.array([5], np.float32)},
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("json", b'{"predictions": [{"distance_to_cluster": 36.5, "closest_cluster": 5.0}]}'),
        ("jsonlines", b'{"closest_cluster":5.0,"distance_to_cluster":36.5}\n'),
        ("csv", b"36.5,5.0\n"),
    ],
)
def test_text_formats(name: str, expected: bytes) -> None:
    """JSON has blanks and the declared order, JSON Lines neither; every line ends with a newline."""
    assert encode(KMEANS, name) == expected


def test_json_widens_to_doubles() -> None:
    """A float32 is written as the double it widens to."""
    assert encode(single([0.98997736]), "json") == b'{"predictions": [{"score": 0.9899773597717285}]}'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.98997736, "0.989977359771728"),
        (0.047645718, "0.047645717859268"),
        (2.0**-23, "0.000000119209289"),
        (-1e-30, "-0.0"),
        (2.0**60, "1.152921504606847e+18"),
    ],
)
def test_jsonlines_cuts_decimals(value: float, text: str) -> None:
    """No number in JSON Lines has more than 15 decimals; the rest is cut off, not rounded."""
    assert encode(single([value]), "jsonlines") == f'{{"score":{text}}}\n'.encode()


def test_integers_stay_integers() -> None:
    """A column of integers is written without a point."""
    assert encode(single([3], np.int64), "json") == b'{"predictions": [{"score": 3}]}'
    assert encode(single([3], np.int64), "csv") == b"3\n"


def test_wide_columns() -> None:
    """Several values a row are a list in JSON and cells in CSV."""
    predictions = single([[0.25, 0.75]])
    assert encode(predictions, "json") == b'{"predictions": [{"score": [0.25, 0.75]}]}'
    assert encode(predictions, "jsonlines") == b'{"score":[0.25,0.75]}\n'
    assert encode(predictions, "csv") == b"0.25,0.75\n"


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_json_has_no_odd_numbers(odd: float) -> None:
    """NaN and the infinities are null, so that every JSON parser takes the response."""
    assert json.loads(encode(single([[odd, 1]]), "json")) == {"predictions": [{"score": [None, 1]}]}
    assert encode(single([odd, 1]), "jsonlines") == b'{"score":null}\n{"score":1.0}\n'


def test_many_rows_are_one_document() -> None:
    """However many rows there are, JSON is what json.dumps makes of them."""
    values = [float(i) for i in range(10_000)]
    expected = json.dumps({"predictions": [{"score": value} for value in values]})
    assert encode(single(values), "json").decode() == expected


def test_no_rows() -> None:
    """Without rows the JSON list is empty."""
    assert encode(single([]), "json") == b'{"predictions": []}'


def test_recordio_labels_by_name(tmp_path: Any) -> None:
    """Each row is a Record with float32 tensors under the columns' names, and the request's ids."""
    path = tmp_path / "answer"
    path.write_bytes(encode(single([3, 4], np.int64), "recordio", (("a", ""), ("b", "meta"))))
    with path.open("rb") as stream:
        records = [Record.FromString(frame.payload) for frame in read_frames(stream)]
    assert [list(record.label["score"].float32_tensor.values) for record in records] == [[3.0], [4.0]]
    assert [(record.uid, record.metadata) for record in records] == [("a", ""), ("b", "meta")]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("application/*", "json"),
        ("text/*", "csv"),
        ("TEXT/CSV", "csv"),
        ("application/jsonlines; verbose=true", "jsonlines"),
        ("application/json;q=0.1, application/x-recordio-protobuf;q=0.9", "recordio"),
        ("image/png, */*;q=0.1", "json"),
    ],
)
def test_choice(accept: str, expected: str) -> None:
    """The format the client likes best is taken, the first offered where it does not mind."""
    assert choose(accept, ALL) == expected


def test_nothing_acceptable() -> None:
    """The refusal begins in AWS's words and names what there is."""
    with pytest.raises(UnsupportedAcceptError) as caught:
        choose("application/foo", ("json", "csv"))
    expected = "Accept type 'application/foo' is not supported. Supported are: application/json, text/csv"
    assert str(caught.value) == expected
