"""Asynchronous invocations, whose payloads and answers lie in S3."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError

from clary.local.async_invocations import AsyncInvocations
from clary.local.faults import ServiceUnavailable, ValidationError
from clary.local.platform import Platform
from clary.local.targets import Target

from .serving import BUCKET, Serving, centres, refusal
from .test_runtime import SERVER
from .up import until

PLACES = {"S3OutputPath": f"s3://{BUCKET}/out/", "S3FailurePath": f"s3://{BUCKET}/failed"}


@pytest.fixture(scope="module")
def later(serving: Serving) -> str:
    """An asynchronous endpoint of a container that does what it is told."""
    serving.model("later", Image=serving.script("later", SERVER))
    config = {"OutputConfig": PLACES, "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 2}}
    assert serving.endpoint("later", "later", AsyncInferenceConfig=config)["EndpointStatus"] == "InService"
    return "later"


def asked(serving: Serving, name: str, body: bytes, **more: Any) -> dict[str, Any]:
    """The answer to a request whose payload is in S3."""
    where = serving.put(f"in/{len(body)}-{body[:20].decode()}", body)
    found: dict[str, Any] = serving.runtime.invoke_endpoint_async(EndpointName=name, InputLocation=where, **more)
    return found


def stored(serving: Serving, uri: str) -> dict[str, Any] | None:
    """An object with its body read; None where there is none."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        found = serving.s3.get_object(Bucket=bucket, Key=key)
    except ClientError:
        return None
    return {**found, "Body": found["Body"].read()}


