"""Policies, events of few predictions in any order, and a step for each of them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from nearline.join import Outcomes, Policy, State, step

POLICY = Policy(window=100.0, lateness=0.0, horizon=1000.0, skew=5.0)


# Strategies: predictions spread over pages' borders by their position, times that collide often.
TIMES = st.integers(0, 60).map(float)
LABELS = st.sampled_from([0.0, 1.0, 2.5])
POLICIES = st.builds(
    Policy,
    window=st.sampled_from([5.0, 20.0]),
    horizon=st.sampled_from([25.0, 60.0, 1000.0]),
    skew=st.sampled_from([0.0, 3.0]),
    no_outcome=st.sampled_from(["negative", "discard"]),
    late=st.sampled_from(["correct", "drop"]),
)
EVENT = st.tuples(
    st.integers(-1, 4),
    st.one_of(TIMES, st.just(np.nan), st.just(1e18)),
    st.one_of(LABELS, st.just(np.inf)),
    st.sampled_from([0, 0, 0, 1, 2, 255]),
)
STEPS = st.lists(st.tuples(st.lists(TIMES, max_size=3), st.lists(EVENT, max_size=8), TIMES), max_size=6)


def played(policy: Policy, steps: list, first: int = 0) -> tuple[State, list[list]]:
    state, position, done = State(policy, end=first), 0, []
    for times, events, watermark in steps:
        at, time, label, kind = zip(*events) if events else ((), (), (), ())
        outcomes = Outcomes.of(range(position, position + len(events)), np.array(at, int) + first, time, label, kind)
        done.append(step(state, state.end, times, outcomes, watermark))
        position += len(events)
    return state, done
