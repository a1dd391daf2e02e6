"""Entities of a key: their values, and their codes in order of first appearance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline.features._vocabulary import stored_family
from nearline.schema._columns import Ints, Level, canonical, uniques
from nearline.schema._kinds import Key, key_columns

Entity: TypeAlias = Level | tuple[Level, ...]
"""Value of a key: an integer, string or boolean, or a tuple of them for a composite key."""


_MANY = 1000
"""From so many rows on, integer keys are looked up as one array."""


@dataclass
class Entities:
    """Codes of the entities of one key, in order of first appearance; `families` are those of its columns.

    `values` is the truth. A dict serves a few values at a time and a compiled index whole columns of integers; each
    follows `values` when it is next asked.
    """

    key: Key
    families: list[str | None]
    values: list[Entity] = field(default_factory=list)
    _codes: dict[Entity, int] = field(default_factory=dict)
    _index: Any = None
    _indexed: int = 0

    @property
    def codes(self) -> dict[Entity, int]:
        """Code by value."""
        known, n = len(self._codes), len(self.values)
        if known < n:
            self._codes.update(zip(self.values[known:n], range(known, n)))
        return self._codes

    def expect(self, columns: Mapping[str, Any]) -> list[str | None]:
        """Families of the key's columns once this table has come."""
        names = key_columns([self.key])
        return [stored_family(columns[name].type, known, name) for name, known in zip(names, self.families)]

    def grow(self, values: Sequence[Entity] | Ints, families: list[str | None]) -> None:
        """Give every new value the next code."""
        self.families = families
        if isinstance(values, np.ndarray):
            index = self.integers()
            self.values += index.add(values, len(self.values)).tolist()
            self._indexed = len(self.values)
            return
        codes = self.codes
        for value in values:
            if value not in codes:
                codes[value] = len(self.values)
                self.values.append(value)

    def copy(self) -> Entities:
        """The same entities, to grow on their own."""
        return Entities(self.key, list(self.families), list(self.values), dict(self._codes))

    def lookup(self, values: Sequence[Entity] | Ints) -> NDArray[np.int32]:
        """Codes of the values; unseen ones get −1, −2, ... in order of appearance, equal ones the same."""
        if isinstance(values, np.ndarray):
            codes: NDArray[np.int32] = self.integers().find(values)
            unseen = np.flatnonzero(codes < 0)
            if len(unseen):
                codes[unseen] = -1 - uniques(pa.array(values[unseen]), "")[0]
            return codes
        get = self.codes.get
        found = np.array([get(value, -1) for value in values], np.int32)
        return strangers(found, values)

    def integers(self) -> Any:
        """The index, up to date; integers beyond int64 are left out, since no array asks for them."""
        first, n = self._indexed, len(self.values)
        if self._index is None:
            from nearline.features._int_index import IntIndex

            self._index = IntIndex()
        if first < n:
            self._index.put(*_fitting(self.values[first:n], first))
            self._indexed = n
        return self._index


def _fitting(values: list[Entity], first: int) -> tuple[Ints, Ints]:
    """The integers among values that fit int64, and their codes, counted from `first`."""
    whole: Any = np.array(values) if set(map(type, values)) == {int} else np.zeros(0)
    if whole.dtype == np.int64:
        return whole, np.arange(first, first + len(values), dtype=np.int64)
    fit = [(value, code) for code, value in enumerate(values, first) if _fits(value)]
    keys, codes = np.array(fit, np.int64).reshape(-1, 2).T.copy()
    return keys, codes


def _fits(value: Entity) -> bool:
    return isinstance(value, int) and -(2**63) <= value < 2**63


def strangers(codes: NDArray[np.int32], values: Any) -> NDArray[np.int32]:
    """Codes with −1, −2, ... in place of negative ones, in order of appearance, the same for equal values."""
    met: dict[Any, int] = {}
    for place in np.flatnonzero(codes < 0).tolist():
        codes[place] = met.setdefault(values[place], -1 - len(met))
    return codes


class Codes(Mapping[Entity, int]):
    """Code by value, read only, growing with the entities."""

    def __init__(self, entities: Entities) -> None:
        self._entities = entities

    def __getitem__(self, value: Entity) -> int:
        return self._entities.codes[value]

    def __iter__(self) -> Iterator[Entity]:
        return iter(self._entities.codes)

    def __len__(self) -> int:
        return len(self._entities.values)

    def __repr__(self) -> str:
        return repr(self._entities.codes)


Named: TypeAlias = tuple[NDArray[np.integer[Any]] | slice, list[Entity] | Ints]
"""Values of a key, and which of them every row has; values as an array are those of all rows."""


def row_values(key: Key, columns: Mapping[str, Any]) -> tuple[slice, list[Entity]]:
    """Value of the key on every row: quicker than `unique_values` for a few rows."""
    if isinstance(key, str):
        return slice(None), [canonical(value, key) for value in columns[key].to_pylist()]
    return slice(None), list(zip(*(row_values(name, columns)[1] for name in key)))


def unique_values(key: Key, columns: Mapping[str, Any]) -> Named:
    """Distinct values of the key in order of first appearance, and which of them every row has.

    A column of many integers comes as it is.
    """
    if isinstance(key, str):
        if _is_plain(columns[key]):
            return slice(None), np.ascontiguousarray(columns[key].to_numpy(), np.int64)
        codes, values = uniques(columns[key], key)
        return codes, list(values)
    codes = np.zeros(len(columns[key[0]]), np.int64)
    tuples: list[tuple[Level, ...]] = [()]
    for name in key:
        more, values = uniques(columns[name], name)
        codes, pairs = _pairs(codes, more, len(values))
        tuples = [(*tuples[pair // len(values)], values[pair % len(values)]) for pair in pairs]
    return codes, list(tuples)


def _is_plain(column: Any) -> bool:
    """Whether a column is many integers that all fit int64."""
    dtype = column.type
    fits = pa.types.is_integer(dtype) and dtype != pa.uint64()
    return fits and len(column) >= _MANY and not column.null_count


def _pairs(left: NDArray[Any], right: NDArray[Any], n_right: int) -> tuple[NDArray[np.integer[Any]], list[int]]:
    """Code of the pair on every row, and left · n_right + right behind each code."""
    codes, pairs = uniques(pa.array(left.astype(np.int64) * n_right + right), "")
    return codes, [int(pair) for pair in pairs if pair is not None]
