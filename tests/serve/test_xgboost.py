"""A server of XGBoost's models over HTTP: formats, refusals, and what its environment changes."""

from __future__ import annotations

import gzip
import http.client
import io
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from csv import reader
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clary.algorithms.xgboost import ALGORITHM
from clary.algorithms.xgboost_model import XGBoostModel, select
from clary.containers.artifact import unpack
from clary.recordio.batch import CSR
from clary.recordio.framing import read_frames
from clary.recordio.record_pb2 import Record
from clary.serve.app import create_app
from clary.serve.endpoint import Endpoint
from clary.serve.places import predictions
from clary.serve.settings import Settings

from ..boosters import ROWS, WIDTH, libsvm, parquet, predicted, present, trained
from ..job import csv, recordio
from .conftest import Server, Start

CSV, LIBSVM, RECORDIO = "text/csv", "text/libsvm", "application/x-recordio-protobuf"
PARQUET, JSON, LINES = "application/x-parquet", "application/json", "application/jsonlines"
EMPTY = csv(ROWS).replace(b"nan", b"")
"""The rows as people write them: a missing value is an empty field."""
TYPES = (
    "csv, libsvm, parquet, recordio-protobuf, text/csv, text/libsvm, text/x-libsvm, application/x-parquet, "
    "application/x-recordio-protobuf."
)
EXPECTED = predicted(trained()).astype(float)
Serving = Callable[..., Server]


@pytest.fixture(scope="module")
def serving(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Serving:
    """A function that starts a server of some files: ``serving({name: content}, **environment)``."""

    def begin(files: dict[str, bytes], **environment: object) -> Server:
        base = tmp_path_factory.mktemp("ml")
        (base / "model").mkdir()
        for name, content in files.items():
            place = base / "model" / name
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(content)
        return start(SAGEMAKER_BASE_DIR=base, **environment)

    return begin


@pytest.fixture(scope="module")
def server(serving: Serving) -> Server:
    """Two workers with a model for two classes; beside it lies what is no model."""
    files = {"xgboost-model": trained(), "model.tar.gz": gzip.compress(trained()), "._xgboost-model": trained()}
    files |= {".DS_Store": b"binf", "code/xgboost-model": b"{", "notes.txt": b"the churn of May"}
    return serving(files, SAGEMAKER_MODEL_SERVER_WORKERS=2, MAX_CONTENT_LENGTH=2_000_000)


def post(server: Server, body: bytes, content_type: str = CSV, **headers: str) -> tuple[int, str]:
    """Status and text of an answer."""
    status, answer = server.ask("/invocations", body, Content_Type=content_type, **headers)
    return status, answer.decode()


def numbers(server: Server, body: bytes, content_type: str = CSV) -> list[float]:
    """What is answered in CSV."""
    status, text = post(server, body, content_type)
    assert status == 200, text
    return [float(line) for line in text.splitlines()]


def records(body: bytes) -> list[dict[str, list[float]]]:
    """The labels of each record."""
    found = [Record.FromString(frame.payload) for frame in read_frames(io.BytesIO(body))]
    return [{key: list(value.float32_tensor.values) for key, value in record.label.items()} for record in found]


def test_ping(server: Server) -> None:
    """A server that answers has its model, and says no more."""
    assert server.ask("/ping") == (200, b"")


def test_execution_parameters(server: Server) -> None:
    """A batch transform is told to send many records at a time."""
    status, body = server.ask("/execution-parameters")
    assert status == 200
    assert {**json.loads(body), "MaxConcurrentTransforms": 1} == {
        "MaxConcurrentTransforms": 1,
        "BatchStrategy": "MULTI_RECORD",
        "MaxPayloadInMB": 1,
    }


def test_no_body(server: Server) -> None:
    """Who asks nothing is answered nothing."""
    assert post(server, b"") == (204, "")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (CSV, EMPTY),
        ("csv", EMPTY),
        ("Text/CSV; charset=utf-8", EMPTY),
        ("text/csv;label_size=1", EMPTY),
        (CSV, EMPTY.rstrip(b"\n")),
        (CSV, b"\n\n" + EMPTY.replace(b"\n", b"\r\n") + b"\n"),
        (CSV, EMPTY.replace(b",", b";")),
        (CSV, EMPTY.replace(b",", b"|")),
        (CSV, EMPTY.replace(b",", b"\t")),
        (CSV, csv(ROWS).replace(b",", b" ")),
        (LIBSVM, libsvm(ROWS)),
        ("libsvm", libsvm(ROWS)),
        ("text/x-libsvm", libsvm(ROWS, label="1")),
        (LIBSVM, libsvm(ROWS, label="0 qid:3")),
        (RECORDIO, recordio(ROWS)),
        ("recordio-protobuf", recordio(present(ROWS))),
        (PARQUET, parquet(ROWS)),
    ],
)
def test_rows(server: Server, content_type: str, body: bytes) -> None:
    """The answers are the library's, whatever the rows are written in."""
    assert numbers(server, body, content_type) == EXPECTED.tolist()


