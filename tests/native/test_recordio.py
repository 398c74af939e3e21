"""The kernel that reads RecordIO-protobuf, and its twins in NumPy."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clary import native
from clary.errors import DataError
from clary.recordio.batch import CSR, Batch, concatenate
from clary.recordio.reader import read_batches, read_body, read_views
from clary.recordio.record_pb2 import Record
from clary.recordio.writer import write_batch

from ..recordio.encode import FIELDS, Row, entry, field, frame, numbers, split, varint, varints

if native.kernels is None:
    pytest.skip(f"the kernels are {native.STATE}", allow_module_level=True)
KERNELS = native.kernels

FLOAT32, FLOAT64, INT32 = 1, 2, 3
CORPUS = sorted((Path(__file__).parents[1] / "recordio").glob("*valid/*.rec"))
BLOCKS = st.sampled_from([64, 100, 1000, 1 << 20])


def run(data: bytes, at: int = 0, *, room: int = 100) -> tuple[Any, ...] | None:
    """What the kernel makes of some frames, and the numbers that it has written."""
    labels, borders, indices, values = (np.zeros(room, np.int64) for _ in range(4))
    found = KERNELS.recordio_rows(data, at, len(data), labels, borders, indices, values)
    return None if found is None else (found, labels, borders, indices, values)


def told(batches: Callable[[], Iterator[Batch] | list[Batch]]) -> list[Any]:
    """Everything that can be seen of the rows, to the bit, and of the error that ended them."""
    seen: list[Any] = []
    try:
        for batch in batches():
            for i in range(len(batch)):
                row = batch[i : i + 1]
                parts = [row.features, row.labels]
                if isinstance(row.features, CSR):
                    parts = [row.features.indptr, row.features.indices, row.features.values, row.labels]
                arrays = [None if part is None else (part.dtype, part.shape, part.tobytes()) for part in parts]
                seen.append((row.width, arrays, row.ids))
    except DataError as error:
        seen.append(str(error))
    return seen


def agree(read: Callable[[], Iterator[Batch] | list[Batch]]) -> list[Any]:
    """What the kernel and its twins say, which has to be the same."""
    with pytest.MonkeyPatch.context() as patch:
        ours = told(read)
        patch.setattr(native, "kernels", None)
        assert ours == told(read)
    return ours


def agree_on(data: bytes, block_bytes: int = 1 << 20) -> list[Any]:
    """What all readers say of a stream."""
    agree(lambda: [read_body(data)])
    for size in (None, 1, 3):
        rows = agree(lambda size=size: read_batches(io.BytesIO(data), size, block_bytes=block_bytes))
    return rows


def written(*batches: Batch) -> bytes:
    """Batches as a stream."""
    stream = io.BytesIO()
    for batch in batches:
        write_batch(stream, batch)
    return stream.getvalue()


def test_dense_floats_stay_in_the_block() -> None:
    """Rows of floats at a constant distance are told by their place; their labels are copied."""
    data = b"".join(Row([i, 2.5, -i], label=[7 + i], label_dtype="float64").frame for i in range(3)) + b"cut"
    found = run(b"1234" + data, 4)
    assert found is not None
    (rows, end, kind, sparse, width, place, *label), labels, *_ = found
    assert (rows, end, kind, sparse, width, label) == (3, 1 + len(data), FLOAT32, 0, 3, [FLOAT64, 1])
    assert np.ndarray((3, 3), "<f4", data, place - 4, ((end - 4) // 3, 4)).tolist() == [
        [0, 2.5, 0],
        [1, 2.5, -1],
        [2, 2.5, -2],
    ]
    assert labels.view(np.float64)[:3].tolist() == [7, 8, 9]


def test_sparse_rows() -> None:
    """Keys of one to five bytes become columns; a row may be empty."""
    width = 1 << 34
    columns = [0, 127, 128, 16383, 16384, 2097151, 2097152, 268435455, 268435456, width - 1]
    rows = [Row(range(10), keys=columns, width=width), Row([], width=width), Row([5], keys=[3], width=width)]
    found = run(b"".join(row.frame for row in rows))
    assert found is not None
    (count, _, kind, sparse, wide, place, *label), _, borders, indices, values = found
    assert (count, kind, sparse, wide, place, label) == (3, FLOAT32, 1, width, 0, [0, 0])
    assert borders[:4].tolist() == [0, 10, 10, 11]
    assert indices[:11].tolist() == [*columns, 3]
    assert values.view(np.float32)[:11].tolist() == [*range(10), 5]


def test_integers() -> None:
    """Integers are copied, negative ones from their ten bytes."""
    extremes = [0, -1, 300, -(1 << 31), (1 << 31) - 1]
    found = run(Row(extremes, dtype="int32", label=[-3], label_dtype="int32").frame * 2)
    assert found is not None
    (rows, _, kind, sparse, width, place, *label), labels, _, _, values = found
    assert (rows, kind, sparse, width, place, label) == (2, INT32, 0, 5, 0, [INT32, 1])
    assert values.view(np.int32)[:10].tolist() == extremes * 2
    assert labels.view(np.int32)[:2].tolist() == [-3, -3]


@pytest.mark.parametrize(
    "other",
    [
        Row([1.0, 2.0, 3.0]),
        Row([1.0, 2.0], dtype="float64"),
        Row([1.0, 2.0], label=[1.0, 2.0]),
        Row([1.0, 2.0], label=[1.0], label_dtype="float64"),
        Row([1.0, 2.0], width=2, keys=[0, 1], label=[1.0]),
        Row([1, 2], dtype="int32", label=[1.0]),
        Row([1.0, 2.0], label=[1.0], ids=("a", "")),
    ],
)
def test_a_run_ends(other: Row) -> None:
    """A record of another kind ends a run, on either side."""
    row = Row([1.0, 2.0], label=[1.0])
    first = run(row.frame * 2 + other.frame + row.frame)
    assert first is not None and first[0][:2] == (2, 2 * len(row.frame))
    if other.ids is None:
        second = run(other.frame + row.frame)
        assert second is not None and second[0][:2] == (1, len(other.frame))


def test_labels_of_another_size_do_not_touch_those_before() -> None:
    """Smaller numbers after larger ones, at which a run ends, are not written over them."""
    rows = [Row([1.0], label=[float(i)], label_dtype="float64") for i in range(4)]
    found = run(b"".join(row.frame for row in rows) + Row([1.0], label=[-1], label_dtype="int32").frame)
    assert found is not None
    assert found[1].view(np.float64)[:4].tolist() == [0, 1, 2, 3]


def test_records_of_one_size_with_other_labels() -> None:
    """Records that are as long, but whose labels are of another kind, are not taken for those before them."""
    two, one = Row([1.0], label=[1.0, 2.0]).frame, Row([1.0], label=[3.0], label_dtype="float64").frame
    assert len(two) == len(one)
    found = run(two * 2 + one)
    assert found is not None and found[0][:2] == (2, 2 * len(two))
    agree_on(two * 2 + one)


def test_labels_that_do_not_end_the_record() -> None:
    """Labels are read where they stand, also where an empty field comes after them."""
    row, after = Row([1.0]).features, field(2, b"")
    payloads = [row + entry(2, field(2, field(1, numbers("float32", [label])) + after)) for label in (5.0, 6.0, 7.0)]
    found = run(framed(payloads, bytes(4)))
    assert found is not None and found[0][0] == 3
    assert found[1].view(np.float32)[:3].tolist() == [5, 6, 7]
    agree_on(framed(payloads, bytes(4)))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        Row([1.0]).features[:-1],
        Row([1.0]).features + b"\x08\x01",
        Row([1.0], ids=("me", "")).payload,
        Row([1.0], label=[1.0]).rest + Row([1.0]).features,
        Row([], width=None).payload,
        Row([1.0], keys=[3], width=3).payload,
        Row([1.0], keys=[1]).payload,
        Row([1.0, 2.0], keys=[1], width=3).payload,
        Row([1.0], keys=[1, 2], width=3).payload,
        entry(1, field(2, field(1, numbers("float32", [1.0]))), "other"),
        entry(1, field(2, field(1, b"12345"))),
        entry(1, field(7, field(1, b"\x05\x80"))),
        entry(1, field(7, field(1, b"\x80" * 10 + b"\x01"))),
        entry(1, field(2, field(1, b"1234") + field(2, varint(0, 6)) + field(3, b"\x03"))),
        entry(1, field(2, field(1, b"1234") + field(3, b"\x01\x01"))),
        entry(1, field(2, field(1, b"1234") + field(3, b""))),
        entry(1, field(2, field(1, b"1234") + field(3, b"\x02"))),
        entry(1, field(9, field(1, b"1234"))),
        Row([1.0]).features + entry(2, field(2, field(1, b"1234") + field(2, b"\x01"))),
        Row([1.0]).features + entry(2, field(2, field(1, b"1234") + field(3, b"\x01"))),
    ],
)
def test_what_is_left_to_the_twin(payload: bytes) -> None:
    """Other layouts, and whatever is wrong, are left to the twin, at the beginning and after good records."""
    assert run(frame(payload)) is None
    good = Row([1.0]).frame
    found = run(good * 3 + frame(payload))
    assert found is not None and found[0][:2] == (3, 3 * len(good))
    agree_on(good * 3 + frame(payload) + good)
    agree_on(frame(payload) + good * 3)


@pytest.mark.parametrize("data", [b"", b"\x0a\x23\xd7\xce", b"\x0b" + Row([1.0]).frame[1:], split(b"a", b"b")])
def test_what_is_no_whole_frame(data: bytes) -> None:
    """So are frames that are cut, split or none; and any cut of a good one."""
    assert run(data) is None
    good = Row([1.0], label=[1.0]).frame
    assert all(run(good[:cut]) is None for cut in range(len(good)))


def test_arrays_that_are_too_small() -> None:
    """A run ends where the arrays are full; where they cannot hold the first record, nothing is read."""
    sparse = Row([1.0, 2.0], keys=[0, 1], width=5, label=[1.0, 2.0]).frame
    found = run(sparse * 9, room=7)
    assert found is not None and found[0][0] == 3
    assert run(sparse, room=1) is None
    dense = run(Row([1.0]).frame * 9, room=4)
    assert dense is not None and dense[0][0] == 3
    data, longs = Row([1.0], label=[1.0]).frame * 9, np.zeros(99, np.int64)
    labelled = KERNELS.recordio_rows(data, 0, len(data), longs[:2], longs, longs, longs.copy())
    assert labelled is not None and labelled[0] == 2
    few = KERNELS.recordio_rows(data, 0, len(data), longs, longs[:4].copy(), longs.copy(), longs.copy())
    assert few is not None and few[0] == 3


def test_arguments_that_do_not_fit() -> None:
    """Wrong sizes and arrays are refused."""
    data, longs = Row([1.0]).frame, np.zeros(9, np.int64)
    for at, size, borders, values in ((-1, 9, longs, longs), (0, -1, longs, longs), (0, len(data) + 1, longs, longs),
                                      (0, 9, longs[:0], longs), (0, 9, longs, longs[:3])):  # fmt: skip
        with pytest.raises(ValueError, match="too short"):
            KERNELS.recordio_rows(data, at, size, longs, borders, longs, values)
    with pytest.raises(BufferError):
        KERNELS.recordio_rows(data, 0, 9, longs, longs, longs, b"12345678")
    with pytest.raises(TypeError):
        KERNELS.recordio_rows(data, 0)
    assert KERNELS.recordio_rows(data, 1 << 40, len(data), longs, longs, longs, longs) is None


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_corpus(path: Path) -> None:
    """Every file of the corpus is the same rows, or the same error."""
    for block_bytes in (64, 1000, 1 << 20):
        agree_on(path.read_bytes(), block_bytes)


KINDS = st.sampled_from(sorted(FIELDS))


@st.composite
def tensors(draw: st.DrawFn, kind: str, count: int, width: int | None) -> bytes:
    """A tensor as some encoder might write it, most often as Amazon's do."""
    floats = st.floats(width=32 if kind == "float32" else 64)
    values = draw(
        st.lists(floats if kind != "int32" else st.integers(-(2**31), 2**31 - 1), min_size=count, max_size=count)
    )
    keys: list[int] = []
    if width is not None:
        keys = draw(st.lists(st.integers(0, max(0, width - draw(st.integers(0, 1)))), min_size=count, max_size=count))
    odd = draw(st.integers(0, 11))
    parts = [field(1, numbers(kind, values)) if values else b"", field(2, varints(keys)) if keys else b""]
    parts.append(field(3, varint(width)) if width is not None else b"")
    if odd == 0:  # every number a field of its own
        wire = {"float32": 5, "float64": 1, "int32": 0}[kind]
        parts[0] = b"".join(varint(1 << 3 | wire) + numbers(kind, [value]) for value in values)
        parts[1] = b"".join(varint(2 << 3) + varint(key) for key in keys)
    elif odd == 1:
        parts = draw(st.permutations(parts))
    elif odd == 2:  # numbers with more bytes than they need
        least = draw(st.integers(1, 10))
        parts[1] = field(2, b"".join(varint(key, least) for key in keys)) if keys else b""
        parts[2] = field(3, varint(width, least)) if width is not None else b""
    elif odd == 3:
        parts.insert(draw(st.integers(0, 3)), field(draw(st.integers(1, 9)), draw(st.binary(max_size=3))))
    return field(FIELDS[kind], b"".join(parts))


