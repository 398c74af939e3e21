"""libsvm in and out."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from clary.errors import DataError
from clary.recordio.batch import CSR, Batch, concatenate
from clary.recordio.libsvm import read_libsvm, read_libsvm_body, scan_width, write_libsvm


def read(text: bytes, **options: Any) -> Batch:
    """All rows of a text as one batch."""
    return concatenate(list(read_libsvm(BytesIO(text), **options)))


def refusal(text: bytes, **options: Any) -> str:
    """What the error says that reading this text raises."""
    with pytest.raises(DataError) as caught:
        read(text, **options)
    return str(caught.value)


def written(batch: Batch, **options: int) -> bytes:
    """The text that is written for a batch."""
    stream = BytesIO()
    assert write_libsvm(stream, [batch], **options) == len(batch)
    return stream.getvalue()


def test_an_empty_line_of_a_request_is_a_row() -> None:
    """Between two rows of a request an empty line is a row without values; at the ends it is nothing."""
    batch = read_libsvm_body(b"\n1:2\n\n2:3\n  \r\n1:4\n\n")
    assert batch.dense().tolist() == [[2, 0], [0, 0], [0, 3], [0, 0], [4, 0]]
    assert batch.labels is None


def test_rows_by_hand() -> None:
    """Columns count from one, order is kept, and what is not written is zero."""
    batch = read(b"+1 3:2 1:.5\n-1\n0 2:1e2\n")
    assert isinstance(batch.features, CSR)
    assert batch.features.indptr.tolist() == [0, 2, 2, 3]
    assert batch.features.indices.tolist() == [2, 0, 1]
    assert batch.dense().tolist() == [[0.5, 0, 2], [0, 0, 0], [0, 100, 0]]
    assert batch.labels is not None
    assert batch.labels.tolist() == [1, -1, 0]
    assert batch.weights is None
    assert batch.dense().dtype == batch.labels.dtype == np.float32


def test_columns_from_zero() -> None:
    """With first_index=0 column 0 is the first."""
    assert read(b"1 0:5 2:6\n", first_index=0).dense().tolist() == [[5, 0, 6]]


@pytest.mark.parametrize(
    "text",
    [
        b"1 1:2 2:3",
        b"  1   1:2\t2:3 \r\n",
        b"# head\n\n1 1:2 2:3 # tail 9:9\n#\n",
        b"\xef\xbb\xbf1 1:2 2:3\n",
        b"1 01:2 2:3\n",
    ],
)
def test_spaces_and_comments(text: bytes) -> None:
    """Spaces, comments, empty lines, line ends and leading zeros change nothing."""
    batch = read(text)
    assert batch.dense().tolist() == [[2, 3]]
    assert batch.labels is not None
    assert batch.labels.tolist() == [1]


def test_weights() -> None:
    """A weight follows the label after a colon."""
    batch = read(b"1:0.5 1:2\n-1:3\n")
    assert batch.weights is not None
    assert batch.weights.tolist() == [0.5, 3]
    assert batch.dense().tolist() == [[2], [0]]


@pytest.mark.parametrize("block", [4, 1 << 20])
@pytest.mark.parametrize("text, word", [(b"1:2 1:3\n1 1:3\n", "no"), (b"1 1:3\n1:2 1:3\n", "a")])
def test_weights_of_some_rows(text: bytes, word: str, block: int) -> None:
    """Either all rows of a stream have a weight or none."""
    assert refusal(text, block_bytes=block) == f"line 2 has {word} weight, unlike the lines before it"


@pytest.mark.parametrize("block", [16, 1 << 20])
@pytest.mark.parametrize("space", [b" ", b"\x0b"])
def test_queries(space: bytes, block: int) -> None:
    """A query number follows the label and the weight, also where only the slow parser can read the lines."""
    text = b"1 qid:7 1:2\n\n0  qid:7\t2:3 # qid:1\n2 qid:0012\n3 qid:123456789012345678 1:9" + space + b"3:1\n"
    batch = read(text, block_bytes=block)
    assert batch.queries is not None
    assert (batch.queries.dtype, batch.queries.tolist()) == (np.int64, [7, 7, 12, 123456789012345678])
    assert batch.dense().tolist() == [[2, 0, 0], [0, 3, 0], [0, 0, 0], [9, 0, 1]]
    weighted = read(b"1:0.5 qid:3 1:2\n")
    assert weighted.weights is not None and weighted.queries is not None
    assert (weighted.weights.tolist(), weighted.queries.tolist()) == ([0.5], [3])


def test_rows_without_queries() -> None:
    """Rows that have no query number have no column of them."""
    assert read(b"1 1:2 # qid:3\n").queries is None


@pytest.mark.parametrize("block", [4, 1 << 20])
@pytest.mark.parametrize("text, word", [(b"1 qid:2 1:3\n1 1:3\n", "no"), (b"1 1:3\n1 qid:2 1:3\n", "a")])
def test_queries_of_some_rows(text: bytes, word: str, block: int) -> None:
    """Either all rows of a stream have a query number or none."""
    assert refusal(text, block_bytes=block) == f"line 2 has {word} query number (qid:), unlike the lines before it"


@pytest.mark.parametrize("block", [8, 1 << 20])
@pytest.mark.parametrize(
    "row, reason",
    [
        (b"1 qid:x 1:1", "'qid:x' is no query number: write qid: and a whole number"),
        (b"1 qid:-1 1:1", "'qid:-1' is no query number: write qid: and a whole number"),
        (b"1 qid: 1:1", "'qid:' is no query number: write qid: and a whole number"),
        (b"1 qid:1.0 1:1", "'qid:1.0' is no query number: write qid: and a whole number"),
        (b"1 qid:1234567890123456789", "'qid:1234567890123456789' is no query number: write qid: and a whole number"),
        (b"1 qid:1 qid:2 1:1", "'qid:2' is at the wrong place: a query number follows the label, once"),
    ],
)
def test_wrong_queries(row: bytes, reason: str, block: int) -> None:
    """A query number that is none, or there are two, is told with its line."""
    assert refusal(b"1 qid:1 1:2\n" + row + b"\n", block_bytes=block) == f"line 2: {reason}"


def body(text: bytes, **options: int) -> tuple[list[list[float]], list[float] | None]:
    """Rows and labels of a request."""
    batch = read_libsvm_body(text, **options)
    return batch.dense().tolist(), None if batch.labels is None else batch.labels.tolist()


@pytest.mark.parametrize("end", [b"\n", b"\x0b\n"])
def test_requests_without_labels(end: bytes) -> None:
    """In a request a row may begin with its first feature; a comment is no row."""
    assert body(b"1:5 3:6" + end + b"# nothing\n2:7\n") == ([[5, 0, 6], [0, 7, 0]], None)
    assert body(b"0:5" + end, first_index=0) == ([[5]], None)
    assert body(b"qid:4 1:5" + end) == ([[5]], None)


@pytest.mark.parametrize("end", [b"\n", b"\x0b\n"])
def test_requests_with_labels(end: bytes) -> None:
    """In a request a first word without a colon is a label, which has no weight; a row without one has NaN."""
    assert body(b"3 1:5" + end + b"4\n") == ([[5], [0]], [3, 4])
    rows, labels = body(b"3 1:5" + end + b"1:6\n")
    assert rows == [[5], [6]]
    np.testing.assert_array_equal(labels, [3, np.nan])


def test_requests_of_many_blocks() -> None:
    """A body of more than a block is one batch, as wide as its widest row."""
    batch = read_libsvm_body(b"1:1\n" * 300_000 + b"9:1\n")
    assert (len(batch), batch.width, batch.labels) == (300_001, 9, None)


@pytest.mark.parametrize(
    "text, reason",
    [
        (b"", "the body has no rows"),
        (b"\n# 1:2\n", "the body has no rows"),
        (b"1:2\n0:5\n", "line 2: column 0, but columns count from 1; use first_index=0"),
        (b"1:2\n1:x\n", "line 2: 'x' is not a number"),
        (b"qid:4 1:5\n1:5\n", "line 2 has no query number (qid:), unlike the lines before it"),
        (b"a,b\n", "line 1: 'a,b' is not a number"),
    ],
)
def test_wrong_requests(text: bytes, reason: str) -> None:
    """What is wrong with a request is told with its line."""
    with pytest.raises(DataError) as caught:
        read_libsvm_body(text)
    assert str(caught.value) == reason


def test_a_training_line_needs_its_label() -> None:
    """In training the first word is label:weight, whatever a request may leave out."""
    batch = read(b"1:0.5 3:2\n")
    assert batch.labels is not None
    assert (batch.labels.tolist(), batch.dense().tolist()) == ([1], [[0, 0, 2]])


def test_one_batch_without_width() -> None:
    """Without a width the whole stream is one batch, as wide as its largest column."""
    [batch] = read_libsvm(BytesIO(b"1 2:1\n1 9:1\n1 3:1\n"), block_bytes=6)
    assert (len(batch), batch.width) == (3, 9)


def test_batches_with_width() -> None:
    """With a width the stream comes in batches that all have it."""
    batches = list(read_libsvm(BytesIO(b"1 2:1\n1 9:1\n1 3:1\n"), width=20, block_bytes=6))
    assert [(len(batch), batch.width) for batch in batches] == [(1, 20)] * 3


@pytest.mark.parametrize(
    "text, first, width", [(b"1 2:1\n1 9:1\n", 1, 9), (b"1 0:1\n", 0, 1), (b"1\n", 1, 0), (b"", 1, 0)]
)
def test_scan_width(text: bytes, first: int, width: int) -> None:
    """The width of a stream is its largest column, counted from one."""
    assert scan_width(BytesIO(text), first_index=first, block_bytes=6) == width


def test_nothing() -> None:
    """A stream without rows gives no batch."""
    assert list(read_libsvm(BytesIO(b""))) == list(read_libsvm(BytesIO(b"\n# nothing\n"), width=3)) == []


@pytest.mark.parametrize("block", [8, 1 << 20])
@pytest.mark.parametrize(
    "row, reason",
    [
        (b"1 0:5", "column 0, but columns count from 1; use first_index=0"),
        (b"1 5:5", "column 5 is beyond the last of 4 columns"),
        (b"1 x:5", "'x:5' is not column:value"),
        (b"1 5", "'5' is not column:value"),
        (b"1 -1:5", "'-1:5' is not column:value"),
        (b"1 1e0:5", "'1e0:5' is not column:value"),
        (b"1 1.0:5", "'1.0:5' is not column:value"),
        (b"1 :5", "':5' is not column:value"),
        (b"1 1234567890123456:5", "'1234567890123456:5' is not column:value"),
        (b"1 1:", "'' is not a number"),
        (b"1 1: 5", "'' is not a number"),
        (b"1 1:2:3", "'2:3' is not a number"),
        (b"1 1:1_0", "'1_0' is not a number"),
        (b"yes 1:1", "'yes' is not a number"),
        (b"1,2 1:1", "'1,2' is not a number"),
        (b"1 1:1 qid:7", "'qid:7' is at the wrong place: a query number follows the label, once"),
    ],
)
def test_errors_name_the_line(row: bytes, reason: str, block: int) -> None:
    """Every mistake is told in one sentence with its line."""
    assert refusal(b"1 1:2\n# comment\n" + row + b"\n1 1:2\n", width=4, block_bytes=block) == f"line 3: {reason}"


def test_unusual_space() -> None:
    """A space that only the slow parser knows does not change the rows."""
    assert read(b"1 1:2\x0b2:3\n").dense().tolist() == [[2, 3]]


matrices = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(1, 5)),
    elements=st.one_of(st.just(0.0), st.floats(width=32)),
)


@given(dense=matrices, first=st.integers(0, 1), weighted=st.booleans(), block=st.integers(1, 60))
def test_write_then_read(dense: np.ndarray[Any, Any], first: int, weighted: bool, block: int) -> None:
    """What is written is read back, in blocks of any size."""
    weights = np.arange(len(dense), dtype=np.float32) if weighted else None
    text = written(Batch(dense, dense[:, 0], weights), first_index=first)
    back = read(text, first_index=first, width=dense.shape[1], block_bytes=block)
    np.testing.assert_array_equal(back.dense(), dense)
    np.testing.assert_array_equal(back.labels, dense[:, 0])
    assert weights is None if back.weights is None else np.array_equal(back.weights, np.arange(len(dense)))


def test_write_by_hand() -> None:
    """Zeros are left out, a missing label is 0, a weight follows the label."""
    rows = np.array([[0, 0.5], [7, 0]], np.float32)
    assert written(Batch(rows)) == b"0 2:0.5\n0 1:7\n"
    assert written(Batch(rows, np.array([3, 4]), np.array([0.5, 1])), first_index=0) == b"3:0.5 1:0.5\n4:1 0:7\n"


def test_write_queries() -> None:
    """Query numbers are written after the label and the weight, and read back, however large."""
    queries = np.array([7, 123456789012345678])
    rows = Batch(np.array([[0.5], [2]], np.float32), np.array([1, 0]), queries=queries)
    assert written(rows) == b"1 qid:7 1:0.5\n0 qid:123456789012345678 1:2\n"
    np.testing.assert_array_equal(read(written(rows)).queries, queries)
    heavy = Batch(rows.features, rows.labels, np.array([3, 4]), queries=queries)
    assert written(heavy) == b"1:3 qid:7 1:0.5\n0:4 qid:123456789012345678 1:2\n"


def test_write_refuses_several_labels() -> None:
    """The format has no place for a second label."""
    with pytest.raises(DataError, match="one label a row"):
        written(Batch(np.ones((1, 1)), np.ones((1, 2))))


def test_queries_agree_with_scikit_learn() -> None:
    """scikit-learn reads the query numbers that are written here."""
    datasets = pytest.importorskip("sklearn.datasets")
    text = written(Batch(np.ones((4, 2), np.float32), np.arange(4), queries=np.array([1, 1, 2, 5])))
    assert datasets.load_svmlight_file(BytesIO(text), query_id=True)[2].tolist() == [1, 1, 2, 5]


def test_agrees_with_scikit_learn() -> None:
    """scikit-learn reads the same rows from what is written here, and its files are read the same here."""
    datasets = pytest.importorskip("sklearn.datasets")
    digits, labels = datasets.load_digits(return_X_y=True)
    text = written(Batch(digits.astype(np.float32) / 3, labels))
    theirs, their_labels = datasets.load_svmlight_file(BytesIO(text), n_features=64, dtype=np.float32)
    np.testing.assert_array_equal(read(text, width=64).dense(), theirs.toarray())
    stream = BytesIO()
    datasets.dump_svmlight_file(theirs, their_labels, stream, zero_based=False)
    ours = read(stream.getvalue(), width=64)
    np.testing.assert_array_equal(ours.dense(), theirs.toarray())
    np.testing.assert_array_equal(ours.labels, labels)
