"""Forgetting of a low-rank posterior: specification, sections 2 and 4."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.glmix.lowrank_parts import Entity, dense, entity, learn_rows, random_rows, seeds, sparse

from nearline.glmix import _lowrank
from nearline.glmix._kernels import _lowrank as kernels
from nearline.glmix._kernels import _lowrank_fold as folds


@given(seeds, st.floats(0.05, 0.999))
@settings(max_examples=30, deadline=None)
def test_forget_is_the_fold_of_mean_and_precision(seed: int, delta: float) -> None:
    """Section 2, row A: P = δH + (1−δ)Λ0 and m = P⁻¹(δHθ + (1−δ)Λ0μ0)."""
    e, rng = entity(seed, 8), np.random.default_rng(seed)
    H, mean, base = e.posterior.precision(), rng.normal(size=12), rng.normal(size=12)
    e.mean = mean.copy()
    e.call(folds.forget, delta, e.prior, e.mean, base)
    P = delta * H + (1 - delta) * np.diag(e.prior)
    np.testing.assert_allclose(e.posterior.precision(), P, atol=1e-10)
    expected = np.linalg.solve(P, delta * H @ mean + (1 - delta) * e.prior * base)
    np.testing.assert_allclose(e.mean, expected, atol=1e-10)
    assert_factor_is_true(e)


@given(seeds, st.floats(0.0, 0.999))
@settings(max_examples=30, deadline=None)
def test_revert_is_exact_additive_drift(seed: int, a: float) -> None:
    """Section 2, last row: mean μ0 + a(θ − μ0), covariance a²H⁻¹ + (1−a²)Λ0⁻¹, in the same number of columns."""
    e, base = entity(seed, 8), np.linspace(-1, 1, 12)
    H, columns = e.posterior.precision(), e.row[0]
    e.mean = np.ones(12)
    e.call(folds.revert, a, e.prior, e.mean, base)
    V = a * a * np.linalg.inv(H) + (1 - a * a) * np.diag(1 / e.prior)
    np.testing.assert_allclose(np.linalg.inv(e.posterior.precision()), V, atol=1e-10)
    np.testing.assert_allclose(e.mean, base + a * (1 - base))
    assert e.row[0] == columns
    assert_factor_is_true(e)


def test_walk_adds_variance_up_to_the_prior() -> None:
    e, growth = entity(6, 20), np.zeros(12)
    growth[:4] = [1e-3, 1e-3, 10.0, 0.0]
    V = np.linalg.inv(e.posterior.precision())
    e.call(folds.walk, growth, e.prior)
    added = np.diag([1e-3, 1e-3, 1 / e.prior[2] - V[2, 2], *np.zeros(9)])
    np.testing.assert_allclose(np.linalg.inv(e.posterior.precision()), V + added, atol=1e-11)


def test_no_time_is_an_exact_no_op() -> None:
    e = entity(7, 8)
    before, mean, base = e.row.copy(), e.mean.copy(), np.ones(12)
    e.call(folds.forget, 1.0, e.prior, e.mean, base)
    e.call(folds.revert, 1.0, e.prior, e.mean, base)
    e.call(folds.walk, np.zeros(12), e.prior)
    np.testing.assert_array_equal(e.row, before)
    np.testing.assert_array_equal(e.mean, mean)


def test_a_thousand_empty_updates_return_to_the_prior() -> None:
    """Section 13, item 5: H ⪰ Λ0 for ever, and θ → μ0."""
    e = entity(8, 30)
    base, e.mean = np.full(12, 0.25), np.ones(12)
    for _ in range(1_000):
        e.call(folds.forget, 0.97, e.prior, e.mean, base)
        assert (np.diag(e.posterior.precision()) >= e.prior).all()
    np.testing.assert_allclose(e.posterior.precision(), np.diag(e.prior), atol=1e-11)
    np.testing.assert_allclose(e.mean, base, atol=1e-11)


def assert_factor_is_true(e: Entity) -> None:
    """The stored Cholesky factor is that of the stored h and Q."""
    fresh = _lowrank.pack(e.posterior, e.kmax, e.dtype)
    np.testing.assert_allclose(e.row, fresh, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_factor_stays_true_through_a_long_mixed_life(dtype: Any) -> None:
    """Events, forgetting, drift, walks and minibatches: solves agree with the stored h and Q, whatever the storage."""
    e, rng = entity(15, 10, dtype=dtype), np.random.default_rng(16)
    for _ in range(300):
        (idx, val), base = sparse(rng, 12, 4), rng.normal(size=12)
        e.learn(idx, val, float(rng.integers(2)))
        e.call(folds.forget, 0.995, e.prior, e.mean, base)
        e.call(folds.revert, 0.999, e.prior, e.mean, base)
        e.call(folds.walk, rng.uniform(0, 1e-3, 12), e.prior)
        learn_rows(e, "logit", random_rows(rng, 3, 12, "logit"))
        H = e.posterior.precision()
        s, v = e.solve(idx, val)
        np.testing.assert_allclose(v, np.linalg.solve(H, dense(12, idx, val)), atol=1e-11)
        assert s == pytest.approx(val @ v[idx], rel=1e-9)
        assert kernels.log_determinant(e.row, 12, 6) == pytest.approx(np.linalg.slogdet(H)[1], rel=1e-10)
