"""Scorer: what a server says equals what the model says, through growth, new priors and arrays that move."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline import ConfigError, DataError, Fixed, Forgetting, GLMix, Loadings, Numeric, Prior, Random, Schema
from nearline.features import Design
from nearline.glmix import Scorer, _posterior

SCHEMA = Schema(label="y", time="t", offset="o", columns={"a": Numeric(0, 1), "b": Numeric(0, 1)})
REVERTING = Forgetting(half_life=3600.0)
MODELS: dict[str, Any] = {
    "full": lambda: GLMix(SCHEMA, Fixed("a", "g"), [Random("user", on=["a", "b"]), Random("item")]),
    "float32": lambda: GLMix(SCHEMA, Fixed("a", "g"), [Random("user", on=["g"])], dtype="float32"),
    "diagonal": lambda: GLMix(SCHEMA, Fixed("a", posterior="diagonal"), [Random("user", on=["g"])]),
    "lowrank": lambda: GLMix(SCHEMA, Fixed("a"), [Random("user", on=["g"], posterior="lowrank", rank=2)]),
    "forgetting": lambda: GLMix(
        SCHEMA, Fixed("a", forgetting=REVERTING), [Random("user", on=["a"], forgetting=REVERTING), Random("item")]
    ),
    "per update": lambda: GLMix(
        SCHEMA, Fixed("a"), [Random("user", on=["a"], forgetting=Forgetting(form="per_update", delta=0.9))]
    ),
    "loadings": lambda: GLMix(
        SCHEMA, Fixed("a"), [Random("user", on=["a", "b"]), Random("item"), Loadings("item", of="user")]
    ),
    "prior means": lambda: GLMix(
        SCHEMA, Fixed("a", "g", prior=Prior(1.0, 0.3)), [Random("user", on=["g"], prior=Prior(0.5, {"g": -0.2}))]
    ),
    "no fixed": lambda: GLMix(SCHEMA, Fixed(intercept=False), [Random("user", on=["a"])]),
}


def table(seed: int, n: int, entities: int = 5, levels: int = 3) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "user": rng.integers(0, entities, n),
        "item": [f"i{i}" for i in rng.integers(0, entities, n)],
        "a": rng.normal(size=n),
        "b": rng.normal(size=n),
        "g": [f"g{i}" for i in rng.integers(0, levels, n)],
        "y": rng.integers(0, 2, n),
        "t": np.sort(rng.uniform(0, 10_000.0, n)),
        "o": rng.normal(size=n),
    }


def served(model: GLMix, data: dict[str, Any]) -> Design:
    return model.design(data, learn=False)[0]


def fixed_margin(model: GLMix, design: Design) -> Any:
    """The fixed effect's part by its definition, one row at a time."""
    block, out = model.blocks[0], design.offset.copy()
    for i in range(design.rows):
        theta = _posterior.relaxed(block, 0, float(design.time[i]))[0]
        for p in range(design.indptr[i], design.indptr[i + 1]):
            if design.indices[p] in block.slots:
                out[i] += design.values[p] * theta[block.slots.index(design.indices[p])]
    unseen = design.without_slot
    for i, k, x in zip(unseen.rows, unseen.levels, unseen.values) if unseen is not None else ():
        out[i] += x * block.belief.prior.mean_of(unseen.columns[k]) * block.selects(unseen.columns[k])
    return out


def assert_same(scorer: Scorer, model: GLMix, design: Design) -> None:
    z, s = model._score(design, variances=True)
    found = scorer.score(design, variances=True)
    np.testing.assert_array_equal(found.margin, z)
    np.testing.assert_array_equal(found.variance, s)
    np.testing.assert_array_equal(scorer.score(design).margin, z)
    assert np.isnan(scorer.score(design).variance).all()
    np.testing.assert_allclose(
        found.fixed, fixed_margin(model, design), rtol=1e-6 if model.dtype == "float32" else 1e-12, atol=1e-13
    )


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_the_model_while_it_grows(name: str) -> None:
    model = MODELS[name]()
    model.partial_fit(table(0, 30))
    scorer = Scorer(model, "1.0.0")
    for step, entities in enumerate([5, 8, 40, 400], 1):
        fresh = table(100 + step, 50, 2 * entities, 9)
        assert_same(scorer, model, served(model, fresh))
        model.partial_fit(table(step, 60, entities, 3 + step))
        scorer.refresh()
        assert_same(scorer, model, served(model, fresh))
        model.partial_fit(table(step, 60, entities, 3 + step))  # nothing grows: the addresses stay or are renewed
        scorer.refresh()
        assert_same(scorer, model, served(model, fresh))


def test_scores_follow_new_priors() -> None:
    model = MODELS["full"]()
    model.partial_fit(table(0, 300))
    scorer = Scorer(model, "1.0.0")
    model.refresh_priors(least=2)
    scorer.refresh()
    assert_same(scorer, model, served(model, table(1, 20, 50)))


@settings(max_examples=30, deadline=None)
@given(later=st.floats(0, 1e6), n=st.integers(1, 40))
def test_scores_relax_to_the_time_of_the_row(later: float, n: int) -> None:
    model = MODELS["forgetting"]()
    model.partial_fit(table(0, 60))
    data = table(3, n) | {"t": np.full(n, 10_000.0 + later)}
    assert_same(Scorer(model, "1"), model, served(model, data))


