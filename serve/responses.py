"""Refusals as Flask's responses, and those that HTTP itself asks for."""

from __future__ import annotations

import logging
from typing import Final

from flask import Response, request
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed, NotFound

from .refusals import one_line

__all__ = ["allow", "http_verdict", "refusal"]

_LOG: Final = logging.getLogger("clary")


def http_verdict(error: HTTPException, paths: str) -> tuple[int, str]:
    """Status and text for what is decided by HTTP alone: the path, the method, the size; `paths` says what there is."""
    text = error.description or error.name
    if isinstance(error, NotFound):
        text = f"there is nothing at {request.path}: {paths}"
    elif isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted({*(error.valid_methods or ())} - {"HEAD", "OPTIONS"}))
        text = f"{request.path} does not take {request.method}: use {allowed}"
    return error.code or 500, text


def allow(response: Response, error: HTTPException) -> Response:
    """`response` with the headers that HTTP wants after `error`."""
    if isinstance(error, MethodNotAllowed):
        response.allow.update(error.valid_methods or ())
    if isinstance(error, BadRequest):
        response.headers["Connection"] = "close"  # nobody knows where the next request would begin
    return response


def refusal(status: int, text: str) -> Response:
    """A line of plain text, which the log gets as well."""
    line = one_line(text)
    _LOG.warning("%d %s", status, line)
    return Response(line, status=status, content_type="text/plain; charset=utf-8")
