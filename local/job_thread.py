"""What all jobs have in common: a thread each, whose end is known whatever happens."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Final

from ..errors import AlgorithmError, ClaryError, UserError
from .edge import guarded
from .platform import Platform
from .store import Thing, insist

__all__ = ["UNFINISHED", "JobThread", "PlatformEnds", "WholeReasonError", "blame"]

UNFINISHED: Final = ("InProgress", "Stopping")
"""Statuses of jobs that have not ended."""

_TICK: Final = 0.1  # seconds
_LONGEST: Final = 1024  # characters of a reason
_AT_ONCE: Final = threading.BoundedSemaphore(max(2, os.cpu_count() or 1))
"""Jobs that have containers at a time; others wait for their turn."""


class PlatformEnds(Exception):  # noqa: N818  # no error: the next platform goes on
    """The platform ends before the job does."""


class WholeReasonError(ClaryError):
    """An error whose message is the whole reason of a failure."""


class JobThread(threading.Thread):
    """A job that runs; implements `clary.local.platform.Job`.

    Parameters
    ----------
    platform
        On which it runs.
    name
        Of the job, which the store knows.

    Attributes
    ----------
    document
        What describes the job, as it was when the thread began.
    """

    kind: ClassVar[str]
    """As in the job's ARN."""

    noun: ClassVar[str]
    """How the names of fields begin."""

    status: ClassVar[str]
    """The field of the status."""

    called: ClassVar[str]
    """How people are told of such a job."""

    title: ClassVar[str]
    """The same in full, at the beginning of a sentence."""

    def __init__(self, platform: Platform, name: str) -> None:
        super().__init__(name=f"{self.kind} {name}", daemon=True)
        self.platform = platform
        self.job = name
        self.document: dict[str, Any] = {}
        self._folder: Path | None = None
        self.stopping = threading.Event()

    @classmethod
    def begin(cls, platform: Platform, name: str, *given: Any) -> None:
        """Run a job, unless it is run already: it may be made while those of before are taken up."""
        with platform.beginning:
            if (cls.kind, name) in platform.jobs:
                return
            job = platform.jobs[cls.kind, name] = cls(platform, name, *given)
        job.start()

    @staticmethod
    def note_stopping(document: dict[str, Any]) -> None:
        """Note what else there is to be known of a job that is to stop."""

    @abstractmethod
    def work(self) -> dict[str, Any]:
        """Do the job; give the fields that tell of its end.

        Raises
        ------
        PlatformEnds
            When the next platform has to go on.
        ClaryError
            When the job fails.
        """

    @abstractmethod
    def failed(self, reason: str) -> dict[str, Any]:
        """The fields that tell of a failure."""

    def end(self, document: dict[str, Any], fields: Mapping[str, Any]) -> None:
        """Note the fields that tell of the end, and when that was."""
        document.update(fields, **{f"{self.noun.removesuffix('Job')}EndTime": time.time()})

    def change(self, edit: Callable[[dict[str, Any]], None]) -> None:
        """Change what describes the job, unless it is forgotten or the platform ends before that succeeds."""

        def write() -> None:
            with self.platform.store.changing(self.kind, self.job, self.status) as document:
                if document is not None:
                    edit(document)

        insist(write, self.platform.closing)

    def stop(self) -> None:
        """End the job with what it has so far."""
        self.stopping.set()

    def run(self) -> None:
        """Run the job, unless it has ended."""
        try:
            fields = guarded(self.name, self._fields, lambda why: self._ended_badly(f"InternalServerError: {why}"))
        finally:
            # before the end is known: from then on its name may be another job's
            self.platform.jobs.pop((self.kind, self.job), None)
        if fields is not None:
            self.change(lambda document: self.end(document, fields))
            self._clear()

    def _fields(self) -> dict[str, Any] | None:
        """What tells of the end; None where there is none, or the next platform goes on."""
        try:
            thing = self.platform.store.get(self.kind, self.job)
            if thing is None or thing.status not in UNFINISHED:
                return None
            self._read(thing)
            return self.work()
        except PlatformEnds:
            return None
        except ClaryError as error:
            return self._ended_badly(str(error) if isinstance(error, WholeReasonError) else f"{blame(error)}: {error}")

    def _ended_badly(self, reason: str) -> dict[str, Any] | None:
        # what the job needs may have ended before it does: then the next platform goes on
        return None if self.platform.closing.is_set() else self.failed(reason[:_LONGEST])

    def _read(self, thing: Thing) -> None:
        self.document = thing.document
        if thing.status == "Stopping":  # it was told so while nobody ran it
            self.stopping.set()

    def take_folder(self, run: str | None = None) -> Path:
        """Make the folder of this run alone, or take that of an earlier one; it is removed at the end.

        Each run has another, because containers of an earlier one may still be ending.
        """
        self._folder = self._of_run(run or secrets.token_hex(4))
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    def drop_folder(self, run: str) -> None:
        """Remove the folder of an earlier run."""
        shutil.rmtree(self._of_run(run), ignore_errors=True)

    def _of_run(self, run: str) -> Path:
        return self.platform.folder.work(f"{self.kind}s", self.job, run)

    @property
    def folder(self) -> Path:
        """The folder that was taken."""
        assert self._folder is not None  # noqa: S101  # jobs take one before they do anything
        return self._folder

    def _clear(self) -> None:
        """Remove the folder of the run, and that of the job if no other run has one there."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            with suppress(OSError):
                self._folder.parent.rmdir()

    @property
    def ending(self) -> bool:
        """Whether the job is to end before it is done."""
        return self.stopping.is_set() or self.platform.closing.is_set()

    def check_closing(self) -> None:
        """Leave the job to the next platform, where this one ends."""
        if self.platform.closing.is_set():
            raise PlatformEnds

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until not too many jobs have containers; one that is to end need not."""
        taken = False
        while not (taken or self.ending):
            taken = _AT_ONCE.acquire(timeout=_TICK)
        try:
            self.check_closing()
            yield
        finally:
            if taken:
                _AT_ONCE.release()


def blame(error: ClaryError) -> str:
    """Whose fault it is, as the first word of a FailureReason."""
    if isinstance(error, UserError):
        return "ClientError"
    return "AlgorithmError" if isinstance(error, AlgorithmError) else "InternalServerError"
