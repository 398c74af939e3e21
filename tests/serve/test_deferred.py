"""An application that is made when the first request needs it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from clary.serve.deferred import Deferred, Wsgi

from .conftest import SOON, Start


def application(environ: Any, start_response: Any) -> Iterable[bytes]:
    """Say what was asked."""
    del start_response
    return [environ]


def test_made_once() -> None:
    """The first requests that come together get answers of the same application, made once."""
    made, together = [], threading.Barrier(8)

    def make() -> Wsgi:
        time.sleep(0.05)
        made.append(application)
        return application

    deferred = Deferred(make, {})

    def ask(number: int) -> Iterable[bytes]:
        together.wait(SOON)
        return deferred(number, None)

    assert not made
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(8))) == [[number] for number in range(8)]
    assert made == [application]


def test_made_again() -> None:
    """Where it cannot be made, the next request tries again."""
    results: list[Wsgi] = [application]

    def make() -> Wsgi:
        if len(results) == 1:
            results.append(application)
            raise MemoryError
        return results[0]

    deferred = Deferred(make, {})
    with pytest.raises(MemoryError):
        deferred(1, None)
    assert deferred(2, None) == [2]


def test_first_requests(start: Start, base: Path) -> None:
    """A new server's first requests are answered, whichever way they go and however many come together."""
    server = start(SAGEMAKER_BASE_DIR=base)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(server.ask, ["/ping", "/execution-parameters", "/elsewhere", "/invocations"] * 4))
    assert [status for status, _ in found] == [200, 200, 404, 405] * 4
