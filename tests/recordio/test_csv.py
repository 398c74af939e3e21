"""CSV in and out."""

from __future__ import annotations

import ctypes
import time
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from clary.errors import DataError
from clary.recordio.batch import CSR, Batch, concatenate
from clary.recordio.csv import find_delimiter, format_csv, read_csv, write_csv
from clary.recordio.text import parse_cells

NAN, INF = float("nan"), float("inf")


def read(text: bytes, **options: Any) -> Batch:
    """All rows of a text as one batch."""
    return concatenate(list(read_csv(BytesIO(text), **options)))


def features(text: bytes, **options: Any) -> list[list[float]]:
    """All rows of a text without labels."""
    return read(text, label_size=0, **options).dense().tolist()


def refusal(text: bytes, **options: Any) -> str:
    """What the error says that reading this text raises."""
    with pytest.raises(DataError) as caught:
        read(text, **options)
    return str(caught.value)


def test_first_column_is_the_label() -> None:
    """With label_size=1 the first column is the label and the rest are float32 features."""
    batch = read(b"1,0.5,-2\n0,3,4e2\n")
    assert batch.labels is not None
    assert batch.labels.tolist() == [1, 0]
    assert batch.dense().tolist() == [[0.5, -2], [3, 400]]
    assert batch.dense().dtype == batch.labels.dtype == np.float32


def test_no_label() -> None:
    """With label_size=0 all columns are features and there are no labels."""
    batch = read(b"1,2\n", label_size=0)
    assert batch.labels is None
    assert batch.dense().tolist() == [[1, 2]]


def test_several_labels() -> None:
    """With label_size=2 labels have two columns."""
    batch = read(b"1,2,3\n4,5,6\n", label_size=2)
    assert batch.labels is not None
    assert batch.labels.tolist() == [[1, 2], [4, 5]]
    assert batch.dense().tolist() == [[3], [6]]


@pytest.mark.parametrize("filler", [b"", b"7,7\n" * 3000])
@pytest.mark.parametrize(
    "row, expected",
    [
        (b'"1.5","2"\n', [1.5, 2]),
        (b'" 1.5" , "2 "\n', [1.5, 2]),
        (b" 1, -2\n", [1, -2]),
        (b"1\t,\t2\n", [1, 2]),
        (b"1,2\r\n", [1, 2]),
        (b"1,2", [1, 2]),
        (b"\n\r\n1,2\n\n\n", [1, 2]),
        (b"1e-3,+2.5E+2\n", [1e-3, 250]),
        (b"inf,-Infinity\n", [INF, -INF]),
        (b".5,5.\n", [0.5, 5]),
        (b"-.25,007\n", [-0.25, 7]),
        (b"1e39,-1e400\n", [INF, -INF]),
        (b"12345678901234567890,0.00000000000000000000000125\n", [12345678901234567890, 1.25e-24]),
    ],
)
def test_spellings(filler: bytes, row: bytes, expected: list[float]) -> None:
    """Quotes, spaces, line ends and ways to write a number mean the same in a small and in a large block."""
    assert features(filler + row)[-1] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("filler", [b"", b"7,7,7\n" * 3000])
def test_empty_cells(filler: bytes) -> None:
    """An empty cell, quoted or of spaces, is NaN."""
    np.testing.assert_array_equal(features(filler + b',"", \n1,,nan\n')[-2:], [[NAN, NAN, NAN], [1, NAN, NAN]])


@pytest.mark.parametrize("tail", ["", '"5,6"\n'])
def test_all_cells_quoted(tail: str) -> None:
    """A block where every cell is quoted is read; a comma inside quotes still is no number."""
    text = ('"1","2.5"\n' * 5000 + tail).encode()
    if tail:
        assert refusal(text) == "line 5001, column 1: '\"5' is not a number"
    else:
        assert features(text) == [[1, 2.5]] * 5000


@pytest.mark.parametrize("rows", [0, 9000])
def test_empty_cells_of_one_column(rows: int) -> None:
    """In a file of one column an empty line is no row, but one with quotes or spaces is."""
    np.testing.assert_array_equal(features(b"1\n" * rows + b'""\n\n \n2\n')[rows:], [[NAN], [NAN], [2]])


