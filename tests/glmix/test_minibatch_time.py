"""Forgetting in minibatch and event mode: specification, section 4.2; acceptance 8."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.glmix.minibatch_step_parts import NO_FIXED, SCHEMA, N, close, posterior, state, table, take

from nearline import Forgetting, GLMix, Numeric, Prior, Random, Schema

HALF_LIFE = Forgetting(half_life=30.0, form="stabilised")


def forgetful(mode: Any, link: str = "identity", forgetting: Forgetting = HALF_LIFE) -> GLMix:
    prior = Prior({"(intercept)": 2.0, "*": 0.5}, {"a": 0.3})
    user = Random("user", on=["a", "b"], prior=prior, posterior="full", forgetting=forgetting)
    return GLMix(SCHEMA, NO_FIXED, [user], link=link, mode=mode)


def test_forgetting_weighs_every_row_by_its_age() -> None:
    """Section 5.3: H = Λ0 + Σ_n w_n 2^(−age_n/τ) x_n x_nᵀ, ages counted back from the entity's newest row."""
    data = table(users=1)
    for mode in ("event", "minibatch"):
        model = forgetful(mode)
        model.partial_fit(data)
        weight = data["w"] * 2.0 ** ((data["t"] - data["t"].max()) / 30.0)
        X = np.column_stack([np.ones(N), data["a"], data["b"]])
        P = np.diag(1 / np.array([2.0, 0.5, 0.5])) + X.T @ (weight[:, None] * X)
        mu = np.linalg.solve(P, [0.0, 0.3 / 0.5, 0.0] + X.T @ (weight * (data["y"] - data["o"])))
        theta, V = posterior(model.blocks[1], 0)
        np.testing.assert_allclose(theta, mu, atol=1e-10)
        np.testing.assert_allclose(V, np.linalg.inv(P), atol=1e-10)


@settings(max_examples=15, deadline=None)
@given(
    order=st.permutations(range(24)),
    cuts=st.lists(st.integers(0, 24), max_size=4),
    mode=st.sampled_from(["event", "minibatch"]),
)
def test_late_rows_may_come_in_any_order(order: list[int], cuts: list[int], mode: Any) -> None:
    """Acceptance 8: linear loss, any arrival order and any batches, the same state to 1e-10."""
    data = table(n=24, users=2)
    straight, mixed = forgetful(mode), forgetful(mode)
    for model in (straight, mixed):
        model.design(data, learn=True)
    straight.partial_fit(data)
    shuffled = take(data, order)
    for start, stop in pairwise([0, *sorted(cuts), 24]):
        mixed.partial_fit(take(shuffled, slice(start, stop)))
    close(straight, mixed, 1e-10)
    np.testing.assert_array_equal(straight.blocks[1].last[:2], mixed.blocks[1].last[:2])


