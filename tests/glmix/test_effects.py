"""Declarations: defaults, names, and every mistake refused with the name of the symbol and the fix."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from nearline import ConfigError, Fixed, Forgetting, GLMix, Loadings, Numeric, Prior, Random, Schema
from nearline.glmix._effects import per_column

NAN, INF = float("nan"), float("inf")


def test_a_setting_by_column_falls_back_to_the_star_and_then_to_the_default() -> None:
    setting = {"age": 2.0, "*": 3.0}
    assert [per_column(setting, column, 9.0) for column in ("age", "year")] == [2.0, 3.0]
    assert per_column({"age": 2.0}, "year", 9.0) == 9.0
    assert per_column(4, "year", 9.0) == 4.0


def test_the_default_prior_lets_the_intercept_vary_more() -> None:
    assert (Prior().variance_of("(intercept)"), Prior().variance_of("x"), Prior().mean_of("x")) == (1.0, 0.25, 0.0)
    assert Fixed("x").prior.variance_of("x") == 1.0
    assert Loadings("item", of="user").prior.variance_of("(intercept)") == 0.1


def test_names() -> None:
    assert Fixed("x").name == "fixed"
    assert Random("user").name == "user"
    assert Random(["user", "hour"]).name == "user+hour"
    assert Random(["user", "hour"]).key == ("user", "hour")
    assert Random("user", name="taste").name == "taste"
    assert Loadings("item", of="user").name == "item*user"
    assert Loadings("item", of="user", name="factor").name == "factor"


@pytest.mark.parametrize("effect", [Fixed("x"), Random("user"), Loadings("item", of="user"), Prior(), Forgetting()])
def test_declarations_are_frozen(effect: Any) -> None:
    field = dataclasses.fields(effect)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(effect, field, None)


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "variance 0": (lambda: Prior(variance=0.0), r"Prior\(variance=...\) must be > 0 and finite, got 0.0"),
    "variance nan": (lambda: Prior(variance={"x": NAN}), "must be > 0 and finite, got nan"),
    "variance inf": (lambda: Prior(variance=INF), "must be > 0 and finite, got inf"),
    "mean inf": (lambda: Prior(mean={"x": INF}), r"Prior\(mean=...\) must be finite"),
    "mean nan": (lambda: Prior(mean=NAN), r"Prior\(mean=...\) must be finite"),
    "form": (lambda: Forgetting(form="slowly"), "'reverting', 'stabilised' or 'per_update', got 'slowly'"),  # type: ignore[arg-type]
    "half-life 0": (lambda: Forgetting(half_life=0.0), "in seconds and must be > 0"),
    "half-life nan": (lambda: Forgetting(half_life=NAN), "in seconds and must be > 0"),
    "delta 0": (lambda: Forgetting(form="per_update", delta=0.0), r"must be in \(0, 1\]"),
    "delta above 1": (lambda: Forgetting(form="per_update", delta=1.5), r"must be in \(0, 1\]"),
    "delta of a half-life": (lambda: Forgetting(delta=0.9), "needs form='per_update'"),
    "half-life of a delta": (lambda: Forgetting(form="per_update", half_life=1.0), "takes delta, not half_life"),
    "walk": (lambda: Forgetting(walk_per_event=-0.1), r"walk_per_event=...\) must be >= 0"),
    "walk by column": (lambda: Forgetting(walk_per_day={"x": INF}), r"walk_per_day=...\) must be >= 0"),
    "twice": (lambda: Fixed("x", "x"), r"names a column twice: \['x'\]"),
    "empty column": (lambda: Fixed(""), "takes column names"),
    "number": (lambda: Random("user", on=[3]), "takes column names"),  # type: ignore[list-item]
    "intercept": (lambda: Fixed("(intercept)"), "is no column; use intercept="),
    "text for a list": (lambda: Random("user", on="x"), r"write on=\['x'\]"),
    "no key": (lambda: Random([]), "must be a column name or several"),
    "empty key": (lambda: Loadings("", of="user"), "must be a column name or several"),
    "nothing": (lambda: Random("user", intercept=False), "neither features nor an intercept"),
    "posterior": (lambda: Random("user", posterior="sparse"), "got 'sparse'"),  # type: ignore[arg-type]
    "prior of another column": (lambda: Fixed("x", prior=Prior({"z": 1.0})), "Fixed has a setting for 'z'"),
    "walk of another column": (
        lambda: Random("u", on=["x"], forgetting=Forgetting(walk_per_day={"z": 1.0})),
        r"Random\('u'\) has a setting for 'z', but its columns are \['x'\]",
    ),
    "own parent": (lambda: Random("user", parent="user"), "another column than its key"),
}


@pytest.mark.parametrize(("declare", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_mistake_is_refused(declare: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        declare()


SCHEMA = Schema(label="y")
WRONG_MODELS: dict[str, tuple[Callable[[], object], str]] = {
    "same name": (lambda: GLMix(SCHEMA, random=[Random("user"), Random("user", on=["x"])]), "two effects are named"),
    "called fixed": (lambda: GLMix(SCHEMA, random=[Random("user", name="fixed")]), "two effects are named 'fixed'"),
    "of nothing": (lambda: GLMix(SCHEMA, random=[Loadings("item", of="user")]), "must name a Random effect"),
    "of fixed": (lambda: GLMix(SCHEMA, random=[Loadings("item", of="fixed")]), "must name a Random effect"),
    "of loadings": (
        lambda: GLMix(SCHEMA, random=[Random("u"), Loadings("i", of="u"), Loadings("j", of="i*u")]),
        "must name a Random effect",
    ),
    "no rank": (lambda: GLMix(SCHEMA, random=[Random("u", posterior="lowrank", rank=0)]), "must be at least 1"),
    "prior of loadings": (
        lambda: GLMix(SCHEMA, random=[Random("u", on=["x"]), Loadings("i", of="u", prior=Prior({"z": 1.0}))]),
        r"Loadings\('i', of='u'\) has a setting for 'z', but its columns are \['x'\]",
    ),
    "link": (lambda: GLMix(SCHEMA, link="probit"), "no link is called 'probit'"),
    "mode": (lambda: GLMix(SCHEMA, mode="batch"), "'event' or 'minibatch'"),  # type: ignore[arg-type]
    "dtype": (lambda: GLMix(SCHEMA, dtype="float16"), "'float64' or 'float32'"),  # type: ignore[arg-type]
    "dispersion": (lambda: GLMix(SCHEMA, link="identity", dispersion=0.0), "must be > 0"),
    "dispersion of a logit": (lambda: GLMix(SCHEMA, dispersion=2.0), "needs link='identity'"),
    "threads": (lambda: GLMix(SCHEMA, threads=0), "at least 1"),
    "refresh": (lambda: GLMix(SCHEMA, refresh_every=0), "a number of events or None"),
}


@pytest.mark.parametrize(("build", "message"), WRONG_MODELS.values(), ids=WRONG_MODELS.keys())
def test_a_model_that_makes_no_sense_is_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


def test_an_effect_may_be_declared_without_an_intercept() -> None:
    model = GLMix(
        Schema("y", columns={"x": Numeric(0, 1)}), Fixed(intercept=False), [Random("user", on=["x"], intercept=False)]
    )
    model.partial_fit({"user": [1, 2], "x": [1.0, 2.0], "y": [0, 1]})
    assert [block.d for block in model.blocks] == [0, 1]
    assert model.decision_function({"user": [1], "x": [0.0]}).tolist() == [0.0]


def test_a_parent_is_one_more_effect_declared_alike() -> None:
    """Section 5.4: a child deviates from its parent; the declared mean is counted once."""
    forgetting = Forgetting(half_life=60.0)
    ad = Random("ad", on=["x"], parent="campaign", prior=Prior(0.3, 0.2), forgetting=forgetting, posterior="diagonal")
    model = GLMix(SCHEMA, random=[ad])
    campaign = model.block("campaign")
    assert [block.name for block in model.blocks] == ["fixed", "campaign", "ad"]
    assert campaign.effect.prior.variance_of("x") == 0.3
    assert campaign.effect.prior.mean_of("x") == 0.0
    assert (campaign.effect.forgetting, campaign.effect.posterior) == (forgetting, "diagonal")


def test_a_parent_that_is_declared_is_taken_as_it_is() -> None:
    campaign = Random("campaign", parent="advertiser")
    model = GLMix(SCHEMA, random=[Random("ad", on=["x"], parent="campaign"), campaign])
    assert [block.name for block in model.blocks] == ["fixed", "advertiser", "ad", "campaign"]
    assert model.block("campaign").effect is campaign
