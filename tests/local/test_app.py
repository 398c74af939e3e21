"""The one port: who is answered by whom, and what is refused before anybody looks at it."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from .up import Up, channel, clary, ended, job, put_rows

SIGNED = "AWS4-HMAC-SHA256 Credential=local/20260101/eu-west-1/sagemaker/aws4_request, SignedHeaders=host, Signature=0"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A platform."""
    platform = Up(tmp_path_factory.mktemp("up") / "state")
    yield platform
    platform.stop()


def ask(
    up: Up, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and body of an answer; names of headers are written with underscores."""
    host, _, port = up.address.url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    found = response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    connection.close()
    return found


def operation(up: Up, name: str, body: bytes = b"{}", **headers: str) -> tuple[int, Mapping[str, str], Any]:
    """The answer to an operation that is asked for by hand."""
    status, found, text = ask(up, "POST", "/", body, X_Amz_Target=f"SageMaker.{name}", Authorization=SIGNED, **headers)
    return status, found, json.loads(text)


def test_any_client_can_ask(up: Up) -> None:
    """AWS's JSON protocol is all that is needed; the region is that of the signature."""
    status, headers, answer = operation(up, "ListModels")
    assert (status, answer) == (200, {"Models": []})
    assert headers["content-type"] == "application/x-amz-json-1.1"
    assert headers["x-amzn-requestid"]
    request = {"ModelName": "m", "PrimaryContainer": {"Image": "clary/kmeans:1"}}
    _, _, answer = operation(up, "CreateModel", json.dumps(request).encode())
    assert answer == {"ModelArn": "arn:aws:sagemaker:eu-west-1:123456789012:model/m"}


@pytest.mark.parametrize(
    ("name", "body", "code", "words"),
    [
        ("DescribeModel", b"{", "ValidationException", "the body is no JSON"),
        ("DescribeModel", b"[" * 100_000, "ValidationException", "the body is no JSON"),
        ("DescribeModel", b"[]", "ValidationException", "has to be a JSON object"),
        ("CreateModel", b'{"x": NaN}', "ValidationException", "the body is no JSON: NaN is no number"),
        ("CreateModel", b'{"x": -Infinity}', "ValidationException", "the body is no JSON"),
        ("CreateModel", b'{"x": 1e999}', "ValidationException", "the body is no JSON: 1e999 is no number"),
        ("DescribeModel", b"\xff", "ValidationException", "the body is no JSON"),
        ("DescribeModel", b"{}", "ValidationException", "Value null at 'modelName'"),
        ("MakeCoffee", b"{}", "UnknownOperationException", "there is no operation"),
    ],
)
def test_refusals(up: Up, name: str, body: bytes, code: str, words: str) -> None:
    """What cannot be understood is told of in a way that every SDK reads."""
    status, headers, answer = operation(up, name, body)
    assert (status, headers["x-amzn-errortype"], answer["__type"]) == (400, code, code)
    assert words in answer["message"] == answer["Message"]


def test_what_is_ours_alone_to_say(up: Up, tmp_path: Path) -> None:
    """What a request has beside its shape is passed over: it could name a folder that a job removes."""
    victim = tmp_path / "victim"
    (victim / "algo-1/model").mkdir(parents=True)
    (victim / "algo-1/model/secret").write_text("dear")
    uri = put_rows(up, "ours/rows.csv")
    for number, more in enumerate(({"_run": str(victim)}, {"_run": str(victim), "_phase": "Uploading"})):
        request = {**job(f"ours-{number}", channel(uri)), **more, "_ending": "Completed"}
        assert operation(up, "CreateTrainingJob", json.dumps(request).encode())[0] == 200
        assert ended(up, f"ours-{number}")["TrainingJobStatus"] == "Completed"
    assert (victim / "algo-1/model/secret").read_text() == "dear"


def test_large_requests(up: Up) -> None:
    """A control request has a limit."""
    status, _, answer = operation(up, "DescribeModel", b" " * (17 << 20))
    assert (status, answer["message"]) == (400, "the request is larger than 16 MiB")


def test_pages_of_others(up: Up) -> None:
    """A web page of another site gets nothing, whatever service it asks, nor does one that calls us by its name."""
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        assert operation(up, "ListModels", b"{}", **headers)[0] == 403
        assert ask(up, "GET", "/", None, **headers)[0] == 403
        assert ask(up, "PUT", "/bucket", None, **headers)[0] == 403
        assert ask(up, "POST", "/endpoints/e/invocations", b"1", **headers)[0] == 403
    status, headers_of, _ = ask(up, "OPTIONS", "/bucket", Access_Control_Request_Method="PUT")
    assert "access-control-allow-origin" not in headers_of, status


def test_the_page(up: Up) -> None:
    """A browser finds a page at the root."""
    status, headers, body = ask(up, "GET", "/")
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/html")
    assert b"<html" in body


def test_other_services(up: Up) -> None:
    """What is no business of SageMaker's is answered by the service that the signature names."""
    assert up.client("sts").get_caller_identity()["Account"] == "123456789012"
    assert up.client("iam").get_role(RoleName="AnyRole")["Role"]["Arn"].endswith(":role/AnyRole")
    assert up.client("ecr").get_authorization_token()["authorizationData"]


def test_objects_without_bytes(up: Up) -> None:
    """An empty object can be put: the client announces a body, and has none."""
    s3 = up.client("s3")
    s3.create_bucket(Bucket="empty")
    s3.put_object(Bucket="empty", Key="_SUCCESS", Body=b"")
    assert s3.head_object(Bucket="empty", Key="_SUCCESS")["ContentLength"] == 0


def test_objects_that_are_pages(up: Up) -> None:
    """A browser that is led to one runs nothing of it: it would have the rights of our own page."""
    s3 = up.client("s3")
    s3.create_bucket(Bucket="pages")
    s3.put_object(Bucket="pages", Key="evil.html", Body=b"<script>1</script>", ContentType="text/html")
    headers = ask(up, "GET", "/pages/evil.html")[1]
    assert (headers["content-security-policy"], headers["x-content-type-options"]) == ("sandbox", "nosniff")


def test_many_connections(up: Up) -> None:
    """Hundreds of clients that say nothing keep nobody else from an answer."""
    host, _, port = up.address.url.removeprefix("http://").partition(":")
    with ExitStack() as stack:
        for _ in range(480):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
        assert operation(up, "ListModels")[0] == 200
    assert up.process.poll() is None


def test_a_token(tmp_path: Path) -> None:
    """With a token, everything needs it: the API, S3, the page; `clary` and the environment that it prints have it."""
    up = Up(tmp_path / "state", "--token", "s3cret")
    try:
        uri = put_rows(up)
        up.client("sagemaker").create_training_job(**job("a", channel(uri)))
        assert ended(up, "a")["TrainingJobStatus"] == "Completed"
        assert "a" in up.clary("jobs").stdout
        assert "AWS_ACCESS_KEY_ID=s3cret" in up.clary("env").stdout
        for service, call in (("sagemaker", "list_models"), ("s3", "list_buckets"), ("sts", "get_caller_identity")):
            stranger = boto3.client(
                service,
                endpoint_url=up.address.url,
                region_name="us-east-1",
                aws_access_key_id="stranger",
                aws_secret_access_key="s3cret",
            )
            with pytest.raises(ClientError, match="not the platform's token") as caught:
                getattr(stranger, call)()
            assert caught.value.response["Error"]["Code"].startswith("AccessDenied")
        assert ask(up, "GET", "/")[0] == 401
        assert ask(up, "GET", "/_clary/overview")[0] == 401
        assert ask(up, "GET", "/bucket/in/rows.csv")[0] == 401
        assert "s3cret" not in up.said
    finally:
        up.stop()


def test_another_s3(up: Up, tmp_path: Path) -> None:
    """With --s3-endpoint, objects are in that S3 alone, which the environment leads clients to with their own keys."""
    uri = put_rows(up, "other/rows.csv")
    keys = {"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "mine"}
    second = Up(tmp_path / "state", "--s3-endpoint", up.address.url, environment=keys)
    try:
        printed = second.clary("env").stdout
        assert f"AWS_ENDPOINT_URL_S3={up.address.url}" in printed
        assert "AWS_ACCESS_KEY_ID" not in printed
        second.client("sagemaker").create_training_job(**job("a", channel(uri)))
        found = ended(second, "a")
        assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
        assert up.client("s3").head_object(Bucket="bucket", Key="out/a/output/model.tar.gz")
        assert not list((second.folder / "s3").rglob("*.json"))
    finally:
        second.stop()
    assert clary("up", "--s3-endpoint", "minio:9000", "--state", str(tmp_path / "no")).returncode == 2
    both = clary("up", "--s3-endpoint", "http://minio:9000", "--token", "a", "--state", str(tmp_path / "no"))
    assert (both.returncode, "give one" in both.stderr) == (2, True)
