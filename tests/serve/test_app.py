"""The HTTP interface."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from clary import logs
from clary.algorithms.base import Predictions
from clary.algorithms.kmeans import ALGORITHM, KMeansModel
from clary.algorithms.manners import Manners
from clary.errors import UserError
from clary.recordio.batch import CSR, Array, Batch
from clary.recordio.framing import read_frames
from clary.recordio.record_pb2 import Record
from clary.recordio.writer import write_batch
from clary.serve.app import create_app
from clary.serve.endpoint import Endpoint
from clary.serve.places import predictions
from clary.serve.settings import Settings

MODEL = KMeansModel(np.array([[0, 0], [3, 4]], np.float32))
BAD = "unable to evaluate payload provided: "


def client_of(model: Any = MODEL, algorithm: Any = ALGORITHM, **environment: str) -> FlaskClient:
    """A client of an app."""
    settings = Settings.from_environment(environment)
    return create_app(Endpoint(model, algorithm, settings, predictions(1)), settings).test_client()


@pytest.fixture
def post() -> Callable[..., TestResponse]:
    """A function that asks for predictions, as CSV unless told otherwise."""
    client = client_of()

    def invoke(body: str | bytes, content_type: str | None = "text/csv", **headers: str) -> TestResponse:
        return client.post("/invocations", data=body, content_type=content_type, headers=headers)

    return invoke


def refusal(response: TestResponse) -> tuple[int, str]:
    """Status and text of a response, which must be one line of plain text that is no number."""
    assert response.mimetype == "text/plain"
    assert "\n" not in response.text
    assert response.text[0].isalpha() or response.text[0] == "/"
    return response.status_code, response.text


def test_ping() -> None:
    """A loaded model is healthy, and there is nothing more to say."""
    response = client_of().get("/ping")
    assert (response.status_code, response.data) == (200, b"")


@pytest.mark.parametrize(
    ("batch", "spelling"), [("", "MULTI_RECORD"), ("true", "MULTI_RECORD"), ("True", "MultiRecord")]
)
def test_execution_parameters(batch: str, spelling: str) -> None:
    """AWS gets its own spelling, the SDK's local mode the one it knows."""
    answer = client_of(SAGEMAKER_BATCH=batch).get("/execution-parameters").get_json()
    assert (answer["BatchStrategy"], answer["MaxPayloadInMB"]) == (spelling, 6)
    assert 1 <= answer["MaxConcurrentTransforms"] <= 16


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/csv", "6,8"),
        ("Text/CSV; label_size=0", "6,8\n"),
        ("text/csv;label_size=1", "9,6,8"),
        ("application/json", '{"instances": [{"features": [6, 8]}]}'),
        ("application/json; charset=utf-8", '{"instances": [{"data": {"features": {"values": [6, 8]}}}]}'),
        ("application/jsonlines", '{"features": [6, 8]}\n'),
        ("application/jsonlines", '{"data": {"features": {"keys": [0, 1], "shape": [2], "values": [6, 8]}}}'),
    ],
)
def test_requests_in_text(post: Callable[..., TestResponse], content_type: str, body: str) -> None:
    """The same row gets the same answer in every text format."""
    response = post(body, content_type)
    assert response.get_json() == {"predictions": [{"closest_cluster": 1.0, "distance_to_cluster": 5.0}]}
    assert response.content_type == "application/json"


@pytest.mark.parametrize("framed", [True, False])
def test_recordio_both_ways(post: Callable[..., TestResponse], tmp_path: Any, framed: bool) -> None:
    """RecordIO is answered in RecordIO, also where batch transform has taken the frame off."""
    with (tmp_path / "ask").open("w+b") as stream:
        write_batch(stream, Batch(np.array([[6, 8]], np.float32)))
        stream.seek(0)
        body = stream.read() if framed else next(iter(read_frames(stream))).payload
        kind = "application/x-recordio-protobuf"
        response = post(body, kind, Accept=kind)
        (tmp_path / "answer").write_bytes(response.data)
    with (tmp_path / "answer").open("rb") as stream:
        [record] = [Record.FromString(frame.payload) for frame in read_frames(stream)]
    assert record.label["distance_to_cluster"].float32_tensor.values == [5]
    assert response.content_type == kind


def test_rows_keep_their_order(post: Callable[..., TestResponse]) -> None:
    """A hundred rows get a hundred answers, in order."""
    response = post("".join(f"{i},0\n" for i in range(100)), Accept="text/csv")
    assert [float(line.split(",")[0]) for line in response.text.splitlines()] == [0] * 5 + [1] * 95
    assert response.content_type == "text/csv"


def test_default_accept_from_the_environment() -> None:
    """SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT decides for clients that accept anything."""
    client = client_of(SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT="text/csv")
    response = client.post("/invocations", data="6,8", content_type="text/csv", headers={"Accept": "*/*"})
    assert response.text == "1.0,5.0\n"


def test_impossible_default_accept() -> None:
    """A default format the algorithm does not have is told at the start."""
    with pytest.raises(UserError, match="SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT='image/png' is not one of"):
        client_of(SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT="image/png")


