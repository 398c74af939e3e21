"""RecordIO-protobuf → batches, fast and in bounded memory.

A block of about a megabyte is read, and as many of its records as possible are decoded together:

1. runs of one kind, by the compiled kernel (`runs`); without it, dense ones like the one before, at a constant stride
   (`template`): compared, not parsed;
2. dense records of several layouts, and
3. sparse ones: all parsed at once with array operations (`wire`);
4. anything else, record by record through the protobuf library (`record`).

A record that a block holds only in part is carried over to the next. Nothing is skipped: a stream either ends
exactly where a frame ends, or an error names the record and the byte.
"""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from .. import native
from ..errors import CorruptRecordError, DataError
from . import framing, ragged, record, wire
from .batch import Array, Batch, concatenate, rebatch
from .framing import MAGIC_BYTES, Frame
from .runs import Runs, read_whole
from .template import Template

__all__ = ["read_batches", "read_body", "read_views"]

BLOCK: Final = 1 << 20
"""Bytes of a block; larger ones leave the processor's cache."""

_FEW: Final = 8  # fewer records at a constant stride are not worth a batch of their own


def read_batches(
    source: BinaryIO | str | os.PathLike[str], size: int | None = None, *, dtype: Any = None, block_bytes: int = BLOCK
) -> Iterator[Batch]:
    """Batches of the records of a stream, a file or a directory.

    Parameters
    ----------
    source
        A binary stream, anything with ``readinto``; or the path of a file, a FIFO, or a directory whose files, but
        for those whose name begins with a dot, are read one after the other in the order of their paths.
    size
        Rows of a batch; by default as they come, block by block.
    dtype
        Of the features and labels; by default as in the records, which is float32, float64 or int32.
    block_bytes
        How much is read at once.

    Raises
    ------
    CorruptRecordError
        When a frame or record is cut or odd, or has another number of features than those before in its stream.
        Records before it have been yielded.
    DataError
        When the files of a directory differ in the number of features.

    Examples
    --------
    >>> from clary.recordio.writer import write_batch
    >>> file = io.BytesIO()
    >>> write_batch(file, Batch(np.array([[1., 2.], [3., 4.]], np.float32), np.array([0., 1.], np.float32)))
    >>> _ = file.seek(0)
    >>> [(batch.features.tolist(), batch.labels.tolist()) for batch in read_batches(file)]
    [([[1.0, 2.0], [3.0, 4.0]], [0.0, 1.0])]
    """
    batches = _views(source, block_bytes)
    if dtype is not None:
        batches = (batch.astype(dtype) for batch in batches)
    return (concatenate([batch]) for batch in batches) if size is None else rebatch(batches, size)


def _views(source: BinaryIO | str | os.PathLike[str], block_bytes: int) -> Iterator[Batch]:
    """Batches of all streams of a source, as views."""
    if not isinstance(source, (str, os.PathLike)):
        yield from _Decoder(source, block_bytes).batches()
        return
    root, width = Path(source), None
    for path in sorted(_files(root)) if root.is_dir() else [root]:
        with path.open("rb", buffering=0) as stream:
            for batch in _Decoder(stream, block_bytes).batches():
                width = batch.width if width is None else width
                if batch.width != width:
                    raise DataError(f"{path} has {batch.width} features, the files before have {width}")
                yield batch


