"""Entities of a key: their values, and their codes in order of first appearance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline.features._vocabulary import stored_family
from nearline.schema._columns import Level, canonical, uniques
from nearline.schema._kinds import Key, key_columns

Entity: TypeAlias = Level | tuple[Level, ...]
"""Value of a key: an integer, string or boolean, or a tuple of them for a composite key."""


@dataclass
class Entities:
    """Codes of the entities of one key; `families` are those of its columns."""

    key: Key
    families: list[str | None]
    values: list[Entity] = field(default_factory=list)
    codes: dict[Entity, int] = field(default_factory=dict)

    def expect(self, columns: Mapping[str, Any]) -> list[str | None]:
        """Families of the key's columns once this table has come."""
        names = key_columns([self.key])
        return [stored_family(columns[name].type, known, name) for name, known in zip(names, self.families)]

    def grow(self, values: Sequence[Entity], families: list[str | None]) -> None:
        """Give every new value the next code."""
        self.families = families
        for value in values:
            if value not in self.codes:
                self.codes[value] = len(self.values)
                self.values.append(value)

    def lookup(self, values: Sequence[Entity]) -> NDArray[np.int32]:
        """Codes of the values; unseen ones get −1, −2, ... in order of appearance, equal ones the same."""
        get = self.codes.get
        codes = np.array([get(value, -1) for value in values], np.int32)
        strangers: dict[Entity, int] = {}
        for place in np.flatnonzero(codes < 0).tolist():
            codes[place] = strangers.setdefault(values[place], -1 - len(strangers))
        return codes


Named: TypeAlias = tuple[NDArray[np.integer[Any]] | slice, list[Entity]]
"""Values of a key, and which of them every row has."""


def row_values(key: Key, columns: Mapping[str, Any]) -> Named:
    """Value of the key on every row: quicker than `unique_values` for a few rows."""
    if isinstance(key, str):
        return slice(None), [canonical(value, key) for value in columns[key].to_pylist()]
    return slice(None), list(zip(*(row_values(name, columns)[1] for name in key)))


def unique_values(key: Key, columns: Mapping[str, Any]) -> Named:
    """Distinct values of the key in order of first appearance, and which of them every row has."""
    if isinstance(key, str):
        codes, values = uniques(columns[key], key)
        return codes, list(values)
    codes = np.zeros(len(columns[key[0]]), np.int64)
    tuples: list[tuple[Level, ...]] = [()]
    for name in key:
        more, values = uniques(columns[name], name)
        codes, pairs = _pairs(codes, more, len(values))
        tuples = [(*tuples[pair // len(values)], values[pair % len(values)]) for pair in pairs]
    return codes, list(tuples)


def _pairs(left: NDArray[Any], right: NDArray[Any], n_right: int) -> tuple[NDArray[np.integer[Any]], list[int]]:
    """Code of the pair on every row, and left · n_right + right behind each code."""
    codes, pairs = uniques(pa.array(left.astype(np.int64) * n_right + right), "")
    return codes, [int(pair) for pair in pairs if pair is not None]
