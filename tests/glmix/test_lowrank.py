"""The low-rank plus diagonal reference against dense linear algebra (specification, sections 4 and 8)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline._errors import ConfigError, StateError
from nearline.glmix import _lowrank
from nearline.glmix._lowrank import LowRank


def random_posterior(seed: int, d: int = 7, k: int = 4) -> LowRank:
    rng = np.random.default_rng(seed)
    return LowRank.prior(rng.uniform(0.5, 4.0, d)).appended(rng.normal(size=(k, d)), rng.uniform(0.1, 3.0, k))


seeds = st.integers(0, 2**32 - 1)


@given(seeds)
@settings(max_examples=50, deadline=None)
def test_woodbury_equals_dense_inverse(seed: int) -> None:
    posterior = random_posterior(seed)
    V = np.linalg.inv(posterior.precision())
    y = np.random.default_rng(seed + 1).normal(size=7)
    np.testing.assert_allclose(posterior.solve(y), V @ y, atol=1e-10)
    np.testing.assert_allclose(posterior.variances(), np.diag(V), atol=1e-10)
    assert posterior.log_determinant() == pytest.approx(-np.linalg.slogdet(V)[1], abs=1e-9)


@given(seeds, st.integers(0, 4))
@settings(max_examples=50, deadline=None)
def test_compression_keeps_the_diagonal_exactly_and_the_best_subspace(seed: int, rank: int) -> None:
    posterior = random_posterior(seed)
    small = posterior.compressed(rank)
    assert small.Q.shape[1] == rank
    np.testing.assert_allclose(np.diag(small.precision()), np.diag(posterior.precision()), rtol=1e-12)
    # Eckart-Young in the metric of h: what is dropped has the smallest singular values of diag(h)^(-1/2) Q.
    root = np.sqrt(posterior.h)[:, None]
    kept = np.linalg.norm(small.Q / root) ** 2
    values = np.linalg.svd(posterior.Q / root, compute_uv=False)
    assert kept == pytest.approx(np.square(values[:rank]).sum(), rel=1e-10, abs=1e-12)


def test_compression_below_the_rank_changes_nothing() -> None:
    posterior = random_posterior(0)
    assert posterior.compressed(4) is posterior


@given(seeds, st.floats(0.05, 1.0))
@settings(max_examples=30, deadline=None)
def test_forgetting_is_the_stabilised_fold(seed: int, delta: float) -> None:
    """Section 4.1: H ← δ H + (1−δ) Λ0, a semigroup that never falls below Λ0."""
    prior = np.random.default_rng(seed).uniform(0.5, 4.0, 7)
    posterior = LowRank(prior + 1.0, random_posterior(seed).Q)
    forgotten = posterior.forgotten(delta, prior)
    np.testing.assert_allclose(
        forgotten.precision(), delta * posterior.precision() + (1 - delta) * np.diag(prior), atol=1e-12
    )
    twice = posterior.forgotten(delta**0.25, prior).forgotten(delta**0.75, prior)
    np.testing.assert_allclose(twice.precision(), forgotten.precision(), atol=1e-11)
    assert np.linalg.eigvalsh(forgotten.precision() - np.diag(prior)).min() > -1e-12


@given(seeds, st.floats(0.0, 1.0))
@settings(max_examples=30, deadline=None)
def test_drift_is_exact_and_keeps_the_rank(seed: int, keep: float) -> None:
    posterior = random_posterior(seed)
    noise = np.random.default_rng(seed + 1).uniform(0.01, 1.0, 7)
    drifted = posterior.drifted(keep, noise)
    assert drifted.Q.shape == posterior.Q.shape
    V = keep * np.linalg.inv(posterior.precision()) + np.diag(noise)
    np.testing.assert_allclose(np.linalg.inv(drifted.precision()), V, atol=1e-10)


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_block_weight_is_the_exact_marginal_downdate(seed: int) -> None:
    """(S_b − c v_b v_bᵀ)⁻¹ = H_b + ω_b x_b x_bᵀ, with c from the total variance of all blocks."""
    rng = np.random.default_rng(seed)
    posterior, x = random_posterior(seed), rng.normal(size=7)
    s_others, curvature = rng.uniform(0, 5), rng.uniform(0, 2)
    S = np.linalg.inv(posterior.precision())
    v = S @ x
    c = curvature / (1 + curvature * (x @ v + s_others))
    omega = _lowrank.block_weight(curvature, float(x @ v) + s_others, float(x @ v))
    assert omega == pytest.approx(c / (1 - c * (x @ v)), rel=1e-9)
    downdated = np.linalg.inv(S - c * np.outer(v, v))
    np.testing.assert_allclose(posterior.appended([x], [omega]).precision(), downdated, atol=1e-8)


def test_the_joint_update_is_the_bayes_update_of_the_stacked_block() -> None:
    """The marginal of block 1 after a joint Gaussian observation of both blocks, from the dense joint covariance."""
    rng = np.random.default_rng(4)
    one, two, x1, x2, curvature = random_posterior(5), random_posterior(6), *rng.normal(size=(2, 7)), 1.7
    joint = np.block([[one.precision(), np.zeros((7, 7))], [np.zeros((7, 7)), two.precision()]])
    x = np.concatenate([x1, x2])
    S = np.linalg.inv(joint + curvature * np.outer(x, x))
    s1, s2 = float(x1 @ one.solve(x1)), float(x2 @ two.solve(x2))
    updated = one.appended([x1], [_lowrank.block_weight(curvature, s1 + s2, s1)])
    np.testing.assert_allclose(np.linalg.inv(updated.precision()), S[:7, :7], atol=1e-11)


def test_draws_have_the_posterior_covariance() -> None:
    """Section 13, item 6: the empirical covariance of 40,000 draws is scale H⁻¹ within Monte-Carlo error."""
    posterior, rng, scale, n = random_posterior(1), np.random.default_rng(2), 0.5, 40_000
    mean = np.arange(7.0)
    draws = np.array([posterior.draw(mean, rng.standard_normal(11), scale) for _ in range(n)])
    V = scale * np.linalg.inv(posterior.precision())
    # sd of an empirical covariance is sqrt((V_ij² + V_ii V_jj) / n); 49 entries stay within five of it.
    sd = np.sqrt((V**2 + np.outer(np.diag(V), np.diag(V))) / n)
    assert np.abs((np.cov(draws.T) - V) / sd).max() < 5
    assert np.abs((draws.mean(axis=0) - mean) / np.sqrt(np.diag(V) / n)).max() < 5


def test_growth_leaves_old_coefficients_alone() -> None:
    posterior = random_posterior(3)
    grown = posterior.grown([2.0, 4.0])
    V = np.linalg.inv(grown.precision())
    np.testing.assert_allclose(V[:7, :7], np.linalg.inv(posterior.precision()), atol=1e-12)
    np.testing.assert_allclose(V[7:, 7:], np.diag([0.5, 0.25]))
    assert not V[:7, 7:].any()


@given(seeds, st.sampled_from([np.float32, np.float64]), st.integers(4, 9))
@settings(max_examples=30, deadline=None)
def test_rows_round_trip_and_keep_the_factor_of_what_is_stored(seed: int, dtype: type, kmax: int) -> None:
    posterior = random_posterior(seed)
    row = _lowrank.pack(posterior, kmax, dtype)
    assert row.dtype == dtype
    assert row.size == _lowrank.row_size(7, kmax)
    back = _lowrank.unpack(row, 7, kmax)
    np.testing.assert_array_equal(back.h, posterior.h.astype(dtype))
    np.testing.assert_array_equal(back.Q, posterior.Q.astype(dtype))
    T = kmax * (kmax + 1) // 2
    L = np.zeros((4, 4))
    L[np.tril_indices(4)] = row[1:11].astype(np.float64) + row[1 + T : 11 + T]
    np.testing.assert_allclose(L @ L.T, back.core(), rtol=1e-12)


def test_rows_grow_at_their_end() -> None:
    rows = np.stack([_lowrank.pack(random_posterior(s), 5) for s in range(3)])
    grown = _lowrank.grow(rows, 7, 9, 5, np.full(9, 3.0))
    np.testing.assert_array_equal(grown[:, : rows.shape[1]], rows)
    for s in range(3):
        expected = random_posterior(s).grown([3.0, 3.0])
        back = _lowrank.unpack(grown[s], 9, 5)
        np.testing.assert_array_equal(back.precision(), expected.precision())


def test_misuse_is_named() -> None:
    with pytest.raises(ConfigError, match="kmax=3 is too small for 4 columns"):
        _lowrank.pack(random_posterior(0), 3)
    with pytest.raises(StateError, match="d=8, kmax=5"):
        _lowrank.unpack(_lowrank.pack(random_posterior(0), 5), 8, 5)
