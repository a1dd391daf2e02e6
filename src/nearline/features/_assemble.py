"""Columns to compressed sparse rows: levels get slots, entries get their places.

`encode_columns` works on whole columns, `encode_rows` row by row. Both give the same rows and the same new slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nearline.features._drafts import Draft, draft, items
from nearline.features._unseen import Entry
from nearline.features._vocabulary import Column, Slots
from nearline.schema._columns import Floats, Ints, Level

Rows: TypeAlias = tuple[Ints, NDArray[np.int32], Floats]
"""indptr, indices and values."""


def encode_rows(
    columns: Sequence[Column], data: Sequence[Any], n: int, slots: Slots, grow: bool
) -> tuple[Rows, list[Entry]]:
    """Rows, and the entries that had no slot: quicker for a few rows, and the definition of the encoding."""
    found = [items(column, values, grow) for column, values in zip(columns, data)]
    indptr, indices, values, unseen = [0], [], [], list[Entry]()
    for number, row in enumerate(zip(*found) if found else [()] * n):
        indices.append(0)
        values.append(1.0)
        for column, entries in zip(columns, row):
            for level, value in entries:
                slot = column.slots.get(level)
                if slot is None and grow:
                    slot = slots.add(column, level)
                if slot is None:
                    unseen.append((number, column, level, value))
                elif value != 0.0:
                    indices.append(slot)
                    values.append(value)
        indptr.append(len(indices))
    return (np.array(indptr), np.array(indices, np.int32), np.array(values)), unseen


def encode_columns(
    columns: Sequence[Column], data: Sequence[Any], n: int, slots: Slots, grow: bool
) -> tuple[Rows, list[Entry]]:
    """Rows, and the entries that had no slot."""
    drafts = [draft(column, values, grow) for column, values in zip(columns, data)]
    if grow:
        for number, level in newcomers(columns, drafts, n):
            slots.add(columns[number], level)
    entries = [slotted(column, found, n) for column, found in zip(columns, drafts)]
    unseen = [entry for _, without in entries for entry in without]
    # By row, and within it by column and place: the sort is stable.
    return assemble([entry for entry, _ in entries], n), sorted(unseen, key=lambda entry: entry[0])


class Slotted(NamedTuple):
    """Entries of one column with their slots; `values` None is all ones."""

    slots: NDArray[np.int32]
    counts: int | Ints
    values: Floats | None


def newcomers(columns: Sequence[Column], drafts: Sequence[Draft], n: int) -> list[tuple[int, Level]]:
    """Levels without a slot, as (column number, level), by row of first appearance, then column, then place in it."""
    found: list[tuple[int, int, int, Level]] = []
    for number, (column, entries) in enumerate(zip(columns, drafts)):
        new = [code for code, level in enumerate(entries.levels) if level not in column.slots]
        if new:
            places = _first_places(entries)[new]
            rows = _row_of(entries, places, n)
            seen = [(row, number, place, entries.levels[code]) for row, place, code in zip(rows, places.tolist(), new)]
            found += [entry for entry in seen if entry[2] >= 0]
    return [(number, level) for _, number, _, level in sorted(found, key=lambda entry: entry[:3])]


def _first_places(entries: Draft) -> Ints:
    """First entry of every level, −1 for a level that no row holds."""
    places = np.full(len(entries.levels), -1)
    places[entries.codes[::-1]] = np.arange(len(entries.codes) - 1, -1, -1)  # the last write wins
    return places


def _row_of(entries: Draft, places: Ints, n: int) -> list[int]:
    if isinstance(entries.counts, int):
        return (places // max(entries.counts, 1)).tolist()  # type: ignore[no-any-return]
    return np.searchsorted(np.cumsum(entries.counts), places, side="right").tolist()  # type: ignore[no-any-return]


def slotted(column: Column, entries: Draft, n: int) -> tuple[Slotted, list[Entry]]:
    """Entries with slots, without those that have none or are zero; and those that have none."""
    get = column.slots.get
    slots = np.array([get(level, -1) for level in entries.levels], np.int32)
    chosen = slots[entries.codes]
    without = np.flatnonzero(chosen < 0) if (slots < 0).any() else np.zeros(0, np.int64)
    keep = chosen >= 0 if len(without) else None
    if entries.values is not None and not entries.values.all():
        keep = entries.values != 0.0 if keep is None else keep & (entries.values != 0.0)
    if keep is None:
        return Slotted(chosen, entries.counts, entries.values), []
    values = None if entries.values is None else entries.values[keep]
    return Slotted(chosen[keep], _kept(entries.counts, keep, n), values), _unseen(column, entries, without, n)


def _unseen(column: Column, entries: Draft, places: Ints, n: int) -> list[Entry]:
    values = np.ones(len(places)) if entries.values is None else entries.values[places]
    levels = [entries.levels[code] for code in entries.codes[places].tolist()]
    return [(row, column, level, v) for row, level, v in zip(_row_of(entries, places, n), levels, values.tolist())]


def _kept(counts: int | Ints, keep: NDArray[np.bool_], n: int) -> Ints:
    if isinstance(counts, int):
        kept: Ints = keep.reshape(n, counts).sum(axis=1)
        return kept
    total: Ints = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep)])
    ends = np.cumsum(counts)
    inside: Ints = total[ends] - total[ends - counts]
    return inside


def assemble(columns: Sequence[Slotted], n: int) -> Rows:
    """Rows of all columns side by side, each behind an intercept entry."""
    indptr = np.zeros(n + 1, np.int64)
    np.cumsum(1 + sum((column.counts for column in columns), np.zeros(n, np.int64)), out=indptr[1:])
    indices, values = np.zeros(int(indptr[-1]), np.int32), np.ones(int(indptr[-1]))
    at = indptr[:-1] + 1
    for column in columns:
        places = _places(at, column.counts, len(column.slots))
        indices[places] = column.slots
        if column.values is not None:
            values[places] = column.values
        at = at + column.counts
    return indptr, indices, values


def _places(at: Ints, counts: int | Ints, total: int) -> Ints:
    """Positions at, at + 1, ..., at + counts − 1 of every row, one row after the other."""
    if isinstance(counts, int):
        return at if counts == 1 else (at[:, None] + np.arange(counts)).ravel()
    return np.repeat(at - (np.cumsum(counts) - counts), counts) + np.arange(total)
