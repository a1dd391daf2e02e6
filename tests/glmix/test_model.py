"""GLMix as a whole: edge cases of the specification's section 4.3, designs, tables, what is inside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.glmix.model_parts import NO_FIXED, SCHEMA_F, rows_of

from nearline import ConfigError, DataError, Fixed, GLMix, Numeric, Prior, Random, Schema
from nearline.glmix import _state
from nearline.glmix._codes import DIAGONAL, FULL, LOWRANK


@pytest.mark.parametrize("posterior", ["full", "diagonal"])
def test_a_feature_new_to_an_entity_is_at_its_base_prior(posterior: Any) -> None:
    prior = Prior({"g": 0.6, "*": 1.0}, {"g": 0.2})
    model = GLMix(Schema("y"), NO_FIXED, [Random("user", on=["g"], prior=prior, posterior=posterior)])
    model.partial_fit({"user": [1, 1, 1], "g": ["old", "old", None], "y": [1, 1, 0]})
    before = {c.name: c for c in model.coefficients("user", 1)}
    model.partial_fit({"user": [2], "g": ["new"], "y": [1]})
    after = {c.name: c for c in model.coefficients("user", 1)}
    assert {name: after[name] for name in before} == before
    assert (after["g=new"].mean, after["g=new"].sd) == (0.2, pytest.approx(np.sqrt(0.6)))
    other = {c.name: c for c in model.coefficients("user", 2)}
    assert (other["g=old"].mean, other["g=old"].sd) == (0.2, pytest.approx(np.sqrt(0.6)))
    assert other["g=new"].mean > 0.2


def test_a_new_entity_is_at_the_learned_prior() -> None:
    model = GLMix(Schema("y"), NO_FIXED, [Random("user", prior=Prior(1.0))])
    model.partial_fit({"user": np.arange(100) % 60, "y": np.ones(100, int)})
    belief = model.refresh_priors()["user"]
    assert belief.mean is not None
    assert float(belief.mean[0]) > 0.1
    assert model.decision_function({"user": [999]}).tolist() == belief.mean.tolist()
    model.design({"user": [999], "y": [1]}, learn=True)
    assert model.decision_function({"user": [999]}).tolist() == belief.mean.tolist()


def test_an_intercept_is_penalised_by_choice_offline_and_online_alike() -> None:
    """Section 4.3 and section 10, defect 10: the prior of "(intercept)" is each block's own."""
    rng = np.random.default_rng(0)
    data = {"y": 3.0 + rng.normal(size=50), "x0": rng.normal(size=50)}
    schema = Schema("y", columns={"x0": Numeric(0, 1)})
    means = {}
    for name, variance in {"free": 1e8, "penalised": 0.01}.items():
        fixed = Fixed("x0", prior=Prior({"(intercept)": variance, "*": 1e8}))
        for mode in ("event", "minibatch", "batch"):
            model = GLMix(schema, fixed, link="identity")
            model.fit(data) if mode == "batch" else model.partial_fit(data, mode=mode)  # type: ignore[arg-type]
            means[name, mode] = model.block("fixed").mean[0].copy()
    X = np.column_stack([np.ones(50), data["x0"]])
    for mode in ("event", "minibatch", "batch"):
        np.testing.assert_allclose(means["free", mode], np.linalg.lstsq(X, data["y"])[0], atol=1e-6)
        np.testing.assert_allclose(means["penalised", mode], means["penalised", "batch"], atol=1e-8)
        assert 0.5 < means["penalised", mode][0] < 2.0


@pytest.mark.parametrize("mode", ["event", "minibatch"])
def test_offsets_come_from_the_current_versions_of_the_other_blocks(mode: Any) -> None:
    """Section 4.3: a new fixed effect is at once what users deviate from; no logged score is trusted."""
    fixed, user = Fixed(prior=Prior(1e-12)), Random("user", prior=Prior(1.0))
    model = GLMix(SCHEMA_F, fixed, [user], link="identity", mode=mode)
    rows = {"user": [1], "y": [3.0], "w": [1.0], "o": [0.5], "t": [0.0]}
    model.design(rows, learn=True)
    model.block("fixed").mean[0] = 2.0
    model.partial_fit(rows)
    assert float(model.block("user").mean[0, 0]) == pytest.approx(0.25, abs=1e-9)
    model.block("fixed").mean[0] = 0.0
    model.partial_fit({**rows, "user": [2]})
    assert float(model.block("user").mean[1, 0]) == pytest.approx(1.25, abs=1e-9)


def test_an_intercept_is_not_a_column_of_the_table() -> None:
    """Section 4.3 and section 10, defect 11: an explicit intercept feature would count twice."""
    with pytest.raises(ConfigError, match=r"'\(intercept\)' is no column"):
        Random("user", on=["(intercept)"])


def test_a_score_of_a_missing_value_is_that_of_its_absence() -> None:
    model = GLMix(Schema("y", columns={"x0": Numeric(0, 1)}), Fixed("x0"))
    model.partial_fit({"x0": [1.0, -1.0], "y": [1, 0]})
    z = model.decision_function({"x0": [None, 0.0]})
    assert z[0] == z[1]
    # Once values are missing in what is learned, missing has a coefficient of its own.
    model.partial_fit({"x0": [None, None], "y": [1, 1]})
    assert model.decision_function({"x0": [None]})[0] > model.decision_function({"x0": [0.0]})[0]


SIMPLE = Schema("y", weight="w", columns={"x0": Numeric(0, 1)})


def simple() -> GLMix:
    return GLMix(SIMPLE, Fixed("x0", "g"), [Random("user")])


