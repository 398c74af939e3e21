"""Who may ask the platform, and who may not."""

import base64
from typing import Any

import pytest

from clary.local.guard import Guard

HERE = {"HTTP_HOST": "127.0.0.1:4570"}


def verdict(token: str, **environ: Any) -> int | None:
    """The status of the refusal; None for whoever may ask."""
    found = Guard(token).refusal({**HERE, **environ})
    return None if found is None else found.status_code


def signed(key: str) -> str:
    """A signature's header."""
    return f"AWS4-HMAC-SHA256 Credential={key}/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:4570", "localhost:4570", "localhost", "[::1]:4570", "bucket.localhost:4570", "host.docker.internal:80"],
)
def test_this_machine_may(host: str) -> None:
    """Without a token, all names of this machine are good, signature or none."""
    assert verdict("", HTTP_HOST=host) is None


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "10.0.0.7", "[::"]
)
def test_other_names_may_not(host: str) -> None:
    """A name that leads here but is another's would be a web page's trick."""
    assert verdict("", HTTP_HOST=host) == 403


def test_pages_of_others_may_not() -> None:
    """A browser says whose page asks."""
    assert verdict("", HTTP_ORIGIN="http://127.0.0.1:4570") is None
    assert verdict("", HTTP_ORIGIN="https://evil.example") == 403
    assert verdict("", HTTP_ORIGIN="null") == 403
    assert verdict("", HTTP_ORIGIN="http://127.0.0.1:9999") == 403
    assert verdict("", HTTP_ORIGIN="http://[::1") == 403


@pytest.mark.parametrize(
    "environ",
    [
        {"HTTP_AUTHORIZATION": signed("secret")},
        {"HTTP_AUTHORIZATION": "AWS secret:signature"},
        {"QUERY_STRING": "X-Amz-Credential=secret%2F20260101%2Fus-east-1%2Fs3%2Faws4_request"},
        {"QUERY_STRING": "AWSAccessKeyId=secret&Expires=1"},
        {"HTTP_AUTHORIZATION": "Basic " + base64.b64encode(b"anyone:secret").decode()},
    ],
)
def test_who_shows_the_token_may(environ: dict[str, Any]) -> None:
    """The token is the access key of a signature, old or new or in the query, or a browser's password."""
    assert verdict("secret", **environ) is None
    assert verdict("secret", HTTP_HOST="any.example", **environ) is None
    assert verdict("another", **environ) == 401


@pytest.mark.parametrize(
    "environ",
    [{}, {"HTTP_AUTHORIZATION": "Basic ??"}, {"HTTP_AUTHORIZATION": signed("")}, {"QUERY_STRING": "X-Amz-Credential="}],
)
def test_who_shows_none_may_not(environ: dict[str, Any]) -> None:
    """Nothing, or nothing that can be read, is no token."""
    assert verdict("secret", **environ) == 401
