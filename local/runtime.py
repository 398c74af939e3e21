"""SageMaker Runtime: requests for predictions, and the answers of whichever container they are for."""

from __future__ import annotations

import base64
import http.client
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.wrappers import Request, Response

from ..errors import ClaryError
from .connections import LateError, header
from .edge import guarded
from .endpoints import Endpoint, live_endpoint
from .event_stream import MEDIA_TYPE, exception, payload_part
from .faults import Fault, InternalFailure, ModelError, ServiceUnavailable, ValidationError
from .platform import Platform
from .targets import Invocation

__all__ = ["Runtime"]

_MOST: Final = 100 << 20  # bytes of a request
_INLINE: Final = 128_000  # bytes of a request that is answered later
_PIECE: Final = 1 << 16  # bytes of a stream in one frame
_BYTES: Final = "application/octet-stream"
_PATH: Final = re.compile(
    r"/endpoints/(?P<name>[^/]+)/(?P<way>invocations|async-invocations|invocations-response-stream)"
)
_OURS: Final = "X-Amzn-SageMaker-"
_PASSED: Final = ("Custom-Attributes", "Target-Model", "Target-Variant", "Inference-Id", "Session-Id")
_PASSED_ON: Final = tuple(f"{_OURS}{name}" for name in (*_PASSED, "Enable-Explanations"))
_PASSED_BACK: Final = tuple(f"{_OURS}{name}" for name in ("Custom-Attributes", "New-Session-Id", "Closed-Session-Id"))
_VARIANT: Final = "x-Amzn-Invoked-Production-Variant"
_TIMEOUT: Final = 900  # seconds of an asynchronous invocation
_LIFE: Final = 21_600  # seconds that it may wait
_AT_ONCE: Final = 4  # asynchronous invocations, where nothing is said
_SLOTS: Final = 24  # invocations under way, so that half of the port's threads are left for all else
_SHOWN: Final = 100  # characters of what is refused
_TURN: Final = 60.0  # seconds that another one waits

Environ = dict[str, Any]


class Runtime:
    """The service, as a WSGI application.

    Parameters
    ----------
    platform
        Whose endpoints are asked.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._slots = threading.BoundedSemaphore(_SLOTS)

    def __call__(self, environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        response = guarded(
            environ.get("PATH_INFO", ""),
            lambda: self._answer(Request(environ)),
            lambda why: _refused(InternalFailure(why)),
        )
        with ExitStack() as stack:
            stack.callback(response.close)
            response.headers["x-amzn-RequestId"] = str(uuid.uuid4())
            parts = response(environ, start)
            stack.pop_all()  # whoever sends the answer closes it
        return parts

    def _answer(self, request: Request) -> Response:
        """The response, or why there is none."""
        try:
            return self._response(request)
        except Fault as fault:
            return _refused(fault)
        except ClaryError as error:
            return _refused(ServiceUnavailable(str(error)))

    def _response(self, request: Request) -> Response:
        found = _PATH.fullmatch(request.path)
        if found is None or request.method != "POST":
            raise ValidationError(f"there is nothing at {request.path}: POST to /endpoints/NAME/invocations")
        name = found["name"]
        endpoint = live_endpoint(self._platform, name)
        if endpoint is None:
            raise ValidationError(f"Endpoint {name} of account {self._platform.account} not found.")
        endpoint.check()
        ways = {"invocations": self._invoke, "async-invocations": self._accept}
        return ways.get(found["way"], self._stream)(request, endpoint)

    def _invoke(self, request: Request, endpoint: Endpoint) -> Response:
        """Ask a container and wait for its answer."""
        invocation = _invocation(request, "Accept")
        with self._turn(), endpoint.target(_header(request, "Target-Variant") or None) as target:
            answer = target.ask(invocation)
        headers = {name: value for name in _PASSED_BACK if (value := header(answer.headers, name)) is not None}
        headers[_VARIANT] = target.variant
        return Response(answer.body, 200, headers, content_type=header(answer.headers, "Content-Type") or _BYTES)

    def _stream(self, request: Request, endpoint: Endpoint) -> Response:
        """Ask a container and hand on its answer as it comes."""
        invocation = _invocation(request, f"{_OURS}Accept")
        with ExitStack() as stack:
            stack.enter_context(self._turn())
            target = stack.enter_context(endpoint.target(_header(request, "Target-Variant") or None))
            answer = stack.enter_context(target.opened(invocation))
            headers = {
                _VARIANT: target.variant,
                f"{_OURS}Content-Type": header(answer.headers, "Content-Type") or _BYTES,
            }
            if attributes := header(answer.headers, f"{_OURS}Custom-Attributes"):
                headers[f"{_OURS}Custom-Attributes"] = attributes
            response = Response(None, 200, headers, content_type=MEDIA_TYPE)
            response.response = _Stream(answer, stack.pop_all())
            return response

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until few enough others are under way."""
        if not self._slots.acquire(timeout=_TURN):
            raise ServiceUnavailable(f"{_SLOTS} other invocations have been under way for {_TURN:g} s: ask later")
        try:
            yield
        finally:
            self._slots.release()

    def _accept(self, request: Request, endpoint: Endpoint) -> Response:
        """Take on a request that is answered in S3."""
        thing = self._platform.store.get("endpoint", endpoint.name)
        config = thing and thing.document["_Now"].get("AsyncInferenceConfig")
        if not config:
            raise ValidationError(
                f"Endpoint {endpoint.name} is not asynchronous: its config has no AsyncInferenceConfig"
            )
        source, body = _header(request, "InputLocation"), _body(request, _INLINE)
        if not source and not body:
            raise ValidationError("InputLocation is missing: it has to name an object as s3://bucket/key")
        job = str(uuid.uuid4())
        client = config.get("ClientConfig", {})
        output, failure = _places(request, config["OutputConfig"], job)
        accepted = {
            "input": source,
            "body": base64.b64encode(body).decode(),
            "headers": _passed(request, f"{_OURS}Content-Type", f"{_OURS}Accept"),
            "output": output,
            "failure": failure,
            "timeout": _number(request, "InvocationTimeoutSeconds", _TIMEOUT, 3600),
            "ttl": _number(request, "RequestTTLSeconds", _LIFE, _LIFE),
        }
        endpoint.asynchronous.accept(accepted, client.get("MaxConcurrentInvocationsPerInstance", _AT_ONCE))
        answer = {"InferenceId": _header(request, "Inference-Id") or job}
        headers = {f"{_OURS}OutputLocation": output}
        if failure:
            headers[f"{_OURS}FailureLocation"] = failure
        return Response(json.dumps(answer), 202, headers, content_type="application/json")


