"""Roles and kinds of columns, which Arrow types suit a kind, and the kind that a type says by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pyarrow as pa

from nearline._errors import ConfigError
from nearline.schema._columns import family

INTERCEPT = "(intercept)"
Key: TypeAlias = str | tuple[str, ...]
"""What identifies an entity: a column, or a combination of columns."""


@dataclass(frozen=True)
class Numeric:
    """A number x enters as (x − center) / scale; a missing one as 0, with a "(missing)" indicator.

    Parameters
    ----------
    center, scale
        None learns the mean or the standard deviation of the first values seen in training and keeps it; a constant
        column gets scale 1.
    """

    center: float | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.center is not None and not math.isfinite(self.center):
            raise ConfigError(f"Numeric(center={self.center}) must be finite")
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ConfigError(f"Numeric(scale={self.scale}) must be finite and positive")


@dataclass(frozen=True)
class Categorical:
    """One indicator per distinct value (string, integer or boolean), one more for missing."""


@dataclass(frozen=True)
class Multi:
    """Several values per row, one indicator per distinct value: a list, or a string to be split.

    Parameters
    ----------
    sep
        Separator of string columns; empty parts are dropped. None takes list columns only.
    """

    sep: str | None = None

    def __post_init__(self) -> None:
        if self.sep == "":
            raise ConfigError("Multi(sep='') cannot split; name the separator, or None for list columns")


@dataclass(frozen=True)
class Vector:
    """A vector of numbers, of one length in all rows; a null, an empty one or one with a NaN is missing."""


@dataclass(frozen=True)
class Hashed:
    """Values of a column (or items of its lists) hashed to 2^bits indicators: for columns with too many values.

    Parameters
    ----------
    bits
        The hash has this many bits, 1 to 31. It is the same in every process and version.
    """

    bits: int = 18

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 31:
            raise ConfigError(f"Hashed(bits={self.bits}) must be between 1 and 31")


ColumnKind: TypeAlias = Numeric | Categorical | Multi | Vector | Hashed

NUMBERS = frozenset({"int", "float", "decimal", "bool"})
CATEGORIES = frozenset({"int", "float", "bool", "str"})


def infer(dtype: Any) -> ColumnKind | None:
    """Kind that an Arrow type says by itself, None if it says nothing."""
    found = family(dtype)
    if found == "list":
        item = family(dtype.value_type)
        if item in ("float", "decimal") or (item in NUMBERS and pa.types.is_fixed_size_list(dtype)):
            return Vector()
        return Multi() if item in CATEGORIES else None
    if found == "str" or (found in CATEGORIES and pa.types.is_dictionary(dtype)):
        return Categorical()
    return Numeric() if found in NUMBERS else None


def accepts(kind: ColumnKind, dtype: Any) -> bool:
    """Whether a column of this Arrow type can be read as `kind` (an all-null column always can)."""
    found = family(dtype)
    if found == "null":
        return True
    item = family(dtype.value_type) if found == "list" else ""
    match kind:
        case Numeric():
            return found in NUMBERS
        case Categorical():
            return found in CATEGORIES
        case Multi(sep):
            return item in CATEGORIES | {"null"} or (found == "str" and sep is not None)
        case Vector():
            return item in NUMBERS | {"null"}
        case Hashed():
            return found in CATEGORIES or item in CATEGORIES | {"null"}


@dataclass(frozen=True)
class Schema:
    """Roles of columns, and the kinds of those whose Arrow type does not tell.

    Parameters
    ----------
    label
        What happened: 0/1 (or −1/+1, or bool), a count or an amount.
    time
        When: a timestamp of any unit or zone, a date, or seconds since the epoch.
    id
        Identity of the event; a second row with the same id is refused.
    weight
        Weight w ≥ 0 of the row; a row of weight 2 counts as two rows.
    offset
        Known part of the margin, added to the score.
    columns
        Kinds by column name, where the inferred one (numbers `Numeric`, strings `Categorical`, lists of strings or
        integers `Multi`, lists of floats `Vector`) is not meant.

    Examples
    --------
    >>> Schema(label="liked", time="timestamp", columns={"age": Categorical(), "genres": Multi(sep="|")}).kind(
    ...     "year", pa.int16()
    ... )
    Numeric(center=None, scale=None)
    """

    label: str
    time: str | None = None
    id: str | None = None
    weight: str | None = None
    offset: str | None = None
    columns: Mapping[str, ColumnKind] = field(default_factory=dict, hash=False)

    def kind(self, column: str, dtype: Any) -> ColumnKind | None:
        """Kind of a column: the declared one, else the one its Arrow type says; None where that says nothing."""
        return self.columns.get(column) or infer(dtype)


def key_columns(keys: Sequence[Key]) -> list[str]:
    """Columns of all keys, each once, in order."""
    return list(dict.fromkeys(name for key in keys for name in ((key,) if isinstance(key, str) else key)))
