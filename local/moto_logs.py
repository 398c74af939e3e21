"""Log lines in moto's CloudWatch Logs, which lives in memory: the latest ones, as the files have them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.logs.models import LogEvent, LogStream, logs_backends

__all__ = ["Shown", "Stream"]

_MOST: Final = 100_000  # lines of a stream
_MOST_OF_ALL: Final = 500_000
_AT_ONCE: Final = 10_000  # lines that go together


class Stream(NamedTuple):
    """Where lines belong."""

    region: str
    group: str
    name: str


class Shown:
    """The lines that CloudWatch Logs has; of one thread at a time.

    Parameters
    ----------
    most, most_of_all
        Lines of a stream, and of all together, that stay when there are some thousands more.
    """

    def __init__(self, most: int = _MOST, most_of_all: int = _MOST_OF_ALL) -> None:
        self._most = most
        self._most_of_all = most_of_all
        self._streams: dict[Stream, _Bounded] = {}  # whichever had lines last is last

    def give(self, stream: Stream, lines: Sequence[tuple[int, str]]) -> None:
        """Add lines to a stream, past the limit of 14 days: those of before are as old as they are."""
        regions = logs_backends[DEFAULT_ACCOUNT_ID]
        if stream.region not in regions:  # its lines are in files only
            return
        backend = regions[stream.region]
        backend.ensure_log_group(stream.group)
        group: Any = backend.groups[stream.group]
        found = _bounded(group, stream.name)
        for begin in range(0, len(lines), _AT_ONCE):
            some = lines[begin : begin + _AT_ONCE]
            group.put_log_events(stream.name, [{"timestamp": at, "message": text} for at, text in some])
            found.drop(len(found.events) - self._most)
        for model in (LogEvent, LogStream, _Bounded):  # moto remembers all there ever were, for a page of its own
            cast(Any, model).instances_tracked.clear()
        self._streams.pop(stream, None)
        self._streams[stream] = found
        self._drop()

    def _drop(self) -> None:
        """Let go of the lines of streams that have had none for the longest time."""
        surplus = sum(len(each.events) for each in self._streams.values()) - self._most_of_all
        for each in list(self._streams.values())[:-1]:
            if surplus <= 0:
                break
            surplus -= each.drop(surplus)


class _Bounded(LogStream):
    """A stream of which the oldest lines may go: whoever reads on by a token goes on where he was."""

    def __init__(self, group: Any, name: str) -> None:
        super().__init__(group, name)
        self._gone: list[tuple[int, int]] = []  # how many lines went together, and the time of the last

    def drop(self, surplus: int) -> int:
        """Let go of so many lines and some more; how many have gone."""
        if surplus <= 0 or not self.events:
            return 0
        gone = self.events[: surplus + _AT_ONCE]
        self._gone.append((len(gone), max(event.timestamp for event in gone)))
        self.events = self.events[len(gone) :]  # a new list, because requests walk through the one that is there
        return len(gone)

    def get_log_events(
        self, start_time: Any, end_time: Any, limit: Any, next_token: Any, start_from_head: Any
    ) -> tuple[list[dict[str, Any]], str | None, str | None]:
        """As moto, whose tokens are the numbers of lines among those that are asked for."""
        gone = sum(count for count, last in self._gone if last >= (start_time or 0))
        token = _moved(next_token, -gone)
        events, back, on = super().get_log_events(start_time, end_time, limit, token, start_from_head)
        return events, _moved(back, gone), _moved(on, gone)


def _bounded(group: Any, name: str) -> _Bounded:
    """A stream of a group, which is made at need."""
    found = group.streams.get(name)
    if isinstance(found, _Bounded):
        return found
    made: Any = _Bounded
    bounded: _Bounded = made(group, name)
    if found is not None:  # a client has made it
        bounded.events = [*found.events]
    # a new dictionary, because requests walk through the one that is there
    group.streams = {**group.streams, name: bounded}
    return bounded


def _moved(token: str | None, by: int) -> str | None:
    """A token for a line that is so many further on; one before the first line stands for the start."""
    if token is None or not token[2:].lstrip("-").isdigit():  # which moto refuses
        return token
    return f"{token[:2]}{max(-1, int(token[2:]) + by):056d}"
