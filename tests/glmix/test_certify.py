"""Certified updates of one effect against exact retraining, and 10,000 random problems (specification, section 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nearline import ConfigError, Fixed, Forgetting, GLMix, Loadings, Numeric, Prior, Random, Schema
from nearline.glmix import Certifier
from nearline.glmix._block import LocalDesign, update_block
from nearline.glmix._certificate import Path, certify, certify_step, lipschitz, most_step
from nearline.glmix._certify import FAILED, UNSURE
from nearline.glmix._links import LOGIT
from nearline.glmix._packed import pack, packed_diagonal, unpack
from nearline.glmix._state import stabilised_rows

Floats = NDArray[np.float64]
K, ROWS, BATCHES = 250, 5, 10
SCHEMA = Schema(label="y", weight="w", offset="o", time="t", columns={c: Numeric(0, 1) for c in ("a", "b")})


# -- 10,000 random problems ------------------------------------------------------------------------------------------


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


# -- the certifier ---------------------------------------------------------------------------------------------------


def rows(seed: int, n: int = 40, link: str = "logit", **columns: Any) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n) if link == "logit" else rng.normal(size=n)
    made = {"user": rng.integers(0, 5, n), "y": y, "w": rng.uniform(0.5, 2.0, n), "o": rng.normal(size=n)}
    return {**made, "t": np.full(n, 100.0 * seed), "a": rng.normal(size=n), "b": rng.normal(size=n), **columns}


def model(link: str = "logit", **options: Any) -> GLMix:
    user = Random("user", on=["a"], prior=Prior({"(intercept)": 0.5, "*": 0.25}), posterior="full", **options)
    return GLMix(SCHEMA, Fixed("b"), [user], link=link)


@pytest.mark.parametrize("link", ["logit", "identity"])
@pytest.mark.parametrize("form", ["never", "per_update", "stabilised"])
def test_what_it_says_of_an_entity_is_so(link: str, form: str) -> None:
    """Distance, in prior standard deviations, and improvement, against a refit of the entity on all its rows."""
    options: dict[str, Any] = {
        "never": {},
        "per_update": {"forgetting": Forgetting(form="per_update", delta=0.8)},
        "stabilised": {"forgetting": Forgetting(form="stabilised", half_life=300.0)},
    }[form]
    delta = {"never": 1.0, "per_update": 0.8, "stabilised": 2 ** (-1 / 3)}[form]
    learner = model(link, **options)
    certifier = Certifier(learner, "user", limit=0.5)
    slices = [rows(seed, link=link, user=np.arange(40) % 5) for seed in range(6)]
    for t, part in enumerate(slices):
        found = certifier.partial_fit(part)
        exact = model(link)
        both = {c: np.concatenate([s[c] for s in slices[: t + 1]]) for c in part}
        both["w"] = both["w"] * np.repeat(delta ** np.arange(t, -1.0, -1.0), 40)
        exact.partial_fit(both, mode="minibatch", locked=["fixed"])
        block, twin = learner.block("user"), exact.block("user")
        far = np.linalg.norm(block.mean[found.codes] - twin.mean[found.codes], axis=1) * np.sqrt(2.0)
        assert (far <= found.distance + 1e-5).all()
        assert found.refit.tolist() == (found.distance > 0.5).tolist()
        assert [not reason for reason in found.reasons] == (found.improvement > 0).tolist()
    if link == "identity":
        np.testing.assert_allclose(found.distance, 0.0, atol=1e-6)
        assert found.certified.all()


def test_the_rows_of_the_fit_count_as_a_past_batch() -> None:
    learner = model()
    history = rows(0, n=200)
    learner.fit(history, cycles=50, tolerance=1e-12)
    trusting, knowing = Certifier(learner.fork(), "user"), Certifier(learner, "user", history=history)
    exact, known = trusting.partial_fit(rows(1)), knowing.partial_fit(rows(1))
    assert (exact.distance < 1e-3).all()
    assert (known.distance > exact.distance).all()


def test_what_is_learned_otherwise_is_taken_for_exact() -> None:
    learner = model()
    certifier = Certifier(learner, "user")
    certifier.partial_fit(rows(0))
    assert (certifier.partial_fit(rows(1)).distance > 1e-3).all()
    learner.partial_fit(rows(2))
    assert (certifier.partial_fit(rows(3)).distance < 1e-3).all()


def test_every_update_that_is_not_certified_has_a_reason() -> None:
    """500 updates with wild features: some cannot be certified, and each says why; they are learned all the same."""
    learner = model()
    certifier, reasons = Certifier(learner, "user"), []
    for seed in range(100):
        part = rows(seed, user=np.arange(40) % 5)
        part["a"] = part["a"] * 4.0
        found = certifier.partial_fit(part)
        reasons += list(found.reasons)
        assert (found.certified == (found.improvement > 0)).all()
    assert len(reasons) == 500
    assert set(reasons) == {"", UNSURE}
    assert learner.events_learned == 4_000


def test_an_entity_whose_solve_fails_says_so_and_the_others_are_certified() -> None:
    learner = model("identity")
    certifier = Certifier(learner, "user")
    certifier.partial_fit(rows(0, link="identity", user=np.arange(40) % 2))
    bad = rows(1, link="identity", user=np.arange(40) % 2)
    bad["a"] = np.where(np.asarray(bad["user"]) == 1, 1e200, bad["a"])
    at, before = learner.encoder.entity_codes("user")[1], learner.block("user").mean.tobytes()
    with np.errstate(over="ignore", invalid="ignore"):
        found = certifier.partial_fit(bad)
    by_code = dict(zip(found.codes.tolist(), found.reasons))
    assert by_code.pop(at) == FAILED
    assert list(by_code.values()) == [""]
    assert learner.block("user").mean[at].tobytes() == np.frombuffer(before).reshape(-1, 2)[at].tobytes()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GLMix(SCHEMA, random=[Random("user")], link="log"), "log link has no bounded third derivative"),
        (lambda: GLMix(SCHEMA, random=[Random("user", posterior="diagonal")]), "the precision is not full"),
        (lambda: GLMix(SCHEMA, random=[Random("user", forgetting=Forgetting(5.0))]), "not multiplicative"),
        (
            lambda: GLMix(SCHEMA, random=[Random("user", forgetting=Forgetting(walk_per_day=0.1))]),
            "not multiplicative",
        ),
        (
            lambda: GLMix(SCHEMA, random=[Random("user"), Random("item", forgetting=Forgetting(5.0))]),
            "'item' forgets, and with it moves the offsets",
        ),
        (lambda: GLMix(SCHEMA, random=[Random("user"), Loadings("item", of="user")]), "part of a product"),
    ],
)
def test_no_certificate_where_none_holds(make: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Certifier(make(), "user")


def test_a_limit_is_positive() -> None:
    with pytest.raises(ConfigError, match="limit"):
        Certifier(model(), "user", limit=0.0)
