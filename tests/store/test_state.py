"""One contract for every state store, in memory and on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.store.state_parts import everything

from nearline import DataError
from nearline.store import Changes, Conflict, LmdbStateStore, MemoryStateStore, StateStore

Make = Callable[[], StateStore]


@pytest.fixture(params=["memory", "lmdb", "tiny lmdb"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    stores: list[StateStore] = []

    def new() -> StateStore:
        options: dict[str, Any] = {"map_size": 1 << 17} if request.param == "tiny lmdb" else {}
        folder = tmp_path / str(len(stores))
        stores.append(MemoryStateStore() if request.param == "memory" else LmdbStateStore(folder, **options))
        return stores[-1]

    yield new
    for store in stores:
        store.close()


def test_a_new_store_is_empty(make: Make) -> None:
    assert everything(make(), "rows") == ({}, {}, {"rows": {}})


def test_a_commit_is_seen_whole(make: Make) -> None:
    store = make()
    store.commit(Changes({"rows": {b"b": b"2", b"a": b""}}, {"line": "1.4.9", "n": [1, {"x": None}]}), {"examples": 7})
    store.commit(Changes({"rows": {b"b": memoryview(b"3"), b"none": None}}), {"outcomes": -1})
    assert everything(store, "rows", "other") == (
        {"examples": 7, "outcomes": -1},
        {"line": "1.4.9", "n": [1, {"x": None}]},
        {"rows": {b"a": b"", b"b": b"3"}, "other": {}},
    )
    with store.snapshot() as state:
        assert list(state.table("rows")) == [b"a", b"b"]
        assert (state.get("rows", b"b"), state.get("rows", b"c"), state.get("other", b"b")) == (b"3", None, None)


def test_a_line_is_switched_in_one_transaction(make: Make) -> None:
    """Another base version: its name is set, the old line's rows go, the rest stays."""
    store = make()
    store.commit(Changes({"rows": {b"a": b"1", b"b": b"2"}, "join": {b"p": b"x"}}, {"line": "1.0.0"}), {"examples": 7})
    store.commit(Changes({"rows": {b"b": b"9"}}, {"line": "1.1.0", "gone": None}, clear=("rows", "nothing")), {})
    assert everything(store, "rows", "join") == (
        {"examples": 7}, {"line": "1.1.0"}, {"rows": {b"b": b"9"}, "join": {b"p": b"x"}},
    )  # fmt: skip


def test_what_was_computed_on_another_state_is_refused_whole(make: Make) -> None:
    """Compare and set: spec glmix.md 7, reconciliation 3."""
    store = make()
    store.commit(Changes(meta={"line": {"base": "1.0.0"}}, expected={"line": None}), {"examples": 7})
    late = Changes({"rows": {b"a": b"1"}}, {"line": None}, clear=("rows",), expected={"line": {"base": "0.9.0"}})
    for _ in range(2):
        with pytest.raises(Conflict, match=r"'line' of the state is {'base': '1\.0\.0'}, not {'base'"):
            store.commit(late, {"examples": 9})
    with pytest.raises(Conflict, match="'line'"):
        store.commit(Changes(expected={"line": None}), {"examples": 9})
    assert everything(store, "rows") == ({"examples": 7}, {"line": {"base": "1.0.0"}}, {"rows": {}})
    store.commit(Changes(meta={"line": "2"}, expected={"line": {"base": "1.0.0"}, "other": None}), {"examples": 8})
    assert everything(store) == ({"examples": 8}, {"line": "2"}, {})


def test_positions_may_be_numpys(make: Make) -> None:
    store = make()
    store.commit(Changes(), {"examples": np.int64(7)})  # type: ignore[dict-item]
    found = everything(store)[0]["examples"]
    assert (found, type(found)) == (7, int)


def test_a_snapshot_stands_still(make: Make) -> None:
    store = make()
    store.commit(Changes({"rows": {b"a": b"1"}}), {"examples": 1})
    with store.snapshot() as then:
        store.commit(Changes({"rows": {b"a": b"2"}, "new": {b"x": b"y"}}, {"line": "2"}), {"examples": 2})
        assert (dict(then.positions), dict(then.meta)) == ({"examples": 1}, {})
        assert (then.table("rows"), then.get("rows", b"a"), then.table("new")) == ({b"a": b"1"}, b"1", {})
    assert everything(store, "rows", "new")[0] == {"examples": 2}


@pytest.mark.parametrize(
    ("changes", "positions", "says"),
    [
        (Changes({"": {b"a": b"1"}}), {}, "no name of a table"),
        (Changes({"(meta)": {b"a": b"1"}}), {}, "no name of a table"),
        (Changes(clear=("(positions)",)), {}, "no name of a table"),
        (Changes({"rows": {b"": b"1"}}), {}, "'rows'.*1 to 511 bytes"),
        (Changes({"rows": {b"x" * 512: b"1"}}), {}, "'rows'.*1 to 511 bytes"),
        (Changes(), {"examples": 2**63}, "'examples' is 9223372036854775808"),
        (Changes(), {"examples": 1.5}, "'examples' is 1.5"),
        (Changes(meta={"line": object()}), {}, "'line'"),
    ],
)
def test_what_cannot_be_kept_is_refused_and_nothing_changes(
    make: Make, changes: Changes, positions: dict[str, int], says: str
) -> None:
    store = make()
    store.commit(Changes({"rows": {b"a": b"1"}}), {"examples": 1})
    with pytest.raises(DataError, match=says):
        store.commit(changes | Changes({"rows": {b"a": b"2"}}), positions)
    assert everything(store, "rows") == ({"examples": 1}, {}, {"rows": {b"a": b"1"}})


KEYS = st.binary(min_size=1, max_size=3)
COMMITS = st.lists(
    st.tuples(
        st.dictionaries(
            st.sampled_from(["rows", "join"]), st.dictionaries(KEYS, st.none() | st.binary(max_size=5000), max_size=6)
        ),
        st.dictionaries(st.sampled_from("ab"), st.integers(-(2**63), 2**63 - 1)),
        st.dictionaries(st.sampled_from("xy"), st.none() | st.text(max_size=5) | st.floats(allow_nan=False)),
        st.lists(st.sampled_from(["rows", "join"]), max_size=1).map(tuple),
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(commits=COMMITS)
def test_the_disk_keeps_what_memory_keeps(commits: list[Any]) -> None:
    """Any commits: the twins agree after each, and after the one on disk was closed and opened."""
    with tempfile.TemporaryDirectory() as folder:
        memory, disk = MemoryStateStore(), LmdbStateStore(folder, map_size=1 << 16)
        for tables, positions, meta, clear in commits:
            for store in (memory, disk):
                store.commit(Changes(tables, meta, clear), positions)
            assert everything(memory, "rows", "join") == everything(disk, "rows", "join")
        disk.close()
        disk = LmdbStateStore(folder, read_only=True)
        assert everything(memory, "rows", "join") == everything(disk, "rows", "join")
        disk.close()


def test_changes_join() -> None:
    one = Changes({"rows": {b"a": b"1", b"b": b"1"}}, {"x": 1}, clear=("rows",))
    two = Changes({"rows": {b"b": None}, "join": {b"p": b"2"}}, {"x": 2}, clear=("join", "rows"))
    both = Changes({"rows": {b"a": b"1", b"b": None}, "join": {b"p": b"2"}}, {"x": 2}, ("rows", "join"))
    assert one | two == both
