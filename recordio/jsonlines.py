"""JSON and JSON Lines requests to batches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np

from ..errors import DataError
from .batch import CSR, Array, Batch
from .text import BYTE_ORDER_MARK, float32, line_blocks

__all__ = ["read_json", "read_jsonlines"]

WIDEST = 1 << 53
FORMS = (
    '{"features": [...]} or {"data": {"features": {"values": [...]}}}, sparse with "keys" and "shape" beside "values"'
)


def read_json(body: bytes) -> Batch:
    """Read a request of the form ``{"instances": [...]}``.

    Each instance is ``{"features": F}`` or ``{"data": {"features": F}}``, where F is a list of numbers,
    ``{"values": [...]}``, or sparse: ``{"keys": [...], "shape": [d], "values": [...]}``. An instance's
    ``configuration`` is ignored. Features are dense where all instances are, and `CSR` otherwise.

    Raises
    ------
    DataError
        With the number of the instance, counted from zero, as in ``instances[3]``.

    Examples
    --------
    >>> read_json(b'{"instances": [{"features": [1, 2]}, {"data": {"features": {"values": [3, 4.5]}}}]}').features
    array([[1. , 2. ], [3. , 4.5]], dtype=float32)
    """
    document = _load(body.removeprefix(BYTE_ORDER_MARK), "the body")
    if not isinstance(document, dict) or "instances" not in document:
        raise DataError('the body has no "instances": write {"instances": [{"features": [...]}, ...]}')
    instances = document["instances"]
    if not isinstance(instances, list):
        raise DataError(f'"instances" is {_kind(instances)}, not a list')
    if not instances:
        raise DataError('"instances" is empty')
    return _batch([_row(instance, f"instances[{number}]") for number, instance in enumerate(instances)])


def read_jsonlines(source: BinaryIO | bytes, *, block_bytes: int = 1 << 20) -> Iterator[Batch]:
    r"""Read one instance a line, in any of the forms of `read_json`, in bounded memory; empty lines are skipped.

    Raises
    ------
    DataError
        With the number of the line, counted from one.

    Examples
    --------
    >>> [batch] = read_jsonlines(b'{"features": [1, 2]}\n{"features": {"keys": [1], "shape": [2], "values": [3]}}\n')
    >>> batch.features.toarray()
    array([[1., 2.], [0., 3.]], dtype=float32)
    """
    width: int | None = None
    for first, block in line_blocks(BytesIO(source) if isinstance(source, bytes) else source, block_bytes):
        rows = [_row(_load(text, f"line {line}"), f"line {line}") for line, text in _filled(block, first)]
        if rows:
            batch = _batch(rows, width)
            width = batch.width
            yield batch


@dataclass(frozen=True, slots=True)
class _Row:
    """One instance: all its values, or those in the columns `keys`; `place` names it in errors."""

    place: str
    values: Array
    width: int
    keys: Array | None


def _filled(block: bytes, first: int) -> Iterator[tuple[int, bytes]]:
    """The lines of a block that have something in them, numbered."""
    return ((line, text) for line, text in enumerate(block.split(b"\n"), first) if text.strip())


def _load(text: bytes, place: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise DataError(f"{place} is JSON nested too deeply") from error
    except ValueError as error:
        raise DataError(f"{place} is not JSON: {error}") from error


def _row(instance: Any, place: str) -> _Row:
    tensor = _features(instance, place)
    if isinstance(tensor, list):
        tensor = {"values": tensor}
    if not isinstance(tensor, dict) or "values" not in tensor:
        raise DataError(f'{place}: "features" is {_kind(tensor)}, not a list of numbers nor {{"values": [...]}}')
    values = _numbers(tensor["values"], place)
    if "keys" in tensor:
        width = _width(tensor.get("shape"), place)
        return _Row(place, values, width, _keys(tensor["keys"], len(values), width, place))
    if not len(values):
        raise DataError(f"{place} has no values")
    return _Row(place, values, len(values), None)


def _features(instance: Any, place: str) -> Any:
    """What stands under ``features``, itself perhaps under ``data``."""
    if isinstance(instance, dict):
        inner = instance.get("data", instance)
        if isinstance(inner, dict) and "features" in inner:
            return inner["features"]
    raise DataError(f"{place} has no features: write {FORMS}")


def _numbers(values: Any, place: str) -> Array:
    if not isinstance(values, list):
        raise DataError(f'{place}: "values" is {_kind(values)}, not a list of numbers')
    if not set(map(type, values)) <= {int, float}:  # bool is not int here
        at, wrong = next((at, value) for at, value in enumerate(values) if type(value) not in (int, float))
        raise DataError(f"{place}: value {at} is {_kind(wrong)}, not a number")
    try:
        return float32(np.array(values, np.float64))
    except OverflowError as error:
        raise DataError(f"{place} has an integer that is too large") from error


def _width(shape: Any, place: str) -> int:
    if not (isinstance(shape, list) and len(shape) == 1 and type(shape[0]) is int and 0 < shape[0] <= WIDEST):
        raise DataError(f'{place} has "keys", so it needs "shape": [number of columns]')
    return shape[0]


def _keys(keys: Any, count: int, width: int, place: str) -> Array:
    if not isinstance(keys, list) or not set(map(type, keys)) <= {int}:
        raise DataError(f'{place}: "keys" is not a list of integers')
    if len(keys) != count:
        raise DataError(f"{place} has {len(keys)} keys, but {count} values")
    outside = [key for key in keys if not 0 <= key < width]
    if outside:
        raise DataError(f"{place}: key {outside[0]} is outside shape [{width}]: keys count from 0")
    return np.array(keys, np.int64)


def _batch(rows: Sequence[_Row], width: int | None = None) -> Batch:
    width = rows[0].width if width is None else width
    for row in rows:
        if row.width != width:
            raise DataError(f"{row.place} has {row.width} features, those before it have {width}")
    if all(row.keys is None for row in rows):
        return Batch(np.stack([row.values for row in rows]))
    columns = [np.arange(width) if row.keys is None else row.keys for row in rows]
    indptr = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row.values) for row in rows], out=indptr[1:])
    values = np.concatenate([row.values for row in rows])
    return Batch(CSR(indptr, np.concatenate(columns), values, (len(rows), width)))


def _kind(value: Any) -> str:
    """What JSON calls the type of a value."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names: dict[type, str] = {dict: "an object", list: "a list", str: "a string"}
    return names.get(type(value), "a number")