def test_one_row(server: Server) -> None:
    """One row needs no newline at its end, and its answer has one."""
    assert post(server, EMPTY.partition(b"\n")[0]) == (200, f"{EXPECTED[0].item()!r}\n")


def test_no_content_type(server: Server) -> None:
    """Who says nothing sends libsvm."""
    assert server.ask("/invocations", libsvm(ROWS[:1])) == (200, f"{EXPECTED[0].item()!r}\n".encode())


def test_narrow_rows(server: Server) -> None:
    """The last column may be left out, and of sparse rows any."""
    rows = ROWS.copy()
    rows[:, -1] = np.nan
    expected = predicted(trained(), rows).tolist()
    narrow = rows[:, :-1]
    assert numbers(server, csv(narrow).replace(b"nan", b"")) == expected
    assert numbers(server, recordio(narrow), RECORDIO) == expected
    assert numbers(server, parquet(narrow), PARQUET) == expected
    rows[:, 1:] = np.nan
    expected = predicted(trained(), rows).tolist()
    assert numbers(server, libsvm(rows, label="1"), LIBSVM) == expected
    assert numbers(server, recordio(present(rows[:, :1])), RECORDIO) == expected


def test_a_row_of_missing_values(server: Server) -> None:
    """A libsvm row may be a label alone, a CSV row delimiters."""
    expected = predicted(trained(), np.full((1, WIDTH), np.nan, np.float32)).tolist()
    assert numbers(server, b"1\n", LIBSVM) == numbers(server, b",,,,\n") == expected


def test_zeros_are_values(server: Server) -> None:
    """A zero that libsvm or a sparse record holds is no missing value."""
    rows = np.zeros((1, WIDTH), np.float32)
    expected = predicted(trained(), rows).tolist()
    assert expected != predicted(trained(), rows + np.nan).tolist()
    assert numbers(server, b"0:0 1:0 2:0 3:0 4:0", LIBSVM) == expected
    assert numbers(server, recordio(present(rows)), RECORDIO) == expected


@pytest.mark.parametrize(
    ("content_type", "body", "name", "width"),
    [
        (CSV, csv(np.ones((1, WIDTH + 2))), "csv", WIDTH + 2),
        (CSV, csv(np.ones((1, WIDTH - 2))), "csv", WIDTH - 2),
        (LIBSVM, libsvm(np.ones((1, WIDTH + 2))), "libsvm", WIDTH + 2),
        (RECORDIO, recordio(np.ones((1, WIDTH - 2), np.float32)), "recordio-protobuf", WIDTH - 2),
        (RECORDIO, recordio(CSR.from_dense(np.ones((1, WIDTH + 2), np.float32))), "recordio-protobuf", WIDTH + 2),
        (PARQUET, parquet(np.ones((1, WIDTH + 2))), "parquet", WIDTH + 2),
    ],
)
def test_wrong_width(server: Server, content_type: str, body: bytes, name: str, width: int) -> None:
    """Rows of any other width are refused in the container's words."""
    told = f"Feature size of {name} inference data {width} is not consistent with feature size of trained model 5."
    status, text = post(server, body, content_type)
    assert (status, text.partition(";")[0]) == (400, f"Unable to evaluate payload provided: {told}")


