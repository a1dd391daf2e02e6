"""From the files of a folder to segments without a gap: what is torn is cut off, what is damaged is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from nearline._errors import StateError
from nearline.store._faults import gone, refused
from nearline.store._folder import Mark, remove, remove_leftovers, segment_paths, sync
from nearline.store._recent import Recent, joined
from nearline.store._sealed import ParquetSegment, RowGroups
from nearline.store._segment import ArrowSegment, new_segment, open_segment
from nearline.store._view import Segment

_TOGETHER, _TOGETHER_BYTES = 1_024, 8 << 20
_ATTEMPTS = 10  # files that a writer seals or removes between two looks


def writable(
    folder: Path, schema: Any, durable: int, cache: RowGroups
) -> tuple[list[Segment], ArrowSegment, list[str]]:
    """Segments, all of them durable, the last one, which can be appended to, and what was cut off or removed.

    Raises
    ------
    StateError
        Damage, a gap, rows missing; or the system refuses.
    """
    remove_leftovers(folder)
    segments, notes = load(folder, schema, durable, cache, repair=True)
    last = segments[-1] if segments else None
    if isinstance(last, ArrowSegment):
        sync(last.path)
        if last.written.equals(schema):
            return segments, last, notes
        if last.end == last.first:
            segments.pop()
    active = new_segment(folder, last.end if last else 0, schema)
    return [*segments, active], active, notes


def readable(folder: Path, schema: Any, mark: Mark, cache: RowGroups) -> tuple[list[Segment], int]:
    """Segments as they are now, beside a writer or without one, and the durable end.

    Raises
    ------
    StateError
        There is no log; damage, a gap, rows missing.
    """
    if not folder.is_dir():
        raise StateError(f"{folder}: there is no log; a writer creates it")
    for _ in range(_ATTEMPTS):
        # The mark first: what it says is then in the segments.
        durable = mark.read()
        try:
            segments, _ = load(folder, schema, durable, cache, repair=False)
        except FileNotFoundError as error:
            fault = error
            continue
        end = segments[-1].end if segments else 0
        return segments, durable if mark.path.exists() else end
    raise gone(fault)


def load(folder: Path, schema: Any, durable: int, cache: RowGroups, *, repair: bool) -> tuple[list[Segment], list[str]]:
    """Segments by position, and what was cut off or left over, in words.

    Parameters
    ----------
    durable
        Durable end as far as known.
    repair
        Whether files may be changed: a torn tail cut off, leftovers of an interrupted seal or compaction removed.

    Raises
    ------
    StateError
        A gap between segments, damage, or fewer rows than were durable.
    """
    segments: list[Segment] = []
    notes: list[str] = []
    paths = segment_paths(folder)
    for number, (first, path) in enumerate(paths):
        end = segments[-1].end if segments else first
        if path.suffix == ".arrow" and segments and segments[-1].first == first:
            notes.append(_left_over(path, repair))
            continue
        last = number == len(paths) - 1
        segment, torn = _open(path, first, schema, durable if last else None, cache)
        if torn:
            notes.append(torn)
            _cut(path, segment, repair)
        if segment is None:
            continue
        if first < end and segment.end <= end:
            notes.append(_left_over(path, repair))
            continue
        if first != end:
            raise StateError(
                f"{folder}: {path.name} begins at position {first}, where {end} should follow; restore what is missing"
            )
        segments.append(segment)
    found = segments[-1].end if segments else 0
    if found < durable:
        raise StateError(
            f"{folder}: holds {found} rows of {durable} durable ones; restore the last segment from a copy"
        )
    return segments, notes


def _open(path: Path, first: int, schema: Any, durable: int | None, cache: RowGroups) -> tuple[Segment | None, str]:
    if path.suffix == ".parquet":
        return ParquetSegment(path, first, schema, cache), ""
    return open_segment(path, first, schema, durable)


def _left_over(path: Path, repair: bool) -> str:
    if repair:
        remove(path)
    return f"{path.name}: its rows are in a sealed segment as well, left over from an interruption"


def _cut(path: Path, segment: Segment | None, repair: bool) -> None:
    if not repair:
        return
    if not isinstance(segment, ArrowSegment):
        remove(path)
        return
    try:
        os.truncate(path, segment.size)
    except OSError as error:
        raise refused(path, "cut off the torn tail", error) from error


def remembered(segment: ArrowSegment, schema: Any, budget: int) -> Recent:
    """The rows of the growing segment in memory, as far as they fit in so many bytes."""
    recent, parts, begin = Recent.empty(schema, segment.first), list[Any](), segment.offsets[0]
    for (_, batch), end in zip(segment.all_batches(), segment.offsets[1:]):
        parts.append(batch)
        # Many small appends are gathered before they are added, which costs as much for one row as for thousands.
        if len(parts) == _TOGETHER or end - begin >= _TOGETHER_BYTES or end == segment.size:
            recent = recent.added(joined(pa.Table.from_batches(parts)), end - begin).tidied(budget)
            parts, begin = [], end
    return recent
