"""Rows in JSON text to columns, compiled, for the form that clients send nearly always.

    {"rows":[{"member":7,"country":"de","price":12.5}, ...]}

Anything else (escapes, another key, a value of another type, an unknown, absent or repeated field) is not judged here:
`read` says UNREAD, and whoever asked decodes the body in full, which finds the error, or the unusual but right. So
nothing is accepted here that is refused there, and what is read is read alike (a tested property).

What is compiled here is found on disk by this file's text alone: who changes `_decimal` or `_str_index` must clear
`__pycache__`, or old code runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from nearline.features._decimal import UNDECIDED, integer, number
from nearline.features._str_index import LEAF, PAD, byte, equal, find, trailing_zeros, word

UNREAD, CROWDED = -1, -2
NUMBER, INTEGER, STRING = 0, 1, 2
"""Kinds of fields."""
KIND, REQUIRED, NULLABLE, OUT, START, SIZE = 0, 1, 2, 3, 4, 5
"""Columns of the fields: OUT is the field's row in the output of its kind; START and SIZE are where its name stands, in
quotes and with a colon behind, as clients write it nearly always."""
QUOTE, BACKSLASH, COLON, COMMA = 34, 92, 58, 44
OPEN, CLOSE, OPEN_LIST, CLOSE_LIST = 123, 125, 91, 93


@njit(**LEAF)
def skip(text: Any, at: int) -> Any:
    """The next place that is no white space."""
    while True:
        c = byte(text, at)
        if c > 32 or (c != 32 and c != 10 and c != 13 and c != 9):
            return at
        at += 1


@njit(**LEAF)
def string(text: Any, at: int) -> Any:
    """End of the plain string that starts at text[at], or UNREAD where it holds escapes or control characters."""
    while True:
        w = word(text, at)
        # A byte v is zero where (v − 0x01…) & ~v & 0x80… has its top bit (Mycroft); the first that it finds is right.
        quote, back = w ^ np.uint64(0x2222222222222222), w ^ np.uint64(0x5C5C5C5C5C5C5C5C)
        low, high = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
        stop = (((quote - low) & ~quote) | ((back - low) & ~back) | ((w - low * np.uint64(32)) & ~w)) & high
        if stop != np.uint64(0):
            break
        at += 8
    at += trailing_zeros(stop) >> 3
    return at if byte(text, at) == QUOTE else UNREAD


@njit(**LEAF)
def literal(text: Any, at: int, expected: Any) -> Any:
    """Whether these bytes, which padding follows, stand at text[at]."""
    return equal(text, at, expected, 0, expected.shape[0] - PAD)


@njit(**LEAF)
def named(text: Any, start: int, size: int, fields: Any, names: Any, guess: int) -> Any:
    """Number of the field of this name, looked for from `guess` on; UNREAD if there is none."""
    F = fields.shape[0]
    for step in range(F):
        f = guess + step
        if f >= F:
            f -= F
        if fields[f, SIZE] == size and equal(names, fields[f, START], text, start, size):
            return f
    return UNREAD


@njit(**LEAF)
def field_at(text: Any, at: int, fields: Any, names: Any, guess: int) -> Any:
    """Number of the field whose name starts at text[at], and where its colon ends; UNREAD for anything else.

    The field that is looked for first is compared as a whole: its name in quotes, and the colon.
    """
    size = fields[guess, SIZE]
    if equal(text, at, names, fields[guess, START] - 1, size + 3):
        return guess, at + size + 3
    if byte(text, at) != QUOTE:
        return UNREAD, at
    stop = string(text, at + 1)
    if stop < 0:
        return UNREAD, at
    f, colon = named(text, at + 1, stop - at - 1, fields, names, guess), skip(text, stop + 1)
    return (f if byte(text, colon) == COLON else UNREAD), colon + 1


@njit(**LEAF)
def read(
    text: Any, head: Any, null: Any, fields: Any, names: Any, wide: Any, exact: Any, numbers: Any, integers: Any,
    given: Any, spans: Any, totals: Any, value: Any, whole: Any,
) -> Any:  # fmt: skip
    """Read all rows; how many there are, UNREAD, or CROWDED where room is short. PAD zero bytes end the text.

    numbers and integers are (fields of the kind, most rows), `given` says which integers are there, spans is (string
    fields, most rows, 2): where a string starts and its size, −1 for null or absent; absent numbers are NaN. To totals
    (fields of strings, then of integers, 2) are added the bytes of all strings of a field, and how many values there
    are. value and whole are room for two floats and one integer.
    """
    F, most = fields.shape[0], spans.shape[1]
    at = skip(text, 0)
    if byte(text, at) != OPEN:
        return UNREAD
    at = skip(text, at + 1)
    if not literal(text, at, head):
        return UNREAD
    at = skip(text, at + head.shape[0] - PAD)
    if byte(text, at) != COLON:
        return UNREAD
    at = skip(text, at + 1)
    if byte(text, at) != OPEN_LIST:
        return UNREAD
    at, n, all_required = skip(text, at + 1), 0, np.uint64(0)
    for f in range(F):
        if fields[f, REQUIRED] == 1:
            all_required |= np.uint64(1) << np.uint64(f)
    while True:
        if byte(text, at) != OPEN:
            return UNREAD
        if n >= most:
            return CROWDED
        for k in range(numbers.shape[0]):
            numbers[k, n] = np.nan
        for k in range(integers.shape[0]):
            integers[k, n], given[k, n] = 0, 0
        for k in range(spans.shape[0]):
            spans[k, n, 1] = -1
        at, seen, guess = skip(text, at + 1), np.uint64(0), 0
        while True:
            f, at = field_at(text, at, fields, names, guess)
            if f < 0 or (seen >> np.uint64(f)) & np.uint64(1):
                return UNREAD
            at, kind, out = skip(text, at), fields[f, KIND], fields[f, OUT]
            if byte(text, at) == 110:
                if fields[f, NULLABLE] == 0 or not literal(text, at, null):
                    return UNREAD
                at += 4
            elif kind == NUMBER:
                at = number(text, at, wide, exact, value)
                if at == UNDECIDED:
                    return UNREAD
                numbers[out, n] = value[0]
            elif kind == INTEGER:
                at = integer(text, at, whole)
                if at < 0:
                    return UNREAD
                integers[out, n], given[out, n] = whole[0], 1
                totals[spans.shape[0] + out, 1] += 1
            else:
                if byte(text, at) != QUOTE:
                    return UNREAD
                stop = string(text, at + 1)
                if stop < 0:
                    return UNREAD
                spans[out, n, 0], spans[out, n, 1] = at + 1, stop - at - 1
                totals[out, 0] += stop - at - 1
                totals[out, 1] += 1
                at = stop + 1
            seen |= np.uint64(1) << np.uint64(f)
            guess = f + 1 if f + 1 < F else 0
            at = skip(text, at)
            if byte(text, at) == CLOSE:
                break
            if byte(text, at) != COMMA:
                return UNREAD
            at = skip(text, at + 1)
        if seen & all_required != all_required:
            return UNREAD
        n += 1
        at = skip(text, at + 1)
        if byte(text, at) == CLOSE_LIST:
            break
        if byte(text, at) != COMMA:
            return UNREAD
        at = skip(text, at + 1)
    at = skip(text, at + 1)
    if byte(text, at) != CLOSE:
        return UNREAD
    at = skip(text, at + 1)
    return n if at == text.shape[0] - PAD else UNREAD


PLAIN, SCALED, SPLIT, COUNTED = 0, 1, 2, 3
"""Kinds of feature columns: a string's level; a number; the parts of a string; an integer's level."""
HOW, FROM, COLUMN, SLOT, MISSING, SEPARATOR = 0, 1, 2, 3, 4, 5
"""Columns of the features: FROM is a row of the output, COLUMN the index's column, SLOT and MISSING slots or −1."""


