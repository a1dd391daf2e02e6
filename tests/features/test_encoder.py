"""Encoder: the same rows give the same design however they come, and every entry is what a plain reading says."""

from __future__ import annotations

import math
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features.tables import (
    FEATURES,
    KEYS,
    SCHEMA,
    assert_same,
    dense,
    encode,
    join,
    row,
    table,
    unseen,
    vocabulary,
)

from nearline.features import Design, Encoder
from nearline.features._vocabulary import stable_hash
from nearline.schema import Categorical, Hashed, Multi, Numeric, Schema, Vector


@settings(max_examples=120, deadline=None)
@given(st.lists(row, min_size=1, max_size=12), st.data())
def test_cutting_a_stream_anywhere_changes_nothing(rows: list[dict[str, Any]], data: Any) -> None:
    events, batch = Encoder(SCHEMA, FEATURES, KEYS), Encoder(SCHEMA, FEATURES, KEYS)
    one_by_one = [encode(events, table([r]), few=100) for r in rows]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    parts = [rows[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)])]
    in_parts = [encode(batch, table(part, data.draw), few=0) for part in parts if part]
    assert_same(join(one_by_one), join(in_parts))
    assert vocabulary(events) == vocabulary(batch)


@settings(max_examples=60, deadline=None)
@given(st.lists(row, min_size=1, max_size=8), st.lists(row, min_size=1, max_size=8), st.data())
def test_without_growth_both_ways_agree_and_nothing_changes(first: list[Any], second: list[Any], data: Any) -> None:
    encoder = Encoder(SCHEMA, FEATURES, KEYS)
    encode(encoder, table(first), few=0)
    before, stored = vocabulary(encoder), encoder.to_state()[0]
    by_row = encode(encoder, table(second), few=100, grow=False)
    by_column = encode(encoder, table(second, data.draw), few=0, grow=False)
    assert_same(join([by_row]), join([by_column]))
    assert by_row.unseen == by_column.unseen
    assert unseen(by_row) == unseen(by_column)
    assert vocabulary(encoder) == before
    assert encoder.to_state()[0] == stored


def reading(r: dict[str, Any]) -> dict[str, float]:
    """What one row says, as {slot name: value}, written down without the encoder."""

    def name(value: Any) -> str:
        return "(missing)" if value is None else str(value)

    def bucket(column: str, value: Any, bits: int) -> str:
        return f"{column}#{stable_hash(f'{column}={name(value)}', bits)}"

    x, vec, tags = r["x"], r["vec"], r["tags"]
    out = {"(intercept)": 1.0}
    out |= {"x (missing)": 1.0} if x is None or math.isnan(x) else {"x": (x - 1.0) / 2.0}
    out |= {f"gender={name(r['gender'])}": 1.0, f"age={name(r['age'])}": 1.0}
    out |= {f"genres={name(value)}": 1.0 for value in ([None] if r["genres"] is None else r["genres"])}
    out |= {f"tags={name(value)}": 1.0 for value in ([None] if tags is None else filter(None, tags.split("|")))}
    lost = vec is None or any(value is None or math.isnan(value) for value in vec)
    out |= {"vec (missing)": 1.0} if lost else {f"vec[{i}]": value for i, value in enumerate(vec)}
    out |= {bucket("text", r["text"], 3): 1.0}
    out |= {bucket("words", value, 2): 1.0 for value in ([None] if r["words"] is None else r["words"])}
    return {slot: value for slot, value in out.items() if value != 0.0}


@pytest.mark.parametrize("few", [0, 100])
@given(rows=st.lists(row, min_size=1, max_size=8), data=st.data())
@settings(max_examples=60, deadline=None)
def test_every_entry_is_what_a_plain_reading_says(few: int, rows: list[dict[str, Any]], data: Any) -> None:
    encoder = Encoder(SCHEMA, FEATURES, KEYS)
    design = encode(encoder, table(rows, data.draw), few)
    assert design.indptr.dtype == np.int64
    assert design.indices.dtype == np.int32
    assert all(codes.dtype == np.int32 for codes in design.entities.values())
    for i, r in enumerate(rows):
        entries = slice(design.indptr[i], design.indptr[i + 1])
        slots = design.indices[entries].tolist()
        assert slots[0] == 0
        assert len(set(slots)) == len(slots)
        assert {encoder.slot_names[s]: v for s, v in zip(slots, design.values[entries])} == reading(r)
        assert encoder.entity_name("user", design.entities["user"][i]) == r["user"]
        pair = encoder.entity_name(KEYS[1], design.entities[KEYS[1]][i])
        assert pair == (r["gender_key"], r["user"])
        assert type(pair[1]) is int
    assert all(name.startswith(column) for name, column in zip(encoder.slot_names, encoder.slot_columns))