def test_a_design_serves_for_its_table() -> None:
    by_table, by_design = simple(), simple()
    table = pa.table(rows_of())
    by_table.partial_fit(table)
    design, rejects = by_design.design(table, learn=True)
    assert rejects.rows.size == 0
    assert by_design.partial_fit(design).rows == 30
    np.testing.assert_array_equal(by_table.decision_function(table), by_design.decision_function(design))
    np.testing.assert_array_equal(by_table.predict_proba(table), by_design.predict_proba(design.take(0, 30)))
    by_table.partial_fit(table.slice(7, 5))
    by_design.partial_fit(design.take(7, 12))
    for one, two in zip(by_table.blocks, by_design.blocks):
        assert one.mean.tobytes() == two.mean.tobytes()


def test_a_design_that_does_not_belong_is_refused() -> None:
    """Kernels read by address: an entity or a slot that is not there must not reach them."""
    model, small = simple(), simple()
    design, _ = model.design(rows_of(), learn=True)
    small.design({name: column[:1] for name, column in rows_of().items()}, learn=True)
    for verb in (small.partial_fit, small.decision_function, small.fit, small.sample, small.explain):
        with pytest.raises(DataError, match="made by another model"):
            verb(design)
    with pytest.raises(DataError, match="made by another model"):
        GLMix(SIMPLE, Fixed("x0"), [Random("item")]).decision_function(design)
    scoring, _ = model.design({**rows_of(), "user": np.arange(30)}, learn=False)
    assert model.decision_function(scoring).shape == (30,)
    for learn in (model.partial_fit, model.fit, model.progressive, model.learn_priors):
        with pytest.raises(DataError, match="without a label or an entity"):
            learn(scoring)
    unlabelled, _ = model.design({name: column for name, column in rows_of().items() if name != "y"}, learn=False)
    with pytest.raises(DataError, match="without a label or an entity"):
        model.partial_fit(unlabelled)


def test_a_fork_that_fell_behind_its_vocabulary_learns_designs_of_it() -> None:
    model = simple()
    model.partial_fit(rows_of())
    fork = model.fork()
    design, _ = model.design({**rows_of(seed=1), "user": np.arange(30) + 50, "g": ["later"] * 30}, learn=True)
    assert np.isfinite(fork.decision_function(design)).all()
    assert fork.partial_fit(design).rows == 30
    model.partial_fit(design)
    for one, two in zip(fork.blocks, model.blocks):
        assert one.mean[: one.entities].tobytes() == two.mean[: two.entities].tobytes()


def test_bad_rows_raise_and_nothing_is_learned_or_are_put_aside() -> None:
    model, good = simple(), simple()
    rows = rows_of()
    rows["y"][4] = 3
    rows["x0"][9] = np.inf
    before = model.block("fixed").mean.tobytes()
    with pytest.raises(DataError, match="column 'y', row 4: label is 3"):
        model.partial_fit(rows)
    assert model.block("fixed").mean.tobytes() == before
    assert model.block("user").entities == 0
    learned = model.partial_fit(rows, divert=True)
    assert (learned.rows, learned.rejects.rows.tolist(), learned.margin.shape) == (28, [4, 9], (28,))
    kept = np.delete(np.arange(30), [4, 9])
    good.partial_fit({name: np.asarray(column)[kept] for name, column in rows.items()})
    np.testing.assert_array_equal(good.block("fixed").mean[0], model.block("fixed").mean[0])


def test_what_is_inside() -> None:
    model = simple()
    assert repr(model) == "GLMix(link='logit', fixed: 1 × 1, user: 0 × 1)"
    model.partial_fit(rows_of())
    assert repr(model) == "GLMix(link='logit', fixed: 1 × 5, user: 4 × 1)"
    assert model.nbytes() == 8 * (5 + 15) + 12 + 4 * (8 * 2 + 12)
    assert [block.name for block in model.blocks] == ["fixed", "user"]
    with pytest.raises(ConfigError, match="no effect is named 'item'; this model has"):
        model.block("item")


def test_reset_forgets_what_was_learned() -> None:
    model, fresh = simple(), simple()
    model.partial_fit(rows_of())
    model.reset()
    fresh.design(rows_of(), learn=True)
    assert model.events_learned == 0
    for one, two in zip(model.blocks, fresh.blocks):
        n = one.entities
        assert one.mean[:n].tobytes() == two.mean[:n].tobytes()
        assert one.cov[:n].tobytes() == two.cov[:n].tobytes()
        assert np.isnan(one.last[:n]).all()


def test_wide_effects_keep_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """`posterior="auto"`: full, then low rank, then variances alone; no score moves when the form changes."""
    monkeypatch.setattr(_state, "FULL_RANDOM", 20)
    monkeypatch.setattr(_state, "LOWRANK_MOST", 40)
    model = GLMix(Schema("y"), NO_FIXED, [Random("user", on=["g"])])
    few = {"user": [1] * 20, "g": [f"g{k % 9}" for k in range(20)], "y": [1] * 20}
    model.partial_fit(few)
    block, kinds = model.block("user"), []
    z, known = model.decision_function(few), model.coefficients("user", 1)
    for levels in (10, 20, 30):
        kinds.append((block.kind, block.d))
        model.partial_fit({"user": [2] * levels, "g": [f"h{levels}-{k}" for k in range(levels)], "y": [1] * levels})
        np.testing.assert_allclose(model.decision_function(few), z, rtol=1e-12)
        after = model.coefficients("user", 1)[:10]
        np.testing.assert_allclose([c.sd for c in after], [c.sd for c in known], rtol=1e-9)
    assert [*kinds, (block.kind, block.d)] == [(FULL, 10), (FULL, 20), (LOWRANK, 40), (DIAGONAL, 70)]
    assert block.cov_size == 70