@pytest.mark.parametrize("text", [b"1,2\r3,4\n", b'1,2\n"3,4\n', b'1,"2\n3",4\n'])
def test_no_other_row_borders(text: bytes) -> None:
    """Rows end at newlines and nowhere else: not at a carriage return, and quotes hide none."""
    with pytest.raises(DataError):
        read(text)


def test_byte_order_mark() -> None:
    """A UTF-8 byte order mark is not part of the first number."""
    assert features(b"\xef\xbb\xbf1,2\n") == [[1, 2]]


def test_nothing() -> None:
    """A stream without rows gives no batch."""
    assert list(read_csv(BytesIO(b""))) == list(read_csv(BytesIO(b"\n\r\n"))) == []


@given(
    table=arrays.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(2, 4)), elements=st.floats(width=32)),
    block=st.integers(1, 40),
    crlf=st.booleans(),
)
def test_block_size_does_not_matter(table: np.ndarray[Any, Any], block: int, crlf: bool) -> None:
    """Whatever is written is read back, in blocks of any size and with either line end."""
    text = format_csv([table]).replace(b"\n", b"\r\n" if crlf else b"\n")
    np.testing.assert_array_equal(features(text, block_bytes=block), table)


@given(st.lists(st.from_regex(r"-?([0-9]{1,19}|[0-9]{0,9}\.[0-9]{1,10}|[0-9]{1,10}\.)", fullmatch=True), min_size=1))
def test_arithmetic_parser_agrees_with_float(cells: list[str]) -> None:
    """Numbers parsed all at once are those that float() parses, after rounding to float32."""
    values, _, digits = parse_cells(",".join([*cells, "\n"]).encode(), b",\n", lambda cell: float(cell or b"0"))
    np.testing.assert_array_equal(values[:-1].astype(np.float32), np.array(list(map(float, cells))).astype(np.float32))
    assert digits[:-1].tolist() == [cell.isdigit() for cell in cells]


def test_halfway_between_two_floats() -> None:
    """A long number in the middle between two float32 values, or next to it, is rounded once, as strtof does."""
    middle = [np.float64(x) + np.spacing(np.float32(x)) / 2 for x in np.linspace(1, 2, 500, dtype=np.float32)]
    cells = [f"{value:.17f}" for value in middle] + [f"{value - 1e-16:.17f}" for value in middle]
    values, _, _ = parse_cells(("\n".join(cells) + "\n").encode(), b"\n", float)
    strtof = ctypes.CDLL(None).strtof
    strtof.restype = ctypes.c_float
    expected = [strtof(cell.encode(), None) for cell in cells]
    np.testing.assert_array_equal(values.astype(np.float32), np.array(expected, np.float32))
    np.testing.assert_array_equal(features(",".join(cells).encode()), [expected])


@pytest.mark.parametrize("filler", [b"", b"\n" * 9000])
def test_header(filler: bytes) -> None:
    """A header is refused with its first names and what to do."""
    message = refusal(filler + b'"sepal length",width,petal,kind\n1,2,3,4\n')
    assert message.startswith(f"line {len(filler) + 1} looks like a header (")
    assert "sepal length" in message
    assert "'petal', …" in message
    assert message.endswith("SageMaker's CSV has none, remove it")


@pytest.mark.parametrize("line", [b",a,b", b'"","a","b"', b" ,a b,c1"])
def test_header_with_an_empty_name(line: bytes) -> None:
    """An index column without a name does not hide a header."""
    assert refusal(line + b"\n1,2,3\n").startswith("line 1 looks like a header (")


def test_half_a_header() -> None:
    """A first line with numbers and names is refused at its first name, with a word on headers."""
    assert refusal(b"label,0,1\n") == (
        "line 1, column 1: 'label' is not a number (if this line is a header, remove it: SageMaker's CSV has none)"
    )


def test_other_separator() -> None:
    """Numbers between semicolons are no header but one cell that is not a number."""
    assert refusal(b"1;2;3\n").startswith("line 1, column 1: '1;2;3' is not a number")


