"""What an Arrow column holds, and how to get it out: families of types, numbers, seconds, distinct values, lists."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nearline._errors import DataError

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Level: TypeAlias = int | str | bool | None
"""One value of a categorical column in its canonical Python form; None is missing."""

_EXAMPLES: dict[str, Sequence[Any]] = {
    "int": [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()],
    "float": [pa.float16(), pa.float32(), pa.float64()],
    "decimal": [pa.decimal128(5), pa.decimal256(5)],
    "bool": [pa.bool_()],
    "str": [pa.string(), pa.large_string(), pa.string_view()],
    "date": [pa.date32(), pa.date64()],
    "timestamp": [pa.timestamp("s")],
    "null": [pa.null()],
    "list": [
        pa.list_(pa.null()),
        pa.large_list(pa.null()),
        pa.list_(pa.null(), 1),
        pa.list_view(pa.null()),
        pa.large_list_view(pa.null()),
    ],
    "dictionary": [pa.dictionary(pa.int32(), pa.string())],
}
_FAMILY = {dtype.id: family for family, dtypes in _EXAMPLES.items() for dtype in dtypes}
_PLAIN = frozenset(dtype.id for kind in ("int", "float", "bool") for dtype in _EXAMPLES[kind])
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def family(dtype: Any) -> str:
    """Family of an Arrow type, looking through dictionaries: int, float, decimal, bool, str, list, ... or other."""
    found = _FAMILY.get(dtype.id, "other")
    return family(dtype.value_type) if found == "dictionary" else found


def numbers(column: Any) -> Floats:
    """Column as float64 (n); null becomes NaN."""
    dtype = column.type
    if dtype == pa.null():
        return np.full(len(column), np.nan)
    if pa.types.is_dictionary(dtype):
        return numbers(decoded(column))
    if dtype.id not in _PLAIN or column.null_count:
        column = column.cast(pa.float64(), safe=False)
    return np.asarray(column.to_numpy(zero_copy_only=False)).astype(np.float64, copy=False)


def decoded(column: Any) -> Any:
    """Dictionary column as a column of its values."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [strings(chunk.dictionary).take(chunk.indices) for chunk in chunks]
    return pa.chunked_array(parts, None if parts else column.type.value_type)


def strings(column: Any) -> Any:
    """Column with string views, which few Arrow functions take, as strings."""
    return column.cast(pa.large_string()) if column.type == pa.string_view() else column


def seconds(column: Any) -> Floats:
    """Column of timestamps, dates or numbers as float64 seconds since the epoch (n); null becomes NaN."""
    found = family(column.type)
    if pa.types.is_dictionary(column.type):
        column = decoded(column)
    if found == "timestamp":
        return _ticks(column.cast(pa.int64()), _TICKS[column.type.unit])
    if found == "date":
        return numbers(column.cast(pa.timestamp("s")).cast(pa.int64()))
    return numbers(column)


def _ticks(ticks: Any, per_second: int) -> Floats:
    """Ticks in seconds; whole seconds go first, since nanoseconds since 1970 have more digits than a float64."""
    whole = pc.divide(ticks, per_second)
    return numbers(whole) + numbers(pc.subtract(ticks, pc.multiply(whole, per_second))) / per_second


def fractional(values: Floats) -> NDArray[np.bool_]:
    """Where a float cannot stand for an integer (NaN is missing, so it can)."""
    with np.errstate(invalid="ignore"):
        whole: NDArray[np.bool_] = (np.floor(values) == values) & (np.abs(values) < 2.0**63)
        return np.logical_not(np.isnan(values) | whole)


def canonical(value: Any, column: str) -> Level:
    """Value in the form that a vocabulary keeps: 3.0 is 3, NaN is None.

    Raises
    ------
    DataError
        A fractional or infinite float.
    """
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if not value.is_integer():
            raise DataError(
                f"{value!r} is not a category", column=column, fix="declare it Numeric() or cast it to string"
            )
        return int(value)
    return value  # type: ignore[no-any-return]


def uniques(column: Any, name: str) -> tuple[NDArray[np.integer[Any]], list[Level]]:
    """Code of every row, and the value behind each code in order of first appearance.

    Two codes may share a value (a dictionary may repeat itself), so map the values through a dict.
    """
    if not len(column):
        return np.zeros(0, np.int32), []
    if pa.types.is_dictionary(column.type):
        return _dictionary_uniques(column, name)
    codes, values = _encode(strings(column))
    return codes, [canonical(value, name) for value in values.to_pylist()]


def _dictionary_uniques(column: Any, name: str) -> tuple[NDArray[np.integer[Any]], list[Level]]:
    if isinstance(column, pa.ChunkedArray):
        if column.num_chunks != 1:
            return uniques(decoded(column), name)
        column = column.chunk(0)
    codes, used = _encode(column.indices)
    values = strings(column.dictionary).take(used).to_pylist()
    return codes, [canonical(value, name) for value in values]


def _encode(column: Any) -> tuple[NDArray[np.integer[Any]], Any]:
    encoded = pc.dictionary_encode(column, null_encoding="encode")
    if not isinstance(encoded, pa.ChunkedArray):
        return encoded.indices.to_numpy(), encoded.dictionary
    chunks = [chunk for chunk in encoded.chunks if len(chunk)]
    codes = [chunk.indices.to_numpy() for chunk in chunks]
    return codes[0] if len(codes) == 1 else np.concatenate(codes), chunks[-1].dictionary


def lists(column: Any) -> tuple[Ints, Any]:
    """Length of every list (n), −1 for null, and the items of all lists in one Arrow array."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if column.type == pa.null():
        return np.full(len(column), -1), pa.array([], pa.null())
    counts = pc.fill_null(pc.list_value_length(column), -1).to_numpy(False)
    return counts.astype(np.int64), pc.list_flatten(column)
