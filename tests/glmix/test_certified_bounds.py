"""The bounds of a certificate on 10,000 random problems (specification, section 6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from nearline.glmix._block import LocalDesign, update_block
from nearline.glmix._certificate import Path, certify, certify_step, lipschitz, most_step
from nearline.glmix._links import LOGIT
from nearline.glmix._packed import pack, packed_diagonal, unpack
from nearline.glmix._state import stabilised_rows

Floats = NDArray[np.float64]
K, ROWS, BATCHES = 250, 5, 10


@dataclass(frozen=True)
class Problems:
    """K logistic problems of n rows each in d dimensions: X (K, n, d), y, w, offset (K, n)."""

    X: Floats
    y: Floats
    w: Floats
    offset: Floats

    @classmethod
    def drawn(cls, rng: np.random.Generator, k: int, n: int, d: int) -> Problems:
        X = rng.normal(size=(k, n, d)) * rng.choice([0.3, 1.0, 2.0], (k, 1, 1))
        y = (rng.random((k, n)) < 0.5).astype(np.float64)
        return cls(X, y, rng.choice([0.0, 0.5, 1.0, 3.0], (k, n)), rng.normal(size=(k, n)))

    def solved(self, mean: Floats, cov: Floats) -> tuple[Floats, Floats]:
        """Modes and packed covariances of all problems, by the compiled solver."""
        k, n, d = self.X.shape
        theta, V = mean.copy(), cov.copy()
        codes = np.repeat(np.arange(k, dtype=np.int32), n)
        flat = (column.ravel() for column in (self.y, self.w, self.offset))
        result = update_block(codes, LocalDesign.dense(self.X.reshape(-1, d)), *flat, theta, V, link=LOGIT)
        assert result.counts["converged"] == k
        return theta, V

    def loss(self, beta: Floats) -> Floats:
        eta = np.einsum("knd,kd->kn", self.X, beta) + self.offset
        return np.asarray((self.w * LOGIT.loss(self.y, eta)).sum(axis=1))

    def gradient(self, beta: Floats) -> Floats:
        eta = np.einsum("knd,kd->kn", self.X, beta) + self.offset
        return np.einsum("knd,kn->kd", self.X, self.w * LOGIT.gradient(self.y, eta))


def joined(batches: list[Problems], share: Floats) -> Problems:
    """All batches as one, the k-th weighing share[:, k]."""
    weights = [b.w * share[:, [s]] for s, b in enumerate(batches)]
    X, y, offset = (np.concatenate([getattr(b, c) for b in batches], axis=1) for c in ("X", "y", "offset"))
    return Problems(X, y, np.concatenate(weights, axis=1), offset)


def quadratic(beta: Floats, m: Floats, P: Floats) -> Floats:
    return np.asarray(0.5 * np.einsum("kd,kde,ke->k", beta - m, P, beta - m))


@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_the_bounds_hold_in_10000_updates_of_streams(d: int) -> None:
    """2,500 updates of each dimension: improvement, distance, gap and gradient, against exact retraining."""
    rng = np.random.default_rng([13, d])
    prior, delta = rng.choice([0.3, 1.0, 4.0], K), rng.choice([1.0, 0.95, 0.8], K)
    mu0, cov0 = np.zeros((K, d)), packed_diagonal(np.repeat(1.0 / prior[:, None], d, axis=1))
    Lambda0 = prior[:, None, None] * np.eye(d)
    theta, V, paths = mu0, cov0, [Path.start(np.zeros(d)) for _ in range(K)]
    batches: list[Problems] = []
    certified = rises = 0
    for t in range(BATCHES):
        new = Problems.drawn(rng, K, ROWS, d)
        batches.append(new)
        P = delta[:, None, None] * np.linalg.inv(unpack(V)) + (1 - delta)[:, None, None] * Lambda0
        m = _folded(theta, V, delta, prior)
        after, V_after = new.solved(m, pack(np.linalg.inv(P)))
        decrease = new.loss(theta) + quadratic(theta, m, P) - new.loss(after) - quadratic(after, m, P)
        left = new.gradient(after) + np.einsum("kde,ke->kd", P, after - m)
        everything = joined(batches, delta[:, None] ** (t - np.arange(t + 1.0)))
        best, _ = everything.solved(mu0, cov0)
        G = [everything.loss(beta) + quadratic(beta, mu0, Lambda0) for beta in (theta, after, best)]
        slope = np.linalg.norm(everything.gradient(after) + prior[:, None] * after, axis=1)
        for k in range(K):
            sure, paths[k] = certify(
                paths[k], theta[k], after[k], float(decrease[k]), delta=float(delta[k]),
                M=lipschitz(LOGIT, new.X[k], new.w[k]), mu=float(prior[k]), residual=float(np.linalg.norm(left[k])),
            )  # fmt: skip
            rounding = 1e-9 * max(1.0, abs(G[0][k]))
            assert G[0][k] - G[1][k] >= sure.improvement - rounding
            assert G[1][k] - G[2][k] <= sure.gap + rounding
            assert np.linalg.norm(after[k] - best[k]) <= sure.distance + 1e-6
            assert slope[k] <= sure.gradient + 1e-7
            certified += sure.certified
        rises += int(np.sum(G[1] > G[0] + 1e-9))
        theta, V = after, V_after
    # A bound that certified nothing, or that nothing could break, would pass everything above.
    assert certified > K * BATCHES // 8
    assert rises > 0


def _folded(theta: Floats, V: Floats, delta: Floats, prior: Floats) -> Floats:
    """The mean of the stabilised prior, by the model's own fold."""
    out = theta.copy()
    for precision in np.unique(prior):
        for left in np.unique(delta):
            chosen = (prior == precision) & (delta == left)
            base = packed_diagonal(np.full(theta.shape[1], 1.0 / precision))
            column = np.full((chosen.sum(), 1), left)
            folded = stabilised_rows(theta[chosen], V[chosen], np.zeros(theta.shape[1]), base, column)
            out[chosen] = folded[0] if left < 1.0 else theta[chosen]
    return out