@pytest.mark.parametrize("form", ["reverting", "stabilised"])
def test_splitting_a_minibatch_at_equal_times_changes_nothing(form: Any) -> None:
    """Acceptance 8, linear: 1e-10."""
    data = table()
    data["t"] = np.repeat([0.0, 40.0, 90.0], N // 3)
    forgetting = Forgetting(half_life=30.0, form=form)
    whole, split = (forgetful("minibatch", forgetting=forgetting) for _ in range(2))
    for model in (whole, split):
        model.design(data, learn=True)
    for start in (0, 30, 60):
        whole.partial_fit(take(data, slice(start, start + 30)))
        for part in (slice(start, start + 11), slice(start + 11, start + 12), slice(start + 12, start + 30)):
            split.partial_fit(take(data, part))
    close(whole, split, 1e-10)


def test_splitting_a_logistic_minibatch_moves_the_mode_little() -> None:
    """Acceptance 8, logistic: 20 rows on a 20-row posterior, d = 10; median change at most 0.1 posterior sd."""
    columns = [f"x{j}" for j in range(9)]
    schema = Schema(label="y", time="t", columns={column: Numeric(0, 1) for column in columns})
    user = Random("user", on=columns, prior=Prior(1.0), forgetting=HALF_LIFE)
    changes = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        whole, split = (GLMix(schema, NO_FIXED, [user], mode="minibatch") for _ in range(2))
        rows: dict[str, Any] = {column: rng.normal(size=40) for column in columns}
        rows |= {"user": np.zeros(40, int), "y": rng.integers(0, 2, 40), "t": np.repeat([0.0, 10.0], 20)}
        for model in (whole, split):
            model.partial_fit(take(rows, slice(0, 20)))
        whole.partial_fit(take(rows, slice(20, 40)))
        split.partial_fit(take(rows, slice(20, 30)))
        split.partial_fit(take(rows, slice(30, 40)))
        theta, V = posterior(whole.blocks[1], 0)
        changes.append(np.abs(split.blocks[1].mean[0] - theta) / np.sqrt(np.diag(V)))
    assert 1e-6 < np.median(changes) <= 0.1


@pytest.mark.parametrize("form", ["reverting", "stabilised"])
@pytest.mark.parametrize("mode", ["event", "minibatch"])
def test_only_differences_of_time_matter(mode: Any, form: Any) -> None:
    """Events before 1970 are as good as any: an entity that was never updated has no time to be late against."""
    data = table()
    now, then = (forgetful(mode, forgetting=Forgetting(half_life=30.0, form=form)) for _ in range(2))
    now.partial_fit(data)
    then.partial_fit({**data, "t": data["t"] - 4096.0})
    close(now, then, 1e-9)


@pytest.mark.parametrize("form", ["reverting", "stabilised"])
def test_every_cycle_starts_from_the_relaxed_prior(form: Any) -> None:
    """One block: a second cycle solves the same problem again."""
    data = table()
    once, often = (forgetful("minibatch", forgetting=Forgetting(half_life=30.0, form=form)) for _ in range(2))
    for start in (0, 45):
        part = take(data, slice(start, start + 45))
        once.partial_fit(part)
        often.partial_fit(part, cycles=3)
    assert state(once) == state(often)


@pytest.mark.parametrize("form", ["reverting", "stabilised"])
def test_offsets_are_scores_as_of_now(form: Any) -> None:
    """Section 4.3: what another block knew has relaxed by the time of the batch, even before that block is solved."""
    forgetting = Forgetting(half_life=1.0, form=form)
    first, second = Random("user", prior=Prior(1.0)), Random("item", prior=Prior(1.0), forgetting=forgetting)
    model = GLMix(SCHEMA, NO_FIXED, [first, second], link="identity", mode="minibatch")
    rows = {"user": [1, 1], "item": [1, 2], "y": [3.0, 3.0], "t": [0.0, 0.0], "w": [1e6, 1e6], "o": [0.0, 0.0]}
    model.partial_fit(rows)
    model.blocks[1].mean[0], model.blocks[2].mean[0] = 0.0, 3.0
    # A thousand half-lives later item 1 is as good as new: a new user alone explains 2 of 2/(1 + 1), its offset is 0.
    model.partial_fit({"user": [2], "item": [1], "y": [2.0], "t": [1000.0], "w": [1.0], "o": [0.0]})
    assert float(model.blocks[1].mean[1, 0]) == pytest.approx(1.0, abs=1e-9)
    assert float(model.blocks[2].mean[0, 0]) == pytest.approx(0.5, abs=1e-9)


def test_an_entity_without_new_rows_is_not_touched() -> None:
    """Section 4.3: decay is applied lazily, at the next touch."""
    for mode in ("event", "minibatch"):
        model = forgetful(mode)
        data = table(users=2)
        model.partial_fit(data)
        mean, cov = (array[0].tobytes() for array in (model.blocks[1].mean, model.blocks[1].cov))
        later = take(data, data["user"] == 1 - data["user"][0])
        model.partial_fit({**later, "t": later["t"] + 1e6})
        assert model.blocks[1].mean[0].tobytes() == mean
        assert model.blocks[1].cov[0].tobytes() == cov


@pytest.mark.parametrize("mode", ["event", "minibatch"])
def test_random_walk_noise_is_added_up_to_the_prior(mode: Any) -> None:
    """docs/architecture.md: variance per event and per day, never above the prior's."""
    forgetting = Forgetting(walk_per_event={"(intercept)": 0.01}, walk_per_day={"*": 0.864})
    intercept = Random("user", prior=Prior(1.0), forgetting=forgetting)
    model = GLMix(SCHEMA, NO_FIXED, [intercept], link="identity", mode=mode)
    row = {"user": [1], "y": [0.0], "t": [0.0], "w": [9.0], "o": [0.0]}
    model.partial_fit(row)
    assert float(model.blocks[1].cov[0, 0]) == pytest.approx(0.1)
    # per_column: "(intercept)" has no walk per day of its own, so "*" holds: 0.864 a day is 0.00001 a second.
    model.partial_fit({**row, "t": [1000.0]})
    prior = 0.1 + 0.01 + 0.01
    assert float(model.blocks[1].cov[0, 0]) == pytest.approx(1 / (1 / prior + 9.0))
    model.partial_fit({**row, "t": [1e9]})
    assert float(model.blocks[1].cov[0, 0]) == pytest.approx(0.1)


@pytest.mark.parametrize("mode", ["event", "minibatch"])
def test_a_published_delta_forgets_per_update(mode: Any) -> None:
    """Section 4.3's numbers for a vanished feature: h = 100, λ = 1, δ = 0.8, θ = 1, five updates without it."""
    forgetting = Forgetting(form="per_update", delta=0.8)
    user = Random("user", on=["a", "b"], intercept=False, prior=Prior(1.0), posterior="full", forgetting=forgetting)
    model = GLMix(SCHEMA, NO_FIXED, [user], link="identity", mode=mode)
    row = {"user": [1], "a": [0.0], "b": [1.0], "y": [1.0], "t": [0.0], "w": [1.0], "o": [0.0]}
    model.partial_fit(row)
    block = model.blocks[1]
    block.mean[0], block.cov[0] = [1.0, 0.0], [0.01, 0.0, 1.0]
    found = []
    for _ in range(5):
        model.partial_fit(row)
        found.append((float(block.mean[0, 0]), 1 / float(block.cov[0, 0])))
    np.testing.assert_allclose([theta for theta, _ in found], [0.9975, 0.9944, 0.9906, 0.9858, 0.9799], atol=5e-5)
    np.testing.assert_allclose([h for _, h in found], [80.20, 64.36, 51.69, 41.55, 33.44], atol=5e-3)
