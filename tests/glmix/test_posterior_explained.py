"""Coefficients by name, and explanations that add up to the score (specification, section 5.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.glmix.posterior_parts import SCHEMA, correlated, row, table

from nearline import ConfigError, DataError, Fixed, Forgetting, GLMix, Loadings, Prior, Random
from nearline.glmix._packed import unpack


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
