"""CRC-32C, the checksum of TFRecord.

A CRC is linear: each byte contributes what a table says for its value and the number of bytes behind it. The
contributions in a block are looked up and added with NumPy.

References
----------
.. [1] RFC 3720, section B.4: the CRC and examples of it.
.. [2] TensorFlow guide, "TFRecord and tf.train.Example", section "TFRecords format details": the mask.
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np

from ..recordio.batch import Array

__all__ = ["crc32c", "masked"]

_POLYNOMIAL: Final = 0x82F63B78  # its lowest bit is that of the highest power
_START: Final = 0xFFFFFFFF
_MASK: Final = 0xA282EAD8
_BLOCK: Final = 1024  # bytes; the table for them is 1 MiB


def crc32c(data: bytes) -> int:
    """The CRC of `data`.

    Examples
    --------
    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    table, places = _tables()
    crc = _START
    for start in range(0, len(data), _BLOCK):
        block = np.frombuffer(data[start : start + _BLOCK], np.uint8).astype(np.int64)
        size = len(block)
        block[:4] ^= np.frombuffer(crc.to_bytes(4, "little"), np.uint8)[:size]
        crc = crc >> 8 * size ^ int(np.bitwise_xor.reduce(table[places[-size:] + block]))
    return crc ^ _START


def masked(crc: int) -> int:
    """A CRC in the disguise that TFRecord stores it in.

    Examples
    --------
    >>> hex(masked(crc32c(b"")))
    '0xa282ead8'
    """
    return ((crc >> 15 | crc << 17) + _MASK) & _START


@functools.cache
def _tables() -> tuple[Array, Array]:
    """Contributions, the number of bytes behind times 256 plus the value being the index; where each place begins."""
    single: Array = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        single = single >> 1 ^ _POLYNOMIAL * (single & 1)
    rows = [single]
    for _ in range(_BLOCK - 1):
        rows.append(rows[-1] >> 8 ^ single[rows[-1] & 0xFF])
    return np.concatenate(rows), np.arange(_BLOCK - 1, -1, -1) * 256
