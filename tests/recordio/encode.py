"""Records and frames, encoded with nothing but `struct`: what the corpus is made with."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MAGIC = b"\x0a\x23\xd7\xce"
WHOLE, FIRST, MIDDLE, LAST = range(4)
FIELDS = {"float32": 2, "float64": 3, "int32": 7}
FORMATS = {"float32": "<f", "float64": "<d"}


def varint(number: int, least: int = 1) -> bytes:
    """A number in groups of seven bits, in at least so many bytes."""
    number &= (1 << 64) - 1
    digits = []
    while number or len(digits) < least:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits[-1] &= 0x7F
    return bytes(digits)


def field(number: int, content: bytes | str) -> bytes:
    """A length-delimited field."""
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def numbers(dtype: str, values: Sequence[float]) -> bytes:
    """Values of a tensor, packed."""
    if dtype == "int32":
        return b"".join(varint(int(value)) for value in values)
    return b"".join(struct.pack(FORMATS[dtype], value) for value in values)


def varints(values: Sequence[int]) -> bytes:
    """Keys or shape, packed."""
    return b"".join(varint(value) for value in values)


def tensor(
    dtype: str, values: Sequence[float], keys: Sequence[int] | None = None, shape: Sequence[int] | None = None
) -> bytes:
    """A Value with one tensor, its fields in the order of their numbers."""
    content = field(1, numbers(dtype, values)) if values else b""
    content += field(2, varints(keys)) if keys else b""
    content += field(3, varints(shape)) if shape is not None else b""
    return field(FIELDS[dtype], content)


def entry(number: int, value: bytes, name: str | bytes = "values") -> bytes:
    """A map entry: features are field 1, labels field 2."""
    return field(number, field(1, name) + field(2, value))


def frame(payload: bytes, flag: int = WHOLE, padding: bytes = bytes(4)) -> bytes:
    """A payload with header and padding."""
    return MAGIC + struct.pack("<I", flag << 29 | len(payload)) + payload + padding[: -len(payload) % 4]


def split(*parts: bytes) -> bytes:
    """One record as several frames."""
    flags = [FIRST, *[MIDDLE] * (len(parts) - 2), LAST]
    return b"".join(frame(part, flag) for part, flag in zip(parts, flags, strict=True))


@dataclass(frozen=True)
class Row:
    """A record as the SageMaker SDK lays it out, and what it holds."""

    values: Sequence[float]
    dtype: str = "float32"
    keys: Sequence[int] | None = None
    width: int | None = None
    label: Sequence[float] | None = None
    label_dtype: str = "float32"
    ids: tuple[str, str] | None = None

    @property
    def features(self) -> bytes:
        """The features alone."""
        return entry(1, tensor(self.dtype, self.values, self.keys, None if self.width is None else [self.width]))

    @property
    def rest(self) -> bytes:
        """What follows the features."""
        label = entry(2, tensor(self.label_dtype, self.label)) if self.label is not None else b""
        texts = [field(number, text) for number, text in zip((3, 4), self.ids or (), strict=False) if text]
        return label + b"".join(texts)

    @property
    def payload(self) -> bytes:
        """The whole record."""
        return self.features + self.rest

    @property
    def frame(self) -> bytes:
        """The whole record in a frame."""
        return frame(self.payload)

    @property
    def expected(self) -> dict[str, Any]:
        """What a reader has to find."""
        sparse = {} if self.width is None else {"keys": list(self.keys or ())}
        labels = {} if not self.label else {"label": list(self.label), "label_dtype": self.label_dtype}
        ids = {} if self.ids is None else {"ids": list(self.ids)}
        return {"dtype": self.dtype, **sparse, "values": list(self.values), **labels, **ids}
