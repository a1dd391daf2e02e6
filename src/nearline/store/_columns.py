"""From what requests hand over (lists, arrays, single values) to one record batch for many of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from nearline._errors import DataError
from nearline.features import RowBlock
from nearline.store._lists import from_list

Columns: TypeAlias = Mapping[str, Any]
"""Values by column: a list (None is null), a NumPy or Arrow array, or one value for all rows; one left out is null."""
Made: TypeAlias = Mapping[str, Callable[[int, int], Any]]
"""Columns that follow from the positions: (first, n) -> Arrow array."""

_MANY = (list, tuple, np.ndarray, pa.Array, pa.ChunkedArray)
_SIZED: frozenset[Any] = frozenset({list, tuple, np.ndarray})


def check_columns(n: int, columns: Columns, known: frozenset[str]) -> None:
    """Raise DataError for a column that the log does not take, or of another length than n."""
    if isinstance(columns, RowBlock) and columns.shape.names <= known:
        columns = columns.more  # the block's own have its length
    if not columns.keys() <= known:
        wrong = next(name for name in columns if name not in known)
        raise DataError("the log has no such column, or makes it itself", column=wrong)
    for name, values in columns.items():
        if type(values) in _SIZED and len(values) != n:
            raise DataError(f"has {len(values)} values for {n} rows", column=name)


def to_batch(schema: Any, first: int, parts: Sequence[tuple[int, Columns]], made: Made) -> Any:
    """One record batch of the rows of many submissions.

    Raises
    ------
    DataError
        A value does not fit its column's type.
    """
    total = sum(n for n, _ in parts)
    arrays = []
    for field in schema:
        name = field.name
        try:
            array = made[name](first, total) if name in made else _column(field.type, name, parts, total)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"does not fit {field.type} ({error})", column=name) from error
        if len(array) != total:
            raise DataError(f"has {len(array)} values for {total} rows", column=name)
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def void(schema: Any, first: int, n: int, made: Made) -> Any:
    """Rows in place of some that could not be written: null but for the columns that follow from the position."""
    arrays = [made[field.name](first, n) if field.name in made else pa.nulls(n, field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _column(dtype: Any, name: str, parts: Sequence[tuple[int, Columns]], total: int) -> Any:
    values: list[Any] = [columns.get(name) for _, columns in parts]
    kinds = {type(value) for value in values}
    if kinds == {list}:
        return from_list(values[0] if len(values) == 1 else list(chain.from_iterable(values)), dtype)
    if kinds == {np.ndarray} and len({value.dtype for value in values}) == 1:
        return pa.array(values[0] if len(values) == 1 else np.concatenate(values), dtype)
    if not any(issubclass(kind, _MANY) for kind in kinds) and all(value == values[0] for value in values):
        return _repeated(values[0], dtype, total)
    return pa.concat_arrays([_part(value, dtype, n) for value, (n, _) in zip(values, parts)])


def _part(value: Any, dtype: Any, n: int) -> Any:
    if isinstance(value, pa.ChunkedArray):
        value = value.combine_chunks()
    if isinstance(value, pa.Array):
        return value if value.type == dtype else value.cast(dtype)
    if isinstance(value, list | tuple | np.ndarray):
        return pa.array(value, dtype)
    return _repeated(value, dtype, n)


def _repeated(value: Any, dtype: Any, n: int) -> Any:
    return pa.nulls(n, dtype) if value is None else pa.repeat(pa.scalar(value, dtype), n)
