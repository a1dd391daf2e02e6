"""Locked effects (partial retraining, specification section 3, on the stream): scored, not updated, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nearline import ConfigError, Fixed, Forgetting, GLMix, Loadings, Numeric, Prior, Random, Schema
from nearline.glmix._state import Block

SCHEMA = Schema("y", weight="w", offset="o", time="t", columns={"a": Numeric(0, 1)})
both = pytest.mark.parametrize("mode", ["event", "minibatch"])


def table(seed: int = 0, n: int = 60, link: str = "logit") -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    y: Any = {"logit": rng.integers(0, 2, n), "identity": rng.normal(size=n), "log": rng.poisson(1.0, n)}[link]
    return {
        "user": rng.integers(0, 5, n), "item": rng.integers(0, 7, n), "a": rng.normal(size=n), "y": y,
        "w": rng.integers(0, 3, n).astype(float), "o": 0.1 * rng.normal(size=n),
        "t": 1000.0 + 500 * seed + np.cumsum(rng.exponential(9.0, n)),
    }  # fmt: skip


def bits(block: Block) -> list[bytes]:
    n = block.entities
    return [array[:n].tobytes() for array in (block.mean, block.cov, block.last, block.counts)]


@both
def test_the_others_learn_as_if_a_locked_coefficient_were_known(mode: Any) -> None:
    """Identity link, intercept locked at 2: y = 3 leaves 1 for a user of N(0, 1), so θ = 1/2 and v = 1/2 (not 1/3)."""
    model = GLMix(SCHEMA, Fixed(prior=Prior(1.0)), [Random("user", prior=Prior(1.0))], link="identity", mode=mode)
    row = {"user": [1], "y": [3.0], "w": [1.0], "o": [0.0], "t": [0.0]}
    model.design(row, learn=True)
    model.block("fixed").mean[0] = 2.0
    before = bits(model.block("fixed"))
    learned = model.partial_fit(row, locked=["fixed"])
    assert learned.rows == 1
    assert bits(model.block("fixed")) == before
    user = model.coefficients("user", 1)[0]
    np.testing.assert_allclose([user.mean, user.sd**2], [0.5, 0.5], rtol=1e-12)


@both
@pytest.mark.parametrize("side", ["user", "item*user"])
def test_loadings_learn_with_one_side_locked(mode: Any, side: str) -> None:
    """β = 2, γ = 1/2: η = β (1 + γ) = 3. β alone has the design 1 + γ, γ alone the design β; y = 6."""
    random = [Random("user", prior=Prior(1.0)), Loadings("item", of="user", prior=Prior(1.0))]
    model = GLMix(SCHEMA, Fixed(intercept=False), random, link="identity", mode=mode)
    row = {"user": [1], "item": [1], "y": [6.0], "w": [1.0], "o": [0.0], "t": [0.0]}
    model.design(row, learn=True)
    model.block("user").mean[0], model.block("item*user").mean[0] = 2.0, 0.5
    kept = bits(model.block(side))
    model.partial_fit(row, locked=[side])
    assert bits(model.block(side)) == kept
    x, start, other = (2.0, 0.5, "item*user") if side == "user" else (1.5, 2.0, "user")
    # N(start, 1) and one row of design x with residual 3 at start; in a minibatch the prior is that of the row, too.
    mean, variance = start + 3.0 * x / (1 + x * x), 1 / (1 + x * x)
    block = model.block(other)
    np.testing.assert_allclose([block.mean[0, 0], block.cov[0, 0]], [mean, variance], rtol=1e-12)


MODELS: dict[str, list[Any]] = {
    "full": [Random("user", on=["a"]), Random("item", on=["a"], prior=Prior(0.5, 0.1))],
    "diagonal": [Random("user", on=["a"], posterior="diagonal"), Random("item", posterior="diagonal")],
    "low rank": [Random("user", on=["a"], posterior="lowrank", rank=2), Random("item", on=["a"], posterior="lowrank")],
}


@both
@pytest.mark.parametrize("link", ["logit", "identity", "log"])
@pytest.mark.parametrize("random", MODELS.values(), ids=MODELS.keys())
@pytest.mark.parametrize("locked", ["fixed", "item"])
def test_a_locked_effect_is_an_offset(mode: Any, link: str, random: list[Any], locked: str) -> None:
    """What is learned beside it is what is learned without it, its score given as the offset."""
    model = GLMix(SCHEMA, Fixed("a"), random, link=link, mode=mode)
    model.partial_fit(table(link=link))
    before, data = bits(model.block(locked)), table(1, link=link)
    kept = [r for r in random if r.name != locked]
    alone = GLMix(SCHEMA, Fixed(intercept=False) if locked == "fixed" else Fixed("a"), kept, link=link, mode=mode)
    alone.design(table(link=link), learn=True)
    alone.design(data, learn=True)
    for block in alone.blocks:
        if block.d:
            twin, n = model.block(block.name), block.entities
            block.mean[:n], block.cov[:n] = twin.mean[:n], twin.cov[:n]
            block.last[:n], block.counts[:n] = twin.last[:n], twin.counts[:n]
    model.design(data, learn=True)
    offset = model.decision_function(data) - alone.decision_function({**data, "o": np.zeros(60)})
    learned = model.partial_fit(data, locked=[locked])
    expected = alone.partial_fit({**data, "o": offset})
    assert bits(model.block(locked)) == before
    assert learned.rows == expected.rows
    for block in alone.blocks:
        if block.d:
            twin = model.block(block.name)
            np.testing.assert_allclose(twin.mean[: block.entities], block.mean[: block.entities], rtol=1e-9, atol=1e-11)
            np.testing.assert_allclose(twin.cov[: block.entities], block.cov[: block.entities], rtol=1e-9, atol=1e-11)
    if mode == "event":
        np.testing.assert_allclose(learned.margin, expected.margin, rtol=1e-9, atol=1e-11)


FORGETTING = {
    "reverting": Forgetting(half_life=50.0),
    "stabilised": Forgetting(half_life=50.0, form="stabilised"),
    "per update": Forgetting(form="per_update", delta=0.5),
    "walk": Forgetting(walk_per_event={"(intercept)": 0.1}),
}


@both
@pytest.mark.parametrize("forgetting", FORGETTING.values(), ids=FORGETTING.keys())
def test_a_locked_effect_that_forgets_counts_as_it_is_by_then(mode: Any, forgetting: Forgetting) -> None:
    """It is scored relaxed to the row's time, as any score is, and stored as it was."""
    random = [Random("user", prior=Prior(1.0)), Random("item", prior=Prior(1.0), forgetting=forgetting)]
    model = GLMix(SCHEMA, Fixed(intercept=False), random, link="identity", mode=mode)
    model.partial_fit(table(link="identity"))
    row = {"user": [99], "item": [1], "y": [3.0], "w": [1.0], "o": [0.0], "t": [1600.0]}
    served, before = model.decision_function(row)[0], bits(model.block("item"))
    model.partial_fit(row, locked=["item"])
    assert bits(model.block("item")) == before
    assert model.coefficients("user", 99)[0].mean == pytest.approx((3.0 - served) / 2, rel=1e-12)


