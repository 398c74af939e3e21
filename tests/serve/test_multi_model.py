"""Multi-model endpoints, over real connections."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from clary.algorithms.kmeans import KMeansModel

from ..boosters import ROWS, predicted, trained
from .conftest import CENTRES, SOON, Server, Start, until

CSV = "text/csv"
ROW = b"6,8"
XGBOOST_ROW = ",".join(map(str, np.nan_to_num(ROWS[0]))).encode()
ANSWERS = {
    "kmeans": b'{"predictions": [{"closest_cluster": 1.0, "distance_to_cluster": 5.0}]}',
    "other": b'{"predictions": [{"closest_cluster": 0.0, "distance_to_cluster": 10.0}]}',
    "xgboost": f"{predicted(trained(), np.nan_to_num(ROWS[:1])).astype(float)[0].item()!r}\n".encode(),
}
"""What each model makes of its row."""


@pytest.fixture
def aside() -> Iterator[Callable[..., Future[Any]]]:
    """A function that runs another one in a thread."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with models, and some with none."""
    root = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(1)
    files = {
        "kmeans/model_algo-1": CENTRES.to_bytes(),
        "other/model_algo-1": KMeansModel(np.zeros((1, 2), np.float32)).to_bytes(),
        "xgboost/xgboost-model": trained(),
        "large/model_algo-1": KMeansModel(rng.normal(size=(1000, 13000)).astype(np.float32)).to_bytes(),
        "damaged/model_algo-1": CENTRES.to_bytes()[:-3],
        "odd/xgboost-model": b"{",
        "empty/notes.txt": b"no model",
    }
    for place, content in files.items():
        (root / place).parent.mkdir()
        (root / place).write_bytes(content)
    (root / "huge").mkdir()
    with (root / "huge/model_algo-1").open("wb") as stream:
        stream.truncate(1 << 42)
    return root


@pytest.fixture
def server(start: Start) -> Iterator[Server]:
    """A server without a model; afterwards it ends well."""
    running = start(SAGEMAKER_MULTI_MODEL="true")
    yield running
    assert running.end() == 0
    assert "Traceback" not in running.text


def call(server: Server, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Status and body of an answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=2 * SOON)) as connection:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, names)
        response = connection.getresponse()
        return response.status, response.read()


def at(name: str, more: str = "") -> str:
    """A model's path."""
    return f"/models/{quote(name, safe='')}{more}"


def load(server: Server, name: str, url: Path | str) -> tuple[int, Any]:
    """Ask for a model."""
    body = json.dumps({"model_name": name, "url": str(url), "unknown": [1]}).encode()
    status, answer = call(server, "POST", "/models", body)
    return status, json.loads(answer)


def unload(server: Server, name: str) -> tuple[int, Any]:
    """Let a model go."""
    status, answer = call(server, "DELETE", at(name))
    return status, json.loads(answer)


def invoke(server: Server, name: str, body: bytes = ROW, **headers: str) -> tuple[int, bytes]:
    """Ask a model."""
    return call(server, "POST", at(name, "/invoke"), body, **{"Content_Type": CSV, **headers})


def refused(status: int, kind: str, message: str) -> tuple[int, dict[str, object]]:
    """A refusal as AWS's server writes it."""
    return status, {"code": status, "type": kind, "message": message}


def test_an_empty_server(server: Server) -> None:
    """It is well, has no models, and says so in exactly these bytes."""
    assert call(server, "GET", "/ping") == (200, b"")
    assert call(server, "GET", "/models") == (200, b'{"models":[]}')


def test_the_life_of_models(server: Server, store: Path) -> None:
    """Two algorithms in one server; every status and text is AWS's."""
    for name in ("kmeans", "xgboost"):
        assert load(server, name, store / name) == (200, {"status": "Workers scaled"})
    models = [{"modelName": name, "modelUrl": str(store / name)} for name in ("kmeans", "xgboost")]
    assert json.loads(call(server, "GET", "/models")[1]) == {"models": models}
    assert json.loads(call(server, "GET", at("kmeans"))[1]) == models[0]
    assert invoke(server, "kmeans") == (200, ANSWERS["kmeans"])
    assert invoke(server, "xgboost", XGBOOST_ROW) == (200, ANSWERS["xgboost"])
    again = refused(409, "ConflictStatusException", "Model kmeans is already registered.")
    assert load(server, "kmeans", store / "xgboost") == again
    assert unload(server, "kmeans") == (200, {"status": 'Model "kmeans" unregistered'})
    gone = refused(404, "ModelNotFoundException", "Model not found: kmeans")
    assert unload(server, "kmeans") == gone
    for method, more in (("GET", ""), ("POST", "/invoke")):
        status, body = call(server, method, at("kmeans", more), None if method == "GET" else ROW)
        assert (status, json.loads(body)) == gone
    assert invoke(server, "xgboost", XGBOOST_ROW) == (200, ANSWERS["xgboost"])
    assert load(server, "kmeans", store / "other") == (200, {"status": "Workers scaled"})
    assert invoke(server, "kmeans") == (200, ANSWERS["other"])


