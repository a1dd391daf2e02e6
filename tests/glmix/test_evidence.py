"""Marginal likelihood of several effects, and the accelerated expectation maximisation that climbs it (section 5.4)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nearline import Fixed, GLMix, Numeric, Prior, Random, Schema
from nearline.glmix import _evidence

SCHEMA = Schema(label="y", weight="w", offset="o", columns={c: Numeric(0, 1) for c in ("a", "b")})
NO_FIXED = Fixed(intercept=False)


def apart(n: int = 60) -> dict[str, Any]:
    """Rows on which either users' coefficient acts or items': no curvature between the two effects."""
    rng = np.random.default_rng(0)
    side, x = np.arange(n) % 2, rng.normal(size=n)
    roles = {"y": rng.normal(size=n), "w": rng.uniform(0.5, 2.0, n), "o": rng.normal(size=n)}
    entities = {"user": rng.integers(0, 4, n), "item": rng.integers(0, 5, n)}
    return {**entities, "a": x * side, "b": x * (1 - side), **roles}


@pytest.mark.parametrize("posterior", ["full", "diagonal", "lowrank"])
def test_the_loss_counts_once_however_many_effects_there_are(posterior: Any) -> None:
    """Exact for the identity link where effects share no row: log N(y; o, W⁻¹ + X V0 Xᵀ), without log(2π) and |W|."""
    data = apart()
    effects = [
        Random("user", on=["a"], intercept=False, prior=Prior(0.7), posterior=posterior),
        Random("item", on=["b"], intercept=False, prior=Prior(0.3), posterior=posterior),
    ]
    model = GLMix(SCHEMA, NO_FIXED, effects, link="identity")
    fitted = model.fit(data)
    user, item = (data[name][:, None] == np.arange(5) for name in ("user", "item"))
    X = np.column_stack([user * data["a"][:, None] * np.sqrt(0.7), item * data["b"][:, None] * np.sqrt(0.3)])
    C, r = np.diag(1 / data["w"]) + X @ X.T, data["y"] - data["o"]
    expected = -0.5 * r @ np.linalg.solve(C, r) - 0.5 * (np.linalg.slogdet(C)[1] + np.log(data["w"]).sum())
    assert fitted.joint_log_evidence == pytest.approx(expected, rel=1e-9)
    # Each effect's own, the other given, has the whole loss: their sum counts it twice.
    assert sum(fitted.log_evidence.values()) < fitted.joint_log_evidence - 10


def test_with_one_effect_it_is_that_effects_own() -> None:
    model = GLMix(SCHEMA, NO_FIXED, [Random("user", on=["a"])])
    fitted = model.fit({**apart(), "y": np.arange(60) % 3 // 2})
    assert fitted.joint_log_evidence == pytest.approx(fitted.log_evidence["user"], rel=1e-9)


@pytest.mark.parametrize("structure", ["scalar", "diagonal", "full"])
def test_what_is_reported_is_the_evidence_per_row_before_and_after(structure: Any) -> None:
    data = apart()
    effects = [Random("user", on=["a", "b"], prior=Prior(1.0)), Random("item", prior=Prior(1.0))]
    model = GLMix(SCHEMA, Fixed(), effects, link="identity")
    before = model.fit(data, cycles=200, tolerance=0.0).joint_log_evidence / 60
    found = model.learn_priors(data, method="evidence", structure=structure)
    after = model.fit(data, cycles=200, tolerance=0.0).joint_log_evidence / 60
    assert found.before == pytest.approx(before, abs=2e-3)
    assert found.after == pytest.approx(after, abs=2e-3)
    assert found.after > found.before


def sparse(users: int = 400, each: int = 4) -> dict[str, Any]:
    """A few clicks a user, of very unequal variances: expectation maximisation crawls."""
    rng = np.random.default_rng(1)
    beta = rng.normal(size=(users, 3)) * np.sqrt([0.02, 1.5, 0.1])
    who = np.tile(np.arange(users), each)
    a, b = rng.normal(size=(2, len(who)))
    y = rng.random(len(who)) < 1 / (1 + np.exp(-(beta[who, 0] + beta[who, 1] * a + beta[who, 2] * b)))
    return {"user": who, "a": a, "b": b, "y": y.astype(int), "w": np.ones(len(who)), "o": np.zeros(len(who))}


@pytest.mark.parametrize("structure", ["diagonal", "full"])
def test_thirty_fits_climb_higher_than_a_hundred_plain_steps(structure: Any) -> None:
    data = sparse()
    plain, model = (GLMix(SCHEMA, NO_FIXED, [Random("user", on=["a", "b"], prior=Prior(1.0))]) for _ in range(2))
    design = plain.design(data, learn=True)[0]
    heights, (block,) = [], plain.blocks[1:]
    for _ in range(100):
        heights.append(plain.fit(design).joint_log_evidence / design.rows)
        block.belief = _evidence._step(block, np.arange(block.entities), structure)
    found = model.learn_priors(data, method="evidence", structure=structure, rounds=3)
    assert found.evaluations <= 30
    assert found.before == pytest.approx(heights[0], rel=1e-9)
    assert found.after > heights[29]
    assert found.after >= heights[99] - 1e-5


def test_no_fit_is_wasted_on_priors_that_cannot_move() -> None:
    model = GLMix(SCHEMA, Fixed("a"))
    found = model.learn_priors({**apart(), "y": np.arange(60) % 2}, method="evidence")
    assert (found.evaluations, found.before) == (1, found.after)
