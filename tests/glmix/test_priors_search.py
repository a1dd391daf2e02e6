"""Priors searched by the loss one step ahead: never worse, and only what pays is turned on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.glmix.priors_parts import NO_FIXED, SCHEMA, simulate, user

from nearline import Fixed, Forgetting, GLMix, Loadings, Prior, Random
from nearline.glmix import _links

SEARCHES: dict[str, tuple[Fixed, list[Any], str]] = {
    "far off": (Fixed(prior=Prior(100.0)), [user(Prior(30.0))], "full"),
    "scalar": (Fixed("a"), [user(Prior(0.01))], "scalar"),
    "diagonal": (Fixed("a"), [user(posterior="diagonal")], "diagonal"),
    "per update": (Fixed(), [user(forgetting=Forgetting(form="per_update", delta=0.9))], "full"),
    "forgetful": (Fixed(), [user(forgetting=Forgetting(half_life=50.0, walk_per_event=0.5))], "full"),
    "loadings": (Fixed(), [user(), Random("hour"), Loadings("hour", of="user")], "full"),
}


@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_never_ends_worse_than_it_began(search: str) -> None:
    """Before and after are mean progressive losses, and the learned settings do give the loss after."""
    fixed, random, structure = SEARCHES[search]
    data = simulate(np.diag([1.0, 0.3, 0.1]), users=40, each=6, noise=None)
    data |= {"hour": np.arange(240) % 5}
    model = GLMix(SCHEMA, fixed, random)
    found = model.learn_priors(data, rounds=1, structure=structure)  # type: ignore[arg-type]

    def loss(each: GLMix) -> float:
        margin = each.progressive(data).margin
        return float(np.mean(_links.by_name("logit").loss(data["y"], margin)))

    declared = GLMix(SCHEMA, fixed, random)
    declared.design(data, learn=True)
    assert loss(declared) == pytest.approx(found.before, rel=1e-12)
    assert loss(model) == pytest.approx(found.after, rel=1e-12)
    assert found.after <= found.before
    assert found.evaluations > 5
    if search in ("far off", "forgetful"):
        assert found.after < found.before - 0.01


@pytest.mark.parametrize("every", [None, 7, "50s"])
def test_a_search_replays_in_the_models_own_mode(every: Any) -> None:
    """A minibatch model is judged by minibatches: before and after are the losses of its own progressive validation."""
    data = simulate(np.diag([1.0, 0.3, 0.1]), users=40, each=6, noise=None)
    declared, model = (GLMix(SCHEMA, Fixed(), [user(Prior(30.0))], mode="minibatch") for _ in range(2))
    found = model.learn_priors(data, rounds=1, structure="scalar", every=every)
    declared.design(data, learn=True)
    for each, expected in ((declared, found.before), (model, found.after)):
        margin = each.progressive(data, every=every or 3).margin  # 240 rows: a hundredth, rounded up
        assert np.mean(_links.by_name("logit").loss(data["y"], margin)) == pytest.approx(expected, rel=1e-12)
    by_event = GLMix(SCHEMA, Fixed(), [user(Prior(30.0))]).learn_priors(data, rounds=1, structure="scalar")
    assert abs(by_event.before - found.before) > 1e-4
    assert found.after < found.before - 0.01


def test_a_scalar_search_scales_a_prior_as_a_whole(capsys: pytest.CaptureFixture[str]) -> None:
    data = simulate(np.diag([1.0, 1.0, 1e-4]), users=60, each=12, noise=None)
    model = GLMix(SCHEMA, NO_FIXED, [user(Prior({"(intercept)": 0.04, "*": 0.01}))])
    found = model.learn_priors(data, structure="scalar", rounds=1, progress=True)
    prior = found.beliefs["user"].prior
    assert prior.variance_of("a") > 0.01
    assert prior.variance_of("a") == prior.variance_of("b")
    assert prior.variance_of("(intercept)") == pytest.approx(4 * prior.variance_of("a"))
    assert found.beliefs["user"].covariance is None
    by_column = GLMix(SCHEMA, NO_FIXED, [user(Prior({"(intercept)": 0.04, "*": 0.01}))])
    prior = by_column.learn_priors(data, structure="diagonal", rounds=1).beliefs["user"].prior
    assert prior.variance_of("a") > prior.variance_of("b")
    # The bar is for people: it stays off standard output.
    assert capsys.readouterr().out == ""


def test_a_search_turns_on_only_what_pays() -> None:
    """Clicks of users who never change: neither noise nor forgetting."""
    data = simulate(np.diag([1.0, 0.3, 0.1]), users=40, each=20, noise=None)
    model = GLMix(SCHEMA, Fixed(), [user()])
    found = model.learn_priors(data, rounds=1)
    forgetting = found.beliefs["user"].forgetting
    assert forgetting == Forgetting()
    off = GLMix(SCHEMA, Fixed(), [user()]).learn_priors(data, rounds=1, walks=False, half_lives=False)
    assert off.evaluations < found.evaluations


def test_what_learns_from_many_events_is_insured_against_change_unless_half_lives_are_not_wanted() -> None:
    rng = np.random.default_rng(0)
    rows = 20_000
    who, a = rng.integers(0, 2_000, rows), rng.normal(size=rows)
    y = (rng.random(rows) < 1 / (1 + np.exp(-0.5 * a))).astype(float)
    data = {"user": who, "a": a, "b": a, "y": y, "t": np.arange(rows, dtype=float), "w": np.ones(rows)}
    model = GLMix(SCHEMA, Fixed("a"), [Random("user")])
    beliefs = model.learn_priors(data, rounds=1).beliefs
    assert beliefs["fixed"].forgetting.half_life == pytest.approx(8.0 * (rows - 1))
    # Ten events each: they follow a change anyway.
    assert beliefs["user"].forgetting.half_life is None
    again = GLMix(SCHEMA, Fixed("a"), [Random("user")]).learn_priors(data, rounds=1, half_lives=False).beliefs
    assert again["fixed"].forgetting.half_life is None