def _files(folder: Path) -> list[Path]:
    """Files below a folder, without those that are hidden."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def read_views(stream: BinaryIO) -> Iterator[Batch]:
    """The same batches, block by block, without a copy: each holds until the next is asked for."""
    return _Decoder(stream, BLOCK).batches()


def read_body(body: bytes) -> Batch:
    """All records of a request's body; a body without frames is one bare record.

    Batch transform with ``SplitType=RecordIO`` takes the frames off.

    Raises
    ------
    DataError
        When there is no record, or one is cut or odd.
    """
    if body[:4] == MAGIC_BYTES:
        whole = read_whole(body)
        return concatenate(list(read_batches(io.BytesIO(body))) if whole is None else [whole])
    frame = Frame(0, 0, (body,))
    return record.to_batch(record.parse_record(frame), number=0, offset=0)


class _Decoder:
    """Reads blocks and keeps count of records and bytes.

    A batch is a view of the block and holds until the next is asked for.
    """

    def __init__(self, stream: BinaryIO, block_bytes: int) -> None:
        self.stream = stream
        self.capacity = max(64, framing.padded(block_bytes))
        self.block = np.empty(0, np.uint8)
        self.runs = Runs(0)
        self.size = 0  # valid bytes of the block
        self.ended = False
        self.record = 0  # number of the record at the beginning of the block
        self.offset = 0  # its byte offset in the stream
        self.width: int | None = None
        self.label_width: int | None = None
        self.template: Template | None = None
        self.regular = True  # whether records may have one template, as far as the last ones tell

    def batches(self) -> Iterator[Batch]:
        used = 0
        while self._fill(used):
            used = 0
            for batch, after in self._decode():
                self._check_width(batch)
                yield batch
                self.record += len(batch)
                self.offset += after - used
                used = after
            if used == self.size:
                continue
            if self.ended:
                self._refuse_rest(used)
            if not used:
                self._check_next()
                self.capacity *= 2  # a record larger than a block

    def _fill(self, used: int) -> bool:
        """Read the next block behind what is left of this one; False at a clean end."""
        left = self.size - used
        rest = self.block[used : self.size]
        block = self.block
        if len(block) != self.capacity + wire.SLACK:
            block = np.zeros(self.capacity + wire.SLACK, np.uint8)
            self.runs = Runs(self.capacity)
        block[:left] = rest
        view = memoryview(block.data)[: self.capacity]
        size = left
        while size < self.capacity and not self.ended:
            count = self.stream.readinto(view[size:])  # type: ignore[attr-defined]
            framing.check_ready(count)
            self.ended = not count
            size += count
        self.block, self.size = block, size
        return size > 0

    def _decode(self) -> Iterator[tuple[Batch, int]]:
        """Batches of the block's whole records, each with the position after it.

        `batches` counts up `record` and `offset` for each one before it asks for the next.
        """
        used = 0
        for batch, used in self._alike() if native.kernels is None else self.runs.read_all(self.block, self.size):
            yield batch, used
        frames = framing.scan(self.block[used:], self.size - used)
        if not len(frames.starts):
            return
        parts: list[bytes] = []
        starts, lengths = frames.starts + used + framing.HEADER.size, frames.lengths
        split = np.flatnonzero(frames.flags)
        plain = int(split[0]) if len(split) else len(starts)
        yield from self._decode_plain(starts[:plain], lengths[:plain])
        begin = int(starts[plain]) - framing.HEADER.size if len(split) else 0
        for start, length, flag in zip(starts[plain:], lengths[plain:], frames.flags[plain:], strict=True):
            place = self.offset + int(start) - framing.HEADER.size - begin
            framing.check_order(int(flag), bool(parts), self.record, place)
            parts.append(self.block[start : start + length].tobytes())
            if flag in (framing.WHOLE, framing.LAST):
                begin = int(start) + framing.padded(int(length))
                yield self._decode_one(tuple(parts)), begin
                parts = []

    def _alike(self) -> Iterator[tuple[Batch, int]]:
        """The records at the front that have one template, where there are any."""
        rows = self._match()
        if rows and self.template is not None:
            yield self.template.batch(self.block, rows), rows * self.template.stride

    def _match(self) -> int:
        """Number of records at the front that have one template, made anew where the last one does not fit."""
        for fresh in (False, True):
            if fresh:
                self.template = Template.of(self.block, self.size) if self.regular else None
            if self.template is None:
                continue
            rows = self.template.matching(self.block, self.size)
            if rows >= _FEW or (rows and rows == self.size // self.template.stride):
                return rows
        return 0

    def _decode_plain(self, starts: Array, lengths: Array) -> Iterator[tuple[Batch, int]]:
        """Records that are whole, in runs of one layout."""
        if not len(starts):
            return
        layout = wire.parse(self.block, starts, lengths)
        ends = starts + ((lengths + 3) & ~3)
        borders = ragged.borders(layout)
        self.regular = not (layout.known[-1] and layout.features.keys_size[-1])
        for low, high in itertools.pairwise(borders):
            if layout.known[low]:
                yield from self._decode_run(layout, slice(low, high), ends)
                continue
            for i in range(low, high):
                payload = self.block[starts[i] : starts[i] + lengths[i]].tobytes()
                yield self._decode_one((payload,)), int(ends[i])

    def _decode_run(self, layout: wire.Layout, run: slice, ends: Array) -> Iterator[tuple[Batch, int]]:
        """Records of one layout; those before a wrong one come out before it is told, as if it had begun a block."""
        try:
            batch = ragged.batch(self.block, layout, run)
        except ragged.RowError as error:
            if not error.row:
                raise CorruptRecordError(error.reason, record=self.record, offset=self.offset) from error
            border = run.start + error.row
            yield from self._decode_run(layout, slice(run.start, border), ends)
            yield from self._decode_run(layout, slice(border, run.stop), ends)
            return
        yield batch, int(ends[run.stop - 1])

    def _decode_one(self, parts: tuple[bytes, ...]) -> Batch:
        """The next record, through the protobuf library."""
        message = record.parse_record(Frame(self.record, self.offset, parts))
        return record.to_batch(message, number=self.record, offset=self.offset)

    def _check_width(self, batch: Batch) -> None:
        self.width = batch.width if self.width is None else self.width
        if batch.width != self.width:
            reason = f"the record has {batch.width} features, those before have {self.width}"
            raise CorruptRecordError(reason, record=self.record, offset=self.offset)
        if batch.labels is None:
            return
        width = 1 if batch.labels.ndim == 1 else batch.labels.shape[1]
        self.label_width = width if self.label_width is None else self.label_width
        if width != self.label_width:
            reason = f"the record has {width} labels, those before have {self.label_width}"
            raise CorruptRecordError(reason, record=self.record, offset=self.offset)

    def _check_next(self) -> None:
        """Refuse a block without a whole record where the next frame, whose header may be cut, is none."""
        end = framing.scan(self.block, self.size).end
        if self.size - end >= framing.HEADER.size:
            magic, _ = framing.HEADER.unpack_from(self.block.data, end)
            framing.check_magic(magic, self.record, self.offset + end)

    def _refuse_rest(self, used: int) -> None:
        """The stream has ended and what is left of it is no whole record: let the plain reader say why."""
        rest = io.BytesIO(self.block[used : self.size].tobytes())
        try:
            for _ in framing.read_frames(rest):
                pass
        except CorruptRecordError as error:
            offset = self.offset + error.offset
            raise CorruptRecordError(error.reason, record=self.record + error.record, offset=offset) from None
