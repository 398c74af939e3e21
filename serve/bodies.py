"""Bodies of requests: read whole, within limits, by a limited number of threads.

Two kinds of places are given to requests: many for bodies that are on their way, and few for predictions. Clients
that stall so keep no prediction waiting; `connections` ends those that stall for too long.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import Final

from flask import Response, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from ..errors import PlatformError
from .places import Places
from .settings import MIB

__all__ = ["READERS", "Bodies"]

READERS: Final = 192
"""Bodies that one process reads at a time."""

_PIECE: Final = MIB
"""Bytes taken off the socket at a time."""

_CUT: Final = "unable to evaluate payload provided: the body of the request did not arrive whole"

_BROKEN: Final = (OSError, ParseException)
"""What goes wrong when a client stops or garbles its body."""

_UNREAD: Final = (404, 405, 413, 415)
"""Statuses that are decided before a body is read to its end."""

_DISCARD: Final = 1 << 30
"""Bytes of a refused request that are read to no use; no service of SageMaker sends more."""


class Bodies:
    """The bodies that a process reads at the same time."""

    def __init__(self) -> None:
        self._places = Places(READERS, f"{READERS} requests are still on their way: try again later")

    def whole(self, limit: int) -> bytes:
        """The whole body of the request, chunked or not; `limit` is in bytes, 0 for none.

        Raises
        ------
        RequestEntityTooLarge, BadRequest
            When it is larger, or does not arrive whole.
        PlatformError
            When as many bodies as can be are on their way.
        """
        if limit and (request.content_length or 0) > limit:
            raise RequestEntityTooLarge(_too_large(limit))
        with self._places:
            return _read(limit)

    def finish(self, response: Response) -> Response:
        """End the connection after a refusal, if what the client still sends cannot be read first."""
        if response.status_code == 503 or (response.status_code in _UNREAD and not self._discard()):
            response.headers["Connection"] = "close"
        return response

    def _discard(self) -> bool:
        """Read what is left of a request, so that a client that first writes it all gets to see the answer.

        Returns
        -------
        bool
            Whether all of it could be read. It takes a place: clients that stall must not get all threads.
        """
        if (request.content_length or 0) > _DISCARD:
            return False
        most = _DISCARD // _PIECE
        try:
            with self._places:
                return sum(1 for _ in islice(iter(partial(request.stream.read, _PIECE), b""), most)) < most
        except (PlatformError, *_BROKEN):
            return False


def _read(limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0  # counted, because the length of a chunked body is not announced
    try:
        for piece in iter(partial(request.stream.read, _PIECE), b""):
            size += len(piece)
            if limit and size > limit:
                raise RequestEntityTooLarge(_too_large(limit))
            pieces.append(piece)
    except _BROKEN as error:
        raise BadRequest(_CUT) from error
    if size < (request.content_length or 0):
        raise BadRequest(_CUT)
    return b"".join(pieces)


def _too_large(limit: int) -> str:
    return f"the payload is larger than {limit} bytes, which is MAX_CONTENT_LENGTH"
