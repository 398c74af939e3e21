"""Requests for predictions through the one port."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import EventStreamError

from .serving import Serving, centres, refusal
from .up import until

SERVER = """
import json, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

lock, under_way, most = threading.Lock(), 0, 0

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200, b"")

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        word = body.decode("latin-1").split(" ")[0]
        getattr(self, "do_" + word, self.do_echo)(body)

    def do_echo(self, body):
        told = {name: value for name, value in self.headers.items()}
        self.answer(200, json.dumps({"headers": told, "size": len(body)}).encode(), Content_Type="application/json",
                    X_Amzn_SageMaker_Custom_Attributes="mine", X_Other="hidden")

    def do_status(self, body):
        self.answer(int(body.split()[1]), b"as you wish")

    def do_close(self, body):
        self.close_connection = True
        self.answer(200, b"closed later")

    def do_die(self, body):
        os._exit(7)

    def do_drop(self, body):
        self.close_connection = True

    def do_short(self, body):
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"half of it")

    def do_fold(self, body):
        self.answer(200, b"folded", Content_Type="text/plain;\\r\\n charset=utf-8",
                    X_Amzn_SageMaker_Custom_Attributes="a\\x01b")

    def do_count(self, body):
        global under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(1)
        with lock:
            under_way -= 1
        self.answer(200, b"%d" % most)

    def do_slow(self, body):
        time.sleep(float(body.split()[1]))
        self.answer(200, b"late")

    def do_stream(self, body):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        for number in range(5):
            self.wfile.write(b"7\\r\\npiece %d\\r\\n" % number)
            self.wfile.flush()
            if body.endswith(b"broken") and number == 1:
                self.close_connection = True
                return
            time.sleep(0.3)
        self.wfile.write(b"0\\r\\n\\r\\n")

    def log_message(self, *args):
        pass

ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
"""
ACCOUNT = "123456789012"


@pytest.fixture(scope="module")
def echo(serving: Serving) -> str:
    """An endpoint whose container does what it is told."""
    serving.model("echo", Image=serving.script("echo", SERVER))
    assert serving.endpoint("echo", "echo")["EndpointStatus"] == "InService"
    return "echo"


def invoke(serving: Serving, name: str, body: bytes, **more: Any) -> dict[str, Any]:
    """The whole answer, with its body read."""
    answer: dict[str, Any] = serving.runtime.invoke_endpoint(EndpointName=name, Body=body, **more)
    return {**answer, "Body": answer["Body"].read()}


@contextmanager
def raw(serving: Serving, path: str, body: bytes) -> Iterator[http.client.HTTPResponse]:
    """The answer to a request without an SDK; the connection ends with the block."""
    host = urlsplit(serving.address.url)
    scope = "local/20200101/us-east-1/sagemaker/aws4_request"
    headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, Signature=0"}
    connection = http.client.HTTPConnection(str(host.hostname), host.port, timeout=60)
    with closing(connection):
        connection.request("POST", path, body, headers)
        with closing(connection.getresponse()) as response:
            yield response


def test_what_the_container_gets(serving: Serving, echo: str) -> None:
    """Payload and the headers that AWS hands on, and no others; of its own headers the client gets AWS's."""
    found = invoke(
        serving,
        echo,
        b"x" * 1000,
        ContentType="text/csv",
        Accept="text/plain",
        CustomAttributes="a=1",
        InferenceId="id",
        TargetVariant="echo",
        EnableExplanations="`true`",
        SessionId="session",
    )
    told = json.loads(found["Body"])
    headers = {name.lower(): value for name, value in told["headers"].items()}
    ours = {name.removeprefix("x-amzn-sagemaker-"): headers.pop(name) for name in [*headers] if name.startswith("x-")}
    assert ours == {
        "custom-attributes": "a=1",
        "inference-id": "id",
        "target-variant": "echo",
        "enable-explanations": "`true`",
        "session-id": "session",
    }
    assert (told["size"], headers["content-type"], headers["accept"]) == (1000, "text/csv", "text/plain")
    assert "authorization" not in headers
    assert (found["ContentType"], found["CustomAttributes"]) == ("application/json", "mine")
    assert found["InvokedProductionVariant"] == "echo"
    assert "x-other" not in found["ResponseMetadata"]["HTTPHeaders"]