@st.composite
def records(draw: st.DrawFn) -> list[bytes]:
    """Records of one kind, nearly."""
    kind, label_kind = draw(KINDS), draw(st.one_of(st.none(), KINDS))
    count, labels = draw(st.integers(0, 5)), draw(st.sampled_from([1, 1, 1, 2, 0]))
    width = draw(st.sampled_from([None, None, 1, 5, 200, 20_000, 3_000_000, 1 << 31, 1 << 34, 1 << 40]))
    made = []
    for _ in range(draw(st.integers(1, 10))):
        some = draw(st.integers(0, 5)) if width is not None or not draw(st.integers(0, 20)) else count
        fields = [entry(1, draw(tensors(kind, some, width)))]
        if label_kind is not None and draw(st.integers(0, 30)):
            fields.append(entry(2, draw(tensors(label_kind, labels, None))))
        odd = draw(st.integers(0, 30))
        if odd == 0:
            fields.append(field(draw(st.sampled_from([3, 4, 5, 9])), draw(st.text(max_size=3))))
        elif odd == 1:
            fields.append(draw(st.sampled_from(fields)))
        elif odd == 2:
            fields = draw(st.permutations(fields))
        made.append(b"".join(fields))
    return made


def framed(payloads: Sequence[bytes], padding: bytes) -> bytes:
    """Records in frames, one after the other."""
    return b"".join(frame(payload, padding=padding) for payload in payloads)


