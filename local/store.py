"""What the local SageMaker knows, in SQLite: every job, model and endpoint, their tags and their metrics.

A thing is kept as the answer that describes it, with what only we need to know under names that begin with ``_``.
A change is one transaction, which survives a kill of the platform from when the call returns.
"""

from __future__ import annotations

import base64
import binascii
import copy
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import JSON, Engine, ForeignKeyConstraint, Index, create_engine, delete, event, func, select
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from ..logs import emit
from .faults import ValidationException

__all__ = ["Listing", "Metric", "Store", "TakenError", "Thing", "insist", "start_of", "token_of"]

_PAGE: Final = 10  # things that a List answer has where nothing else is asked for
_WAIT: Final = 30  # seconds for another writer
_LAST: Final = (1 << 63) - 1  # what SQLite can count to
_AGAIN: Final = 0.5  # seconds between two tries of a write that has to succeed

T = TypeVar("T")


class TakenError(Exception):
    """There is a thing of this kind and name."""


class _Base(DeclarativeBase):
    pass


class _Row(_Base):
    __tablename__ = "things"
    kind: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    parent: Mapped[str]
    created: Mapped[float] = mapped_column(index=True)
    modified: Mapped[float]
    document: Mapped[dict[str, Any]] = mapped_column(JSON)


class _Metric(_Base):
    __tablename__ = "metrics"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    job: Mapped[str]
    name: Mapped[str]
    time: Mapped[float]
    value: Mapped[float]
    __table_args__ = (
        Index("metrics_of", "kind", "job"),
        ForeignKeyConstraint(["kind", "job"], ["things.kind", "things.name"], ondelete="CASCADE"),
    )


class _Tag(_Base):
    __tablename__ = "tags"
    arn: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


