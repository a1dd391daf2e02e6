"""One contract for every model: effects × posterior × link × mode.

What holds for one kind of effect holds for all: nothing happens on an empty batch, the unseen scores with the prior,
the same input gives the same bits, an interruption changes nothing, weights and offsets mean what they say.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline import Fixed, Forgetting, GLMix, Loadings, Numeric, Prior, Random, Schema
from nearline.glmix import _lowrank
from nearline.glmix._codes import DIAGONAL, LOWRANK, NEVER, PER_UPDATE
from nearline.glmix._fold import ornstein_uhlenbeck, stabilised, time_factor
from nearline.glmix._layout import entity_codes
from nearline.glmix._packed import unpack
from nearline.glmix._state import Block

SCHEMA = Schema(label="y", time="t", weight="w", offset="o", columns={"x": Numeric(0, 1)})
EFFECTS = ("fixed", "random", "parent", "crossed", "loadings", "reverting", "stabilised")
POSTERIORS = ("full", "diagonal", "lowrank")
ROWS = 72


@dataclass(frozen=True)
class Case:
    effects: str
    posterior: Any
    link: str
    mode: Any

    def model(self, *, mean: float = 0.2, **options: Any) -> GLMix:
        fixed, random = _effects(self.effects, self.posterior, mean)
        return GLMix(SCHEMA, fixed, random, link=self.link, mode=self.mode, **options)

    def table(self, seed: int = 0, n: int = ROWS) -> pa.Table:
        return table(self.link, seed, n)


def _effects(kind: str, posterior: Any, mean: float) -> tuple[Fixed, list[Random | Loadings]]:
    prior = Prior(variance=0.5, mean={"(intercept)": mean})
    # A loading acts on the coefficients of all levels, those that are yet to be seen included: their mean must be 0.
    own = Prior(
        variance={"(intercept)": 0.6, "*": 0.3}, mean={} if kind == "loadings" else {"(intercept)": 0.0, "*": 0.1}
    )
    shared: dict[str, Any] = {"prior": own, "posterior": posterior}
    if kind == "fixed":
        return Fixed("x", "g", prior=prior, posterior=posterior), []
    fixed = Fixed("x", prior=prior, posterior=posterior)
    if kind == "random":
        return fixed, [Random("user", on=["x", "g", "tags"], **shared)]
    if kind == "parent":
        return fixed, [Random("item", on=["g"], parent="campaign", **shared)]
    if kind == "crossed":
        return fixed, [Random("user", on=["tags"], **shared), Random(("user", "item"), on=["x"], **shared)]
    if kind == "loadings":
        loadings = Loadings("item", of="user", prior=Prior(variance=0.05))
        return fixed, [Random("user", on=["g"], **shared), Random("item", on=["x"], **shared), loadings]
    walks: dict[str, Any] = {"walk_per_day": {"*": 0.5}, "walk_per_event": {"(intercept)": 0.01}}
    if kind == "reverting":
        slow, fast = Forgetting(half_life=36000.0), Forgetting(half_life=3600.0, **walks)
    else:
        slow, fast = Forgetting(half_life=7200.0, form="stabilised", **walks), Forgetting(form="per_update", delta=0.95)
    return Fixed("x", prior=prior, posterior=posterior, forgetting=slow), [
        Random("user", on=["g"], forgetting=fast, **shared),
        Random("item", on=["x", "tags"], forgetting=slow, **shared),
    ]


def table(link: str, seed: int, n: int) -> pa.Table:
    """Rows in time order, whose levels and entities keep appearing until the end."""
    rng = np.random.default_rng(seed)
    known = 2 + np.arange(n) // 12
    user, item, level = (rng.integers(0, known) for _ in range(3))
    eta = rng.normal(size=n)
    labels = {"logit": rng.random(n) < 0.5, "identity": eta, "log": rng.poisson(np.exp(0.5 * eta))}
    columns = {
        "user": user,
        "item": [f"i{i}" for i in item],
        "campaign": item // 3,
        "x": rng.normal(size=n),
        "g": [f"g{i}" for i in level],
        "tags": [[f"t{i}" for i in rng.choice(3 + i // 2, size=rng.integers(0, 3), replace=False)] for i in level],
        "y": labels[link].astype(float),
        "t": 1e9 + np.cumsum(rng.exponential(300.0, n)),
        "w": rng.choice([0.5, 1.0, 2.0], n),
        "o": rng.normal(scale=0.3, size=n),
    }
    return pa.table(columns)


def with_column(data: pa.Table, name: str, values: Any) -> pa.Table:
    return data.set_column(data.schema.get_field_index(name), name, pa.array(values))


def state(model: GLMix) -> list[bytes]:
    """Every number a model has learned, to the bit."""
    arrays = [(b.mean, b.cov, b.last, b.counts) for b in model.blocks]
    return [a[: b.entities].tobytes() for b, four in zip(model.blocks, arrays) for a in four]


def numbers(model: GLMix) -> np.ndarray:
    """Means and covariances in one vector."""
    parts = [covariance(b, code).ravel() for b in model.blocks for code in range(b.entities)]
    return np.concatenate([*(b.mean[: b.entities].ravel() for b in model.blocks), *parts]).astype(np.float64)


def cases(**fixed: Any) -> list[Any]:
    out = []
    for effects in fixed.get("effects", EFFECTS):
        for posterior in fixed.get("posterior", POSTERIORS):
            for link in fixed.get("link", ("logit", "identity", "log")):
                for mode in fixed.get("mode", ("event", "minibatch")):
                    name = f"{effects}-{posterior}-{link}-{mode}"
                    out.append(pytest.param(Case(effects, posterior, link, mode), id=name))
    return out


every = pytest.mark.parametrize("case", cases())
every_effect = pytest.mark.parametrize("case", cases(posterior=["full"], link=["logit"]))
event_only = pytest.mark.parametrize("case", cases(mode=["event"]))


def covariance(block: Block, code: int) -> np.ndarray:
    if block.kind == LOWRANK:
        return np.linalg.inv(_lowrank.unpack(block.cov[code], block.d, block.kmax).precision())
    return np.diag(block.cov[code]) if block.kind == DIAGONAL else unpack(block.cov[code])


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


def in_pieces(model: GLMix, data: pa.Table, cuts: Sequence[int]) -> np.ndarray:
    parts = [data.slice(start, stop - start) for start, stop in pairwise([0, *cuts, data.num_rows])]
    return np.concatenate([model.partial_fit(part).margin for part in parts])


def meet_levels(case: Case, *models: GLMix) -> None:
    """Let models meet all levels, on rows of other entities."""
    others = case.table()
    for name in ("user", "item", "campaign"):
        others = with_column(others, name, np.zeros(ROWS, int) if name != "item" else ["i0"] * ROWS)
    for model in models:
        model.design(others, learn=True)


@event_only
def test_splitting_a_table_changes_no_bit(case: Case) -> None:
    """Entities may appear at any time."""
    whole, pieces = case.model(), case.model()
    meet_levels(case, whole, pieces)
    margin = whole.partial_fit(case.table()).margin
    assert in_pieces(pieces, case.table(), [1, 2, 19, 40]).tobytes() == margin.tobytes()
    assert state(pieces) == state(whole)


@settings(max_examples=12, deadline=None)
@given(
    cuts=st.lists(st.integers(0, ROWS), max_size=6).map(sorted),
    effects=st.sampled_from(EFFECTS),
    posterior=st.sampled_from(POSTERIORS),
)
def test_splitting_anywhere_changes_no_bit(cuts: list[int], effects: str, posterior: str) -> None:
    case = Case(effects, posterior, "logit", "event")
    whole, pieces = case.model(), case.model()
    meet_levels(case, whole, pieces)
    whole.partial_fit(case.table())
    in_pieces(pieces, case.table(), cuts)
    assert state(pieces) == state(whole)


@event_only
def test_levels_that_appear_mid_stream_change_no_bit(case: Case) -> None:
    """What a level will be called matters to no row before it, though its dimension is there from the table's start."""
    whole, pieces = case.model(), case.model()
    margin = whole.partial_fit(case.table()).margin
    assert in_pieces(pieces, case.table(), [1, 2, 19, 40]).tobytes() == margin.tobytes()
    assert state(pieces) == state(whole)
    assert [(block.d, block.entities) for block in pieces.blocks] == [(b.d, b.entities) for b in whole.blocks]


