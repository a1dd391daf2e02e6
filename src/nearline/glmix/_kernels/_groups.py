"""Which rows belong to which entity, compiled: a stable counting sort, and an order that balances threads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from nearline.glmix._kernels._linalg import OPTIONS

Arrays = tuple[Any, Any, Any]


@njit(**OPTIONS)
def count_codes(codes: Any, capacity: int) -> Any:
    """Rows of each code in [0, capacity); −1 is no entity. None of the codes may be as large as `capacity`."""
    counts = np.zeros(capacity, np.int64)
    for i in range(codes.shape[0]):
        if codes[i] >= 0:
            counts[codes[i]] += 1
    return counts


@njit(**OPTIONS)
def group_codes(codes: Any, capacity: int) -> Arrays:
    """(present codes ascending, ptr, order): rows of present[e] are order[ptr[e] : ptr[e+1]], in their own order."""
    next_place = count_codes(codes, capacity)
    entities = 0
    for c in range(capacity):
        entities += next_place[c] > 0
    present, ptr = np.empty(entities, np.int64), np.zeros(entities + 1, np.int64)
    e = 0
    place = 0
    for c in range(capacity):
        rows = next_place[c]
        next_place[c] = place
        if rows > 0:
            present[e] = c
            place += rows
            e += 1
            ptr[e] = place
    order = np.empty(place, np.int64)
    for i in range(codes.shape[0]):
        if codes[i] >= 0:
            order[next_place[codes[i]]] = i
            next_place[codes[i]] += 1
    return present, ptr, order


@njit(**OPTIONS)
def heaviest_first(ptr: Any) -> Any:
    """Entities by falling power of two of their rows, otherwise in order."""
    entities = ptr.shape[0] - 1
    places = np.zeros(65, np.int64)
    bucket = np.empty(entities, np.int64)
    for e in range(entities):
        rows = ptr[e + 1] - ptr[e]
        power = 0
        while rows > 1:
            rows >>= 1
            power += 1
        bucket[e] = 63 - power
        places[bucket[e] + 1] += 1
    for b in range(64):
        places[b + 1] += places[b]
    order = np.empty(entities, np.int64)
    for e in range(entities):
        order[places[bucket[e]]] = e
        places[bucket[e]] += 1
    return order


@njit(**OPTIONS)
def most_entries(indptr: Any, width: int, ptr: Any, order: Any) -> tuple[int, int]:
    """Most rows and most design entries of any entity."""
    rows = 0
    entries = 0
    for e in range(ptr.shape[0] - 1):
        rows = max(rows, ptr[e + 1] - ptr[e])
        filled = (ptr[e + 1] - ptr[e]) * width
        if width == 0:
            for q in range(ptr[e], ptr[e + 1]):
                filled += indptr[order[q] + 1] - indptr[order[q]]
        entries = max(entries, filled)
    return rows, entries
