"""Data from one format to another, in bounded memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial

from ..recordio.batch import Batch
from ..recordio.shingles import shingle_batches
from .files import size_text
from .formats import Input, Options, format_name, open_input
from .screen import Progress, bar, smart
from .sinks import Target

__all__ = ["convert"]


def convert(
    *,
    source: str,
    out: str,
    source_format: str | None,
    out_format: str | None,
    label_size: int,
    features: int | None,
    first_index: int,
    dtype: str,
    sparse: bool | None,
    shards: int,
    shingle: int,
) -> None:
    """Read the rows of `source` and write them, or their shingles, to `out`, which appears when it is complete."""
    kind = format_name(source, source_format, "--from")
    target = Target(out, format_name(out, out_format, "--to"), shards, dtype, sparse, first_index)
    with open_input(source) as given:
        batches = given.batches(kind, Options(label_size, features, first_index))
        if shingle > 1:
            batches = shingle_batches(batches, shingle)
        rows = target.write(_watched(given, batches))
    if sys.stderr.isatty():
        size = size_text(sum(path.stat().st_size for path in target.paths))
        print(f"{out}: {rows} rows, {size}", file=sys.stderr)


def _watched(given: Input, batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, with a progress line where somebody sees it."""
    if not smart(sys.stderr.isatty()):
        yield from batches
        return
    progress = Progress(_to_stderr)
    rows = 0
    try:
        for batch in batches:
            rows += len(batch)
            progress.draw(partial(_text, given, rows))
            yield batch
    finally:
        progress.clear()


def _text(given: Input, rows: int) -> str:
    share = given.share
    return f"{rows} rows" if share is None else f"{bar(share)}  {rows} rows"


def _to_stderr(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
