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
from nearline.features._str_index import LEAF, PAD, UNHELD, byte, equal, trailing_zeros, word

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
    text: Any, start: int, stop: int, head: Any, null: Any, fields: Any, names: Any, wide: Any, exact: Any,
    numbers: Any, integers: Any, given: Any, spans: Any, totals: Any, n: int, value: Any, whole: Any,
) -> Any:  # fmt: skip
    """Read all rows of the body text[start:stop] behind n others; how many there are then, UNREAD, or CROWDED where
    room is short. PAD zero bytes follow the body.

    numbers and integers are (fields of the kind, most rows), `given` says which integers are there, spans is (string
    fields, most rows, 2): where a string starts and its size, −1 for null or absent; absent numbers are NaN. To totals
    (fields of strings, then of integers, 2) are added the bytes of all strings of a field, and how many values there
    are. value and whole are room for two floats and one integer.
    """
    F, most = fields.shape[0], spans.shape[1]
    at = skip(text, start)
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
    at, all_required = skip(text, at + 1), np.uint64(0)
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
                close = string(text, at + 1)
                if close < 0:
                    return UNREAD
                spans[out, n, 0], spans[out, n, 1] = at + 1, close - at - 1
                totals[out, 0] += close - at - 1
                totals[out, 1] += 1
                at = close + 1
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
    return n if at == stop else UNREAD


@njit(**LEAF)
def keep(totals: Any, out: Any) -> None:
    """Copy totals."""
    for k in range(totals.shape[0]):
        out[k, 0], out[k, 1] = totals[k, 0], totals[k, 1]


@njit(**UNHELD)
def read_all(
    text: Any, bounds: Any, ends: Any, limit: int, head: Any, null: Any, fields: Any, names: Any, wide: Any, exact: Any,
    numbers: Any, integers: Any, given: Any, spans: Any, totals: Any, kept: Any, value: Any, whole: Any,
) -> Any:  # fmt: skip
    """Read bodies text[bounds[b, 0]:bounds[b, 1]] one behind the other; how many rows there are, or CROWDED.

    ends[b] is where the rows of body b end, or UNREAD, and then it has left nothing behind: it is not of the usual
    form, has more rows than `limit`, or was UNREAD before. `kept` is room for another `totals`.
    """
    n = 0
    for b in range(bounds.shape[0]):
        if ends[b] == UNREAD:
            continue
        keep(totals, kept)
        ends[b] = read(
            text, bounds[b, 0], bounds[b, 1], head, null, fields, names, wide, exact, numbers, integers, given, spans,
            totals, n, value, whole,
        )  # fmt: skip
        if ends[b] == CROWDED:
            return CROWDED
        if ends[b] - n > limit:
            ends[b] = UNREAD
        if ends[b] == UNREAD:
            keep(kept, totals)
        else:
            n = ends[b]
    return n