STREAMS = st.builds(
    framed,
    st.lists(records(), max_size=4).map(lambda groups: [payload for group in groups for payload in group]),
    st.sampled_from([bytes(4), b"\xff" * 4]),
)


@settings(max_examples=200)
@given(data=STREAMS, block_bytes=BLOCKS)
@example(framed([Row([7], dtype="int32").payload, Row([], dtype="int32").payload], bytes(4)), 64)
@example(
    framed(
        [
            Row([7], dtype="int32", label=[200], label_dtype="int32").payload,
            Row([7, 7], dtype="int32", label=[2, 3], label_dtype="int32").payload,
        ],
        bytes(4),
    ),
    1000,
)
def test_any_records_both_ways(data: bytes, block_bytes: int) -> None:
    """Any records are the same rows, to the bit, or the same error by the kernel and by its twins."""
    agree_on(data, block_bytes)


@settings(max_examples=200)
@given(
    data=st.one_of(STREAMS, st.sampled_from([path.read_bytes() for path in CORPUS if path.stat().st_size < 5000])),
    damages=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=3),
    cut=st.integers(0, 40),
    block_bytes=BLOCKS,
)
def test_damaged_bytes_both_ways(data: bytes, damages: list[tuple[float, int]], cut: int, block_bytes: int) -> None:
    """So are those that were damaged or cut."""
    damaged = bytearray(data)
    for place, byte in damages if data else ():
        damaged[min(int(place * len(data)), len(data) - 1)] = byte
    agree_on(bytes(damaged[: max(0, len(damaged) - cut)]), block_bytes)


