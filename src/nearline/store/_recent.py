"""Recent rows in memory, gathered into few large chunks so that taking rows at random is quick."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline._errors import DataError
from nearline.store._packed import arrow_of

Positions: TypeAlias = NDArray[np.int64]

_TIERS = (256, 16384)
_CHUNK_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Recent:
    """Rows [start, end) as chunks; immutable, so that readers need no lock.

    Small appends are merged when together they reach 256 and 16,384 rows: a row is copied twice at most.
    """

    schema: Any
    start: int
    chunks: tuple[Any, ...] = ()
    starts: tuple[int, ...] = ()
    end: int = 0
    sizes: tuple[int, ...] = ()

    @classmethod
    def empty(cls, schema: Any, at: int) -> Recent:
        """No rows, the next one being at a position."""
        return cls(schema, at, end=at)

    def added(self, batch: Any, size: int, budget: int) -> Recent:
        """With a batch more, of a size in bytes, and without the oldest chunks beyond the budget; the newest stays."""
        chunks, sizes = _merged([*self.chunks, batch], [*self.sizes, size])
        starts, total, drop = (*self.starts, self.end)[: len(chunks)], sum(sizes), 0  # merged are the last ones only
        while total > budget and drop < len(chunks) - 1:
            total, drop = total - sizes[drop], drop + 1
        start, end = starts[drop] if drop else self.start, self.end + batch.num_rows
        return Recent(self.schema, start, tuple(chunks[drop:]), starts[drop:], end, tuple(sizes[drop:]))

    def cut(self, end: int) -> Recent:
        """Without the rows from a position on."""
        if end <= self.start:
            return Recent.empty(self.schema, end)
        if end >= self.end:
            return self
        chunks = self.table(self.start, end).combine_chunks().to_batches()
        return self._of(self.start, chunks, [chunk.nbytes for chunk in chunks])

    def _of(self, start: int, chunks: Sequence[Any], sizes: Sequence[int]) -> Recent:
        starts, at = [], start
        for chunk in chunks:
            starts.append(at)
            at += chunk.num_rows
        return Recent(self.schema, start, tuple(chunks), tuple(starts), at, tuple(sizes))

    def table(self, lo: int, hi: int) -> Any:
        """Rows [lo, hi), which must be here."""
        first = max(bisect_right(self.starts, lo) - 1, 0)
        parts = []
        for start, chunk in zip(self.starts[first:], self.chunks[first:]):
            if start >= hi:
                break
            begin = max(lo - start, 0)
            parts.append(arrow_of(chunk).slice(begin, min(hi - start, chunk.num_rows) - begin))
        return pa.Table.from_batches(parts, self.schema)

    def take(self, positions: Positions) -> list[Any]:
        """Batches of the rows at ascending positions, which must be here."""
        edges = np.searchsorted(positions, np.array([*self.starts, self.end], np.int64))
        return [
            arrow_of(self.chunks[i]).take(pa.array(positions[edges[i] : edges[i + 1]] - self.starts[i]))
            for i in np.flatnonzero(np.diff(edges))
        ]


def joined(table: Any) -> Any:
    """The rows of a table, at least one, as one batch.

    Raises
    ------
    DataError
        The strings of a column have more than 2 GiB together.
    """
    batches = table.combine_chunks().to_batches()
    if len(batches) != 1:
        size = f"{len(table)} rows, {table.nbytes >> 20} MiB"
        raise DataError(f"{size}, are too much for one batch", fix="commit more often")
    return batches[0]


def _merged(chunks: list[Any], sizes: list[int]) -> tuple[list[Any], list[int]]:
    for tier in _TIERS:
        begin, rows = len(chunks), 0
        while begin and chunks[begin - 1].num_rows < tier:
            begin -= 1
            rows += chunks[begin].num_rows
        if rows >= tier and len(chunks) - begin > 1 and sum(sizes[begin:]) < _CHUNK_BYTES:
            chunks[begin:] = (
                pa.Table.from_batches([arrow_of(chunk) for chunk in chunks[begin:]]).combine_chunks().to_batches()
            )
            sizes[begin:] = [sum(sizes[begin:])]
    return chunks, sizes