class _Stream:
    """The frames of an answer; whoever makes one closes it.

    Parameters
    ----------
    answer
        Of which the body is still to be read.
    held
        What is let go at the end.
    """

    def __init__(self, answer: http.client.HTTPResponse, held: ExitStack) -> None:
        self._answer = answer
        self._held = held

    def __iter__(self) -> Iterator[bytes]:
        """Give the frames."""
        try:
            with self._held:
                while piece := self._answer.read1(_PIECE):
                    yield payload_part(piece)
        except ModelError as error:
            late = isinstance(error.__cause__, LateError)
            code = "ModelInvocationTimeExceeded" if late else "StreamBroken"
            yield exception("ModelStreamError", {"Message": str(error), "ErrorCode": code})

    def close(self) -> None:
        """Let go of the container."""
        self._held.close()


def _invocation(request: Request, accept: str) -> Invocation:
    """What a container is to be asked."""
    return Invocation(
        _body(request, _MOST),
        _passed(request, "Content-Type", accept),
        _header(request, "Target-Model"),
        _header(request, "Target-Container-Hostname"),
    )


def _passed(request: Request, content_type: str, accept: str) -> dict[str, str]:
    """The headers that a container gets; the first two go by other names in some requests."""
    named = {"Content-Type": request.headers.get(content_type), "Accept": request.headers.get(accept)}
    named |= {name: request.headers.get(name) for name in _PASSED_ON}
    return {name: value for name, value in named.items() if value}


def _header(request: Request, name: str) -> str:
    return request.headers.get(f"{_OURS}{name}", "")


def _number(request: Request, name: str, usual: int, most: int) -> int:
    text = _header(request, name)
    number = int(text) if re.fullmatch(r"\d{1,9}", text, re.ASCII) else 0
    if text and not 0 < number <= most:
        raise ValidationError(f"{name} {text[:_SHOWN]!r} has to be a whole number from 1 to {most}")
    return number or usual


def _body(request: Request, most: int) -> bytes:
    request.max_content_length = most
    try:
        return request.get_data()
    except RequestEntityTooLarge as error:
        raise ValidationError(f"the body is larger than {most} bytes") from error
    except HTTPException as error:
        raise ValidationError(f"the body cannot be read: {error}") from error


def _places(request: Request, config: Mapping[str, Any], job: str) -> tuple[str, str]:
    """Where the answer belongs, and where a failure; the latter is empty where nobody wants it."""
    folder = _header(request, "S3OutputPathExtension").strip("/")
    if ".." in folder.split("/"):
        raise ValidationError(f"S3OutputPathExtension {folder!r} leads out of the output path")
    name = _header(request, "Filename") or f"{job}.out"
    output, failure = config.get("S3OutputPath", ""), config.get("S3FailurePath", "")
    if not output:
        raise ValidationError("the endpoint's AsyncInferenceConfig has no S3OutputPath")
    below = "/".join(filter(None, (output.rstrip("/"), folder, name)))
    return below, f"{failure.rstrip('/')}/{job}-error.out" if failure else ""


def _refused(fault: Fault) -> Response:
    """An error as SDKs read it."""
    response = Response(json.dumps(fault.body()), fault.status, content_type="application/json")
    response.headers["x-amzn-ErrorType"] = fault.code
    return response
