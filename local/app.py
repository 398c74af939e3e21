"""The one port: each request goes to the service that its signature names.

SageMaker and its runtime are ours; the page at ``/`` and what it asks for too. All else is moto's.
"""

from __future__ import annotations

import io
import json
import math
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from xml.sax.saxutils import escape

from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.wrappers import Request, Response

from ..errors import ClaryError
from . import serving, tags, training, transform, tuning  # noqa: F401  # each brings its operations
from .edge import guarded
from .faults import Fault, InternalFailure, UnknownOperationException, ValidationException
from .guard import Guard
from .operations import OPERATIONS, Call, RecordOnly
from .patience import Patience
from .platform import Platform
from .runtime import Runtime
from .service import answered, checked, known

__all__ = ["RECORDED", "App", "region_of", "service_of"]

RECORDED: Final = "X-Clary-Recorded-Only"
"""Header of an answer that only keeps a record: nothing happens for it."""

_JSON: Final = "application/x-amz-json-1.1"
_SANDBOX: Final = [("Content-Security-Policy", "sandbox"), ("X-Content-Type-Options", "nosniff")]
_MOST: Final = 16 << 20  # bytes of a control request
_SCOPE: Final = re.compile(r"Credential=[^/,]+/\d{8}/(?P<region>[^/,]*)/(?P<service>[^/,]+)/")

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WSGI = Callable[[Environ, StartResponse], Iterable[bytes]]


def service_of(environ: Mapping[str, Any]) -> str:
    """The service that a request's signature names; SageMaker's requests are known without one, too."""
    if found := _SCOPE.search(environ.get("HTTP_AUTHORIZATION", "")):
        return found["service"].lower()
    if environ.get("HTTP_X_AMZ_TARGET", "").startswith("SageMaker."):
        return "sagemaker"
    path = environ.get("PATH_INFO", "")
    if environ.get("HTTP_AUTHORIZATION", "").startswith("AWS") or "X-Amz-" in environ.get("QUERY_STRING", ""):
        return "s3"
    return "sagemaker" if re.fullmatch(r"/endpoints/[^/]+/[a-z-]*invocations[a-z-]*", path) else ""


def region_of(environ: Mapping[str, Any], usual: str) -> str:
    """The region that a request's signature names."""
    found = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
    return (found and found["region"]) or usual


class App:
    """Everything behind the port, as a WSGI application.

    Parameters
    ----------
    platform
        What SageMaker's requests are about.
    guard
        Who may ask.
    services
        Who answers all other services, and keeps records of what SageMaker does not do here.
    page
        The page for people, and what it asks for.
    """

    def __init__(self, platform: Platform, guard: Guard, services: WSGI, page: WSGI) -> None:
        self._platform = platform
        self._guard = guard
        self._services = services
        self._page = page
        self._patience = Patience(platform)
        self._runtime: WSGI = Runtime(platform)

    def __call__(self, environ: Environ, start: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        service = service_of(environ)
        path = environ.get("PATH_INFO", "")
        ours = service == "sagemaker"
        refused = self._guard.refusal(environ)
        if refused is not None:
            answer: WSGI = _refused(refused, service, environ) if service else refused
            return answer(environ, start)
        if ours and path.startswith("/endpoints/"):
            return self._runtime(environ, start)
        if ours and "HTTP_X_AMZ_TARGET" in environ:
            return guarded(
                environ["HTTP_X_AMZ_TARGET"],
                lambda: self._control(environ, start),
                lambda why: _fault(InternalFailure(why))(environ, start),
            )
        if not service and (path in ("/", "/favicon.ico") or path.startswith("/_clary/")):
            return self._page(environ, start)
        return self._services(environ, _sandboxed(start))

    def _control(self, environ: Environ, start: StartResponse) -> Iterable[bytes]:
        body = b""
        try:
            body = _body(environ)
            request = _json(body)
            name = checked(environ["HTTP_X_AMZ_TARGET"], request)
            handler = OPERATIONS.get(name)
            if handler is None:
                return self._recorded(environ, body, start)
            call = Call(self._platform, known(name, request), region_of(environ, self._platform.region))
            self._patience.wait(name, call.request, environ.get("HTTP_USER_AGENT", ""))
            response = _answer(answered(name, handler(call)))
        except RecordOnly:
            return self._recorded(environ, body, start)
        except Fault as fault:
            response = _fault(fault)
        except ClaryError as error:
            response = _fault(ValidationException(str(error)))
        return response(environ, start)

    def _recorded(self, environ: Environ, body: bytes, start: StartResponse) -> Iterable[bytes]:
        """What moto makes of a request; the answer says that it is no more than that."""
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        status, headers, parts = _run(self._services, environ)
        if status.startswith(("404", "500", "501")) and b"NotImplemented" in parts:
            name = environ["HTTP_X_AMZ_TARGET"].rpartition(".")[2]
            return _fault(UnknownOperationException(f"{name} does not happen here, nor is a record kept of it"))(
                environ, start
            )
        start(status, [*headers, (RECORDED, "true")])
        return [parts]


def _sandboxed(start: StartResponse) -> StartResponse:
    """An object that is a web page has the origin of our own page: a browser has to keep it from its rights."""

    def started(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
        return start(status, [*headers, *_SANDBOX], *more)

    return started


def _run(app: WSGI, environ: Environ) -> tuple[str, list[tuple[str, str]], bytes]:
    """Status, headers and body of an application's answer."""
    found: list[tuple[str, list[tuple[str, str]]]] = []

    def start(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
        found.append((status, headers))

    parts = app(environ, start)
    try:
        body = b"".join(parts)
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()
    return *found[-1], body


def _body(environ: Environ) -> bytes:
    request = Request(environ)
    request.max_content_length = _MOST
    try:
        return request.get_data()
    except RequestEntityTooLarge as error:
        raise ValidationException(f"the request is larger than {_MOST >> 20} MiB") from error
    except HTTPException as error:
        raise ValidationException(f"the request cannot be read: {error}") from error


def _json(body: bytes) -> Any:
    try:
        return json.loads(body or b"{}", parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ValidationException(f"the body is no JSON: {error}") from error


def _finite(text: str) -> float:
    """A number, which has to be one: JSON has neither NaN nor Infinity."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number")
    return number


def _answer(result: Mapping[str, Any], status: int = 200, **headers: str) -> Response:
    response = Response(json.dumps(result), status, content_type=_JSON)
    response.headers["x-amzn-RequestId"] = str(uuid.uuid4())
    for name, value in headers.items():
        response.headers[name.replace("_", "-")] = value
    return response


def _fault(fault: Fault) -> Response:
    """An error of SageMaker's; clients look for its code and its message in either of two places."""
    body = {"__type": fault.code, "message": str(fault), **fault.body()}
    return _answer(body, fault.status, x_amzn_ErrorType=fault.code)


def _refused(response: Response, service: str, environ: Environ) -> Response:
    """A refusal in the form that SDKs read of a service: JSON, or one of two kinds of XML."""
    text, status = response.get_data(as_text=True), response.status_code
    if service == "sagemaker" or "HTTP_X_AMZ_TARGET" in environ:
        code = "AccessDeniedException"
        return _answer({"__type": code, "message": text, "Message": text}, status, x_amzn_ErrorType=code)
    error = f"<Code>AccessDenied</Code><Message>{escape(text)}</Message>"
    inner = f"<Error>{error}</Error>"
    return Response(
        inner if service == "s3" else f"<ErrorResponse>{inner}</ErrorResponse>", status, mimetype="text/xml"
    )