def wide_table(seed: int, n: int, wide: int) -> pa.Table:
    """Rows whose levels and entities keep appearing, up to about `wide` levels per column."""
    rng = np.random.default_rng(seed)
    known = 1 + (wide * np.arange(n)) // n
    level, user, item = (rng.integers(0, known) for _ in range(3))
    tags = [[f"t{i}" for i in rng.integers(0, k, size=rng.integers(0, 6))] for k in known]
    columns = {
        "user": user // 3,
        "item": [f"i{i // 2}" for i in item],
        "campaign": item // 6,
        "x": rng.normal(size=n),
        "g": [f"g{i}" for i in level],
        "tags": tags,
        "y": (rng.random(n) < 0.5).astype(float),
        "t": 1e9 + np.cumsum(rng.exponential(300.0, n)),
        "w": rng.choice([0.5, 1.0, 2.0], n),
        "o": rng.normal(scale=0.3, size=n),
    }
    return pa.table(columns)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    wide=st.integers(1, 24),
    cuts=st.lists(st.integers(0, 150), max_size=6).map(sorted),
    effects=st.sampled_from(EFFECTS),
    posterior=st.sampled_from(POSTERIORS),
    dtype=st.sampled_from(["float64", "float32"]),
)
def test_any_cutting_of_any_stream_gives_the_same_bits(
    seed: int, wide: int, cuts: list[int], effects: str, posterior: str, dtype: Any
) -> None:
    """New levels and entities mid-stream included: appended dimensions decide the rounding of no other one."""
    case, data = Case(effects, posterior, "logit", "event"), wide_table(seed, 150, wide)
    whole, pieces = case.model(dtype=dtype), case.model(dtype=dtype)
    margin = whole.partial_fit(data).margin
    assert np.array_equal(in_pieces(pieces, data, cuts), margin)
    for one, other in zip(whole.blocks, pieces.blocks):
        n = one.entities
        assert (one.d, n) == (other.d, other.entities)
        for array in ("mean", "cov", "counts", "last"):
            assert np.array_equal(getattr(one, array)[:n], getattr(other, array)[:n], equal_nan=True), array


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


