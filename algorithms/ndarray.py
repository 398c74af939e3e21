"""Files with a list of arrays, as MXNet's ``mx.nd.save`` writes them, with numpy alone.

Amazon's k-means and PCA artifacts are such files, and those of the linear learner and of factorization machines
hold one. Everything is little-endian; an array is written in the form that MXNet 0.12 and later write ("V2"), and
read in that form, its V1 predecessor, its V3 successor and the one before them all.

References
----------
.. [1] apache/mxnet, ``src/ndarray/ndarray.cc``, NDArray::Save and NDArray::Load.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from ..errors import ArtifactError
from ..recordio.batch import Array

__all__ = ["dump_arrays", "load_arrays"]

LIST_MAGIC: Final = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
DENSE: Final = 0
CPU: Final = 1

_DTYPES: Final = tuple(np.dtype(name) for name in ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8"))
_MOST_DIMENSIONS: Final = 32


def dump_arrays(arrays: Sequence[Array] | Mapping[str, Array]) -> bytes:
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


def load_arrays(data: bytes) -> dict[str, Array]:
    """The arrays of a file by name; by their number, as text, where they have no names.

    Raises
    ------
    ArtifactError
        When the file is cut, holds something else, or a sparse array.
    """
    source = _Source(data)
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


def _dump_array(array: Array) -> bytes:
    array = np.ascontiguousarray(array)
    dtype = array.dtype.newbyteorder("<")
    shape = struct.pack(f"<i{array.ndim}q", array.ndim, *array.shape)
    head = struct.pack("<Ii", V2, DENSE) + shape + struct.pack("<iii", CPU, 0, _DTYPES.index(dtype))
    return head + array.astype(dtype, copy=False).tobytes()


def _load_array(source: _Source) -> Array:
    (magic,) = source.take("<I")
    if magic in (V2, V3):
        (storage,) = source.take("<i")
        if storage != DENSE:
            raise ArtifactError("a sparse array: only dense ones can be read")
        shape = source.shape("<i", "q")
    elif magic == V1:
        shape = source.shape("<I", "q")
    else:  # the oldest form has no magic: the word is the number of dimensions
        source.at -= 4
        shape = source.shape("<I", "I")
    if not shape and magic != V3:
        return np.empty(0, np.float32)  # an array without shape has nothing after it
    _, _, flag = source.take("<iii")
    if not 0 <= flag < len(_DTYPES):
        raise ArtifactError(f"unknown type {flag} of an array")
    dtype = _DTYPES[flag]
    data = source.bytes(math.prod(shape) * dtype.itemsize)
    try:
        return np.frombuffer(data, dtype).reshape(shape)
    except ValueError as error:  # no values at all, by sizes beyond numpy's
        raise ArtifactError(f"an array of shape {shape}") from error


class _Source:
    """Bytes, read from the front; never beyond the end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

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

    def text(self) -> str:
        (size,) = self.take("<Q")
        try:
            return self.bytes(size).decode()
        except UnicodeDecodeError as error:
            raise ArtifactError("the name of an array is no text") from error