@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_the_bounds_hold_in_10000_single_steps(d: int) -> None:
    """One batch after an exact fit: 2,500 problems of each dimension."""
    rng, k = np.random.default_rng([17, d]), 2_500
    old, new, prior = Problems.drawn(rng, k, 30, d), Problems.drawn(rng, k, ROWS, d), rng.choice([0.3, 1.0, 4.0], k)
    mu0, cov0 = np.zeros((k, d)), packed_diagonal(np.repeat(1.0 / prior[:, None], d, axis=1))
    b0, V0 = old.solved(mu0, cov0)
    b1, _ = new.solved(b0, V0)
    both = Problems(*(np.concatenate([getattr(old, c), getattr(new, c)], axis=1) for c in ("X", "y", "w", "offset")))
    best, _ = both.solved(mu0, cov0)
    mu = np.linalg.eigvalsh(np.linalg.inv(unpack(V0)))[:, 0]
    M = np.array([lipschitz(LOGIT, X, w) for X, w in zip(old.X, old.w)])
    r, gradient = np.linalg.norm(b1 - b0, axis=1), new.gradient(b0)
    F = [both.loss(beta) + 0.5 * prior * np.square(beta).sum(axis=1) for beta in (b0, b1)]
    found = [certify_step(*one) for one in zip(r, mu, M, prior)]
    improvement, distance = np.array(found).T
    assert (F[0] - F[1] >= improvement - 1e-9).all()
    assert (np.linalg.norm(b1 - best, axis=1) <= distance + 1e-6).all()
    assert all(r[j] <= most_step(gradient[j], float(mu[j])) + 1e-9 for j in range(k))
    assert (improvement > 0).sum() > k // 4
