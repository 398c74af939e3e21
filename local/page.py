"""The page at ``/``, and what it asks for below ``/_clary/``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from werkzeug.wrappers import Request, Response

from .faults import Fault, ValidationException
from .page_data import KINDS, NotThereError, PageData
from .platform import Platform

__all__ = ["Page"]

_FOLDER: Final = Path(__file__).parent / "page"
_BELOW: Final = "/_clary/"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FILES: Final[Mapping[str, str]] = {
    "/": "index.html",
    "/favicon.ico": "icon.svg",
    **{
        f"{_BELOW}{name}": name
        for name in (
            "api.js",
            "chart.js",
            "dom.js",
            "endpoint.js",
            "format.js",
            "icon.svg",
            "job.js",
            "lists.js",
            "page.css",
            "page.js",
            "parts.js",
            "tuning.js",
        )
    },
}
"""Path → file, and no other file is ever read."""

_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_PROOF: Final = ("X-Clary", "page")
"""Header of each request that changes something: a form of another site cannot send it."""

_READ: Final = ("GET", "HEAD")


class Page:
    """A WSGI application for people.

    Parameters
    ----------
    platform
        What it shows.
    """

    def __init__(self, platform: Platform) -> None:
        self._data = PageData(platform)
        self._files = {path: _File(_FOLDER / name) for path, name in _FILES.items()}

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        request = Request(environ)
        response = self._answer(request)
        response.headers.update(_HEADERS)
        return response(environ, start)

    def _answer(self, request: Request) -> Response:
        file = self._files.get(request.path)
        if file is None:
            return self._told(request)
        return file.response(request) if request.method in _READ else _wrong_method("GET, HEAD")

    def _told(self, request: Request) -> Response:
        """An answer in JSON."""
        word, _, rest = request.path.removeprefix(_BELOW).partition("/")
        if word == "stop":
            if request.method != "POST":
                return _wrong_method("POST")
            if request.headers.get(_PROOF[0]) != _PROOF[1]:
                return _json({"message": f"the header {': '.join(_PROOF)} is missing"}, 403)
        elif request.method not in _READ:
            return _wrong_method("GET, HEAD")
        try:
            return _json(self._found(word, rest, request.args))
        except NotThereError as error:
            return _json({"message": str(error)}, 404)
        except Fault as fault:
            return _json({"message": str(fault)}, fault.status)

    def _found(self, word: str, rest: str, asked: Mapping[str, str]) -> dict[str, Any]:
        """What is asked for by ``WORD``, ``WORD/KIND`` or ``WORD/KIND/NAME``; a name may have slashes."""
        data = self._data
        kind_word, _, name = rest.partition("/")
        kind = KINDS.get(kind_word)
        if word == "overview" and not rest:
            return data.overview()
        if kind is not None and not name and word == "list":
            return data.rows(kind, asked)
        if kind is not None and name:
            match word:
                case "describe":
                    return data.describe(kind, name)
                case "metrics":
                    return data.metrics(kind, name, _count(asked.get("after", "0")))
                case "log":
                    return data.log(kind, name, _position(asked.get("position", "{}")))
                case "trials" if kind_word == "tuning":
                    return data.trials(name)
                case "stop" if kind_word != "endpoints":
                    return data.stop(kind, name)
        raise NotThereError("there is nothing here")


class _File:
    """A file of the page."""

    def __init__(self, path: Path) -> None:
        self._content = path.read_bytes()
        self._type = _TYPES[path.suffix]
        self._tag = hashlib.sha256(self._content).hexdigest()[:16]

    def response(self, request: Request) -> Response:
        """The file, unless the browser has it already."""
        response = Response(self._content, content_type=self._type)
        response.set_etag(self._tag)
        return response.make_conditional(request)


def _json(found: Mapping[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(found, allow_nan=False), status, content_type="application/json")


def _wrong_method(allowed: str) -> Response:
    response = _json({"message": f"only {allowed} here"}, 405)
    response.headers["Allow"] = allowed
    return response


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValidationException(f"after={text[:40]!r} is no number of values")
    return int(text)


def _position(text: str) -> dict[str, int]:
    """Where to go on in a log: what the answer before this one has told."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValidationException(f"the position is no JSON: {error}") from error
    if not isinstance(found, dict) or not all(type(at) is int and 0 <= at < 1 << 62 for at in found.values()):
        raise ValidationException("the position has to be an object of numbers of bytes")
    return found
