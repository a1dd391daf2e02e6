"""Loadings: η gains β_uᵀ γ_m. Exact regression when one side is known, better forecasts when both are learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nearline import Fixed, GLMix, Loadings, Numeric, Prior, Random, Schema, evaluate
from nearline.glmix._packed import pack, unpack
from nearline.glmix._terms import Terms

SCHEMA = Schema(label="y", weight="w", offset="o", columns={c: Numeric(0, 1) for c in ("a", "b")})
NO_FIXED = Fixed(intercept=False)
USERS, ITEMS = 6, 4


def table(seed: int = 0, n: int = 100, link: str = "identity") -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    y = rng.normal(size=n) if link == "identity" else rng.integers(0, 2, n)
    roles = {"y": y, "w": rng.uniform(0.5, 2.0, n), "o": rng.normal(size=n)}
    return {
        "user": np.r_[np.arange(USERS), rng.integers(0, USERS, n - USERS)],
        "item": np.r_[np.arange(USERS) % ITEMS, rng.integers(0, ITEMS, n - USERS)],
        "a": rng.normal(size=n),
        "b": rng.normal(size=n),
        **roles,
    }


def take(data: dict[str, Any], rows: Any) -> dict[str, Any]:
    return {name: np.asarray(column)[rows] for name, column in data.items()}


def model_of(gamma: float = 0.3, link: str = "identity", **options: Any) -> GLMix:
    loadings = Loadings("item", of="user", prior=Prior(gamma))
    return GLMix(SCHEMA, NO_FIXED, [Random("user", on=["a", "b"], prior=Prior(0.5)), loadings], link=link, **options)


def known_users(model: GLMix, data: dict[str, Any], seed: int = 1) -> np.ndarray:
    """Fix every user's coefficients: a given mean and no uncertainty to speak of."""
    model.design(data, learn=True)
    user = model.block("user")
    user.mean[:USERS] = np.random.default_rng(seed).normal(size=(USERS, 3))
    user.cov[:USERS] = pack(1e-14 * np.eye(3))
    return user.mean[:USERS].copy()


@pytest.mark.parametrize("mode", ["event", "minibatch"])
def test_known_coefficients_make_it_a_bayesian_regression_on_them(mode: Any) -> None:
    """γ_m | y = N(·, (Λ0 + Σ w β βᵀ)⁻¹), the regression of y − o − zᵀβ on the users' coefficients β."""
    data = table()
    model = model_of(mode=mode)
    beta = known_users(model, data)
    for start in range(0, 100, 25):
        model.partial_fit(take(data, slice(start, start + 25)))
    users, items = model.encoder.entity_codes("user"), model.encoder.entity_codes("item")
    block = model.block("item*user")
    Z = np.column_stack([np.ones(100), data["a"], data["b"]])
    X = beta[[users[u] for u in data["user"].tolist()]]
    r = data["y"] - data["o"] - np.einsum("nd,nd->n", Z, X)
    for item in range(ITEMS):
        own = data["item"] == item
        P = np.eye(3) / 0.3 + X[own].T @ (data["w"][own, None] * X[own])
        code = items[item]
        np.testing.assert_allclose(block.mean[code], np.linalg.solve(P, X[own].T @ (data["w"] * r)[own]), atol=1e-8)
        np.testing.assert_allclose(unpack(block.cov[code]), np.linalg.inv(P), atol=1e-8)
    np.testing.assert_allclose(model.block("user").mean[:USERS], beta, atol=1e-8)


@pytest.mark.parametrize("mode", ["event", "minibatch"])
def test_known_loadings_are_features_of_the_other_side(mode: Any) -> None:
    """With γ known, β_u is regressed on z + γ: the effect's design is its features and what acts on them."""
    data = table()
    model = model_of(mode=mode)
    model.design(data, learn=True)
    gamma = np.random.default_rng(2).normal(size=(ITEMS, 3))
    block = model.block("item*user")
    block.mean[:ITEMS], block.cov[:ITEMS] = gamma, pack(1e-14 * np.eye(3))
    model.partial_fit(data)
    items, users = model.encoder.entity_codes("item"), model.encoder.entity_codes("user")
    X = np.column_stack([np.ones(100), data["a"], data["b"]]) + gamma[[items[m] for m in data["item"].tolist()]]
    for user in range(USERS):
        own = data["user"] == user
        P = 2.0 * np.eye(3) + X[own].T @ (data["w"][own, None] * X[own])
        mean = np.linalg.solve(P, X[own].T @ (data["w"] * (data["y"] - data["o"]))[own])
        np.testing.assert_allclose(model.block("user").mean[users[user]], mean, atol=1e-8)
        np.testing.assert_allclose(unpack(model.block("user").cov[users[user]]), np.linalg.inv(P), atol=1e-8)


