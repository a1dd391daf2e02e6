"""Decimal numbers in JSON text to the nearest float64, compiled.

Up to 15 digits and 10^22 the product or quotient of two exact numbers is right by itself (Clinger 1990); beyond, the
128-bit product of Eisel and Lemire (Lemire, Number parsing at a gigabyte per second, 2021, algorithm 1). What neither
decides (more than 19 digits, subnormals, a product too close to call) is left to whoever asked.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit

from nearline.features._str_index import LEAF, byte, compiled_inline

LOW, HIGH = -340, 300
"""Powers of ten that are decided here."""
UNDECIDED = -1


@cache
def powers() -> Any:
    """The 128 leading bits of 5^q, for q from LOW to HIGH, as two uint64 each; and the exact powers 10^0 ... 10^22."""
    wide = np.zeros((HIGH - LOW + 1, 2), np.uint64)
    for q in range(LOW, HIGH + 1):
        power = 5**q if q >= 0 else 0
        if q >= 0:
            shift = 128 - power.bit_length()
            bits = power << shift if shift >= 0 else power >> -shift
        else:
            divisor = 5**-q
            bits = (1 << (divisor.bit_length() + 127)) // divisor + 1
            bits >>= bits.bit_length() - 128
        wide[q - LOW] = bits >> 64, bits & (2**64 - 1)
    return wide, np.array([10.0**k for k in range(23)])


@compiled_inline
def as_float(typing_context: Any, bits: Any) -> Any:
    """The float64 of these bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return numba.types.float64(numba.types.int64), generate


@njit(**LEAF)
def product(a: Any, b: Any) -> Any:
    """High and low 64 bits of a 64 × 64 bit product."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    a0, a1, b0, b1 = a & low, a >> half, b & low, b >> half
    ll, lh, hl, hh = a0 * b0, a0 * b1, a1 * b0, a1 * b1
    middle = (ll >> half) + (lh & low) + (hl & low)
    return hh + (lh >> half) + (hl >> half) + (middle >> half), (middle << half) | (ll & low)


@njit(**LEAF)
def leading_zeros(w: Any) -> Any:
    """How many leading bits of w > 0 are zero."""
    count = 0
    for step in (32, 16, 8, 4, 2, 1):
        if w >> np.uint64(64 - step) == np.uint64(0):
            w <<= np.uint64(step)
            count += step
    return count


@njit(**LEAF)
def nearest_bits(w: Any, q: Any, wide: Any) -> Any:
    """Bits of the float64 nearest to w · 10^q for w > 0, UNDECIDED where this does not tell."""
    one = np.uint64(1)
    lz = leading_zeros(w)
    w <<= np.uint64(lz)
    high, low = product(w, wide[q - LOW, 0])
    if high & np.uint64(0x1FF) == np.uint64(0x1FF):
        more, _ = product(w, wide[q - LOW, 1])
        low += more
        if low < more:
            high += one
    if low == np.uint64(0xFFFFFFFFFFFFFFFF) and (q < -27 or q > 55):
        return np.int64(UNDECIDED)
    upper = high >> np.uint64(63)
    shift = upper + np.uint64(9)
    mantissa = high >> shift
    exponent = ((217706 * q) >> 16) + 63 + np.int64(upper) - lz + 1023
    if exponent <= 0 or exponent >= 2046:
        return np.int64(UNDECIDED)
    if low <= one and -4 <= q <= 23 and mantissa & np.uint64(3) == one and mantissa << shift == high:
        mantissa &= ~one
    mantissa += mantissa & one
    mantissa >>= one
    if mantissa >= np.uint64(1 << 53):
        mantissa >>= one
        exponent += 1
    return np.int64((mantissa & np.uint64((1 << 52) - 1)) | (np.uint64(exponent) << np.uint64(52)))


@njit(**LEAF)
def number(text: Any, at: Any, wide: Any, exact: Any, out: Any) -> Any:
    """Read a JSON number at text[at] into out[0]; where it ends, or UNDECIDED.

    out[1] is 1.0 when the number is written as an integer.
    """
    negative = byte(text, at) == 45
    if negative:
        at += 1
    first, w, q = at, np.uint64(0), np.int64(0)
    while 48 <= byte(text, at) <= 57:
        w = w * np.uint64(10) + np.uint64(byte(text, at) - 48)
        at += 1
    digits = at - first
    if digits == 0 or (digits > 1 and byte(text, first) == 48):
        return UNDECIDED
    whole = True
    if byte(text, at) == 46:
        whole = False
        at += 1
        point = at
        # Zeros in front of the first other digit are no digits of w.
        while byte(text, at) == 48 and w == np.uint64(0):
            at += 1
        leading = at - point
        while 48 <= byte(text, at) <= 57:
            w = w * np.uint64(10) + np.uint64(byte(text, at) - 48)
            at += 1
        q = point - at
        if q == 0:
            return UNDECIDED
        digits -= q + leading
    if byte(text, at) == 101 or byte(text, at) == 69:
        whole = False
        at += 1
        minus = byte(text, at) == 45
        if minus or byte(text, at) == 43:
            at += 1
        begin, e = at, np.int64(0)
        while 48 <= byte(text, at) <= 57 and at - begin < 5:
            e = e * 10 + np.int64(byte(text, at) - 48)
            at += 1
        if at == begin or at - begin == 5:
            return UNDECIDED
        q += -e if minus else e
    if digits > 19:
        return UNDECIDED
    value = np.float64(w)
    if w <= np.uint64(9007199254740992) and -22 <= q <= 22:
        value = value / exact[-q] if q < 0 else value * exact[q]
    elif w != np.uint64(0):
        if q < LOW or q > HIGH:
            return UNDECIDED
        bits = nearest_bits(w, q, wide)
        if bits == UNDECIDED:
            return UNDECIDED
        value = as_float(bits)
    out[0] = -value if negative else value
    out[1] = 1.0 if whole else 0.0
    return at


@njit(**LEAF)
def integer(text: Any, at: int, out: Any) -> Any:
    """Read an integer of at most 18 digits into out[0]; where it ends, or UNDECIDED."""
    negative = byte(text, at) == 45
    if negative:
        at += 1
    first, value = at, np.int64(0)
    while 48 <= byte(text, at) <= 57 and at - first < 19:
        value = value * 10 + np.int64(byte(text, at) - 48)
        at += 1
    digits = at - first
    if digits == 0 or digits > 18 or (digits > 1 and byte(text, first) == 48):
        return UNDECIDED
    if byte(text, at) == 46 or byte(text, at) == 101 or byte(text, at) == 69:
        return UNDECIDED
    out[0] = -value if negative else value
    return at
