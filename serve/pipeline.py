"""The HTTP side of an inference pipeline: a request goes to servers of this machine, one after the other.

Body and Content-Type of an answer become the next request. What the client accepts is for the last server; the
others answer in their default format. A refusal ends the chain, in the words in which SageMaker's runtime tells
clients of it.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from ..errors import PlatformError
from .bodies import Bodies
from .places import predictions
from .refusals import RefusedError, verdict
from .responses import allow, http_verdict, refusal
from .settings import MIB, Settings

__all__ = ["BETWEEN", "create_app"]

BETWEEN: Final = 5 * MIB
"""Most bytes that go from one container to the next, on SageMaker too."""

_PATHS: Final = "POST to /invocations, GET /ping"
_LOOPBACK: Final = "127.0.0.1"
_ANSWER: Final = 600  # seconds a container may be silent; a prediction may take long
_HEALTH: Final = 2  # seconds /ping may take

_OWN: Final = frozenset(
    (
        *("Accept", "Accept-Encoding", "Connection", "Content-Length", "Content-Type", "Expect", "Host", "Keep-Alive"),
        *("Te", "Trailer", "Transfer-Encoding", "Upgrade"),
    )
)
"""Headers that each connection has of its own."""


def create_app(settings: Settings) -> Flask:
    """The web application in front of the servers that listen on the ports in `settings`."""
    front = _Front(settings)
    app = Flask(__name__, static_folder=None)
    app.add_url_rule("/ping", view_func=front.ping)
    app.add_url_rule("/invocations", view_func=front.invocations, methods=["POST"])
    app.after_request(front.bodies.finish)
    app.register_error_handler(HTTPException, lambda error: allow(refusal(*http_verdict(error, _PATHS)), error))
    app.register_error_handler(Exception, lambda error: refusal(*verdict(error)))
    return app


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a container has said."""

    status: int
    content_type: str
    body: bytes


class _Front:
    """The containers of a pipeline, as one."""

    def __init__(self, settings: Settings) -> None:
        self.bodies = Bodies()
        self._places = predictions(settings.threads)
        self._limit = settings.max_payload
        self._containers = [(f"container-{i}", port) for i, port in enumerate(settings.pipeline, 1)]

    def ping(self) -> Response:
        """Say that all containers are well, with an empty body; else which is not."""
        for name, port in self._containers:
            answer = _ask(name, port, "GET", "/ping", timeout=_HEALTH)
            if answer.status != http.client.OK:
                raise RefusedError(503, f"{name} is not well: its /ping answers {answer.status}")
        return Response(status=200, content_type="text/plain; charset=utf-8")

    def invocations(self) -> Response:
        """Predict for the rows of the request."""
        body = self.bodies.whole(self._limit)
        with self._places:
            answer = self._chain(body)
        return Response(answer.body, status=answer.status, content_type=answer.content_type)

    def _chain(self, body: bytes) -> _Answer:
        """What the last container answers."""
        common = {key: value for key, value in request.headers.items() if key.title() not in _OWN}
        answer = _Answer(http.client.OK, request.headers.get("Content-Type", ""), body)
        for i, (name, port) in enumerate(self._containers, 1):
            last = i == len(self._containers)
            headers = dict(common)
            if answer.content_type:
                headers["Content-Type"] = answer.content_type
            if last and "Accept" in request.headers:
                headers["Accept"] = request.headers["Accept"]
            most = None if last else BETWEEN
            answer = _ask(name, port, "POST", "/invocations", answer.body, headers, timeout=_ANSWER, most=most)
            if not 200 <= answer.status < 300:
                raise RefusedError(answer.status, _told(name, answer))
            if answer.status == http.client.NO_CONTENT:
                return answer  # nobody has anything to ask the next one
        return answer


def _ask(
    name: str,
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    timeout: float,
    most: int | None = None,
) -> _Answer:
    """The answer of a container, which may have `most` bytes.

    Raises
    ------
    PlatformError
        When it does not answer.
    RefusedError
        When it answers with more.
    """
    with closing(http.client.HTTPConnection(_LOOPBACK, port, timeout=timeout)) as connection:
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            content = response.read(None if most is None else most + 1)
        except (OSError, http.client.HTTPException) as error:
            why = str(error) or type(error).__name__
            raise PlatformError(f"{name} does not answer: {why}") from error
    if most is not None and len(content) > most:
        text = f"the answer of {name} is larger than {most} bytes, the most that goes from one container to the next"
        raise RefusedError(413, f"{text}: send fewer rows at a time")
    return _Answer(response.status, response.getheader("Content-Type", ""), content)


def _told(name: str, answer: _Answer) -> str:
    kind = f"client error ({answer.status})" if answer.status < 500 else f"server error ({answer.status})"
    return f'Received {kind} from {name} with message "{answer.body.decode(errors="replace")}".'
