"""The kernels that read CSV and libsvm, and their twins in NumPy."""

from __future__ import annotations

import ctypes
import locale
import random
import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clary import native
from clary.errors import DataError
from clary.recordio.batch import CSR, Batch
from clary.recordio.csv import read_csv
from clary.recordio.libsvm import read_libsvm, read_libsvm_body

if native.kernels is None:
    pytest.skip(f"the kernels are {native.STATE}", allow_module_level=True)
KERNELS = native.kernels

INF = float("inf")
strtof: Any = ctypes.CDLL(None).strtof
strtof.restype = ctypes.c_float


def csv(text: bytes, width: int, rows: int, delimiter: str = ",") -> list[list[float]] | None:
    """What the kernel makes of a text; None where it leaves it to its twin."""
    table = np.empty((rows, width), np.float32)
    found = KERNELS.csv_rows(text, np.empty(0, np.float32), table, ord(delimiter), width, 0)
    return None if found is None else table[:found].tolist()


def column(texts: list[bytes]) -> np.ndarray[Any, Any]:
    """Numbers as the kernel reads them, from a column with something before it."""
    table = np.empty((len(texts), 2), np.float32)
    block = b"\n".join(b"12345678," + text for text in texts) + b"\n"
    assert KERNELS.csv_rows(block, np.empty(0, np.float32), table, ord(","), 2, 0) == len(texts)
    return table[:, 1]


def both_ways(read: Callable[[], Any]) -> tuple[Any, Any]:
    """What comes out with the kernels and without."""
    with pytest.MonkeyPatch.context() as patch:
        ours = read()
        patch.setattr(native, "kernels", None)
        return ours, read()


def told(batches: Callable[[], Iterator[Batch] | list[Batch]]) -> list[Any]:
    """Everything that can be seen of some batches, to the bit, and of the error that ended them."""
    seen: list[Any] = []
    try:
        for batch in batches():
            rows = batch.features
            arrays = [rows.indptr, rows.indices, rows.values] if isinstance(rows, CSR) else [rows]
            seen.append((rows.shape, *((part.dtype, part.tobytes()) for part in arrays)))
            for part in (batch.labels, batch.weights, batch.queries):
                seen.append(None if part is None else (part.dtype, part.shape, part.tobytes()))
    except DataError as error:
        seen.append(str(error))
    return seen


def random_decimal(draw: random.Random) -> str:
    """A number of any shape: up to 20 digits, a point anywhere, an exponent, next to the middle of two float32."""
    kind = draw.randrange(8)
    if kind == 0:  # in the middle between two float32, or a little beside it
        pair = np.array([draw.randrange(0x7F7FFFFF)], np.uint32)
        low, high = pair.view(np.float32)[0], (pair + 1).view(np.float32)[0]
        middle = f"{(float(low) + float(high)) / 2:.{draw.choice([16, 17, 25, 60, 120])}e}"
        return middle.replace("e", draw.choice(["e", "1e", "0000000000000000000000001e"]))
    digits = str(draw.randrange(10 ** draw.randint(1, 20)))
    if kind <= 4:  # as most people write them
        point = draw.randint(0, len(digits))
        return draw.choice(["", "-", "+"]) + digits[:point] + draw.choice(["", "."]) * (point > 0) + digits[point:]
    if kind == 5:  # with zeros before it
        return "0." + "0" * draw.randint(0, 45) + digits
    if kind == 6:  # about the largest and smallest
        return f"{draw.choice('123456')}.{digits}e{draw.choice([37, 38, 39, -37, -38, -39, -44, -45, -46])}"
    power = f"{draw.choice('eE')}{draw.choice(['', '+', '-'])}{draw.choice(['', '0', '00'])}{draw.randint(0, 60)}"
    return f"{digits[:1]}.{digits[1:]}{power}"


def test_a_million_decimals() -> None:
    """Every number is the float32 that strtof gives, to the bit, for a million decimals of all shapes."""
    draw = random.Random(0)  # noqa: S311
    texts = [random_decimal(draw).encode() for _ in range(1_000_000)]
    expected = np.fromiter((strtof(text, None) for text in texts), np.float32, len(texts))
    wrong = np.flatnonzero(column(texts).view(np.uint32) != expected.view(np.uint32))
    assert [texts[i] for i in wrong[:5]] == []


