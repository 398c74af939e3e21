"""Batches → RecordIO-protobuf, byte for byte as the SageMaker Python SDK writes it.

Dense rows of floats have one layout: the first row's record is copied for all and their numbers are laid into the
gaps. Other rows get their keys and integers encoded together, and are then put together one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, Final

import numpy as np

from ..errors import DataError
from . import wire
from .batch import CSR, Array, Batch
from .framing import HEADER, LENGTH_MASK, MAGIC, padded

__all__ = ["encode_columns", "write_batch"]

_BLOCK: Final = 1 << 20

_TENSOR_FIELDS: Final = {np.dtype(np.float32): 2, np.dtype(np.float64): 3, np.dtype(np.int32): 7}
_FEATURES, _LABEL, _UID, _METADATA = 1, 2, 3, 4


def write_batch(stream: BinaryIO, batch: Batch) -> None:
    """Write each row as one record with the features, and the label where there is one, under "values".

    Parameters
    ----------
    stream
        Binary, writable.
    batch
        Features and labels of dtype float32, float64, or an integer (written as int32, as the SDK does).

    Raises
    ------
    DataError
        For another dtype, integers that int32 cannot hold, or another number of labels than rows.

    Examples
    --------
    >>> import io
    >>> out = io.BytesIO()
    >>> write_batch(out, Batch(np.array([[1.5]], np.float32)))
    >>> out.getvalue()[8:].hex(" ")
    '0a 12 0a 06 76 61 6c 75 65 73 12 08 12 06 0a 04 00 00 c0 3f'
    """
    labels = None if batch.labels is None else _column(batch.labels)
    if labels is not None and len(labels) != len(batch):
        raise DataError(f"{len(labels)} labels for {len(batch)} rows")
    if isinstance(batch.features, CSR):
        rows = CSR(
            batch.features.indptr, batch.features.indices, wire_dtype(batch.features.values), batch.features.shape
        )
        stream.writelines(_frame(payload) for payload in _payloads(_sparse_tensors(rows), labels))
        return
    features = wire_dtype(batch.features)
    if np.int32 in (features.dtype, None if labels is None else labels.dtype):
        stream.writelines(_frame(payload) for payload in _payloads(_dense_tensors(features), labels))
        return
    columns = [(_FEATURES, "values", features)]
    if labels is not None:
        columns.append((_LABEL, "values", labels))
    for block in _filled(columns, len(features)):
        stream.write(block)


def encode_columns(columns: Mapping[str, Array], ids: tuple[tuple[str, str], ...] | None = None) -> bytes:
    """Answers as records: each row's values under their names in the label map, as float32.

    Parameters
    ----------
    columns
        Arrays of shape (n,) or (n, m).
    ids
        ``(uid, metadata)`` of each row, repeated in its record.

    Examples
    --------
    >>> encode_columns({"score": np.array([0.5])})[8:].hex(" ")
    '12 11 0a 05 73 63 6f 72 65 12 08 12 06 0a 04 00 00 00 3f 00'
    """
    arrays = [(_LABEL, name, _column(np.asarray(column, np.float32))) for name, column in columns.items()]
    rows = len(arrays[0][2])
    if ids is None:
        return b"".join(bytes(block) for block in _filled(arrays, rows))
    records = []
    for i, (uid, metadata) in enumerate(ids):
        payload = b"".join(_entry(field, name, _tensor_of(column[i])) for field, name, column in arrays)
        payload += _text(_UID, uid) + _text(_METADATA, metadata)
        records.append(_frame(payload))
    return b"".join(records)


def wire_dtype(array: Array) -> Array:
    """`array` in a dtype that a tensor can hold, in C order.

    Raises
    ------
    DataError
        For dtypes that the format has no tensor for.
    """
    if array.dtype in _TENSOR_FIELDS:
        return np.ascontiguousarray(array)
    if array.dtype != np.int64:
        raise DataError(f"Unsupported dtype {array.dtype} on array: use float32, float64, int32 or int64")
    small = array.astype(np.int32)
    if not np.array_equal(small, array):
        raise DataError("integers beyond 32 bits: the format's largest integer type is int32")
    return small


def _column(labels: Array) -> Array:
    """Labels of shape (n,) or (n, m) as (n, m)."""
    return wire_dtype(labels.reshape(len(labels), int(np.prod(labels.shape[1:]))))


def _filled(columns: list[tuple[int, str, Array]], rows: int) -> Iterator[memoryview]:
    """Records of one layout, block by block."""
    template = bytearray(HEADER.size)
    gaps = []
    for field, name, array in columns:
        entry = _entry(field, name, _tensor(array.dtype, array[0].tobytes() if rows else b""))
        template += entry
        gaps.append((len(template) - array[0].nbytes if rows else 0, array))
    if not rows:
        return
    _check_size(len(template) - HEADER.size)
    HEADER.pack_into(template, 0, MAGIC, len(template) - HEADER.size)
    template += bytes(padded(len(template)) - len(template))
    many = max(1, min(rows, _BLOCK // len(template)))
    block = np.empty((many, len(template)), np.uint8)
    block[:] = np.frombuffer(template, np.uint8)
    for start in range(0, rows, many):
        count = min(many, rows - start)
        for at, array in gaps:
            part = array[start : start + count]
            block[:count, at : at + part[0].nbytes] = part.view(np.uint8).reshape(count, -1)
        yield block[:count].data.cast("B")


def _payloads(tensors: Iterable[bytes], labels: Array | None) -> Iterator[bytes]:
    label_tensors = None if labels is None else list(_dense_tensors(labels))
    for i, tensor in enumerate(tensors):
        payload = _entry(_FEATURES, "values", tensor)
        yield payload if label_tensors is None else payload + _entry(_LABEL, "values", label_tensors[i])


def _dense_tensors(array: Array) -> Iterator[bytes]:
    """The serialised Value of each row."""
    if array.dtype != np.int32:
        return (_tensor(array.dtype, row.tobytes()) for row in array)
    data, ends = wire.encode_varints(array.reshape(-1).astype(np.int64).view(np.uint64))
    borders = np.concatenate([[0], ends])[np.arange(len(array) + 1) * array.shape[1]].tolist()
    packed = data.tobytes()
    return (_tensor(array.dtype, packed[borders[i] : borders[i + 1]]) for i in range(len(array)))


def _sparse_tensors(rows: CSR) -> Iterator[bytes]:
    """The serialised Value of each row."""
    data, ends = wire.encode_varints(rows.indices.astype(np.uint64))
    borders = np.concatenate([[0], ends])
    keys, key_borders = data.tobytes(), borders[rows.indptr].tolist()
    values, value_borders = _packed_values(rows)
    shape = _field(3, _varint(rows.shape[1]))
    for i in range(len(rows)):
        row_values = values[value_borders[i] : value_borders[i + 1]]
        row_keys = keys[key_borders[i] : key_borders[i + 1]]
        rest = (_field(2, row_keys) if row_keys else b"") + shape
        yield _tensor(rows.dtype, row_values, rest)


def _packed_values(rows: CSR) -> tuple[bytes, list[int]]:
    """All values, packed, and the borders of the rows in them."""
    if rows.dtype != np.int32:
        return rows.values.tobytes(), (rows.indptr * rows.dtype.itemsize).tolist()
    data, ends = wire.encode_varints(rows.values.astype(np.int64).view(np.uint64))
    return data.tobytes(), np.concatenate([[0], ends])[rows.indptr].tolist()


def _tensor_of(row: Array) -> bytes:
    return _tensor(row.dtype, row.tobytes())


def _tensor(dtype: np.dtype[Any], values: bytes, rest: bytes = b"") -> bytes:
    """A serialised Value with one tensor."""
    return _field(_TENSOR_FIELDS[dtype], (_field(1, values) if values else b"") + rest)


def _entry(field: int, name: str, value: bytes) -> bytes:
    """A map entry of a Record."""
    return _field(field, _field(1, name.encode()) + _field(2, value))


def _text(field: int, text: str) -> bytes:
    return _field(field, text.encode()) if text else b""


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field; all of the format's field numbers fit a tag of one byte."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes([number])
    digits = []
    while number >= 0x80:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])


def _frame(payload: bytes) -> bytes:
    _check_size(len(payload))
    return HEADER.pack(MAGIC, len(payload)) + payload + bytes(padded(len(payload)) - len(payload))


def _check_size(length: int) -> None:
    if length > LENGTH_MASK:
        raise DataError(f"a record of {length} bytes is larger than a frame can hold ({LENGTH_MASK} bytes)")
