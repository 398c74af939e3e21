"""Writes the corpus: wire files, valid and invalid, each with what a reader has to make of it.

Run as ``python tests/recordio/make_corpus.py [FOLDER]``. It shares no code with clary, so a mistake there cannot hide
in its own tests.
"""

from __future__ import annotations

import json
import shutil
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from encode import FIELDS, FIRST, LAST, MAGIC, MIDDLE, Row, entry, field, frame, numbers, split, tensor, varint, varints

Case = tuple[str, bytes, dict[str, Any]]
"""Name, bytes, expectation."""


def valid(name: str, about: str, rows: Sequence[Row], data: bytes | None = None, width: int | None = None) -> Case:
    """A file that holds the rows; by default laid out as the SDK does."""
    data = b"".join(row.frame for row in rows) if data is None else data
    if rows:
        width = width or rows[0].width or len(rows[0].values)
    return name, data, {"about": about, "width": width, "rows": [row.expected for row in rows]}


def invalid(name: str, about: str, before: Sequence[Row], bad: bytes, *phrases: str, into: int = 0) -> Case:
    """Good rows, then bytes that have to be refused with one of the phrases, at `into` of them."""
    good = b"".join(row.frame for row in before)
    rows = [row.expected for row in before]
    error = {"record": len(before), "offset": len(good) + into, "phrases": list(phrases)}
    return name, good + bad, {"about": about, "error": error, "rows": rows}


TWO = [Row([1.5, -2.0, 0.25], label=[1.0]), Row([0.0, 3.0, 2.0**-100], label=[0.0])]
TEN = [Row([i + 0.5, -i], label=[i % 2]) for i in range(10)]
SPARSE = [Row([1.5, -2.0], keys=[0, 4], width=6, label=[1.0]), Row([7.0], keys=[5], width=6, label=[0.0])]
ZERO = Row([], keys=[], width=6, label=[1.0])
MAGIC_FLOAT = struct.unpack("<f", MAGIC)[0]
LENGTH_FLOAT = struct.unpack("<f", struct.pack("<I", 14))[0]


def dense_cases() -> Iterator[Case]:
    """Dense rows."""
    yield valid("dense_float32", "float32 rows with labels", TWO)
    yield valid(
        "dense_float64",
        "float64 rows, features and labels",
        [Row([0.1, 1e300, -2.5], "float64", label=[i / 3], label_dtype="float64") for i in range(3)],
    )
    yield valid(
        "dense_int32",
        "int32 rows of varints of every length, negative ones in ten bytes",
        [
            Row([1, -1, 300], "int32", label=[-5], label_dtype="int32"),
            Row([2**31 - 1, -(2**31), 0], "int32", label=[70000], label_dtype="int32"),
        ],
    )
    yield valid("one_row", "a single record", TWO[:1])
    yield valid("one_column", "a single feature", [Row([float(i)]) for i in range(12)])
    for columns in (25, 26, 27, 28, 31, 32):
        rows = [Row([i + j / 4 for j in range(columns)], label=[i]) for i in range(3)]
        yield valid(f"{columns}_columns", "lengths grow to two bytes about here: the numbers move", rows)
    yield valid(
        "4100_columns",
        "records larger than a small block",
        [Row([float(i * j % 97) for j in range(4100)], label=[i]) for i in range(3)],
    )
    yield valid(
        "300_rows", "more records than a small block holds", [Row([i, i / 2, -i], label=[i]) for i in range(300)]
    )
    yield valid("not_finite", "infinities and a negative zero", [Row([float("inf"), float("-inf"), -0.0])])
    yield valid(
        "several_dtypes",
        "each record has a dtype of its own",
        [Row([1.5, 2.5]), Row([0.1, 0.2], "float64"), Row([1, -2], "int32"), Row([3.5, 4.5])],
    )
    shaped = entry(1, tensor("float32", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], shape=[6]))
    yield valid("dense_shape", "a dense tensor may say its size", [Row([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])], frame(shaped))
    matrix = entry(1, tensor("float32", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], shape=[2, 3]))
    yield valid(
        "dense_shape_2d",
        "a shape of two by three makes six columns",
        [Row([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])],
        frame(matrix),
    )


