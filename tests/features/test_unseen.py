"""What an encoder has not seen: entries without a slot, and entities without a code."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features.tables import FEATURES, KEYS, SCHEMA, encode, row, table, unseen

from nearline.features import Encoder
from nearline.schema import Schema


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
