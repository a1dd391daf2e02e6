"""Letting go: V ← V + share (V0 − V) about the mean, for every kind of posterior; what is left of old events."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline import Fixed, GLMix, Random, Schema
from nearline.glmix import _lowrank as lowrank
from nearline.glmix import loosen, touched_by, weight_left
from nearline.glmix._packed import unpack

KINDS = ("full", "diagonal", "lowrank")


def taught(kind: Any, seed: int = 0, link: Any = "logit", dtype: Any = "float64") -> GLMix:
    rng = np.random.default_rng(seed)
    n = 400
    data = {"user": rng.integers(0, 5, n), "a": rng.normal(size=n), "b": rng.normal(size=n), "y": rng.integers(0, 2, n)}
    model = GLMix(
        Schema(label="y"), Fixed("a"), [Random("user", on=["a", "b"], posterior=kind)], link=link, dtype=dtype
    )
    model.partial_fit(data)
    return model


def covariance(block: Any, code: int) -> np.ndarray:
    row = block.cov[code].astype(np.float64)
    if block.effect.name == "fixed" or block.effect.posterior == "full":
        return np.asarray(unpack(row))
    if block.effect.posterior == "diagonal":
        return np.diag(row)
    return np.linalg.inv(lowrank.unpack(row, block.d, block.kmax).precision())


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=5, deadline=None)
@given(share=st.floats(0.01, 1.0), seed=st.integers(0, 1000))
def test_it_is_the_equation(kind: str, share: float, seed: int) -> None:
    model = taught(kind, seed)
    block = model.block("user")
    before = [covariance(block, code) for code in range(5)]
    mean, last, counts = block.mean.copy(), block.last.copy(), block.counts.copy()
    loosen(block, np.array([1, 3]), share)
    V0 = block.belief.V0(block.columns)
    for code in range(5):
        wanted = before[code] + share * (V0 - before[code]) if code in (1, 3) else before[code]
        assert covariance(block, code) == pytest.approx(wanted, abs=1e-9)
        beyond = np.linalg.eigvalsh(V0 - covariance(block, code)).min()
        assert beyond > -1e-9
    assert (block.mean == mean).all()
    assert (block.counts == counts).all()
    assert np.array_equal(block.last, last, equal_nan=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_share_is_the_covariance_of_a_new_entity(kind: str) -> None:
    model = taught(kind, dtype="float32")
    block = model.block("user")
    loosen(block, np.arange(5), 1.0)
    block.grow_entities(6)
    assert (block.cov[:5] == block.cov[5]).all()


def test_it_learns_a_changed_world_faster() -> None:
    rng, model = np.random.default_rng(0), taught("full")
    user = rng.integers(0, 5, 4_000)
    before, after = rng.normal(0, 1, 5), rng.normal(0, 1, 5)
    losses = {}
    for world in (before, after):
        p = 1 / (1 + np.exp(-world[user]))
        data = {"user": user, "a": 0 * user, "b": 0 * user, "y": (rng.random(4_000) < p).astype(int)}
        if world is before:
            model.partial_fit(data)
    for name in ("stays sure", "lets go"):
        twin = model.fork()
        if name == "lets go":
            loosen(twin.block("user"), np.arange(5), 1.0)
        z = twin.progressive({k: v[:500] for k, v in data.items()}).margin
        losses[name] = float(
            (np.logaddexp(0, z) - p[:500] * z).mean()
            - (np.logaddexp(0, after[user[:500]]) - p[:500] * after[user[:500]]).mean()
        )
    assert losses["lets go"] < 0.4 * losses["stays sure"]


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_of_an_old_event_is_its_variance_over_that_of_now(kind: str, share: float) -> None:
    model = taught(kind)
    rows = {"user": [0, 3], "a": [0.7, -1.0], "b": [2.0, 0.1], "y": [1, 0]}
    design, _ = model.design(rows, learn=True)
    s = model.fork().progressive(design, variances=True, every=2).variance
    left = weight_left(model.blocks, model.encoder.n_slots, design, s, share)
    touched = touched_by(design, model.blocks)
    for block in model.blocks:
        loosen(block, touched[block.name], share)
    now = model.fork().progressive(design, variances=True, every=2).variance
    assert left == pytest.approx(s / now, rel=1e-9)


def test_a_variance_that_nobody_knows_leaves_what_was_not_let_go() -> None:
    model = taught("full")
    design, _ = model.design({"user": [0], "a": [1.0], "b": [1.0], "y": [1]}, learn=True)
    assert weight_left(model.blocks, model.encoder.n_slots, design, np.array([np.nan]), 0.75).tolist() == [0.25]


def test_a_correction_after_letting_go_moves_the_mean_as_it_would_have_before() -> None:
    # identity link, one effect: θ' = θ + w Δy V x exactly, with V as it was before letting go
    rng = np.random.default_rng(1)
    n = 300
    data = {"user": np.zeros(n, int), "y": rng.normal(1.0, 1.0, n)}
    model = GLMix(Schema(label="y"), random=[Random("user")], link="identity")
    learned = model.partial_fit(data)
    block, before = model.block("user"), model.fork()
    assert learned.events is not None
    last = {"user": [0], "y": [data["y"][-1]]}
    event = learned.events.take([n - 1])
    before.correct(last, [data["y"][-1] + 2.0], event)
    moved = before.block("user").mean[0, 0] - block.mean[0, 0]
    design, _ = model.design(last, learn=False)
    loosen(block, touched_by(design, model.blocks)["user"], 1.0)
    start = block.mean[0, 0]
    careless = model.fork()
    careless.correct(last, [data["y"][-1] + 2.0], event)
    left = weight_left(model.blocks, model.encoder.n_slots, design, event.variance, 1.0)
    from dataclasses import replace

    model.correct(last, [data["y"][-1] + 2.0], replace(event, discount=event.discount * left))
    assert block.mean[0, 0] - start == pytest.approx(moved, rel=0.02)
    assert careless.block("user").mean[0, 0] - start > 50 * moved
