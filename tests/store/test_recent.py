"""Recent rows: what is read does not depend on how they came, on who reads when, or on what is gathered."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline.store import _recent
from nearline.store._recent import Recent

SCHEMA = pa.schema({"x": pa.int64()})


def batch(begin: int, n: int) -> Any:
    return pa.record_batch([list(range(begin, begin + n))], schema=SCHEMA)


def values(recent: Recent) -> list[int]:
    found: list[int] = recent.table(recent.start, recent.end)["x"].to_pylist()
    return found


def taken(recent: Recent, positions: list[int]) -> list[int]:
    parts = recent.take(np.array(positions, np.int64))
    return [value for part in parts for value in part["x"].to_pylist()]


@given(
    steps=st.lists(st.tuples(st.integers(1, 9), st.sampled_from(["", "tidied", "read"])), max_size=40),
    budget=st.integers(0, 300),
)
@settings(max_examples=100, deadline=None)
def test_rows_are_those_that_came_but_for_the_oldest_beyond_the_budget(
    steps: list[tuple[int, str]], budget: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_recent, "_TIERS", (4, 16))
        recent, since = Recent.empty(SCHEMA, 5), 0
        for n, then in steps:
            recent, since = recent.added(batch(recent.end, n), 8 * n), since + 8 * n
            if then == "tidied":
                recent, since = recent.tidied(budget), 0
            elif then == "read":
                assert values(recent)[-1] == recent.end - 1
        assert recent.end == 5 + sum(n for n, _ in steps)
        assert values(recent) == list(range(recent.start, recent.end))
        wanted = list(range(recent.start, recent.end, 3))
        assert taken(recent, wanted) == wanted
        tidied = recent.tidied(budget)
        assert values(tidied) == list(range(tidied.start, recent.end))
        assert tidied.size <= budget or tidied.count <= 1


def test_two_records_that_follow_the_same_one_do_not_see_each_other() -> None:
    one = Recent.empty(SCHEMA, 0).added(batch(0, 2), 16)
    left, right = one.added(batch(2, 1), 8), one.added(pa.record_batch([[70, 71]], schema=SCHEMA), 16)
    assert (values(one), values(left), values(right)) == ([0, 1], [0, 1, 2], [0, 1, 70, 71])


def test_a_record_is_cut_at_any_row() -> None:
    recent = Recent.empty(SCHEMA, 3).added(batch(3, 4), 32).added(batch(7, 2), 16)
    assert [values(recent.cut(end)) for end in (9, 8, 4)] == [[3, 4, 5, 6, 7, 8], [3, 4, 5, 6, 7], [3]]
    assert (recent.cut(2).start, recent.cut(2).end) == (2, 2)


def test_gathered_rows_may_be_read_by_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_recent, "_TIERS", (4, 64))
    recent, wrong = Recent.empty(SCHEMA, 0), list[Any]()
    for _ in range(200):
        recent = recent.added(batch(recent.end, 3), 24).tidied(1 << 20)
    assert recent.count < 20

    def read() -> None:
        if values(recent) != list(range(600)):
            wrong.append(values(recent))

    readers = [threading.Thread(target=read) for _ in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert not wrong
