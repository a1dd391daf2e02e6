"""Feature values that have no slot yet: what they would add to their rows, if they had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nearline.features._vocabulary import Column
from nearline.schema._columns import Floats, Ints, Level
from nearline.schema._kinds import Numeric

Entry: TypeAlias = tuple[int, Column, Level, float]
"""Row, column, level and value."""


@dataclass(frozen=True, slots=True)
class Unseen:
    """Entries of a design whose level has no slot, by row, then feature, then place in it.

    Attributes
    ----------
    rows
        int64 (m), the row of each entry.
    levels
        int64 (m), which of the distinct levels it is; they are numbered by first appearance.
    values
        float64 (m); zeros are not stored, nor is a number whose column has no center and scale yet.
    columns, names
        Column, and readable name, of each level.
    """

    rows: Ints
    levels: Ints
    values: Floats
    columns: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> Unseen | None:
        """The entries of a table, None where there are none."""
        kept = [(row, column, level, value) for row, column, level, value in entries if adds(column, level, value)]
        if not kept:
            return None
        number: dict[tuple[str, Level], int] = {}
        found: dict[int, Column] = {}
        levels = []
        for _, column, level, _ in kept:
            levels.append(number.setdefault((column.name, level), len(number)))
            found.setdefault(levels[-1], column)
        names = tuple(found[k].slot_name(level) for (_, level), k in number.items())
        rows, values = [row for row, *_ in kept], [value for *_, value in kept]
        columns = tuple(name for name, _ in number)
        return cls(np.array(rows, np.int64), np.array(levels, np.int64), np.array(values), columns, names)

    def and_also(self, other: Unseen | None) -> Unseen:
        """Entries of both; they must share no level."""
        if other is None:
            return self
        rows = np.concatenate([self.rows, other.rows])
        order = np.argsort(rows, kind="stable")
        levels = np.concatenate([self.levels, other.levels + len(self.columns)])[order]
        values = np.concatenate([self.values, other.values])[order]
        return Unseen(rows[order], levels, values, self.columns + other.columns, self.names + other.names)

    def part(self, rows: slice | NDArray[Any], n: int) -> Unseen | None:
        """Entries of some of n rows, in their new order."""
        chosen = np.arange(n)[rows]
        order = np.argsort(self.rows, kind="stable")
        first = np.searchsorted(self.rows[order], chosen)
        counts = np.searchsorted(self.rows[order], chosen, side="right") - first
        if not counts.any():
            return None
        new = np.repeat(np.arange(len(chosen)), counts)
        places = order[np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(int(counts.sum()))]
        return Unseen(new, self.levels[places], self.values[places], self.columns, self.names)


def adds(column: Column, level: Level, value: float) -> bool:
    """Whether an entry would count: zeros do not, nor numbers of unknown center and scale."""
    return value != 0.0 and not (isinstance(column.kind, Numeric) and level is not None and column.scale is None)
