"""A batch transform job: records out of files to a server, its answers in order to files.

Nothing here knows what a file is: sources and sinks are given by whoever runs the job.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import BinaryIO, Final

from ..errors import ClaryError, DataError
from .invoking import Body, Server, ServerGoneError
from .joining import Processing
from .splitting import Piece, pack, place, split
from .transform_job import MIB, TransformJob

__all__ = ["BatchTransform", "Outcome", "Sink", "Source"]

_AHEAD: Final = 2  # requests that are ready or done, for each that is under way

Sink = Callable[[str], AbstractContextManager[BinaryIO]]
"""Opens the output of a source; what is written counts if the block ends well."""


@dataclass(frozen=True, slots=True)
class Source:
    """Something to read.

    Parameters
    ----------
    name
        By which it is known to the sink and to people.
    open
        Opens it as a buffered stream; with MaxPayloadInMB 0 once more for each retry.
    """

    name: str
    open: Callable[[], AbstractContextManager[BinaryIO]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a source.

    Parameters
    ----------
    name
        Of the source.
    records
        Number of records that were answered; None where they were streamed without a look at them.
    requests
        Number of answers.
    error
        Why there is no output.
    """

    name: str
    records: int | None
    requests: int
    error: ClaryError | None = None


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a source's output, and what makes it."""

    source: Source
    work: Callable[[], bytes]
    records: int | None = 0
    requests: int = 1


class BatchTransform:
    """A job that is ready to run.

    Parameters
    ----------
    job
        Its settings.

    Attributes
    ----------
    requests
        Number of answers so far.

    Raises
    ------
    UsageError
        When the settings do not fit together.
    """

    def __init__(self, job: TransformJob) -> None:
        self._job = job
        self._processing = Processing(job)
        self._failed: set[str] = set()
        self.requests = 0

    def run(
        self, server: Server, sources: Iterable[Source], sink: Sink, *, tick: Callable[[], object] | None = None
    ) -> Generator[Outcome, None, None]:
        """Transform all sources; one that fails keeps no other from its output.

        The server is closed at the end, also when the iterator is: requests do not outlive it.

        Parameters
        ----------
        server
            Who is asked. It answers pings.
        sources
            What is read; their names differ.
        sink
            Where answers go.
        tick
            Called after each answer.

        Raises
        ------
        ServerGoneError
            When nobody is there any more to be asked.
        """
        job = self._job.completed(server.execution_parameters())
        concurrent = job.max_concurrent_transforms or 1
        pool = ThreadPoolExecutor(concurrent, "transform")
        try:
            parts = _submitted(pool, self._parts(job, server, sources), _AHEAD * concurrent)
            for source, own in groupby(parts, lambda pair: pair[0].source):
                yield self._written(source, own, sink, tick)
        finally:
            server.stop()
            pool.shutdown(cancel_futures=True)
            server.close()

    def _written(
        self,
        source: Source,
        parts: Iterator[tuple[_Part, Future[bytes]]],
        sink: Sink,
        tick: Callable[[], object] | None,
    ) -> Outcome:
        records: int | None = 0
        requests = 0
        try:
            with sink(source.name) as out:
                for part, future in parts:
                    out.write(future.result())
                    requests += part.requests
                    self.requests += part.requests
                    records = None if records is None or part.records is None else records + part.records
                    if tick is not None:
                        tick()
        except ServerGoneError:
            raise
        except ClaryError as error:
            self._failed.add(source.name)
            for _, future in parts:
                future.cancel()
            return Outcome(source.name, records, requests, error)
        return Outcome(source.name, records, requests)

    def _parts(self, job: TransformJob, server: Server, sources: Iterable[Source]) -> Iterator[_Part]:
        """What is to be done, in order; a source without a record has a part too."""
        for source in sources:
            yield _Part(source, bytes, requests=0)
            try:
                for part in self._asked(job, server, source):
                    if source.name in self._failed:
                        break
                    yield part
            except ClaryError as error:
                yield _Part(source, partial(_fail, error))
            except OSError as error:
                yield _Part(source, partial(_fail, _unreadable(error)))

    def _asked(self, job: TransformJob, server: Server, source: Source) -> Iterator[_Part]:
        """The requests for a source."""
        single = job.batch_strategy == "SingleRecord"
        prepare, keep = self._processing.prepare, self._processing.keeps_records
        if not job.limit and not keep and prepare is None and (job.split_type == "None" or not single):
            if not _is_empty(source):
                count = 1 if job.split_type == "None" else None
                piece = Piece(0, 0, 1, b"")
                yield _Part(source, partial(self._answer, job, server, piece, partial(_streamed, source), ""), count)
            return
        with source.open() as stream:
            records = split(stream, job.split_type, framed=not single, limit=job.limit)
            for piece in pack(records, job.limit, single=single, prepare=prepare, keep=keep):
                body: Body = piece.body if job.limit else partial(iter, [piece.body])
                where = place(job.split_type, piece.first, piece.last)
                yield _Part(source, partial(self._answer, job, server, piece, body, where), piece.count)

    def _answer(self, job: TransformJob, server: Server, piece: Piece, body: Body, where: str) -> bytes:
        """What is written for a request."""
        given = {"Content-Type": job.content_type, "Accept": job.accept}
        try:
            answer = server.invoke(body, {name: value for name, value in given.items() if value})
            return self._processing.finish(piece, answer)
        except ServerGoneError:
            raise
        except ClaryError as error:
            raise type(error)(f"{where}: {error}" if where else str(error)) from error


def _submitted(pool: ThreadPoolExecutor, parts: Iterator[_Part], ahead: int) -> Iterator[tuple[_Part, Future[bytes]]]:
    """All parts in order, some of the later ones already in work."""
    waiting: deque[tuple[_Part, Future[bytes]]] = deque()
    for part in parts:
        waiting.append((part, pool.submit(part.work)))
        if len(waiting) > ahead:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def _fail(error: ClaryError) -> bytes:
    raise error


def _unreadable(error: OSError) -> DataError:
    return DataError(f"it cannot be read: {error.strerror or error}")


def _is_empty(source: Source) -> bool:
    with source.open() as stream:
        return not stream.read(1)


def _streamed(source: Source) -> Iterator[bytes]:
    """What a source holds, piece by piece."""
    with source.open() as stream:
        while True:
            try:
                chunk = stream.read(MIB)
            except OSError as error:  # else it would pass for one of the connection
                raise _unreadable(error) from error
            if not chunk:
                return
            yield chunk