@pytest.mark.parametrize("name", ["kmeans", "xgboost"])
def test_a_model_answers_as_behind_invocations(
    server: Server, start: Start, store: Path, tmp_path: Path, name: str
) -> None:
    """Status, type and body are those of a server that has this model alone."""
    (tmp_path / "model").symlink_to(store / name)
    alone = start(SAGEMAKER_BASE_DIR=tmp_path)
    assert load(server, "m", store / name)[0] == 200
    row = ROW if name == "kmeans" else XGBOOST_ROW
    requests: list[tuple[bytes, dict[str, str]]] = [
        (row, {"Content_Type": CSV}),
        (row, {"Content_Type": CSV, "Accept": "application/jsonlines"}),
        (row, {"Content_Type": CSV, "Accept": "application/x-recordio-protobuf"}),
        (row, {"Content_Type": CSV, "Accept": "image/png"}),
        (row, {"Content_Type": CSV, "Content_Encoding": "gzip"}),
        (row, {"Content_Type": "image/png"}),
        (row, {}),
        (b"", {"Content_Type": CSV}),
        (b"1", {"Content_Type": CSV}),
        (b"a,b", {"Content_Type": CSV}),
        (row.replace(b",", b",inf,", 1), {"Content_Type": CSV}),
        (b'{"instances": [{"features": [6, 8]}]}', {"Content_Type": "application/json"}),
    ]
    for body, headers in requests:
        assert server.exchange(at("m", "/invoke"), body, **headers) == alone.exchange("/invocations", body, **headers)


@pytest.mark.parametrize(
    ("folder", "status", "why"),
    [
        ("nowhere", 404, "there is no folder "),
        ("empty", 400, "no model artifact in "),
        ("damaged", 400, "no algorithm can read the artifact in "),
        ("odd", 400, "no algorithm can read the artifact in "),
        ("kmeans/model_algo-1", 404, "there is no folder "),
        ("huge", 507, "not enough memory to load "),
    ],
)
def test_a_broken_model(server: Server, store: Path, folder: str, status: int, why: str) -> None:
    """It is refused in a sentence that names the place; the others go on, and its name is free."""
    load(server, "good", store / "kmeans")
    found, body = load(server, "bad", store / folder)
    assert (found, sorted(body), body["code"]) == (status, ["code", "message", "type"], status)
    assert body["message"].startswith(f"{why}{store / folder}")
    assert invoke(server, "good") == (200, ANSWERS["kmeans"])
    assert unload(server, "bad")[0] == 404
    assert load(server, "bad", store / "kmeans")[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        b"\xff",
        b'{"url": "/tmp"}',
        b'{"model_name": "", "url": "/tmp"}',
        b'{"model_name": 1, "url": "/tmp"}',
        b'{"model_name": "a", "url": ["/tmp"]}',
        b'{"model_name": "\\ud800", "url": "/tmp"}',
    ],
)
def test_requests_that_name_no_model(server: Server, body: bytes) -> None:
    """The sentence says what to send."""
    status, answer = call(server, "POST", "/models", body)
    found = json.loads(answer)
    assert (status, found["code"], found["type"]) == (400, 400, "BadRequestException")
    assert found["message"].endswith(': send {"model_name": "NAME", "url": "FOLDER"}')


def test_a_request_that_is_too_large(server: Server) -> None:
    """Names and places are short."""
    status, answer = call(server, "POST", "/models", b" " * (2 << 20))
    assert (status, json.loads(answer)["code"]) == (413, 413)


@pytest.mark.parametrize(("method", "path", "status"), [("PUT", "/models/a", 405), ("POST", "/invocations", 404)])
def test_other_paths(server: Server, method: str, path: str, status: int) -> None:
    """What there is not is refused in JSON too, which says what there is."""
    found, body = call(server, method, path, b"x")
    assert (found, json.loads(body)["code"]) == (status, status)


@pytest.mark.parametrize(
    "name", ["a/b", "/a//b/", "a/invoke", "invoke", "..", "a b%2F?#;", "größe", "x\ny", "0123abc" * 30, "\x00"]
)
def test_names_are_opaque(server: Server, store: Path, name: str) -> None:
    """Any characters make a name."""
    assert load(server, name, store / "kmeans")[0] == 200
    assert json.loads(call(server, "GET", at(name))[1])["modelName"] == name
    assert invoke(server, name) == (200, ANSWERS["kmeans"])
    assert unload(server, name) == (200, {"status": f'Model "{name}" unregistered'})


def test_pages_of_the_list(server: Server, store: Path) -> None:
    """A hundred models a page; the last one has no token."""
    names = [f"m{i}" for i in range(205)]
    for name in names:
        load(server, name, store / "kmeans")
    found, path = [], "/models"
    pages = []
    while path:
        page = json.loads(call(server, "GET", path)[1])
        pages.append(len(page["models"]))
        found += [model["modelName"] for model in page["models"]]
        path = f"/models?next_page_token={page['nextPageToken']}" if "nextPageToken" in page else ""
    assert (found, pages) == (names, [100, 100, 5])
    assert call(server, "GET", "/models?next_page_token=x")[0] == 400