def test_the_twin_rounds_once_too() -> None:
    """So is what the twin gives, in large blocks and in small ones."""
    draw = random.Random(1)  # noqa: S311
    texts = [random_decimal(draw).encode() for _ in range(50_000)]
    expected = np.fromiter((strtof(text, None) for text in texts), np.float32, len(texts))
    for size in (1 << 20, 1 << 11):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, "kernels", None)
            batches = list(read_csv(BytesIO(b"\n".join(texts)), label_size=0, block_bytes=size))
        found = np.concatenate([batch.dense().ravel() for batch in batches])
        wrong = np.flatnonzero(found.view(np.uint32) != expected.view(np.uint32))
        assert [texts[i] for i in wrong[:5]] == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (
            b"3.4028235677973367e38",
            INF,
        ),  # just above the middle between the largest float32 and the next that there would be
        (b"3.4028235677973366e38", 3.4028234663852886e38),
        (b"7.006492321624085e-46", 0.0),  # below half of the smallest
        (b"7.006492321624086e-46", 1.401298464324817e-45),
        (b"1.1754943508222875e-38", 1.1754943508222875e-38),
        (b"16777217", 16777216.0),
        (b"16777217.0000000000000000000001", 16777218.0),
        (b"9007199254740993", 9007199254740992.0),
        (b"1e38", 9.999999680285692e37),
        (b"1e39", INF),
        (b"-1e999999999999999999999", -INF),
        (b"1e-999999999999999999999", 0.0),
        (b"0e999", 0.0),
        (b"1" + b"0" * 60 + b"e-60", 1.0),
        (b"0." + b"0" * 200 + b"1e201", 1.0),
        (b"5.", 5.0),
        (b".5", 0.5),
        (b"+7", 7.0),
        (b"007", 7.0),
        (b"Infinity", INF),
        (b"-iNf", -INF),
    ],
)
def test_numbers_by_hand(text: bytes, value: float) -> None:
    """Numbers at the borders of what float32 can hold, and in spellings that are seldom seen."""
    assert column([text]).tolist() == [value]


def test_zero_has_a_sign_and_nan_has_none() -> None:
    """Minus zero stays so; nan in any letters, and nothing, are the usual NaN."""
    found = column([b"-0", b"-0.0", b"-1e-99", b"0", b"nan", b"NaN", b"", b"  "]).view(np.uint32)
    assert found.tolist() == [0x80000000] * 3 + [0] + [0x7FC00000] * 4


@pytest.mark.parametrize(
    "cell",
    [b"-", b"+", b".", b"-.", b"e5", b"1e", b"1e+", b"1e5.", b"1.2.3", b"--1", b"1-", b"1 2", b"0x10", b"1_0", b'"1"',
     b"+nan", b"-nan", b"nano", b"infinit", b"in", b"\xff", b"\x00", b"1\x00", b"1\x0b", b"1\r2", b":", b"/", b"1,2"],
)  # fmt: skip
@pytest.mark.parametrize("before", [b"", b"1,1\n" * 50])
def test_what_is_left_to_the_twin(cell: bytes, before: bytes) -> None:
    """What is no plain number makes the kernel decline the block, wherever it stands."""
    assert csv(before + cell + b",1\n", 2, 100) is None
    assert csv(before + b"1," + cell + b"\n", 2, 100) is None


def test_a_middle_too_long_for_strtof() -> None:
    """A number of hundreds of digits next to the middle between two float32 is left to the twin, which reads it."""
    text = b"16777217." + b"0" * 300 + b"1\n"
    assert csv(text, 1, 1) is None
    assert next(read_csv(BytesIO(text), label_size=0)).dense().tolist() == [[16777218.0]]


def test_the_decimal_point_is_no_matter_of_language() -> None:
    """Where the process writes decimal commas, numbers are read as ever."""
    for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "C.UTF-8"):
        try:
            locale.setlocale(locale.LC_NUMERIC, name)
        except locale.Error:
            continue
        try:
            assert column([b"16777217.0000000000000000000001"]).tolist() == [16777218.0]
        finally:
            locale.setlocale(locale.LC_NUMERIC, "C")


