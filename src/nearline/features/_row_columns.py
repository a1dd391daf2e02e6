"""One column of served rows as entries with slots: the twin of `_drafts` for Python lists and a vocabulary at rest.

An entry without a slot stands at slot −1 with value 0, so that dropping zeros drops it too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nearline._errors import DataError
from nearline.features._assemble import Slotted
from nearline.features._entities import Entities, strangers
from nearline.features._vocabulary import MISSING, Column
from nearline.schema._columns import Floats, Level

Found: TypeAlias = tuple[Slotted, int]
"""Entries of a column, and how many of them have no slot."""


def lookup(codes: Mapping[Any, int], values: Sequence[Any]) -> NDArray[np.int32]:
    """Code of every value, −1 where there is none."""
    try:
        return _all(codes, values)
    except KeyError:
        return np.array([codes.get(value, -1) for value in values], np.int32)


def entities(known: Entities, values: Sequence[Any]) -> NDArray[np.int32]:
    """Codes of a key's values, as `Entities.lookup` gives them.

    Integers go through the compiled index: a dict of many keys waits for memory three times a key.
    """
    if known.families == ["int"]:
        codes: NDArray[np.int32] = known.integers().find(np.array(values, np.int64))
        return strangers(codes, values) if int(codes.min(initial=0)) < 0 else codes
    try:
        return _all(known.codes, values)
    except KeyError:
        return known.lookup(values)


def _all(codes: Mapping[Any, int], values: Sequence[Any]) -> NDArray[np.int32]:
    """Codes of values that all have one: one C call looks up all of them."""
    if len(values) < 2:
        return np.array([codes[value] for value in values], np.int32)
    return np.fromiter(itemgetter(*values)(codes), np.int32, len(values))


def _with_values(slots: NDArray[np.int32], counts: Any, values: Floats | None = None) -> Found:
    unseen = slots < 0
    total = int(np.count_nonzero(unseen))
    if not total:
        return Slotted(slots, counts, values), 0
    return Slotted(slots, counts, np.where(unseen, 0.0, 1.0 if values is None else values)), total


def categorical(column: Column, values: Sequence[Any]) -> Found:
    """One level per row."""
    slots = column.slots
    try:
        return Slotted(_all(slots, values), 1, None), 0
    except KeyError:
        return _with_values(lookup(slots, [column.level(value) for value in values]), 1)


def standardised(columns: Sequence[Column], x: Floats) -> Floats | None:
    """(x − center) / scale of all numeric columns (columns, n) at once; None where one has to be looked at alone."""
    given = [(column.center, column.scale) for column in columns if 0 in column.slots]
    if len(given) < len(columns) or not columns or any(scale is None for _, scale in given):
        return None
    center, scale = np.array(given, np.float64).T
    values: Floats = (x - center[:, None]) / scale[:, None]
    return values if math.isfinite(float(np.add.reduce(values, axis=None))) else None


def numeric(column: Column, x: Floats) -> Found:
    """One number (x − center) / scale per row, or the indicator of a missing one.

    Raises
    ------
    DataError
        A number, or what it becomes, is infinite.
    """
    slot = column.slots.get(0, -1)
    if column.center is None or column.scale is None:
        missing, slot, values = np.isnan(x), -1, x
    else:
        values = x if column.center == 0.0 and column.scale == 1.0 else (x - column.center) / column.scale
        if slot >= 0 and math.isfinite(float(np.add.reduce(values))):
            return Slotted(np.full(len(x), slot, np.int32), 1, values), 0
        missing = np.isnan(x)
    _refuse(column.name, np.isinf(x), "feature is {}", x, "clip it, or make it null (missing)")
    _refuse(column.name, np.isinf(values), "{} is too far from what was seen", x, "clip it")
    other = column.slots.get(None, -1)
    slots = np.where(missing, other, slot).astype(np.int32)
    unseen = (len(x) if slot < 0 else 0) + (int(np.count_nonzero(missing)) if other < 0 else 0)
    return Slotted(slots, 1, np.where(slots < 0, 0.0, np.where(missing, 1.0, values))), unseen


def _refuse(name: str, bad: Any, problem: str, values: Any, fix: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(problem.replace("{}", repr(float(values[row]))), column=name, row=row, fix=fix)


def multi(column: Column, values: Sequence[Any], sep: str | None) -> Found:
    """Several levels per row, each once; a row without a value holds the missing level."""
    return _spread(column, [_items(column, value, sep) for value in values])


def _items(column: Column, value: Any, sep: str | None) -> Iterable[Level]:
    if value is None:
        return _NONE
    items = [text for text in value.split(sep) if text] if isinstance(value, str) else value
    return dict.fromkeys(map(column.level, items) if MISSING in items else items)


_NONE: tuple[Level] = (None,)


def hashed(column: Column, rows: Sequence[Any], level: Callable[[Any], Level]) -> Found:
    """Hashes of the items of every row, each once."""
    return _spread(column, [dict.fromkeys(map(level, _NONE if row is None else row)) for row in rows])


def _spread(column: Column, rows: Sequence[Any]) -> Found:
    counts = np.fromiter(map(len, rows), np.int64, len(rows))
    return _with_values(lookup(column.slots, list(chain.from_iterable(rows))), counts)


def vector(column: Column, rows: Sequence[Any]) -> Found:
    """The numbers of a vector per row, or the indicator of a missing one.

    Raises
    ------
    DataError
        A vector of another length than the others, or with an infinite number.
    """
    k = len(column.slots) - (None in column.slots) or len(next(filter(None, rows), ()))
    wrong = next((number for number, row in enumerate(rows) if row and len(row) != k), None)
    if wrong is not None:
        problem = f"the vector has {len(rows[wrong])} numbers, the others {k}"
        raise DataError(problem, column=column.name, row=wrong, fix="make all vectors one length")
    empty = [math.nan] * k
    x = np.array([row or empty for row in rows], np.float64).reshape(len(rows), k)
    _refuse(column.name, np.isinf(x).any(axis=1), "vector holds an infinite number", np.zeros(len(x)), "clip it")
    present = ~np.isnan(x).any(axis=1) if k else np.zeros(len(x), bool)
    slots = np.array([column.slots.get(place, -1) for place in range(k)], np.int32)
    if present.all():
        return _with_values(np.tile(slots, len(x)), k, x.ravel())
    sizes = np.where(present, k, 1)
    given = np.repeat(present, sizes)
    chosen, values = np.full(len(given), column.slots.get(None, -1), np.int32), np.ones(len(given))
    chosen[given], values[given] = np.tile(slots, int(present.sum())), x[present].ravel()
    return _with_values(chosen, sizes, values)


def seconds_of(values: Any, name: str, now: float) -> Floats:
    """Seconds since the epoch; dates and times without a zone are in UTC."""
    try:
        times = np.array(values, np.float64)
    except TypeError:
        times = np.array([_seconds(value) for value in values], np.float64)
    absent = np.isnan(times)
    if absent.any():
        times[absent] = now
    refuse_infinite(times, name)
    return times


def _seconds(value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()


def refuse_infinite(values: Floats, name: str) -> None:
    """Raise DataError at the first number that is not finite."""
    good = np.isfinite(values)
    if not good.all():
        row = int(np.argmin(good))
        raise DataError(f"{float(values[row])!r} is not finite", column=name, row=row, fix="send a finite number")