@given(
    st.lists(st.lists(st.floats(width=32), min_size=1, max_size=4), min_size=1, max_size=6),
    st.booleans(),
    st.booleans(),
)
def test_records_by_the_protobuf_library(rows: list[list[float]], sparse: bool, labelled: bool) -> None:
    """What the protobuf library writes is read, mostly by the kernel."""
    payloads = []
    for values in rows:
        record = Record()
        tensor = record.features["values"].float32_tensor
        tensor.values.extend(values)
        if sparse:
            tensor.keys.extend(i * i * 200 for i in range(len(values)))
            tensor.shape.append(5000)
        if labelled:
            record.label["values"].float32_tensor.values.append(values[0])
        payloads.append(record.SerializeToString())
    data = framed(payloads, bytes(4))
    assert len(agree_on(data)) > 0
    assert run(data) is not None


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list to which the kernel's calls will add the number of rows of each run."""
    counts: list[int] = []

    def recordio_rows(*arguments: Any) -> Any:
        found = KERNELS.recordio_rows(*arguments)
        counts.append(found[0] if found else 0)
        return found

    monkeypatch.setattr(native, "kernels", SimpleNamespace(recordio_rows=recordio_rows))
    return counts


@pytest.mark.parametrize("sparse", [False, True])
def test_a_fifo_is_read_by_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sparse: bool) -> None:
    """All rows of a FIFO that is written in pieces come through the kernel."""
    dense = np.arange(9000, dtype=np.float32).reshape(3000, 3) + 1
    data = written(Batch(CSR.from_dense(dense) if sparse else dense, dense[:, 0]))
    os.mkfifo(tmp_path / "fifo")

    def write() -> None:
        with (tmp_path / "fifo").open("wb", buffering=0) as file:
            for at in range(0, len(data), 4999):
                file.write(data[at : at + 4999])

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    counts = counted(monkeypatch)
    with (tmp_path / "fifo").open("rb", buffering=0) as stream:
        batch = concatenate(list(read_batches(stream, 700, block_bytes=8000)))  # type: ignore[arg-type]
    writer.join(timeout=10)
    assert not writer.is_alive()
    assert np.array_equal(batch.dense(), dense)
    assert sum(counts) == 3000


