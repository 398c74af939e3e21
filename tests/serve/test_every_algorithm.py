"""What a server of any algorithm of the registry answers, whatever the format it is asked in or answers in."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from clary.algorithms.registry import ALGORITHMS
from clary.recordio.batch import CSR, Array
from clary.recordio.framing import read_frames, write_frame
from clary.recordio.record_pb2 import Record

from ..golden_job import Golden, sparse
from ..job import csv, recordio
from .conftest import Server, Start

pytestmark = pytest.mark.parametrize("golden", ALGORITHMS, indirect=True)

TYPES = {
    "json": "application/json",
    "jsonlines": "application/jsonlines",
    "csv": "text/csv",
    "recordio": "application/x-recordio-protobuf",
    "libsvm": "text/libsvm",
    "parquet": "application/x-parquet",
}


@pytest.fixture(scope="module")
def server(golden: Golden, artifact: bytes, start: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the small job's artifact."""
    base = tmp_path_factory.mktemp("ml")
    (base / "model").mkdir()
    (base / "model" / golden.algorithm.artifact).write_bytes(artifact)
    running = start(SAGEMAKER_BASE_DIR=base)
    yield running
    assert running.end() == 0


def instances(rows: Array, form: str) -> list[object]:
    """The rows as JSON instances."""
    if form == "short":
        return [{"features": row} for row in rows.tolist()]
    if form == "long":
        return [{"data": {"features": {"values": row}}} for row in rows.tolist()]
    sparse = [(np.flatnonzero(row).tolist(), row[row != 0].tolist()) for row in rows]
    shape = [rows.shape[1]]
    return [{"data": {"features": {"keys": keys, "shape": shape, "values": values}}} for keys, values in sparse]


def in_json(form: str) -> Callable[[Array], bytes]:
    """A function that writes rows as one JSON document."""
    return lambda rows: json.dumps({"instances": instances(rows, form)}).encode()


def in_lines(form: str) -> Callable[[Array], bytes]:
    """A function that writes rows as JSON Lines."""
    return lambda rows: "".join(json.dumps(instance) + "\n" for instance in instances(rows, form)).encode()


def libsvm(rows: Array) -> bytes:
    """Rows as libsvm, counted from zero, without labels."""
    lines = (" ".join(f"{column}:{row[column]:.9g}" for column in np.flatnonzero(row)) for row in np.nan_to_num(rows))
    return "".join(line + "\n" for line in lines).encode()


def parquet(rows: Array) -> bytes:
    """Rows as Parquet."""
    import pyarrow
    import pyarrow.parquet

    stream = io.BytesIO()
    table = pyarrow.table({f"c{i}": column for i, column in enumerate(rows.T)})
    pyarrow.parquet.write_table(table, stream)
    return stream.getvalue()


FORMS: dict[str, tuple[str, Callable[[Array], bytes]]] = {
    "csv": ("csv", csv),
    "json": ("json", in_json("short")),
    "json, long": ("json", in_json("long")),
    "json, sparse": ("json", in_json("sparse")),
    "jsonlines": ("jsonlines", in_lines("short")),
    "jsonlines, long": ("jsonlines", in_lines("long")),
    "jsonlines, sparse": ("jsonlines", in_lines("sparse")),
    "recordio": ("recordio", recordio),
    "recordio, sparse": ("recordio", lambda rows: recordio(sparse(rows))),
    "libsvm": ("libsvm", libsvm),
    "parquet": ("parquet", parquet),
}
"""Each way to ask for rows: name of the format, and what writes it."""


def forms(golden: Golden) -> list[str]:
    """The ways in which the algorithm can be asked."""
    return [form for form, (kind, _) in FORMS.items() if kind in golden.algorithm.manners.requests]


def ask(server: Server, form: str, rows: Array, **headers: str) -> tuple[int, str, bytes]:
    """Status, content type and body of the answer to some rows."""
    kind, write = FORMS[form]
    return server.exchange("/invocations", write(rows), Content_Type=TYPES[kind], **headers)


def records(body: bytes) -> list[Record]:
    """The records of a RecordIO body."""
    return [Record.FromString(frame.payload) for frame in read_frames(io.BytesIO(body))]


def answers(body: bytes, accept: str, key: str, names: list[str]) -> list[list[float]]:
    """The numbers of each row of an answer, column by column; what else it holds must be as it should."""
    if accept == "csv":
        return [[float(cell) for cell in line.split(",")] for line in body.decode().splitlines()]
    if accept == "recordio":
        assert all(set(record.label) == {*names} for record in records(body))
        return [
            [value for name in names for value in record.label[name].float32_tensor.values] for record in records(body)
        ]
    document = {key: [*map(json.loads, body.splitlines())]} if accept == "jsonlines" else json.loads(body)
    assert [*document] == [key]
    assert all([*row] == (sorted(names) if accept == "jsonlines" else names) for row in document[key])
    return [np.hstack([row[name] for name in names]).tolist() for row in document[key]]


