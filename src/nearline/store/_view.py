"""What readers of a log see: one immutable record of segments, recent rows and the durable end."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from nearline._errors import StateError
from nearline.store._recent import Positions, Recent, joined
from nearline.store._sealed import ParquetSegment
from nearline.store._segment import ArrowSegment

Segment: TypeAlias = ArrowSegment | ParquetSegment
_WINDOW = 32_768


@dataclass(frozen=True, slots=True)
class View:
    """Rows [first, end) in segments, of which [recent.start, end) are in memory as well."""

    schema: Any
    segments: tuple[Segment, ...]
    recent: Recent
    end: int

    @property
    def first(self) -> int:
        """Position of the oldest row that is kept."""
        return self.segments[0].first if self.segments else self.recent.start

    def window(self, after: int, limit: int | None = None) -> tuple[int, int]:
        """The part of [after, after + limit) that is here.

        Raises
        ------
        StateError
            Rows before `first` are asked for: retention has removed them, so that who reads on would miss some.
        """
        if after < self.first:
            raise StateError(
                f"position {after} is no longer kept, the log begins at {self.first}; read from there, or "
                "keep rows longer"
            )
        return after, max(after, self.end if limit is None else min(self.end, after + limit))

    def table(self, lo: int, hi: int) -> Any:
        """Rows [lo, hi), which must be here."""
        parts, split = [], max(min(hi, self.recent.start), lo)
        for segment in self.segments[self._number(lo) :] if lo < split else ():
            if segment.first >= split:
                break
            parts.append(segment.table(max(lo, segment.first), min(split, segment.end)))
        if split < hi:
            parts.append(self.recent.table(split, hi))
        return pa.concat_tables(parts) if parts else self.schema.empty_table()

    def take(self, positions: Positions) -> Any:
        """Rows at positions, in their order; a position may come twice.

        Raises
        ------
        StateError
            A position is not (or no longer) in the log.
        """
        if not len(positions):
            return self.schema.empty_table()
        order = np.argsort(positions, kind="stable")
        ordered = positions[order]
        self._check(int(ordered[0]), int(ordered[-1]))
        split = int(np.searchsorted(ordered, self.recent.start))
        parts = self._older(ordered[:split]) + self.recent.take(ordered[split:])
        rows = pa.Table.from_batches(parts, self.schema).combine_chunks()
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return rows.take(pa.array(back))

    def batches(self, after: int) -> Iterator[tuple[int, Any]]:
        """(first position, batch) of each append from a position on."""
        for begin, marks in self._appends(after):
            rows = joined(self.table(begin, marks[-1]))
            for lo, hi in zip([begin, *marks], marks):
                yield lo, rows.slice(lo - begin, hi - lo)

    def grown(self, batch: Any, segment: ArrowSegment) -> View:
        """With a batch more, which is the last in the growing segment."""
        size = segment.size - segment.offsets[bisect_left(segment.bounds, self.end)]
        return View(self.schema, self.segments, self.recent.added(batch, size), segment.end)

    def tidied(self, budget: int) -> View:
        """With the recent rows tidied."""
        recent = self.recent.tidied(budget)
        return self if recent is self.recent else View(self.schema, self.segments, recent, self.end)

    def dataset(self) -> Any:
        """All rows as a `pyarrow.dataset`: sealed segments as files, the rest from memory."""
        import pyarrow.dataset as ds  # a third of a second where pandas is installed, which it imports

        sealed = [segment for segment in self.segments if isinstance(segment, ParquetSegment)]
        paths, rest = [str(segment.path) for segment in sealed], sealed[-1].end if sealed else self.first
        parts = [ds.dataset(paths, schema=self.schema, format="parquet")] if sealed else []
        return ds.dataset([*parts, ds.dataset(self.table(rest, self.end))])

    def _appends(self, after: int) -> Iterator[tuple[int, list[int]]]:
        """(begin, boundaries after it) of stretches of about 32,768 rows, in one segment each."""
        for segment in self.segments[self._number(after) :] if after < self.end else ():
            begin, marks = max(after, segment.first), []
            for mark in segment.bounds[bisect_right(segment.bounds, begin) :]:
                if mark > self.end:
                    break
                marks.append(mark)
                if mark - begin >= _WINDOW:
                    yield begin, marks
                    begin, marks = mark, []
            if marks:
                yield begin, marks

    def _older(self, ordered: Positions) -> list[Any]:
        parts: list[Any] = []
        edges = np.searchsorted(ordered, np.array([*(part.first for part in self.segments), self.end], np.int64))
        for i in np.flatnonzero(np.diff(edges)) if len(ordered) else ():
            parts += self.segments[i].take(ordered[edges[i] : edges[i + 1]])
        return parts

    def _number(self, position: int) -> int:
        """Number of the segment that holds a position."""
        return max(bisect_right(self.segments, position, key=lambda segment: segment.first) - 1, 0)

    def _check(self, lowest: int, highest: int) -> None:
        if lowest < self.first or highest >= self.end:
            wrong = lowest if lowest < self.first else highest
            raise StateError(f"position {wrong} is not in the log, which holds {self.first} to {self.end - 1}")
