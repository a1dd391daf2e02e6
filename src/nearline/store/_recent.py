"""Recent rows in memory, gathered into few large chunks so that taking rows at random is quick."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
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
    """Rows [start, end) as chunks; readers need no lock.

    The lists are shared with the records that follow, and only grow: a record reads the first `count` entries. Small
    chunks are merged when together they reach 256 and 16,384 rows, so a row is copied twice at most.

    Attributes
    ----------
    size
        Bytes of all chunks.
    loose, fresh
        Rows and chunks that came since the last `tidied`.
    """

    schema: Any
    start: int
    end: int
    chunks: list[Any]
    starts: list[int]
    sizes: list[int]
    count: int
    size: int
    loose: int = 0
    fresh: int = 0

    @classmethod
    def empty(cls, schema: Any, at: int) -> Recent:
        """No rows, the next one being at a position."""
        return cls._of(schema, at, [], [])

    def added(self, batch: Any, size: int) -> Recent:
        """With a batch more, of a size in bytes, in a time that does not depend on how many there are."""
        chunks, starts, sizes = self.chunks, self.starts, self.sizes
        if len(chunks) > self.count:  # something else followed this record
            chunks, starts, sizes = chunks[: self.count], starts[: self.count], sizes[: self.count]
        chunks.append(batch)
        starts.append(self.end)
        sizes.append(size)
        rows = batch.num_rows
        return Recent(
            self.schema, self.start, self.end + rows, chunks, starts, sizes, self.count + 1, self.size + size,
            self.loose + rows, self.fresh + 1,
        )  # fmt: skip

    def tidied(self, budget: int) -> Recent:
        """With small chunks merged, once that is worth it, and without the oldest ones beyond the budget in bytes; the
        newest stays.
        """
        rows, many = _TIERS[-1], _TIERS[0]
        if self.loose < rows and self.fresh < many and self.size <= budget:
            return self
        chunks, sizes = _merged(self.chunks[: self.count], self.sizes[: self.count])
        start, total, drop = self.start, sum(sizes), 0
        while total > budget and drop < len(chunks) - 1:
            start, total, drop = start + chunks[drop].num_rows, total - sizes[drop], drop + 1
        return self._of(self.schema, start, chunks[drop:], sizes[drop:])

    def cut(self, end: int) -> Recent:
        """Without the rows from a position on."""
        if end <= self.start:
            return Recent.empty(self.schema, end)
        if end >= self.end:
            return self
        chunks = self.table(self.start, end).combine_chunks().to_batches()
        return self._of(self.schema, self.start, chunks, [chunk.nbytes for chunk in chunks])

    @classmethod
    def _of(cls, schema: Any, start: int, chunks: list[Any], sizes: list[int]) -> Recent:
        starts, at = list[int](), start
        for chunk in chunks:
            starts.append(at)
            at += chunk.num_rows
        return cls(schema, start, at, chunks, starts, sizes, len(chunks), sum(sizes))

    def table(self, lo: int, hi: int) -> Any:
        """Rows [lo, hi), which must be here."""
        first = max(bisect_right(self.starts, lo, hi=self.count) - 1, 0)
        parts = []
        for start, chunk in zip(self.starts[first : self.count], self.chunks[first : self.count]):
            if start >= hi:
                break
            begin = max(lo - start, 0)
            parts.append(_batch_of(chunk).slice(begin, min(hi - start, chunk.num_rows) - begin))
        return pa.Table.from_batches(parts, self.schema)

    def take(self, positions: Positions) -> list[Any]:
        """Batches of the rows at ascending positions, which must be here."""
        edges = np.searchsorted(positions, np.array([*self.starts[: self.count], self.end], np.int64))
        return [
            _batch_of(self.chunks[i]).take(pa.array(positions[edges[i] : edges[i + 1]] - self.starts[i]))
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


class _Gathered:
    """Neighbouring chunks as one, which is made when it is first read: who appends need not wait for that."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self.num_rows = sum(part.num_rows for part in parts)
        self.parts, self.made = tuple(parts), None

    @property
    def batch(self) -> Any:
        """`pyarrow.RecordBatch` of all rows."""
        parts = self.parts  # looked at first: they go once the batch is there, and another reader may be making it
        if (batch := self.made) is None:
            batch = self.made = joined(pa.Table.from_batches(list(_leaves(parts))))
            self.parts = ()
        return batch


def _leaves(parts: Sequence[Any]) -> Iterator[Any]:
    for part in parts:
        inner = part.parts if isinstance(part, _Gathered) else ()
        if inner and part.made is None:
            yield from _leaves(inner)
        else:
            yield _batch_of(part)


def _batch_of(chunk: Any) -> Any:
    return chunk.batch if isinstance(chunk, _Gathered) else arrow_of(chunk)


def _merged(chunks: list[Any], sizes: list[int]) -> tuple[list[Any], list[int]]:
    for tier in _TIERS:
        begin, rows = len(chunks), 0
        while begin and chunks[begin - 1].num_rows < tier:
            begin -= 1
            rows += chunks[begin].num_rows
        if rows >= tier and len(chunks) - begin > 1 and sum(sizes[begin:]) < _CHUNK_BYTES:
            chunks[begin:] = [_Gathered(chunks[begin:])]
            sizes[begin:] = [sum(sizes[begin:])]
    return chunks, sizes
