"""The compiled low-rank kernels against their NumPy twin and dense answers (specification, sections 2, 4 and 8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nearline.glmix import _lowrank
from nearline.glmix._kernels import _lowrank as kernels
from nearline.glmix._kernels import _lowrank_fold as folds
from nearline.glmix._kernels import _lowrank_linalg as linalg
from nearline.glmix._kernels import _lowrank_minibatch as minibatch
from nearline.glmix._lowrank import LowRank

Floats = NDArray[np.float64]
LINKS = {"logit": 0, "identity": 1, "log": 2}
seeds = st.integers(0, 2**32 - 1)


@dataclass
class Entity:
    """One entity driven through the kernels, as the event loop drives it."""

    d: int
    kmax: int
    rank: int
    prior: Floats
    dtype: Any = np.float64
    mean: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.row = np.zeros(_lowrank.row_size(self.d, self.kmax), self.dtype)
        # Scratch may hold anything: NaN would show a read before a write.
        self.scratch = np.full(_lowrank.scratch_size(self.d, self.kmax), np.nan)
        self.mean = np.zeros(self.d)
        kernels.start(self.row, self.d, self.kmax, self.prior)

    def call(self, kernel: Callable[..., Any], *arguments: Any) -> Any:
        return kernel(self.row, self.d, self.kmax, *arguments, self.scratch)

    def append(self, idx: NDArray[np.int64], val: Floats, weight: float) -> None:
        self.call(kernels.append, self.rank, idx, val, len(idx), weight)

    def solve(self, idx: NDArray[np.int64], val: Floats) -> tuple[float, Floats]:
        v = np.full(self.d, np.nan)
        return self.call(kernels.solve_sparse, idx, val, len(idx), v), v

    def learn(self, idx: NDArray[np.int64], val: Floats, label: float) -> float:
        """One logistic event: Newton on the line μ + a S x; returns the margin as predicted."""
        s = self.call(kernels.project, idx, val, len(idx))
        z = float(val @ self.mean[idx])
        a, D = newton(z, s, label)
        self.call(kernels.shift, idx, val, len(idx), a, self.mean)
        self.append(idx, val, kernels.block_weight(D, s, s))
        return z

    @property
    def posterior(self) -> LowRank:
        return _lowrank.unpack(self.row, self.d, self.kmax)


def newton(z: float, s: float, label: float) -> tuple[float, float]:
    """(a, D) of η = z − s g(η) for the logistic loss."""
    eta = z
    for _ in range(60):
        p = 1 / (1 + np.exp(-eta))
        eta -= (eta - z + s * (p - label)) / (1 + s * p * (1 - p))
    p = 1 / (1 + np.exp(-eta))
    return label - p, p * (1 - p)


def sparse(rng: np.random.Generator, d: int, nnz: int) -> tuple[NDArray[np.int64], Floats]:
    return rng.choice(d, nnz, replace=False), rng.normal(size=nnz)


def dense(d: int, idx: NDArray[np.int64], val: Floats) -> Floats:
    x = np.zeros(d)
    np.add.at(x, idx, val)
    return x


def entity(seed: int, events: int, d: int = 12, kmax: int = 6, rank: int = 3, dtype: Any = np.float64) -> Entity:
    rng = np.random.default_rng(seed)
    e = Entity(d, kmax, rank, rng.uniform(0.5, 4.0, d), dtype)
    for _ in range(events):
        e.append(*sparse(rng, d, 4), rng.uniform(0.05, 2.0))
    return e


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


def test_draws_have_the_posterior_covariance() -> None:
    """Section 13, item 6, after compressions and at float32 storage."""
    e, rng, n = entity(9, 25, dtype=np.float32), np.random.default_rng(10), 40_000
    xi, draws = rng.standard_normal((n, 18)), np.empty((n, 12))
    for i in range(n):
        e.call(kernels.draw, e.mean, xi[i], 2.0, draws[i])
    V = 2.0 * np.linalg.inv(e.posterior.precision())
    sd = np.sqrt((V**2 + np.outer(np.diag(V), np.diag(V))) / n)
    assert np.abs((np.cov(draws.T) - V) / sd).max() < 5


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


def random_rows(rng: np.random.Generator, n: int, d: int, link: str) -> tuple[Any, ...]:
    nnz = rng.integers(0, 6, n)
    indptr = np.concatenate([[0], np.cumsum(nnz)])
    idx = np.concatenate([np.zeros(0, np.int64), *(rng.choice(d, m, replace=False) for m in nnz)])
    labels = {"logit": rng.integers(0, 2, n), "identity": rng.normal(size=n), "log": rng.poisson(1.5, n)}
    weight = rng.uniform(0.2, 3.0, n) * (rng.random(n) > 0.1)
    return indptr, idx, rng.normal(size=idx.size), labels[link].astype(float), weight, rng.normal(size=n)


def row_losses(link: str, y: Floats, eta: Floats) -> tuple[Floats, Floats, Floats]:
    """(ℓ, g, D) of section 1's table."""
    if link == "logit":
        p = 1 / (1 + np.exp(-eta))
        return np.logaddexp(0, eta) - y * eta, p - y, p * (1 - p)
    if link == "identity":
        return 0.5 * (eta - y) ** 2, eta - y, np.ones_like(eta)
    return np.exp(eta) - y * eta, np.exp(eta) - y, np.exp(eta)