@pytest.mark.parametrize(("status", "whose"), [(400, "client"), (404, "client"), (500, "server"), (503, "server")])
def test_an_error_of_the_container(serving: Serving, echo: str, status: int, whose: str) -> None:
    """It is a ModelError that tells status, text and the log group, as AWS writes it."""
    with pytest.raises(serving.runtime.exceptions.ModelError) as caught:
        invoke(serving, echo, b"status %d" % status)
    found = caught.value.response
    group = "/aws/sagemaker/Endpoints/echo"
    assert found["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert found["Error"]["Message"] == (
        f'Received {whose} error ({status}) from primary with message "as you wish". '
        f"See {group} in account {ACCOUNT} for more information."
    )
    assert (found["OriginalStatusCode"], found["OriginalMessage"]) == (status, "as you wish")
    assert found["LogStreamArn"] == f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:{group}"


def test_nobody_of_that_name(serving: Serving) -> None:
    """The text is AWS's."""
    told = f"Endpoint nobody of account {ACCOUNT} not found."
    assert refusal(serving.ask, name="nobody") == ("ValidationError", told)
    for ask in (serving.runtime.invoke_endpoint_with_response_stream,):
        assert refusal(ask, EndpointName="nobody", Body=b"") == ("ValidationError", told)


def test_what_is_for_others(serving: Serving, echo: str) -> None:
    """TargetModel and TargetContainerHostname are refused where there is nothing to choose from."""
    for request, told in [
        ({"TargetModel": "a.tar.gz"}, "TargetModel is for multi-model endpoints"),
        ({"TargetContainerHostname": "a"}, "TargetContainerHostname is for containers in Direct mode"),
    ]:
        code, text = refusal(serving.ask, name=echo, **request)
        assert (code, told in text) == ("ValidationError", True), text


def test_a_connection_that_the_container_ends(serving: Serving, echo: str) -> None:
    """It ends kept connections without saying so; the next request is answered all the same."""
    for _ in range(5):
        assert invoke(serving, echo, b"close")["Body"] == b"closed later"


def test_no_answer_at_all(serving: Serving, echo: str) -> None:
    """A container that hangs up is a ModelError of status 0, at once."""
    with pytest.raises(serving.runtime.exceptions.ModelError) as caught:
        invoke(serving, echo, b"drop")
    assert caught.value.response["OriginalStatusCode"] == 0
    assert 'Received server error (0) from primary with message "there was no answer' in str(caught.value)


def test_a_container_that_dies_of_a_request(serving: Serving) -> None:
    """Whoever asks meanwhile is told to ask again, until it is back."""
    serving.model("frail", Image=serving.script("frail", SERVER))
    serving.endpoint("frail", "frail")
    assert refusal(serving.ask, name="frail", body=b"die")[0] == "ModelError"
    until(lambda: serving.status("frail") == "Failed")
    reason = serving.sagemaker.describe_endpoint(EndpointName="frail").get("FailureReason", "exit code 7")
    assert "exit code 7" in reason
    code, text = refusal(serving.ask, name="frail", body=b"die")
    assert (code, "being started again" in text) == ("ServiceUnavailable", True), text
    until(lambda: serving.status("frail") == "InService")
    assert serving.ask("frail", b"close") == b"closed later"
    serving.delete("frail")


def test_a_stream(serving: Serving, echo: str) -> None:
    """Pieces come as the container sends them."""
    answer = serving.runtime.invoke_endpoint_with_response_stream(
        EndpointName=echo, Body=b"stream", ContentType="text/csv", Accept="text/plain"
    )
    assert (answer["ContentType"], answer["InvokedProductionVariant"]) == ("text/plain", "echo")
    pieces, times = [], []
    for event in answer["Body"]:
        pieces.append(event["PayloadPart"]["Bytes"])
        times.append(time.monotonic())
    assert pieces == [b"piece %d" % number for number in range(5)]
    assert times[-1] - times[0] > 0.5


