"""Universal Binary JSON, as far as XGBoost writes it: read with every size checked.

References
----------
- UBJSON specification, draft 12, https://ubjson.org
- XGBoost, "Introduction to Model IO", https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np

from ..errors import ArtifactError
from ..recordio.batch import Array

__all__ = ["read_ubjson"]

_DEEPEST: Final = 64
"""Objects and arrays within each other; a model has about eight."""

_NUMBERS: Final = {
    code: (struct.Struct(form), np.dtype(form))
    for code, form in (
        *((b"i", ">b"), (b"U", ">B"), (b"I", ">h"), (b"l", ">i"), (b"L", ">q")),
        *((b"d", ">f"), (b"D", ">d")),
    )
}
"""Marker of a number → how it lies in the file."""

_WORDS: Final = {b"Z": None, b"T": True, b"F": False}


def read_ubjson(data: bytes) -> Any:
    r"""The value in a document: objects are dicts, arrays of one type NumPy arrays, other arrays lists.

    Raises
    ------
    ArtifactError
        When it is no UBJSON, or cut.

    Examples
    --------
    >>> read_ubjson(b"{i\x01a[$U#i\x02\x07\x08i\x01bSi\x04text}")
    {'a': array([7, 8], dtype=uint8), 'b': 'text'}
    """
    reader = _Reader(data)
    try:
        value = reader.value(reader.marker(), 0)
    except (struct.error, UnicodeDecodeError) as error:
        raise reader.refusal(f"it is cut or damaged ({error})") from error
    if reader.at != len(data):
        raise reader.refusal("there is something behind its end")
    return value


class _Reader:
    """A place in a document."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def refusal(self, why: str) -> ArtifactError:
        return ArtifactError(f"the UBJSON is damaged at byte {self.at}: {why}")

    def marker(self) -> bytes:
        self.at += 1
        return self.data[self.at - 1 : self.at]

    def value(self, marker: bytes, depth: int) -> Any:
        """The value that follows its marker."""
        if depth > _DEEPEST:
            raise self.refusal(f"objects lie more than {_DEEPEST} deep")
        if marker == b"{":
            return self._object(depth)
        if marker == b"[":
            return self._array(depth)
        if marker == b"S":
            return self._text()
        if marker in _WORDS:
            return _WORDS[marker]
        return self._number(marker)

    def _number(self, marker: bytes) -> int | float:
        if marker not in _NUMBERS:
            raise self.refusal(f"{marker!r} begins no value")
        form, _ = _NUMBERS[marker]
        value: int | float = form.unpack_from(self.data, self.at)[0]
        self.at += form.size
        return value

    def _size(self) -> int:
        size = self._number(self.marker())
        if not isinstance(size, int) or not 0 <= size <= len(self.data) - self.at:
            raise self.refusal(f"a size of {size} is more than there is")
        return size

    def _text(self) -> str:
        size = self._size()
        self.at += size
        return self.data[self.at - size : self.at].decode()

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self.data[self.at : self.at + 1] != b"}":
            key = self._text()
            if key in found:
                raise self.refusal(f"the key {key[:40]!r} is there twice")
            found[key] = self.value(self.marker(), depth + 1)
        self.at += 1
        return found

    def _array(self, depth: int) -> list[Any] | Array:
        start = self.data[self.at : self.at + 1]
        if start == b"$":
            return self._typed()
        if start == b"#":
            self.at += 1
            return [self.value(self.marker(), depth + 1) for _ in range(self._size())]
        found = []
        while self.data[self.at : self.at + 1] != b"]":
            found.append(self.value(self.marker(), depth + 1))
        self.at += 1
        return found

    def _typed(self) -> Array:
        """An array of numbers of one type."""
        kind, hash_sign = self.data[self.at + 1 : self.at + 2], self.data[self.at + 2 : self.at + 3]
        self.at += 3
        if kind not in _NUMBERS or hash_sign != b"#":
            raise self.refusal(f"{kind!r} is no type of numbers")
        count, dtype = self._size(), _NUMBERS[kind][1]
        if count * dtype.itemsize > len(self.data) - self.at:
            raise self.refusal(f"an array of {count} numbers is longer than what is left")
        values = np.frombuffer(self.data, dtype, count, self.at)
        self.at += values.nbytes
        return values
