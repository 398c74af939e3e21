"""``clary transform``: a batch transform job on files of this machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ..errors import ArtifactError, UnsupportedContentTypeError, UsageError, UserError
from ..recordio.content import format_of_file
from .artifact import open_model
from .batch import BatchTransform, Outcome
from .batch_files import Files, find, in_manifest, writer
from .endpoint import LOOPBACK, served
from .formats import media_type
from .invoking import Server
from .screen import Progress, bar, smart, table
from .transform_job import TransformJob

__all__ = ["transform"]

_SCHEME: Final = "http://"
_PATIENCE: Final = 30  # seconds for a server that somebody else started


def transform(
    *,
    model: str,
    source: Path,
    out: Path,
    manifest: bool,
    compression: str | None,
    content_type: str | None,
    accept: str | None,
    env: Sequence[str],
    **words: Any,
) -> int:
    """Run a job over the files of `source` and write its answers to the folder `out`; give the exit code.

    Parameters
    ----------
    model
        A model archive or directory, or the address of a server, beginning with ``http://``.
    source
        A file, a directory, or with `manifest` a ManifestFile.
    out
        The folder for the answers.
    compression
        None goes by the suffixes of the files.
    content_type
        None goes by them too.
    words
        Other settings of the job; one that is None was not asked for.
    """
    if out.resolve() == source.resolve() or source.resolve() in out.resolve().parents:
        raise UsageError(f"{out} is in {source}: its files would be taken for input the next time")
    found = in_manifest(source) if manifest else find(source)
    media = _common_type(found) if content_type is None else media_type(content_type)
    job = TransformJob(
        content_type=media,
        accept=media_type(accept or ""),
        environment=_variables(env),
        **{name: value for name, value in words.items() if value is not None},
    )
    batch = BatchTransform(job)
    files = Files(found, None if compression is None else compression == "Gzip")
    began = time.monotonic()
    with _server(model, job) as server:
        outcomes = _watched(batch, server, files, out, len(found))
    if smart(sys.stdout.isatty()):
        print(_summary(outcomes, time.monotonic() - began))
    return UserError.exit_code if any(outcome.error for outcome in outcomes) else 0


def _watched(batch: BatchTransform, server: Server, files: Files, out: Path, count: int) -> list[Outcome]:
    """Run the job; say of each file that fails why, and on a terminal how far it is."""
    outcomes: list[Outcome] = []
    progress = Progress(_to_stderr)
    draw = partial(progress.draw, lambda: _text(files.share, len(outcomes), count, batch.requests))
    tick = draw if smart(sys.stderr.isatty()) else None
    try:
        with closing(batch.run(server, files, writer(out), tick=tick)) as running:
            for outcome in running:
                outcomes.append(outcome)
                if outcome.error:
                    progress.clear()
                    print(f"clary: {outcome.name}: {outcome.error}", file=sys.stderr)
    finally:
        progress.clear()
    return outcomes


@contextmanager
def _server(model: str, job: TransformJob) -> Iterator[Server]:
    """The server that is asked, and ready."""
    timeout, retries = job.invocations_timeout_in_seconds, job.invocations_max_retries
    if model.startswith(_SCHEME):
        if job.environment:
            raise UsageError("--env is for a server that is started here: the one at an address has its own")
        server = Server(*_address(model), timeout=timeout, retries=retries)
        server.wait(_PATIENCE)
        yield server
        return
    with open_model(Path(model)) as folder:
        try:
            with served(folder, job.variables) as port:
                yield Server(LOOPBACK, port, timeout=timeout, retries=retries)
        except ArtifactError as error:
            raise ArtifactError(f"{model}: {error}") from error


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    try:
        port = parts.port or 80
    except ValueError as error:
        raise UsageError(f"{url}: {error}") from error
    if not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise UsageError(f"{url} is no address of a server: write http://HOST:PORT")
    return parts.hostname, port


def _common_type(files: Mapping[str, Path]) -> str:
    """The content type that the suffixes of the files tell; empty where they tell none.

    Raises
    ------
    UsageError
        When they tell several: a job has one.
    """
    found: dict[str, str] = {}
    for name in files:
        try:
            found.setdefault(format_of_file(name).media_types[0], name)
        except UnsupportedContentTypeError:
            continue
    if len(found) > 1:
        names = " and ".join(list(found.values())[:2])
        raise UsageError(f"{names} have different formats: a job has one, say which with --content-type")
    return next(iter(found), "")


def _variables(words: Sequence[str]) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    if wrong := next(
        (word for word, (name, equals, _) in zip(words, pairs, strict=True) if not name or not equals), ""
    ):
        raise UsageError(f"--env {wrong}: write it as NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _text(share: float, done: int, count: int, requests: int) -> str:
    return f"{bar(share)}  {done} of {count} files  {requests} requests"


def _summary(outcomes: Sequence[Outcome], seconds: float) -> str:
    written = [outcome for outcome in outcomes if not outcome.error]
    known = [outcome.records for outcome in written if outcome.records is not None]
    records = str(sum(known)) if len(known) == len(written) else "-"
    requests = str(sum(outcome.requests for outcome in outcomes))
    failed = str(len(outcomes) - len(written))
    head = ("files", "failed", "records", "requests", "seconds")
    return table([head, (str(len(written)), failed, records, requests, f"{seconds:.1f}")])


def _to_stderr(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
