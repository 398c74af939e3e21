"""Parquet in."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import sys
import threading
from collections.abc import Mapping
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pytest

from clary.errors import DataError
from clary.recordio.batch import Batch, concatenate
from clary.recordio.parquet import read_parquet, read_parquet_body

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

NAN, INF = float("nan"), float("inf")


def file(columns: Mapping[str, Any], **options: Any) -> bytes:
    """A Parquet file."""
    stream = BytesIO()
    parquet.write_table(pa.table(columns), stream, **options)
    return stream.getvalue()


def read(stream: bytes | BinaryIO, **options: int) -> Batch:
    """All rows of a file as one batch."""
    stream = BytesIO(stream) if isinstance(stream, bytes) else stream
    return concatenate(list(read_parquet(stream, **options)))


def refusal(body: bytes, **options: int) -> str:
    """What the error says that reading this file raises, in training and in a request."""
    told = set()
    for reader in (lambda: read(body, **options), lambda: read_parquet_body(body, **options)):
        with pytest.raises(DataError) as caught:
            reader()
        told.add(str(caught.value))
    assert len(told) == 1
    return told.pop()


ROWS = {"y": [1, 0, 1], "a": [0.5, 2, -3], "b": [4, 5, 6]}


def test_first_columns_are_labels() -> None:
    """With label_size=1 the first column is the label and the rest are float32 features; without, all are features."""
    batch = read(file(ROWS), label_size=1)
    assert batch.labels is not None
    assert (batch.labels.tolist(), batch.dense().tolist()) == ([1, 0, 1], [[0.5, 4], [2, 5], [-3, 6]])
    assert batch.dense().dtype == batch.labels.dtype == np.float32
    assert batch.dense().flags.c_contiguous
    assert read(file(ROWS)).labels is None
    assert read_parquet_body(file(ROWS)).dense().tolist() == [[1, 0.5, 4], [0, 2, 5], [1, -3, 6]]
    assert read_parquet_body(file(ROWS), label_size=2).dense().tolist() == [[4], [5], [6]]


@pytest.mark.parametrize(
    "kind",
    [
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
        *(pa.float32(), pa.float64(), pa.bool_(), pa.decimal128(20, 3), pa.decimal256(50, 3)),
    ],
    ids=str,
)
def test_types(kind: Any) -> None:
    """Integers, floats, booleans and decimals of any width are read, and NaN where there is none."""
    given = [Decimal(1), None, Decimal(0)] if pa.types.is_decimal(kind) else [1, None, 0]
    given = [None if value is None else bool(value) for value in given] if pa.types.is_boolean(kind) else given
    np.testing.assert_array_equal(read(file({"a": pa.array(given, kind)})).dense(), [[1], [NAN], [0]])


def test_fractions() -> None:
    """Numbers are rounded to float32; those out of its range become infinite, in silence."""
    columns = {
        "a": [0.1, -1e39, NAN],
        "b": pa.array([Decimal("1.25"), Decimal("-0.01"), None]),
        "c": pa.array([2**64 - 1, 2**24 + 1, None], pa.uint64()),
        "d": pa.nulls(3),
    }
    expected = [[0.1, 1.25, 2**64, NAN], [-INF, -0.01, 2**24, NAN], [NAN] * 4]
    np.testing.assert_array_equal(read(file(columns)).dense(), np.array(expected, np.float32))


@pytest.mark.parametrize(
    "values, kind",
    [
        (pa.array(["x"]), "string"),
        (pa.array([b"x"]), "binary"),
        (pa.array([0], pa.date32()), "date32[day]"),
        (pa.array([0], pa.timestamp("us")), "timestamp[us]"),
        (pa.array([[1.0, 2.0]]), "list<element: double>"),
        (pa.array([{"x": 1}]), "struct<x: int64>"),
        (pa.array(["x"]).dictionary_encode(), "dictionary<values=string, indices=int32, ordered=0>"),
    ],
    ids=str,
)
def test_no_numbers(values: Any, kind: str) -> None:
    """A column of anything else is named with its type."""
    told = refusal(file({"a": [1], "price class": values}))
    assert told == f"column 'price class' is of type {kind}: only numbers and booleans can be read"


def test_columns_of_one_name() -> None:
    """Names do not matter: not even when they are the same, or have dots."""
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], ["a", "a", "a.b"])
    stream = BytesIO()
    parquet.write_table(table, stream)
    assert read(stream.getvalue()).dense().tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    "metadata, width",
    [
        (b'{"index_columns": ["id", {"kind": "range"}]}', 2),
        (b'{"index_columns": null}', 3),
        (b'{"index_columns": [["id"]]}', 3),
        (b"[]", 3),
    ],
)
def test_index_of_pandas(metadata: bytes, width: int) -> None:
    """What pandas wrote as the index of a table is no feature, even if it is no number."""
    ids = ["x", "y"] if width == 2 else [7, 8]
    table = pa.table({"y": [1, 0], "a": [3, 4], "id": ids}).replace_schema_metadata({b"pandas": metadata})
    stream = BytesIO()
    parquet.write_table(table, stream)
    assert read(stream.getvalue()).width == width


def test_nonsense_in_the_place_of_pandas() -> None:
    """Metadata that cannot be parsed are damage."""
    table = pa.table(ROWS).replace_schema_metadata({b"pandas": b"{"})
    stream = BytesIO()
    parquet.write_table(table, stream)
    assert refusal(stream.getvalue()).startswith("no Parquet file, or a damaged one: ")


@pytest.mark.parametrize("options", [{"compression": "none"}, {"compression": "gzip"}, {"data_page_version": "2.0"}])
def test_row_groups(options: dict[str, Any]) -> None:
    """Rows of several row groups come in order, however they are compressed."""
    numbers = np.arange(1000.0)
    body = file({"a": numbers, "b": -numbers}, row_group_size=300, **options)
    assert parquet.ParquetFile(BytesIO(body)).num_row_groups == 4
    np.testing.assert_array_equal(read(body).dense(), np.column_stack([numbers, -numbers]))


class _Counted(BytesIO):
    """A file that counts the bytes read from it."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes."""
        piece = super().read(size)
        self.count += len(piece)
        return piece