def test_rows_by_hand() -> None:
    """Line ends of either kind, empty lines, spaces and empty cells."""
    text = b"\r\n\n1,2.5\r\n\n -3 ,\t4e1 \n\n,7\n"
    found = csv(text, 2, 5)
    assert found is not None
    np.testing.assert_array_equal(found, [[1, 2.5], [-3, 40], [np.nan, 7]])
    assert KERNELS.csv_shape(text, ord(",")) == (4, 2)
    assert KERNELS.csv_shape(b"\n\r\n", ord(",")) == (0, 0)


@pytest.mark.parametrize(
    "text", [b"1,2,3\n", b"1\n", b"1,2\n3\n", b"1,2\n\r\r\n", b"1,2\n \n", b"1,2\r3,4\n", b"1,2", b""]
)
def test_rows_of_another_width(text: bytes) -> None:
    """Rows of another width, other line ends and a text without its last newline are left to the twin."""
    assert csv(text, 2, 9) is None


def test_labels_go_to_their_own_place() -> None:
    """The first columns go to one array, the others to another."""
    labels, features = np.empty((2, 2), np.float32), np.empty((2, 3), np.float32)
    assert KERNELS.csv_rows(b"1,2,3,4,5\n6,7,8,9,10\n", labels, features, ord(","), 5, 2) == 2
    assert (labels.tolist(), features.tolist()) == ([[1, 2], [6, 7]], [[3, 4, 5], [8, 9, 10]])


def test_buffers_that_do_not_fit() -> None:
    """Arrays that are too short, or cannot be written, are refused; a table with more rows is left to the twin."""
    floats, none = np.empty(4, np.float32), np.empty(0, np.float32)
    assert KERNELS.csv_rows(b"1,2\n3,4\n5,6\n", none, floats, ord(","), 2, 0) is None
    assert KERNELS.csv_rows(b"1\n", none, none, ord(","), 1, 0) is None
    for labels, features, width, size in ((none, floats, 2, 1), (none, floats, 2, 2), (none, floats, 1, -1)):
        with pytest.raises(ValueError, match=r"too short|no features"):
            KERNELS.csv_rows(b"1,2\n", labels, features, ord(","), width, size)
    with pytest.raises(BufferError):
        KERNELS.csv_rows(b"1\n", none, b"1234", ord(","), 1, 0)
    with pytest.raises(TypeError):
        KERNELS.csv_rows(b"1\n")
    longs = np.empty(2, np.int64)
    with pytest.raises(ValueError, match="too short"):
        KERNELS.libsvm_rows(b"1 1:2\n", floats, longs, longs, floats, 1, -1, True)
    assert KERNELS.libsvm_rows(b"1 1:2\n", floats[:1], longs, longs[:0], floats[:0], 1, -1, True) is None
    assert KERNELS.libsvm_rows(b"1\n1\n", floats[:1], longs, longs, floats[:2], 1, -1, True) is None
    assert KERNELS.libsvm_rows(b"1 1:2\n", floats[:1], longs, longs, floats[:2], -(1 << 63), -1, True) is None


def test_many_threads() -> None:
    """Large blocks are read in several threads at a time."""
    text = b"1.25,-7\n" * 50_000
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(csv(text, 2, 50_000)), daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert found == [[[1.25, -7.0]] * 50_000] * 4


def test_lines_of_no_numbers_take_no_memory() -> None:
    """A wide row and many empty lines are not taken for a table as large as both together."""
    text = b"," * 9_999 + b"\n" * 100_000
    assert KERNELS.csv_shape(text, ord(",")) == (10, 10_000)
    [batch] = read_csv(BytesIO(text), label_size=0)
    assert batch.dense().shape == (1, 10_000)


