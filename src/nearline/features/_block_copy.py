"""Where the arrays of blocks are, bytes copied from there, and ids written, compiled.

Found on disk by this file's text alone: who changes `_str_index` must clear `__pycache__`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit

from nearline.features._str_index import LEAF, PAD, compiled_inline, copy, put_word, tail, word

KIND, OUT = 0, 1
"""Columns of the fields: what kind, and which row of the block's arrays of that kind."""
NUMBER, INTEGER, STRING = 0, 1, 2
ZERO, NINE = 48, 57
ROWS, ROW, MOST, TEXT, NUMBERS, INTEGERS, GIVEN, SPANS = range(8)
"""Columns of the blocks: rows, the first one's number, rows that there is room for, and addresses."""


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
def locate_one(array: Any, blocks: Any, i: int, column: int) -> None:
    """Enter an array that belongs to block i and to none of its kinds."""
    blocks[i, column] = address_of(array)


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
def named(tag: Any, first: int, n: int, offsets: Any, at: int, data: Any, to: int) -> Any:
    """Write n strings, `tag` and the numbers from `first` on, at data[to], and where they end from offsets[at] on; how
    many bytes they have. PAD bytes end the tag, and a byte that is no digit goes before them; PAD bytes more may be
    written.
    """
    end, size, long = to, tag.shape[0] - PAD, 0
    offsets[at] = 0
    for i in range(n):
        begin, counted = end, False
        if i > 0:
            end = copy(data, begin - long, long, data, begin)
            counted = count_on(data, end)
        if not counted:
            end = decimal(first + i, data, copy(tag, 0, size, data, begin))
            long = end - begin
        offsets[at + i + 1] = end - to
    return end - to