def test_one_event_is_an_extended_kalman_update_of_both_sides() -> None:
    """Linearised at the means: x = (z + γ, β), η = o + zᵀβ + βᵀγ; then as in docs/architecture.md."""
    data = table()
    model = model_of()
    model.partial_fit(take(data, slice(0, 60)))
    row = take(data, [70])
    u = model.encoder.entity_codes("user")[int(row["user"][0])]
    m = model.encoder.entity_codes("item")[int(row["item"][0])]
    user, loadings = model.block("user"), model.block("item*user")
    beta, gamma = user.mean[u].copy(), loadings.mean[m].copy()
    V, C = unpack(user.cov[u]), unpack(loadings.cov[m])
    z = np.array([1.0, row["a"][0], row["b"][0]])
    xb, xg, w = z + gamma, beta, row["w"][0]
    s = xb @ V @ xb + xg @ C @ xg
    residual = row["y"][0] - row["o"][0] - z @ beta - beta @ gamma
    gain = w / (1 + w * s)
    learned = model.partial_fit(row)
    assert learned.margin[0] == pytest.approx(row["y"][0] - residual, rel=1e-12)
    np.testing.assert_allclose(user.mean[u], beta + gain * residual * V @ xb, atol=1e-12)
    np.testing.assert_allclose(loadings.mean[m], gamma + gain * residual * C @ xg, atol=1e-12)
    np.testing.assert_allclose(unpack(user.cov[u]), V - gain * np.outer(V @ xb, V @ xb), atol=1e-12)
    np.testing.assert_allclose(unpack(loadings.cov[m]), C - gain * np.outer(C @ xg, C @ xg), atol=1e-12)


def test_a_batch_fit_is_stationary_in_each_side_given_the_other() -> None:
    """Given its mean and its covariance: E[β βᵀ] = μ μᵀ + V (see `test_products`)."""
    data = table()
    model = model_of()
    fitted = model.fit(data, cycles=3000, tolerance=1e-15)
    items, users = model.encoder.entity_codes("item"), model.encoder.entity_codes("user")
    u, m = [users[k] for k in data["user"].tolist()], [items[k] for k in data["item"].tolist()]
    B, G = model.block("user").mean[:USERS], model.block("item*user").mean[:ITEMS]
    Z = np.column_stack([np.ones(100), data["a"], data["b"]])
    r = data["w"] * (data["o"] + np.einsum("nd,nd->n", Z + G[m], B[u]) - data["y"])
    slope_beta, slope_gamma = 2.0 * B, G / 0.3
    np.add.at(slope_beta, u, r[:, None] * (Z + G[m]))
    np.add.at(slope_gamma, m, r[:, None] * B[u])
    V, C = (unpack(model.block(name).cov) for name in ("user", "item*user"))
    np.add.at(slope_beta, u, data["w"][:, None] * np.einsum("nij,nj->ni", C[m], B[u]))
    np.add.at(slope_gamma, m, data["w"][:, None] * np.einsum("nij,nj->ni", V[u], Z + G[m]))
    assert fitted.converged
    np.testing.assert_allclose(slope_beta, 0.0, atol=1e-4)
    np.testing.assert_allclose(slope_gamma, 0.0, atol=1e-4)


def test_terms_are_current_after_every_step() -> None:
    """Gauss-Seidel: solving a block changes its own share of the scores and that of the loadings on it."""
    data = table()
    model = model_of()
    model.partial_fit(data)
    design, _ = model.design(data, learn=False)
    terms = Terms(model.blocks, model.encoder.n_slots, design)
    np.testing.assert_allclose(terms.margin, model.decision_function(data), atol=1e-12)
    for r, block in enumerate(model.blocks):
        block.mean[: block.entities] += 0.5
        terms.refresh(r)
        np.testing.assert_allclose(terms.margin, model.decision_function(data), atol=1e-12)
        np.testing.assert_allclose(terms.offset(0), model.decision_function(data), atol=1e-12)