def test_the_label_of_a_training_row(server: Server) -> None:
    """Who sends a row of the training data is told what is too much in it."""
    status, told = post(server, b"1," + EMPTY.partition(b"\n")[0], "text/csv;label_size=1")
    assert (status, told.endswith("inference data 6 is not consistent with feature size of trained model 5.; send no "
                                  "label column")) == (400, True)  # fmt: skip


def test_infinity(server: Server) -> None:
    """An infinite value is refused with the number of its row."""
    told = "Unable to evaluate payload provided: found infinite values in row 2"
    assert post(server, b"1,2,3,4,5\n1,2,inf,4,5\n") == (400, told)


@pytest.mark.parametrize(
    ("content_type", "body", "name"),
    [
        (CSV, b"age,income,a,b,c\n1,2,3,4,5\n", "csv"),
        (CSV, b"1,2,3\n1,2\n", "csv"),
        (CSV, b"0:1 3:2\n", "csv"),
        (CSV, b"\n \n", "csv"),
        (LIBSVM, b"1,2,3,4,5\n", "libsvm"),
        (LIBSVM, b"1 0:x\n", "libsvm"),
        (RECORDIO, recordio(ROWS)[:-4], "recordio-protobuf"),
        (RECORDIO, b"1,2,3,4,5\n", "recordio-protobuf"),
        (PARQUET, b"PAR1", "parquet"),
    ],
)
def test_bodies_of_another_type(server: Server, content_type: str, body: bytes, name: str) -> None:
    """A body that cannot be parsed is taken for one of another type: 415."""
    status, told = post(server, body, content_type)
    assert status == 415
    assert told.startswith(f"Loading {name} data failed with Exception, please ensure data is in {name} format: ")


@pytest.mark.parametrize("content_type", ["application/json", "application/octet-stream", "image/png"])
def test_other_content_types(server: Server, content_type: str) -> None:
    """What cannot be read is refused with a list of what can."""
    told = f"{content_type} is not an accepted ContentType: {TYPES}"
    assert post(server, b"[1]", content_type) == (415, told)


def test_labels_of_other_sizes(server: Server) -> None:
    """The only size that the container lets a content type say is 1."""
    told = (
        "`text/csv;label_size=2` is not an accepted csv ContentType. Optional parameter label_size must be equal to 1"
    )
    assert post(server, EMPTY, "text/csv; label_size=2") == (415, told)


@pytest.mark.parametrize("accept", ["image/png", "text/libsvm", "application/x-parquet"])
def test_other_accepts(server: Server, accept: str) -> None:
    """Who takes nothing that can be written gets a list of what can."""
    status, told = post(server, EMPTY, Accept=accept)
    known = sorted([CSV, JSON, LINES, RECORDIO])
    told_ = f"Accept type {accept} is not supported. Please use supported accept types: {known}."
    assert (status, told) == (406, told_)


def test_too_large(server: Server) -> None:
    """MAX_CONTENT_LENGTH counts."""
    assert post(server, EMPTY * 500)[0] == 413


