"""Entities to be loosened: marked at once, taken once, and the same after a restart from the pages that were put."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearline import StateError
from nearline.loop._pending import PAGE, Pending


def blocks(*entities: int) -> Any:
    return [SimpleNamespace(entities=n) for n in entities]


@given(
    sizes=st.lists(st.integers(0, 2 * PAGE + 5), min_size=1, max_size=3),
    touches=st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, 3 * PAGE), max_size=8)), max_size=6),
)
def test_a_store_that_applied_all_changes_has_what_is_left(
    sizes: list[int], touches: list[tuple[int, list[int]]]
) -> None:
    pending, store = Pending(len(sizes)), {}
    pending.mark(blocks(*sizes))
    left = [set(range(n)) for n in sizes]
    for effect, codes in touches:
        effect %= len(sizes)
        found = pending.take(effect, np.unique(np.array(codes, np.int64)))
        assert set(found.tolist()) == left[effect] & set(codes)
        left[effect] -= set(codes)
        store |= pending.changes()
        pending.committed()
        assert pending.changes() == {}
    store |= pending.changes()
    again = Pending.load(len(sizes), {key: data for key, data in store.items() if data is not None})
    assert again.count == pending.count == sum(map(len, left))
    for effect, n in enumerate(sizes):
        assert set(again.take(effect, np.arange(n + 10)).tolist()) == left[effect]


def test_entities_that_came_later_are_not_marked() -> None:
    pending = Pending(1)
    pending.mark(blocks(3))
    assert pending.take(0, np.array([2, 3, 4])).tolist() == [2]


def test_a_million_entities_take_a_hundred_pages() -> None:
    pending = Pending(1)
    pending.mark(blocks(1_000_000))
    changes = pending.changes()
    assert len(changes) == -(-1_000_000 // PAGE)
    assert sum(len(data or b"") for data in changes.values()) == 125_000


@pytest.mark.parametrize("page", [(b"\x05" + bytes(8), b"\x01"), (bytes(4), b"\x01"), (bytes(9), bytes(2000))])
def test_a_damaged_page_is_refused(page: tuple[bytes, bytes]) -> None:
    with pytest.raises(StateError, match="damaged"):
        Pending.load(2, dict([page]))
