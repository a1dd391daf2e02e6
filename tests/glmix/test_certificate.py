"""The run-time certificate against exact retraining (specification, section 6; acceptance test 10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from nearline import ConfigError
from nearline.glmix import _certificate as certificate
from nearline.glmix._certificate import Path
from nearline.glmix._codes import DIAGONAL, FULL, LOWRANK, NEVER, PER_UPDATE, REVERTING, STABILISED
from nearline.glmix._fold import stabilised
from nearline.glmix._links import LOG, LOGIT, Link, by_name
from nearline.glmix._solve import solve

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Batch:
    X: Floats
    y: Floats
    w: Floats
    offset: Floats


def batch(rng: np.random.Generator, link: Link, d: int) -> Batch:
    n = int(rng.integers(1, 9))
    X = rng.normal(size=(n, d)) * rng.choice([0.3, 1.0, 2.0])
    y = (rng.random(n) < 0.5).astype(float) if link is LOGIT else rng.normal(size=n)
    return Batch(X, y, rng.choice([0.5, 1.0, 3.0], n), rng.normal(size=n))


def objective(link: Link, batches: Sequence[Batch], share: Sequence[float], beta: Floats, prior: float) -> float:
    past = sum(s * float(b.w @ link.loss(b.y, b.X @ beta + b.offset)) for s, b in zip(share, batches))
    return past + 0.5 * prior * float(beta @ beta)


def gradient(link: Link, batches: Sequence[Batch], share: Sequence[float], beta: Floats, prior: float) -> Floats:
    past = [s * b.X.T @ (b.w * link.gradient(b.y, b.X @ beta + b.offset)) for s, b in zip(share, batches)]
    return np.sum(past, axis=0) + prior * beta


def retrained(link: Link, batches: Sequence[Batch], share: Sequence[float], d: int, prior: float) -> Floats:
    weights = [s * b.w for s, b in zip(share, batches)]
    columns = [np.concatenate([getattr(b, name) for b in batches]) for name in ("X", "y")]
    offset = np.concatenate([b.offset for b in batches])
    return solve(*columns, np.concatenate(weights), offset, np.zeros(d), prior * np.eye(d), link).theta


@pytest.mark.parametrize("name", ["logit", "identity"])
def test_the_bounds_hold_in_2000_streaming_updates(name: str) -> None:
    link, updates, certified, rises = by_name(name), 0, 0, 0
    for seed in range(125 if name == "logit" else 20):
        rng = np.random.default_rng([7, seed])
        d, prior, delta = (
            int(rng.integers(1, 6)),
            float(rng.choice([0.3, 1.0, 4.0])),
            float(rng.choice([1.0, 0.95, 0.8])),
        )
        theta, H, path = np.zeros(d), prior * np.eye(d), Path.start(np.zeros(d))
        batches: list[Batch] = []
        for t in range(16):
            new = batch(rng, link, d)
            batches.append(new)
            m, P = stabilised(theta, H, np.zeros(d), prior * np.eye(d), delta)
            fit = solve(new.X, new.y, new.w, new.offset, m, P, link)

            def f(beta: Floats, new: Batch = new, m: Floats = m, P: Floats = P) -> float:
                return float(new.w @ link.loss(new.y, new.X @ beta + new.offset)) + 0.5 * float(
                    (beta - m) @ P @ (beta - m)
                )

            residual = new.X.T @ (new.w * link.gradient(new.y, new.X @ fit.theta + new.offset)) + P @ (fit.theta - m)
            sure, path = certificate.certify(
                path, theta, fit.theta, f(theta) - f(fit.theta), delta=delta,
                M=certificate.lipschitz(link, new.X, new.w), mu=prior, residual=float(np.linalg.norm(residual)),
            )  # fmt: skip
            share = [delta ** (t - s) for s in range(t + 1)]
            best = retrained(link, batches, share, d, prior)
            G = [objective(link, batches, share, beta, prior) for beta in (theta, fit.theta, best)]
            rounding = 1e-9 * max(1.0, abs(G[0]))
            assert G[0] - G[1] >= sure.improvement - rounding
            assert G[1] - G[2] <= sure.gap + rounding
            assert np.linalg.norm(fit.theta - best) <= sure.distance + 1e-6
            assert np.linalg.norm(gradient(link, batches, share, fit.theta, prior)) <= sure.gradient + 1e-7
            updates, certified, rises = updates + 1, certified + sure.certified, rises + (G[1] > G[0] + rounding)
            theta, H = fit.theta, fit.H
    assert updates >= (2000 if name == "logit" else 320)
    # A certificate that never certifies would pass everything above.
    assert certified > updates // 8
    if name == "logit":
        assert rises > 0, "some updates do raise G: the bound has something to be right about"


def test_one_step_after_an_exact_fit() -> None:
    certified = 0
    for seed in range(400):
        rng = np.random.default_rng([11, seed])
        d, prior = int(rng.integers(1, 5)), 1.0
        old, new = [batch(rng, LOGIT, d) for _ in range(8)], batch(rng, LOGIT, d)
        ones = [1.0] * len(old)
        b0 = retrained(LOGIT, old, ones, d, prior)
        X, w = np.concatenate([b.X for b in old]), np.concatenate([b.w for b in old])
        D = LOGIT.curvature(np.zeros(len(w)), X @ b0 + np.concatenate([b.offset for b in old]))
        A = prior * np.eye(d) + X.T @ ((w * D)[:, None] * X)
        mu, M = float(np.linalg.eigvalsh(A)[0]), certificate.lipschitz(LOGIT, X, w)
        b1 = solve(new.X, new.y, new.w, new.offset, b0, A, LOGIT).theta
        r = float(np.linalg.norm(b1 - b0))
        slope = new.X.T @ (new.w * LOGIT.gradient(new.y, new.X @ b0 + new.offset))
        assert r <= certificate.most_step(slope, mu) + 1e-9
        improvement, distance = certificate.certify_step(r, mu, M, prior)
        best = retrained(LOGIT, [*old, new], [*ones, 1.0], d, prior)
        F = [objective(LOGIT, [*old, new], [*ones, 1.0], beta, prior) for beta in (b0, b1)]
        assert F[0] - F[1] >= improvement - 1e-9
        assert np.linalg.norm(b1 - best) <= distance + 1e-6
        certified += improvement > 0
    assert certified > 200


def test_sums_about_the_latest_mode_equal_the_definition() -> None:
    rng = np.random.default_rng(0)
    modes, M, delta, path = 1e3 + rng.normal(size=(30, 3)) * 1e-3, rng.random(30), 0.9, Path.start(np.full(3, 1e3))
    for theta, m in zip(modes, M):
        path = path.discounted(delta).joined(theta, m)
    beta, share = 1e3 + rng.normal(size=3) * 1e-3, delta ** np.arange(29, -1, -1.0)
    np.testing.assert_allclose(path.q(beta), np.sum(share * M * np.sum((beta - modes) ** 2, axis=1)), rtol=1e-9)


def test_no_certificate_where_none_holds() -> None:
    assert certificate.unavailable(LOGIT, FULL, NEVER) == ""
    assert certificate.unavailable(by_name("identity"), FULL, STABILISED) == ""
    assert certificate.unavailable(LOGIT, FULL, PER_UPDATE) == ""
    assert "log link" in certificate.unavailable(LOG, FULL, NEVER)
    for kind in (DIAGONAL, LOWRANK):
        assert "not full" in certificate.unavailable(LOGIT, kind, NEVER)
    assert "several blocks" in certificate.unavailable(LOGIT, FULL, NEVER, blocks=2)
    assert "multiplicative" in certificate.unavailable(LOGIT, FULL, REVERTING)
    assert "multiplicative" in certificate.unavailable(LOGIT, FULL, NEVER, walks=True)
    with pytest.raises(ConfigError, match="no certificate"):
        certificate.lipschitz(LOG, np.ones((1, 1)), np.ones(1))