@pytest.mark.parametrize("filler", [b"", b"7,7,7\n" * 3000])
@pytest.mark.parametrize("delimiter", ["\t", ";", "|", ":", "x"])
@pytest.mark.parametrize(
    "row, expected",
    [
        (b"1,-2.5,3e2\n", [1, -2.5, 300]),
        (b'"1","2.5","3"\r\n', [1, 2.5, 3]),
        (b" 1, 2 ,3\n\n", [1, 2, 3]),
        (b"1,,3", [1, NAN, 3]),
        (b",,\n", [NAN, NAN, NAN]),
    ],
)
def test_other_delimiters(row: bytes, expected: list[float], delimiter: str, filler: bytes) -> None:
    """With another character between the cells everything else means the same."""
    text = (filler + row).replace(b",", delimiter.encode())
    np.testing.assert_array_equal(features(text, delimiter=delimiter)[-1], expected)


@pytest.mark.parametrize("filler", [b"", b"7 7 7\n" * 3000])
@pytest.mark.parametrize(
    "row", [b"1 -2.5 3e2", b" 1   -2.5 3e2 \r\n", b"\n  \n1 -2.5 \t3e2\n \n", b"\t1\t-2.5\t3e2\n\n"]
)
def test_spaces_between_cells(row: bytes, filler: bytes) -> None:
    """With spaces between the cells, any number of them and of tabs counts once, and none at the ends."""
    assert features(filler + row, delimiter=" ")[-1] == [1, -2.5, 300]


@pytest.mark.parametrize(
    "line, delimiter",
    [
        (b"1,2", ","),
        (b"1\t2", "\t"),
        (b"1;2", ";"),
        (b"1|2", "|"),
        (b"1 2", " "),
        (b"1, 2; 3", ","),
        (b"1|2;3", ";"),
        (b"1;2\t3", "\t"),
        (b"1 ; 2", ";"),
        (b" 7 ", ","),
        (b"", ","),
    ],
)
def test_delimiters_are_found(line: bytes, delimiter: str) -> None:
    """The first of comma, tab, semicolon and bar that a line has; else spaces inside it; else comma."""
    assert find_delimiter(line) == delimiter


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|", " "])
@pytest.mark.parametrize("start", [b"", b"\r\n\n", b"\xef\xbb\xbf"])
def test_found_in_the_first_line(start: bytes, delimiter: str, block: int) -> None:
    """With `auto` the first line that is not empty tells the delimiter of all, in blocks of any size."""
    text = start + b"1,2\n\n3,4\n".replace(b",", delimiter.encode())
    assert features(text, delimiter="auto", block_bytes=block) == [[1, 2], [3, 4]]


@pytest.mark.parametrize("block", [1, 1 << 20])
def test_blank_lines_tell_no_delimiter(block: int) -> None:
    """Nor do lines of spaces at the beginning."""
    assert features(b" \n  \n 1 2\n \n", delimiter="auto", block_bytes=block) == [[1, 2]]
    assert list(read_csv(BytesIO(b" \n"), delimiter="auto", block_bytes=block)) == []


def test_delimiter_of_the_first_line_counts_for_all() -> None:
    """A later line with another delimiter is refused."""
    assert refusal(b"1;2\n1,2\n", delimiter="auto") == "line 2 has 1 fields, the lines before it have 2"
    assert refusal(b"1,2\n1;2\n", delimiter="auto") == "line 2 has 1 fields, the lines before it have 2"


@pytest.mark.parametrize("delimiter", [";", " ", "\t", ":"])
@pytest.mark.parametrize("filler", [0, 3000])
def test_no_decimal_comma(delimiter: str, filler: int) -> None:
    """A comma that is no delimiter makes its cell no number, which is quoted as it was written."""
    text = (b"1,2\n" * filler).replace(b",", delimiter.encode()) + b"1,5" + delimiter.encode() + b"2\n"
    assert refusal(text, delimiter=delimiter).startswith(f"line {filler + 1}, column 1: '1,5' is not a number")


def test_header_between_tabs() -> None:
    """A header is known by any delimiter."""
    assert refusal(b"a\tb\n1\t2\n", delimiter="auto").startswith("line 1 looks like a header ('a', 'b')")


@pytest.mark.parametrize("block", [8, 1 << 20])
@pytest.mark.parametrize("cell", [b"abc", b"1_000", b"1.2.3", b"--1", b"1 2", b"0x10", b'"1', b"\xff\xfe", b"-"])
def test_not_a_number(cell: bytes, block: int) -> None:
    """What is not a number is named with its line and column."""
    message = refusal(b"1,2\n\n3," + cell + b"\n5,6\n", block_bytes=block)
    assert message.startswith("line 3, column 2: ")
    assert message.endswith(" is not a number")


