"""Codes of integer keys, compiled: a hash table with open addressing, for tables of many rows.

A dict answers one key per call and, once it is beyond the cache, waits for memory at every key. Here the places of a
few keys at a time are touched before any is compared, so the waits overlap.

Python's lock is held throughout: a learner may add while another thread looks up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]

OPTIONS: Any = {"cache": True, "error_model": "numpy"}
TOGETHER = 32
"""Keys whose places are touched together."""
LOAD = 0.6
"""A table fuller than this doubles."""
KEY, CODE = 0, 1
"""Columns of the table; its second holds code + 1, and 0 where there is no key."""


@njit(**OPTIONS)
def mix(key: int) -> Any:
    """MurmurHash3's finaliser: every bit of the key moves every bit of the result."""
    h = np.uint64(key)
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return np.int64(h ^ (h >> np.uint64(33)))


@njit(**OPTIONS)
def probe(table: Any, mask: int, key: int, at: int) -> int:
    """Where a key is, or would go, searched from `at` on."""
    while table[at, CODE] != 0 and table[at, KEY] != key:
        at = (at + 1) & mask
    return at


@njit(**OPTIONS)
def touch(table: Any, mask: int, keys: Any, start: int, places: Any) -> Any:
    """First places of the next keys, all of them on their way to the cache; how many keys."""
    count = min(TOGETHER, keys.shape[0] - start)
    for k in range(count):
        places[k] = mix(keys[start + k]) & mask
    met = 0
    for k in range(count):
        met ^= table[places[k], CODE]
    # Uses what was loaded, so that the loads are not dropped.
    places[TOGETHER] = met
    return count


@njit(**OPTIONS)
def find(table: Any, keys: Any, out: Any) -> Any:
    """Code of every key into out, −1 where there is none; how many have none."""
    mask, places, start, unseen = table.shape[0] - 1, np.empty(TOGETHER + 1, np.int64), 0, 0
    while start < keys.shape[0]:
        count = touch(table, mask, keys, start, places)
        for k in range(count):
            code = table[probe(table, mask, keys[start + k], places[k]), CODE] - 1
            out[start + k] = code
            unseen += code < 0
        start += count
    return unseen


@njit(**OPTIONS)
def add(table: Any, keys: Any, start: int, code: int, room: int, fresh: Any) -> tuple[int, int]:
    """Give new keys the codes from `code` on, until `room` are given; (keys seen, codes given), new keys into fresh."""
    mask, places, given = table.shape[0] - 1, np.empty(TOGETHER + 1, np.int64), 0
    while start < keys.shape[0]:
        count = touch(table, mask, keys, start, places)
        for k in range(count):
            at = probe(table, mask, keys[start + k], places[k])
            if table[at, CODE] == 0:
                if given == room:
                    return start + k, given
                table[at, KEY], table[at, CODE] = keys[start + k], code + given + 1
                fresh[given] = keys[start + k]
                given += 1
        start += count
    return start, given


@njit(**OPTIONS)
def place(table: Any, keys: Any, codes: Any) -> None:
    """Store keys with their codes; a key that is there already keeps its code."""
    mask = table.shape[0] - 1
    for i in range(keys.shape[0]):
        at = probe(table, mask, keys[i], mix(keys[i]) & mask)
        if table[at, CODE] == 0:
            table[at, KEY], table[at, CODE] = keys[i], codes[i] + 1


class IntIndex:
    """Codes by int64 key.

    Examples
    --------
    >>> index = IntIndex()
    >>> index.add(np.array([7, 8, 7]), first=0).tolist(), index.find(np.array([8, 9, 7])).tolist()
    ([7, 8], [1, -1, 0])
    """

    def __init__(self) -> None:
        self._table: Ints = np.zeros((64, 2), np.int64)
        self._used = 0

    def _room(self) -> int:
        return int(LOAD * len(self._table)) - self._used

    def _reserve(self, more: int) -> None:
        """Make room for so many new keys."""
        size = len(self._table)
        while int(LOAD * size) < self._used + more:
            size *= 2
        if size > len(self._table):
            held = self._table[self._table[:, CODE] > 0]
            grown = np.zeros((size, 2), np.int64)
            place(grown, np.ascontiguousarray(held[:, KEY]), held[:, CODE] - 1)
            self._table = grown

    def put(self, keys: Ints, codes: Ints) -> None:
        """Store distinct new keys with codes of their own."""
        self._reserve(len(keys))
        place(self._table, keys, codes)
        self._used += len(keys)

    def add(self, keys: Ints, first: int) -> Ints:
        """Give every new key the next code, from `first` on; returns the new keys in that order."""
        parts, start = [], 0
        while start < len(keys):
            self._reserve(1)
            fresh = np.empty(min(self._room(), len(keys) - start), np.int64)
            start, given = add(self._table, keys, start, first, len(fresh), fresh)
            self._used, first = self._used + given, first + given
            parts.append(fresh[:given])
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def find(self, keys: Ints) -> NDArray[np.int32]:
        """Code of every key, −1 where there is none."""
        return self.look_up(keys)[0]

    def look_up(self, keys: Ints) -> tuple[NDArray[np.int32], int]:
        """Code of every key, −1 where there is none; and how many have none."""
        out = np.empty(len(keys), np.int32)
        return out, find(self._table, keys, out)
