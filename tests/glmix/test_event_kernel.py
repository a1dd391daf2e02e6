"""The event kernel against its NumPy twin and exact answers (docs/architecture.md, "The update")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.glmix.event_kernel_parts import SCENARIOS, SLOTS, Floats, Model, close, random_events, random_twin

from nearline.glmix import _oracle
from nearline.glmix._codes import STABILISED
from nearline.glmix._links import by_name
from nearline.glmix._oracle import Event, Twin

LINKS = ("logit", "identity", "log")


def drive(twins: Sequence[Twin], link: str, events: Sequence[Event], stops: Sequence[int]) -> tuple[Floats, Floats]:
    """The oracle's (z, s), predicted and then learned chunk by chunk."""
    z, s = [], []
    for start, stop in pairwise([0, *stops]):
        for event in events[start:stop]:
            margin, variance, *_ = _oracle.predict(twins, event)
            z.append(margin)
            s.append(variance)
        for event in events[start:stop]:
            if event.weight != 0.0:
                _oracle.learn(twins, by_name(link), event)
    return np.array(z), np.array(s)


def same_state(model: Model, tolerance: float = 1e-9) -> None:
    for r, twin in enumerate(model.twins):
        close(model.mean[r], twin.mean, tolerance)
        close(model.dense(r), twin.V, tolerance)
        np.testing.assert_array_equal(model.last[r], twin.last)
        np.testing.assert_array_equal(model.count[r], twin.count)


def check(scenario: str, link: str, seed: int, stops: Sequence[int] | None = None, n: int = 60) -> None:
    rng = np.random.default_rng(seed)
    twins = SCENARIOS[scenario](rng)
    model, events = Model(twins, link), random_events(rng, twins, link, n)
    z, s, refused = model.replay(events, stops)
    expected_z, expected_s = drive(twins, link, events, range(1, n + 1) if stops is None else stops)
    assert not refused.any()
    close(z, expected_z)
    close(s, expected_s)
    same_state(model)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_event_does_what_the_twin_does(scenario: str, link: str) -> None:
    """Joint update: η = z − s w g(η), μ_b −= w g S_b x_b, S_b −= c (S_b x_b)(S_b x_b)ᵀ; forgetting of section 5."""
    check(scenario, link, seed=len(scenario))


@settings(max_examples=15, deadline=None)
@given(
    scenario=st.sampled_from(sorted(SCENARIOS)), link=st.sampled_from(LINKS), seed=st.integers(0, 2**32 - 1),
    cuts=st.sets(st.integers(1, 39), max_size=8),
)  # fmt: skip
def test_a_chunk_is_predicted_before_it_is_learned(scenario: str, link: str, seed: int, cuts: set[int]) -> None:
    """Delayed updates: rows up to each stop are scored by the model as it stood at the stop before."""
    check(scenario, link, seed, [*sorted(cuts), 40], n=40)


def moments(twin: Twin, events: Sequence[Event]) -> tuple[Floats, Floats]:
    """The batch posterior of Bayesian linear regression: V = (Λ0 + XᵀWX)⁻¹, m = V (Λ0 μ0 + XᵀW(y − offset))."""
    X, w = np.array([e.x[twin.slots] for e in events]), np.array([e.weight for e in events])
    target = np.array([e.label - e.offset for e in events])
    precision = np.linalg.inv(twin.V0)
    V = np.linalg.inv(precision + X.T @ (w[:, None] * X))
    return V @ (precision @ twin.mu0 + X.T @ (w * target)), V


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), d=st.integers(1, SLOTS), n=st.integers(1, 120))
def test_one_linear_block_is_exact_bayesian_regression(seed: int, d: int, n: int) -> None:
    """Identity link, one block: event by event gives the batch posterior, in closed form."""
    rng = np.random.default_rng(seed)
    model = Model([random_twin(rng, d, 1)], "identity")
    events = random_events(rng, model.twins, "identity", n)
    model.replay(events)
    m, V = moments(model.twins[0], events)
    close(model.mean[0][0], m, 1e-8)
    close(model.dense(0)[0], V, 1e-8)


