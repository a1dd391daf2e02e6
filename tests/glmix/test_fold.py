"""Forgetting and drift: semigroups, limits and the numbers of section 4.3."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.glmix.fold_parts import Floats, seeds, state

from nearline._errors import ConfigError, StateError
from nearline.glmix import _fold, _packed
from nearline.glmix._fold import (
    count_factor,
    drift_coefficient,
    late_factor,
    ornstein_uhlenbeck,
    past_weighted,
    random_walk,
    stabilised,
    stabilised_diagonal,
    time_factor,
)
from nearline.glmix._kernels._folds import fold_reverting, fold_stabilised
from nearline.glmix._links import by_name
from nearline.glmix._solve import solve

unit = st.floats(0.0, 1.0)


def test_vanished_feature() -> None:
    """Section 4.3: h = 100, λ = 1, δ = 0.8, θ = 1, five empty updates with decay forced."""
    full, diagonal = (np.ones(1), np.array([[100.0]])), (np.ones(1), np.array([100.0]))
    thetas, precisions = [], []
    for _ in range(5):
        full = stabilised(*full, np.zeros(1), np.eye(1), 0.8)
        diagonal = stabilised_diagonal(*diagonal, np.zeros(1), np.ones(1), 0.8)
        np.testing.assert_allclose((full[0][0], full[1][0, 0]), (diagonal[0][0], diagonal[1][0]), rtol=1e-14)
        thetas.append(round(float(full[0][0]), 4))
        precisions.append(round(float(full[1][0, 0]), 2))
    assert thetas == [0.9975, 0.9944, 0.9906, 0.9858, 0.9799]
    assert precisions == [80.20, 64.36, 51.69, 41.55, 33.44]


@settings(deadline=None)
@given(seed=seeds, delta=unit)
def test_stabilised_prior_is_the_two_penalties_in_one(seed: int, delta: float) -> None:
    """Acceptance test 5: δ(β−θ)ᵀH(β−θ) + (1−δ)(β−μ0)ᵀΛ0(β−μ0) = (β−m)ᵀP(β−m) + constant, to 1e-12."""
    theta, H, mu0, Lambda0 = state(seed)
    m, P = stabilised(theta, H, mu0, Lambda0, delta)

    def excess(beta: Floats) -> float:
        old, base, folded = beta - theta, beta - mu0, beta - m
        return float(delta * old @ H @ old + (1 - delta) * base @ Lambda0 @ base - folded @ P @ folded)

    rng = np.random.default_rng(seed + 1)
    first, second = (excess(rng.normal(size=4)) for _ in range(2))
    assert first == pytest.approx(second, rel=1e-11, abs=1e-11)


@settings(deadline=None)
@given(seed=seeds, one=st.floats(0.0, 5.0), two=st.floats(0.0, 5.0))
def test_time_decay_is_a_semigroup(seed: int, one: float, two: float) -> None:
    """Section 5.3: decay by Δ1, then Δ2, is decay by Δ1 + Δ2: multiplicative and additive, mean and precision."""
    theta, H, mu0, Lambda0 = state(seed)
    once, twice = time_factor(one + two, 2.0), (time_factor(one, 2.0), time_factor(two, 2.0))
    m, P = stabilised(theta, H, mu0, Lambda0, float(once))
    step = stabilised(theta, H, mu0, Lambda0, float(twice[0]))
    again = stabilised(*step, mu0, Lambda0, float(twice[1]))
    np.testing.assert_allclose(again[0], m, atol=1e-10)
    np.testing.assert_allclose(again[1], P, rtol=1e-12, atol=1e-12)
    V, V0 = np.linalg.inv(H), np.linalg.inv(Lambda0)
    a = [float(drift_coefficient(t, growth=0.3, prior_precision=1.0)) for t in (one + two, one, two)]
    whole = ornstein_uhlenbeck(theta, V, mu0, V0, a[0])
    parts = ornstein_uhlenbeck(*ornstein_uhlenbeck(theta, V, mu0, V0, a[1]), mu0, V0, a[2])
    np.testing.assert_allclose(parts[0], whole[0], atol=1e-12)
    np.testing.assert_allclose(parts[1], whole[1], atol=1e-12)


def test_time_half_life_does_not_depend_on_how_often_it_is_applied() -> None:
    """Section 5.3: a per-update factor forgets five times as much in fifty batches as in ten; a half-life does not."""
    theta, H, mu0, Lambda0 = state(0)
    few, many = (theta, H), (theta, H)
    for _ in range(10):
        few = stabilised(*few, mu0, Lambda0, float(time_factor(5.0, 25.0)))
    for _ in range(50):
        many = stabilised(*many, mu0, Lambda0, float(time_factor(1.0, 25.0)))
    np.testing.assert_allclose(few[1], many[1], rtol=1e-12)
    np.testing.assert_allclose(few[0], many[0], rtol=1e-12)


def test_forgotten_states_stay_above_the_prior_and_return_to_it() -> None:
    """Acceptance test 5: H ⪰ Λ0 and θ → μ0 under 1,000 forced empty updates."""
    theta, H, mu0, Lambda0 = state(7)
    m, P = theta, H
    for _ in range(1000):
        m, P = stabilised(m, P, mu0, Lambda0, 0.95)
        assert np.linalg.eigvalsh(P - Lambda0).min() > -1e-9
    np.testing.assert_allclose(m, mu0, atol=1e-10)
    np.testing.assert_allclose(P, Lambda0, rtol=1e-12)


@settings(deadline=None)
@given(seed=seeds, delta=unit)
def test_what_the_data_said_decays_by_delta(seed: int, delta: float) -> None:
    """Section 4.1: H_t − Λ0 = δ(H_{t−1} − Λ0), and the same for the evidence vector Hθ − Λ0μ0."""
    theta, H, mu0, Lambda0 = state(seed)
    m, P = stabilised(theta, H, mu0, Lambda0, delta)
    np.testing.assert_allclose(P - Lambda0, delta * (H - Lambda0), atol=1e-11)
    np.testing.assert_allclose(P @ m - Lambda0 @ mu0, delta * (H @ theta - Lambda0 @ mu0), atol=1e-10)


def test_nothing_forgotten_is_an_exact_no_op() -> None:
    """Section 4.3: Δt = 0 changes no bit."""
    theta, H, mu0, Lambda0 = state(2)
    for m, P in (
        stabilised(theta, H, mu0, Lambda0, float(time_factor(0.0, 3.0))),
        ornstein_uhlenbeck(theta, H, mu0, H, 1.0),
    ):
        assert m is theta
        assert P is H
    everything = stabilised(theta, H, mu0, Lambda0, 0.0)
    np.testing.assert_allclose(everything[0], mu0, atol=1e-12)
    np.testing.assert_allclose(everything[1], Lambda0)


def test_factors() -> None:
    assert time_factor(np.array([0.0, 5.0, 10.0]), 5.0).tolist() == [1.0, 0.5, 0.25]
    assert time_factor(-3.0, 5.0) == 1.0
    assert time_factor(1e9, np.inf) == 1.0
    assert count_factor(20.0, 10.0) == 0.25
    assert late_factor(10.0, 10.0) == 0.5
    assert drift_coefficient(7.0, growth=0.0, prior_precision=3.0) == 1.0
    with pytest.raises(ConfigError, match="half-life"):
        time_factor(1.0, 0.0)
    with pytest.raises(ConfigError, match="forgetting factor"):
        stabilised(*state(0), 1.5)
    with pytest.raises(ConfigError, match="drift"):
        drift_coefficient(1.0, growth=2.0, prior_precision=1.0)
    with pytest.raises(ConfigError, match="drift coefficient"):
        ornstein_uhlenbeck(np.ones(1), np.ones(1), np.ones(1), np.ones(1), -0.1)


def test_drift_grows_by_q_and_saturates_at_the_prior() -> None:
    """Section 5.3: variance grows by about q per unit of time and stops at the base prior."""
    V0, m, v, mu0 = np.array([2.0]), np.array([1.0]), np.array([1e-6]), np.array([0.3])
    a = float(drift_coefficient(1.0, growth=1e-3, prior_precision=0.5))
    assert ornstein_uhlenbeck(m, v, mu0, V0, a)[1][0] == pytest.approx(1e-3, rel=1e-2)
    far = ornstein_uhlenbeck(m, v, mu0, V0, float(drift_coefficient(1e6, growth=1e-3, prior_precision=0.5)))
    np.testing.assert_allclose(far, (mu0, V0))
    assert random_walk(np.zeros((2, 2)), np.array([0.1, 0.2])).tolist() == [[0.1, 0.0], [0.0, 0.2]]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_late_rows_may_come_in_any_order(order: tuple[int, ...]) -> None:
    """Acceptance test 8: linear loss, multiplicative time decay, any arrival order, 1e-10."""
    rng = np.random.default_rng(1)
    X, y, times, half_life = rng.normal(size=(4, 3)), rng.normal(size=4), np.array([0.0, 1.5, 4.0, 4.5]), 2.0
    mu0, Lambda0 = np.array([0.2, 0.0, -0.1]), 2.0 * np.eye(3)

    def learn(order: tuple[int, ...]) -> tuple[Floats, Floats]:
        theta, H, now = mu0, Lambda0, 0.0
        for i in order:
            m, P = stabilised(theta, H, mu0, Lambda0, float(time_factor(times[i] - now, half_life)))
            w = late_factor(now - times[i], half_life)
            fit = solve(X[i : i + 1], y[i : i + 1], w[None], np.zeros(1), m, P, by_name("identity"))
            theta, H, now = fit.theta, fit.H, max(now, times[i])
        return theta, H

    expected, found = learn((0, 1, 2, 3)), learn(order)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-10)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-10)


def test_past_weighted_edge_cases() -> None:
    """Sections 2 and 4.3: new features and missing or zero variances get ωλ2; corrupt ones are errors."""
    m, P = past_weighted(np.array([1.0, 2.0, np.nan]), np.array([0.5, 0.0, np.nan]), omega=2.0, lambda2=3.0)
    assert m.tolist() == [1.0, 2.0, 0.0]
    assert np.diag(P).tolist() == [4.0, 6.0, 6.0]
    for wrong in (-1.0, np.inf):
        with pytest.raises(StateError, match="variance"):
            past_weighted(np.ones(1), np.array([wrong]), omega=1.0, lambda2=1.0)
    with pytest.raises(ConfigError, match="omega"):
        past_weighted(np.ones(1), np.ones(1), omega=-1.0, lambda2=1.0)


@settings(deadline=None)
@given(seed=seeds, factor=st.floats(0.05, 0.999))
def test_compiled_folds_are_the_numpy_ones(seed: int, factor: float) -> None:
    theta, H, mu0, Lambda0 = state(seed)
    V, V0 = np.linalg.inv(H), np.linalg.inv(Lambda0)
    mean, cov = theta.copy(), _packed.pack(V)
    fold_reverting(factor, mean, cov, mu0, _packed.pack(V0))
    expected = ornstein_uhlenbeck(theta, V, mu0, V0, factor)
    np.testing.assert_allclose(mean, expected[0], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(_packed.unpack(cov), expected[1], rtol=1e-12, atol=1e-13)
    mean, cov = theta.copy(), _packed.pack(V)
    fold_stabilised(False, factor, mean, cov, mu0, _packed.pack(V0))
    m, P = stabilised(theta, H, mu0, Lambda0, factor)
    np.testing.assert_allclose(mean, m, atol=1e-9)
    np.testing.assert_allclose(_packed.unpack(cov), np.linalg.inv(P), atol=1e-9)
    mean, cov = theta.copy(), 1 / np.diag(H)
    fold_stabilised(True, factor, mean, cov, mu0, 1 / np.diag(Lambda0))
    expected = stabilised_diagonal(theta, np.diag(H), mu0, np.diag(Lambda0), factor)
    np.testing.assert_allclose((mean, 1 / cov), expected, rtol=1e-10)


def test_module_has_no_clock() -> None:
    assert not {"time", "datetime"} & set(vars(_fold))