def dense_mode(link: str, X: Floats, rows: tuple[Any, ...], m: Floats, P: Floats) -> tuple[Floats, Floats, float]:
    """Section 2's kernel in primal form by damped Newton: (θ, H, log evidence)."""
    y, w, o = rows[3:]

    def f(b: Floats) -> float:
        return float(w @ row_losses(link, y, o + X @ b)[0] + 0.5 * (b - m) @ P @ (b - m))

    def hessian(b: Floats) -> Floats:
        return np.asarray(P + (X.T * (w * row_losses(link, y, o + X @ b)[2])) @ X)

    theta = m.copy()
    for _ in range(100):
        gradient = X.T @ (w * row_losses(link, y, o + X @ theta)[1]) + P @ (theta - m)
        step, t = np.linalg.solve(hessian(theta), gradient), 1.0
        while f(theta - t * step) > f(theta) and t > 1e-3:
            t /= 2
        theta = theta - t * step
    H = hessian(theta)
    return theta, H, -f(theta) + 0.5 * float(np.linalg.slogdet(P)[1] - np.linalg.slogdet(H)[1])


def learn_rows(e: Entity, link: str, rows: tuple[Any, ...]) -> tuple[int, int, float]:
    indptr, idx, val, y, w, o = rows
    scratch = np.full(_lowrank.scratch_size(e.d, e.kmax, len(y)), np.nan)
    result: tuple[int, int, float] = minibatch.solve_minibatch(
        LINKS[link], e.row, e.d, e.kmax, e.rank, e.mean, indptr, idx, val, y, w, o, scratch
    )
    return result


def as_dense(rows: tuple[Any, ...], d: int) -> Floats:
    indptr, idx, val = rows[:3]
    return np.array([dense(d, idx[a:b], val[a:b]) for a, b in pairwise(indptr)]).reshape(-1, d)


@pytest.mark.parametrize("link", LINKS)
@given(seed=seeds, n=st.integers(0, 25))
@settings(max_examples=15, deadline=None)
def test_minibatch_equals_the_dense_primal_solve(link: str, seed: int, n: int) -> None:
    """Section 13, item 11: mode, precision and evidence of dual and primal agree to 1e-8, n from 0 to 2d."""
    rng = np.random.default_rng(seed)
    e = entity(seed, 6, kmax=40, rank=39)
    e.mean = rng.normal(size=12) * 0.5
    rows, m, P = random_rows(rng, n, 12, link), e.mean.copy(), e.posterior.precision()
    theta, H, evidence = dense_mode(link, as_dense(rows, 12), rows, m, P)
    status, _, reported = learn_rows(e, link, rows)
    assert status == minibatch.CONVERGED
    np.testing.assert_allclose(e.mean, theta, atol=1e-8)
    np.testing.assert_allclose(e.posterior.precision(), H, atol=1e-7)
    assert reported == pytest.approx(evidence, abs=1e-5)


FIXTURE_F = [  # section 9: link, labels, weights, δ, θ, upper triangle of H
    ("logit", (0, 1), (1, 1), 1.0, (0.44269839, 0.72487986, -1.16484348),
     (1.11016632, 0.02385809, 0.26804883, 1.01192905, 0.07157428, 1.67924622)),
    ("logit", (0, 1), (1, 1), 0.8, (0.35098661, 0.56318975, -0.97164728),
     (1.13005573, 0.03410026, 0.32831198, 1.01705013, 0.10230079, 1.86122555)),
    ("logit", (0, 1), (2, 3), 1.0, (0.64026977, 0.64103661, -0.93738722),
     (1.37497799, 0.09709037, 0.94413672, 1.04854518, 0.2912711, 3.47081565)),
    ("identity", (3.5, -1), (1, 1), 1.0, (0.44019139, 1.49043062, 0.36124402), (2.25, 0.5, 3.5, 1.25, 1.5, 11)),
    ("log", (2, 0), (1, 1), 1.0, (0.26620555, 1.33754922, -0.29249046),
     (2.40434801, 0.41245078, 3.63359758, 1.20622539, 1.23735235, 10.74189985)),
]  # fmt: skip


@pytest.mark.parametrize(("link", "labels", "weights", "delta", "theta", "upper"), FIXTURE_F)
def test_fixture_f(link: str, labels: Any, weights: Any, delta: float, theta: Any, upper: Any) -> None:
    """Section 9: X = [[1, .5, 3], [.5, 0, 1]], offsets (−.25, 1), θ0 = (.25, .75, −1.5), H0 = Λ0 = I."""
    e = Entity(3, 4, 2, np.ones(3))
    e.mean = np.array([0.25, 0.75, -1.5])
    e.call(folds.forget, delta, e.prior, e.mean, np.zeros(3))
    indptr, idx, val = np.array([0, 3, 5]), np.array([0, 1, 2, 0, 2]), np.array([1, 0.5, 3, 0.5, 1])
    y, w = np.array(labels, dtype=float), np.array(weights, dtype=float)
    assert learn_rows(e, link, (indptr, idx, val, y, w, np.array([-0.25, 1.0])))[0] == minibatch.CONVERGED
    np.testing.assert_allclose(e.mean, theta, atol=1e-8)
    np.testing.assert_allclose(e.posterior.precision()[np.triu_indices(3)], upper, atol=1e-8)


def test_a_rank_as_large_as_the_buffer_is_held_below_it() -> None:
    """A full buffer always frees a column, so that no append can write over h."""
    e = entity(17, 20, kmax=4, rank=4)
    assert e.row[0] == 4
    diagonal = np.diag(e.posterior.precision()).copy()
    e.append(np.array([2]), np.array([3.0]), 1.0)
    diagonal[2] += 9.0
    np.testing.assert_allclose(np.diag(e.posterior.precision()), diagonal, rtol=1e-10)


def test_minibatch_survives_saturated_rows_and_separation() -> None:
    """Section 13, items 11 and 16: |η| > 40 and separable labels have a mode, because P is positive definite."""
    e = Entity(12, 8, 4, np.full(12, 1e-2))
    idx, indptr = np.tile(np.arange(12), 6), np.arange(0, 73, 12)
    val, y, w = np.repeat([1.0, -1.0, 1.0, -1.0, 1.0, -1.0], 12), np.tile([1.0, 0.0], 3), np.full(6, 50.0)
    for offset in (np.zeros(6), np.array([80.0, -80.0, -80.0, 80.0, 300.0, -300.0])):
        e = Entity(12, 8, 4, np.full(12, 1e-2))
        status, steps, evidence = learn_rows(e, "logit", (indptr, idx, val, y, w, offset))
        assert status == minibatch.CONVERGED
        assert steps < 30
        assert np.isfinite(evidence)
        assert np.isfinite(e.row).all()
        X = as_dense((indptr, idx, val), 12)
        eta = offset + X @ e.mean
        gradient = X.T @ (w * (1 / (1 + np.exp(-eta)) - y)) + 1e-2 * e.mean
        assert np.abs(gradient).max() < 1e-6


def test_a_failed_minibatch_leaves_the_state_alone() -> None:
    e, rng = entity(11, 8), np.random.default_rng(12)
    rows = list(random_rows(rng, 9, 12, "logit"))
    rows[5] = np.full(9, np.nan)
    before, mean = e.row.copy(), e.mean.copy()
    status, _, evidence = learn_rows(e, "logit", tuple(rows))
    assert status == minibatch.FAILED
    assert np.isnan(evidence)
    np.testing.assert_array_equal(e.row, before)
    np.testing.assert_array_equal(e.mean, mean)


def test_weight_k_equals_k_copies_in_a_minibatch() -> None:
    """Section 13, item 7: mean and precision, to 1e-11."""
    indptr, idx, val, y, _, o = random_rows(np.random.default_rng(13), 8, 12, "logit")
    weighted, copied = entity(14, 5, kmax=40, rank=39), entity(14, 5, kmax=40, rank=39)
    learn_rows(weighted, "logit", (indptr, idx, val, y, np.full(8, 2.0), o))
    twice = np.concatenate([indptr, indptr[1:] + indptr[-1]])
    rows = (twice, np.tile(idx, 2), np.tile(val, 2), np.tile(y, 2), np.ones(16), np.tile(o, 2))
    learn_rows(copied, "logit", rows)
    np.testing.assert_allclose(weighted.mean, copied.mean, atol=1e-11)
    np.testing.assert_allclose(weighted.posterior.precision(), copied.posterior.precision(), atol=1e-11)


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
