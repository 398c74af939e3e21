"""Questions of our own commands to a platform: AWS's JSON protocol by the standard library, which starts at once."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, Final
from urllib.parse import urlsplit

from ..errors import PlatformError, UserError
from .folder import Address

__all__ = ["RefusedError", "ask", "pages"]

_LIMIT: Final = 30  # seconds for an answer
_TARGETS: Final[Mapping[str, str]] = {"sagemaker": "SageMaker", "logs": "Logs_20140328"}


class RefusedError(UserError):
    """The platform refuses what it was asked.

    Parameters
    ----------
    code
        AWS's word for why.
    text
        The explanation.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def ask(address: Address, service: str, operation: str, **request: Any) -> dict[str, Any]:
    """The answer to an operation of ``sagemaker`` or ``logs``.

    Raises
    ------
    RefusedError
        When the service refuses.
    PlatformError
        When nobody answers.
    """
    parts = urlsplit(address.url)
    scope = f"{address.token or 'local'}/20000101/{address.region}/{service}/aws4_request"
    headers = {
        "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": f"{_TARGETS[service]}.{operation}",
    }
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_LIMIT)
    try:
        with closing(connection):
            connection.request("POST", "/", json.dumps(request), headers)
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read() or b"{}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise PlatformError(f"the platform at {address.url} does not answer: {error}") from error
    if response.status != http.client.OK:
        text = answer.get("message") or answer.get("Message") or str(response.status)
        raise RefusedError(str(answer.get("__type", "")).rpartition("#")[2], text)
    return answer


def pages(address: Address, operation: str, field: str, **request: Any) -> Iterator[dict[str, Any]]:
    """All things of a List operation."""
    while True:
        answer = ask(address, "sagemaker", operation, **request)
        yield from answer[field]
        if not (token := answer.get("NextToken")):
            return
        request["NextToken"] = token