def label_cases() -> Iterator[Case]:
    """Labels of each kind."""
    yield valid("no_labels", "features only", [Row([1.0, 2.0]), Row([3.0, 4.0])])
    for dtype in FIELDS:
        rows = [Row([1.0, 2.0], label=[label], label_dtype=dtype) for label in (0, 1, 127, 128, 16384, 3)]
        yield valid(f"label_{dtype}", "labels of another dtype than the features", rows)
    yield valid("some_labels", "records with and without a label", [TWO[0], Row([4.0, 5.0, 6.0]), TWO[1]])
    yield valid(
        "label_of_three",
        "labels of several values",
        [Row([1.0], label=[1.0, 0.5, 0.25]), Row([2.0], label=[0.0, 8.0, 9.0])],
    )
    yield valid(
        "label_of_two_int32",
        "integer labels of several values and lengths",
        [
            Row([1.0], label=[300, 5], label_dtype="int32"),
            Row([2.0], label=[5, 300], label_dtype="int32"),
            Row([2.0], label=[5, 6], label_dtype="int32"),
        ],
    )
    yield valid("label_empty", "a label without values is none", [Row([1.0], label=[]), Row([2.0], label=[])])


def sparse_cases() -> Iterator[Case]:
    """Sparse rows."""
    yield valid("sparse_float32", "sparse rows with labels", SPARSE)
    yield valid(
        "sparse_float64",
        "sparse float64 rows",
        [Row([0.1, 1e300], "float64", [1, 2], 300), Row([2.0], "float64", [299], 300)],
    )
    yield valid(
        "sparse_int32", "sparse int32 rows", [Row([-1, 300], "int32", [1, 2], 300), Row([7], "int32", [200], 300)]
    )
    yield valid("sparse_zero_row", "a row of zeros has a shape only", [SPARSE[0], ZERO, SPARSE[1]])
    yield valid("sparse_zero_first", "the first row is all zeros", [ZERO, *SPARSE])
    yield valid("sparse_all_zero", "all rows are zeros", [ZERO, ZERO])
    yield valid(
        "large_keys",
        "keys of five bytes",
        [Row([1.0, 2.0], keys=[3, 2**28], width=2**31), Row([3.0], keys=[2**31 - 1], width=2**31)],
    )
    yield valid(
        "huge_keys",
        "keys and widths of six bytes and more",
        [Row([1.0, 2.0], keys=[5, 2**41], width=2**42), Row([3.0], keys=[2**35], width=2**42)],
    )
    yield valid("unsorted_keys", "keys keep their order", [Row([1.0, 2.0, 3.0], keys=[5, 0, 2], width=6)])
    yield valid("repeated_keys", "a key may come twice", [Row([1.0, 2.0, 3.0], keys=[2, 2, 4], width=6)])
    yield valid("explicit_zeros", "zeros that are written stay", [Row([0.0, 1.0, 0.0], keys=[0, 1, 5], width=6)])
    yield valid(
        "dense_and_sparse",
        "dense and sparse records in turns",
        [
            Row([1.0, 0.0, 2.0], label=[1.0]),
            Row([5.0], keys=[1], width=3, label=[0.0]),
            Row([4.0, 5.0, 6.0], label=[1.0]),
        ],
    )
    square = entry(1, tensor("float32", [9.0], keys=[5], shape=[2, 3]))
    yield valid(
        "sparse_shape_2d", "a shape of two by three makes six columns", [Row([9.0], keys=[5], width=6)], frame(square)
    )


def layout_cases() -> Iterator[Case]:
    """Records laid out in other ways than the SDK's."""
    row, ids = TWO[0], ("u-1", '{"a": 1}')
    value = tensor("float32", row.values)
    loose = b"".join(b"\x0d" + struct.pack("<f", number) for number in row.values)
    other = entry(1, tensor("float32", [9.0]), "another")
    yield valid("ids", "uid and metadata", [Row([1.0], ids=ids), Row([2.0], label=[1.0], ids=("u-2", ""))])
    yield valid(
        "some_ids", "one record among others has a uid", [*TEN, Row([1.0, 2.0], label=[1.0], ids=("ü", "")), *TEN]
    )
    yield valid("other_name", "the only feature may have any name", [row], frame(entry(1, value, "x") + row.rest))
    yield valid("several_features", "the feature named values counts", [row], frame(other + row.payload))
    yield valid("unpacked", "values one by one, each with its tag", [row], frame(entry(1, field(2, loose)) + row.rest))
    yield valid("label_first", "the label comes before the features", [row], frame(row.rest + row.features))
    backwards = field(1, field(2, value) + field(1, "values"))
    yield valid("value_first", "a map entry's value comes before its key", [row], frame(backwards + row.rest))
    shape_first = field(3, varint(6)) + field(2, varints([0, 4])) + field(1, numbers("float32", [1.5, -2.0]))
    yield valid(
        "shape_first",
        "a tensor's fields in reverse",
        SPARSE[:1],
        frame(entry(1, field(2, shape_first)) + SPARSE[0].rest),
    )
    yield valid(
        "entry_twice", "of two entries with one name the last counts", [row], frame(TWO[1].features + row.payload)
    )
    yield valid(
        "unknown_fields", "fields of later versions", [row], frame(row.payload + field(5, "conf") + field(99, "new"))
    )
    long_length = b"\x0a" + varint(len(row.features) - 2, least=5) + row.features[2:]
    yield valid("long_varints", "lengths with leading zeros", [row], frame(long_length + row.rest))
    short = entry(1, field(7, field(1, b"\xff\xff\xff\xff\x0f\x07")))
    yield valid("short_negative", "a negative int32 in five bytes", [Row([-1, 7], "int32")], frame(short))


