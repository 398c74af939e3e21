"""Files with a list of arrays, as MXNet's ``mx.nd.save`` writes them, with numpy alone.

Amazon's k-means and PCA artifacts are such files, and those of the linear learner and of factorization machines
hold one. Everything is little-endian; an array is written in the form that MXNet 0.12 and later write ("V2"), and
read in that form, its V1 predecessor, its V3 successor and the one before them all. Row-sparse arrays, which
factorization machines have, become dense as they are read.

References
----------
.. [1] apache/mxnet, ``src/ndarray/ndarray.cc``, NDArray::Save and NDArray::Load.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..errors import ArtifactError
from ..recordio.batch import Array

__all__ = ["RowSparse", "dump_arrays", "finite_float32", "load_arrays"]

LIST_MAGIC: Final = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
DENSE, ROW_SPARSE = 0, 1
CPU: Final = 1

_DTYPES: Final = tuple(np.dtype(name) for name in ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8"))
_MOST_DIMENSIONS: Final = 32


@dataclass(frozen=True, slots=True)
class RowSparse:
    """An array to be written by those of its rows that are not all zero.

    Parameters
    ----------
    values
        These rows, shape (r, …).
    rows
        Their numbers, ascending; all rows from the first when left out.
    length
        Number of rows of the whole array; that of `values` when left out.

    Examples
    --------
    >>> load_arrays(dump_arrays([RowSparse(np.array([[5, 6]], "u1"), rows=np.array([1]), length=3)]))["0"].tolist()
    [[0, 0], [5, 6], [0, 0]]
    """

    values: Array
    rows: Array | None = None
    length: int | None = None


def dump_arrays(arrays: Sequence[Array | RowSparse] | Mapping[str, Array | RowSparse]) -> bytes:
    """The bytes of a file with these arrays, and their names where they have some.

    Parameters
    ----------
    arrays
        float32, float64, float16, uint8, int32, int8 or int64.

    Examples
    --------
    >>> len(dump_arrays([np.zeros((8, 7), np.float32)]))
    296
    >>> load_arrays(dump_arrays({"mean": np.array([1.5, 2.0])}))
    {'mean': array([1.5, 2. ])}
    """
    named = isinstance(arrays, Mapping)
    names = list(arrays) if isinstance(arrays, Mapping) else []
    values = list(arrays.values()) if isinstance(arrays, Mapping) else list(arrays)
    parts = [struct.pack("<QQQ", LIST_MAGIC, 0, len(values))]
    parts += [_dump_array(array) for array in values]
    parts.append(struct.pack("<Q", len(names) if named else 0))
    for name in names:
        encoded = name.encode()
        parts.append(struct.pack("<Q", len(encoded)) + encoded)
    return b"".join(parts)


def load_arrays(data: bytes, most_filled: int = 8 << 30) -> dict[str, Array]:
    """The arrays of a file by name; by their number, as text, where they have no names.

    Parameters
    ----------
    data
        The file.
    most_filled
        Bytes that all row-sparse arrays with missing rows may take together as dense ones: their size is not bounded
        by that of the file.

    Raises
    ------
    ArtifactError
        When the file is cut, holds something else, a CSR array, or too large a row-sparse one.
    """
    source = _Source(data, most_filled)
    magic, _, count = source.take("<QQQ")
    if magic != LIST_MAGIC:
        raise ArtifactError(f"expected a list of arrays (0x{LIST_MAGIC:x}), the file begins with 0x{magic:x}")
    if count > len(data):
        raise ArtifactError(f"{count} arrays in a file of {len(data)} bytes")
    arrays = [_load_array(source) for _ in range(count)]
    (names,) = source.take("<Q")
    if names not in (0, count):
        raise ArtifactError(f"{names} names for {count} arrays")
    keys = [source.text() for _ in range(names)] or [str(i) for i in range(count)]
    if source.at != len(data):
        raise ArtifactError(f"{len(data) - source.at} bytes after the last array")
    return dict(zip(keys, arrays, strict=True))


def finite_float32(array: Array, name: str) -> Array:
    """An array of a model as float32.

    Raises
    ------
    ArtifactError
        When it has numbers that are not finite, or no floating-point numbers at all.
    """
    if array.dtype.kind != "f":
        raise ArtifactError(f"{name} has numbers of the type {array.dtype}, not float32")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise ArtifactError(f"{name} has numbers that are not finite")
    return array


def _dump_array(array: Array | RowSparse) -> bytes:
    if isinstance(array, RowSparse):
        return _dump_rows(array)
    array = np.ascontiguousarray(array)
    flag, data = _raw(array)
    return struct.pack("<Ii", V2, DENSE) + _shape(array.shape) + struct.pack("<iii", CPU, 0, flag) + data


def _dump_rows(array: RowSparse) -> bytes:
    values = np.ascontiguousarray(array.values)
    rows = np.arange(len(values)) if array.rows is None else array.rows
    shape = (len(values) if array.length is None else array.length, *values.shape[1:])
    flag, data = _raw(values)
    number_flag, numbers = _raw(rows.astype(np.int64))
    head = struct.pack("<Ii", V2, ROW_SPARSE) + _shape(values.shape) + _shape(shape)
    kinds = struct.pack("<iiii", CPU, 0, flag, number_flag) + _shape(rows.shape)
    return head + kinds + data + numbers


def _shape(shape: tuple[int, ...]) -> bytes:
    return struct.pack(f"<i{len(shape)}q", len(shape), *shape)


def _raw(array: Array) -> tuple[int, bytes]:
    """The flag of the type, and the values."""
    dtype = array.dtype.newbyteorder("<")
    return _DTYPES.index(dtype), array.astype(dtype, copy=False).tobytes()


def _load_array(source: _Source) -> Array:
    (magic,) = source.take("<I")
    stored: tuple[int, ...] | None = None
    if magic in (V2, V3):
        (storage,) = source.take("<i")
        if storage not in (DENSE, ROW_SPARSE):
            raise ArtifactError(f"an array of storage type {storage}: only dense (0) and row-sparse (1) can be read")
        if storage == ROW_SPARSE:
            stored = source.shape("<i", "q")
        shape = source.shape("<i", "q")
    elif magic == V1:
        shape = source.shape("<I", "q")
    else:  # the oldest form has no magic: the word is the number of dimensions
        source.at -= 4
        shape = source.shape("<I", "I")
    if not shape and magic != V3:
        return np.empty(0, np.float32)  # an array without shape has nothing after it
    source.take("<ii")  # the device it was on
    dtype = source.dtype()
    return source.values(shape, dtype) if stored is None else _load_rows(source, shape, stored, dtype)


def _load_rows(source: _Source, shape: tuple[int, ...], stored: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """The rest of a row-sparse array: its rows, then their numbers; as a dense array."""
    number_dtype, number_shape = source.dtype(), source.shape("<i", "q")
    if not shape or stored[1:] != shape[1:] or stored[:1] != number_shape or number_dtype.kind != "i":
        raise ArtifactError(f"{number_shape} numbers of {number_dtype} for rows of shape {stored} in one of {shape}")
    values, numbers = source.values(stored, dtype), source.values(number_shape, number_dtype).astype(np.int64)
    if len(numbers) and not (numbers[0] >= 0 and numbers[-1] < shape[0] and (numbers[1:] > numbers[:-1]).all()):
        raise ArtifactError(f"the numbers of the rows do not ascend from 0 to {shape[0] - 1}")
    if stored == shape:  # and so they are all
        return values
    source.fill(math.prod(shape) * dtype.itemsize, shape)
    try:
        array: Array = np.zeros(shape, dtype)
    except (ValueError, MemoryError) as error:  # sizes beyond numpy's, or the machine's
        raise ArtifactError(f"an array of shape {shape}") from error
    array[numbers] = values
    return array


class _Source:
    """Bytes, read from the front; never beyond the end."""

    def __init__(self, data: bytes, most_filled: int) -> None:
        self.data = data
        self.at = 0
        self.left = most_filled

    def bytes(self, size: int) -> bytes:
        if size < 0 or self.at + size > len(self.data):
            raise ArtifactError(f"the file is cut: {size} bytes wanted at byte {self.at} of {len(self.data)}")
        self.at += size
        return self.data[self.at - size : self.at]

    def take(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self.bytes(struct.calcsize(form)))

    def shape(self, count_form: str, size_form: str) -> tuple[int, ...]:
        (dimensions,) = self.take(count_form)
        if not 0 <= dimensions <= _MOST_DIMENSIONS:
            raise ArtifactError(f"an array of {dimensions} dimensions")
        shape = self.take(f"<{dimensions}{size_form}")
        if any(size < 0 for size in shape):
            raise ArtifactError(f"an array of shape {shape}")
        return shape

    def dtype(self) -> np.dtype[Any]:
        (flag,) = self.take("<i")
        if not 0 <= flag < len(_DTYPES):
            raise ArtifactError(f"unknown type {flag} of an array")
        dtype: np.dtype[Any] = _DTYPES[flag]
        return dtype

    def values(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        data = self.bytes(math.prod(shape) * dtype.itemsize)
        try:
            return np.frombuffer(data, dtype).reshape(shape)
        except ValueError as error:  # no values at all, by sizes beyond numpy's
            raise ArtifactError(f"an array of shape {shape}") from error

    def fill(self, size: int, shape: tuple[int, ...]) -> None:
        """Count what a row-sparse array takes when it is dense."""
        if size > self.left:
            raise ArtifactError(f"a row-sparse array of shape {shape} has {size} bytes, {self.left} are allowed")
        self.left -= size

    def text(self) -> str:
        (size,) = self.take("<Q")
        try:
            return self.bytes(size).decode()
        except UnicodeDecodeError as error:
            raise ArtifactError("the name of an array is no text") from error
