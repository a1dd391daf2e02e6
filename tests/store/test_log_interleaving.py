"""Any sequence of calls to a log leaves what the same calls leave of a plain list."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from store_rows import SCHEMA, batch, values
from tests.store.log_contract_parts import MAKES

from nearline.store import Log, MemoryLog, _log, _opening


class Interleaving(RuleBasedStateMachine):
    """Any order of calls against a plain list of appends."""

    make: Callable[[], Any]

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[list[int]] = []  # committed appends
        self.tail: list[list[int]] = []
        self.value = self.first = 0

    @property
    def end(self) -> int:
        return self.first + sum(map(len, self.kept))

    @property
    def next(self) -> int:
        return self.end + sum(map(len, self.tail))

    @initialize()
    def open(self) -> None:
        self.log = self.make()

    @rule(length=st.integers(1, 5))
    def append(self, length: int) -> None:
        new = list(range(self.value, self.value + length))
        assert self.log.append(batch(*new)) == self.next
        self.value += length
        self.tail.append(new)

    @rule()
    def commit(self) -> None:
        assert self.log.commit() == self.next
        self._commit()

    @rule(share=st.floats(0, 1))
    def truncate(self, share: float) -> None:
        end = self.first + round(share * (self.next - self.first))
        if end == self.next:
            return
        self.log.truncate(end)
        self._commit()
        at, kept = self.first, []
        for part in self.kept:
            kept.append(part[: max(end - at, 0)])
            at += len(part)
        self.kept = [part for part in kept if part]

    @rule(active=st.booleans())
    def seal(self, active: bool) -> None:
        self.log.seal(active=active)

    @rule()
    def compact(self) -> None:
        self.log.compact()

    @rule(share=st.floats(0, 1))
    def retain(self, share: float) -> None:
        before = self.first + round(share * (self.end - self.first))
        first = self.log.retain(before)
        assert self.first <= first <= max(before, self.first)
        while self.first < first:
            self.first += len(self.kept.pop(0))
        assert self.first == first

    @precondition(lambda self: not isinstance(self.log, MemoryLog))
    @rule()
    def reopen(self) -> None:
        self.log.close()
        self.log = self.make()
        self._commit()

    @invariant()
    def same_as_the_list(self) -> None:
        if not hasattr(self, "log"):
            return
        log, flat = self.log, [value for part in self.kept for value in part]
        assert (log.first, log.end, log.next) == (self.first, self.end, self.next)
        assert log.read(self.first)["n"].to_pylist() == flat
        assert [part["n"].to_pylist() for _, part in log.batches(self.first)] == self.kept
        wanted = [self.first + (i * 7) % len(flat) for i in range(9)] if flat else []
        assert log.take(wanted)["n"].to_pylist() == [flat[i - self.first] for i in wanted]

    def _commit(self) -> None:
        self.kept += self.tail
        self.tail = []

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.log.close()


@pytest.mark.parametrize("name", MAKES)
def test_any_interleaving_equals_a_plain_list(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    class Machine(Interleaving):
        def open(self) -> None:
            folder = tmp_path_factory.mktemp("log")
            self.make = lambda: MAKES[name](folder)
            self.log = self.make()

        open = initialize()(open)

    machine = Machine.TestCase
    machine.settings = settings(
        max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
    )
    machine("runTest").runTest()


@given(lengths=st.lists(st.integers(1, 9), max_size=12), after=st.integers(0, 40), limit=st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_reading_is_slicing(lengths: list[int], after: int, limit: int) -> None:
    log = MemoryLog(SCHEMA)
    for length in lengths:
        log.append(batch(*range(log.next, log.next + length)))
    rows = list(range(log.commit()))
    assert values(log.read(after, limit)) == rows[after : after + limit]


def test_many_small_appends_go_on_in_another_segment_and_come_back_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_log, "_APPENDS", 10)
    monkeypatch.setattr(_opening, "_TOGETHER", 4)
    schema = pa.schema({"x": pa.int64()})
    with Log.open(tmp_path, schema) as log:
        for value in range(25):
            log.append(pa.record_batch([[value]], schema=schema))
            log.commit()
    assert len(list(tmp_path.glob("*.arrow"))) == 3
    with Log.open(tmp_path, schema) as log:
        assert log.read(0)["x"].to_pylist() == list(range(25))
        assert log.take([24, 20, 3])["x"].to_pylist() == [24, 20, 3]
        assert [position for position, _ in log.batches()] == list(range(25))
