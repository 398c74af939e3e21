"""The table of content types."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from pathlib import PurePath

import numpy as np
import pytest

from clary.errors import DataError, UnsupportedContentTypeError, UserError
from clary.recordio.batch import Batch, concatenate
from clary.recordio.content import (
    FORMATS,
    MediaType,
    decode_body,
    decode_stream,
    format_of,
    format_of_file,
    parse_accept,
    parse_media_type,
)

ROWS = [[1.5, 2], [3, 0]]
RECORD = bytes.fromhex("0a160a0676616c756573120c120a0a080000c03f00000040")  # features {values: 1.5, 2}
FRAME = bytes.fromhex("0a23d7ce18000000") + RECORD

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
PARQUET = BytesIO()
parquet.write_table(pyarrow.table({"a": [1.5], "b": [2]}), PARQUET)

BODIES = {
    "application/x-recordio-protobuf": FRAME,
    "text/csv": b"1.5,2\n",
    "text/libsvm": b"0 1:1.5 2:2\n",
    "application/x-parquet": PARQUET.getvalue(),
    "application/json": b'{"instances": [{"features": [1.5, 2]}]}',
    "application/jsonlines": b'{"features": [1.5, 2]}\n',
}


def stream(text: bytes, content_type: str, label_size: int = 0) -> Batch:
    """All rows of a training stream."""
    return concatenate(
        list(decode_stream(BytesIO(text), parse_media_type(content_type), default_label_size=label_size))
    )


@pytest.mark.parametrize(
    "text, media_type, parameters",
    [
        ("text/csv", "text/csv", {}),
        (" Text/CSV ; Label_Size = 0 ;", "text/csv", {"label_size": "0"}),
        ("text/csv;label_size=0;charset=UTF-8", "text/csv", {"label_size": "0", "charset": "UTF-8"}),
        ('a/b; x="1;2, \\"3\\""; y=4', "a/b", {"x": '1;2, "3"', "y": "4"}),
        ("a/b; nonsense; =1; x=", "a/b", {"x": ""}),
        ('a/b; x="unclosed', "a/b", {"x": ""}),
        ("csv", "csv", {}),
        ("", "application/octet-stream", {}),
        (None, "application/octet-stream", {}),
    ],
)
def test_media_types(text: str | None, media_type: str, parameters: dict[str, str]) -> None:
    """Letter case, spaces, quotes and a last semicolon do not matter; a missing type is application/octet-stream."""
    assert parse_media_type(text) == MediaType(media_type, parameters)


@pytest.mark.parametrize(
    "text, expected",
    [
        (None, ["*/*"]),
        (" ", ["*/*"]),
        ("*/*", ["*/*"]),
        ("Application/JSON", ["application/json"]),
        ("text/csv, application/json", ["text/csv", "application/json"]),
        ("text/csv;q=0.1, application/json;q=.9, a/b;q=1.", ["a/b", "application/json", "text/csv"]),
        ("text/csv;q=0, a/b;q=0.0", []),
        ("a/b;q=high, c/d", ["a/b", "c/d"]),
        ('a/b;x="1,2", c/d', ["a/b", "c/d"]),
    ],
)
def test_accept(text: str | None, expected: list[str]) -> None:
    """What a client accepts is ordered by q, then by place; q=0 is refused."""
    assert [media.type for media in parse_accept(text)] == expected


def test_accept_keeps_parameters() -> None:
    """Parameters of an accepted type are kept, but for q."""
    assert parse_accept("application/jsonlines; verbose=true; q=0.5") == [
        MediaType("application/jsonlines", {"verbose": "true"})
    ]


@pytest.mark.parametrize("content_type", BODIES)
def test_every_type_in_a_request(content_type: str) -> None:
    """The same row is read from every content type."""
    batch = decode_body(BODIES[content_type], parse_media_type(content_type.upper() + "; charset=utf-8"))
    assert batch.dense().tolist() == [[1.5, 2]]


@pytest.mark.parametrize("content_type", BODIES)
def test_every_type_in_training(content_type: str) -> None:
    """A stream is read as the body of a request is."""
    assert stream(BODIES[content_type], content_type).dense().tolist() == [[1.5, 2]]


def test_all_formats_are_tested() -> None:
    """The bodies above have every format of the table."""
    assert {format_of(content_type) for content_type in BODIES} == set(FORMATS)


def test_bare_record() -> None:
    """A body without frames is one record."""
    assert decode_body(RECORD, MediaType("application/x-recordio-protobuf")).dense().tolist() == [[1.5, 2]]


@pytest.mark.parametrize("content_type", BODIES)
@pytest.mark.parametrize("body", [b"", b"\n"])
def test_no_rows(content_type: str, body: bytes) -> None:
    """A body without rows is refused."""
    with pytest.raises(DataError):
        decode_body(body, parse_media_type(content_type))


def test_many_blocks() -> None:
    """A body of more than a block is one batch."""
    assert len(decode_body(b"1,2\n" * 600_000, MediaType("text/csv"))) == 600_000


@pytest.mark.parametrize(
    "text, name",
    [("text/x-libsvm", "libsvm"), ("csv", "csv"), ("recordio-protobuf", "recordio"), ("parquet", "parquet")],
)
def test_other_names(text: str, name: str) -> None:
    """Other names of a format lead to it."""
    assert format_of(text).name == name


def test_unknown_type() -> None:
    """An unknown type is refused in the words of SageMaker's algorithms, with those that are known."""
    with pytest.raises(UnsupportedContentTypeError) as caught:
        decode_body(b"1", parse_media_type("Application/Foo; x=y"))
    message = str(caught.value)
    assert message.startswith("content-type application/foo not supported; supported are application/x-recordio-")
    assert all(content_type in message for content_type in BODIES)