def test_a_body_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request's body of records of one kind is one run, which owns its memory."""
    counts = counted(monkeypatch)
    dense = np.arange(20, dtype=np.float64).reshape(4, 5)
    batch = read_body(written(Batch(dense, np.arange(4.0))))
    assert counts == [4]
    assert np.array_equal(batch.dense(), dense)
    assert batch.dense().flags.owndata


def test_many_threads() -> None:
    """Streams are read in several threads at a time."""
    dense = np.arange(200_000, dtype=np.float32).reshape(50_000, 4)
    data = written(Batch(CSR.from_dense(dense)), Batch(dense))
    found: list[bool] = []

    def read() -> None:
        rows = concatenate(list(read_batches(io.BytesIO(data), 1000)))
        found.append(np.array_equal(rows.dense(), np.concatenate([dense, dense])))

    threads = [threading.Thread(target=read, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert found == [True] * 4


def test_views_hold_until_the_next() -> None:
    """Views of one run are gone with the next; those who keep rows copy them."""
    data = written(*(Batch(CSR.from_dense(np.full((2, 3), i + 1, np.float32))) for i in range(3)))
    sums = [
        float(batch.features.values.sum()) for batch in read_views(io.BytesIO(data)) if isinstance(batch.features, CSR)
    ]
    assert sum(sums) == 36