def test_the_random_effects_are_what_the_fixed_effect_leaves() -> None:
    # Entities never seen under a prior of mean zero add nothing.
    model = MODELS["full"]()
    model.partial_fit(table(0, 60))
    found = Scorer(model, "1").score(served(model, table(1, 9) | {"user": np.arange(100, 109), "item": ["new"] * 9}))
    np.testing.assert_allclose(found.margin, found.fixed, rtol=1e-12, atol=1e-13)


def test_entities_that_only_the_vocabulary_knows_stand_at_the_prior() -> None:
    model = MODELS["full"]()
    model.partial_fit(table(0, 60))
    scorer = Scorer(model.fork(), "1")
    data = table(7, 30, 50)
    before = scorer.score(served(model, data)).margin
    model.partial_fit(data | {"g": ["g0"] * 30})
    np.testing.assert_array_equal(scorer.score(served(model, data)).margin, before)


def test_wide_rows_and_no_rows() -> None:
    schema = Schema(label="y")
    model = GLMix(schema, Fixed("tags"), [Random("user", on=["tags"])])
    many = [[f"t{i}" for i in range(80)], ["t1"]]
    model.partial_fit({"user": [1, 2], "tags": [["t1", "t2"], many[0]], "y": [0, 1]})
    scorer = Scorer(model, "1")
    design = served(model, {"user": [2, 1], "tags": many})
    np.testing.assert_array_equal(
        scorer.score(design, variances=True).variance, model._score(design, variances=True)[1]
    )
    assert scorer.score(design.take(0, 0)).margin.shape == (0,)


def test_a_design_of_another_model_is_refused() -> None:
    model, other = MODELS["full"](), MODELS["full"]()
    model.partial_fit(table(0, 20, levels=2))
    other.partial_fit(table(0, 20, levels=9))
    with pytest.raises(DataError, match="another model"):
        Scorer(model, "1").score(served(other, table(1, 20, levels=9)))


# -- draws -----------------------------------------------------------------------------------------------------------


def test_a_draw_is_the_models_own_and_reproducible() -> None:
    model = MODELS["full"]()
    model.partial_fit(table(0, 60))
    design, scorer = served(model, table(1, 6)), Scorer(model, "1")
    draw = scorer.sample(design, seed=3, scale=0.5, draws=64)
    np.testing.assert_array_equal(draw.margin, model.sample(design, size=64, scale=0.5, seed=3)[0])
    again = scorer.sample(design, seed=3, scale=0.5, draws=64)
    np.testing.assert_array_equal(draw.propensity, again.propensity)
    assert draw.propensity.sum() == pytest.approx(1.0)
    assert draw.propensity[draw.margin.argmax()] >= 1 / 64


def test_propensity_is_the_probability_of_ranking_first() -> None:
    # Two unseen users' items with independent priors N(0, v): each ranks first half of the time.
    model = GLMix(Schema(label="y"), Fixed(intercept=False), [Random("item", prior=Prior(1.0))])
    model.partial_fit({"item": [0, 1, 2], "y": [0, 1, 1], "w": [1, 1, 1]})
    model.reset()
    draws = 20_000
    found = Scorer(model, "1").sample(served(model, {"item": [0, 1, 2]}), seed=1, draws=draws)
    np.testing.assert_allclose(found.propensity, 1 / 3, atol=5 * np.sqrt(2 / 9 / draws))


@pytest.mark.parametrize("options", [{"scale": -1.0}, {"scale": np.inf}, {"draws": 0}])
def test_draws_that_make_no_sense_are_refused(options: Any) -> None:
    model = MODELS["full"]()
    model.partial_fit(table(0, 20))
    with pytest.raises(ConfigError):
        Scorer(model, "1").sample(served(model, table(1, 2)), **options)


def test_intervals_and_explanations_are_the_models() -> None:
    model = MODELS["full"]()
    model.partial_fit(table(0, 60))
    design, scorer = served(model, table(1, 4)), Scorer(model, "1")
    np.testing.assert_array_equal(scorer.interval(design, level=0.8), model.interval(design, level=0.8))
    assert scorer.explain(design) == model.explain(design)
    assert scorer.sample(design.take(0, 0)).margin.shape == (0,)


def test_scoring_while_the_model_changes_sees_no_half_written_update() -> None:
    # Both coefficients are written together under the lock, so their sum is always even.
    model = GLMix(SCHEMA, Fixed(intercept=False), [Random("user", on=["a"])])
    model.partial_fit(table(0, 20, entities=1))
    scorer, stop = Scorer(model, "1"), threading.Event()
    design = served(model, {"user": [0] * 50, "a": [1.0] * 50, "o": [0.0] * 50, "t": [1.0] * 50})
    mean = model.blocks[1].mean

    def change() -> None:
        k = 0
        while not stop.is_set():
            k += 1
            with scorer.lock:
                mean[0, 0] = k
                mean[0, 1] = k
                scorer.refresh()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(300):
            z = scorer.score(design).margin
            assert z[0] % 2 == 0
            assert (z == z[0]).all()
    finally:
        stop.set()
        thread.join()
