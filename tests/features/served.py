"""Rows as they are served, their table, and encoders that have learned from them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from nearline.features import Encoder
from nearline.schema import Categorical, Hashed, Multi, Numeric, Schema, Vector

SCHEMA = Schema(
    "y",
    time="when",
    weight="w",
    offset="o",
    columns={
        "x": Numeric(center=1.0, scale=2.0),
        "free": Numeric(),
        "never": Numeric(),
        "age": Categorical(),
        "flag": Categorical(),
        "tags": Multi("|"),
        "codes": Multi(),
        "text": Hashed(bits=3),
        "words": Hashed(bits=2),
        "vec": Vector(),
    },
)
FEATURES = (
    "x", "free", "never", "gender", "age", "flag", "genres", "codes", "tags", "vec", "text", "words", "user",
)  # fmt: skip
KEYS = ("user", ("group", "user"))


TYPES = {
    "x": pa.float64(), "free": pa.float64(), "never": pa.float64(), "gender": pa.string(), "age": pa.int64(),
    "flag": pa.bool_(), "genres": pa.list_(pa.string()), "codes": pa.list_(pa.int64()), "tags": pa.string(),
    "vec": pa.list_(pa.float64()), "text": pa.string(), "words": pa.list_(pa.string()), "user": pa.string(),
    "group": pa.int64(), "o": pa.float64(), "w": pa.float64(), "when": pa.float64(),
}  # fmt: skip

words = st.sampled_from(["", "a", "b", "cc", "é", "(missing)", "a=b"])
maybe = st.none()
numbers = st.sampled_from([0.0, 1.0, -2.5, 3.0, 7]) | maybe
row = st.fixed_dictionaries(
    {"user": words, "group": st.integers(-2, 2), "o": st.floats(-2, 2)},
    optional={
        "x": numbers,
        "free": numbers,
        "never": maybe,
        "gender": words | maybe,
        "age": st.integers(-3, 3) | maybe,
        "flag": st.booleans() | maybe,
        "genres": st.lists(words | maybe, max_size=4) | maybe,
        "codes": st.lists(st.integers(0, 3) | maybe, max_size=4) | maybe,
        "tags": st.lists(st.sampled_from(["", "a", "b", "(missing)"]), max_size=4).map("|".join) | maybe,
        "vec": st.lists(numbers, min_size=2, max_size=2) | st.just([]) | maybe,
        "text": words | maybe,
        "words": st.lists(words | maybe, max_size=4) | maybe,
        "w": st.floats(0, 3),
        "when": st.floats(0, 1e9),
    },
)


def table(rows: list[dict[str, Any]], now: float = 0.0) -> Any:
    """The rows as a table, with what a served row may leave out filled in."""
    rows = [{"w": 1.0, "when": now, **row} for row in rows]
    return pa.table({name: pa.array([row.get(name) for row in rows], dtype) for name, dtype in TYPES.items()})


def learned(rows: list[dict[str, Any]], features_of: tuple[str, ...] = FEATURES) -> Encoder:
    """An encoder that has seen the rows, after one that shows every column's family."""
    first = {"user": "u", "group": 0, "o": 0.0, "gender": "a", "age": 1, "flag": True, "genres": ["a"], "codes": [1],
             "tags": "a", "text": "a", "words": ["a"], "free": 1.5, "x": 2.0}  # fmt: skip
    encoder = Encoder(SCHEMA, features_of, KEYS)
    encoder.encode(table([first, *rows]), grow=True)
    return encoder
