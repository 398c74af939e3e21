"""Multi-model endpoints: models that are loaded when they are asked for."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .serving import BUCKET, Serving, archive, centres, refusal

CROWDED = """
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROOM = 2
loaded = []

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, told):
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200, {})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/models":
            asked = json.loads(body)
            print("load", flush=True)
            if len(loaded) == ROOM:
                return self.answer(507, "full")
            loaded.append(asked["model_name"])
            return self.answer(200, asked)
        name = self.path.split("/")[2]
        self.answer(200 if name in loaded else 404, {"name": name, "loaded": loaded, "path": self.path,
                    "target": self.headers["X-Amzn-SageMaker-Target-Model"]})

    def do_DELETE(self):
        loaded.remove(self.path.split("/")[2])
        self.answer(200, {})

    def log_message(self, *args):
        pass

ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def many(serving: Serving) -> str:
    """A multi-model endpoint of ours with models 0 to 3, which say which they are."""
    for number in range(4):
        serving.put(f"many/sub/{number}.tar.gz", centres(number))
    serving.put("many/outside.tar.gz", archive({"../x": b""}))
    serving.put("many/strange.tar.gz", archive({"x": b""}))
    serving.put("secret.tar.gz", centres(9))
    serving.model("many", Mode="MultiModel", ModelDataUrl=f"s3://{BUCKET}/many/")
    assert serving.endpoint("many", "many")["EndpointStatus"] == "InService"
    return "many"


def test_each_model_answers(serving: Serving, many: str) -> None:
    """The request names the archive by its place below the prefix; the first one loads it."""
    for _ in range(2):
        for number in range(4):
            target = f"{'/' * (number % 2)}sub/{number}.tar.gz"
            assert serving.ask(many, TargetModel=target) == f"0.0,{number}.0\n".encode()


def test_models_that_are_not_there(serving: Serving, many: str) -> None:
    """The texts begin with AWS's where it has one."""
    missing = f"Failed to download model data(bucket: {BUCKET}, key: many/none.tar.gz). Please ensure that there is"
    for request, told in [
        ({}, "TargetModel is missing"),
        ({"TargetModel": "none.tar.gz"}, missing),
        ({"TargetModel": "../secret.tar.gz"}, "leads out of the folder"),
        ({"TargetModel": "sub/../../secret.tar.gz"}, "leads out of the folder"),
        ({"TargetModel": "outside.tar.gz"}, "leads out of the model's folder"),
    ]:
        code, text = refusal(serving.ask, name=many, **request)
        assert (code, told in text) == ("ValidationError", True), text


def test_a_model_that_the_container_refuses(serving: Serving, many: str) -> None:
    """What it says is a ModelError, and the next try is one more."""
    for _ in range(2):
        code, text = refusal(serving.ask, name=many, TargetModel="strange.tar.gz")
        assert (code, text.startswith("Received ")) == ("ModelError", True), text


def test_an_error_of_a_model(serving: Serving, many: str) -> None:
    """It is the container's."""
    code, text = refusal(serving.ask, name=many, TargetModel="sub/1.tar.gz", body=b"1,2,3")
    assert (code, text.startswith("Received client error (400) from primary with message")) == ("ModelError", True)


def together(serving: Serving, name: str, target: str, count: int) -> list[Any]:
    """Answers to requests at once."""
    found: list[Any] = []

    def ask() -> None:
        found.append(serving.ask(name, TargetModel=target))

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def test_no_room(serving: Serving) -> None:
    """The model that was asked longest ago makes room; two first requests at once load it once."""
    for name in "abc":
        serving.put(f"crowd/{name}.tar.gz", archive({name: b""}))
    serving.model(
        "crowd", Mode="MultiModel", ModelDataUrl=f"s3://{BUCKET}/crowd", Image=serving.script("crowd", CROWDED)
    )
    serving.endpoint("crowd", "crowd")

    def ask(name: str) -> dict[str, Any]:
        answer = serving.runtime.invoke_endpoint(EndpointName="crowd", Body=b"x", TargetModel=f"{name}.tar.gz")
        found: dict[str, Any] = json.loads(answer["Body"].read())
        return found

    assert len(together(serving, "crowd", "a.tar.gz", 4)) == 4
    first = ask("a")
    assert (len(first["loaded"]), first["target"], first["path"]) == (1, "a.tar.gz", f"/models/{first['name']}/invoke")
    b = ask("b")["name"]
    a = ask("a")["name"]
    c = ask("c")
    assert sorted(c["loaded"]) == sorted([a, c["name"]])
    assert sorted(ask("b")["loaded"]) == sorted([b, c["name"]])
    folders = [path.name for path in (serving.folder / "work/endpoints/crowd").glob("*/primary/models/*")]
    assert sorted(folders) == sorted([b, c["name"]])
    serving.delete("crowd")


def test_many_new_models_at_once(serving: Serving) -> None:
    """More than the port has threads are loaded, and all answer."""
    count = 64
    for number in range(count):
        serving.put(f"cold/{number}.tar.gz", centres(number))
    serving.model("cold", Mode="MultiModel", ModelDataUrl=f"s3://{BUCKET}/cold/")
    serving.endpoint("cold", "cold")
    runtime = serving.client("sagemaker-runtime", read_timeout=90, max_pool_connections=count)

    def ask(number: int) -> bytes:
        answer = runtime.invoke_endpoint(
            EndpointName="cold", Body=b"0", ContentType="text/csv", Accept="text/csv", TargetModel=f"{number}.tar.gz"
        )
        content: bytes = answer["Body"].read()
        return content

    with ThreadPoolExecutor(count) as pool:
        assert list(pool.map(ask, range(count))) == [f"0.0,{number}.0\n".encode() for number in range(count)]
    serving.delete("cold")
