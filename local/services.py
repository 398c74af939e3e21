"""The services beside SageMaker: Amazon S3, STS, IAM, ECR, CloudWatch Logs and whatever else moto has.

moto's server applications run in this process and find the service by the signature of a request.
"""

from __future__ import annotations

import io
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs, urlencode
from xml.sax.saxutils import escape

# moto reads these when it is imported: without the first, any web page could read what it answers.
os.environ.setdefault("MOTO_DISABLE_GLOBAL_CORS", "true")

from flask import Flask
from moto.core.request import PRESERVED_HEADER_NAMES_ENVIRON_KEY, environ_key_for_header
from moto.moto_server.werkzeug_app import BackendRequest, DomainDispatcherApplication, create_backend_app
from moto.s3.responses import S3Response
from moto.s3.utils import bucket_name_from_url

from ..errors import ClaryError, UsageError
from .edge import guarded
from .mirror import Mirror
from .parsing import NAMES

__all__ = ["Services"]

_LOG: Final = logging.getLogger("clary.local")
_FORM: Final = "application/x-www-form-urlencoded"
_LONGEST_FORM: Final = 1 << 20  # bytes; an IAM request is far shorter
_TRIES: Final = 20
_PAUSE: Final = 0.01  # seconds
_TRUST: Final = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}

Environ: TypeAlias = dict[str, Any]
Headers: TypeAlias = list[tuple[str, str]]


class Services:
    """A WSGI application that answers for AWS; there can be one in a process, because moto's state is global.

    Parameters
    ----------
    folder
        The platform's. Objects of Amazon S3 are kept in its folder ``s3``; the rest is forgotten at the end.
    """

    def __init__(self, folder: Path) -> None:
        self._mirror = Mirror(folder / "s3")
        self._mirror.load()
        self._dispatcher = DomainDispatcherApplication(_create_app)

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Answer a request; an object that is said to be stored is on disk."""
        status, headers, body = guarded(
            f"{environ['REQUEST_METHOD']} {environ.get('PATH_INFO')}",
            lambda: self._answer(environ),
            lambda why: _failure(environ, why),  # moto's faults are the request's, not the server's
        )
        start_response(status, headers)
        return body

    def _answer(self, environ: Environ) -> tuple[str, Headers, Iterable[bytes]]:
        if environ.get("PATH_INFO", "").startswith(("/moto-api", "/favicon.ico")):  # moto's own page, which resets all
            return "404 Not Found", [("Content-Type", "text/plain")], [b"there is nothing here\n"]
        if "RAW_URI" not in environ and "REQUEST_URI" in environ:  # what moto calls it; else keys are decoded twice
            environ["RAW_URI"] = environ["REQUEST_URI"]
        if spelt := environ.get(f"HTTP_{NAMES}"):
            environ[PRESERVED_HEADER_NAMES_ENVIRON_KEY] = {environ_key_for_header(name): name for name in spelt.split()}
        app = self._dispatcher.get_application(environ)
        service = getattr(app, "service", "")
        if service == "s3" and environ["REQUEST_METHOD"] == "PUT" and _is_form(environ):
            environ["CONTENT_TYPE"] = "binary/octet-stream"  # as a form (curl says so) moto would store nothing
        if service == "iam":
            form = _form(environ)
            if form.get("Action") == "SimulatePrincipalPolicy":
                return _allowed(form)
            _have_role(app, environ, form)
        if service != "s3":
            return _call(app, environ)
        reads = environ["REQUEST_METHOD"] in ("GET", "HEAD") or "HTTP_X_AMZ_COPY_SOURCE" in environ
        status, headers, body = _read(app, environ) if reads else _call(app, environ)
        if status < "400":
            try:
                self._mirror.keep(environ["REQUEST_METHOD"], _path(environ), environ.get("QUERY_STRING", ""))
            except (OSError, ClaryError) as error:
                _LOG.error("not stored: %s", error)
                return _failure(environ, f"it could not be stored: {error}")
        return status, headers, body


def _create_app(service: Any) -> Flask:
    """One of moto's applications, without Flask's debugging aids: they keep the bodies of requests for long."""
    if service is None:
        raise UsageError("the request is signed for a service that this platform does not have")
    app = create_backend_app(service)
    app.debug = False
    app.config["PROPAGATE_EXCEPTIONS"] = True
    return app


def _call(app: Flask, environ: Environ) -> tuple[str, Headers, Iterable[bytes]]:
    """What one of moto's applications answers."""
    said: list[tuple[str, Headers]] = []

    def start(status: str, headers: Headers, _: object = None, /) -> Callable[[bytes], object]:
        said.append((status, headers))
        return len  # a way to write that Flask does not go

    body = app(environ, start)
    environ.pop("werkzeug.request", None)  # a circle, which would keep the request's body in memory for long
    return *said[0], body


