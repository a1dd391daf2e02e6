"""Versions order as their numbers and survive text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.store.registry_parts import V

from nearline import DataError
from nearline.store import Version


@given(a=st.tuples(*[st.integers(0, 2000)] * 3), b=st.tuples(*[st.integers(0, 2000)] * 3))
def test_versions_order_as_their_numbers_and_survive_text(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    one, two = Version(*a), Version(*b)
    assert (one < two, one == two) == (a < b, a == b)
    assert V(str(one)) == one
    assert one.base <= one < one.next_batch() < one.next_whole()
    assert one.base.at(one.nearline) == one


@pytest.mark.parametrize("text", ["", "1", "1.2", "1.2.3.4", "1.2.x", "v1.2.3", "01.2.3", "1.2.-3", " 1.2.3", "1.2.٣"])
def test_other_texts_are_no_versions(text: str) -> None:
    with pytest.raises(DataError, match=r"write global\.batch\.nearline"):
        V(text)


@pytest.mark.parametrize("numbers", [(-1,), (1, 2.0), (True,), (2**63,)])
def test_other_numbers_are_no_versions(numbers: Any) -> None:
    with pytest.raises(DataError, match="whole number"):
        Version(*numbers)
