"""Draws of the posterior: their moments, what they share, their seed (specification, section 5.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.glmix.posterior_parts import NO_FIXED, SCHEMA, correlated, row, table

from nearline import ConfigError, Fixed, Forgetting, GLMix, Loadings, Prior, Random
from nearline.glmix._packed import unpack

DRAWS = 20_000
# Five standard errors of a variance from so many draws.
ERROR = 5 * np.sqrt(2 / DRAWS)


@pytest.mark.parametrize("scale", [1.0, 0.25, 4.0])
def test_thompson_scores_have_the_posterior_variance(scale: float) -> None:
    """Acceptance 6 and defect 1 of section 10: variance s zᵀVz, not zᵀV⁻¹z, with a correlated V."""
    model = correlated()
    user = model.encoder.entity_name("user", 0)
    x = row(user=user, a=1.5, b=-2.0, o=0.75)
    z, V = np.array([1.0, 1.5, -2.0]), unpack(model.blocks[1].cov[0])
    draws = model.sample(x, size=DRAWS, scale=scale, seed=1)[:, 0]
    assert np.var(draws) == pytest.approx(scale * z @ V @ z, rel=ERROR)
    centre = 0.75 + z @ model.blocks[1].mean[0]
    assert np.mean(draws) == pytest.approx(centre, abs=5 * np.sqrt(scale * z @ V @ z / DRAWS))
    # The model's own variance of the score is the same number, and the precision's would be another.
    assert model.progressive(x, variances=True).variance[0] == pytest.approx(z @ V @ z, rel=1e-12)
    assert abs(z @ np.linalg.inv(V) @ z - z @ V @ z) > 1.0


def test_more_data_means_less_noise() -> None:
    """Section 10, defect 1: precision 4 has score variance 1/4."""
    model = GLMix(SCHEMA, NO_FIXED, [Random("user", prior=Prior(1.0))], link="identity")
    for _ in range(3):
        model.partial_fit(row())
    assert np.var(model.sample(row(), size=DRAWS)) == pytest.approx(0.25, rel=ERROR)
    model.partial_fit(row())
    assert np.var(model.sample(row(), size=DRAWS)) == pytest.approx(0.2, rel=ERROR)


@pytest.mark.parametrize("posterior", ["full", "diagonal"])
def test_one_draw_serves_all_rows_of_an_entity(posterior: str) -> None:
    """Section 5.2: one coefficient draw per (entity, request), so rows covary by z₁ᵀVz₂."""
    model = correlated(posterior)
    user = model.encoder.entity_name("user", 0)
    same = {name: [value[0]] * 3 for name, value in row(user=user, a=1.0, b=0.5).items()}
    same["b"] = [0.5, 0.5, -1.0]
    draws = model.sample(same, size=DRAWS, seed=2)
    np.testing.assert_array_equal(draws[:, 0], draws[:, 1])
    V = unpack(model.blocks[1].cov[0]) if posterior == "full" else np.diag(model.blocks[1].cov[0])
    Z = np.array([[1.0, 1.0, 0.5], [1.0, 1.0, -1.0]])
    np.testing.assert_allclose(np.cov(draws[:, [0, 2]].T), Z @ V @ Z.T, atol=0.15)


@pytest.mark.parametrize("posterior", ["full", "diagonal", "lowrank"])
def test_strangers_draw_from_the_prior_each_for_itself(posterior: Any) -> None:
    """Section 5.2: one draw per entity; two never seen are independent, and each shares its own over its rows."""
    pair = Random(("user", "item"), prior=Prior(0.5), posterior=posterior)
    model = GLMix(SCHEMA, NO_FIXED, [Random("user", prior=Prior(2.0), posterior=posterior), pair])
    model.partial_fit(row())
    strangers = {name: [value[0]] * 5 for name, value in row().items()}
    strangers |= {"user": [901, 902, 901, 902, 901], "item": ["new", "new", "new", "new", "newer"]}
    for rows in (1, 8):  # a few rows and many are encoded by different code
        data = {name: list(values) * rows for name, values in strangers.items()}
        draws = model.sample(data, size=DRAWS, seed=6)
        np.testing.assert_array_equal(draws[:, 0], draws[:, 2])
        np.testing.assert_array_equal(draws[:, 1], draws[:, 3])
        np.testing.assert_array_equal(draws[:, :5], draws[:, -5:])
        expected = [[2.5, 0.0, 2.0], [0.0, 2.5, 0.0], [2.0, 0.0, 2.5]]
        np.testing.assert_allclose(np.cov(draws[:, [0, 1, 4]].T), expected, atol=0.15)


def test_draws_add_up_over_effects_and_differ_between_entities() -> None:
    model = GLMix(SCHEMA, Fixed("a"), [Random("user", on=["b"]), Random("item")])
    model.partial_fit(table())
    data = table(seed=1, n=6)
    s = model._score(data, variances=True)[1]
    np.testing.assert_allclose(np.var(model.sample(data, size=DRAWS), axis=0), s, rtol=ERROR)
    strangers = {**data, "user": np.arange(6) + 100, "item": ["new"] * 6}
    s = model._score(strangers, variances=True)[1]
    np.testing.assert_allclose(np.var(model.sample(strangers, size=DRAWS, seed=3), axis=0), s, rtol=ERROR)


@pytest.mark.parametrize("posterior", ["full", "diagonal", "lowrank"])
@pytest.mark.parametrize("form", ["reverting", "stabilised", "per_update"])
def test_draws_are_of_the_posterior_as_it_has_relaxed(form: Any, posterior: Any) -> None:
    delta: dict[str, Any] = {"delta": 0.5} if form == "per_update" else {"half_life": 100.0}
    forgetting = Forgetting(form=form, walk_per_event={"(intercept)": 0.01}, walk_per_day={"a": 5.0}, **delta)
    model = GLMix(SCHEMA, NO_FIXED, [Random("user", on=["a"], forgetting=forgetting, posterior=posterior)])
    model.partial_fit(table())
    data = {**table(seed=1, n=4), "t": np.array([1050.0, 1100.0, 1300.0, 1e6])}
    for k in range(4):
        one = {name: [column[k]] for name, column in data.items()}
        z, s = model._score(one, variances=True)
        draws = model.sample(one, size=DRAWS, seed=4)
        assert np.var(draws) == pytest.approx(s[0], rel=ERROR)
        assert np.mean(draws) == pytest.approx(z[0], abs=5 * np.sqrt(s[0] / DRAWS))


def test_draws_of_loadings_draw_both_sides() -> None:
    """Var(βᵀγ) of independent β and γ is βᵀV_γβ + γᵀV_βγ + tr(V_β V_γ); the linearised s leaves out the last."""
    model = GLMix(SCHEMA, NO_FIXED, [Random("user", on=["a"]), Loadings("item", of="user", prior=Prior(0.3))])
    model.partial_fit(table())
    one = row()
    z, s = model._score(one, variances=True)
    design, _ = model.design(one, learn=False)
    user, item = design.entities["user"][0], design.entities["item"][0]
    V, C = unpack(model.blocks[1].cov[user]), unpack(model.blocks[2].cov[item])
    draws = model.sample(one, size=2 * DRAWS, seed=5)
    assert np.var(draws) == pytest.approx(s[0] + np.trace(V @ C), rel=2 * ERROR)
    assert np.mean(draws) == pytest.approx(z[0], abs=5 * np.sqrt(s[0] / DRAWS))


def test_sample_is_seeded_and_checked() -> None:
    model = correlated()
    data = table(seed=1, n=5)
    np.testing.assert_array_equal(model.sample(data, seed=3), model.sample(data, seed=np.random.default_rng(3)))
    assert (model.sample(data, seed=3) != model.sample(data, seed=4)).all()
    np.testing.assert_allclose(model.sample(data, size=2, scale=0.0), [model.decision_function(data)] * 2, atol=1e-12)
    for wrong in ({"size": 0}, {"scale": -1.0}, {"scale": float("nan")}):
        with pytest.raises(ConfigError, match=r"sample\(size="):
            model.sample(data, **wrong)
