"""The server in front of an inference pipeline, and servers of models behind it."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from clary.algorithms.kmeans import KMeansModel

from ..boosters import ROWS, predicted, trained
from ..job import csv
from .conftest import CENTRES, Server, Start

CSV, JSON, LINES = "text/csv", "application/json", "application/jsonlines"
Row = Callable[..., Server]

SCORES = predicted(trained())
BODY = csv(ROWS).replace(b"nan", b"")


@pytest.fixture(scope="module")
def model(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Server]:
    """A function that starts a server of a model."""

    def begin(name: str, content: bytes, **environment: object) -> Server:
        base = tmp_path_factory.mktemp("ml")
        (base / "model").mkdir()
        (base / "model" / name).write_bytes(content)
        return start(SAGEMAKER_BASE_DIR=base, **environment)

    return begin


@pytest.fixture(scope="module")
def row(start: Start) -> Row:
    """A function that starts a server in front of others."""
    return lambda *servers: start(CLARY_PIPELINE=",".join(str(server.port) for server in servers))


@pytest.fixture(scope="module")
def scorer(model: Callable[..., Server]) -> Server:
    """XGBoost with five features, whose answer is CSV by default."""
    return model("xgboost-model", trained())


@pytest.fixture(scope="module")
def grouper(model: Callable[..., Server]) -> Server:
    """K-means of scores, whose answer is JSON by default."""
    return model("model_algo-1", KMeansModel(np.array([[0.0], [1.0]], np.float32)).to_bytes())


@pytest.fixture(scope="module")
def front(row: Row, scorer: Server, grouper: Server) -> Server:
    """The two in a row."""
    return row(scorer, grouper)


def test_each_is_asked_what_the_one_before_answered(front: Server) -> None:
    """The groups are those of the scores."""
    status, content_type, answer = front.exchange("/invocations", BODY, Content_Type=CSV, Accept=CSV)
    groups = [float(line.split(b",")[0]) for line in answer.splitlines()]
    assert (status, content_type, groups) == (200, CSV, np.round(SCORES).tolist())
    assert len({*groups}) == 2


def test_accept_is_for_the_last(front: Server) -> None:
    """The first answers in its default format, whatever the client accepts, which the last answers in."""
    for accept in (JSON, LINES):
        status, content_type, answer = front.exchange("/invocations", BODY, Content_Type=CSV, Accept=accept)
        assert (status, content_type) == (200, accept)
    assert len(answer.splitlines()) == len(ROWS)
    _, content_type, answer = front.exchange("/invocations", BODY, Content_Type=CSV)
    assert (content_type, len(json.loads(answer)["predictions"])) == (JSON, len(ROWS))


@pytest.mark.parametrize(
    ("body", "content_type", "accept", "status", "told"),
    [
        (b"1,2", CSV, CSV, 400, '(400) from container-1 with message "Unable to evaluate payload provided: '),
        (BODY, "image/png", CSV, 415, '(415) from container-1 with message "image/png is not an accepted ContentType'),
        (BODY, CSV, "image/png", 406, "(406) from container-2 with message \"Accept type 'image/png' is not supported"),
    ],
)
def test_a_refusal_names_the_container(
    front: Server, body: bytes, content_type: str, accept: str, status: int, told: str
) -> None:
    """Status and words are the container's own, after its name."""
    found, text = front.ask("/invocations", body, Content_Type=content_type, Accept=accept)
    assert (found, text.decode().startswith(f"Received client error {told}"), text[-2:]) == (status, True, b'".')


def test_an_answer_that_does_not_fit(row: Row, model: Callable[..., Server]) -> None:
    """The default format of k-means is none that k-means reads as rows."""
    first, second = (model("model_algo-1", CENTRES.to_bytes()) for _ in range(2))
    status, text = row(first, second).ask("/invocations", b"6,8", Content_Type=CSV)
    assert (status, text[:44]) == (400, b"Received client error (400) from container-2")


def test_default_accept_steers_what_is_between(row: Row, model: Callable[..., Server]) -> None:
    """With CSV for the first, cluster and distance are the features of the second."""
    first = model("model_algo-1", CENTRES.to_bytes(), SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT=CSV)
    second = model("model_algo-1", KMeansModel(np.array([[1, 2]], np.float32)).to_bytes())
    status, body = row(first, second).ask("/invocations", b"6,8", Content_Type=CSV)
    assert (status, json.loads(body)) == (200, {"predictions": [{"closest_cluster": 0, "distance_to_cluster": 3}]})


def test_five_megabytes_between(front: Server) -> None:
    """An answer that is larger than what goes between two containers is refused, and the next request answered."""
    rows = 5 * (1 << 20) // 18
    status, text = front.ask("/invocations", b"1,2,3,4,5\n" * rows, Content_Type=CSV)
    assert (status, text.decode()) == (
        413,
        "the answer of container-1 is larger than 5242880 bytes, the most that goes from one container to the next: "
        "send fewer rows at a time",
    )
    assert front.ask("/invocations", BODY, Content_Type=CSV)[0] == 200


def test_ping(row: Row, scorer: Server, front: Server) -> None:
    """All is well when all are; else the one that is not is named."""
    assert front.ask("/ping") == (200, b"")
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    lame = row(scorer, Server(scorer.process, Path(), port))
    status, text = lame.ask("/ping")
    assert (status, text) == (503, b"Platform Error: container-2 does not answer: [Errno 111] Connection refused")
    assert lame.ask("/invocations", BODY, Content_Type=CSV) == (status, text)


def test_other_paths(front: Server) -> None:
    """What there is not is refused by the front itself."""
    assert front.ask("/models") == (404, b"there is nothing at /models: POST to /invocations, GET /ping")
