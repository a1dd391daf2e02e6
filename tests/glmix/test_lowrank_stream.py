"""Compressed streams: resumed, cut, grown, refused and drawn from as any other posterior."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.glmix.lowrank_model_parts import FORGETTING, SCHEMA, model, table

from nearline import Fixed, Forgetting, GLMix, Loadings, Random
from nearline.glmix._codes import LOWRANK


def state(fitted: GLMix) -> list[bytes]:
    return [a[: b.entities].tobytes() for b in fitted.blocks for a in (b.mean, b.cov, b.last, b.counts)]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_compressed_stream_resumes_from_disk_to_the_bit(dtype: Any, tmp_path: Path) -> None:
    """Rank 4 over 120 events: compression happens many times before and after."""
    straight, stopped = (model("lowrank", 4, Forgetting(half_life=3600.0), dtype=dtype) for _ in range(2))
    straight.partial_fit(table(1))
    stopped.partial_fit(table(1))
    resumed = GLMix.load(stopped.save(tmp_path / "model"))
    fork = straight.fork()
    for each in (straight, resumed):
        each.partial_fit(table(2, levels=30))
    assert state(resumed) == state(straight) != state(fork)
    fork.partial_fit(table(2, levels=30))
    assert state(fork) == state(straight)
    assert resumed.block("user").kind == LOWRANK


def test_splitting_a_stream_and_threads_change_no_bit() -> None:
    whole, pieces = model("lowrank", 4), model("lowrank", 4, threads=2)
    data = table(1, n=100)
    whole.partial_fit(data)
    for start in (0, 1, 40, 77):
        pieces.partial_fit(data.slice(start, {0: 1, 1: 39, 40: 37, 77: 23}[start]))
    assert state(pieces) == state(whole)
    for each in (whole, pieces):
        each.partial_fit(table(2), mode="minibatch")
    assert state(pieces) == state(whole)
    assert pieces.decision_function(data).tobytes() == whole.decision_function(data).tobytes()


def test_growth_changes_no_prediction() -> None:
    wide = model("lowrank", 4)
    wide.partial_fit(table(1))
    known, _ = wide.design(table(2), learn=False)
    before = wide._score(known, variances=True)
    wide.design(table(3, levels=90, users=9), learn=True)
    np.testing.assert_array_equal(wide._score(known, variances=True), before)


def test_scoring_after_days_leaves_the_posterior_as_it_is() -> None:
    wide = model("lowrank", 4, FORGETTING["walking and stabilised"])
    wide.partial_fit(table(1))
    before = state(wide)
    later = table(50)
    wide.decision_function(later)
    wide.interval(later)
    wide.explain(later.slice(0, 2))
    wide.sample(later, size=2)
    assert state(wide) == before


def test_a_refused_row_changes_nothing() -> None:
    """A feature whose square overflows, among good rows; a batch that has it is refused as a whole (fixed effect)."""
    data = table(1, link="log").to_pydict()
    bad = {name: [*values[:30], values[30], *values[30:]] for name, values in data.items()}
    bad["x"][30], bad["tags"][30] = 1e200, []
    clean, dirty = (model("lowrank", 4, Forgetting(half_life=3600.0), link="log") for _ in range(2))
    clean.partial_fit(data)
    assert dirty.partial_fit(bad).refused.tolist() == [30]
    assert state(dirty) == state(clean)
    assert len(dirty.partial_fit(bad, mode="minibatch").refused) == len(bad["x"])
    assert state(dirty) == state(clean)


def test_an_unseen_entity_stands_at_the_prior() -> None:
    wide = model("lowrank", 4)
    wide.partial_fit(table(1))
    new = pa.table({**table(2, n=5).to_pydict(), "user": [99] * 5})
    z, s = wide._score(new, variances=True)
    fresh = model("lowrank", 4)
    fresh.design(table(1), learn=True)
    own = fresh.block("user")
    fixed = wide.fork()
    fixed.block("user").reset()
    np.testing.assert_allclose(fixed._score(pa.table({**new.to_pydict(), "user": [1] * 5}), variances=True), [z, s])
    assert own.cov[0].tolist() == wide.block("user").prior_arrays()[1].tolist()


def test_draws_have_the_posteriors_moments() -> None:
    wide = model("lowrank", 4)
    wide.partial_fit(table(1, n=200))
    data = table(2, n=3)
    z, s = wide._score(data, variances=True)
    draws = wide.sample(data, size=4000, seed=3)
    np.testing.assert_allclose(draws.mean(axis=0), z, atol=4 * np.sqrt(s.max() / 4000))
    np.testing.assert_allclose(draws.var(axis=0), s, rtol=0.12)
    np.testing.assert_allclose(wide.sample(data, size=2, scale=0.0), [z, z], rtol=1e-12)


def test_loadings_may_act_on_low_rank_coefficients() -> None:
    def loaded(posterior: Any) -> GLMix:
        users = Random("user", on=["tags"], posterior=posterior, rank=300)
        return GLMix(SCHEMA, Fixed("x"), [users, Loadings("item", of="user")])

    full, wide = loaded("full"), loaded("lowrank")
    data, later = table(1), table(2)
    np.testing.assert_allclose(wide.partial_fit(data).margin, full.partial_fit(data).margin, atol=1e-10)
    for each in (full, wide):
        each.partial_fit(later, mode="minibatch")
    np.testing.assert_allclose(wide._score(data, variances=True), full._score(data, variances=True), atol=1e-7)