def test_memory_is_bounded() -> None:
    """A file comes in batches of at most a mebi of numbers, and a row group, however large, is not read ahead."""
    columns = {name: np.random.default_rng(0).random(1 << 20) for name in "abcd"}
    stream = _Counted(file(columns, row_group_size=1 << 20))
    batches = read_parquet(stream, label_size=1)
    assert len(next(batches)) == 1 << 18
    assert stream.count < len(stream.getvalue()) // 2
    assert [len(batch) for batch in batches] == [1 << 18] * 3
    assert not stream.closed


@pytest.mark.parametrize("columns", [{"a": pa.array([], pa.float64())}, {}])
def test_no_rows(columns: dict[str, Any]) -> None:
    """A file without rows gives no batch, and is no request."""
    assert list(read_parquet(BytesIO(file(columns)))) == []
    with pytest.raises(DataError, match="the body has no rows"):
        read_parquet_body(file(columns))


def test_label_size_leaves_no_features() -> None:
    """A label_size that takes all columns is refused."""
    assert refusal(file(ROWS), label_size=3) == "label_size is 3, but rows have 3 fields: no features are left"


def test_requests_of_many_rows() -> None:
    """A request is one batch; one that would fill the memory, though it is small, is refused before."""
    body = file({"a": np.zeros(1 << 21), "b": np.zeros(1 << 21)})
    assert len(read_parquet_body(body)) == 1 << 21
    one = pa.table({name: np.zeros(1 << 20) for name in "abcdefgh"})
    stream = BytesIO()
    with parquet.ParquetWriter(stream, one.schema) as writer:
        for _ in range(9):
            writer.write_table(one)
    with pytest.raises(DataError, match="the body has 75497472 numbers, at most 67108864 are read: send fewer rows"):
        read_parquet_body(stream.getvalue())


def test_a_stream_that_cannot_seek(tmp_path: Path) -> None:
    """A FIFO is read whole first; so is gzip."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(file(ROWS),))
    writer.start()
    with path.open("rb") as stream:
        assert read(stream, label_size=1).width == 2
    writer.join()
    with gzip.open(BytesIO(gzip.compress(file(ROWS)))) as zipped:
        assert read(cast("BinaryIO", zipped), label_size=1).width == 2


@pytest.mark.parametrize("body", [b"", b"PAR1", b"1,2,3\n", b"PAR1PAR1PAR1", bytes(1000)])
def test_no_parquet(body: bytes) -> None:
    """What is no Parquet file is refused in one sentence, with pyarrow's error as its cause."""
    assert refusal(body).startswith("no Parquet file, or a damaged one: ")
    with pytest.raises(DataError) as caught:
        read(body)
    assert type(caught.value.__cause__).__module__ == "pyarrow.lib"


def test_cut() -> None:
    """A file cut at any length is refused."""
    body = file(ROWS)
    for length in range(0, len(body), 7):
        assert refusal(body[:length]).startswith("no Parquet file, or a damaged one: ")


@pytest.mark.parametrize("options", [{}, {"compression": "none", "use_dictionary": False}, {"compression": "zstd"}])
def test_damaged(options: dict[str, Any]) -> None:
    """A file with wrong bytes is read or refused, and nothing else happens."""
    body = file({"a": np.arange(50.0), "b": [True, None] * 25}, **options)
    dice = random.Random(1)  # noqa: S311  # no secret
    refused = 0
    for _ in range(500):
        damaged = bytearray(body)
        damaged[dice.randrange(len(body))] = dice.randrange(256)
        try:
            read_parquet_body(bytes(damaged))
        except DataError:
            refused += 1
    assert refused > 100


def test_the_disk_fails() -> None:
    """An error of the disk is not taken for one of the data."""
    descriptor = os.open("/", os.O_RDONLY)  # reading a directory fails

    class _Broken(BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return os.read(descriptor, size or 0)

    try:
        with pytest.raises(IsADirectoryError):
            read(_Broken(file(ROWS)))
    finally:
        os.close(descriptor)


def test_without_pyarrow() -> None:
    """Where pyarrow is not installed, the error says how to install it."""
    script = """
import sys
from io import BytesIO
sys.modules["pyarrow"] = None
from clary.errors import MissingExtraError
from clary.recordio.content import MediaType, decode_body, decode_stream
media = MediaType("application/x-parquet")
for read in (lambda: decode_body(b"PAR1", media), lambda: list(decode_stream(BytesIO(), media, default_label_size=1))):
    try:
        read()
    except MissingExtraError as error:
        assert str(error) == "pyarrow is not installed: run  pip install 'clary[parquet]'", error
    else:
        raise AssertionError("nothing was missing")
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_without_pandas(tmp_path: Path) -> None:
    """Reading imports no pandas, though pyarrow could use it."""
    (tmp_path / "pandas.py").write_text("raise SystemExit('pandas was imported')")
    body = file({"a": [1, None], "b": [True, None], "c": pa.array([Decimal(1), None])})
    script = """
import sys
from clary.recordio.parquet import read_parquet_body
print(read_parquet_body(sys.stdin.buffer.read()).features.tolist())
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], input=body, env=environment, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[[1.0, 1.0, 1.0], [nan, nan, nan]]"
