"""One tick's net effect is what its rows would do one after the other."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline.join import Action, Joined, Outcomes, Policy, State, step
from nearline.loop._settle import Settled, settle

OUTCOME = st.tuples(st.integers(0, 3), st.integers(0, 30), st.sampled_from([0.0, 1.0, math.nan]), st.integers(0, 2))
STEPS = st.lists(st.tuples(st.lists(OUTCOME, max_size=8), st.sampled_from([0.0, 5.0, 50.0])), min_size=1, max_size=6)


def follow(held: dict[int, float], joined: Joined) -> None:
    """Row after row, as `Joined` says."""
    for prediction, label, previous in zip(joined.prediction.tolist(), joined.label, joined.previous):
        if not math.isnan(previous):
            assert held.pop(prediction) == previous
        if not math.isnan(label):
            assert prediction not in held
            held[prediction] = float(label)


def apply(held: dict[int, float], joined: Joined, settled: Settled) -> None:
    """All at once, as `Settled` says."""
    for row, previous in zip(settled.undo.tolist(), settled.previous.tolist()):
        assert held.pop(int(joined.prediction[row])) == previous
        if not math.isnan(joined.label[row]):
            held[int(joined.prediction[row])] = float(joined.label[row])
    for row in settled.learn.tolist():
        assert int(joined.prediction[row]) not in held
        held[int(joined.prediction[row])] = float(joined.label[row])


@settings(deadline=None)
@given(STEPS)
def test_the_net_effect_is_the_last_label(steps: list[tuple[list[tuple[int, int, float, int]], float]]) -> None:
    state = State(Policy(window=20.0, lateness=0.0, horizon=1_000.0))
    one, other, at, watermark = dict[int, float](), dict[int, float](), 0, 0.0
    for number, (told, seconds) in enumerate(steps):
        position = np.arange(at, at + len(told))
        at += len(told)
        watermark += seconds
        columns = [list(column) for column in zip(*told)] or [[], [], [], []]
        joined = step(
            state, state.end, [0.0, 1.0, 2.0, 3.0] if number == 0 else [],
            Outcomes.of(position, *columns[:3], columns[3]), watermark,
        )  # fmt: skip
        settled = settle(joined)
        follow(one, joined)
        apply(other, joined, settled)
        assert one == other
        parts = [settled.learn, settled.undo, settled.superseded]
        acts = np.flatnonzero(~np.isnan(joined.label) | ~np.isnan(joined.previous))
        assert np.array_equal(np.sort(np.concatenate(parts)), acts)
        counted = joined.prediction[np.concatenate(parts[:2])]
        assert len(set(counted.tolist())) == len(counted)
        assert all(np.array_equal(part, np.sort(part)) for part in parts)


def test_nothing_is_settled_of_rows_that_change_nothing() -> None:
    none, nan = np.full(2, -1), np.full(2, np.nan)
    rows = Joined(np.array([0, 1]), none, np.full(2, Action.REPEAT, np.uint8), nan, nan.copy(), np.zeros(2, np.uint8))
    found = settle(rows)
    assert [len(found.learn), len(found.undo), len(found.previous), len(found.superseded)] == [0, 0, 0, 0]