@pytest.mark.parametrize("name", ["a.rec", "a.pbr", "B.CSV", "a.b.csv.gz", "x/a.svm", PurePath("a.jsonl"), "a.pq"])
def test_file_names(name: str | PurePath) -> None:
    """A suffix tells the format, in any letter case and behind .gz too."""
    suffix = str(name).lower().removesuffix(".gz").rpartition(".")[2]
    assert f".{suffix}" in format_of_file(name).suffixes


@pytest.mark.parametrize("name", ["data", "data.xyz", ".csv", "csv.gz"])
def test_unknown_file_names(name: str) -> None:
    """A name without a known suffix is refused with the suffixes that are known."""
    with pytest.raises(UnsupportedContentTypeError, match=r"does not tell its format; known suffixes are .*\.csv"):
        format_of_file(name)


@pytest.mark.parametrize(
    "content_type, default, labels", [("text/csv", 1, 1), ("text/csv;label_size=0", 1, 0), ("csv;label_size=2", 0, 2)]
)
def test_label_size(content_type: str, default: int, labels: int) -> None:
    """The parameter label_size wins over the default."""
    batch = stream(b"1,2,3\n", content_type, default)
    assert batch.width == 3 - labels
    assert (batch.labels is None) == (labels == 0)


@pytest.mark.parametrize("text", ["abc", "-1", "", "1.0", "²", "9999999999"])
def test_bad_label_size(text: str) -> None:
    """A label_size that is no whole number is the user's mistake, told in one sentence."""
    with pytest.raises(UserError) as caught:
        decode_body(b"1\n", MediaType("text/csv", {"label_size": text}))
    assert str(caught.value) == f"label_size={text} in content-type text/csv: label_size must be a whole number"


def test_first_index() -> None:
    """The parameter first_index says from where libsvm columns count."""
    assert stream(b"1 0:5\n", "text/libsvm;first_index=0").dense().tolist() == [[5]]
    with pytest.raises(UserError, match="first_index must be 0 or 1"):
        stream(b"1 0:5\n", "text/libsvm;first_index=2")


def test_first_index_of_a_request() -> None:
    """It counts in requests too, whose rows need no label."""
    batch = decode_body(b"0:1 3:2.5\n", parse_media_type("text/libsvm;first_index=0"))
    assert batch.dense().tolist() == [[1, 0, 0, 2.5]]
    assert decode_body(b"1:1\n", MediaType("text/libsvm")).dense().tolist() == [[1]]
    with pytest.raises(UserError, match="first_index must be 0 or 1"):
        decode_body(b"1:1\n", parse_media_type("text/libsvm;first_index=x"))


@pytest.mark.parametrize(
    "parameter, text",
    [
        ("", b"1,2"),
        ("; delimiter=,", b"1,2"),
        ('; delimiter=";"', b"1;2"),
        ("; delimiter=|", b"1|2"),
        ("; delimiter=\\t", b"1\t2"),
        ("; delimiter=Tab", b"1\t2"),
        ('; delimiter="\t"', b"1\t2"),
        ('; delimiter=" "', b"1 2"),
        ("; delimiter=AUTO", b"1|2"),
    ],
)
def test_delimiter(parameter: str, text: bytes) -> None:
    """The parameter delimiter says what stands between cells, in requests and in training."""
    content_type = "text/csv" + parameter
    assert decode_body(text, parse_media_type(content_type)).dense().tolist() == [[1, 2]]
    assert stream(text, content_type).dense().tolist() == [[1, 2]]


@pytest.mark.parametrize("text", ["", ";;", "5", "e", "t", ".", "-", "_", '"', "\n", "é", "comma"])
def test_bad_delimiter(text: str) -> None:
    """A delimiter that could be part of a number or is no single character is the user's mistake."""
    with pytest.raises(UserError) as caught:
        decode_body(b"1\n", MediaType("text/csv", {"delimiter": text}))
    assert str(caught.value).startswith(f"delimiter={text} in content-type text/csv: delimiter must be one character")


def test_label_size_of_parquet() -> None:
    """In Parquet the first column is the label where label_size is 1, as it is not in a request by default."""
    content_type = "application/x-parquet"
    labels = stream(PARQUET.getvalue(), content_type, label_size=1).labels
    assert labels is not None
    assert labels.tolist() == [1.5]
    body = PARQUET.getvalue()
    assert decode_body(body, MediaType(content_type)).labels is None
    assert decode_body(body, parse_media_type(content_type + ";label_size=1")).width == 1


def test_training_is_lazy() -> None:
    """Training data is read block by block."""
    file = BytesIO(b"1,2\n" * (1 << 20))
    batches = decode_stream(file, MediaType("text/csv"), default_label_size=1)
    np.testing.assert_array_equal(next(batches).dense(), np.full((1 << 18, 1), 2))
    assert file.tell() == 1 << 20


def test_readers_are_imported_when_used() -> None:
    """Importing the table imports none of the readers; reading CSV does not import protobuf."""
    script = """
import sys
from clary.recordio import content
readers = {f"clary.recordio.{name}" for name in ("csv", "libsvm", "jsonlines", "parquet", "reader")}
assert not readers & set(sys.modules)
content.decode_body(b"1,2", content.MediaType("text/csv"))
assert "clary.recordio.csv" in sys.modules
assert not {"clary.recordio.reader", "google.protobuf", "pandas", "pyarrow", "scipy"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
