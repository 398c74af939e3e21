"""Frames of event streams, read by boto3's own parser."""

from __future__ import annotations

from botocore.eventstream import EventStreamBuffer, EventStreamMessage
from hypothesis import given
from hypothesis import strategies as st

from clary.local.event_stream import exception, payload_part


def read(content: bytes) -> list[EventStreamMessage]:
    """The messages in some bytes; the parser checks both checksums."""
    buffer = EventStreamBuffer()
    buffer.add_data(content)
    return list(buffer)


@given(st.lists(st.binary(max_size=2000)))
def test_pieces(pieces: list[bytes]) -> None:
    """Any bytes come back in order, as events of the kind that clients wait for."""
    messages = read(b"".join(map(payload_part, pieces)))
    assert [message.payload for message in messages] == pieces
    for message in messages:
        assert message.headers == {
            ":event-type": "PayloadPart",
            ":content-type": "application/octet-stream",
            ":message-type": "event",
        }


def test_an_exception() -> None:
    """It is one for the parser, which reads its kind and its message."""
    [message] = read(exception("ModelStreamError", {"Message": "gone …"}))
    found = message.to_response_dict(status_code=200)
    assert found["status_code"] == 400
    assert found["headers"][":exception-type"] == "ModelStreamError"
    assert b"gone" in found["body"]