def test_long_text_is_shortened() -> None:
    """An error shows at most 40 characters of what it is about."""
    assert refusal(b"1,2\n1," + b"x" * 5000 + b"\n") == f"line 2, column 2: '{'x' * 39}…' is not a number"


@pytest.mark.parametrize("block", [4, 1 << 20])
@pytest.mark.parametrize("rows", [1, 5000])
@pytest.mark.parametrize("row, count", [(b"1,2", 2), (b"1,2,3,4", 4), (b"1,2,3,", 4), (b"1", 1)])
def test_ragged_rows(row: bytes, count: int, rows: int, block: int) -> None:
    """A row of another length is named with its line, its number of fields and the one expected."""
    message = refusal(b"1,2,3\n" * rows + row + b"\n", block_bytes=block)
    assert message == f"line {rows + 1} has {count} fields, the lines before it have 3"


def test_ragged_rows_that_add_up() -> None:
    """Rows that are too long and too short in turn are refused, though the number of cells is right."""
    assert "line 2 has 3 fields" in refusal(b"1,2\n1,2,3\n1\n" + b"1,2\n" * 5000)


@pytest.mark.parametrize("size", [2, 3, -1])
def test_label_size_leaves_no_features(size: int) -> None:
    """A label_size that takes all columns, or is negative, is refused."""
    assert refusal(b"1,2\n", label_size=size).startswith(f"label_size is {size}, but rows have 2 fields")


def test_endless_line() -> None:
    """A line of more than 64 MiB is refused before it fills the memory."""
    assert "line 2 is longer than 64 MiB" in refusal(b"1,2\n" + b"1" * (65 << 20))


def test_reading_is_lazy() -> None:
    """Batches come before the end of the stream is reached: no more than a block is read ahead."""
    stream = BytesIO(b"1,2\n" * 1000)
    batch = next(read_csv(stream, block_bytes=100))
    assert (len(batch), stream.tell()) == (25, 100)


def test_write_labels_first() -> None:
    """Writing puts labels before features, makes sparse rows dense, and counts rows."""
    stream = BytesIO()
    rows = CSR.from_dense(np.array([[0, 0.5], [7, 0]], np.float32))
    assert write_csv(stream, [Batch(rows, np.array([1, 0], np.float32))] * 2) == 4
    assert stream.getvalue() == b"1,0,0.5\n0,7,0\n" * 2


def test_write_refuses_weights() -> None:
    """Weights are not dropped in silence."""
    with pytest.raises(DataError, match="no column for weights"):
        write_csv(BytesIO(), [Batch(np.ones((1, 1)), None, np.ones(1))])


def test_write_refuses_queries() -> None:
    """Query numbers are not dropped in silence."""
    with pytest.raises(DataError, match="no column for query numbers"):
        write_csv(BytesIO(), [Batch(np.ones((1, 1)), queries=np.ones(1, np.int64))])


def test_format_keeps_types() -> None:
    """Integers stay integers, float64 gets the digits it needs, float32 as many as its column needs, nine at most."""
    columns = [np.array([1 << 60]), np.array([0.1]), np.array([[0.1, 2]], np.float32), np.array([True])]
    assert format_csv(columns) == b"1152921504606846976,0.1,0.1,2,1\n"
    assert format_csv([np.array([0.1, 1 / 3], np.float32)]) == b"0.1\n0.33333334\n"


def test_format_of_no_rows() -> None:
    """No rows are no text."""
    assert format_csv([np.empty((0, 3)), np.empty(0)]) == b""


def test_format_of_many_rows() -> None:
    """Rows formatted in several portions come out in order."""
    column = np.arange(200_000)
    assert format_csv([column]).split() == [b"%d" % number for number in range(200_000)]


def test_wide_tables_cost_no_more_than_tall_ones() -> None:
    """Writing depends on the number of cells, not on how many columns they stand in."""
    cells = np.random.default_rng(0).normal(size=40_000).astype(np.float32)
    seconds = []
    for shape in ((20, 2000), (2000, 20)):
        start = time.process_time()
        format_csv([cells.reshape(shape)])
        seconds.append(time.process_time() - start)
    assert seconds[0] < 10 * max(seconds[1], 0.01)