@every
def test_a_row_of_weight_zero_is_no_row(case: Case) -> None:
    data = case.table()
    ghosts = with_column(with_column(data, "w", np.zeros(ROWS)), "y", np.ones(ROWS))
    ghosts = with_column(ghosts, "t", pc.add(data["t"], 5000.0))
    both = pa.concat_tables([data, ghosts]).take(np.arange(2 * ROWS).reshape(2, -1).T.ravel())
    plain, haunted = case.model(), case.model()
    plain.partial_fit(data)
    learned = haunted.partial_fit(both)
    assert learned.rows == ROWS
    assert state(haunted) == state(plain)


@pytest.mark.parametrize("case", cases(mode=["minibatch"], effects=EFFECTS[:-2]))
def test_weight_k_equals_k_copies_in_a_minibatch(case: Case) -> None:
    """Section 4.3: mean and precision, for every loss."""
    data, weight = case.table(), np.random.default_rng(3).integers(1, 4, ROWS)
    once, copies = case.model(), case.model()
    once.partial_fit(with_column(data, "w", weight.astype(float)))
    copies.partial_fit(with_column(data, "w", np.ones(ROWS)).take(np.repeat(np.arange(ROWS), weight)))
    np.testing.assert_allclose(numbers(once), numbers(copies), rtol=1e-9, atol=1e-10)


def test_weight_k_equals_k_copies_of_an_event_under_the_identity_link() -> None:
    """One block: otherwise every event drops the cross-block covariance that the one before has made."""
    case = Case("fixed", "full", "identity", "event")
    data, weight = case.table(), np.random.default_rng(3).integers(1, 4, ROWS)
    once, copies = case.model(), case.model()
    once.partial_fit(with_column(data, "w", weight.astype(float)))
    copies.partial_fit(with_column(data, "w", np.ones(ROWS)).take(np.repeat(np.arange(ROWS), weight)))
    np.testing.assert_allclose(numbers(once), numbers(copies), rtol=1e-11, atol=1e-12)


@every
def test_an_offset_is_a_coefficient_known_in_advance(case: Case) -> None:
    """Adding 1 to every offset is adding 1 to the prior mean of the fixed intercept: same steps, same scores."""
    shifted, mean = case.model(mean=-0.8), case.model(mean=0.2)
    data = case.table()
    moved = with_column(data, "o", pc.add(data["o"], 1.0))
    a, b = shifted.partial_fit(moved), mean.partial_fit(data)
    test = case.table(seed=1)
    z = mean.decision_function(test)
    np.testing.assert_allclose(shifted.decision_function(with_column(test, "o", pc.add(test["o"], 1.0))), z, atol=1e-9)
    if case.mode == "event":
        np.testing.assert_allclose(a.margin, b.margin, atol=1e-9)
    raised = with_column(test, "o", pc.add(test["o"], 2.0))
    np.testing.assert_allclose(mean.decision_function(raised), z + 2.0, atol=1e-12)


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


def test_the_contract_covers_every_case() -> None:
    assert len(cases()) == len(EFFECTS) * len(POSTERIORS) * 3 * 2