def test_answers(server: Server) -> None:
    """The same numbers in each format, with the Content-Type that says so."""
    found = {}
    for accept in (None, "", "*/*", CSV, "text/csv; charset=utf-8", JSON, LINES, RECORDIO):
        headers = {} if accept is None else {"Accept": accept}
        status, content_type, body = server.exchange("/invocations", EMPTY, Content_Type=CSV, **headers)
        assert status == 200
        found[accept] = content_type, body
    text = "".join(f"{score!r}\n" for score in EXPECTED.tolist()).encode()
    assert {found[accept] for accept in (None, "", "*/*", CSV, "text/csv; charset=utf-8")} == {(CSV, text)}
    assert found[JSON][0] == JSON
    assert found[JSON][1] == json.dumps({"predictions": [{"score": score} for score in EXPECTED.tolist()]}).encode()
    lines = [json.loads(line) for line in found[LINES][1].decode().split("\n")[:-1]]
    assert [[*line] for line in lines] == [["score"]] * len(ROWS)
    assert np.allclose([line["score"] for line in lines], EXPECTED, rtol=0, atol=1e-15)
    assert records(found[RECORDIO][1]) == [{"score": [score]} for score in EXPECTED]


def test_answers_of_many_classes(serving: Serving) -> None:
    """A row's answer is a list: in CSV side by side, in JSON in brackets."""
    expected = predicted(trained("multi:softprob")).astype(float).tolist()
    server = serving({"my-booster": trained("multi:softprob")})  # whatever its name
    assert post(server, EMPTY)[1] == "".join(",".join(map(repr, row)) + "\n" for row in expected)
    assert json.loads(post(server, EMPTY, Accept=JSON)[1]) == {"predictions": [{"score": row} for row in expected]}
    body = server.ask("/invocations", EMPTY, Content_Type=CSV, Accept=RECORDIO)[1]
    assert records(body) == [{"score": row} for row in expected]


def test_default_accept(serving: Serving) -> None:
    """SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT is for who takes anything."""
    server = serving({"xgboost-model": trained()}, SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT=JSON)
    for headers in ({}, {"Accept": "*/*"}):
        assert post(server, EMPTY, **headers)[1].startswith('{"predictions": [{"score": ')
    assert post(server, EMPTY, Accept=CSV)[1].startswith("0.")


@pytest.mark.parametrize("objective", ["binary:logistic", "multi:softprob"])
def test_batch_transform(serving: Serving, objective: str) -> None:
    """A batch transform gets one line of Python's text a row, whatever it accepts."""
    server = serving({"xgboost-model": trained(objective)}, SAGEMAKER_BATCH="true")
    expected = "".join(f"{answer}\n" for answer in predicted(trained(objective)).tolist())
    for accept in (CSV, JSON, LINES, RECORDIO):
        status, content_type, body = server.exchange("/invocations", EMPTY, Content_Type=CSV, Accept=accept)
        assert (status, content_type, body.decode()) == (200, accept, expected)


def test_threads(server: Server) -> None:
    """Clients that ask at the same time, over connections that they keep, each get their own answers."""
    lines = EMPTY.splitlines()

    def client(first: int) -> int:
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
            right = 0
            for i in range(first, first + 40):
                connection.request("POST", "/invocations", lines[i % 60], {"Content-Type": CSV})
                right += float(connection.getresponse().read()) == EXPECTED[i % 60]
            return right

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(client, range(8))) == [40] * 8


def test_linear_models(serving: Serving) -> None:
    """A linear model, which the library asks for a matrix for, answers in forked workers too."""
    data = trained("multi:softprob", booster="gblinear")
    server = serving({"xgboost-model": data}, SAGEMAKER_MODEL_SERVER_WORKERS=2)
    expected = predicted(data).astype(float).tolist()

    def ask(_number: int) -> bool:
        return json.loads(post(server, EMPTY, Accept=JSON)[1]) == {"predictions": [{"score": row} for row in expected]}

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(40)))


def test_ensembles(serving: Serving) -> None:
    """Several models answer with their mean; where that is not wanted, the first alone."""
    files = {"xgboost-model-0": trained(), "xgboost-model-1": trained(seed="1", subsample="0.5")}
    mean = np.mean([predicted(data).astype(float) for data in files.values()], axis=0).astype(np.float32)
    assert numbers(serving(files), EMPTY) == mean.tolist() != EXPECTED.tolist()
    for word in ("false", "False", "no"):
        assert (
            numbers(serving(files, SAGEMAKER_INFERENCE_ENSEMBLE=word), EMPTY[:300].rpartition(b"\n")[0])[0]
            == (EXPECTED[0])
        )