def frame_cases() -> Iterator[Case]:
    """Frames of each kind."""
    yield valid("empty_file", "no record at all", [])
    rows = [Row([i + j / 4 for j in range(32)]) for i in range(12)]
    odd = [frame(row.payload, padding=bytes([i, 255, 9 - i])) for i, row in enumerate(rows[:9])]
    yield valid("odd_padding", "padding need not be zeros", rows[:9], b"".join(odd))
    aligned, shifted = [MAGIC_FLOAT] * 25, [1.0, MAGIC_FLOAT]
    yield valid("magic_in_payload", "values that are the magic", [Row([1.0] * 25), Row(aligned), Row([2.0] * 25)])
    yield valid(
        "magic_and_length",
        "values that look like frames",
        [Row([MAGIC_FLOAT, LENGTH_FLOAT, 5.0, MAGIC_FLOAT, 0.0, 1.0] * 5) for _ in range(12)],
    )
    yield valid("magic_unaligned", "the magic between two words", [Row(shifted), Row(shifted)])
    payload = Row(aligned).payload
    place = payload.index(MAGIC)
    last = payload.rindex(MAGIC)
    yield valid(
        "split_joined",
        "parts are put together",
        [TWO[0], TWO[1], TWO[0]],
        TWO[0].frame + split(TWO[1].payload[:9], TWO[1].payload[9:]) + TWO[0].frame,
    )
    yield valid(
        "split_at_magic",
        "the magic was taken out where the record is split",
        [Row(aligned)],
        split(payload[:place], payload[place + 4 :]),
    )
    yield valid(
        "split_at_two_magics",
        "a record split at two magics",
        [Row(aligned), Row([1.0] * 25)],
        split(payload[:place], payload[place + 4 : last], payload[last + 4 :]) + Row([1.0] * 25).frame,
    )
    pieces = [TWO[0].payload[i : i + 7] for i in range(0, len(TWO[0].payload), 7)]
    yield valid(
        "split_in_many",
        "a record in parts of seven bytes",
        [TWO[0], *TWO],
        split(*pieces) + TWO[0].frame + TWO[1].frame,
    )
    yield valid("split_empty_part", "a part may be empty", [TWO[0]], split(TWO[0].payload[:8], b"", TWO[0].payload[8:]))
    every = b"".join(split(row.payload[:5], row.payload[5:]) for row in TEN)
    yield valid("split_all", "all records are split", TEN, every)
    wide = Row([float(i) for i in range(3000)])
    yield valid(
        "split_large",
        "parts larger than a small block",
        [wide, wide],
        split(wide.payload[:6000], wide.payload[6000:]) + wide.frame,
    )


