"""One further column of many submissions, in the plain forms that can be copied to its place in a message.

A column says how many bytes each of its buffers (validity bits, offsets of strings, values) takes, then writes them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Bytes: TypeAlias = NDArray[np.uint8]


def put(buffer: Bytes, data: Any) -> None:
    """Copy bytes into a buffer of their size, Python's lock being kept, as NumPy would not."""
    buffer.data[:] = data


@dataclass
class PlainColumn(ABC):
    """What a message needs of a column: its nulls, the bytes of each buffer, and what they hold."""

    nulls: int
    sizes: tuple[int, ...]

    @abstractmethod
    def write(self, buffers: Sequence[Bytes]) -> None:
        """Fill the buffers."""


class Absent(PlainColumn):
    """Null in every row."""

    def __init__(self, total: int, text: bool) -> None:
        bits = -(-total // 8)
        super().__init__(total, (bits, 4 * (total + 1), 0) if text else (bits, 8 * total))

    def write(self, buffers: Sequence[Bytes]) -> None:
        """Zeros."""
        for buffer in buffers:
            put(buffer, bytes(len(buffer)))


class Numbers(PlainColumn):
    """Arrays of the column's type, one after the other."""

    def __init__(self, values: Sequence[Any], total: int) -> None:
        super().__init__(0, (0, 8 * total))
        self._values = values

    def write(self, buffers: Sequence[Bytes]) -> None:
        """Copy them."""
        put(buffers[1], b"".join(self._values))


class Repeated(PlainColumn):
    """One string for all rows of a submission."""

    def __init__(self, values: Sequence[str], counts: Sequence[int], total: int) -> None:
        if len(set(values)) == 1:
            values, counts = values[:1], [total]
        self._texts, self._counts = [value.encode() for value in values], counts
        size = sum(n * len(text) for text, n in zip(self._texts, counts))
        super().__init__(0, (0, 4 * (total + 1), size))

    def write(self, buffers: Sequence[Bytes]) -> None:
        """Copy them."""
        from nearline.features._block_copy import repeated

        offsets, row = buffers[1].view(np.int32), 0
        offsets[0] = 0
        for text, n in zip(self._texts, self._counts):
            repeated(offsets, row, n, len(text))
            row += n
        put(buffers[2], b"".join([text * n for text, n in zip(self._texts, self._counts)]))


class Copied(PlainColumn):
    """An Arrow array of strings without nulls."""

    def __init__(self, array: Any, total: int) -> None:
        _, offsets, data = array.buffers()
        self._offsets, self._data = np.frombuffer(offsets, np.uint8, 4 * (total + 1)), np.frombuffer(data, np.uint8)
        super().__init__(0, (0, 4 * (total + 1), int.from_bytes(self._offsets[-4:], "little")))

    def write(self, buffers: Sequence[Bytes]) -> None:
        """Copy it."""
        put(buffers[1], self._offsets)
        put(buffers[2], self._data[: self.sizes[2]])


def made_column(array: Any, total: int) -> PlainColumn | None:
    """A column that follows from the positions; None where it has another form than ids have."""
    plain = array.type == pa.string() and len(array) == total > 0 and not array.offset and not array.null_count
    return Copied(array, total) if plain else None


def plain_column(
    values: Sequence[Any], counts: Sequence[int], total: int, dtype: np.dtype[Any] | None
) -> PlainColumn | None:
    """The column of submissions' values; None where one is in no plain form.

    Parameters
    ----------
    values, counts
        Per submission, what it brings for the column, and its rows.
    dtype
        Of the column's numbers; None for strings.
    """
    kinds = {type(value) for value in values}
    if kinds == {type(None)}:
        return Absent(total, dtype is None)
    if dtype is None:
        return Repeated(values, counts, total) if kinds == {str} else None
    if kinds != {np.ndarray} or any(v.dtype != dtype or v.ndim != 1 or not v.flags.c_contiguous for v in values):
        return None
    return Numbers(values, total)
