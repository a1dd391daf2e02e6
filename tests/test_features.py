"""Encoder: the same rows give the same design however they come, and every entry is what a plain reading says."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline._errors import ConfigError, DataError, StateError
from nearline.features import Design, Encoder
from nearline.features import _encoder as features
from nearline.features._entities import Entities
from nearline.features._int_index import IntIndex
from nearline.features._vocabulary import moments, stable_hash
from nearline.schema import Categorical, Hashed, Multi, Numeric, Schema, Vector, check

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


@given(st.lists(row, min_size=1, max_size=8), st.lists(row, min_size=1, max_size=8), st.data())
@settings(max_examples=40, deadline=None)
def test_entries_without_a_slot_follow_their_rows(first: list[Any], second: list[Any], data: Any) -> None:
    encoder = Encoder(SCHEMA, FEATURES, KEYS)
    encode(encoder, table(first), few=0)
    design = encode(encoder, table(second), few=0, grow=False)
    chosen = data.draw(st.lists(st.integers(0, design.rows - 1), max_size=6))
    assert unseen(design.select(chosen)) == [unseen(design)[row] for row in chosen]
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, design.rows)] * 2)))
    assert unseen(design.take(start, stop)) == unseen(design)[start:stop]


def vocabulary(encoder: Encoder) -> list[Any]:
    return [encoder.slot_names, encoder.slot_columns, [list(encoder.entity_codes(key)) for key in KEYS]]


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


@given(st.lists(row, min_size=1, max_size=8), st.lists(row, min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_a_stored_encoder_goes_on_as_if_it_had_not_been_stored(first: list[Any], second: list[Any]) -> None:
    encoder = Encoder(SCHEMA, FEATURES, KEYS)
    encode(encoder, table(first), few=0)
    state, arrays = encoder.to_state()
    again = Encoder.from_state(json.loads(json.dumps(state)), arrays)
    assert vocabulary(again) == vocabulary(encoder)
    assert_same(join([encode(encoder, table(second), few=0)]), join([encode(again, table(second), few=100)]))
    assert vocabulary(again) == vocabulary(encoder)
    assert again.to_state()[0] == encoder.to_state()[0]


def test_slots_are_given_by_row_then_by_feature() -> None:
    encoder = Encoder(Schema("y", columns={"g": Multi("|")}), ("c", "x", "g"), ())
    rows = {"c": ["b", "a"], "x": [None, 1.0], "g": ["z|y|z", "x|y"]}
    encoder.encode(rows, grow=True)
    expected = ["(intercept)", "c=b", "x", "x (missing)", "g=z", "g=y", "c=a", "g=x"]
    assert encoder.slot_names == expected
    assert encoder.slot_columns == ["(intercept)", "c", "x", "x", "g", "g", "c", "g"]


def dense(encoder: Encoder, design: Design) -> np.ndarray[Any, Any]:
    matrix = np.zeros((design.rows, encoder.n_slots))
    matrix[np.repeat(np.arange(design.rows), np.diff(design.indptr)), design.indices] += design.values
    return matrix


def test_center_and_scale_come_from_the_first_table_and_stay() -> None:
    encoder = Encoder(Schema("y"), ("x", "constant"), ())
    first = dense(encoder, encoder.encode({"x": [1.0, 3.0, None], "constant": [7, 7, 7]}, grow=True))
    assert first[:, 1].tolist() == [-1.0, 1.0, 0.0]
    assert encoder.slot_names == ["(intercept)", "x", "constant", "x (missing)"]
    assert not first[:, 2].any()
    second = dense(encoder, encoder.encode({"x": [6.0], "constant": [9]}, grow=True))
    assert second.tolist() == [[1.0, 4.0, 2.0, 0.0]]


def test_a_column_missing_in_the_first_table_learns_its_scale_later() -> None:
    encoder = Encoder(Schema("y"), ("x",), ())
    encoder.encode(pa.table({"x": pa.array([None, None], pa.float64())}), grow=True)
    waiting = encoder.encode({"x": [5.0]}, grow=False)
    assert (waiting.unseen, waiting.indices.tolist()) == (1, [0])
    assert dense(encoder, encoder.encode({"x": [1.0, 3.0]}, grow=True))[:, 1].tolist() == [-1.0, 1.0]
    assert encoder.slot_names == ["(intercept)", "x", "x (missing)"]


@pytest.mark.parametrize("few", [0, 100])
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Numeric(center=2.0), [-1.0, 0.0, 1.0]),
        (Numeric(scale=4.0), [-0.25, 0.0, 0.25]),
        (Numeric(center=0.0, scale=1.0), [1.0, 2.0, 3.0]),
    ],
)
def test_declared_center_and_scale(kind: Numeric, expected: list[float], few: int) -> None:
    encoder = Encoder(Schema("y", columns={"x": kind}), ("x",), ())
    design = encode(encoder, {"x": [1, 2, 3], "y": [0, 1, 1]}, few)
    values = dense(encoder, design)[:, 1]
    deviation = math.sqrt(2 / 3) if kind.scale is None else 1.0
    np.testing.assert_allclose(values, np.array(expected) / deviation, rtol=1e-15)


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_moments_never_overflow(x: list[float]) -> None:
    mean, deviation = moments(np.array(x))
    slack = 1e-12 * max(map(abs, x)) + 5e-324
    assert min(x) - slack <= mean <= max(x) + slack
    assert 0 < deviation < math.inf
    if max(map(abs, x)) < 1e100 and min(map(abs, x)) > 1e-100 and len(set(x)) > 1:
        assert deviation == pytest.approx(np.std(x), rel=1e-9) or np.std(x) == 0


def test_unseen_values_are_counted_and_unseen_entities_have_codes_below_zero() -> None:
    encoder = Encoder(Schema("y"), ("c", "x", "g"), ("u",))
    encoder.encode({"u": ["p"], "c": ["a"], "x": [1.0], "g": [["k"]]}, grow=True)
    design = encoder.encode(
        {"u": ["q", "p"], "c": ["b", "a"], "x": [None, 1.0], "g": [["k", "l", "m"], []]}, grow=False
    )
    assert design.unseen == 4  # c=b, x (missing), g=l, g=m
    assert design.without_slot is not None
    assert design.without_slot.names == ("c=b", "x (missing)", "g=l", "g=m")
    assert design.without_slot.columns == ("c", "x", "g", "g")
    assert design.without_slot.rows.tolist() == [0, 0, 0, 0]
    part = design.take(0, 1).without_slot
    assert part is not None
    assert part.levels.tolist() == [0, 1, 2, 3]
    assert design.take(1, 2).without_slot is None
    assert design.entities["u"].tolist() == [-1, 0]
    assert encoder.n_entities("u") == 1
    for copies in (1, 10):
        named = encoder.encode({"u": ["r", "q", "p", "q"] * copies, "c": [*"abcd"] * copies, "x": [1.0] * 4 * copies,
                                "g": [["k"]] * 4 * copies}, grow=False)  # fmt: skip
        assert named.entities["u"].tolist() == [-1, -2, 0, -2] * copies
    fresh = Encoder(Schema("y"), ("c", "x"), ("u",))
    empty = fresh.encode({"u": [1], "c": ["a"], "x": [2.0]}, grow=False)
    assert (empty.indices.tolist(), empty.unseen, empty.entities["u"].tolist()) == ([0], 2, [-1])
    assert fresh.to_state()[0] == Encoder(Schema("y"), ("c", "x"), ("u",)).to_state()[0]


CONFLICTS = [
    ({"u": [1]}, {"u": ["1"]}, "u"),
    ({"u": [True]}, {"u": [1]}, "u"),
    ({"c": ["a"]}, {"c": [1]}, "c"),
    ({"x": [1.5]}, {"x": ["1.5"]}, "x"),
    ({"g": [["a"]]}, {"g": [[1]]}, "g"),
    ({"v": [[1.0, 2.0]]}, {"v": [[1.0, 2.0, 3.0]]}, "v"),
    ({"g": [["a"]]}, {"g": ["a"]}, "g"),
]
DEFAULTS: dict[str, list[Any]] = {"u": [1], "c": ["z"], "x": [0.5], "g": [["z"]], "v": [[0.5, 0.5]]}


@pytest.mark.parametrize(("first", "second", "column"), CONFLICTS)
@pytest.mark.parametrize("few", [0, 100])
def test_a_change_of_type_is_refused_by_name_and_leaves_the_encoder_as_it_was(
    first: dict[str, Any], second: dict[str, Any], column: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "_FEW", few)
    encoder = Encoder(Schema("y"), ("c", "x", "g", "v"), ("u",))
    encoder.encode({**DEFAULTS, **first}, grow=True)
    before = encoder.to_state()
    other = {"u": ["new"] if isinstance(first.get("u", [1])[0], str) else DEFAULTS["u"], "c": ["new"], "x": [9.0]}
    with pytest.raises(DataError, match=f"column '{column}'"):
        encoder.encode({**DEFAULTS, **other, **second}, grow=True)
    after = encoder.to_state()
    assert before[0] == after[0]
    assert all(before[1][name].equals(after[1][name]) for name in before[1])


@pytest.mark.parametrize("few", [0, 100])
def test_a_number_too_large_to_standardise_is_refused(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_FEW", few)
    encoder = Encoder(Schema("y", columns={"x": Numeric(0.0, 1e-10)}), ("x",), ())
    with pytest.raises(DataError, match="column 'x', row 1: 1e\\+300 is too far"):
        encoder.encode({"x": [1.0, 1e300]}, grow=True)


@pytest.mark.parametrize("stored", [False, True])
def test_the_encoder_checks_with_the_kinds_it_has_learned(stored: bool) -> None:
    encoder = Encoder(Schema("y"), ("c",), ())
    first = pa.table({"c": pa.array([1, 2]).dictionary_encode()})
    encoder.encode(first, grow=True)
    encoder = Encoder.from_state(*encoder.to_state()) if stored else encoder
    found = encoder.check({"c": [1.5, 2.0]}, link="logit", need_label=False, divert=True)
    assert found.rejects.reasons == ("c: category is 1.5",)
    assert encoder.encode(found, grow=True).indices.tolist() == [0, 2]


def test_an_all_null_column_needs_a_kind() -> None:
    encoder = Encoder(Schema("y"), ("c",), ())
    with pytest.raises(DataError, match=r"column 'c'.*declare it in Schema"):
        encoder.encode({"c": [None]}, grow=True)
    encoder.encode({"c": ["a"]}, grow=True)
    encoder.encode({"c": [None]}, grow=True)
    assert encoder.slot_names == ["(intercept)", "c=a", "c=(missing)"]


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


def test_key_values_keep_their_type() -> None:
    big = 2**64 - 1
    encoder = Encoder(Schema("y"), (), ("i", "s", "b", ("i", "s"), "f"))
    data = pa.table(
        {"i": pa.array([big, 3], pa.uint64()), "s": ["3", "x"], "b": [True, False], "f": pa.array([1.0, 2.0])}
    )
    encoder.encode(data, grow=True)
    state, arrays = encoder.to_state()
    for known in (encoder, Encoder.from_state(json.loads(json.dumps(state)), arrays)):
        assert [known.entity_name("i", 0), known.entity_name("s", 0)] == [big, "3"]
        assert known.entity_name("b", 0) is True
        assert known.entity_name(("i", "s"), 1) == (3, "x")
        assert type(known.entity_name("f", 0)) is int
        assert known.entity_codes("i")[3] == 1
    encoder.encode(pa.table({"i": [-1], "s": ["y"], "b": [True], "f": [4]}), grow=True)
    again = Encoder.from_state(*encoder.to_state())
    assert list(again.entity_codes("i")) == [big, 3, -1]


def test_composite_keys_are_one_entity_per_combination() -> None:
    encoder = Encoder(Schema("y"), (), (("a", "b", "c"),))
    data = {"a": [1, 1, 2, 1] * 10, "b": ["x", "y", "x", "x"] * 10, "c": [0, 0, 0, 0] * 10}
    design = encoder.encode(data, grow=True)
    assert design.entities[("a", "b", "c")].tolist() == [0, 1, 2, 0] * 10
    assert list(encoder.entity_codes(("a", "b", "c"))) == [(1, "x", 0), (1, "y", 0), (2, "x", 0)]


def test_a_million_entities_are_stored_compactly() -> None:
    encoder = Encoder(Schema("y"), (), ("u",))
    encoder.encode(pa.table({"u": np.arange(1_000_000)}), grow=True)
    _, arrays = encoder.to_state()
    assert sum(array.nbytes for array in arrays.values()) <= 8_000_000 + 1000
    assert Encoder.from_state(*encoder.to_state()).entity_name("u", 999_999) == 999_999


def test_a_broken_state_is_refused() -> None:
    encoder = Encoder(SCHEMA, FEATURES, KEYS)
    encoder.encode({name: [value] for name, value in EXAMPLE.items()}, grow=True)
    state, arrays = encoder.to_state()
    with pytest.raises(StateError, match="format 2"):
        Encoder.from_state({**state, "format": 2}, arrays)
    with pytest.raises(StateError, match=r"lacks the array 'entities\.0\.0'"):
        Encoder.from_state(state, {name: array for name, array in arrays.items() if name != "entities.0.0"})
    with pytest.raises(StateError, match=r"'levels\.1' .* has 0 entries, not 1"):
        Encoder.from_state(state, {**arrays, "levels.1": arrays["levels.1"][:0]})
    with pytest.raises(StateError, match="gaps or repeat"):
        Encoder.from_state(state, {**arrays, "slots.1": pa.array([99], pa.int32())})


EXAMPLE = {
    "x": 2.0, "gender": "F", "age": 3, "genres": ["a"], "tags": "a|b", "vec": [1.0, 2.0], "text": "t", "words": ["w"],
    "user": 1, "gender_key": "F",
}  # fmt: skip


def test_the_hash_is_the_same_in_every_process() -> None:
    assert [stable_hash("text=a", 18), stable_hash("text=a", 8)] == [HASH_OF_A, HASH_OF_A % 256]
    program = "from nearline.features._vocabulary import stable_hash; print(stable_hash('text=a', 18))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(found.stdout) == HASH_OF_A


HASH_OF_A = 217109


def test_hashed_slots_stay_dense() -> None:
    encoder = Encoder(Schema("y", columns={"text": Hashed(bits=18)}), ("text",), ())
    encoder.encode({"text": [f"word {i % 50}" for i in range(100)]}, grow=True)
    assert encoder.n_slots == 51
    assert encoder.slot_names[1] == f"text#{stable_hash('text=word 0', 18)}"


def test_wrong_declarations_are_refused() -> None:
    with pytest.raises(ConfigError, match="feature 'x' is named twice"):
        Encoder(Schema("y"), ("x", "x"), ())
    with pytest.raises(ConfigError, match="features must be a sequence"):
        Encoder(Schema("y"), "x", ())
    with pytest.raises(ConfigError, match="'movie' is no key"):
        Encoder(Schema("y"), (), ("user",)).n_entities("movie")
    checked = check({"u": [1]}, Schema("y"), features=(), keys=("u",), link="logit", need_label=False)
    with pytest.raises(DataError, match="column 'x': the table was not checked"):
        Encoder(Schema("y"), ("x",), ("u",)).encode(checked, grow=True)


KEYS_OF_ANY_SIZE = st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1))


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.tuples(st.lists(KEYS_OF_ANY_SIZE, max_size=60), st.booleans()), max_size=8), beyond=st.booleans()
)
def test_an_index_of_integers_gives_the_codes_of_a_dict(parts: list[tuple[list[int], bool]], beyond: bool) -> None:
    """Growing by arrays, by lists or by both in turn; unseen ones numbered in order of appearance."""
    known, plain = Entities("id", [None]), Entities("id", [None])
    if beyond:
        for entities in (known, plain):
            entities.grow([2**63 + 5, 1], ["int"])
    for values, as_array in parts:
        given = np.array(values, np.int64) if as_array else values
        assert known.lookup(given).tolist() == plain.lookup(values).tolist()
        known.grow(given, ["int"])
        plain.grow(values, ["int"])
        assert known.lookup(given).tolist() == plain.lookup(values).tolist()
    assert known.values == plain.values
    assert all(type(value) is int for value in known.values)
    assert known.codes == plain.codes


def test_an_index_of_integers_grows_past_any_size() -> None:
    keys = np.random.default_rng(0).permutation(np.arange(-50_000, 50_000) * 2**32)
    index = IntIndex()
    assert np.array_equal(index.add(np.concatenate([keys, keys]), 0), keys)
    assert np.array_equal(index.find(keys[::-1]), np.arange(100_000)[::-1])
    assert (index.find(keys + 1) == -1).all()


@pytest.mark.parametrize("dtype", [pa.int8(), pa.uint32(), pa.int64(), pa.uint64(), pa.float64()])
def test_long_tables_code_entities_as_short_ones_do(dtype: Any) -> None:
    keys = pa.array(np.random.default_rng(1).integers(0, 100, 5000)).cast(dtype)
    table = pa.table({"id": pa.chunked_array([keys[:3000], keys[3000:]])})
    whole, pieces = (Encoder(Schema("y"), (), ("id",)) for _ in range(2))
    view = pieces.entity_codes("id")
    codes = whole.encode(table, grow=True).entities["id"]
    parts = [pieces.encode(table.slice(k, 500), grow=True).entities["id"] for k in range(0, 5000, 500)]
    assert np.array_equal(codes, np.concatenate(parts))
    assert dict(whole.entity_codes("id")) == dict(view)
    assert np.array_equal(whole.encode(table, grow=False).entities["id"], codes)
    state, arrays = whole.to_state()
    again = Encoder.from_state(state, arrays)
    assert np.array_equal(again.encode(table, grow=True).entities["id"], codes)