def test_ensembles_of_unlike_models(serving: Serving) -> None:
    """Models for different things are refused before anything listens."""
    server = serving({"xgboost-model-0": trained(), "xgboost-model-1": trained("binary:hinge")})
    assert server.process.wait(20) == 2
    assert "the models of an ensemble have to be alike" in server.text


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"learner": 1}', b"{L\0", b"binf", trained()[:-100], trained()[:20], b"\x80\x03cposix\nsystem\n"],
)
def test_damaged_models(serving: Serving, content: bytes) -> None:
    """A file that is no model is the user's to mend, and named."""
    server = serving({"xgboost-model": content})
    assert server.process.wait(20) == 2
    assert "Model xgboost-model cannot be loaded: " in server.text
    assert "Traceback" not in server.text


def test_nothing_but_strangers(serving: Serving) -> None:
    """Where there is no model it is said what one is called."""
    server = serving({"model.tar.gz": gzip.compress(trained()), ".xgboost-model": trained()})
    assert server.process.wait(20) == 2
    assert "expected a file named model_algo-1 or xgboost-model" in server.text


KEYS = "predicted_label, LABELS,probability ,probabilities,raw_score,raw_scores,predicted_score"
NAMES = tuple(KEYS.lower().replace(" ", "").split(","))


def selected_rows(objective: str) -> list[list[Any]]:
    """The values of each row by hand, in the order of the keys."""
    answer = predicted(trained(objective)).astype(float).tolist()
    if objective == "binary:logistic":
        return [[int(p > 0.5), [0, 1], p, [1 - p, p], p, [1 - p, p], math.nan] for p in answer]
    return [[row.index(max(row)), [0, 1, 2], max(row), row, max(row), row, math.nan] for row in answer]


@pytest.fixture(scope="module", params=["binary:logistic", "multi:softprob"])
def objective(request: pytest.FixtureRequest) -> str:
    """What the model is for."""
    return str(request.param)


@pytest.fixture(scope="module")
def selected(serving: Serving, objective: str) -> Server:
    """A server that answers every key."""
    return serving({"xgboost-model": trained(objective)}, SAGEMAKER_INFERENCE_OUTPUT=KEYS)


def test_selected_csv(selected: Server, objective: str) -> None:
    """Lists stand in quotes, and the last line does not end."""
    lines = [
        ",".join(f'"{value}"' if isinstance(value, list) else str(value) for value in row)
        for row in selected_rows(objective)
    ]
    assert post(selected, EMPTY) == (200, "\n".join(lines))


def test_selected_json(selected: Server, objective: str) -> None:
    """What makes no sense is a bare NaN, in JSON and in lines of it; the log warns of it."""
    status, text = post(selected, EMPTY, Accept=JSON)
    expected = [dict(zip(NAMES, row, strict=True)) for row in selected_rows(objective)]
    assert (status, text) == (200, json.dumps({"predictions": expected}))
    assert text.count("NaN") == len(ROWS)
    assert post(selected, EMPTY, Accept=LINES)[1] == "".join(json.dumps(row) + "\n" for row in expected)
    assert f"'predicted_score' is not one of those of the objective {objective}" in selected.text


def test_selected_recordio(selected: Server, objective: str) -> None:
    """Each record has the values of its own row."""
    found = records(selected.ask("/invocations", EMPTY, Content_Type=CSV, Accept=RECORDIO)[1])
    for record, row in zip(found, selected_rows(objective), strict=True):
        assert sorted(record) == sorted(NAMES)
        for name, value in zip(NAMES, row, strict=True):
            np.testing.assert_array_equal(record[name], np.ravel(value).astype(np.float32))


def test_selected_refusals(selected: Server) -> None:
    """Rows that do not fit are refused as ever."""
    assert post(selected, b"1\n")[0] == 400
    assert post(selected, EMPTY, Accept="image/png")[0] == 406


