"""Frames of AWS's event streams: a head, headers and a payload, with a checksum of the head and one of all.

Numbers are big-endian. The head is the length of the frame, the length of its headers, and the checksum of the two.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Final

__all__ = ["MEDIA_TYPE", "exception", "payload_part"]

MEDIA_TYPE: Final = "application/vnd.amazon.eventstream"

_HEAD: Final = struct.Struct(">II")
_SUM: Final = struct.Struct(">I")
_TEXT: Final = 7  # the type of a header's value


def payload_part(content: bytes) -> bytes:
    """A frame with a piece of an answer."""
    headers = {":event-type": "PayloadPart", ":content-type": "application/octet-stream", ":message-type": "event"}
    return _frame(headers, content)


def exception(kind: str, members: Mapping[str, str]) -> bytes:
    """The frame that ends a stream in the middle."""
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return _frame(headers, json.dumps(members).encode())


def _frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """A frame.

    Examples
    --------
    >>> _frame({}, b"").hex(" ", 4)
    '00000010 00000000 05c248eb 7d98c8ff'
    """
    block = b"".join(map(_header, headers, headers.values()))
    size = _HEAD.size + _SUM.size + len(block) + len(payload) + _SUM.size
    head = _HEAD.pack(size, len(block))
    head += _SUM.pack(zlib.crc32(head))
    content = head + block + payload
    return content + _SUM.pack(zlib.crc32(content))


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return struct.pack(f">B{len(key)}sBH", len(key), key, _TEXT, len(text)) + text
