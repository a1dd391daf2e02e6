"""Codes of strings, compiled: one hash table over the bytes of all string columns, for rows that are read as bytes.

An entry is (column, UTF-8 bytes) → code. The bytes are kept and compared, so two strings never share a code by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit
from numba.extending import intrinsic
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

OPTIONS: Any = {"cache": True, "error_model": "numpy"}
LEAF: Any = OPTIONS | {"_nrt": False}  # keeps no arrays, so counts no references
UNHELD: Any = LEAF | {"nogil": True}  # gives up Python's lock, for what takes long enough that somebody may want it
HASH, ENTRY = 0, 1
"""Columns of the table; its second holds the number of the entry + 1, and 0 where there is none."""
START, SIZE, COLUMN, CODE = 0, 1, 2, 3
"""Columns of the entries."""
LOAD = 0.5


PAD = 8
"""Bytes that may be read behind the end of a text or arena."""


def compiled_inline(typed: Callable[..., Any]) -> Any:
    """`intrinsic`, untyped on purpose: numba calls what it returns with other arguments than the function takes."""
    return intrinsic(typed)


@compiled_inline
def word(typing_context: Any, text: Any, at: Any) -> Any:
    """The eight bytes text[at : at + 8] as one little-endian number, wherever they are aligned."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.gep(array.data, [arguments[1]])
        return builder.load(builder.bitcast(place, ir.IntType(64).as_pointer()), align=1)

    return numba.types.uint64(text, numba.types.int64), generate


@compiled_inline
def byte(typing_context: Any, text: Any, at: Any) -> Any:
    """text[at] for at >= 0: numba's own indexing looks for negative places too."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.zext(builder.load(builder.gep(array.data, [arguments[1]])), ir.IntType(64))

    return numba.types.int64(text, numba.types.int64), generate


@compiled_inline
def put_word(typing_context: Any, text: Any, at: Any, value: Any) -> Any:
    """Write eight bytes at text[at : at + 8], wherever they are aligned."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.gep(array.data, [arguments[1]])
        builder.store(arguments[2], builder.bitcast(place, ir.IntType(64).as_pointer()), align=1)
        return context.get_dummy_value()

    return numba.types.void(text, numba.types.int64, numba.types.uint64), generate


@compiled_inline
def trailing_zeros(typing_context: Any, w: Any) -> Any:
    """How many of the last bits of a word are zero; 64 for zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return numba.types.int64(numba.types.uint64), generate


@njit(**LEAF)
def copy(text: Any, start: int, size: int, out: Any, to: int) -> Any:
    """Copy text[start : start + size] to out[to], up to PAD bytes more with it; where it ends."""
    for k in range(0, size, 8):
        put_word(out, to + k, word(text, start + k))
    return to + size


@njit(**LEAF)
def tail(w: Any, size: int) -> Any:
    """The first `size` < 8 bytes of a word, the others zero."""
    return w & ((np.uint64(1) << np.uint64(8 * size)) - np.uint64(1))


@njit(**LEAF)
def hashed(text: Any, start: int, size: int, column: int) -> Any:
    """Eight bytes at a time, multiplied and mixed; no hash outlives the process, so this may change."""
    h, k = np.uint64(column * 0x9E3779B1 + size), 0
    while k + 8 <= size:
        h = (h ^ word(text, start + k)) * np.uint64(0x9E3779B97F4A7C15)
        h ^= h >> np.uint64(29)
        k += 8
    h = (h ^ tail(word(text, start + k), size - k)) * np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(32))) * np.uint64(0xC4CEB9FE1A85EC53)
    return np.int64(h ^ (h >> np.uint64(29)))


@njit(**LEAF)
def equal(a: Any, at: int, b: Any, start: int, size: int) -> Any:
    """Whether a[at : at + size] and b[start : start + size] are the same bytes."""
    k = 0
    while k + 8 <= size:
        if word(a, at + k) != word(b, start + k):
            return False
        k += 8
    return tail(word(a, at + k) ^ word(b, start + k), size - k) == np.uint64(0)


@njit(**LEAF)
def same(arena: Any, entries: Any, e: int, text: Any, start: int, size: int, column: int) -> Any:
    """Whether entry e is these bytes of this column."""
    if entries[e, SIZE] != size or entries[e, COLUMN] != column:
        return False
    return equal(arena, entries[e, START], text, start, size)


@njit(**LEAF)
def find(table: Any, entries: Any, arena: Any, text: Any, start: int, size: int, column: int) -> Any:
    """Code of the bytes text[start : start + size] in a column, −1 where there is none."""
    mask, h = table.shape[0] - 1, hashed(text, start, size, column)
    at = h & mask
    while table[at, ENTRY] != 0:
        if table[at, HASH] == h and same(arena, entries, table[at, ENTRY] - 1, text, start, size, column):
            return entries[table[at, ENTRY] - 1, CODE]
        at = (at + 1) & mask
    return -1


@njit(**LEAF)
def place(table: Any, entries: Any, arena: Any, first: int, stop: int) -> None:
    """Enter entries first to stop − 1, which are not there yet."""
    mask = table.shape[0] - 1
    for number in range(first, stop):
        h = hashed(arena, entries[number, START], entries[number, SIZE], entries[number, COLUMN])
        at = h & mask
        while table[at, ENTRY] != 0:
            at = (at + 1) & mask
        table[at, HASH], table[at, ENTRY] = h, number + 1


class StrIndex:
    """Codes by column and string.

    Examples
    --------
    >>> index = StrIndex()
    >>> index.put(3, [("ann", 0), ("bob", 1)])
    >>> index.get(3, "bob"), index.get(3, "cid"), index.get(2, "bob")
    (1, -1, -1)
    """

    def __init__(self) -> None:
        self.table: Ints = np.zeros((64, 2), np.int64)
        self.entries: Ints = np.zeros((32, 4), np.int64)
        self.arena: Bytes = np.zeros(1024, np.uint8)
        self._used = self._bytes = 0

    def put(self, column: int, named: Iterable[tuple[str, int]]) -> None:
        """Enter distinct new strings of a column with their codes."""
        found = [(text.encode("utf-8", "surrogatepass"), code) for text, code in named]
        data, first = b"".join(text for text, _ in found), self._used
        self.entries = _grown(self.entries, first + len(found))
        self.arena = _grown(self.arena, self._bytes + len(data) + PAD)
        self.arena[self._bytes : self._bytes + len(data)] = np.frombuffer(data, np.uint8)
        sizes = np.array([len(text) for text, _ in found], np.int64)
        new = self.entries[first : first + len(found)]
        new[:, START], new[:, SIZE] = self._bytes + np.cumsum(sizes) - sizes, sizes
        new[:, COLUMN], new[:, CODE] = column, [code for _, code in found]
        self._used, self._bytes = first + len(found), self._bytes + len(data)
        if self._used > LOAD * len(self.table):
            self.table = np.zeros((1 << int(self._used / LOAD).bit_length(), 2), np.int64)
            first = 0
        place(self.table, self.entries, self.arena, first, self._used)

    def get(self, column: int, text: str) -> int:
        """Code of a string, −1 where there is none."""
        data = np.frombuffer(text.encode("utf-8", "surrogatepass") + bytes(PAD), np.uint8)
        return int(find(self.table, self.entries, self.arena, data, 0, len(data) - PAD, column))


def _grown(array: NDArray[Any], size: int) -> NDArray[Any]:
    """The array with room for `size` rows, its own kept; twice as many at least, so that growing is rare."""
    if size <= len(array):
        return array
    grown = np.zeros((max(size, 2 * len(array)), *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown
