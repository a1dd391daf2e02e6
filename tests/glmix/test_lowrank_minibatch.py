"""The low-rank minibatch against the dense primal solve: specification, sections 2, 9 and 13."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.glmix.lowrank_parts import LINKS, Entity, Floats, dense, entity, learn_rows, random_rows, seeds

from nearline.glmix._kernels import _lowrank_fold as folds
from nearline.glmix._kernels import _lowrank_minibatch as minibatch


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


def test_minibatch_survives_saturated_rows_and_separation() -> None:
    """Section 13, items 11 and 16: |η| > 40 and separable labels have a mode, because P is positive definite."""
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
