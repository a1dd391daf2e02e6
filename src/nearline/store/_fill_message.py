"""A whole message written from blocks of rows, compiled: first where everything stands, then everything.

Found on disk by this file's text alone: who changes what it imports must clear `__pycache__`.

The bytes are those that Arrow's writer gives: columns in order, each buffer at a multiple of eight and padded by zeros,
no validity bits for a column without nulls.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from nearline.features._block_copy import (
    GIVEN,
    INTEGER,
    INTEGERS,
    KIND,
    MOST,
    NUMBER,
    NUMBERS,
    OUT,
    ROW,
    ROWS,
    SPANS,
    STRING,
    TEXT,
    byte_at,
    copy_exactly,
    int32_at,
    int64_at,
    mark,
    named,
)
from nearline.features._str_index import LEAF, PAD, put_word, word

FURTHER, ABSENT, NAMED, REPEATED, ABSENT_TEXT = 3, 4, 5, 6, 7
"""Kinds of columns beside those of a block: numbers at an address, nulls; then texts: ids, one text (address and size)
for a whole block, nulls. Their entry in the fields is a column of the blocks."""
OWN = 8
"""First column of the blocks after what `locate` enters."""
BYTES, THERE = 0, 1
"""Columns of the totals."""
VALID, VALUES, DATA = 0, 1, 2
"""Columns of the places, bytes from the start of the message: validity bits or −1, numbers or offsets, texts."""
NODES, BUFFERS, LENGTH, BODY, FIRST, TOTAL, SIZE = range(7)
"""The numbers that `fill` takes: four places in the head, the first position, rows, and bytes of the message."""
_MOST_BYTES = 1 << 30


@njit(**LEAF)
def _is_text(kind: int) -> Any:
    return kind == STRING or kind >= NAMED


@njit(**LEAF)
def _bytes_of_ids(size: int, first: int, n: int) -> Any:
    """Bytes of n texts of a size, with the numbers from `first` on behind them."""
    digits, limit = 1, 10
    while limit <= first:
        digits, limit = digits + 1, limit * 10
    found, at, stop = n * size, first, first + n
    while at < stop:
        till = min(limit, stop)
        found += (till - at) * digits
        at, digits, limit = till, digits + 1, limit * 10
    return found


@njit(**LEAF)
def lay_out(
    fields: Any, blocks: Any, totals: Any, strings: int, tag: Any, first: int, total: int, begin: int, nulls: Any,
    places: Any, buffers: Any,
) -> Any:  # fmt: skip
    """Set nulls and places of every column, and offset and size of every buffer; bytes of the body, or −1.

    Parameters
    ----------
    totals
        See `RowBlock`, of all blocks together; integers come after so many strings.
    begin
        Bytes of the head.

    Returns
    -------
    int
        −1 where a column has more than 1 GiB.
    """
    end, j, bits = 0, 0, (total + 7) >> 3
    for c in range(fields.shape[0]):
        kind, k = fields[c, KIND], fields[c, OUT]
        text = _is_text(kind)
        missing, data = 0, 0
        if kind == STRING:
            missing, data = total - totals[k, THERE], totals[k, BYTES]
        elif kind == INTEGER:
            missing = total - totals[strings + k, THERE]
        elif kind == NAMED:
            data = _bytes_of_ids(tag.shape[0] - PAD, first, total)
        elif kind == REPEATED:
            for b in range(blocks.shape[0]):
                data += blocks[b, ROWS] * blocks[b, k + 1]
        elif kind != NUMBER and kind != FURTHER:
            missing = total
        nulls[c] = missing
        values = 4 * (total + 1) if text else 8 * total
        if data + values + bits >= _MOST_BYTES:
            return -1
        places[c, VALID] = begin + end if missing > 0 else -1
        for which in range(3 if text else 2):
            size = values if which == 1 else data if which == 2 else bits if missing > 0 else 0
            if which > 0:
                places[c, which] = begin + end
            buffers[j], buffers[j + 1] = end, size
            j, end = j + 2, end + ((size + 7) >> 3 << 3)
    return end


@njit(**LEAF)
def _clear(out: Any, begin: int, size: int) -> None:
    """Zero a buffer, and what pads it."""
    for at in range(begin, begin + size, 8):
        put_word(out, at, np.uint64(0))


@njit(**LEAF)
def _head(head: Any, numbers: Any, nulls: Any, buffers: Any, out: Any) -> None:
    size = head.shape[0] - PAD
    for at in range(0, size, 8):
        put_word(out, at, word(head, at))
    total = np.uint64(numbers[TOTAL])
    put_word(out, numbers[LENGTH], total)
    put_word(out, numbers[BODY], np.uint64(numbers[SIZE] - size))
    for c in range(nulls.shape[0]):
        put_word(out, numbers[NODES] + 16 * c, total)
        put_word(out, numbers[NODES] + 16 * c + 8, np.uint64(nulls[c]))
    for j in range(buffers.shape[0]):
        put_word(out, numbers[BUFFERS] + 8 * j, np.uint64(buffers[j]))


@njit(**LEAF)
def _wide(kind: int, k: int, blocks: Any, valid: int, values: int, out: Any, wide: Any) -> None:
    """Numbers of a column."""
    for b in range(blocks.shape[0]):
        n, row, skipped = blocks[b, ROWS], blocks[b, ROW], k * blocks[b, MOST]
        to = (values >> 3) + row
        if kind == ABSENT:
            for i in range(n):
                wide[to + i] = 0
            continue
        own = blocks[b, NUMBERS if kind == NUMBER else INTEGERS] + 8 * skipped
        source = blocks[b, k] if kind == FURTHER else own
        for i in range(n):
            wide[to + i] = int64_at(source + 8 * i)
        if valid >= 0:
            given = blocks[b, GIVEN] + skipped
            for i in range(n):
                if byte_at(given + i) != 0:
                    mark(out, valid, row + i)


@njit(**LEAF)
def _texts(kind: int, k: int, blocks: Any, valid: int, values: int, data: int, out: Any, narrow: Any) -> Any:
    """Strings of a column; bytes of them all."""
    end = 0
    narrow[values >> 2] = 0
    for b in range(blocks.shape[0]):
        n, row = blocks[b, ROWS], blocks[b, ROW]
        to, spans = (values >> 2) + row + 1, blocks[b, SPANS] + 8 * k * blocks[b, MOST]
        for i in range(n):
            source, size = 0, 0
            if kind == REPEATED:
                source, size = blocks[b, k], blocks[b, k + 1]
            elif kind == STRING:
                source, size = blocks[b, TEXT] + int32_at(spans + 8 * i), int32_at(spans + 8 * i + 4)
                if size >= 0 and valid >= 0:
                    mark(out, valid, row + i)
            if size > 0:
                copy_exactly(source, size, out, data + end)
                end += size
            narrow[to + i] = end
    return end


@njit(**LEAF)
def fill(
    head: Any, numbers: Any, fields: Any, blocks: Any, nulls: Any, places: Any, buffers: Any, tag: Any, out: Any,
    narrow: Any, wide: Any,
) -> None:  # fmt: skip
    """Write the message, all but its entry (see `nearline.store._message`).

    `out`, `narrow` and `wide` are the same memory as uint8, int32 and int64, with PAD bytes behind the message. Whoever
    calls keeps the blocks' arrays, which are found by their addresses.
    """
    _head(head, numbers, nulls, buffers, out)
    total = numbers[TOTAL]
    for c in range(fields.shape[0]):
        kind, k = fields[c, KIND], fields[c, OUT]
        valid, values, data = places[c, VALID], places[c, VALUES], places[c, DATA]
        if valid >= 0:
            _clear(out, valid, (total + 7) >> 3)
        if _is_text(kind):
            if total % 2 == 0:  # total + 1 offsets of four bytes each
                narrow[(values >> 2) + total + 1] = 0
            if kind == NAMED:
                end = named(tag, numbers[FIRST], total, narrow, values >> 2, out, data)
            else:
                end = _texts(kind, k, blocks, valid, values, data, out, narrow)
            for at in range(data + end, data + ((end + 7) >> 3 << 3)):
                out[at] = np.uint8(0)
        else:
            _wide(kind, k, blocks, valid, values, out, wide)
