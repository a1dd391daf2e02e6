"""Pages: bytes and back, what is dirty, what is dropped; a crash between steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.join.reference import rows
from tests.join.step_parts import POLICIES, STEPS, played

from nearline import ConfigError, StateError
from nearline.join import PAGE_BYTES, Outcomes, Policy, Reason, State, Status, step

POLICY = Policy(window=10.0, lateness=0.0, horizon=100.0)
PAGE = 128


class Store:
    """What a store keeps of a state."""

    def __init__(self) -> None:
        self.head, self.pages = b"", {}

    def commit(self, state: State) -> None:
        changes = state.changes()
        self.head = changes.head
        self.pages.update(changes.pages)
        for page in changes.dropped:
            self.pages.pop(page, None)
        state.committed()

    def load(self, policy: Policy) -> State:
        return State.load(policy, self.head, self.pages.items())


@settings(max_examples=200, deadline=None)
@given(POLICIES, STEPS, st.sets(st.integers(0, 6)))
def test_a_crash_between_steps_changes_nothing(policy: Policy, steps: list, crashes: set[int]) -> None:
    _, expected = played(policy, steps)
    store, state, position = Store(), State(policy), 0
    store.commit(state)
    for number, ((times, events, watermark), joined) in enumerate(zip(steps, expected)):
        at, time, label, kind = zip(*events) if events else ((), (), (), ())
        outcomes = Outcomes.of(range(position, position + len(events)), at, time, label, kind)
        if number in crashes:
            # the step is done and lost, then redone from what was committed
            step(state, state.end, times, outcomes, watermark)
            state = store.load(policy)
        assert rows(step(state, state.end, times, outcomes, watermark)) == rows(joined)
        store.commit(state)
        position += len(events)


def test_round_trip_of_several_pages() -> None:
    rng = np.random.default_rng(3)
    state, n = State(POLICY), 3 * PAGE + 17
    outcomes = Outcomes.of(range(500), rng.integers(0, n, 500), rng.uniform(0, 10, 500), rng.integers(0, 2, 500))
    step(state, 0, np.linspace(0, 5, n), outcomes, 12.0)
    changes = state.changes()
    assert state.dirty == [0, 1, 2, 3] == list(changes.pages)
    assert {len(data) for data in changes.pages.values()} == {PAGE_BYTES} == {3_216}
    again = State.load(POLICY, changes.head, list(changes.pages.items())[::-1])
    assert again.dirty == []
    assert again.pending == state.pending
    at = np.arange(n)
    for name in ("time", "label", "mark", "status"):
        a, b = (getattr(s.pages, name)[s.pages.find(at)] for s in (state, again))
        np.testing.assert_array_equal(a, b)
    assert again.pages.to_bytes(list(changes.pages)) == list(changes.pages.values())
    assert rows(step(again, n, [], Outcomes.of(), 500.0)) == rows(step(state, n, [], Outcomes.of(), 500.0))


def test_only_touched_pages_are_dirty() -> None:
    state = State(POLICY)
    step(state, 0, np.zeros(3 * PAGE), Outcomes.of(), 0.0)
    state.committed()
    step(state, 3 * PAGE, [], Outcomes.of([0, 1], [PAGE, 10**9], [1.0, 1.0], [1.0, 1.0]), 0.0)
    assert state.dirty == [1]
    state.committed()
    step(state, 3 * PAGE, [], Outcomes.of(), 1.0)
    assert state.dirty == []


def test_closed_pages_are_dropped_wherever_they_are_and_their_slots_used_again() -> None:
    state = State(POLICY)
    times = np.r_[np.zeros(PAGE), np.full(PAGE, 500.0), np.zeros(PAGE), np.zeros(5)]
    step(state, 0, times, Outcomes.of(), 0.0)
    assert len(step(state, len(times), [], Outcomes.of(), 200.0)) == 2 * PAGE + 5
    # the second page is young, the last one not full: both stay
    assert state.changes().dropped == [0, 2]
    assert len(state.pages) == 2
    old = step(state, len(times), [], Outcomes.of([0], [2 * PAGE], [1.0], [1.0]), 200.0)
    assert old.reason.tolist() == [Reason.TOO_OLD]
    held = state.pages.status.size
    step(state, len(times), np.full(2 * PAGE, 600.0), Outcomes.of(), 200.0)
    assert state.pages.status.size == held
    assert state.pages.count(Status.PENDING) == state.pending == 3 * PAGE
    # what was negative in the slot's former life is pending now, and nothing of it shines through
    fresh = state.pages.find(np.arange(3 * PAGE + 5, 5 * PAGE + 5))
    assert (state.pages.status[fresh] == Status.PENDING).all()
    assert np.isnan(state.pages.label[fresh]).all()


def test_a_used_slot_leaves_no_trace_in_the_bytes_of_its_next_page() -> None:
    used, fresh = State(POLICY), State(POLICY, end=PAGE)
    step(used, 0, np.zeros(PAGE), Outcomes.of([0], [3], [1.0], [2.5]), 500.0)
    assert used.changes().dropped == [0]
    for state in (used, fresh):
        step(state, PAGE, [600.0, 601.0], Outcomes.of(), 600.0)
    assert used.pages.status.size == fresh.pages.status.size
    assert used.pages.to_bytes([1]) == fresh.pages.to_bytes([1])


def test_a_page_that_comes_and_goes_within_one_step_is_not_written() -> None:
    state = State(POLICY)
    assert len(step(state, 0, np.zeros(PAGE), Outcomes.of(), 500.0)) == PAGE
    changes = state.changes()
    assert (changes.pages, changes.dropped, state.pending) == ({}, [0], 0)


def test_a_page_lives_as_long_as_its_newest_prediction() -> None:
    state = State(POLICY)
    step(state, 0, np.r_[300.0, np.zeros(PAGE - 1)], Outcomes.of(), 350.0)
    step(state, PAGE, [], Outcomes.of(), 400.0)
    assert len(state.pages) == 1
    step(state, PAGE, [], Outcomes.of(), 400.5)
    assert len(state.pages) == 0


def test_memory_is_bounded_by_the_horizon() -> None:
    state, held = State(POLICY), []
    for tick in range(200):
        step(state, tick * PAGE, np.full(PAGE, 10.0 * tick), Outcomes.of(), 10.0 * tick)
        held.append(len(state.pages))
    assert max(held) == 11
    assert state.pages.status.size < 32 * PAGE


def test_the_window_may_change_between_runs() -> None:
    state, store = State(POLICY), Store()
    step(state, 0, [0.0], Outcomes.of(), 5.0)
    store.commit(state)
    again = store.load(Policy(window=3.0, horizon=100.0))
    assert again.pages.count(Status.PENDING) == 1
    assert len(step(again, 1, [], Outcomes.of(), 5.0)) == 1


@pytest.mark.parametrize(
    ("page", "change", "words"),
    [
        (0, lambda data: data[:-1], "page 0 has 3215 bytes, not 3216"),
        (0, lambda data: b"NJP\x07" + data[4:], "format 7"),
        (4, lambda data: data, "page 4 says .*page 0"),
    ],
)
def test_bytes_that_are_not_this_page(page: int, change: object, words: str) -> None:
    state = State(POLICY)
    step(state, 0, [0.0], Outcomes.of(), 0.0)
    changes = state.changes()
    with pytest.raises(StateError, match=words):
        State.load(POLICY, changes.head, [(page, change(changes.pages[0]))])


@pytest.mark.parametrize("head", [b"", b"NJX" + bytes(25)])
def test_bytes_that_are_not_a_head(head: bytes) -> None:
    with pytest.raises(StateError, match="join head"):
        State.load(POLICY, head, [])


@pytest.mark.parametrize(
    "settings",
    [
        {"window": 0.0},
        {"window": -1.0},
        {"window": np.inf},
        {"window": 60.0, "horizon": 59.0},
        {"window": 60.0, "skew": -1.0},
        {"window": 60.0, "late": "maybe"},
        {"window": 60.0, "no_outcome": "positive"},
    ],
)
def test_policies_that_make_no_sense(settings: dict) -> None:
    name = list(settings)[-1]
    with pytest.raises(ConfigError, match=name):
        Policy(**settings)