def test_a_stream_that_breaks(serving: Serving, echo: str) -> None:
    """What came is there, then an error of its own kind."""
    answer = serving.runtime.invoke_endpoint_with_response_stream(EndpointName=echo, Body=b"stream broken")
    pieces = []
    with closing(answer["Body"]), pytest.raises(EventStreamError, match="ModelStreamError"):
        for event in answer["Body"]:
            pieces.append(event["PayloadPart"]["Bytes"])
    assert pieces == [b"piece 0", b"piece 1"]
    assert refusal(serving.runtime.invoke_endpoint_with_response_stream, EndpointName=echo, Body=b"status 400")[0] == (
        "ModelError"
    )


def test_a_stream_that_nobody_reads(serving: Serving, echo: str) -> None:
    """Clients that go away in the middle keep nothing from answering."""
    for _ in range(5):
        with raw(serving, f"/endpoints/{echo}/invocations-response-stream", b"stream") as response:
            assert b"piece 0" in response.read1(1000)
    assert invoke(serving, echo, b"close")["Body"] == b"closed later"


def test_a_model_of_ours_in_a_stream(serving: Serving) -> None:
    """An answer that comes in one piece is a stream, too."""
    serving.endpoint("whole", serving.model("whole", centres(2)))
    answer = serving.runtime.invoke_endpoint_with_response_stream(
        EndpointName="whole", Body=b"0", ContentType="text/csv", Accept="text/csv"
    )
    assert b"".join(event["PayloadPart"]["Bytes"] for event in answer["Body"]) == b"0.0,2.0\n"
    serving.delete("whole")


def test_large_and_too_large(serving: Serving, echo: str) -> None:
    """Twenty MiB pass; what is larger than a hundred is refused, and the port goes on to answer."""
    assert json.loads(invoke(serving, echo, b"x" * (20 << 20))["Body"])["size"] == 20 << 20
    with raw(serving, f"/endpoints/{echo}/invocations", bytes((100 << 20) + 1)) as response:
        assert (response.status, response.headers["x-amzn-ErrorType"]) == (400, "ValidationError")
        assert b"larger than" in response.read()
    assert invoke(serving, echo, b"close")["Body"] == b"closed later"


def test_an_answer_that_breaks_off(serving: Serving, echo: str) -> None:
    """A container that sends less than it has announced has failed, whichever way it was asked."""
    with pytest.raises(serving.runtime.exceptions.ModelError, match="the answer broke off"):
        invoke(serving, echo, b"short")
    answer = serving.runtime.invoke_endpoint_with_response_stream(EndpointName=echo, Body=b"short")
    pieces = []
    with closing(answer["Body"]), pytest.raises(EventStreamError, match="ModelStreamError"):
        for event in answer["Body"]:
            pieces.append(event["PayloadPart"]["Bytes"])
    assert b"".join(pieces) == b"half of it"


def test_headers_that_nobody_may_have(serving: Serving, echo: str) -> None:
    """A folded one is on one line, one with a control character is left out; neither keeps a container busy."""
    found = invoke(serving, echo, b"fold")
    assert (found["Body"], found["ContentType"]) == (b"folded", "text/plain; charset=utf-8")
    assert "CustomAttributes" not in found
    for _ in range(30):  # more than may be under way
        answer = serving.runtime.invoke_endpoint_with_response_stream(EndpointName=echo, Body=b"fold")
        assert answer["ContentType"] == "text/plain; charset=utf-8"
        assert [event["PayloadPart"]["Bytes"] for event in answer["Body"]] == [b"folded"]


def test_many_slow_requests(serving: Serving, echo: str) -> None:
    """At most 24 are under way; the others wait for their turn, and are answered."""
    with ThreadPoolExecutor(36) as pool:
        found = list(pool.map(lambda _: int(invoke(serving, echo, b"count")["Body"]), range(36)))
    assert len(found) == 36
    assert max(found) <= 24


@pytest.mark.parametrize("path", ["/endpoints/echo/other", "/endpoints//invocations", "/endpoints/a/b/invocations"])
def test_other_paths(serving: Serving, echo: str, path: str) -> None:
    """There is nothing there, in a form that SDKs read."""
    del echo
    with raw(serving, path, b"") as response:
        assert (response.status, response.headers["x-amzn-ErrorType"]) == (400, "ValidationError")
        assert b"there is nothing at" in response.read()