@given(seed=st.integers(0, 2**32 - 1), copies=st.integers(1, 6))
@settings(max_examples=10, deadline=None)
def test_a_linear_event_of_weight_k_is_k_events(seed: int, copies: int) -> None:
    """Identity link, one block: w = k and k copies add the same information k x xᵀ."""
    rng = np.random.default_rng(seed)
    twin = random_twin(rng, 7, 1)
    event = replace(random_events(rng, [twin], "identity", 1)[0], weight=1.0)
    once, often = Model([twin], "identity"), Model([twin], "identity")
    once.replay([replace(event, weight=float(copies))])
    often.replay([event] * copies)
    close(once.mean[0], often.mean[0])
    close(once.cov[0], often.cov[0])


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_linear_events_may_arrive_in_any_order(seed: int) -> None:
    """A late event enters with weight w 2^(−s/τ); half-lives are a semigroup, so order is nothing (section 5.3)."""
    rng = np.random.default_rng(seed)
    twin = random_twin(rng, 6, 1, form=STABILISED, rate=60.0)
    events = sorted(random_events(rng, [twin], "identity", 12), key=lambda e: e.time)
    events = [replace(e, weight=1.0) for e in events]
    straight, shuffled = Model([twin], "identity"), Model([twin], "identity")
    straight.replay(events)
    shuffled.replay([events[i] for i in rng.permutation(len(events))])
    close(shuffled.mean[0], straight.mean[0])
    close(shuffled.cov[0], straight.cov[0])
    assert straight.last == shuffled.last


GRID = {
    "logit": product((0.0, 0.3, 1.0), (1e-9, 1e-3, 0.1, 1.0, 30.0, 1e4, 1e6), (-30.0, -4.0, 0.0, 0.7, 5.0, 20.0)),
    "log": product((0.0, 1.0, 7.0, 1e4), (1e-9, 1e-3, 0.1, 1.0, 30.0, 1e4), (-30.0, -4.0, 0.0, 0.7, 5.0, 20.0)),
}


@pytest.mark.parametrize("link", GRID)
def test_the_new_margin_is_found_from_far_away(link: str) -> None:
    """η = z − s w g(η): one dimension, x = 1, so the mean after the event is η itself."""
    grid = list(GRID[link])
    twin = Twin(np.array([0]), np.zeros(1), np.eye(1), len(grid))
    model = Model([twin], link)
    x = np.zeros(SLOTS)
    x[0] = 1.0
    for e, (y, sw, z) in enumerate(grid):
        model.mean[0][e] = z
        model.replay([Event(x, (e,), y, sw)])
        eta = _oracle.solve(by_name(link), y, sw, z)
        # A margin is known no better than s w g is: g = p − y loses the digits of y.
        slack = 1e-9 + 8 * np.finfo(float).eps * sw * max(1.0, y)
        close(model.mean[0][e, 0], eta, slack)


def test_a_log_margin_that_overflows_is_brought_down_or_refused() -> None:
    """Learning y = 0 at z = 800 has a finite root, although e^z is not finite; at infinite z there is none."""
    twin = Twin(np.array([0]), np.zeros(1), np.eye(1), 2)
    model = Model([twin], "log")
    model.mean[0][:] = [[800.0], [np.inf]]
    x = np.zeros(SLOTS)
    x[0] = 1.0
    _, _, refused = model.replay([Event(x, (0,), 0.0), Event(x, (1,), 0.0)])
    assert refused.tolist() == [False, True]
    eta = model.mean[0][0, 0]
    close(eta + np.exp(eta), 800.0)


def test_a_walk_never_exceeds_the_prior_variance() -> None:
    """Random-walk noise is capped: S_jj ≤ V0_jj, and an entity left alone ends up there."""
    rng = np.random.default_rng(10)
    twin = random_twin(rng, 6, 1, walk_event=np.full(6, 0.05), walk_second=np.full(6, 1e-4))
    model = Model([twin], "logit")
    events = random_events(rng, [twin], "logit", 200)
    model.replay(events)
    assert (np.diagonal(model.dense(0)[0]) <= np.diag(twin.V0) * (1 + 1e-12)).all()
    for j, slot in enumerate(twin.slots):
        x = np.eye(SLOTS)[slot]
        _, s = model.score([Event(x, (0,), time=events[-1].time + 1e9)])
        close(s, twin.V0[j, j])