@pytest.mark.parametrize("cell", ["", "7", "12", "999", "1000", "12345", "-3", "0.5", ".5", "007", "0007", " 4", "1e2"])
def test_runs_of_short_integers(cell: str) -> None:
    """A cell of any kind among short integers is read wherever it stands, and so are those beside it."""
    random = np.random.default_rng(0)
    for place in range(150):
        cells = [str(number) for number in random.integers(0, 10 ** random.integers(1, 4), 150)]
        cells[place] = cell
        for end in ("\n", "\r\n"):
            text = ((",".join(cells) + end) * 2).encode()
            table = np.array([float(number or "nan") for number in cells], np.float32)
            np.testing.assert_array_equal(csv(text, 150, 2), [table, table])


@pytest.mark.parametrize("labels", [1, 5, 40, 99])
def test_runs_end_where_rows_and_labels_do(labels: int) -> None:
    """A run of short integers never goes beyond the labels, the row or the table."""
    numbers = np.random.default_rng(0).integers(0, 1000, (7, 100))
    text = b"".join(b",".join(b"%d" % cell for cell in row) + b"\n" for row in numbers)
    for width in (99, 100, 101, 130):
        if width <= labels:
            continue
        some, others = np.full((7, labels), -1, np.float32), np.full((8, width - labels), -1, np.float32)
        rows = KERNELS.csv_rows(text, some, others[:7], ord(","), width, labels)
        assert rows == (7 if width == 100 else None)
        assert (others[7] == -1).all()
        if rows:
            np.testing.assert_array_equal(np.hstack([some, others[:7]]), numbers)


NUMBERS = st.one_of(
    st.floats(width=32).map(repr),
    st.floats().map(repr),
    st.integers(-(10**20), 10**20).map(str),
    st.from_regex(r"[+-]?([0-9]{1,25}|[0-9]{0,12}\.[0-9]{1,25}|[0-9]{1,10}\.)([eE][+-]?[0-9]{1,4})?", fullmatch=True),
    st.sampled_from(
        ["", " ", "nan", "-inf", "Infinity", "-0", '"7"', "x", "1_0", "+", "1e", "0x1", " 5", "6 ", "\t2\t"]
    ),
)


@given(
    rows=st.lists(st.lists(NUMBERS, min_size=1, max_size=4), max_size=5),
    ragged=st.booleans(),
    delimiter=st.sampled_from([",", ";", "\t", "|", " ", ":", "auto"]),
    end=st.sampled_from(["\n", "\r\n", "\n\n", "\r\r\n"]),
    label_size=st.integers(0, 2),
    block=st.sampled_from([1, 9, 30, 1 << 20]),
    tail=st.sampled_from(["", "\n", "1", "\ufeff"]),
)
def test_csv_both_ways(
    rows: list[list[str]], ragged: bool, delimiter: str, end: str, label_size: int, block: int, tail: str
) -> None:
    """Any table gives the same rows, to the bit, or the same error by the kernel and by its twin."""
    width = len(rows[0]) if rows else 0
    lines = [row if ragged else (row * 4)[:width] for row in rows]
    text = (end.join(("," if delimiter == "auto" else delimiter).join(line) for line in lines) + tail).encode()
    ours, twins = both_ways(
        lambda: told(lambda: read_csv(BytesIO(text), label_size=label_size, delimiter=delimiter, block_bytes=block))
    )
    assert ours == twins


@given(
    cells=st.lists(st.one_of(*[st.integers(0, 1000).map(str)] * 9, NUMBERS), min_size=5, max_size=200),
    width=st.integers(5, 70),
    label_size=st.integers(0, 9),
    tail=st.sampled_from(["", "\n", "\r\n", ",", "1"]),
)
def test_mostly_integers_both_ways(cells: list[str], width: int, label_size: int, tail: str) -> None:
    """So does a table of mostly short integers."""
    rows = [cells[start : start + width] for start in range(0, len(cells), width)]
    text = ("\n".join(map(",".join, rows)) + tail).encode()
    ours, twins = both_ways(lambda: told(lambda: read_csv(BytesIO(text), label_size=label_size)))
    assert ours == twins


@given(
    text=st.text('0123456789.,-+eE \r\n\t";nai_\ufeff', max_size=120).map(str.encode),
    block=st.sampled_from([7, 1 << 20]),
)
def test_any_csv_both_ways(text: bytes, block: int) -> None:
    """So does any text at all."""
    ours, twins = both_ways(lambda: told(lambda: read_csv(BytesIO(text), label_size=0, block_bytes=block)))
    assert ours == twins


