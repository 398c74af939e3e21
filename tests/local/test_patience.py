"""Questions of waiters, which are held back until there is something to tell."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from sqlalchemy import event

from clary.local.patience import Patience
from clary.local.platform import Platform

from .up import until

WAITER = "Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux lang/python#3.11 m/N,E,B,b,Z cfg/retry-mode#legacy"
OTHERS = "Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux lang/python#3.11 m/N,E,b,Z cfg/retry-mode#legacy"


def waiting(platform: Platform, count: int) -> list[threading.Thread]:
    """So many who wait for the endpoint ``e``."""
    patience = Patience(platform)
    ask = ("DescribeEndpoint", {"EndpointName": "e"}, WAITER)
    threads = [threading.Thread(target=patience.wait, args=ask, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def ended(threads: list[threading.Thread]) -> bool:
    """Whether all have been answered."""
    return not any(thread.is_alive() for thread in threads)


@pytest.fixture
def endpoint(platform: Platform) -> Platform:
    """A platform whose endpoint ``e`` is being created."""
    platform.store.add("endpoint", "e", {"EndpointStatus": "Creating"}, status="Creating")
    return platform


def test_a_waiter_is_told_at_once(endpoint: Platform) -> None:
    """All who wait are answered when the status changes; until then none is."""
    threads = waiting(endpoint, 16)
    time.sleep(0.3)
    assert all(thread.is_alive() for thread in threads)
    with endpoint.store.changing("endpoint", "e", "EndpointStatus") as document:
        assert document is not None
        document["EndpointStatus"] = "InService"
    until(lambda: ended(threads), 20)


def test_what_is_forgotten(endpoint: Platform) -> None:
    """Who waits for the end of a thing is answered when it is gone."""
    threads = waiting(endpoint, 1)
    time.sleep(0.1)
    endpoint.store.remove("endpoint", "e")
    until(lambda: ended(threads), 20)


def test_the_end_of_the_platform(endpoint: Platform) -> None:
    """Nobody keeps it from ending."""
    threads = waiting(endpoint, 2)
    endpoint.closing.set()
    until(lambda: ended(threads), 20)
    endpoint.closing.clear()  # its fixture ends it


def test_waiting_costs_nothing(endpoint: Platform) -> None:
    """Nobody looks again and again at what has not changed."""
    asked: list[str] = []

    def note(*told: Any) -> None:
        asked.append(told[2])

    event.listen(endpoint.store._engine, "before_cursor_execute", note)
    threads = waiting(endpoint, 4)
    time.sleep(1.5)
    assert len(asked) <= 4 * 4
    assert not any("document" in query for query in asked)
    endpoint.store.remove("endpoint", "e")
    until(lambda: ended(threads), 20)


def test_others_are_answered_at_once(endpoint: Platform) -> None:
    """Only questions of waiters are held back."""
    before = time.monotonic()
    Patience(endpoint).wait("DescribeEndpoint", {"EndpointName": "e"}, OTHERS)
    Patience(endpoint).wait("ListEndpoints", {}, WAITER)
    assert time.monotonic() - before < 4
