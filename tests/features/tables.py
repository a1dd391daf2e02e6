"""Rows of every kind of column, as Arrow tables of any type, slicing and chunking, and the designs of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import strategies as st

from nearline.features import Design, Encoder
from nearline.features import _encoder as features
from nearline.schema import Categorical, Hashed, Multi, Numeric, Schema

SCHEMA = Schema(
    "y",
    columns={
        "x": Numeric(center=1.0, scale=2.0),
        "age": Categorical(),
        "tags": Multi("|"),
        "text": Hashed(bits=3),
        "words": Hashed(bits=2),
    },
)
FEATURES = ("x", "gender", "age", "genres", "tags", "vec", "text", "words")
KEYS = ("user", ("gender_key", "user"))

words = st.sampled_from(["", "a", "b", "cc", "é", "(missing)", "a=b"])
maybe = st.none()
numbers = st.sampled_from([0.0, 1.0, -2.5, 3.0, math.nan, 1e300]) | maybe
row = st.fixed_dictionaries(
    {
        "x": numbers,
        "gender": words | maybe,
        "age": st.integers(-3, 3) | maybe,
        "genres": st.lists(words | maybe, max_size=4) | maybe,
        "tags": st.lists(st.sampled_from(["", "a", "b", "cc"]), max_size=4).map("|".join) | maybe,
        "vec": st.lists(numbers.filter(lambda x: x != 1e300), min_size=2, max_size=2) | maybe,
        "text": words | maybe,
        "words": st.lists(words | maybe, max_size=4) | maybe,
        "user": st.integers(-2, 5),
        "gender_key": st.sampled_from(["F", "M", "(missing)"]),
        "y": st.sampled_from([0.0, 1.0]),
    }
)
STRINGS = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
LISTS = [pa.list_(pa.string()), pa.large_list(pa.string()), pa.list_(pa.large_string()), pa.list_view(pa.string())]
TYPES: dict[str, list[Any]] = {
    "x": [pa.float64()],
    "gender": STRINGS,
    "age": [pa.int64(), pa.int8(), pa.float64(), pa.float32(), pa.dictionary(pa.int32(), pa.int16())],
    "genres": LISTS,
    "tags": STRINGS,
    "vec": [pa.list_(pa.float64()), pa.large_list(pa.float64()), pa.list_(pa.float64(), 2)],
    "text": STRINGS,
    "words": [*LISTS, pa.list_(pa.dictionary(pa.int8(), pa.string()))],
    "user": [pa.int64(), pa.int8(), pa.float64(), pa.dictionary(pa.int8(), pa.int64())],
    "gender_key": STRINGS,
    "y": [pa.float64()],
}


def table(rows: list[dict[str, Any]], draw: Any = None) -> Any:
    """Arrow table of the rows; `draw` picks a type for every column, and slices and chunks it."""
    return pa.table({name: _column([r[name] for r in rows], types, draw) for name, types in TYPES.items()})


def _column(values: list[Any], types: list[Any], draw: Any) -> Any:
    if draw is None:
        return pa.array(values, types[0])
    dtype = draw(st.sampled_from(types))
    plain = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
    padded = pa.array([*values[:2], *values, *values[:1]], plain)
    padded = padded.dictionary_encode() if pa.types.is_dictionary(dtype) else padded
    cut = draw(st.integers(0, len(values)))
    start = min(2, len(values))
    whole = padded.slice(start, len(values))
    if not draw(st.booleans()):
        return whole
    # a chunk of its own dictionary, so that the two chunks do not share one
    second = pa.array(values[cut:], plain)
    second = second.dictionary_encode().cast(padded.type) if pa.types.is_dictionary(dtype) else second
    return pa.chunked_array([whole.slice(0, cut), second])


def encode(encoder: Encoder, data: Any, few: int, grow: bool = True) -> Design:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "_FEW", few)
        return encoder.encode(encoder.check(data, link="logit", need_label=True), grow=grow)


def join(parts: list[Design]) -> dict[str, Any]:
    """Arrays of several designs in order."""
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ("indices", "values", "label")}
    arrays["counts"] = np.concatenate([np.diff(part.indptr) for part in parts])
    for key in KEYS:
        arrays[str(key)] = np.concatenate([part.entities[key] for part in parts])
    return arrays


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    for name, values in one.items():
        assert values.dtype == other[name].dtype, name
        np.testing.assert_array_equal(values, other[name], err_msg=name)


def unseen(design: Design) -> list[list[tuple[str, str, float]]]:
    """(column, name, value) of the entries without a slot, row by row."""
    found = design.without_slot
    if found is None:
        return [[] for _ in range(design.rows)]
    named = [(found.columns[k], found.names[k], v) for k, v in zip(found.levels.tolist(), found.values.tolist())]
    return [[named[p] for p in np.flatnonzero(found.rows == row)] for row in range(design.rows)]


def vocabulary(encoder: Encoder) -> list[Any]:
    return [encoder.slot_names, encoder.slot_columns, [list(encoder.entity_codes(key)) for key in KEYS]]


def dense(encoder: Encoder, design: Design) -> np.ndarray[Any, Any]:
    matrix = np.zeros((design.rows, encoder.n_slots))
    matrix[np.repeat(np.arange(design.rows), np.diff(design.indptr)), design.indices] += design.values
    return matrix