@both
def test_a_late_row_of_a_locked_effect_counts_in_full(mode: Any) -> None:
    random = [Random("user", prior=Prior(1.0)), Random("item", forgetting=Forgetting(half_life=10.0))]
    model = GLMix(SCHEMA, Fixed(intercept=False), random, link="identity", mode=mode)
    first = {"user": [1], "item": [1], "y": [0.0], "w": [1.0], "o": [0.0], "t": [100.0]}
    model.partial_fit(first)
    model.partial_fit({**first, "user": [2], "y": [3.0], "t": [50.0]}, locked=["item"])
    np.testing.assert_allclose(model.coefficients("user", 2)[0].mean, 1.5, rtol=1e-12)


@both
def test_with_every_effect_locked_nothing_is_learned(mode: Any) -> None:
    model = GLMix(SCHEMA, Fixed("a"), [Random("user")], mode=mode)
    model.partial_fit(table())
    before, data = [bits(block) for block in model.blocks], table(1)
    z = model.decision_function(data)
    learned = model.partial_fit(data, locked=["fixed", "user"])
    assert [bits(block) for block in model.blocks] == before
    assert not len(learned.refused)
    if mode == "event":
        np.testing.assert_array_equal(learned.margin, z)


@both
def test_priors_of_a_locked_effect_are_not_refreshed(mode: Any) -> None:
    model = GLMix(SCHEMA, Fixed("a"), [Random("user"), Random("item")], mode=mode, refresh_every=100)
    rng = np.random.default_rng(0)
    many = table(n=400) | {"user": rng.integers(0, 60, 400), "item": rng.integers(0, 60, 400), "w": np.ones(400)}
    model.partial_fit(many, locked=["user"])
    assert model.block("user").belief.covariance is None
    assert model.block("item").belief.covariance is not None


def test_only_effects_can_be_locked() -> None:
    model = GLMix(SCHEMA, Fixed("a"), [Random("user")])
    with pytest.raises(ConfigError, match="no effect is named 'item'"):
        model.partial_fit(table(), locked=["item"])
    assert model.encoder.n_entities("user") == 0
