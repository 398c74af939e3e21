"""Who may ask: whoever is on this machine, or shows the token where the port can be reached from others."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from werkzeug.wrappers import Request, Response

__all__ = ["Guard", "is_loopback"]

_LOOPBACK: Final = re.compile(r"localhost|127\.\d+\.\d+\.\d+|::1|(.+\.)?localhost|host\.docker\.internal")
_CREDENTIAL: Final = re.compile(r"Credential=(?P<key>[^/,]+)/|^AWS (?P<old>[^:]+):")


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone.

    Examples
    --------
    >>> [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "10.0.0.7")]
    [True, True, True, False, False]
    """
    return _LOOPBACK.fullmatch(host) is not None


class Guard:
    """Refuses who may not ask.

    Without a token any client of this machine may ask, but no web page of another site that the user's browser
    happens to show: it would come with the name of another host, or with an origin. With one, the access key of the
    request's signature has to be the token, and a browser asks its user for it.

    Parameters
    ----------
    token
        Empty for none.
    """

    def __init__(self, token: str) -> None:
        self._token = token

    def refusal(self, environ: Mapping[str, Any]) -> Response | None:
        """What to answer to somebody who may not ask."""
        host = environ.get("HTTP_HOST", "")
        if not self._token and not is_loopback(_name(host)):
            return Response(f"the host {host!r} is not this machine: give the platform a --token", 403)
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and _place(origin) != host:
            return Response(f"a page of {origin} may not ask", 403)
        if self._token and not any(hmac.compare_digest(key.encode(), self._token.encode()) for key in _keys(environ)):
            told = "the access key is not the platform's token: set AWS_ACCESS_KEY_ID as  clary env  prints it"
            return Response(told, 401, {"WWW-Authenticate": 'Basic realm="clary: the token is the password"'})
        return None


def _name(host: str) -> str:
    """A host without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _place(origin: str) -> str:
    """Host and port of an origin."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _keys(environ: Mapping[str, Any]) -> list[str]:
    """What a request shows: the access key of its signature, in the header or the query, or a browser's password."""
    header = environ.get("HTTP_AUTHORIZATION", "")
    found = [key for match in [_CREDENTIAL.search(header)] if match for key in match.groups() if key]
    query = parse_qs(environ.get("QUERY_STRING", ""))
    found += [
        value.partition("/")[0] for name in ("X-Amz-Credential", "AWSAccessKeyId") for value in query.get(name, [])
    ]
    basic = Request(dict(environ)).authorization
    if basic is not None and basic.type == "basic" and basic.password:
        found.append(basic.password)
    return found
