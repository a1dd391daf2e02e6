"""A column as entries (level, value), before its levels have slots.

A `Draft` is what one column adds to every row. It depends on the column alone, so the drafts of all columns are made,
and may fail, before anything grows. `draft` works on whole columns; `items` says the same one row at a time, which is
quicker for a few rows and is the definition that the tests hold `draft` to.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nearline._errors import DataError
from nearline.features._vocabulary import Column
from nearline.schema._columns import Floats, Ints, Level, canonical, family, lists, numbers, uniques
from nearline.schema._kinds import Hashed, Multi, Numeric, Vector

Codes: TypeAlias = NDArray[np.integer[Any]]
Item: TypeAlias = tuple[Level, float]


@dataclass(frozen=True, slots=True)
class Draft:
    """Entries of one column, row by row.

    Attributes
    ----------
    levels
        The distinct levels.
    codes
        Position in `levels`, one per entry.
    counts
        Entries per row: one number for all rows, or int64 (n).
    values
        float64, one per entry; None is all ones.
    """

    levels: list[Level]
    codes: Codes
    counts: int | Ints
    values: Floats | None = None


def draft(column: Column, data: Any, grow: bool) -> Draft:
    """Entries of a whole column; with `grow`, learns the column's center and scale if it has none."""
    match column.kind:
        case Numeric():
            return _numeric(*_standardise(column, numbers(data), grow))
        case Vector():
            return _vector(column, data)
        case Multi(sep) if family(data.type) == "str":
            return _split(column, data, sep)
        case Multi() | Hashed() if family(data.type) == "list" or isinstance(column.kind, Multi):
            return _multi(column, *lists(data))
    codes, values = uniques(data, column.name)
    levels, codes = _merge([column.level(value) for value in values], codes)
    return Draft(levels, codes, 1)


def _standardise(column: Column, x: Floats, grow: bool) -> tuple[Level, Floats]:
    """Level of the number, and (x − center) / scale; a level without a slot while center and scale are unknown.

    Raises
    ------
    DataError
        The result is beyond float64.
    """
    column.fit(x if grow else x[:0])  # declared ones need no values
    if column.center is None or column.scale is None:
        return (0 if grow else _UNKNOWN), x
    with np.errstate(over="ignore"):
        values = x if column.center == 0.0 and column.scale == 1.0 else (x - column.center) / column.scale
    huge = np.isinf(values)
    if huge.any():
        row = int(np.argmax(huge))
        raise DataError(f"{float(x[row])!r} is too far from what was seen", column=column.name, row=row, fix="clip it")
    return 0, values


_UNKNOWN = -1


def _numeric(level: Level, values: Floats) -> Draft:
    missing = np.isnan(values)
    if not missing.any():
        return Draft([level], np.zeros(len(values), np.int32), 1, values)
    counts = 1 + missing.astype(np.int64)
    indicator = np.cumsum(counts)[missing] - 1
    codes = np.zeros(len(values) + len(indicator), np.int32)
    codes[indicator] = 1
    spread = np.ones(len(codes))
    spread[codes == 0] = np.where(missing, 0.0, values)
    return Draft([level, None], codes, counts, spread)


def _vector(column: Column, data: Any) -> Draft:
    counts, items = lists(data)
    flat = numbers(items)
    k = _vector_length(column, counts)
    present = counts > 0
    rows = flat.reshape(-1, k) if k else flat.reshape(0, 0)
    broken = np.isnan(rows).any(axis=1)
    if broken.any():
        present[np.flatnonzero(present)[broken]] = False
        rows = rows[~broken]
    if present.all():
        return Draft(list(range(k)), np.tile(np.arange(k, dtype=np.int32), len(counts)), k, rows.ravel())
    sizes = np.where(present, k, 1)
    given = np.repeat(present, sizes)
    codes, values = np.full(len(given), k, np.int32), np.ones(len(given))
    codes[given], values[given] = np.tile(np.arange(k, dtype=np.int32), len(rows)), rows.ravel()
    return Draft([*range(k), None], codes, sizes, values)


def _vector_length(column: Column, counts: Ints) -> int:
    """Length k of all vectors, 0 if all are missing."""
    lengths = counts[counts > 0]
    if not len(lengths):
        return 0
    known = sum(level is not None for level in column.slots) or int(lengths[0])
    wrong = np.flatnonzero((counts > 0) & (counts != known))
    if len(wrong):
        row = int(wrong[0])
        problem = f"the vector has {counts[row]} numbers, the others {known}"
        raise DataError(problem, column=column.name, row=row, fix="make all vectors one length")
    return known