@pytest.mark.parametrize(
    "objective",
    [
        *("reg:squarederror", "reg:logistic", "reg:gamma", "reg:tweedie", "reg:absoluteerror"),
        *("binary:logistic", "binary:logitraw", "binary:hinge", "multi:softmax", "multi:softprob"),
    ],
)
def test_selected_of_every_objective(objective: str) -> None:
    """All formats say what `select` gives, key by key, a list for a list."""
    model = ALGORITHM.load(trained(objective))
    assert isinstance(model, XGBoostModel)
    chosen = select(model, ROWS, NAMES)
    settings = Settings.from_environment({"SAGEMAKER_INFERENCE_OUTPUT": KEYS})
    client = create_app(Endpoint(model, ALGORITHM, settings, predictions(1)), settings).test_client()
    found = {
        accept: client.post("/invocations", data=EMPTY, content_type=CSV, headers={"Accept": accept}).data
        for accept in (CSV, JSON, LINES, RECORDIO)
    }
    expected = repr([dict(zip(NAMES, row, strict=True)) for row in zip(*chosen.values(), strict=True)])
    cells = [
        [json.loads(cell.replace("nan", "NaN")) for cell in row] for row in reader(found[CSV].decode().split("\n"))
    ]
    assert repr([dict(zip(NAMES, row, strict=True)) for row in cells]) == expected
    assert repr(json.loads(found[JSON])["predictions"]) == expected
    assert repr([*map(json.loads, found[LINES].splitlines())]) == expected
    for name in NAMES:
        column = np.array([record[name] for record in records(found[RECORDIO])], np.float32)
        np.testing.assert_array_equal(column, np.array(chosen[name], np.float32).reshape(column.shape))


def test_selected_in_a_batch_transform(serving: Serving) -> None:
    """What was chosen counts there too, in the format that is accepted; the last line of CSV ends."""
    environment = {"SAGEMAKER_INFERENCE_OUTPUT": "predicted_score", "SAGEMAKER_BATCH": "true"}
    server = serving({"xgboost-model": trained("reg:squarederror")}, **environment)
    expected = predicted(trained("reg:squarederror")).tolist()
    assert post(server, EMPTY) == (200, "".join(f"{score}\n" for score in expected))
    document = {"predictions": [{"predicted_score": score} for score in expected]}
    assert post(server, EMPTY, Accept=JSON) == (200, json.dumps(document))


def test_selected_of_other_objectives(serving: Serving) -> None:
    """There is nothing to choose of a count."""
    server = serving({"xgboost-model": trained("count:poisson")}, SAGEMAKER_INFERENCE_OUTPUT="predicted_score")
    told = "Objective `count:poisson` unsupported for selectable inference predictions."
    assert post(server, EMPTY) == (500, told)
    assert server.ask("/ping") == (200, b"")


def test_a_model_of_aws(shared_data: Callable[[str], Path], serving: Serving, tmp_path: Path) -> None:
    """A pickle that a training job left in 2019 is served, and answers as the library does once it is converted."""
    from clary.algorithms.registry import open_artifact

    unpack(shared_data("aws_artifacts/xgboost_churn/model.tar.gz"), tmp_path)
    [file] = tmp_path.iterdir()
    _, model = open_artifact(tmp_path)
    rows = np.random.default_rng(5).integers(0, 200, (40, 69)).astype(np.float32)
    expected = predicted(model.to_bytes(), rows).astype(float)
    assert len(set(expected)) > 20
    server = serving({file.name: file.read_bytes()}, SAGEMAKER_MODEL_SERVER_WORKERS=2)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda body: numbers(server, body) == expected.tolist(), [csv(rows)] * 16))
    assert numbers(server, libsvm(rows), LIBSVM) == expected.tolist()
    assert post(server, csv(rows[:, :67]))[1].endswith("not consistent with feature size of trained model 69.")