def broken_frames() -> Iterator[Case]:
    """Frames that are cut or out of order."""
    good, head = TWO[0].frame, struct.pack("<I", 8)
    yield invalid(
        "bad_magic_only", "the one frame has another magic", [], b"\x0b" + good[1:], "expected the RecordIO magic"
    )
    yield invalid("bad_magic_first", "all frames have another magic", [], (b"\x0b" + good[1:]) * 12, "got 0xCED7230B")
    yield invalid(
        "bad_magic_later", "another magic after good records", TEN, b"\x0b" + good[1:] + good, "got 0xCED7230B"
    )
    yield invalid("stray_byte", "one byte after the last record", TWO, b"\x0a", "ends 1 bytes into a frame's header")
    yield invalid("stray_zeros", "zeros after the last record", TWO, bytes(12), "got 0x00000000")
    yield invalid("header_cut", "the length is missing", TWO, good[:4], "ends 4 bytes into a frame's header")
    yield invalid("payload_missing", "the stream ends after a header", TEN, good[:8], "ends 0 bytes into a payload")
    yield invalid("payload_cut", "the stream ends inside a payload", TEN, TEN[0].frame[:-5], "bytes into a payload of")
    odd = frame(TWO[0].payload + field(5, "x"))
    yield invalid("padding_cut", "the last byte of the padding is missing", TWO, odd[:-1], "and its padding")
    yield invalid(
        "length_beyond_end",
        "a length of 256 MiB",
        TWO,
        MAGIC + struct.pack("<I", 1 << 28) + bytes(100),
        "ends 100 bytes into",
    )
    first, last = frame(b"abcd", FIRST), frame(b"efgh", LAST)
    middle = frame(b"ijkl", MIDDLE)
    yield invalid("part_missing", "the stream ends after a first part", TWO, first, "ends between the parts", into=12)
    yield invalid(
        "part_cut", "the stream ends inside a last part", TWO, first + middle + last[:10], "ends 2 bytes into", into=24
    )
    yield invalid("middle_first", "a middle part outside", TEN, middle + last, "a middle part outside any split record")
    yield invalid("last_first", "a last part outside", TWO, last, "a last part outside any split record")
    yield invalid(
        "whole_inside", "a whole record inside a split one", TWO, first + good, "a whole record inside a split", into=12
    )
    yield invalid(
        "first_inside",
        "a first part inside a split record",
        TWO,
        first + middle + first,
        "a first part inside",
        into=24,
    )
    yield invalid("flag_unknown", "a part flag of 5", TWO, frame(TWO[0].payload, 5), "part flag 5")
    yield invalid(
        "magic_inside",
        "another magic between parts",
        TWO,
        first + b"\xff" + good + head * 5000,
        "got 0xD7230AFF",
        into=12,
    )


def broken_tensors() -> Iterator[Case]:
    """Whole frames with features that do not fit together."""

    def sparse(
        values: Sequence[float], keys: Sequence[int], shape: Sequence[int] | None = (6,), dtype: str = "float32"
    ) -> bytes:
        return frame(entry(1, tensor(dtype, values, keys, shape)) + SPARSE[0].rest)

    good = SPARSE[0].frame
    yield invalid("sparse_no_shape", "keys without a shape", SPARSE, sparse([1.0], [0], None) + good, "have no shape")
    yield invalid(
        "key_equals_shape",
        "a key beyond the last column",
        [*SPARSE * 5, SPARSE[0]],
        sparse([1.0], [6]) + good,
        "a key of 6 in a row of 6 columns",
    )
    yield invalid("key_huge", "a key of 64 bits", SPARSE, sparse([1.0], [2**64 - 1]), f"a key of {2**64 - 1}")
    yield invalid(
        "keys_missing", "fewer keys than values", SPARSE, sparse([1.0, 2.0], [1]) + good, "have 1 keys for 2 values"
    )
    yield invalid("values_missing", "keys without values", SPARSE, sparse([], [1]), "have 1 keys for 0 values")
    yield invalid(
        "values_missing_int32",
        "fewer int32 values than keys",
        SPARSE,
        sparse([7], [1, 2], dtype="int32"),
        "have 2 keys for 1 values",
    )
    yield invalid(
        "two_wrong_rows",
        "the first of two wrong rows is told",
        SPARSE,
        sparse([1.0], [7]) + sparse([1.0, 2.0], [1]),
        "a key of 7",
    )
    yield invalid(
        "width_change", "a dense row of another width", TEN, TWO[0].frame, "has 3 features, those before have 2"
    )
    yield invalid(
        "width_change_sparse",
        "a sparse row of another width",
        SPARSE,
        sparse([1.0], [6], [7]),
        "has 7 features, those before have 6",
    )
    ints = [Row([1, 2, 3], "int32"), Row([300, 2, 3], "int32")]
    yield invalid(
        "width_change_int32",
        "int32 rows of as many bytes",
        ints,
        Row([300, 300], "int32").frame + ints[0].frame,
        "has 2 features, those before have 3",
    )
    yield invalid(
        "labels_change",
        "a label of two values after labels of one",
        TWO,
        Row(TWO[0].values, label=[1.0, 2.0]).frame,
        "has 2 labels, those before have 1",
    )
    pairs = [Row([1.0], label=[1, 2], label_dtype="int32")]
    yield invalid(
        "labels_change_int32",
        "int32 labels of as many bytes",
        pairs,
        Row([1.0], label=[300], label_dtype="int32").frame,
        "has 1 labels, those before have 2",
    )
    yield invalid(
        "shape_differs",
        "a dense row with another shape",
        TWO,
        frame(entry(1, tensor("float32", [1.0, 2.0, 3.0], shape=[4]))),
        "3 values for a shape of 4",
    )
    yield invalid(
        "no_values",
        "a tensor without anything",
        TWO,
        frame(entry(1, tensor("float32", []))),
        "the features have no values",
    )


