"""One contract for every model: effects × posterior × link × mode.

What holds for one kind of effect holds for all: nothing happens on an empty batch, the unseen scores with the prior,
the same input gives the same bits, an interruption changes nothing.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
from tests.glmix.contract_parts import (
    ROWS,
    Case,
    cases,
    covariance,
    every,
    every_effect,
    state,
    with_column,
)

from nearline import GLMix, Loadings
from nearline.glmix._codes import NEVER, PER_UPDATE
from nearline.glmix._effects import Effect, ForgettingForm, PosteriorKind
from nearline.glmix._fold import ornstein_uhlenbeck, stabilised, time_factor
from nearline.glmix._layout import entity_codes
from nearline.glmix._links import _LINKS
from nearline.glmix._model import Mode
from nearline.glmix._state import Block


def relaxed_mean(block: Block, code: int, time: float) -> np.ndarray:
    """Mean of an entity, forgotten by one of the reference folds up to a time; the prior's if it was never updated."""
    mu0, V0 = block.belief.mu0(block.columns), block.belief.V0(block.columns)
    if code < 0 or np.isnan(block.last[code]):
        return mu0
    theta, since, form = block.mean[code], max(time - block.last[code], 0.0), block.belief.forgetting.form
    V = covariance(block, code)
    if block.belief.form in (NEVER, PER_UPDATE):
        return theta  # a δ per update forgets when the update comes, not when it is scored
    factor = float(time_factor(since, block.belief.rate))
    if form == "reverting":
        return ornstein_uhlenbeck(theta, V, mu0, V0, factor)[0]
    return stabilised(theta, np.linalg.inv(V), mu0, np.linalg.inv(V0), factor)[0]


def by_hand(model: GLMix, data: pa.Table) -> np.ndarray:
    """offset + Σ_r zᵀ μ + Σ_l β_ofᵀ γ_l, from the stored means; the prior mean for entities never seen."""
    design, _ = model.design(data, learn=False)
    margin = design.offset.copy()
    for i in range(design.rows):
        row = design.take(i, i + 1)
        x = dict(zip(row.indices.tolist(), row.values.tolist()))
        theta = {block.name: relaxed_mean(block, entity_codes(block, row)[0], row.time[0]) for block in model.blocks}
        for block in model.blocks:
            if isinstance(block.effect, Loadings):
                margin[i] += theta[block.name] @ theta[block.effect.of]
            else:
                margin[i] += sum(m * x.get(slot, 0.0) for slot, m in zip(block.slots, theta[block.name]))
    return margin


@every
def test_scores_are_the_sum_of_all_effects(case: Case) -> None:
    model = case.model()
    assert model.partial_fit(case.table()).refused.size == 0
    data = case.table(seed=1, n=40)
    np.testing.assert_allclose(model.decision_function(data), by_hand(model, data), atol=1e-11)


@every
def test_an_empty_batch_changes_nothing(case: Case) -> None:
    model = case.model()
    model.partial_fit(case.table())
    before = state(model)
    learned = model.partial_fit(case.table().slice(0, 0))
    assert (learned.rows, learned.refused.size, learned.margin.size) == (0, 0, 0)
    assert state(model) == before
    assert model.decision_function(case.table().slice(0, 0)).size == 0
    assert model.sample(case.table().slice(0, 0), size=3).shape == (3, 0)