def _multi(column: Column, counts: Ints, items: Any) -> Draft:
    codes, values = uniques(items, column.name)
    levels, codes = _merge([column.level(value) for value in values], codes)
    null = counts < 0
    if null.any():
        levels, codes, counts = _with_missing(column, levels, codes, counts, null)
    return Draft(levels, *_distinct(codes, counts, len(levels)))


def _with_missing(
    column: Column, levels: list[Level], codes: Codes, counts: Ints, null: NDArray[np.bool_]
) -> tuple[list[Level], Codes, Ints]:
    """A null list holds one item, the missing level."""
    missing = column.level(None)
    if missing not in levels:
        levels = [*levels, missing]
    counts = np.where(null, 1, counts)
    spread = np.full(int(counts.sum()), levels.index(missing), np.int64)
    spread[~np.repeat(null, counts)] = codes
    return levels, spread, counts


def _distinct(codes: Codes, counts: Ints, n_levels: int) -> tuple[Codes, Ints]:
    """Each level once per row, where it came first."""
    rows = np.repeat(np.arange(len(counts)), counts)
    longest = int(counts.max(initial=0))
    if longest <= _SHORT and not any(_repeats(codes, rows, lag) for lag in range(1, longest)):
        return codes, counts
    first = np.sort(np.unique(rows * n_levels + codes, return_index=True)[1])
    return codes[first], np.bincount(rows[first], minlength=len(counts))


_SHORT = 16


def _repeats(codes: Codes, rows: Ints, lag: int) -> bool:
    """Whether a row holds one level twice, `lag` entries apart: for short lists much quicker than sorting."""
    same = np.flatnonzero(codes[lag:] == codes[:-lag])
    return bool((rows[same] == rows[same + lag]).any())


def _split(column: Column, data: Any, sep: str | None) -> Draft:
    """Split the distinct strings only, then repeat what they gave."""
    which, texts = uniques(data, column.name)
    strings = pa.array(texts, pa.large_string())
    parts = _multi(column, *lists(_nonempty(pc.split_pattern(strings, sep))))
    sizes = np.asarray(parts.counts)
    starts = np.cumsum(sizes) - sizes
    counts = sizes[which]
    positions = np.repeat(starts[which] - (np.cumsum(counts) - counts), counts) + np.arange(int(counts.sum()))
    return Draft(parts.levels, parts.codes[positions], counts)


def _nonempty(parts: Any) -> Any:
    """Lists of strings without their empty strings."""
    counts, items = lists(parts)
    empty = pc.equal(items, "").to_numpy(False).astype(bool)
    if not empty.any():
        return parts
    rows = np.repeat(np.arange(len(counts)), np.maximum(counts, 0))
    kept = np.bincount(rows[~empty], minlength=len(counts))
    offsets = np.concatenate([[0], np.cumsum(kept)])
    return pa.LargeListArray.from_arrays(pa.array(offsets), items.filter(pa.array(~empty)), mask=pa.array(counts < 0))


def _merge(levels: Sequence[Level], codes: Codes) -> tuple[list[Level], Codes]:
    """Distinct levels, and codes that point to them."""
    position = {level: number for number, level in enumerate(dict.fromkeys(levels))}
    if len(position) == len(levels):
        return list(levels), codes
    return list(position), np.array([position[level] for level in levels], np.int32)[codes]


def items(column: Column, data: Any, grow: bool) -> list[list[Item]]:
    """Entries of every row as (level, value) pairs: `draft`, one row at a time."""
    match column.kind:
        case Numeric():
            level, values = _standardise(column, numbers(data), grow)
            return [[(level, 0.0), (None, 1.0)] if math.isnan(x) else [(level, x)] for x in values.tolist()]
        case Vector():
            return _vector_items(column, *lists(data))
    return [_level_items(column, value) for value in data.to_pylist()]


def _vector_items(column: Column, counts: Ints, flat: Any) -> list[list[Item]]:
    _vector_length(column, counts)
    remaining = iter(numbers(flat).tolist())
    rows = [list(itertools.islice(remaining, max(count, 0))) for count in counts.tolist()]
    return [[(None, 1.0)] if not row or any(map(math.isnan, row)) else list(enumerate(row)) for row in rows]


def _level_items(column: Column, value: Any) -> list[Item]:
    if isinstance(column.kind, Multi) and isinstance(value, str):
        value = [text for text in value.split(column.kind.sep) if text]
    values = value if isinstance(value, list) else [value]
    return [(level, 1.0) for level in dict.fromkeys(column.level(canonical(x, column.name)) for x in values)]
