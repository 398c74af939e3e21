"""What waitress makes of the heads of requests and answers, mended where clients of Amazon S3 need it otherwise."""

from __future__ import annotations

import re
from typing import Any, Final

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.task import WSGITask

__all__ = ["NAMES", "Channel"]

NAMES: Final = "X_CLARY_NAMES"
"""The header that tells how the names of user metadata were spelt, with a space between."""

_METADATA: Final = re.compile(rb"(?im)^(x-amz-meta-[a-z0-9.-]*_[\w.-]*):[ \t]*(.*?)[ \t]*\r?$")

_CAPITALS: Final = re.compile(rb"(?m)^X-Amz-Meta-[^:\r\n]*")


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """Reads requests."""

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        headers: Any = self.headers
        headers.pop(NAMES, None)
        # waitress drops names with an underscore, because WSGI cannot tell it from a dash; metadata may have it
        for name, value in _METADATA.findall(header_plus):
            spelt = name.decode("latin-1")
            if headers.setdefault(spelt.upper().replace("-", "_"), value.decode("latin-1")):
                headers[NAMES] = f"{headers.get(NAMES, '')} {spelt}".strip()
        # waitress says "continue" and waits for a body for ever, where botocore has announced one of no bytes
        if not self.chunked and not self.content_length:
            self.expect_continue = False


class _Task(WSGITask):  # type: ignore[misc]
    """Answers requests."""

    def build_response_header(self) -> bytes:
        # waitress writes names in capitals; those of metadata are the user's, in small letters as Amazon S3 has them
        head: bytes = super().build_response_header()
        return _CAPITALS.sub(lambda name: name[0].lower(), head)


class Channel(HTTPChannel):  # type: ignore[misc]
    """A client's connection; servers take it as their `channel_class`."""

    parser_class = _Parser
    task_class = _Task