PAIRS = st.tuples(
    st.one_of(st.integers(0, 300).map(str), st.sampled_from(["", "x", "-1", "1.0", "000000000000000000001"])), NUMBERS
).map(":".join)


@given(
    rows=st.lists(
        st.tuples(st.one_of(NUMBERS, st.sampled_from(["1:2", "1 qid:3", "1:2 qid:4"])), st.lists(PAIRS, max_size=4)),
        max_size=5,
    ),
    space=st.sampled_from([" ", "  ", "\t", " \x0b"]),
    end=st.sampled_from(["\n", " \r\n", "\n\n", " # 1:2\n", "#\n"]),
    first_index=st.sampled_from([0, 1, -1]),
    width=st.sampled_from([None, 300, 3]),
    block=st.sampled_from([1, 20, 1 << 20]),
)
@example([("1", ["1:2"]), ("", ["1:7"])], " ", "\n", 1, None, 1)
def test_libsvm_both_ways(
    rows: list[tuple[str, list[str]]], space: str, end: str, first_index: int, width: int | None, block: int
) -> None:
    """Any rows are the same, to the bit, or the same error by the kernel and by its twin; so in a request."""
    text = end.join(space.join([label, *pairs]) for label, pairs in rows).encode()
    ours, twins = both_ways(
        lambda: told(lambda: read_libsvm(BytesIO(text), first_index=first_index, width=width, block_bytes=block))
    )
    assert ours == twins
    ours, twins = both_ways(lambda: told(lambda: [read_libsvm_body(text, first_index=first_index)]))
    assert ours == twins


@given(text=st.text("0123456789.:-+e \r\n\t#qidna", max_size=120).map(str.encode), labelled=st.booleans())
def test_any_libsvm_both_ways(text: bytes, labelled: bool) -> None:
    """So does any text at all."""
    ours, twins = both_ways(lambda: told(lambda: read_libsvm(BytesIO(text)) if labelled else [read_libsvm_body(text)]))
    assert ours == twins


def test_libsvm_by_hand() -> None:
    """Labels, borders of the rows, columns and values; one more than the largest column."""
    labels, indptr = np.empty(3, np.float32), np.empty(4, np.int64)
    indices, values = np.empty(5, np.int64), np.empty(5, np.float32)
    text = b"\n 1 1:2  30:-4.5\t\r\n\n-1\n5 7:1e1\n"
    assert KERNELS.libsvm_shape(text) == (5, 3)
    assert KERNELS.libsvm_rows(text, labels, indptr, indices, values, 1, -1, True) == (3, 3, 30)
    assert (labels.tolist(), indptr.tolist()) == ([1, -1, 5], [0, 2, 2, 3])
    assert (indices[:3].tolist(), values[:3].tolist()) == ([0, 29, 6], [2, -4.5, 10])


def test_libsvm_without_labels() -> None:
    """Where a label may be missing it is NaN."""
    labels, indptr, longs, floats = (
        np.empty(2, np.float32),
        np.empty(3, np.int64),
        np.empty(2, np.int64),
        np.empty(2, np.float32),
    )
    assert KERNELS.libsvm_rows(b"0:5\n8 1:6\n", labels, indptr, longs, floats, 0, 2, False) == (2, 2, 2)
    np.testing.assert_array_equal(labels, [np.nan, 8])
    assert floats.tolist() == [5, 6]


@pytest.mark.parametrize("delimiter", [10, 13, ord("5"), -1, 256])
def test_what_is_no_delimiter(delimiter: int) -> None:
    """A character that ends a line or belongs to numbers would lead past the block: it is refused."""
    with pytest.raises(ValueError, match="no delimiter"):
        native.kernels.csv_shape(b"1\n2\n", delimiter)
    with pytest.raises(ValueError, match="no delimiter"):
        native.kernels.csv_rows(b"1\n2\n", np.empty((1, 0), np.float32), np.empty((2, 2), np.float32), delimiter, 2, 0)
