"""What holds for any data, any cut and any damage."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clary.errors import CorruptRecordError, DataError
from clary.recordio.batch import CSR, Array, Batch, concatenate
from clary.recordio.framing import HEADER, read_frames
from clary.recordio.reader import read_batches, read_body
from clary.recordio.writer import write_batch

Outcome = tuple[list[dict[str, Any]], CorruptRecordError | None]
Reader = Callable[[BinaryIO], Iterator[Batch]]

FLOAT32, FLOAT64, INT32 = (np.dtype(kind) for kind in ("float32", "float64", "int32"))
VALID = sorted((Path(__file__).parent / "valid").glob("*.rec"))
SMALL = [path for path in VALID if path.stat().st_size < 250]


def arrays(shape: tuple[int, ...], dtype: np.dtype[Any]) -> st.SearchStrategy[Array]:
    """Return arrays of a shape, made of any numbers of a dtype but NaN."""
    numbers: st.SearchStrategy[float] = st.integers(-(2**31), 2**31 - 1)
    if dtype != INT32:
        numbers = st.floats(allow_nan=False, width=32 if dtype == FLOAT32 else 64)
    count = int(np.prod(shape))
    return st.lists(numbers, min_size=count, max_size=count).map(lambda them: np.array(them, dtype).reshape(shape))


@st.composite
def csrs(draw: st.DrawFn, rows: int, dtype: np.dtype[Any]) -> CSR:
    """Return sparse rows, narrow or wide, with keys in any order."""
    width = draw(st.sampled_from([1, 5, 200, 1 << 31, 1 << 40]))
    counts = draw(st.lists(st.integers(0, 4), min_size=rows, max_size=rows))
    total = sum(counts)
    keys = draw(st.lists(st.integers(0, width - 1), min_size=total, max_size=total))
    values = draw(arrays((total,), dtype))
    return CSR(np.cumsum([0, *counts]), np.array(keys, np.int64), values, (rows, width))


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Return rows of any kind, with any kind of labels."""
    rows = draw(st.integers(1, 20))
    dtypes = st.sampled_from([FLOAT32, FLOAT64, INT32])
    dtype, label_dtype = draw(dtypes), draw(dtypes)
    features = draw(csrs(rows, dtype)) if draw(st.booleans()) else draw(arrays((rows, draw(st.integers(1, 30))), dtype))
    shape = draw(st.sampled_from([None, (rows,), (rows, 3)]))
    return Batch(features, None if shape is None else draw(arrays(shape, label_dtype)))


def written(batch: Batch) -> bytes:
    """Return a batch as a stream."""
    stream = io.BytesIO()
    write_batch(stream, batch)
    return stream.getvalue()


def same(one: Array | None, other: Array | None) -> bool:
    """Tell whether two arrays have the same dtype, shape and numbers."""
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and np.array_equal(one, other)


@given(batches(), st.integers(1, 5000), st.one_of(st.none(), st.integers(1, 25)))
def test_reading_is_the_inverse_of_writing(batch: Batch, block_bytes: int, size: int | None) -> None:
    """Whatever is written comes back the same, in blocks and batches of any size."""
    read = concatenate(list(read_batches(io.BytesIO(written(batch)), size, block_bytes=block_bytes)))
    assert same(read.labels, batch.labels)
    if isinstance(batch.features, CSR) and isinstance(read.features, CSR):
        pairs = [
            (getattr(read.features, name), getattr(batch.features, name)) for name in ("indptr", "indices", "values")
        ]
        assert all(same(one, other) for one, other in pairs)
        assert read.features.shape == batch.features.shape
    else:
        assert same(read.dense(), batch.dense())


@given(batches())
def test_a_stream_is_its_records(batch: Batch) -> None:
    """Rows written together are the same bytes as rows written one by one."""
    assert written(batch) == b"".join(written(batch[i : i + 1]) for i in range(len(batch)))


def agree(found: Outcome, expected: Outcome) -> None:
    """Compare two readers: the same rows, then the same end."""
    assert repr(found[0]) == repr(expected[0])
    places = [None if error is None else (error.record, error.offset) for _, error in (found, expected)]
    assert places[0] == places[1], (found[1], expected[1])


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_every_cut(path: Path, reader: Reader, reference: Reader, outcome: Callable[..., Outcome]) -> None:
    """A stream cut anywhere ends cleanly between records, and otherwise with an error that names record and byte."""
    data = path.read_bytes()
    frames = list(read_frames(io.BytesIO(data)))
    borders = {frame.offset: frame.number for frame in frames} | {len(data): len(frames)}
    for cut in range(len(data) + 1):
        rows, error = outcome(reader(io.BytesIO(data[:cut])))
        agree((rows, error), outcome(reference(io.BytesIO(data[:cut]))))
        assert (error is None) == (cut in borders)
        assert len(rows) == max(number for offset, number in borders.items() if offset <= cut)
        assert error is None or error.record == len(rows)


def damaged(data: bytes, place: float, byte: int) -> bytes:
    """Return the data with one byte replaced."""
    at = min(int(place * len(data)), len(data) - 1)
    return data[:at] + bytes([byte]) + data[at + 1 :]


@settings(max_examples=300)
@given(
    st.one_of(st.sampled_from([path.read_bytes() for path in SMALL if path.stat().st_size]), batches().map(written)),
    st.floats(0, 1),
    st.integers(0, 255),
    st.sampled_from([64, 100, 4096, 1 << 20]),
)
@example(written(Batch(np.ones((1, 2), np.float32))), 0.0, 0x0B, 64)
def test_one_damaged_byte(
    reference: Reader, outcome: Callable[..., Outcome], data: bytes, place: float, byte: int, block_bytes: int
) -> None:
    """With any one byte replaced, the readers agree on the rows and on the error, if there is one."""
    data = damaged(data, place, byte)
    expected = outcome(reference(io.BytesIO(data)))
    agree(outcome(read_batches(io.BytesIO(data), block_bytes=block_bytes)), expected)


@given(
    batches().map(written), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4), st.integers(0, 99)
)
def test_damaged_body(data: bytes, damages: list[tuple[float, int]], cut: int) -> None:
    """A request's body of any bytes gives rows or a `DataError`."""
    for place, byte in damages:
        data = damaged(data, place, byte)
    with suppress(DataError):
        assert len(read_body(data[: len(data) - cut])) > 0


@given(st.lists(st.binary(max_size=40), max_size=5), st.sampled_from([64, 1 << 20]))
def test_any_payloads(
    reference: Reader, outcome: Callable[..., Outcome], payloads: list[bytes], block_bytes: int
) -> None:
    """Whole frames of any bytes are rows or an error, and the readers agree on which."""
    data = b"".join(HEADER.pack(0xCED7230A, len(it)) + it + bytes(-len(it) % 4) for it in payloads)
    agree(
        outcome(read_batches(io.BytesIO(data), block_bytes=block_bytes)),
        outcome(reference(io.BytesIO(data))),
    )
