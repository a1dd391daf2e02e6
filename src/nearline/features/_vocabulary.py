"""What an encoder remembers of a feature column: its kind, its levels and their slots."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np

from nearline._errors import DataError
from nearline.schema._columns import Floats, Level, family
from nearline.schema._kinds import INTERCEPT, ColumnKind, Hashed, Numeric, Vector, accepts

MISSING = "(missing)"
_STORED = {"int": "int", "float": "int", "bool": "bool", "str": "str"}


def stored_family(dtype: Any, known: str | None, column: str) -> str | None:
    """Family that the values of a column are kept in (int, bool, str), None while the column is all null.

    Raises
    ------
    DataError
        The column held values of another family before.
    """
    found = _STORED.get(family(dtype.value_type if family(dtype) == "list" else dtype))
    if known is not None and found is not None and found != known:
        raise DataError(
            f"{dtype} holds {found} values, and earlier tables {known} values",
            column=column,
            fix="cast the column to the type it had",
        )
    return known or found


@dataclass
class Column:
    """Slots of one feature column, by level.

    The levels are the column's values (None is missing); 0 for the number itself of a numeric column; 0 to k − 1 for a
    vector; the hash for a hashed column.
    """

    name: str
    kind: ColumnKind | None = None
    family: str | None = None
    center: float | None = None
    scale: float | None = None
    slots: dict[Level, int] = field(default_factory=dict)

    def slot_name(self, level: Level) -> str:
        """Readable name of a slot, such as "gender=F", "year (missing)", "vec[3]" or "text#1234"."""
        match self.kind:
            case Numeric():
                return self.name if level is not None else f"{self.name} {MISSING}"
            case Vector():
                return f"{self.name}[{level}]" if level is not None else f"{self.name} {MISSING}"
            case Hashed():
                return f"{self.name}#{level}"
        return f"{self.name}={MISSING if level is None else level}"

    def level(self, value: Level) -> Level:
        """Level of a categorical, multi-valued or hashed value."""
        if isinstance(self.kind, Hashed):
            return stable_hash(f"{self.name}={MISSING if value is None else value}", self.kind.bits)
        return None if value == MISSING else value

    def expect(self, kind: ColumnKind | None, dtype: Any) -> Column:
        """Column as it is once a table of type `dtype` has come: a copy, so that a table refused later changes nothing.

        Raises
        ------
        DataError
            The column is of another kind or family than before, or of no known kind.
        """
        kind = self.kind or kind
        if kind is None:
            raise DataError(
                f"{dtype} does not tell what the column is", column=self.name, fix="declare it in Schema(columns=...)"
            )
        if not accepts(kind, dtype):
            raise DataError(f"{dtype} cannot be read as {kind}", column=self.name, fix="cast it to the type it had")
        known = self.family
        if not isinstance(kind, Numeric | Vector):
            known = stored_family(dtype, known, self.name)
        return Column(self.name, kind, known, self.center, self.scale, self.slots)

    def fit(self, values: Floats) -> None:
        """Learn center and scale from the finite values, unless they are known or there are none."""
        if self.scale is None and isinstance(self.kind, Numeric):
            given = self.kind
            found = values[~np.isnan(values)]
            if len(found) or (given.center is not None and given.scale is not None):
                mean, deviation = moments(found)
                self.center = mean if given.center is None else given.center
                self.scale = deviation if given.scale is None else given.scale


@dataclass
class Slots:
    """Name and column of every slot; slot 0 is the intercept."""

    names: list[str] = field(default_factory=lambda: [INTERCEPT])
    columns: list[str] = field(default_factory=lambda: [INTERCEPT])

    def add(self, column: Column, level: Level) -> int:
        """Give a new level the next slot."""
        slot = column.slots[level] = len(self.names)
        self.names.append(column.slot_name(level))
        self.columns.append(column.name)
        return slot


def moments(values: Floats) -> tuple[float, float]:
    """Mean and standard deviation, (0, 1) for no values; the deviation of a constant is 1. No overflow on the way."""
    if not len(values) or values.min() == values.max():
        return (float(values[0]) if len(values) else 0.0), 1.0
    size = 2.0 ** float(np.frexp(np.abs(values).max())[1] - 1)
    mean = float((values / size).mean())
    deviation = float(np.sqrt(((values / size - mean) ** 2).mean())) * size
    return mean * size, deviation if 0.0 < deviation < math.inf else 1.0


def stable_hash(text: str, bits: int) -> int:
    """Hash of a text to 0 ... 2^bits − 1, the same in every process, machine and version."""
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "little") & ((1 << bits) - 1)
