"""The compiled low-rank kernels against their NumPy twin and dense answers: specification, sections 2 and 8."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.glmix.lowrank_parts import Entity, Floats, dense, entity, newton, seeds, sparse

from nearline.glmix import _lowrank
from nearline.glmix._kernels import _lowrank as kernels
from nearline.glmix._kernels import _lowrank_linalg as linalg
from nearline.glmix._lowrank import LowRank


def test_with_enough_columns_events_equal_the_dense_full_covariance_update() -> None:
    """S −= c v vᵀ and μ += a v in dense form, 40 logistic events, d = 30: the same to 1e-8."""
    rng, d = np.random.default_rng(0), 30
    e = Entity(d, 40, 39, np.full(d, 2.0))
    S, mean = np.diag(np.full(d, 0.5)), np.zeros(d)
    for _ in range(40):
        idx, val = sparse(rng, d, 8)
        label, x = float(rng.integers(2)), dense(d, idx, val)
        v = S @ x
        s, v_kernel = e.solve(idx, val)
        assert s == pytest.approx(x @ v, abs=1e-10)
        np.testing.assert_allclose(v_kernel, v, atol=1e-10)
        a, D = newton(float(x @ mean), float(x @ v), label)
        mean, S = mean + a * v, S - D / (1 + D * (x @ v)) * np.outer(v, v)
        e.learn(idx, val, label)
    np.testing.assert_allclose(e.mean, mean, atol=1e-8)
    np.testing.assert_allclose(np.linalg.inv(e.posterior.precision()), S, atol=1e-8)


@given(seeds, st.integers(0, 30))
@settings(max_examples=40, deadline=None)
def test_kernels_equal_the_twin_through_compressions(seed: int, events: int) -> None:
    rng = np.random.default_rng(seed)
    e = Entity(12, 6, 3, rng.uniform(0.5, 4.0, 12))
    twin = LowRank.prior(e.prior)
    for _ in range(events):
        (idx, val), weight = sparse(rng, 12, 4), rng.uniform(0.05, 2.0)
        e.append(idx, val, weight)
        twin = (twin.compressed(3) if twin.Q.shape[1] == 6 else twin).appended([dense(12, idx, val)], [weight])
    np.testing.assert_allclose(e.posterior.precision(), twin.precision(), atol=1e-9)
    out = np.empty(12)
    e.call(kernels.variances, out)
    np.testing.assert_allclose(out, twin.variances(), atol=1e-10)
    assert kernels.log_determinant(e.row, 12, 6) == pytest.approx(twin.log_determinant(), abs=1e-9)
    y, xi = rng.normal(size=12), rng.standard_normal(18)
    e.call(kernels.draw, y, xi, 0.5, out)
    np.testing.assert_allclose(out, e.posterior.draw(y, xi, 0.5), atol=1e-9)
    e.call(kernels.solve_dense, y.copy())


@given(seeds, st.integers(0, 6), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_compress_keeps_diag_h_exactly(seed: int, events: int, rank: int) -> None:
    e = entity(seed, events, kmax=7)
    before = e.posterior.precision()
    e.call(kernels.compress, rank)
    assert e.posterior.Q.shape[1] == min(events, rank)
    np.testing.assert_allclose(np.diag(e.posterior.precision()), np.diag(before), rtol=1e-10)


@given(seeds, st.integers(1, 24))
@settings(max_examples=40, deadline=None)
def test_jacobi_finds_the_eigenvectors_of_the_gram_matrix(seed: int, k: int) -> None:
    """Rows become eigenvectors of WᵀW, also when its eigenvalues spread over many decades or coincide."""
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(k, k)) * 10.0 ** rng.integers(-4, 4, (k, 1)) + np.eye(k)
    A, norms = W.T @ W, np.empty(k)
    linalg.jacobi(W, k, norms)
    np.testing.assert_allclose(W @ W.T, np.eye(k), atol=1e-9)
    np.testing.assert_allclose(W.T @ np.diag(norms) @ W, A, atol=1e-9 * np.abs(A).max())
    np.testing.assert_allclose(np.sort(norms)[-1], np.linalg.eigvalsh(A)[-1], rtol=1e-10)


def test_ten_thousand_random_events_keep_the_precision_positive_and_the_factor_true() -> None:
    """H − diag(Λ0) is positive semidefinite for ever, and diag(H) is Λ0 + Σ ω x² to 1e-10."""
    rng, d = np.random.default_rng(3), 40
    e = Entity(d, 12, 8, rng.uniform(0.5, 2.0, d))
    diagonal = e.prior.copy()
    for i in range(10_000):
        (idx, val), weight = sparse(rng, d, 5), rng.exponential()
        e.append(idx, val, weight)
        diagonal[idx] += weight * val**2
        if i % 500 == 499:
            posterior = e.posterior
            assert np.linalg.eigvalsh(posterior.precision() - np.diag(e.prior)).min() > 0
            np.testing.assert_allclose(np.diag(posterior.precision()), diagonal, rtol=1e-10)
            s, v = e.solve(idx, val)
            np.testing.assert_allclose(v, np.linalg.solve(posterior.precision(), dense(d, idx, val)), rtol=1e-9)
            assert s == pytest.approx(val @ v[idx], rel=1e-9)


def test_single_precision_storage_follows_double() -> None:
    """float32 rows, 2,000 logistic events: variances within 1e-4, margins within 1e-3 of float64 storage."""
    single, double = (Entity(50, 50 + 8, 50, np.ones(50), dtype) for dtype in (np.float32, np.float64))
    rng = np.random.default_rng(5)
    margins = []
    for _ in range(2_000):
        (idx, val), label = sparse(rng, 50, 6), float(rng.integers(2))
        margins.append((single.learn(idx, val, label), double.learn(idx, val, label)))
    z32, z64 = np.array(margins).T
    np.testing.assert_allclose(z32, z64, atol=1e-3)
    out32, out64 = np.empty(50), np.empty(50)
    single.call(kernels.variances, out32)
    double.call(kernels.variances, out64)
    np.testing.assert_allclose(out32, out64, rtol=1e-4)


def test_repeated_indices_count_twice() -> None:
    """Hashed features collide: x = 2 e_3 whether given once or as two entries."""
    split, joined = entity(1, 5), entity(1, 5)
    twice, once = (np.array([3, 7, 3]), np.array([0.5, -1.0, 1.5])), (np.array([3, 7]), np.array([2.0, -1.0]))
    s, v = split.solve(*twice)
    assert s == pytest.approx(joined.solve(*once)[0], rel=1e-12)
    np.testing.assert_allclose(v, joined.solve(*once)[1], rtol=1e-12)
    split.append(*twice, 0.7)
    joined.append(*once, 0.7)
    np.testing.assert_allclose(split.row, joined.row, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan])
def test_a_row_without_weight_changes_nothing(weight: float) -> None:
    e = entity(2, 6)
    before = e.row.copy()
    e.append(np.array([1]), np.array([1.0]), weight)
    e.append(np.array([], dtype=np.int64), np.array([]), 1.0)
    np.testing.assert_array_equal(e.row, before)


def test_growth_leaves_predictions_unchanged() -> None:
    """Bit for bit, in a row with room to grow and by `_lowrank.grow`; the new dimension starts at the prior."""
    e = entity(4, 20)
    idx, val = np.array([0, 5, 11]), np.array([1.0, -2.0, 0.5])
    before = e.solve(idx, val)
    longer = _lowrank.grow(e.row, 12, 15, 6, 2.0)
    roomy = np.concatenate([e.row, np.full(21, np.nan)])
    kernels.grow(roomy, 12, 15, 6, np.full(15, 2.0))
    np.testing.assert_array_equal(longer, roomy)
    e.row, e.d, e.scratch = longer, 15, np.full(_lowrank.scratch_size(15, 6), np.nan)
    s, v = e.solve(idx, val)
    assert s == before[0]
    np.testing.assert_array_equal(v, np.concatenate([before[1], np.zeros(3)]))
    assert e.solve(np.array([14]), np.array([3.0]))[0] == 4.5


def test_draws_have_the_posterior_covariance() -> None:
    """Section 13, item 6, after compressions and at float32 storage."""
    e, rng, n = entity(9, 25, dtype=np.float32), np.random.default_rng(10), 40_000
    xi, draws = rng.standard_normal((n, 18)), np.empty((n, 12))
    for i in range(n):
        e.call(kernels.draw, e.mean, xi[i], 2.0, draws[i])
    V = 2.0 * np.linalg.inv(e.posterior.precision())
    sd = np.sqrt((V**2 + np.outer(np.diag(V), np.diag(V))) / n)
    assert np.abs((np.cov(draws.T) - V) / sd).max() < 5


def test_a_rank_as_large_as_the_buffer_is_held_below_it() -> None:
    """A full buffer always frees a column, so that no append can write over h."""
    e = entity(17, 20, kmax=4, rank=4)
    assert e.row[0] == 4
    diagonal = np.diag(e.posterior.precision()).copy()
    e.append(np.array([2]), np.array([3.0]), 1.0)
    diagonal[2] += 9.0
    np.testing.assert_allclose(np.diag(e.posterior.precision()), diagonal, rtol=1e-10)


def diagonal_log_loss(prior: Floats, X: Floats, y: Floats) -> float:
    """Progressive log loss of the diagonal posterior H ← diag(H + D x xᵀ), the alternative at this width."""
    h, mean, total = prior.copy(), np.zeros(prior.size), 0.0
    for x, label in zip(X, y):
        z = float(x @ mean)
        total += np.logaddexp(0.0, z) - label * z
        a, D = newton(z, float(x @ (x / h)), label)
        mean, h = mean + a * x / h, h + D * x**2
    return total / len(y)


def test_low_rank_beats_diagonal_on_correlated_features() -> None:
    """d = 300, 3,000 events, rank 16 of 24: features driven by 12 factors, coefficients from the prior."""
    rng, d, n = np.random.default_rng(20), 300, 3_000
    X = (rng.normal(size=(n, 12)) @ rng.normal(size=(12, d)) * 0.25 + rng.normal(size=(n, d)) * 0.3) / np.sqrt(12)
    truth = rng.normal(size=d) * 0.5
    y = (rng.random(n) < 1 / (1 + np.exp(-X @ truth))).astype(float)
    prior, total, all_slots = np.full(d, 4.0), 0.0, np.arange(d)
    e = Entity(d, 24, 16, prior)
    for x, label in zip(X, y):
        z = e.learn(all_slots, x, label)
        total += np.logaddexp(0.0, z) - label * z
    assert total / n < diagonal_log_loss(prior, X, y) - 0.005
