"""A stored encoder goes on as if it had not been stored, and a broken one is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features.tables import FEATURES, KEYS, SCHEMA, assert_same, encode, join, row, table, vocabulary

from nearline._errors import StateError
from nearline.features import Encoder
from nearline.schema import Schema


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