def bilinear(n: int, seed: int = 0) -> tuple[dict[str, Any], np.ndarray]:
    """Clicks of 60 users on 40 items, margin zᵀβ + βᵀγ; and the true margin."""
    rng = np.random.default_rng(seed)
    beta, gamma = rng.normal(size=(60, 3)), 0.8 * rng.normal(size=(40, 3))
    user, item = rng.integers(0, 60, n), rng.integers(0, 40, n)
    Z = np.column_stack([np.ones(n), *rng.normal(size=(2, n))])
    eta = np.einsum("nd,nd->n", Z + gamma[item], beta[user])
    y = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float)
    return {"user": user, "item": item, "a": Z[:, 1], "b": Z[:, 2], "y": y, "w": np.ones(n), "o": np.zeros(n)}, eta


@pytest.mark.parametrize("mode", ["event", "minibatch"])
def test_bilinear_data_are_forecast_better(mode: Any) -> None:
    """Progressive log loss against the same model without loadings, and against an item intercept in their place."""
    data, eta = bilinear(8000)
    user, item = Random("user", on=["a", "b"], prior=Prior(1.0)), Random("item", prior=Prior(0.5))
    loss = {}
    for name, random in {
        "users": [user],
        "items": [user, item],
        "loadings": [user, Loadings("item", of="user", prior=Prior(0.64))],
    }.items():
        model = GLMix(SCHEMA, NO_FIXED, random, mode=mode)
        margin = model.progressive(data, every=200).margin[2000:]
        loss[name] = evaluate.log_loss(data["y"][2000:], 1 / (1 + np.exp(-margin)))
    best = evaluate.log_loss(data["y"][2000:], 1 / (1 + np.exp(-eta[2000:])))
    assert loss["loadings"] < loss["items"] - 0.02
    assert loss["loadings"] < loss["users"] - 0.02
    # It goes more than half of the way to the truth.
    assert loss["loadings"] - best < 0.5 * (loss["items"] - best)


def test_several_loadings_on_one_effect_add_up() -> None:
    data = table(link="logit") | {"hour": np.arange(100) % 3}
    both = [Loadings("item", of="user"), Loadings("hour", of="user")]
    model = GLMix(SCHEMA, NO_FIXED, [Random("user", on=["a"]), *both])
    model.partial_fit(data)
    one = take(data, [3])
    codes = {key: model.encoder.entity_codes(key)[int(one[key][0])] for key in ("user", "item", "hour")}
    beta, first, second = (
        model.block(name).mean[codes[name.partition("*")[0]]] for name in ("user", "item*user", "hour*user")
    )
    margin = one["o"][0] + np.array([1.0, one["a"][0]]) @ beta + beta @ (first + second)
    assert model.decision_function(one)[0] == pytest.approx(margin, abs=1e-12)
    assert np.abs(first).max() > 1e-3
    assert np.abs(second).max() > 1e-3


def test_loadings_grow_with_the_effect_they_load_on() -> None:
    model = GLMix(Schema("y"), NO_FIXED, [Random("user", on=["g"]), Loadings("item", of="user")])
    rng = np.random.default_rng(0)
    for levels in (2, 5, 9):
        rows = {"user": rng.integers(0, 5, 30), "item": rng.integers(0, levels, 30), "y": rng.integers(0, 2, 30)}
        model.partial_fit(rows | {"g": [f"g{k}" for k in rng.integers(0, levels, 30)]})
        user, loadings = model.block("user"), model.block("item*user")
        assert loadings.d == user.d
        assert loadings.columns == user.columns
        assert loadings.entities == model.encoder.n_entities("item")
    assert loadings.d == 10
    assert np.isfinite(loadings.mean[: loadings.entities]).all()


def test_an_item_without_rows_loads_nothing() -> None:
    data = table()
    with_loadings = model_of()
    without = GLMix(SCHEMA, NO_FIXED, [Random("user", on=["a", "b"], prior=Prior(0.5))], link="identity")
    with_loadings.partial_fit(data)
    without.design(data, learn=True)
    without.block("user").mean[:USERS] = with_loadings.block("user").mean[:USERS]
    strangers = {**table(1), "item": np.arange(100) + 1000}
    np.testing.assert_allclose(
        with_loadings.decision_function(strangers), without.decision_function(strangers), atol=1e-12
    )
