"""What fails unforeseen ends where a thread or a request does, and is told."""

from __future__ import annotations

import pytest

from clary.local.edge import guarded


def test_what_fails_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever asked gets the reason, and the log the whole story."""

    def work() -> str:
        raise KeyError("x")

    assert guarded("a job", work, lambda why: why) == "the local platform failed: KeyError('x')"
    (record,) = caplog.records
    assert record.getMessage() == "a job failed"
    assert record.exc_info is not None


def test_who_is_to_end_ends() -> None:
    """What ends a process is no failure."""

    def work() -> str:
        raise SystemExit

    with pytest.raises(SystemExit):
        guarded("a job", work, lambda why: why)