def test_a_request_under_way_is_answered_first(server: Server, store: Path, aside: Any) -> None:
    """Who has begun to ask gets the answer of the model that is being unloaded; then it is gone."""
    load(server, "m", store / "kmeans")
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=SOON)) as client:
        client.sendall(b"POST /models/m/invoke HTTP/1.1\r\nContent-Type: text/csv\r\nContent-Length: 3\r\n\r\n6,")
        time.sleep(0.2)
        leaving = aside(unload, server, "m")
        while invoke(server, "m")[0] != 404:
            assert not leaving.done()
        assert call(server, "GET", "/models") == (200, b'{"models":[]}')
        assert not leaving.done()
        client.sendall(b"8")
        response = http.client.HTTPResponse(client)
        response.begin()
        assert (response.status, response.read()) == (200, ANSWERS["kmeans"])
    assert leaving.result(SOON)[0] == 200


def test_two_loads_of_one_name(server: Server, store: Path) -> None:
    """One wins; the others are told that the name is taken, though it is still being loaded."""
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: load(server, "m", store / "large")[0], range(8)))
    assert sorted(statuses) == [200] + 7 * [409]


def test_others_answer_while_a_model_is_loaded(server: Server, store: Path, aside: Any) -> None:
    """Neither /ping nor another model waits."""
    load(server, "m", store / "kmeans")
    slowest = 0.0
    for i in range(3):
        loading = aside(load, server, f"large{i}", store / "large")
        while not loading.done():
            began = time.monotonic()
            assert call(server, "GET", "/ping")[0] == invoke(server, "m")[0] == 200
            slowest = max(slowest, time.monotonic() - began)
        assert loading.result()[0] == 200
    assert slowest < 2


def resident(server: Server) -> int:
    """MiB of memory that the server's worker takes."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    status = Path(f"/proc/{children[0]}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) >> 10


def test_memory_is_given_back(server: Server, store: Path) -> None:
    """When DELETE returns, the 50 MB of a model are the system's again, however often that happens."""

    def cycle() -> tuple[int, int]:
        assert load(server, "m", store / "large")[0] == 200
        assert invoke(server, "m", b"1," * 12999 + b"1")[0] == 200
        loaded = resident(server)
        assert unload(server, "m")[0] == 200
        return loaded, resident(server)

    cycles = [cycle() for _ in range(30)]
    print(f"MiB with the model and without: {cycles}")
    assert all(loaded - empty >= 45 for loaded, empty in cycles)
    assert cycles[-1][1] - cycles[2][1] <= 8


def test_many_threads(server: Server, store: Path) -> None:
    """Clients that load, ask and unload the same few models at once get the right answers, or 404 or 409."""
    kinds = ("kmeans", "other", "xgboost")
    seen: dict[tuple[str, int], int] = {}
    lock = threading.Lock()
    end = time.monotonic() + 8

    def client(seed: int) -> None:
        rng = random.Random(seed)  # noqa: S311  # no secret
        while time.monotonic() < end:
            kind = rng.choice(kinds)
            name = f"{kind}-{rng.randrange(2)}"
            what = rng.choice(("load", "invoke", "invoke", "invoke", "unload"))
            if what == "load":
                status = load(server, name, store / kind)[0]
            elif what == "unload":
                status = unload(server, name)[0]
            else:
                status, body = invoke(server, name, XGBOOST_ROW if kind == "xgboost" else ROW)
                assert status == 404 or body == ANSWERS[kind]
            with lock:
                seen[what, status] = seen.get((what, status), 0) + 1

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(client, seed) for seed in range(8)]:
            done.result(4 * SOON)
    print(f"answers: {seen}")
    assert set(seen) == {
        ("load", 200),
        ("load", 409),
        ("invoke", 200),
        ("invoke", 404),
        ("unload", 200),
        ("unload", 404),
    }
    assert call(server, "GET", "/ping") == (200, b"")


def test_one_process(start: Start) -> None:
    """Whatever the environment asks for, one process knows all models; the log says so."""
    server = start(SAGEMAKER_MULTI_MODEL="True", SAGEMAKER_MODEL_SERVER_WORKERS=4)
    assert "a multi-model server has one process, whose threads share the models" in server.lines
    assert server.ask("/ping") == (200, b"")
    assert server.text.count("Booting worker") == 1


def test_the_end_of_the_process(start: Start, store: Path) -> None:
    """When the process that had the models is killed the server ends, and does not go on without them."""
    server = start(SAGEMAKER_MULTI_MODEL="true")
    assert load(server, "m", store / "kmeans")[0] == 200
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    assert server.process.wait(SOON) == 3
    assert f"the process that held the models, {children[0]}, has ended" in server.text


def test_the_log_names_the_target(server: Server, store: Path) -> None:
    """What the platform says of the model is in the line of the request."""
    load(server, "m", store / "kmeans")
    invoke(server, "m", X_Amzn_SageMaker_Target_Model="shop/a.tar.gz")
    begin = "POST /models/m/invoke 200 71 bytes "
    line = until(lambda: next((line for line in server.lines if line.startswith(begin)), None))
    assert line.endswith(" ms shop/a.tar.gz")
