"""Single records through the protobuf library: whatever the vectorised readers leave over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ..errors import CorruptRecordError, DataError
from .batch import CSR, Array, Batch
from .framing import Frame

if TYPE_CHECKING:
    from .record_pb2 import Record, Value

__all__ = ["parse_record", "to_batch"]

_TENSORS: Final[dict[str, np.dtype[Any]]] = {
    "float32_tensor": np.dtype(np.float32),
    "float64_tensor": np.dtype(np.float64),
    "int32_tensor": np.dtype(np.int32),
}


def parse_record(frame: Frame) -> Record:
    """The Record message of a frame.

    A record in parts is joined as Amazon's writers cut it and, where that does not parse, as MXNet's do.

    Raises
    ------
    CorruptRecordError
        When the payload is no Record message.
    """
    from google.protobuf.message import DecodeError

    from .record_pb2 import Record

    try:
        return Record.FromString(frame.payload)
    except DecodeError as error:
        if len(frame.parts) > 1:
            try:
                return Record.FromString(frame.payload_with_magic)
            except DecodeError:
                pass  # the first error is told
        raise CorruptRecordError(
            "the payload is no Record message", record=frame.number, offset=frame.offset
        ) from error


def to_batch(record: Record, *, number: int, offset: int) -> Batch:
    """One record as a batch of one row.

    Raises
    ------
    CorruptRecordError
        When the record has no usable features.
    """
    try:
        return Batch(_features(record), _label(record), ids=_ids(record))
    except UnicodeDecodeError as error:
        raise CorruptRecordError("a text in the record is not UTF-8", record=number, offset=offset) from error
    except DataError as error:
        raise CorruptRecordError(str(error), record=number, offset=offset) from error


def _pick(tensors: Any, what: str) -> Value | None:
    """The tensor named "values", or the only one there is."""
    if "values" in tensors:
        return tensors["values"]  # type: ignore[no-any-return]
    if len(tensors) > 1:
        names = ", ".join(sorted(repr(name) for name in tensors))
        raise DataError(f"the record has the {what} {names}: expected one, named 'values'")
    return next(iter(tensors.values()), None)


def _features(record: Record) -> Array | CSR:
    value = _pick(record.features, "features")
    if value is None:
        raise DataError("the record has no features")
    tensor, dtype = _tensor(value, "features")
    values = np.array(tensor.values, dtype)
    if not tensor.keys and (len(values) or not tensor.shape):
        return _dense(values, tensor.shape)
    if not tensor.shape:
        raise DataError("the sparse features have no shape")
    keys = np.array(tensor.keys, np.uint64)
    width = int(np.prod([int(size) for size in tensor.shape], dtype=object))
    if len(keys) != len(values):
        raise DataError(f"the sparse features have {len(keys)} keys for {len(values)} values")
    if len(keys) and int(keys.max()) >= width:
        raise DataError(f"the sparse features have a key of {int(keys.max())} in a row of {width} columns")
    if width > np.iinfo(np.int64).max:
        raise DataError(f"the sparse features have {width} columns")
    return CSR(np.array([0, len(keys)]), keys.astype(np.int64), values, (1, width))


def _dense(values: Array, shape: Any) -> Array:
    if not len(values):
        raise DataError("the features have no values")
    width = int(np.prod([int(size) for size in shape], dtype=object)) if shape else len(values)
    if width != len(values):
        raise DataError(f"the features have {len(values)} values for a shape of {width}")
    return values.reshape(1, -1)


def _label(record: Record) -> Array | None:
    value = _pick(record.label, "labels")
    if value is None:
        return None
    tensor, dtype = _tensor(value, "labels")
    if tensor.keys:
        raise DataError("the label is sparse")
    values = np.array(tensor.values, dtype)
    if not len(values):
        return None
    return values if len(values) == 1 else values.reshape(1, -1)


def _ids(record: Record) -> tuple[tuple[str, str]] | None:
    pair = (record.uid, record.metadata)
    for text in pair:
        text.encode() if isinstance(text, str) else bytes(text).decode()  # what is not UTF-8 comes as bytes
    return (pair,) if any(pair) else None


def _tensor(value: Value, what: str) -> tuple[Any, np.dtype[Any]]:
    name = value.WhichOneof("value") or "nothing"
    if name not in _TENSORS:
        raise DataError(f"the {what} hold {name}: expected numbers")
    return getattr(value, name), _TENSORS[name]
