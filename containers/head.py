"""The first rows of a data file, for people."""

from __future__ import annotations

from collections.abc import Iterator

from ..recordio.batch import CSR, Array, Batch
from .formats import Options, format_name, open_input

__all__ = ["head"]

_SHOWN = 12  # values of a row


def head(*, source: str, count: int, source_format: str | None, label_size: int) -> None:
    """Print what kind of rows a file has, and its first `count`."""
    kind = format_name(source, source_format, "--from")
    left = count
    with open_input(source) as given:
        for number, batch in enumerate(given.batches(kind, Options(label_size))):
            if not number:
                print(f"{given.name}: {kind}, {_describe(batch)}")
            for line in _lines(batch[:left]):
                print(line)
            left -= len(batch)
            if left <= 0:
                return
        if left == count:
            print(f"{given.name}: {kind}, no rows")


def _describe(batch: Batch) -> str:
    form = "sparse" if isinstance(batch.features, CSR) else "dense"
    parts = [f"{batch.width} features", f"{form} {batch.features.dtype}"]
    if batch.labels is not None:
        parts.append("labelled")
    if batch.weights is not None:
        parts.append("weighted")
    return ", ".join(parts)


def _lines(batch: Batch) -> Iterator[str]:
    for i in range(len(batch)):
        label = "" if batch.labels is None else f"{_join(batch.labels[i].reshape(-1))} | "
        if isinstance(batch.features, CSR):
            row = batch.features[i : i + 1]
            pairs = [f"{index}:{value:g}" for index, value in zip(row.indices, row.values, strict=True)]
            yield label + _shorten(pairs)
        else:
            yield label + _join(batch.features[i])


def _join(values: Array) -> str:
    return _shorten([f"{value:g}" for value in values])


def _shorten(words: list[str]) -> str:
    return " ".join(words if len(words) <= _SHOWN else [*words[: _SHOWN - 2], "…", *words[-1:]])
