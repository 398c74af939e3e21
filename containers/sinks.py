"""Where converted rows go: one file or several, of one of the formats that can be written."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, cast

from ..errors import DataError, UsageError
from ..recordio.batch import CSR, Batch
from ..recordio.csv import write_csv
from ..recordio.libsvm import write_libsvm
from ..recordio.npy import npy_writer, npz_writer
from ..recordio.writer import write_batch
from .files import naming, output

__all__ = ["Target"]

_DENSE: Final = ("csv", "npy")
_WHOLE: Final = ("npy", "npz")  # written with their numbers of rows, so neither streamed nor compressed
_SHARE: Final = 100  # rows that go to one shard before the next one's turn, at most
_SHARDS: Final = 1000  # a process may commonly have 1024 files open
_SHARDS_NPZ: Final = 200  # each has an open file for every array too
_CELLS: Final = 1 << 20  # numbers of a dense array that sparse rows are laid into at once

Add = Callable[[Batch], object]


@dataclass(frozen=True, slots=True)
class Target:
    """A file to write, or several.

    Parameters
    ----------
    out
        Its path, ``-`` for standard output; with the suffix ``.gz`` it is compressed.
    format
        One of csv, libsvm, npy, npz, recordio.
    shards
        Number of files. Rows are dealt to them a few at a time, so that they are about equal and the input need not
        be counted first.
    dtype
        Of the numbers.
    sparse
        Whether only values that are not zero are written; None leaves rows as they are.
    first_index
        Number of the first column in libsvm.
    """

    out: str
    format: str
    shards: int = 1
    dtype: str = "float32"
    sparse: bool | None = None
    first_index: int = 1

    @property
    def paths(self) -> list[Path]:
        """The files."""
        if self.shards == 1:
            return [] if self.out == "-" else [Path(self.out)]
        path = Path(self.out)
        end = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
        stem = path.name.removesuffix(end)
        return [path.with_name(f"{stem}-{i:05d}-of-{self.shards:05d}{end}") for i in range(self.shards)]

    def write(self, batches: Iterable[Batch]) -> int:
        """Write all rows, give their number; no file appears before all are complete.

        Raises
        ------
        UsageError
            When the format has no such form.
        DataError
            When there is no row, or the format has no place for what a row has.
        """
        self._check()
        turns = _Turns(self.shards)
        empty = None
        with ExitStack() as stack:
            names = [str(path) for path in self.paths] or [self.out]
            adds = [stack.enter_context(self._open(name)) for name in names]
            for batch in batches:
                for part in self._parts(batch):
                    empty = part[:0]
                    for shard, rows in turns.deal(part):
                        adds[shard](rows)
            if empty is None:
                raise DataError("there are no rows")
            for add in adds[turns.rows :]:
                add(empty)  # npy and npz keep the width
        return turns.rows

    def _check(self) -> None:
        if self.sparse and self.format in _DENSE:
            raise UsageError(f"{self.format} has no sparse form: write recordio, libsvm or npz")
        if self.sparse is False and self.format == "libsvm":
            raise UsageError("libsvm has no dense form: write recordio, csv, npy or npz")
        most = _SHARDS_NPZ if self.format == "npz" else _SHARDS
        if self.shards > most:
            raise UsageError(f"--shards {self.shards}: at most {most} files of {self.format} are written at once")
        if self.out == "-" and (self.shards > 1 or self.format in _WHOLE):
            raise UsageError(f"{'several files' if self.shards > 1 else self.format} cannot go to standard output")
        if self.out.endswith(".gz") and self.format in _WHOLE:
            raise UsageError(f"{self.format} is not compressed as a whole: leave off .gz")

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        """Rows in the wanted form, in pieces of a size that memory holds."""
        if batch.weights is not None and self.format != "libsvm":
            raise DataError(f"{self.format} has no place for the weights of rows: write libsvm")
        if batch.queries is not None and self.format != "libsvm":
            raise DataError(f"{self.format} has no place for the query numbers of rows (qid:): write libsvm")
        batch = batch.astype(self.dtype)  # type: ignore[arg-type]  # a dtype's name is one
        dense = self.format in _DENSE or self.sparse is False
        step = len(batch)
        if dense and isinstance(batch.features, CSR):
            step = max(1, _CELLS // max(1, batch.width))
        for start in range(0, len(batch), max(1, step)):
            part = batch[start : start + step]
            if dense:
                yield replace(part, features=part.dense())
            elif self.sparse and not isinstance(part.features, CSR):
                yield replace(part, features=CSR.from_dense(part.features))
            else:
                yield part

    @contextmanager
    def _open(self, name: str) -> Iterator[Add]:
        with output(name) as stream:
            if self.format == "npy":
                with npy_writer(stream) as add:
                    yield add
            elif self.format == "npz":
                with npz_writer(stream, Path(name).absolute().parent) as add:
                    yield naming(Path(name))(add)  # the arrays are in files of their own first
            elif name.endswith(".gz"):
                with gzip.GzipFile("", "wb", fileobj=stream, mtime=0) as zipped:
                    yield self._writer(cast("BinaryIO", zipped))
            else:
                yield self._writer(stream)

    def _writer(self, stream: BinaryIO) -> Add:
        if self.format == "csv":
            return lambda batch: write_csv(stream, [batch])
        if self.format == "libsvm":
            return lambda batch: write_libsvm(stream, [batch], first_index=self.first_index)
        return partial(write_batch, stream)


@dataclass(slots=True)
class _Turns:
    """Which shard the next rows go to.

    Every round deals the same number of rows to each shard: a single one at first, and never more than about a tenth
    of what it already has, so that shards are about equal wherever the data ends.
    """

    shards: int
    rows: int = 0
    _shard: int = field(default=0, init=False)
    _share: int = field(default=1, init=False)
    _left: int = field(default=1, init=False)

    def deal(self, batch: Batch) -> Iterator[tuple[int, Batch]]:
        """The rows in parts, each with the number of its shard."""
        start = 0
        while start < len(batch):
            part = batch[start:] if self.shards == 1 else batch[start : start + self._left]
            yield self._shard, part
            start += len(part)
            self.rows += len(part)
            self._left -= len(part)
            if self._left <= 0:
                self._next()

    def _next(self) -> None:
        self._shard = (self._shard + 1) % self.shards
        if not self._shard:
            self._share = max(1, min(_SHARE, self.rows // (10 * self.shards)))
        self._left = self._share