@pytest.mark.parametrize("form", FORMS)
def test_answers(golden: Golden, artifact: bytes, server: Server, form: str) -> None:
    """Rows asked for in any format are answered in any other, in order, with what the model gives for them."""
    if FORMS[form][0] not in golden.algorithm.manners.requests:
        status, _, told = ask(server, form, golden.rows)
        words = golden.algorithm.manners.unsupported_request(TYPES[FORMS[form][0]], [])
        assert (status, told.decode()[: len(words) - 1]) == (415, words[:-1])
        return
    asked = golden.sparse if form.endswith("sparse") else golden.rows
    columns = golden.algorithm.load(artifact).predict(asked).columns
    [(key, names)] = golden.description["answer"].items()
    expected = np.column_stack([columns[name] for name in names]).astype(np.float64)
    for accept in golden.algorithm.accepts:
        status, content_type, body = ask(server, form, golden.rows, Accept=TYPES[accept])
        assert (status, content_type) == (200, TYPES[accept]), body
        cut = 1e-15 if accept == "jsonlines" else 0  # it has 15 decimals
        assert np.allclose(answers(body, accept, key, names), expected, rtol=0, atol=cut), accept


def test_default_answer(golden: Golden, server: Server) -> None:
    """Who does not say what to answer in, or takes anything, gets the first of the algorithm's formats."""
    given = [ask(server, "csv", golden.rows[:3], **headers) for headers in ({}, {"Accept": "*/*"}, {"Accept": ""})]
    assert given[0][:2] == (200, TYPES[golden.algorithm.accepts[0]])
    assert given[1:] == given[:1] * 2


def test_one_row_is_a_list(golden: Golden, server: Server) -> None:
    """The answer to one row is a list of one."""
    [key] = golden.description["answer"]
    for form in forms(golden):
        assert len(json.loads(ask(server, form, golden.rows[:1], Accept=TYPES["json"])[2])[key]) == 1


@pytest.mark.parametrize("accept", ["image/png", "text/html, application/xml", "text/libsvm"])
def test_other_accepts(golden: Golden, server: Server, accept: str) -> None:
    """Who takes nothing that there is gets 406 in AWS's words."""
    status, _, body = ask(server, "csv", golden.rows[:1], Accept=accept)
    words = golden.algorithm.manners.unsupported_accept(accept, []).partition(". ")[0]
    assert (status, body.decode().partition(". ")[0]) == (406, words)


def test_wrong_width(golden: Golden, server: Server) -> None:
    """Rows with too many columns or too few are refused with 400 in AWS's words, in every format."""
    manners, width = golden.algorithm.manners, golden.rows.shape[1]
    for form in forms(golden):
        fewer = golden.rows[:, : width - 1 - manners.spare_columns]
        for rows in (fewer, np.ones((2, width + 1))):
            if golden.algorithm.missing and len(rows[0]) < width and (form.endswith("sparse") or form == "libsvm"):
                continue  # what a sparse row does not hold is missing
            status, _, body = ask(server, form, rows.astype(np.float32))
            words = manners.unpredictable(manners.wrong_width(FORMS[form][0], len(rows[0]), width))
            assert (status, body.decode()) == (400, words)


@pytest.mark.parametrize(("value", "told"), [(np.nan, "missing (NaN)"), (-np.inf, "infinite")])
@pytest.mark.parametrize("form", ["csv", "recordio", "recordio, sparse"])
def test_odd_numbers(golden: Golden, server: Server, form: str, value: float, told: str) -> None:
    """A number that is none is refused with 400 and the number of its row, unless it may be missing."""
    rows = golden.rows[:4].copy()
    rows[2, 1] = value
    body = recordio(CSR.from_dense(rows)) if form.endswith("sparse") else FORMS[form][1](rows)
    status, _, answer = server.exchange("/invocations", body, Content_Type=TYPES[FORMS[form][0]])
    if golden.algorithm.missing and np.isnan(value):
        assert status == 200
        return
    words = golden.algorithm.manners.unpredictable(f"found {told} values in row 3")
    assert (status, answer.decode()) == (400, words)


def test_broken_bodies(golden: Golden, server: Server) -> None:
    """A body that is cut, or none of its format, is refused in AWS's words, and the server goes on."""
    for form in forms(golden):
        kind, write = FORMS[form]
        whole = write(golden.rows[:1])
        cut = whole[:-1] + b",1e\n" if kind == "csv" else whole + b" 1:" if kind == "libsvm" else whole[:-4]
        wanted, words = golden.algorithm.manners.undecodable(kind, "")
        for body in (cut, b"\x00" * 16):
            status, _, told = server.exchange("/invocations", body, Content_Type=TYPES[kind])
            assert status == wanted
            assert told.decode().startswith(words.rstrip())
        assert ask(server, form, golden.rows[:1])[0] == 200


def test_ids(golden: Golden, server: Server, tmp_path: Path) -> None:
    """In RecordIO a row's answer has the uid and the metadata that the row came with."""
    asked = records(recordio(golden.rows[:3]))
    for number, record in enumerate(asked):
        record.uid, record.metadata = f"row {number}", "{}"
    with (tmp_path / "ask").open("w+b") as stream:
        for record in asked:
            write_frame(stream, record.SerializeToString())
        stream.seek(0)
        kind = TYPES["recordio"]
        status, _, body = server.exchange("/invocations", stream.read(), Content_Type=kind, Accept=kind)
    assert status == 200
    assert [(record.uid, record.metadata) for record in records(body)] == [(f"row {i}", "{}") for i in range(3)]