def test_empty_body(post: Callable[..., TestResponse]) -> None:
    """Nothing asked, nothing answered."""
    response = post("")
    assert (response.status_code, response.data) == (204, b"")


@pytest.mark.parametrize("kind", ["application/octet-stream", "image/png", "text/libsvm"])
def test_unknown_content_type(post: Callable[..., TestResponse], kind: str) -> None:
    """415 names the type in AWS's words; libsvm is unknown where the algorithm does not train on it."""
    status, text = refusal(post("6,8", kind))
    assert (status, text.partition(".")[0]) == (415, f"content-type {kind} not supported")


def test_missing_content_type(post: Callable[..., TestResponse]) -> None:
    """Without a Content-Type a body is any bytes."""
    assert refusal(post("6,8", None))[1].startswith("content-type application/octet-stream not supported")


def test_compressed_body(post: Callable[..., TestResponse]) -> None:
    """415 names an encoding, and the one that is none is taken."""
    text = "content-encoding gzip not supported: send the body as it is"
    assert refusal(post(b"\x1f\x8b", Content_Encoding="gzip")) == (415, text)
    assert post("6,8", Content_Encoding="identity").status_code == 200


def test_unknown_accept(post: Callable[..., TestResponse]) -> None:
    """406 names the type in AWS's words."""
    status, text = refusal(post("6,8", Accept="application/foo"))
    assert (status, text.partition(".")[0]) == (406, "Accept type 'application/foo' is not supported")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("6,8,1", "wrong number of features: 3 instead of 2; send no label column"),
        ("6", "wrong number of features: 1 instead of 2"),
        ("1,1\n6,nan", "found missing (NaN) values in row 2"),
        ("1,1\n6,", "found missing (NaN) values in row 2"),
        ("1e39,1", "found infinite values in row 1"),
    ],
)
def test_wrong_numbers(post: Callable[..., TestResponse], body: str, reason: str) -> None:
    """400 says in AWS's words, then in ours, what is wrong with the rows."""
    assert refusal(post(body)) == (400, BAD + reason)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("a,b", "text/csv"),
        ("{", "application/json"),
        ("[]", "application/jsonlines"),
        ("x", "application/x-recordio-protobuf"),
    ],
)
def test_unreadable_payload(post: Callable[..., TestResponse], body: str, kind: str) -> None:
    """400 for bytes that are not what the content type says."""
    status, text = refusal(post(body, kind))
    assert (status, text[: len(BAD)]) == (400, BAD)


def test_infinite_in_sparse_rows(post: Callable[..., TestResponse]) -> None:
    """The row of an odd value is told for sparse rows too."""
    rows = [{"features": {"keys": [1], "shape": [2], "values": [value]}} for value in (1, 2, 1e39)]
    response = post(json.dumps({"instances": rows}), "application/json")
    assert refusal(response)[1] == BAD + "found infinite values in row 3"


def test_too_large() -> None:
    """413 tells the limit and what sets it."""
    response = client_of(MAX_CONTENT_LENGTH="4").post("/invocations", data="1,1\n2", content_type="text/csv")
    assert refusal(response) == (413, "the payload is larger than 4 bytes, which is MAX_CONTENT_LENGTH")


def test_limit_from_megabytes() -> None:
    """SAGEMAKER_MAX_PAYLOAD_IN_MB=0 takes the limit away."""
    client = client_of(SAGEMAKER_MAX_PAYLOAD_IN_MB="0")
    assert client.post("/invocations", data="6,8", content_type="text/csv").status_code == 200


def test_unknown_path_and_method() -> None:
    """404 and 405 say what there is instead."""
    client = client_of()
    assert refusal(client.get("/invoke")) == (
        404,
        "there is nothing at /invoke: POST to /invocations, GET /ping or /execution-parameters",
    )
    assert refusal(client.get("/invocations")) == (405, "/invocations does not take GET: use POST")


class Broken(KMeansModel):
    """A model with a bug."""

    def predict(self, features: Array | CSR) -> Predictions:
        """Fail."""
        raise IndexError(f"secret {features.shape}")


def test_our_own_bug(capsys: pytest.CaptureFixture[str]) -> None:
    """A bug is 500 without its text, which is in the log with a traceback."""
    logs.setup()
    response = client_of(Broken(MODEL.centres)).post("/invocations", data="6,8", content_type="text/csv")
    assert refusal(response) == (500, "Algorithm Error: the prediction failed (IndexError); the log says where")
    log = capsys.readouterr().out
    assert "IndexError: secret (1, 2)" in log
    assert "Traceback" in log


class LibsvmManners(Manners):
    """A container that takes libsvm alone."""

    requests = ("libsvm",)


def test_libsvm_where_it_is_taken() -> None:
    """A row of libsvm is as wide as the model, though its last values are zero."""
    algorithm = dataclasses.replace(ALGORITHM, manners=LibsvmManners())
    response = client_of(algorithm=algorithm).post("/invocations", data="0 1:6\n", content_type="text/libsvm")
    assert response.get_json()["predictions"][0]["closest_cluster"] == 1
