"""The hold-out is a function of the record alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline import ConfigError, DataError
from nearline.gate import held_out

USERS, ITEMS = np.arange(20_000) % 3_000, np.arange(20_000) % 7


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.integers(0, 19_999), min_size=1, max_size=200), share=st.floats(0.0, 1.0))
def test_a_record_lies_on_the_same_side_whatever_it_comes_with(rows: list[int], share: float) -> None:
    whole = held_out({"user": USERS, "item": ITEMS}, share)
    part = held_out({"item": ITEMS[rows], "user": USERS[rows]}, share)
    assert (part == whole[rows]).all()


def test_a_larger_share_holds_out_the_same_rows_and_more() -> None:
    small, large = (held_out({"user": USERS, "item": ITEMS}, share) for share in (0.01, 0.3))
    assert (large >= small).all()
    assert large.mean() == pytest.approx(0.3, abs=0.02)


def test_numbers_and_texts_and_their_arrow_forms_are_one() -> None:
    found = held_out({"user": USERS}, 0.1)
    texts = USERS.astype(str)
    for same in (texts, USERS.astype(float), pa.array(texts), pa.chunked_array([USERS[:7], USERS[7:]]),
                 pa.array(texts).dictionary_encode()):  # fmt: skip
        assert (held_out({"user": same}, 0.1) == found).all()


def test_rows_of_one_user_go_together_and_names_and_salts_matter() -> None:
    found = held_out({"user": USERS}, 0.1)
    sides = {(user, side) for user, side in zip(USERS.tolist(), found.tolist())}
    assert len(sides) == 3_000
    assert (held_out({"user": USERS}, 0.1, salt="b") != found).any()
    assert (held_out({"member": USERS}, 0.1) != found).any()


def test_sides_are_independent_of_order_and_of_each_other() -> None:
    # a hash that follows the ids would hold out a block of them
    found = held_out({"id": np.arange(100_000)}, 0.5)
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.02


def test_missing_values_are_a_value() -> None:
    assert held_out({"user": pa.array(["a", None, "a", None])}, 0.5).tolist()[1::2] in ([True] * 2, [False] * 2)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a field"):
        held_out({}, 0.1)
    with pytest.raises(ConfigError, match="share"):
        held_out({"user": USERS}, 1.5)
    with pytest.raises(DataError, match="differ in length"):
        held_out({"user": USERS, "item": ITEMS[:3]}, 0.1)
