"""Services that moto answers for, over real HTTP, in a process that is killed and started again."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import boto3
import pytest
from botocore.config import Config

WAIT: Final = 60  # seconds
PROGRAM: Final = """
import sys
from pathlib import Path

import waitress
from clary.local.parsing import Channel
from clary.local.services import Services

server = waitress.create_server(Services(Path(sys.argv[1])), host="127.0.0.1", port=0, threads=24)
server.channel_class = Channel
print(server.effective_port, flush=True)
server.run()
"""


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address and process of a server on `folder`, which is killed at the end."""
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}", process
        finally:
            process.kill()
            process.wait(WAIT)


def client(name: str, address: str, **config: Any) -> Any:
    """A boto3 client with no retries: each answer counts."""
    config = {"retries": {"total_max_attempts": 1}, "connect_timeout": 10, "read_timeout": WAIT, **config}
    return boto3.client(
        name,
        endpoint_url=address,
        region_name="eu-west-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(**config),
    )


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server for all tests of this module answers."""
    with serving(tmp_path_factory.mktemp("services")) as (found, _):
        yield found


def test_identity(address: str) -> None:
    """The SDK learns an account from STS."""
    assert client("sts", address).get_caller_identity()["Account"] == "123456789012"


def test_unknown_role_is_created(address: str) -> None:
    """GetRole of a name that nobody has created answers with a role that SageMaker may take; and again the same."""
    iam = client("iam", address)
    role = iam.get_role(RoleName="AnyRole")["Role"]
    assert role["Arn"] == "arn:aws:iam::123456789012:role/AnyRole"
    assert role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    assert iam.get_role(RoleName="AnyRole")["Role"]["RoleId"] == role["RoleId"]


def test_known_role_stays(address: str) -> None:
    """GetRole leaves a role as it is."""
    iam = client("iam", address)
    iam.create_role(RoleName="Mine", AssumeRolePolicyDocument="{}", Description="as it is")
    assert iam.get_role(RoleName="Mine")["Role"]["Description"] == "as it is"
    with pytest.raises(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName="Mine", AssumeRolePolicyDocument="{}")


def test_all_is_allowed(address: str) -> None:
    """Whoever asks what a role may do, as the SageMaker SDK does, learns of each action that it is allowed."""
    actions = ["s3:GetObject", "sagemaker:CreateTrainingJob"]
    role = "arn:aws:iam::123456789012:role/AnyRole"
    answer = client("iam", address).simulate_principal_policy(PolicySourceArn=role, ActionNames=actions)
    assert [(one["EvalActionName"], one["EvalDecision"]) for one in answer["EvaluationResults"]] == [
        (action, "allowed") for action in actions
    ]


def test_token_of_registry(address: str) -> None:
    """ECR gives a token, as `docker login` wants it."""
    (given,) = client("ecr", address).get_authorization_token()["authorizationData"]
    assert given["authorizationToken"]


def test_fault_of_moto_is_500(address: str) -> None:
    """What moto cannot do answers 500 with the reason, as XML or JSON; the next request is answered as ever."""
    request = urllib.request.Request(f"{address}/faults/key", method="PATCH")  # noqa: S310 - http
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=WAIT)  # noqa: S310 - http
    with caught.value as answer:
        assert answer.code == 500
        told = "<Code>InternalError</Code><Message>the local platform failed: NotImplementedError('Method PATCH"
        assert told in answer.read().decode()
    logs = client("logs", address)
    with pytest.raises(logs.exceptions.ClientError, match=r"\(InternalFailure\).*NotImplementedError"):
        logs.get_log_anomaly_detector(anomalyDetectorArn="arn:aws:logs:eu-west-1:123456789012:anomaly-detector:0")
    assert client("s3", address).list_buckets()["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_unknown_service(address: str) -> None:
    """A service that moto has not is refused by name of what is wrong."""
    braket = client("braket", address)
    with pytest.raises(braket.exceptions.ClientError, match="signed for a service that this platform does not have"):
        braket.search_devices(filters=[])


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_management_of_moto_is_closed(address: str, method: str) -> None:
    """Nobody resets the state by moto's own interface, which asks for no signature."""
    request = urllib.request.Request(f"{address}/moto-api/reset", method=method)  # noqa: S310 - http
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(request, timeout=WAIT)  # noqa: S310 - http


def test_no_page_may_read(address: str) -> None:
    """An answer does not invite scripts of other origins."""
    s3 = client("s3", address)
    headers: dict[str, str] = s3.list_buckets()["ResponseMetadata"]["HTTPHeaders"]
    assert "access-control-allow-origin" not in headers


def test_host_style(address: str) -> None:
    """A bucket may be part of the host name; its objects are kept as others are."""
    port = address.rpartition(":")[2]
    s3 = client("s3", f"http://localhost:{port}", s3={"addressing_style": "virtual"})
    path_style = client("s3", address)
    path_style.create_bucket(Bucket="hosted", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    url = s3.generate_presigned_url("put_object", {"Bucket": "hosted", "Key": "a/b"})
    assert url.startswith(f"http://hosted.localhost:{port}/a/b?")
    sent = url.replace("hosted.localhost", "127.0.0.1")
    request = urllib.request.Request(sent, b"here", {"Host": f"hosted.localhost:{port}"}, method="PUT")  # noqa: S310
    with urllib.request.urlopen(request, timeout=WAIT) as answer:  # noqa: S310 - http
        assert answer.status == 200
    assert path_style.get_object(Bucket="hosted", Key="a/b")["Body"].read() == b"here"
