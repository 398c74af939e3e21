"""Requests that are plain: read at a glance, because they are written as nearly every client writes them.

What is not plain need not be wrong: it is left to gunicorn, which knows all of HTTP. So nothing is refused here, and
whatever might be read in two ways is not plain.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

__all__ = ["PING", "Plain", "Reply", "Shortcuts", "plain"]

_LONGEST: Final = 1 << 18
"""Most bytes of a plain request's body; for a larger one it does not matter how its head is read."""

_HEAD: Final = 1 << 13
"""Most bytes of a head; within it no line is longer than gunicorn allows."""

_HEADS: Final = 64
"""Heads that are remembered: most clients send the same one again and again."""

_REQUEST: Final = re.compile(
    rb"(POST /invocations|GET /ping) HTTP/1\.1\r\n((?:[!#$%&'*+.^`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n){0,100})\r\n"
)
"""Request line and fields; a name with an underscore is one that gunicorn wonders about, and 100 are all it takes."""

_PORT: Final = "[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
_HOST: Final = re.compile(rf"[0-9A-Za-z-]{{1,63}}(?:\.[0-9A-Za-z-]{{1,63}})*(?::(?:{_PORT}))?")
_LENGTH: Final = re.compile(r"[0-9]{1,7}")

_KNOWN: Final = frozenset(
    (
        *("accept", "accept-encoding", "accept-language", "cache-control", "connection", "content-encoding"),
        *("content-length", "content-type", "host", "origin", "pragma", "referer", "traceparent", "tracestate"),
        *("user-agent", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-real-ip", "x-request-id"),
    )
)
"""Fields that change nothing about how a request is read, or that are looked at below."""

_AMAZON: Final = "x-amz"
"""How fields of the platform begin."""


class Plain(NamedTuple):
    """A plain request.

    Parameters
    ----------
    line
        Method and path.
    fields
        Texts by their names in lower case.
    start, end
        Where its body begins and ends in the bytes that have come, or will.
    """

    line: str
    fields: Mapping[str, str]
    start: int
    end: int

    def field(self, name: str) -> str:
        """A header field's text, empty where there is none."""
        return self.fields.get(name.lower(), "")


class Reply(NamedTuple):
    """What a request is answered with: status 200, and this."""

    body: bytes
    content_type: str


PING: Final = Reply(b"", "text/plain; charset=utf-8")
"""All is well."""

Shortcuts = Mapping[str, Callable[[Plain, bytes], "Reply | None"]]
"""For each method and path what answers a request and its body; None is for one that is better asked otherwise."""


def plain(data: bytes) -> Plain | None:
    r"""The request at the beginning of `data`, if its head is there and plain.

    Examples
    --------
    >>> request = plain(b"POST /invocations HTTP/1.1\r\nContent-Type: text/csv\r\nContent-Length: 3\r\n\r\n6,8")
    >>> request.line, request.field("Content-Type"), request.start, request.end
    ('POST /invocations', 'text/csv', 73, 76)
    >>> plain(b"POST /invocations HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n6,8\r\n0\r\n\r\n")
    """
    end = data.find(b"\r\n\r\n", 0, _HEAD) + 4
    found = _read(data[:end]) if end > 3 else None
    if found is None:
        return None
    line, fields, length = found
    return Plain(line, fields, end, end + length)


@functools.lru_cache(_HEADS)
def _read(head: bytes) -> tuple[str, Mapping[str, str], int] | None:
    """Method and path, fields and the body's length that a plain head tells."""
    found = _REQUEST.fullmatch(head)
    if found is None:
        return None
    line = found[1].decode()
    lines = [field.partition(":") for field in found[2].decode("latin-1").split("\r\n")[:-1]]
    fields = {name.lower(): value.strip(" \t") for name, _, value in lines}
    if len(fields) < len(lines) or not all(name in _KNOWN or name.startswith(_AMAZON) for name in fields):
        return None
    if fields.get("connection", "keep-alive").lower() != "keep-alive":
        return None
    if "host" in fields and not _HOST.fullmatch(fields["host"]):
        return None
    if line == "GET /ping":
        return None if "content-length" in fields else (line, fields, 0)
    length = fields.get("content-length", "")
    return (line, fields, int(length)) if _LENGTH.fullmatch(length) and int(length) <= _LONGEST else None
