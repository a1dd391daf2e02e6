"""CRC-32 as zlib counts it, compiled: for what writes a message without Python's lock.

Four stretches of the data are gone through side by side, eight bytes of each at a time (slicing by 8: Kounavis and
Berry, A Systematic Approach to Building High Performance Software-based CRC Generators, 2005), and their sums are
combined by a product of polynomials modulo p, as zlib's `crc32_combine` does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from nearline.features._str_index import LEAF, byte, word

_POLYNOMIAL = np.uint32(0xEDB88320)
_ONES = np.uint32(0xFFFFFFFF)
_LANES = 4
_LEAST = 256


def _tables() -> Any:
    """What a byte, and up to seven zero bytes after it, do to a sum: (8, 256)."""
    found = np.zeros((8, 256), np.uint32)
    one = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        one = np.where(one & 1, (one >> 1) ^ _POLYNOMIAL, one >> 1)
    found[0] = one
    for k in range(1, 8):
        found[k] = found[0][found[k - 1] & 255] ^ (found[k - 1] >> 8)
    return found


TABLES = _tables()


@njit(**LEAF)
def _step(tables: Any, total: Any, data: Any) -> Any:
    """The sum after eight bytes more."""
    x = np.uint64(total) ^ data
    return (
        tables[7, x & np.uint64(255)]
        ^ tables[6, (x >> np.uint64(8)) & np.uint64(255)]
        ^ tables[5, (x >> np.uint64(16)) & np.uint64(255)]
        ^ tables[4, (x >> np.uint64(24)) & np.uint64(255)]
        ^ tables[3, (x >> np.uint64(32)) & np.uint64(255)]
        ^ tables[2, (x >> np.uint64(40)) & np.uint64(255)]
        ^ tables[1, (x >> np.uint64(48)) & np.uint64(255)]
        ^ tables[0, x >> np.uint64(56)]
    )


@njit(**LEAF)
def _product(a: Any, b: Any) -> Any:
    """The product modulo p of polynomials whose coefficient of x⁰ is the highest bit."""
    found, bit = np.uint32(0), np.uint32(1 << 31)
    while bit != 0:
        if a & bit:
            found ^= b
        b = (b >> np.uint32(1)) ^ _POLYNOMIAL if b & np.uint32(1) else b >> np.uint32(1)
        bit >>= np.uint32(1)
    return found


@njit(**LEAF)
def _power(n: int) -> Any:
    """x⁸ⁿ modulo p."""
    found, square = np.uint32(1 << 31), np.uint32(1 << 23)  # 1 and x⁸
    while n > 0:
        if n & 1:
            found = _product(square, found)
        square, n = _product(square, square), n >> 1
    return found


@njit(**LEAF)
def crc32(tables: Any, data: Any, size: int) -> Any:
    """`zlib.crc32(data[:size])` of bytes (uint8); `tables` are `TABLES`."""
    lane = size // (8 * _LANES) * 8 if size >= _LEAST else 0
    a, b, c, d = _ONES, _ONES, _ONES, _ONES
    for at in range(0, lane, 8):
        a = _step(tables, a, word(data, at))
        b = _step(tables, b, word(data, lane + at))
        c = _step(tables, c, word(data, 2 * lane + at))
        d = _step(tables, d, word(data, 3 * lane + at))
    total = a
    if lane > 0:
        shift = _power(lane)
        total = _product(shift, a ^ _ONES) ^ b ^ _ONES
        total = _product(shift, total) ^ c ^ _ONES
        total = _product(shift, total) ^ d
    for at in range(_LANES * lane, size):
        total = tables[0, (total ^ np.uint32(byte(data, at))) & np.uint32(255)] ^ (total >> np.uint32(8))
    return total ^ _ONES