def test_an_answer(serving: Serving, later: str) -> None:
    """The client learns at once where it will be, and there it is, with its type; the container got the headers."""
    found = asked(serving, later, b"x" * 5000, ContentType="text/csv", Accept="text/plain", InferenceId="mine")
    assert found["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert found["InferenceId"] == "mine"
    assert found["OutputLocation"].startswith(f"s3://{BUCKET}/out/")
    assert found["OutputLocation"].endswith(".out")
    assert found["FailureLocation"].startswith(f"s3://{BUCKET}/failed/")
    assert found["FailureLocation"].endswith("-error.out")
    answer = until(lambda: stored(serving, found["OutputLocation"]))
    told = json.loads(answer["Body"])
    headers = {name.lower(): value for name, value in told["headers"].items()}
    assert (told["size"], headers["content-type"], headers["accept"]) == (5000, "text/csv", "text/plain")
    assert (headers["x-amzn-sagemaker-inference-id"], answer["ContentType"]) == ("mine", "application/json")
    assert stored(serving, found["FailureLocation"]) is None


def test_type_of_the_object(serving: Serving, later: str) -> None:
    """Where the request names no content type, the container gets that of the object in S3."""
    serving.s3.put_object(Bucket=BUCKET, Key="in/typed", Body=b"x", ContentType="text/csv")
    found = serving.runtime.invoke_endpoint_async(EndpointName=later, InputLocation=f"s3://{BUCKET}/in/typed")
    headers = json.loads(until(lambda: stored(serving, found["OutputLocation"]))["Body"])["headers"]
    assert {name.lower(): value for name, value in headers.items()}["content-type"] == "text/csv"


def test_failures(serving: Serving, later: str) -> None:
    """Why there is no answer is in the failure object: the container's error, silence, or no input."""
    cases = [
        (asked(serving, later, b"status 418"), "Received client error (418) from primary"),
        (asked(serving, later, b"slow 30", InvocationTimeoutSeconds=1), "Your invocation timed out"),
        (asked(serving, later, b"drop"), "there was no answer"),
        (
            serving.runtime.invoke_endpoint_async(EndpointName=later, InputLocation=f"s3://{BUCKET}/in/none"),
            "NoSuchKey",
        ),
        (serving.runtime.invoke_endpoint_async(EndpointName=later, InputLocation="https://host/x"), "names nothing"),
    ]
    for found, told in cases:
        failure = until(lambda found=found: stored(serving, found["FailureLocation"]))
        assert told in failure["Body"].decode(), failure["Body"]
        assert stored(serving, found["OutputLocation"]) is None


def test_more_than_at_once(serving: Serving, later: str) -> None:
    """What waits for its turn is answered in the end."""
    found = [asked(serving, later, b"slow 0.2 %d" % number) for number in range(6)]
    for one in found:
        assert until(lambda one=one: stored(serving, one["OutputLocation"]))["Body"] == b"late"


def test_names_of_outputs(serving: Serving, later: str) -> None:
    """The client may say which folder below the output path; it does not lead out of it."""
    found = asked(serving, later, b"slow 0", S3OutputPathExtension="a/b")
    assert found["OutputLocation"].startswith(f"s3://{BUCKET}/out/a/b/")
    assert until(lambda: stored(serving, found["OutputLocation"]))["Body"] == b"late"
    where = serving.put("in/x", b"x")
    code, text = refusal(
        serving.runtime.invoke_endpoint_async, EndpointName=later, InputLocation=where, S3OutputPathExtension="../x"
    )
    assert (code, "leads out" in text) == ("ValidationError", True)


def test_an_endpoint_that_is_not_asynchronous(serving: Serving) -> None:
    """It refuses."""
    serving.endpoint("prompt", serving.model("prompt", centres(1)))
    code, text = refusal(
        serving.runtime.invoke_endpoint_async, EndpointName="prompt", InputLocation=f"s3://{BUCKET}/in/x"
    )
    assert (code, "is not asynchronous" in text) == ("ValidationError", True)
    serving.delete("prompt")


@pytest.mark.parametrize(("name", "least"), [("InvocationTimeoutSeconds", 3600), ("RequestTTLSeconds", 21600)])
def test_numbers_of_seconds(serving: Serving, later: str, name: str, least: int) -> None:
    """Those that nobody can wait for are refused."""
    for number in (least + 1, 10**30):
        where = serving.put("in/x", b"x")
        given = {"EndpointName": later, "InputLocation": where, name: number}
        code, text = refusal(serving.runtime.invoke_endpoint_async, **given)
        assert (code, f"whole number from 1 to {least}" in text) == ("ValidationError", True), text


def test_an_endpoint_that_is_not_in_service(serving: Serving) -> None:
    """What it cannot answer it does not accept."""
    serving.model("early", Image=serving.script("early", "import time\ntime.sleep(60)\n"))
    config = serving.config("early", "early", AsyncInferenceConfig={"OutputConfig": PLACES})
    serving.sagemaker.create_endpoint(EndpointName="early", EndpointConfigName=config)
    code, text = refusal(serving.runtime.invoke_endpoint_async, EndpointName="early", InputLocation="s3://models/x")
    assert code == "ValidationError"
    assert text == "Endpoint early of account 123456789012 is not in service: its status is Creating"
    serving.delete("early")


def test_an_unexpected_error(serving: Serving, platform: Platform) -> None:
    """It is in the failure object, too."""

    @contextmanager
    def lend() -> Iterator[Target]:
        raise RuntimeError("odd")
        yield

    platform.s3 = serving.s3
    invocations = AsyncInvocations(platform, "odd", lend)
    for name in ("a", "b"):
        where = {"output": f"s3://{BUCKET}/odd/{name}.out", "failure": f"s3://{BUCKET}/odd/{name}"}
        invocations.accept({"input": "", "body": "", "headers": {}, "timeout": 60, "ttl": 60, **where}, 1)
    for name in ("a", "b"):
        failure = until(lambda name=name: stored(serving, f"s3://{BUCKET}/odd/{name}"))
        assert failure["Body"] == b"the local platform failed: RuntimeError('odd')"
    until(lambda: not platform.store.all("async-invocation"))


def test_nothing_for_the_next_of_the_same_name(platform: Platform) -> None:
    """An endpoint that is deleted accepts nothing that another one would find."""

    @contextmanager
    def lend() -> Iterator[Target]:
        raise ServiceUnavailable("nobody")
        yield

    invocations = AsyncInvocations(platform, "gone", lend)
    request = {"input": "", "body": "", "headers": {}, "timeout": 60, "ttl": 60, "output": "s3://b/k", "failure": ""}
    invocations.accept(request, 1)
    invocations.forget()
    with pytest.raises(ValidationError, match="is being deleted"):
        invocations.accept(request, 1)
    assert platform.store.all("async-invocation") == []


def test_a_kill(serving: Serving, later: str) -> None:
    """What was accepted is answered by the next platform."""
    found = [asked(serving, later, b"slow 3 %d" % number) for number in range(4)]
    serving.restart()
    serving.connect()
    assert serving.settled(later)["EndpointStatus"] == "InService"
    for one in found:
        assert until(lambda one=one: stored(serving, one["OutputLocation"]))["Body"] == b"late"