@pytest.mark.parametrize("kind", [Numeric(), Categorical(), Multi(), Multi("|"), Vector(), Hashed()])
@pytest.mark.parametrize("few", [0, 100])
def test_every_kind_takes_an_all_null_column(kind: Any, few: int) -> None:
    encoder = Encoder(Schema("y", columns={"c": kind}), ("c",), ())
    design = encode(encoder, {"c": [None, None], "y": [0, 1]}, few)
    assert encoder.n_slots == (3 if isinstance(kind, Numeric) else 2)
    assert np.diff(design.indptr).tolist() == [2, 2]


def test_empty_tables_change_nothing() -> None:
    encoder = Encoder(SCHEMA, FEATURES, KEYS)
    before = encoder.to_state()[0]
    none: list[dict[str, Any]] = []
    for data in (table(none), none, table(none).to_pandas()):
        design = encode(encoder, data, few=0)
        assert (design.rows, design.indptr.tolist(), len(design.indices)) == (0, [0], 0)
        assert design.take(0, 5).rows == design.select([]).rows == 0
    assert encoder.to_state()[0] == before


@given(st.lists(row, min_size=1, max_size=8), st.data())
@settings(max_examples=40, deadline=None)
def test_take_and_select_are_rows_of_the_whole(rows: list[Any], data: Any) -> None:
    encoder = Encoder(SCHEMA, FEATURES, KEYS)
    design = encode(encoder, table(rows), few=0)
    whole, n = dense(encoder, design), design.rows
    start, stop = data.draw(st.integers(-2, n + 2)), data.draw(st.integers(-2, n + 2))
    part = design.take(start, stop)
    np.testing.assert_array_equal(dense(encoder, part), whole[start:stop])
    np.testing.assert_array_equal(part.entities["user"], design.entities["user"][start:stop])
    assert part.indptr[0] == 0
    assert not len(part.values) or np.shares_memory(part.values, design.values)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    np.testing.assert_array_equal(dense(encoder, design.select(mask)), whole[mask])
    chosen = data.draw(st.lists(st.integers(0, n - 1), max_size=5))
    picked = design.select(chosen)
    np.testing.assert_array_equal(dense(encoder, picked), whole[np.array(chosen, int)])
    np.testing.assert_array_equal(picked.label, design.label[np.array(chosen, int)])


def test_every_table_library_gives_the_same_design() -> None:
    columns = {
        "u": [10, 11, 10],
        "c": ["a", "b", None],
        "x": [1.5, None, 2.0],
        "g": [["p", "q"], [], ["q"]],
        "y": [1, 0, 1],
        "t": [1, 2, 3],
    }
    source = pa.table(columns)
    frame = pd.DataFrame(columns).astype({"c": "category"})
    lazy = duckdb.connect()
    lazy.register("source", source)
    tables = [
        source,
        columns,
        source.to_pylist(),
        source.to_batches()[0],
        pa.RecordBatchReader.from_batches(source.schema, source.to_batches()),
        frame,
        pl.DataFrame(columns),
        pl.DataFrame(columns).with_columns(pl.col("c").cast(pl.Categorical)),
        lazy.sql("select * from source order by t"),
    ]
    reference: tuple[Design, list[str]] | None = None
    for data in tables:
        encoder = Encoder(Schema("y", time="t"), ("c", "x", "g"), ("u",))
        design = encode(encoder, data, few=0)
        reference = reference or (design, encoder.slot_names)
        assert encoder.slot_names == reference[1], type(data)
        np.testing.assert_array_equal(design.indices, reference[0].indices)
        np.testing.assert_array_equal(design.values, reference[0].values)
        assert design.time.tolist() == [1.0, 2.0, 3.0]
