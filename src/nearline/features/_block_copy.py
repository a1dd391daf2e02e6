"""Rows copied, and strings written, to where Arrow keeps them, compiled.

Found on disk by this file's text alone: who changes `_str_index` must clear `__pycache__`.

A group's rows come from another core's cache, so `copy_blocks` gives up Python's lock; the others keep it: to have it
back from a busy event loop takes a switch interval. NumPy gives it up for anything longer than 500 numbers.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit

from nearline.features._str_index import LEAF, PAD, UNHELD, compiled_inline, copy, put_word, tail, word

KIND, OUT = 0, 1
"""Columns of the fields."""
NUMBER, INTEGER, STRING = 0, 1, 2
ZERO, NINE = 48, 57
ROWS, ROW, MOST, TEXT, NUMBERS, INTEGERS, GIVEN, SPANS = range(8)
"""Columns of the blocks: rows, the first one's number, rows that there is room for, and addresses."""
VALID, VALUES, DATA, END = 0, 1, 2, 3
"""Columns of the places, in bytes: validity bits or −1, numbers or offsets, a string column's data, its end so far."""


def _load(bits: int, signed: bool) -> Any:
    """An intrinsic from an address to the number of so many bits there, wherever it is aligned."""

    def typed(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            place = builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer())
            found = builder.load(place, align=1)
            if bits == 64:
                return found
            return (builder.sext if signed else builder.zext)(found, ir.IntType(64))

        return (numba.types.int64 if signed else numba.types.uint64)(numba.types.int64), generate

    return compiled_inline(typed)


word_at, int64_at, int32_at, byte_at = _load(64, False), _load(64, True), _load(32, True), _load(8, False)


@compiled_inline
def address_of(typing_context: Any, array: Any) -> Any:
    """Where an array's first element is."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return numba.types.int64(array), generate


@njit(**LEAF)
def locate(
    text: Any, numbers: Any, integers: Any, given: Any, spans: Any, n: int, row: int, blocks: Any, i: int
) -> None:  # fmt: skip
    """Enter a block of n rows, which go to `row` and on, as block i."""
    blocks[i, ROWS], blocks[i, ROW], blocks[i, MOST], blocks[i, TEXT] = n, row, spans.shape[1], address_of(text)
    blocks[i, NUMBERS], blocks[i, INTEGERS] = address_of(numbers), address_of(integers)
    blocks[i, GIVEN], blocks[i, SPANS] = address_of(given), address_of(spans)


@njit(**LEAF)
def copy_exactly(source: int, size: int, out: Any, to: int) -> None:
    """Copy `size` bytes at an address to out[to], nothing else being changed; PAD bytes more are read of both."""
    k = 0
    while k + 8 <= size:
        put_word(out, to + k, word_at(source + k))
        k += 8
    if k < size:
        behind = word(out, to + k)
        put_word(out, to + k, behind ^ tail(behind ^ word_at(source + k), size - k))


@njit(**LEAF)
def mark(bits: Any, at: int, row: int) -> None:
    """Set a row's validity bit."""
    bits[at + (row >> 3)] |= np.uint8(1 << (row & 7))


@njit(**UNHELD)
def copy_blocks(fields: Any, blocks: Any, places: Any, out: Any, narrow: Any, wide: Any) -> None:
    """Copy all rows of blocks to where their columns stand, and move the ends of the strings.

    `out`, `narrow` and `wide` are the same memory as uint8, int32 and int64; validity bits are zero before, and the
    first offsets are written. Whoever calls keeps the blocks' arrays, which are found by their addresses.
    """
    for c in range(fields.shape[0]):
        kind, k, valid, values = fields[c, KIND], fields[c, OUT], places[c, VALID], places[c, VALUES]
        for b in range(blocks.shape[0]):
            n, row, skipped = blocks[b, ROWS], blocks[b, ROW], k * blocks[b, MOST]
            if kind != STRING:
                source = blocks[b, NUMBERS if kind == NUMBER else INTEGERS] + 8 * skipped
                to = (values >> 3) + row
                for i in range(n):
                    wide[to + i] = int64_at(source + 8 * i)
                if valid >= 0:
                    given = blocks[b, GIVEN] + skipped
                    for i in range(n):
                        if byte_at(given + i) != 0:
                            mark(out, valid, row + i)
            else:
                spans, to = blocks[b, SPANS] + 8 * skipped, (values >> 2) + row + 1
                data, end = places[c, DATA], places[c, END]
                for i in range(n):
                    size = int32_at(spans + 8 * i + 4)
                    if size >= 0:
                        copy_exactly(blocks[b, TEXT] + int32_at(spans + 8 * i), size, out, data + end)
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
