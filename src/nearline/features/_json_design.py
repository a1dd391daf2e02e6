"""Rows of a design from what `_json_rows` has read, compiled.

Found on disk by this file's text alone: who changes `_str_index` must clear `__pycache__`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from nearline.features._json_rows import UNREAD
from nearline.features._str_index import LEAF, UNHELD, byte, find

PLAIN, SCALED, SPLIT, COUNTED = 0, 1, 2, 3
"""Kinds of feature columns: a string's level; a number; the parts of a string; an integer's level."""
HOW, FROM, COLUMN, SLOT, MISSING, SEPARATOR = 0, 1, 2, 3, 4, 5
"""Columns of the features: FROM is a row of the output, COLUMN the index's column, SLOT and MISSING slots or −1."""


@njit(**LEAF)
def lay_out(
    features: Any, center: Any, scale: Any, numbers: Any, slots: Any, text: Any, spans: Any, table: Any, entries: Any,
    arena: Any, first: int, n: int, end: int, indptr: Any, indices: Any, values: Any,
) -> Any:  # fmt: skip
    """Rows [first, n) of a design, the intercept first, behind `end` entries; how many entries there are then, or
    UNREAD where a value has no slot or is not finite.
    """
    for i in range(first, n):
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


@njit(**UNHELD)
def lay_out_all(
    features: Any, center: Any, scale: Any, numbers: Any, slots: Any, text: Any, spans: Any, table: Any, entries: Any,
    arena: Any, ends: Any, indptr: Any, indices: Any, values: Any,
) -> Any:  # fmt: skip
    """Rows of a design of all bodies; how many entries, or UNREAD, and then `ends` is UNREAD for each that has none."""
    first, end, failed = 0, 0, False
    for b in range(ends.shape[0]):
        if ends[b] == UNREAD:
            continue
        found = lay_out(
            features, center, scale, numbers, slots, text, spans, table, entries, arena, first, ends[b], end, indptr,
            indices, values,
        )  # fmt: skip
        first = ends[b]
        if found == UNREAD:
            ends[b], failed = UNREAD, True
        else:
            end = found
    return UNREAD if failed else end


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


@njit(**UNHELD)
def codes_of(text: Any, spans: Any, n: int, table: Any, entries: Any, arena: Any, column: int, out: Any) -> Any:
    """Code of every string of a key, −1 where there is none; how many have none."""
    unseen = 0
    for i in range(n):
        out[i] = find(table, entries, arena, text, spans[i, 0], spans[i, 1], column)
        unseen += out[i] < 0
    return unseen
