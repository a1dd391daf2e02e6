"""Sealing, merging, removing and truncating segments, each so that an interruption leaves a log that opens.

New files are written aside, synced and renamed; old ones are removed after. A file whose rows are in an earlier one as
well is a leftover, and `load` removes it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from nearline.store._folder import Mark, remove
from nearline.store._recent import Recent, joined
from nearline.store._sealed import ROW_GROUP, ParquetSegment, RowGroups, write_sealed
from nearline.store._segment import ArrowSegment, new_segment
from nearline.store._view import Segment, View


def seal(segment: ArrowSegment, cache: RowGroups) -> ParquetSegment:
    """The Parquet file of a closed stream, beside it."""
    whole = ArrowSegment(segment.path, segment.first, segment.written, segment.written, segment.offsets[0])
    whole.bounds, whole.offsets = segment.bounds, segment.offsets
    return _written([whole], segment.schema, segment.bounds, cache)


def mergeable(segments: Sequence[Segment], most: int) -> list[list[Segment]]:
    """Runs of two or more neighbouring sealed segments with the same columns and together at most so many rows."""
    groups: list[list[Segment]] = []
    group: list[Segment] = []
    for segment in segments:
        fits = (
            bool(group)
            and isinstance(segment, ParquetSegment)
            and segment.written.equals(group[0].written)
            and segment.end - group[0].first <= most
        )
        if fits:
            group.append(segment)
        else:
            groups.append(group)
            group = [segment] if isinstance(segment, ParquetSegment) else []
    return [run for run in [*groups, group] if len(run) > 1]


def merge(group: Sequence[Segment], cache: RowGroups) -> ParquetSegment:
    """One Parquet file for several, in place of the first."""
    whole = [ParquetSegment(segment.path, segment.first, segment.written, RowGroups(0)) for segment in group]
    bounds = [group[0].first, *(mark for segment in group for mark in segment.bounds[1:])]
    return _written(whole, group[0].schema, bounds, cache)


def discard(segments: Sequence[Segment]) -> None:
    """Remove files from the oldest on, so that what an interruption leaves has no gap."""
    for segment in segments:
        remove(segment.path)


def truncate(folder: Path, view: View, mark: Mark, end: int) -> None:
    """Bring the files of a log down to an end."""
    # The mark first: it must never say more than there is.
    if end < mark.read():
        mark.write(end, sync=True)
    for segment in reversed(view.segments):
        if segment.first >= end and segment is not view.segments[0]:
            remove(segment.path)
        elif segment.end > end:
            _shorten(folder, segment, end)


def _shorten(folder: Path, segment: Segment, end: int) -> None:
    """Rewrite a segment up to an end, the last append cut short where needed."""
    edge = bisect_right(segment.bounds, end) - 1
    edges = [*segment.bounds[: edge + 1], *([end] if segment.bounds[edge] < end else [])]
    rows = [joined(segment.table(lo, hi)) for lo, hi in pairwise(edges)]
    new_segment(folder, segment.first, segment.schema, rows)
    if isinstance(segment, ParquetSegment):
        remove(segment.path)


def _written(whole: Sequence[Segment], schema: Any, bounds: Sequence[int], cache: RowGroups) -> ParquetSegment:
    """Neighbouring segments, read with all the columns they have, as one sealed segment in place of the first."""
    head, end = whole[0], whole[-1].end
    view = View(head.written, tuple(whole), Recent.empty(head.written, end), end)
    starts = range(head.first, end, ROW_GROUP)
    tables = (view.table(lo, min(lo + ROW_GROUP, end)) for lo in starts)
    path = write_sealed(head.path.parent, head.first, head.written, bounds, tables, len(starts))
    return ParquetSegment(path, head.first, schema, cache)