@every
def test_an_unseen_feature_scores_as_it_will_once_it_has_a_coefficient(case: Case) -> None:
    """Section 4.3: it contributes μ0 x, its variance σ0² x² enters exploration, and it is counted."""
    model = case.model(mean=0.7)
    model.partial_fit(case.table())
    before = state(model)
    data = case.table(seed=1, n=10)
    strange = with_column(with_column(data, "g", ["?", None] * 5), "tags", [["??", "???"]] * 10)
    design, _ = model.design(strange, learn=False)
    uses = {"fixed": [1, 0], "crossed": [0, 2], "parent": [1, 0], "loadings": [1, 0]}.get(case.effects, [1, 2])
    assert design.unseen == 10 * sum(uses)
    z, s = model._score(design, variances=True)
    assert state(model) == before
    known = with_column(strange, "user", np.zeros(10, int))
    grown, _ = model.design(with_column(known, "item", ["i0"] * 10), learn=True)
    assert grown.unseen == 0
    after, _ = model.design(strange, learn=False)
    assert after.unseen == 0
    z_after, s_after = model._score(after, variances=True)
    np.testing.assert_allclose(z, z_after, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(s, s_after, rtol=1e-9)


@every
def test_an_unseen_entity_scores_with_the_prior(case: Case) -> None:
    model = case.model()
    data = case.table(seed=1, n=8)
    columns = {"user": np.arange(8) + 10_000, "item": [f"new{i}" for i in range(8)], "campaign": np.arange(8) + 10_000}
    unseen = data
    for name, values in columns.items():
        unseen = with_column(unseen, name, values)
    model.partial_fit(case.table())
    before = state(model)
    z = model.decision_function(unseen)
    np.testing.assert_allclose(z, by_hand(model, unseen), atol=1e-12)
    assert state(model) == before
    s = model.progressive(unseen, variances=True, every=8).variance
    assert (s > 0).all()


@every
def test_the_same_rows_give_the_same_bits(case: Case) -> None:
    """Whatever the number of threads."""
    one, two = case.model(), case.model(threads=2)
    for model in (one, two):
        model.partial_fit(case.table())
        model.partial_fit(case.table(seed=1))
    assert state(one) == state(two)
    data = case.table(seed=2, n=30)
    assert one.decision_function(data).tobytes() == two.decision_function(data).tobytes()
    draws = [model.sample(data, size=2, seed=seed).tobytes() for model, seed in ((one, 5), (two, 5), (one, 6))]
    assert draws[0] == draws[1] != draws[2]


@every
def test_resuming_from_disk_equals_never_having_stopped(case: Case, tmp_path: Path) -> None:
    straight, stopped = case.model(), case.model()
    straight.partial_fit(case.table())
    stopped.partial_fit(case.table())
    stopped.save(tmp_path / "model")
    resumed = GLMix.load(tmp_path / "model")
    for model in (straight, resumed):
        model.partial_fit(case.table(seed=1, n=80))
    assert state(resumed) == state(straight)
    assert repr(resumed) == repr(straight)
    data = case.table(seed=2, n=30)
    assert resumed.decision_function(data).tobytes() == straight.decision_function(data).tobytes()


@every
def test_growth_leaves_predictions_as_they_are(case: Case) -> None:
    model = case.model()
    model.partial_fit(case.table())
    data = case.table(seed=1)
    known, _ = model.design(data, learn=False)
    z, s = model._score(known, variances=True)
    before = model.nbytes()
    model.design(case.table(seed=2, n=400), learn=True)
    assert model.nbytes() > before
    z_after, s_after = model._score(known, variances=True)
    np.testing.assert_allclose(z_after, z, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(s_after, s, rtol=1e-10)


@pytest.mark.parametrize("case", cases())
def test_single_precision_storage_is_near_double(case: Case) -> None:
    double, single = case.model(), case.model(dtype="float32")
    for model in (double, single):
        model.partial_fit(case.table())
    data = case.table(seed=1)
    np.testing.assert_allclose(single.decision_function(data), double.decision_function(data), atol=2e-4)
    assert single.nbytes() < 0.7 * double.nbytes()


@every
def test_a_margin_is_predicted_before_its_row_is_learned(case: Case) -> None:
    data = case.table(n=24)
    model, twin = case.model(), case.model()
    for each in (model, twin):
        each.design(data, learn=True)
    progress = model.progressive(data, every=7)
    margins = []
    for start in range(0, 24, 7):
        part = data.slice(start, 7)
        margins.append(twin.decision_function(part))
        if case.mode == "minibatch":
            twin.partial_fit(part)
        else:
            for row in range(part.num_rows):
                twin.partial_fit(part.slice(row, 1))
    np.testing.assert_allclose(progress.margin, np.concatenate(margins), rtol=1e-12, atol=1e-12)
    assert state(model) == state(twin)
    assert not progress.refused.any()


@pytest.mark.parametrize("case", cases(effects=["random", "loadings"], posterior=["full"], link=["logit"]))
def test_memory_reaches_a_plateau(case: Case) -> None:
    model = case.model()
    parts = [case.table(seed=seed) for seed in range(3)]
    for part in parts:
        model.partial_fit(part)
    held = model.nbytes()
    tracemalloc.start()
    try:
        first, second = _after(model, parts, 15), _after(model, parts, 15)
    finally:
        tracemalloc.stop()
    assert model.nbytes() == held
    # Caches may still fill, but not by two numbers for each of the rows learned and scored meanwhile.
    assert second - first < 16 * 15 * 3 * ROWS


def _after(model: GLMix, parts: Sequence[pa.Table], rounds: int) -> int:
    for part in list(parts) * rounds:
        model.partial_fit(part)
        model.decision_function(part)
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@every_effect
def test_a_fork_lives_its_own_life(case: Case) -> None:
    model = case.model()
    model.partial_fit(case.table())
    before, data = state(model), case.table(seed=2)
    z = model.decision_function(data)
    fork = model.fork()
    fork.partial_fit(case.table(seed=1, n=300))
    assert state(model) == before
    assert state(fork) != before
    # The vocabulary is shared: what only the fork has learned is still the prior's to the model.
    known = model.decision_function(data)
    assert np.isfinite(known).all()
    late, alone = case.table(seed=1, n=300).slice(280), case.model()
    alone.partial_fit(case.table())
    np.testing.assert_array_equal(model.decision_function(late), alone.decision_function(late))
    np.testing.assert_array_equal(known, z)
    model.partial_fit(late)
    assert np.isfinite(model.decision_function(late)).all()


def test_the_contract_covers_whatever_can_be_declared() -> None:
    found = [case.values[0] for case in cases()]
    blocks = [block for case in found for block in case.model().blocks]
    assert {case.link for case in found} == set(_LINKS)
    assert {case.mode for case in found} == set(get_args(Mode))
    assert {case.posterior for case in found} == set(get_args(PosteriorKind)) - {"auto"}
    assert {block.belief.forgetting.form for block in blocks} == set(get_args(ForgettingForm))
    assert {type(block.effect) for block in blocks} == set(get_args(Effect))
