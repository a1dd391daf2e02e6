"""A step of the join in any order, with duplicates, clock skew and cutting, gives the same labels."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.join.reference import Ledger, Reference, comparable, rows
from tests.join.step_parts import LABELS, POLICIES, POLICY, STEPS, TIMES, played

from nearline.join import Outcomes, Policy, State, Status, step


@settings(max_examples=300, deadline=None)
@given(POLICIES, STEPS)
def test_equals_the_row_by_row_reference(policy: Policy, steps: list) -> None:
    reference, position = Reference(policy), 0
    for (times, events, watermark), joined in zip(steps, played(policy, steps)[1]):
        at, time, label, kind = zip(*events) if events else ((), (), (), ())
        outcomes = Outcomes.of(range(position, position + len(events)), at, time, label, kind)
        position += len(events)
        assert rows(joined) == comparable(reference.step(times, outcomes, watermark))


@settings(max_examples=200, deadline=None)
@given(POLICIES, STEPS)
def test_every_example_is_counted_exactly_once(policy: Policy, steps: list) -> None:
    ledger = Ledger()
    state, done = played(policy, steps)
    for joined in done:
        ledger.follow(joined)
    assert ledger.learned == in_force(state)
    assert state.pending == state.pages.count(Status.PENDING)


def in_force(state: State) -> dict[int, float]:
    row = state.pages.find(np.arange(state.end))
    return {at: label for at, label in enumerate(state.pages.label[row].tolist()) if row[at] >= 0 and label == label}


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[float], list[tuple], list[list[tuple]]]:
    """Predictions, outcomes whose label is a function of (prediction, time), and two deliveries of them."""
    times = draw(st.lists(TIMES, min_size=1, max_size=6))
    pairs = draw(st.lists(st.tuples(st.integers(0, len(times) - 1), st.integers(-5, 80).map(float)), max_size=12))
    choices = {pair: (draw(LABELS), draw(st.sampled_from([0, 0, 1, 2]))) for pair in dict.fromkeys(pairs)}
    outcomes = [(*pair, *choices[pair]) for pair in pairs]
    return times, [delivery(draw, outcomes) for _ in range(2)]


def delivery(draw: st.DrawFn, outcomes: list[tuple]) -> list[tuple]:
    """Any order, some twice, cut anywhere, with a watermark at every cut."""
    again = draw(st.lists(st.sampled_from(outcomes), max_size=4)) if outcomes else []
    order = draw(st.permutations(outcomes + again))
    cuts = sorted(draw(st.lists(st.integers(0, len(order)), max_size=4)))
    parts = [order[a:b] for a, b in zip([0, *cuts], [*cuts, len(order)])]
    return [(part, draw(TIMES)) for part in parts]


@settings(max_examples=400, deadline=None)
@given(deliveries(), POLICIES, st.sampled_from([0, 1021]))
def test_any_order_duplicates_skew_and_cutting_give_the_same_labels(case: tuple, policy: Policy, first: int) -> None:
    times, ways = case
    policy = Policy(policy.window, 0.0, policy.no_outcome, policy.late, horizon=1000.0, skew=policy.skew)
    ends = []
    for parts in ways:
        ledger = Ledger()
        steps = [(times, [], 0.0), *(([], part, watermark) for part, watermark in parts), ([], [], 500.0)]
        state, done = played(policy, steps, first)
        for joined in done:
            ledger.follow(joined)
        assert ledger.learned == in_force(state)
        ends.append(ledger.learned)
    assert ends[0] == ends[1]


def test_many_outcomes_of_one_prediction_in_one_step() -> None:
    n = 20_000
    outcomes = Outcomes.of(range(n), np.zeros(n), np.arange(n) % 97, np.arange(n) % 2)
    ledger = Ledger()
    ledger.follow(step(State(POLICY), 0, [0.0], outcomes, 0.0))
    last = np.flatnonzero(outcomes.time == 96.0)[-1]
    assert ledger.learned == {0: float(last % 2)}
