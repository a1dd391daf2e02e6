"""Codes of entities: values keep their type, combinations are one entity, and any table codes them alike."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline.features import Encoder
from nearline.features._entities import Entities
from nearline.features._int_index import IntIndex
from nearline.schema import Schema


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