@njit(**LEAF)
def lay_out(
    features: Any, center: Any, scale: Any, numbers: Any, slots: Any, text: Any, spans: Any, table: Any, entries: Any,
    arena: Any, n: int, indptr: Any, indices: Any, values: Any,
) -> Any:  # fmt: skip
    """Rows of a design, the intercept first; how many entries, or UNREAD where a value has no slot or is not finite."""
    end = 0
    for i in range(n):
        indptr[i] = end
        indices[end], values[end] = 0, 1.0
        end += 1
        for c in range(features.shape[0]):
            how, source, missing = features[c, HOW], features[c, FROM], features[c, MISSING]
            slot, x = missing, 1.0
            if how == SCALED:
                if not np.isnan(numbers[source, i]):
                    slot, x = features[c, SLOT], (numbers[source, i] - center[c]) / scale[c]
                    if not np.isfinite(x):
                        return UNREAD
            elif how == COUNTED:
                slot = slots[source, i]
            else:
                start, size = spans[source, i, 0], spans[source, i, 1]
                if how == SPLIT and size >= 0:
                    end = parts(features, c, text, start, size, table, entries, arena, indices, values, end)
                    if end < 0:
                        return UNREAD
                    continue
                if size >= 0:
                    slot = find(table, entries, arena, text, start, size, features[c, COLUMN])
            if slot < 0:
                return UNREAD
            if x != 0.0:
                indices[end], values[end] = slot, x
                end += 1
    indptr[n] = end
    return end


@njit(**LEAF)
def parts(
    features: Any, c: int, text: Any, start: int, size: int, table: Any, entries: Any, arena: Any, indices: Any,
    values: Any, end: int,
) -> Any:  # fmt: skip
    """Entries of the distinct parts of a string, empty ones dropped; where they end, or UNREAD."""
    first, begin = end, start
    for at in range(start, start + size + 1):
        if at < start + size and byte(text, at) != features[c, SEPARATOR]:
            continue
        if at > begin:
            slot = find(table, entries, arena, text, begin, at - begin, features[c, COLUMN])
            if slot < 0:
                return UNREAD
            fresh = True
            for k in range(first, end):
                if indices[k] == slot:
                    fresh = False
            if fresh:
                indices[end], values[end] = slot, 1.0
                end += 1
        begin = at + 1
    return end


@njit(**LEAF)
def codes_of(text: Any, spans: Any, n: int, table: Any, entries: Any, arena: Any, column: int, out: Any) -> Any:
    """Code of every string of a key, −1 where there is none; how many have none."""
    unseen = 0
    for i in range(n):
        out[i] = find(table, entries, arena, text, spans[i, 0], spans[i, 1], column)
        unseen += out[i] < 0
    return unseen