def _read(app: Flask, environ: Environ) -> tuple[str, Headers, Iterable[bytes]]:
    """The answer to a request that reads an object and may be made again.

    It fails where another request replaces the object at that moment; then it is asked again.
    """
    for _ in range(_TRIES - 1):
        try:
            return _call(app, environ)
        except (ValueError, FileNotFoundError):
            time.sleep(_PAUSE)
    return _call(app, environ)


def _path(environ: Environ) -> str:
    """The path of a request to Amazon S3, with the bucket, which may be part of the host name."""
    request = BackendRequest(environ, populate_request=False)
    if S3Response.subdomain_based_buckets(request):
        return f"/{bucket_name_from_url(request.raw_url)}{request.raw_path}"
    return request.raw_path


def _is_form(environ: Environ) -> bool:
    return bool(environ.get("CONTENT_TYPE", "").startswith(_FORM))


def _form(environ: Environ) -> Mapping[str, str]:
    """The fields of a request to AWS IAM, whose body can be read again."""
    size = environ.get("CONTENT_LENGTH") or "0"
    if not _is_form(environ) or not size.isdigit() or int(size) > _LONGEST_FORM:
        return {}
    body = environ["wsgi.input"].read(int(size))
    environ["wsgi.input"] = io.BytesIO(body)
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


def _have_role(app: Flask, environ: Environ, form: Mapping[str, str]) -> None:
    """Create the role that a request asks for: the SageMaker SDK asks for those of which it has only the name."""
    if form.get("Action") != "GetRole" or not form.get("RoleName"):
        return
    create = urlencode({**form, "Action": "CreateRole", "AssumeRolePolicyDocument": json.dumps(_TRUST)}).encode()
    # where there is such a role, this is refused
    _call(app, {**environ, "CONTENT_LENGTH": str(len(create)), "wsgi.input": io.BytesIO(create)})


def _allowed(form: Mapping[str, str]) -> tuple[str, Headers, Iterable[bytes]]:
    """The answer that a role may do what is asked: the SageMaker SDK asks before it trains, and moto cannot say."""
    actions = [value for name, value in form.items() if name.startswith("ActionNames.member.")]
    results = "".join(
        f"<member><EvalActionName>{escape(action)}</EvalActionName><EvalResourceName>*</EvalResourceName>"
        "<EvalDecision>allowed</EvalDecision></member>"
        for action in actions
    )
    answer = (
        "<SimulatePrincipalPolicyResponse><SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated>"
        f"<EvaluationResults>{results}</EvaluationResults>"
        "</SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>"
    ).encode()
    return "200 OK", [("Content-Type", "text/xml"), ("Content-Length", str(len(answer)))], [answer]


def _failure(environ: Environ, why: str) -> tuple[str, Headers, Iterable[bytes]]:
    """The answer 500, in the form that the request's protocol has for errors."""
    if "json" in environ.get("CONTENT_TYPE", ""):
        kind, body = "application/x-amz-json-1.1", json.dumps({"__type": "InternalFailure", "message": why})
    else:
        error = f"<Code>InternalError</Code><Message>{escape(why)}</Message>"
        if _is_form(environ):
            error = f"<ErrorResponse><Error>{error}</Error></ErrorResponse>"
        else:
            error = f"<Error>{error}</Error>"
        kind, body = "application/xml", f'<?xml version="1.0" encoding="UTF-8"?>{error}'
    answer = body.encode("utf-8", "replace")
    return "500 Internal Server Error", [("Content-Type", kind), ("Content-Length", str(len(answer)))], [answer]