@dataclass(frozen=True, slots=True)
class Thing:
    """A job, model or endpoint as it is now.

    Parameters
    ----------
    kind
        As in its ARN, ``training-job`` for one.
    name
        Of the thing.
    status
        Of a job or an endpoint; empty otherwise.
    parent
        Name of the tuning job that a training job belongs to; empty otherwise.
    created, modified
        Seconds since 1970.
    document
        What describes it; a copy.
    """

    kind: str
    name: str
    status: str
    parent: str
    created: float
    modified: float
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that a job has printed, and when, in seconds since 1970."""

    name: str
    time: float
    value: float


@dataclass(frozen=True, slots=True)
class Listing:
    """Which things a List operation asks for.

    Parameters
    ----------
    request
        Its parameters: NameContains, StatusEquals, CreationTimeAfter and so on, SortBy, SortOrder, MaxResults,
        NextToken.
    status
        Name of the parameter for the status.
    newest_first
        Order where none is asked for.
    """

    request: Mapping[str, Any]
    status: str = "StatusEquals"
    newest_first: bool = True


class Store:
    """Everything that is known.

    Parameters
    ----------
    path
        Of the database, which is made where it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self._engine: Engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": _WAIT})
        event.listen(self._engine, "connect", _prepare)
        _Base.metadata.create_all(self._engine)
        self._writing = threading.RLock()
        self._changed = threading.Condition()

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def add(
        self,
        kind: str,
        name: str,
        document: Mapping[str, Any],
        *,
        status: str = "",
        parent: str = "",
        tags: tuple[str, Mapping[str, str]] | None = None,
    ) -> Thing:
        """Keep a new thing, with the tags of its ARN.

        Raises
        ------
        TakenError
            When there is one of this kind and name.
        """
        now = time.time()
        row = _Row(kind=kind, name=name, status=status, parent=parent, created=now, modified=now, document=document)
        try:
            with self._change() as session:
                session.add(row)
                session.flush()
                if tags is not None:
                    _tag(session, *tags)
                return _thing(row)
        except IntegrityError as error:
            raise TakenError(f"there is a {kind} {name}") from error

    def get(self, kind: str, name: str) -> Thing | None:
        """The thing; None where there is none."""
        with Session(self._engine) as session:
            row = session.get(_Row, (kind, name))
            return None if row is None else _thing(row)

    def has(self, kind: str, name: str) -> bool:
        """Whether there is a thing of that name, as ARNs write it: in small letters."""
        query = select(_Row.name).where(_Row.kind == kind, func.lower(_Row.name) == name)
        with Session(self._engine) as session:
            return session.scalar(query.limit(1)) is not None

    def status(self, kind: str, name: str) -> str | None:
        """The status of a thing; None where there is none."""
        with Session(self._engine) as session:
            return session.scalar(select(_Row.status).where(_Row.kind == kind, _Row.name == name))

    def await_change(self, kind: str, name: str, statuses: Collection[str | None], timeout: float) -> bool:
        """Wait until a thing has none of these statuses; whether it has none within `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self.status(kind, name) not in statuses, timeout)

    @contextmanager
    def changing(self, kind: str, name: str, status: str | None = None) -> Iterator[dict[str, Any] | None]:
        """The document of a thing, kept as it is at the end of the block; None where there is no such thing.

        Parameters
        ----------
        kind, name
            Of the thing.
        status
            The field that has its status, kept beside the document.
        """
        with self._change() as session:
            row = session.get(_Row, (kind, name))
            if row is None:
                yield None
                return
            document = copy.deepcopy(row.document)
            yield document
            row.document = document
            row.modified = time.time()
            if status is not None:
                row.status = document[status]

    def remove(self, kind: str, name: str) -> bool:
        """Forget a thing with its metrics; whether there was one."""
        with self._change() as session:
            row = session.get(_Row, (kind, name))
            if row is not None:
                session.delete(row)
            return row is not None

    def all(self, kind: str, *, parent: str | None = None, statuses: Sequence[str] = ()) -> list[Thing]:
        """All things of a kind, the oldest first."""
        query = select(_Row).where(_Row.kind == kind).order_by(_Row.created, _Row.name)
        if parent is not None:
            query = query.where(_Row.parent == parent)
        if statuses:
            query = query.where(_Row.status.in_(statuses))
        with Session(self._engine) as session:
            return [_thing(row) for row in session.scalars(query)]

    def page(self, kind: str, listing: Listing, *, parent: str | None = None) -> tuple[list[Thing], str | None]:
        """The things that a List operation asks for, and the token for the rest, if there is one.

        Raises
        ------
        ValidationException
            When the token is none of ours.
        """
        asked = listing.request
        query = select(_Row).where(_Row.kind == kind)
        if parent is not None:
            query = query.where(_Row.parent == parent)
        if part := asked.get("NameContains"):
            query = query.where(_Row.name.contains(part, autoescape=True))
        if status := asked.get(listing.status):
            query = query.where(_Row.status == status)
        for column, field in ((_Row.created, "CreationTime"), (_Row.modified, "LastModifiedTime")):
            if (after := asked.get(f"{field}After")) is not None:
                query = query.where(column > float(after))
            if (before := asked.get(f"{field}Before")) is not None:
                query = query.where(column < float(before))
        by = {"Name": _Row.name, "Status": _Row.status}.get(asked.get("SortBy", ""), _Row.created)
        order = asked.get("SortOrder", "Descending" if listing.newest_first else "Ascending")
        falling = order.startswith("Desc")
        query = query.order_by(by.desc() if falling else by, _Row.name.desc() if falling else _Row.name)
        start, count = start_of(asked.get("NextToken")), int(asked.get("MaxResults", _PAGE))
        with Session(self._engine) as session:
            found = [_thing(row) for row in session.scalars(query.offset(start).limit(count + 1))]
        return found[:count], token_of(start + count) if len(found) > count else None

    def add_metrics(self, kind: str, job: str, metrics: Sequence[Metric]) -> None:
        """Keep what a job has printed."""
        rows = [_Metric(kind=kind, job=job, name=one.name, time=one.time, value=one.value) for one in metrics]
        with self._change() as session:
            if rows and session.get(_Row, (kind, job)) is not None:
                session.add_all(rows)

    def metrics(self, kind: str, job: str) -> list[Metric]:
        """What a job has printed, in order."""
        query = select(_Metric).where(_Metric.kind == kind, _Metric.job == job).order_by(_Metric.id)
        with Session(self._engine) as session:
            return [Metric(row.name, row.time, row.value) for row in session.scalars(query)]

    def tags(self, arn: str) -> dict[str, str]:
        """The tags of a thing."""
        with Session(self._engine) as session:
            return {row.key: row.value for row in session.scalars(select(_Tag).where(_Tag.arn == arn))}

    def tag(self, arn: str, tags: Mapping[str, str]) -> None:
        """Add or replace tags of a thing."""
        with self._change() as session:
            _tag(session, arn, tags)

    def untag(self, arn: str, keys: Sequence[str] | None = None) -> None:
        """Remove tags of a thing, by default all."""
        query = delete(_Tag).where(_Tag.arn == arn)
        with self._change() as session:
            session.execute(query if keys is None else query.where(_Tag.key.in_(keys)))

    @contextmanager
    def _change(self) -> Iterator[Session]:
        """A transaction; whoever waits for changes looks again at its end."""
        with self._writing, Session(self._engine) as session, session.begin():
            yield session
        with self._changed:
            self._changed.notify_all()


def insist(write: Callable[[], T], closing: threading.Event) -> T | None:
    """What a write returns, which is repeated until it succeeds or the platform ends: nobody else would write it.

    The database may be locked for a while, or the disk full.
    """
    while True:
        try:
            return write()
        except (OperationalError, OSError) as error:
            emit(f"what is known cannot be written, which is tried again: {error}")
        if closing.wait(_AGAIN):
            return None


def _prepare(connection: Any, _record: Any) -> None:
    """Set up a connection: readers do not wait for a writer, and what is written survives a kill."""
    for line in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {line}")


def _tag(session: Session, arn: str, tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        session.merge(_Tag(arn=arn, key=key, value=value))


def _thing(row: _Row) -> Thing:
    document = copy.deepcopy(row.document)
    return Thing(row.kind, row.name, row.status, row.parent, row.created, row.modified, document)


def token_of(start: int) -> str:
    """The NextToken of a page that begins there."""
    return base64.urlsafe_b64encode(str(start).encode()).decode()


def start_of(token: str | None) -> int:
    """Where a page begins."""
    if token is None:
        return 0
    try:
        start = int(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, binascii.Error):
        start = -1
    if not 0 <= start <= _LAST:
        raise ValidationException(f"NextToken {token!r} is none of this service's")
    return start