def broken_records() -> Iterator[Case]:
    """Whole frames whose payload is no usable record."""
    row, picture = TWO[0], field(9, field(1, b"\xff\xd8"))
    yield invalid("bytes_feature", "features of bytes", TWO, frame(entry(1, picture)), "the features hold bytes")
    yield invalid(
        "bytes_label", "a label of bytes", TWO, frame(row.features + entry(2, picture)), "the labels hold bytes"
    )
    yield invalid("empty_value", "a feature with nothing in it", TWO, frame(entry(1, b"")), "the features hold nothing")
    yield invalid("no_features", "a label alone", TEN, frame(row.rest), "has no features")
    yield invalid("empty_payload", "a frame of no bytes", TEN, frame(b"") + row.frame, "has no features")
    two = frame(entry(1, tensor("float32", [1.0]), "a") + entry(1, tensor("float32", [1.0]), "b"))
    yield invalid("two_features", "two features, neither named values", TWO, two, "the features 'a', 'b'")
    sparse = frame(row.features + entry(2, tensor("float32", [1.0], [0], [2])))
    yield invalid("sparse_label", "a label with keys", TWO, sparse, "the label is sparse")
    no_message = "no Record message"
    yield invalid("garbage", "a payload of other bytes", TEN, frame(b"\xde\xad\xbe\xef" * 9) + row.frame, no_message)
    yield invalid("split_garbage", "parts of other bytes", TWO, split(b"\xde\xad", b"\xbe\xef") + row.frame, no_message)
    cut = frame(entry(1, field(7, field(1, b"\x01\x82"))))
    yield invalid("varint_cut", "the last int32 is cut", [], cut, no_message, "packed numbers is cut")
    cut_key = frame(entry(1, field(2, field(1, bytes(8)) + field(2, b"\x01\x82") + field(3, b"\x06"))) + ZERO.rest)
    yield invalid(
        "key_cut", "the last key is cut", [*SPARSE, ZERO], cut_key + ZERO.frame, no_message, "packed numbers is cut"
    )
    long = frame(entry(1, field(7, field(1, b"\x80" * 10 + b"\x01"))))
    yield invalid("varint_long", "an int32 of eleven bytes", [], long, no_message, "more than 10 bytes")
    odd = frame(entry(1, field(2, field(1, bytes(7)))) + row.rest)
    yield invalid("float_cut", "seven bytes of float32", TWO, odd, no_message, "no whole number of float32")
    yield invalid(
        "not_utf8",
        "a name of other bytes",
        TWO,
        frame(entry(1, tensor("float32", [1.0]), b"\xff\xfe")),
        "not UTF-8",
        no_message,
    )


def text(expected: dict[str, Any]) -> str:
    """JSON with a record a line."""
    rows = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in expected["rows"])
    head = json.dumps({key: value for key, value in expected.items() if key != "rows"}, indent=1, ensure_ascii=False)
    return head[:-2] + ',\n "rows": [' + (f"\n  {rows}\n ]" if rows else "]") + "\n}\n"


def write(folder: Path, *makers: Callable[[], Iterator[Case]]) -> None:
    """Write numbered files with their expectations; others are removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    cases = [case for maker in makers for case in maker()]
    for number, (name, data, expected) in enumerate(cases, 1):
        path = folder / f"{number:03}_{name}"
        path.with_suffix(".rec").write_bytes(data)
        path.with_suffix(".json").write_text(text(expected), "utf-8")


if __name__ == "__main__":
    root = Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent
    write(root / "valid", dense_cases, label_cases, sparse_cases, layout_cases, frame_cases)
    write(root / "invalid", broken_frames, broken_tensors, broken_records)
