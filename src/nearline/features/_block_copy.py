"""Rows copied, and strings written, to where Arrow keeps them, compiled.

Found on disk by this file's text alone: who changes `_str_index` must clear `__pycache__`. Python's lock is kept, as in
every kernel that serves: NumPy lets go of it for anything longer than 500 numbers, and to have it back from a busy
event loop takes a switch interval.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from nearline.features._str_index import LEAF, PAD, copy, put_word, tail, word

KIND, OUT = 0, 1
"""Columns of the fields."""
NUMBER, INTEGER = 0, 1
ZERO, NINE = 48, 57
VALID, VALUES, DATA, END = 0, 1, 2, 3
"""Columns of the places, in bytes: validity bits or −1, numbers or offsets, a string column's data, its end so far."""


@njit(**LEAF)
def copy_exactly(text: Any, start: int, size: int, out: Any, to: int) -> None:
    """Copy text[start : start + size] to out[to], nothing else being changed; PAD bytes more are read of both."""
    k = 0
    while k + 8 <= size:
        put_word(out, to + k, word(text, start + k))
        k += 8
    if k < size:
        behind = word(out, to + k)
        put_word(out, to + k, behind ^ tail(behind ^ word(text, start + k), size - k))


@njit(**LEAF)
def mark(bits: Any, at: int, row: int) -> None:
    """Set a row's validity bit."""
    bits[at + (row >> 3)] |= np.uint8(1 << (row & 7))


@njit(**LEAF)
def copy_rows(
    fields: Any, text: Any, numbers: Any, integers: Any, given: Any, spans: Any, n: int, places: Any, row: int,
    out: Any, narrow: Any, wide: Any,
) -> None:  # fmt: skip
    """Copy n rows to row `row` and on of every column, and move the ends of the strings.

    `numbers` are given by their bits, as int64. `out`, `narrow` and `wide` are the same memory as uint8, int32 and
    int64; validity bits are zero before, and the first offsets are written.
    """
    for c in range(fields.shape[0]):
        kind, k, valid = fields[c, KIND], fields[c, OUT], places[c, VALID]
        if kind == NUMBER:
            to = (places[c, VALUES] >> 3) + row
            for i in range(n):
                wide[to + i] = numbers[k, i]
        elif kind == INTEGER:
            to = (places[c, VALUES] >> 3) + row
            for i in range(n):
                wide[to + i] = integers[k, i]
                if valid >= 0 and given[k, i] == 1:
                    mark(out, valid, row + i)
        else:
            to, data, end = (places[c, VALUES] >> 2) + row + 1, places[c, DATA], places[c, END]
            for i in range(n):
                size = spans[k, i, 1]
                if size >= 0:
                    copy_exactly(text, spans[k, i, 0], size, out, data + end)
                    end += size
                    if valid >= 0:
                        mark(out, valid, row + i)
                narrow[to + i] = end
            places[c, END] = end


@njit(**LEAF)
def decimal(number: int, out: Any, to: int) -> Any:
    """Write a number >= 0 at out[to]; where it ends."""
    digits, rest = 1, number // 10
    while rest > 0:
        digits, rest = digits + 1, rest // 10
    for place in range(digits):
        out[to + digits - 1 - place] = np.uint8(ZERO + number % 10)
        number //= 10
    return to + digits


@njit(**LEAF)
def count_on(data: Any, end: int) -> bool:
    """Add one to the number whose last digit stands before data[end]; False, nothing being changed, after only nines.

    A byte that is no digit stands before the number.
    """
    at = end - 1
    while data[at] == NINE:
        at -= 1
    if not ZERO <= data[at] < NINE:
        return False
    data[at] += np.uint8(1)
    for k in range(at + 1, end):
        data[k] = np.uint8(ZERO)
    return True


@njit(**LEAF)
def named(tag: Any, first: int, n: int, offsets: Any, data: Any) -> Any:
    """Write n strings, `tag` and the numbers from `first` on; where they end. PAD bytes end the tag, and a byte that is
    no digit goes before them; PAD bytes more may be written.
    """
    end, size, long = 0, tag.shape[0] - PAD, 0
    offsets[0] = 0
    for i in range(n):
        begin, counted = end, False
        if i > 0:
            end = copy(data, begin - long, long, data, begin)
            counted = count_on(data, end)
        if not counted:
            end = decimal(first + i, data, copy(tag, 0, size, data, begin))
            long = end - begin
        offsets[i + 1] = end
    return end


@njit(**LEAF)
def repeated(offsets: Any, row: int, n: int, size: int) -> None:
    """Ends of n strings of one size, from row `row` on, whose first begins at offsets[row]."""
    for i in range(row, row + n):
        offsets[i + 1] = offsets[i] + size
