"""Arrays of rows that grow in place of memory: capacity is reserved, pages are paid for when they are written.

Doubling an array by copying needs three times its size for a moment. Here the old pages are handed back as they are
copied, so a million posteriors grow within little more than their own bytes.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_CHUNK = 16 << 20
_PRIVATE = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)


class Arena:
    """A growing (capacity, *shape) array; `array` is the view of all reserved rows.

    Examples
    --------
    >>> arena = Arena((3,), "float64", rows=2)
    >>> arena.array[1] = 7.0
    >>> arena.reserve(100)
    >>> arena.array[1].tolist(), len(arena.array) >= 100
    ([7.0, 7.0, 7.0], True)
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike, rows: int = 0) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.row_bytes = max(1, int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize)
        self._map, self.array = self._allocate(max(rows, 16))

    def _allocate(self, rows: int) -> tuple[mmap.mmap | None, NDArray[Any]]:
        size = rows * self.row_bytes
        if not _PRIVATE or size < _CHUNK:
            return None, np.zeros((rows, *self.shape), self.dtype)
        memory = mmap.mmap(-1, size, flags=_PRIVATE)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            # Events hop between entities: with small pages every hop also misses the address cache.
            memory.madvise(mmap.MADV_HUGEPAGE)
        return memory, np.frombuffer(memory, self.dtype, size // self.dtype.itemsize).reshape(rows, *self.shape)

    def reserve(self, rows: int) -> None:
        """Make room for at least `rows` rows; the ones there keep their values, new ones are zero."""
        if rows <= len(self.array):
            return
        old_map, old = self._map, self.array
        self._map, self.array = self._allocate(max(rows, 2 * len(old)))
        step = max(1, _CHUNK // self.row_bytes)
        for start in range(0, len(old), step):
            stop = min(start + step, len(old))
            self.array[start:stop] = old[start:stop]
            if old_map is not None:
                _release(old_map, start * self.row_bytes, stop * self.row_bytes)


def _release(memory: mmap.mmap, start: int, stop: int) -> None:
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    length = stop - first
    if length > 0 and hasattr(memory, "madvise"):
        memory.madvise(mmap.MADV_DONTNEED, first, length)
