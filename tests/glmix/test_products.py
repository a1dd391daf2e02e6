"""Batch fits with loadings: each side is solved with what is not known of the other, E[β βᵀ] = μ μᵀ + V."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nearline import Fixed, GLMix, Loadings, Numeric, Prior, Random, Schema
from nearline.evaluate import log_loss
from nearline.glmix import _products
from nearline.glmix._packed import pack, unpack

SCHEMA = Schema(label="y", weight="w", offset="o", columns={c: Numeric(0, 1) for c in ("a", "b")})
NO_FIXED = Fixed(intercept=False)
USERS, ITEMS, ROWS = 6, 4, 80


def table(seed: int = 0, link: str = "identity") -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    y = rng.normal(size=ROWS) if link == "identity" else rng.integers(0, 2, ROWS)
    entities = {"user": np.r_[np.arange(USERS), rng.integers(0, USERS, ROWS - USERS)], "item": np.arange(ROWS) % ITEMS}
    features = {"a": rng.normal(size=ROWS), "b": rng.normal(size=ROWS)}
    return {**entities, **features, "y": y, "w": rng.uniform(0.5, 2.0, ROWS), "o": rng.normal(size=ROWS)}


def model_of(link: str = "identity", posterior: Any = "full", mean: float = 0.0) -> GLMix:
    loadings = Loadings("item", of="user", prior=Prior(0.3, mean))
    user = Random("user", on=["a", "b"], prior=Prior(0.5), posterior=posterior)
    return GLMix(SCHEMA, NO_FIXED, [user, loadings], link=link)


def parts(model: GLMix, data: dict[str, Any]) -> Any:
    """Users and items of the rows, and the features z."""
    codes = (model.encoder.entity_codes(name) for name in ("user", "item"))
    user, item = (np.array([of[k] for k in data[name].tolist()]) for of, name in zip(codes, ("user", "item")))
    return user, item, np.column_stack([np.ones(ROWS), data["a"], data["b"]])


@pytest.mark.parametrize("piece", [1, 100, 1 << 21])
@pytest.mark.parametrize("mean", [0.0, 0.4])
def test_loadings_on_uncertain_coefficients_are_a_regression_with_their_covariance(
    piece: int, mean: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H_m = Λ0 + Σ w (μ μᵀ + V), H_m γ_m = Λ0 μ0 + Σ w [μ (y − o − zᵀμ) − V z]: users locked at N(μ, V)."""
    monkeypatch.setattr(_products, "PIECE", piece)
    data, model = table(), model_of(mean=mean)
    model.design(data, learn=True)
    rng = np.random.default_rng(1)
    mu, root = rng.normal(size=(USERS, 3)), rng.normal(size=(USERS, 3, 3))
    V = 0.2 * root @ root.transpose(0, 2, 1)
    users = model.block("user")
    users.mean[:USERS], users.cov[:USERS] = mu, pack(V)
    model.fit(data, locked=["user"])
    user, item, Z = parts(model, data)
    for m in range(ITEMS):
        rows = np.flatnonzero(item == m)
        x, w = mu[user[rows]], data["w"][rows]
        r = data["y"][rows] - data["o"][rows] - np.einsum("ni,ni->n", Z[rows], x)
        R = np.einsum("n,nij->ij", w, V[user[rows]])
        H = np.eye(3) / 0.3 + R + (w[:, None] * x).T @ x
        gamma = np.linalg.solve(
            H, np.full(3, mean / 0.3) + x.T @ (w * r) - np.einsum("n,nij,nj->i", w, V[user[rows]], Z[rows])
        )
        block = model.block("item*user")
        np.testing.assert_allclose(block.mean[m], gamma, rtol=1e-9)
        np.testing.assert_allclose(unpack(block.cov[m]), np.linalg.inv(H), rtol=1e-9, atol=1e-12)


def free_energy(model: GLMix, data: dict[str, Any]) -> float:
    """E_q[loss] + KL(q ‖ prior) for the identity link, without log(2π) and |W|."""
    user, item, Z = parts(model, data)
    (mu, V), (gamma, C) = (
        (block.mean[:n], unpack(block.cov[:n])) for block, n in zip(model.blocks[1:], (USERS, ITEMS))
    )
    B, G, VB, CG = mu[user], gamma[item], V[user], C[item]
    x = Z + G
    r = data["y"] - data["o"] - np.einsum("ni,ni->n", x, B)
    variance = np.einsum("ni,nij,nj->n", x, VB, x) + np.einsum("ni,nij,nj->n", B, CG, B)
    variance += np.einsum("nij,nji->n", VB, CG)
    total = 0.5 * data["w"] @ (r * r + variance)
    for mean, cov, v0 in ((mu, V, 0.5), (gamma, C, 0.3)):
        total += 0.5 * float((np.square(mean).sum() + np.trace(cov, axis1=1, axis2=2).sum()) / v0)
        total -= 0.5 * float(np.linalg.slogdet(cov)[1].sum()) + 0.5 * mean.size * (1 - np.log(v0))
    return total


@pytest.mark.parametrize("seed", range(4))
def test_the_free_energy_never_increases(seed: int) -> None:
    """Each solve is the exact coordinate step of E_q[loss] + KL(q ‖ prior)."""
    data, found = table(seed), []
    for cycles in range(1, 10):
        model = model_of()
        model.fit(data, cycles=cycles, tolerance=-1.0)
        found.append(free_energy(model, data))
    assert (np.diff(found) <= 1e-9).all()
    assert found[-1] < found[0]


def test_the_log_evidence_is_the_variational_bound() -> None:
    data, model = table(), model_of()
    fitted = model.fit(data, cycles=3000, tolerance=1e-15)
    assert fitted.joint_log_evidence == pytest.approx(-free_energy(model, data), abs=1e-5)


@pytest.mark.parametrize("posterior", ["full", "diagonal", "lowrank"])
@pytest.mark.parametrize("link", ["logit", "identity", "log"])
def test_every_kind_of_posterior_can_be_in_a_product(link: str, posterior: Any) -> None:
    data = table(link=link)
    model = model_of(link, posterior)
    fitted = model.fit(data, cycles=50)
    assert not any(fitted.unsolved.values())
    assert np.isfinite(fitted.joint_log_evidence)
    assert np.isfinite(model.decision_function(data)).all()


def test_noise_is_not_explained_by_both_sides() -> None:
    """Bilinear clicks, few to a pair: held-out log loss after a batch fit is not above that after a pass of events."""
    rng = np.random.default_rng(0)
    users, items, n = 150, 60, 6000
    beta, gamma = rng.normal(size=(users, 3)), 0.4 * rng.normal(size=(items, 3))
    data = {"user": rng.integers(0, users, n), "item": rng.integers(0, items, n), "a": rng.normal(size=n),
            "b": rng.normal(size=n), "w": np.ones(n), "o": np.zeros(n)}  # fmt: skip
    Z = np.column_stack([np.ones(n), data["a"], data["b"]])
    eta = np.einsum("nd,nd->n", Z + gamma[data["item"]], beta[data["user"]])
    data["y"] = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int)
    train, test = ({name: column[part] for name, column in data.items()} for part in (slice(0, 4000), slice(4000, n)))
    batch, events = (GLMix(SCHEMA, NO_FIXED, [Random("user", on=["a", "b"], prior=Prior(1.0)),
                                              Loadings("item", of="user")]) for _ in range(2))  # fmt: skip
    batch.fit(train)
    events.partial_fit(train)
    assert log_loss(test["y"], batch.predict_proba(test)) < log_loss(test["y"], events.predict_proba(test)) + 1e-3
