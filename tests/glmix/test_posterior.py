"""Uses of the posterior: draws, intervals, averaged probabilities, coefficients and explanations (section 5.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from nearline import ConfigError, DataError, Fixed, Forgetting, GLMix, Loadings, Numeric, Prior, Random, Schema
from nearline.glmix._packed import pack, unpack

NUMBERS = {c: Numeric(0, 1) for c in ("a", "b")}
SCHEMA = Schema(label="y", time="t", offset="o", columns=NUMBERS)
NO_FIXED = Fixed(intercept=False)


def sigmoid(eta: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-eta))


def table(seed: int = 0, n: int = 80) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "user": rng.integers(0, 4, n),
        "item": [f"i{i}" for i in rng.integers(0, 5, n)],
        "a": rng.normal(size=n),
        "b": rng.normal(size=n),
        "g": [f"g{i}" for i in rng.integers(0, 3, n)],
        "y": rng.integers(0, 2, n),
        "t": np.sort(rng.uniform(0, 1000.0, n)),
        "o": rng.normal(size=n),
    }


def row(**values: Any) -> dict[str, Any]:
    return {name: [value] for name, value in ({name: column[0] for name, column in table().items()} | values).items()}


def correlated(posterior: Any = "full") -> GLMix:
    """One block with a posterior that is set by hand: V correlated, or its diagonal."""
    user = Random("user", on=["a", "b"], posterior=posterior)
    model = GLMix(SCHEMA, NO_FIXED, [user])
    model.partial_fit(table())
    V = np.array([[1.0, 0.7, -0.3], [0.7, 2.0, 0.4], [-0.3, 0.4, 0.5]])
    model.blocks[1].mean[0] = [0.5, -1.0, 2.0]
    model.blocks[1].cov[0] = pack(V) if posterior == "full" else np.diag(V)
    return model


# -- draws -----------------------------------------------------------------------------------------------------------

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


# -- intervals and probabilities ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulated() -> tuple[GLMix, dict[str, Any], np.ndarray]:
    """400 users with coefficients drawn from the prior, 40 labels each; and new rows with their true margin."""
    rng = np.random.default_rng(0)
    users, each, sd = 400, 40, np.sqrt([1.0, 0.5, 0.5])
    beta = rng.normal(size=(users, 3)) * sd
    user = Random("user", on=["a", "b"], prior=Prior({"(intercept)": 1.0, "*": 0.5}))
    model = GLMix(Schema("y", columns=NUMBERS), NO_FIXED, [user])

    def rows(n: int) -> tuple[dict[str, Any], np.ndarray]:
        user = np.repeat(np.arange(users), n)
        a, b = rng.normal(size=(2, users * n))
        eta = beta[user, 0] + beta[user, 1] * a + beta[user, 2] * b
        return {"user": user, "a": a, "b": b, "y": (rng.random(users * n) < sigmoid(eta)).astype(int)}, eta

    model.fit(rows(each)[0])
    return model, *rows(5)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_intervals_cover_the_truth(simulated: tuple[GLMix, dict[str, Any], np.ndarray], level: float) -> None:
    """One block: the posterior is a Laplace approximation of the exact one, so coverage is nominal but for sampling."""
    model, data, eta = simulated
    low, high = model.interval(data, level=level).T
    covered = np.mean((low <= sigmoid(eta)) & (sigmoid(eta) <= high))
    # 2,000 rows of 400 independent users.
    assert covered == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / 400) + 0.01)


def test_intervals_are_nested_and_checked() -> None:
    model = correlated()
    data = table(seed=1, n=20)
    p = model.predict_proba(data)
    before = np.column_stack([p, p])
    for level in (0.1, 0.5, 0.9, 0.999):
        interval = model.interval(data, level=level)
        assert (interval[:, 0] < before[:, 0]).all()
        assert (interval[:, 1] > before[:, 1]).all()
        before = interval
    z, s = model._score(data, variances=True)
    np.testing.assert_allclose(
        model.interval(data, level=0.9)[:, 1], sigmoid(z + norm.ppf(0.95) * np.sqrt(s)), rtol=1e-12
    )
    for level in (0.0, 1.0):
        with pytest.raises(ConfigError, match="must be between 0 and 1"):
            model.interval(data, level=level)


def test_averaged_probabilities(simulated: tuple[GLMix, dict[str, Any], np.ndarray]) -> None:
    """Section 5.2: σ(η/√(1 + πs/8)), within 0.02 of the integral over the posterior of the score."""
    model, data, _ = simulated
    z, s = model._score(data, variances=True)
    p = model.predict_proba(data, averaged=True)
    np.testing.assert_allclose(p, sigmoid(z / np.sqrt(1 + np.pi * s / 8)), rtol=1e-12)
    assert (np.abs(p - 0.5) <= np.abs(model.predict_proba(data) - 0.5)).all()
    for k in range(0, 200, 20):
        exact = quad(lambda e, k=k: sigmoid(e) * norm.pdf(e, z[k], np.sqrt(s[k])), z[k] - 12, z[k] + 12)[0]
        assert p[k] == pytest.approx(exact, abs=0.02)
    # It is the better forecast of labels: their log loss is lower.
    y = data["y"]
    loss = [-np.mean(np.log(np.where(y == 1, q, 1 - q))) for q in (p, model.predict_proba(data))]
    assert loss[0] < loss[1]


def test_expected_labels_by_link() -> None:
    data = table()
    for link, mean in (("logit", sigmoid), ("identity", lambda eta: eta), ("log", np.exp)):
        model = GLMix(SCHEMA, Fixed("a"), link=link)
        model.partial_fit(data)
        np.testing.assert_allclose(model.predict(data), mean(model.decision_function(data)), rtol=1e-12)
        if link != "logit":
            with pytest.raises(ConfigError, match="needs link='logit'"):
                model.predict_proba(data)


# -- what is inside --------------------------------------------------------------------------------------------------


def test_coefficients_have_names_and_marginal_deviations() -> None:
    """Section 10, defects 8 and 13: √diag(H⁻¹), never 1/√H_ii."""
    model = correlated()
    user = model.encoder.entity_name("user", 0)
    found = model.coefficients("user", user)
    assert [c.name for c in found] == ["(intercept)", "a", "b"]
    assert [c.mean for c in found] == [0.5, -1.0, 2.0]
    assert [c.sd for c in found] == pytest.approx(np.sqrt([1.0, 2.0, 0.5]))
    H = np.linalg.inv(unpack(model.blocks[1].cov[0]))
    assert (np.array([c.sd for c in found]) ** 2 > 1 / np.diag(H) + 1e-3).all()


def test_coefficients_of_a_level_and_of_loadings_are_named_by_it() -> None:
    model = GLMix(SCHEMA, Fixed("g"), [Random("user", on=["g"]), Loadings("item", of="user")])
    model.partial_fit(table())
    levels = [f"g={level}" for level in dict.fromkeys(table()["g"])]
    assert [c.name for c in model.coefficients("fixed")] == ["(intercept)", *levels]
    names = [c.name for c in model.coefficients("item*user", "i1")]
    assert names == [f"loading on {name}" for name in ("(intercept)", *levels)]
    assert {c.sd for c in model.coefficients("item*user", "i1")} != {np.sqrt(0.1)}


def test_coefficients_of_nobody() -> None:
    model = correlated()
    with pytest.raises(ConfigError, match="has one vector per user; name the entity"):
        model.coefficients("user")
    with pytest.raises(DataError, match="99 was never seen"):
        model.coefficients("user", 99)
    with pytest.raises(ConfigError, match="no effect is named 'ad'"):
        model.coefficients("ad", 1)


MODELS: dict[str, list[Any]] = {
    "one": [Random("user", on=["a", "g"])],
    "low rank": [Random("user", on=["a", "g"], posterior="lowrank", rank=2)],
    "parent": [Random("item", on=["a"], parent="user")],
    "crossed": [Random("user", on=["b"], posterior="diagonal"), Random(("user", "item"), on=["g"])],
    "loadings": [Random("user", on=["a", "g"]), Random("item"), Loadings("item", of="user"), Loadings("g", of="user")],
    "reverting": [Random("user", on=["a"], forgetting=Forgetting(half_life=300.0))],
    "stabilised": [Random("user", on=["a"], forgetting=Forgetting(half_life=300.0, form="stabilised"))],
    "per update": [Random("user", on=["a"], forgetting=Forgetting(form="per_update", delta=0.7))],
}


@pytest.mark.parametrize("random", MODELS.values(), ids=MODELS.keys())
def test_an_explanation_adds_up_to_the_score(random: list[Any]) -> None:
    """Contributions sum to score − offset within 1e-9, largest first, for entities known, new and half forgotten."""
    model = GLMix(SCHEMA, Fixed("a", "g"), random)
    model.partial_fit(table())
    data = table(seed=1, n=12)
    data |= {"user": np.r_[data["user"][:9], 77, 78, 79], "t": np.r_[data["t"][:6], np.full(6, 1500.0)]}
    data["g"] = [*data["g"][:11], "never seen"]
    z = model.decision_function(data)
    for k, terms in enumerate(model.explain(data)):
        assert sum(term.contribution for term in terms) == pytest.approx(z[k] - data["o"][k], abs=1e-9)
        sizes = [abs(term.contribution) for term in terms]
        assert sizes == sorted(sizes, reverse=True)
        assert {term.effect for term in terms} <= {block.name for block in model.blocks}


def test_an_explanation_names_what_it_explains() -> None:
    model = GLMix(SCHEMA, Fixed("a"), [Random("user", on=["g"]), Loadings("item", of="user")])
    model.partial_fit(table())
    one = row(a=2.0, g="g1")
    terms = {(term.effect, term.feature): term for term in model.explain(one)[0]}
    assert set(terms) == {
        ("fixed", "(intercept)"), ("fixed", "a"), ("user", "(intercept)"), ("user", "g=g1"),
        *(("item*user", f"loading on {name}") for name in ("(intercept)", "g=g0", "g=g1", "g=g2")),
    }  # fmt: skip
    a, level, loading = terms["fixed", "a"], terms["user", "g=g1"], terms["item*user", "loading on g=g1"]
    b = {c.name: c for c in model.coefficients("fixed")}["a"]
    assert (a.value, a.contribution, a.sd, a.entity) == (2.0, 2.0 * b.mean, 2.0 * b.sd, None)
    beta = {c.name: c for c in model.coefficients("user", one["user"][0])}["g=g1"]
    assert (level.value, level.contribution, level.sd, level.entity) == (1.0, beta.mean, beta.sd, one["user"][0])
    gamma = {c.name: c for c in model.coefficients("item*user", one["item"][0])}["loading on g=g1"]
    assert loading.value == beta.mean
    assert loading.contribution == pytest.approx(beta.mean * gamma.mean)
    assert loading.entity == one["item"][0]


def test_an_explanation_of_strangers() -> None:
    model = GLMix(SCHEMA, Fixed("a"), [Random("user", prior=Prior(1.0, 0.3)), Random(("user", "item"))])
    model.partial_fit(table())
    terms = {term.effect: term for term in model.explain(row(user=99, g="?"))[0] if term.effect != "fixed"}
    assert (terms["user"].entity, terms["user"].contribution, terms["user"].sd) == ("(new)", 0.3, 1.0)
    known = row()
    (pair,) = [term for term in model.explain(known)[0] if term.effect == "user+item"]
    assert pair.entity == (known["user"][0], known["item"][0])
    assert model.explain({name: values[:0] for name, values in known.items()}) == []
