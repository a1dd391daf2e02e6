"""Taking back and relabelling events against the model that never learned them (specification, section 5.5)."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.glmix.correct_parts import FORGETTING, HALF, LINKS, Table, model, rows, single, table

from nearline import GLMix
from nearline.glmix import LearnedEvents
from nearline.glmix._codes import LOWRANK
from nearline.glmix._correct import APPLIED
from nearline.glmix._layout import entity_codes
from nearline.glmix._lowrank import unpack
from nearline.glmix._packed import unpack as dense

Floats = NDArray[np.float64]


def posteriors(m: GLMix, time: float | None = None) -> list[tuple[Floats, Floats]]:
    """(means (E, d), covariances or precisions (E, d, d)) of every block, as stored or by a time."""
    out = []
    for block in m.blocks:
        codes = np.arange(block.entities)
        mean, cov = block.mean[codes].astype(float), block.cov[codes].astype(float)
        if time is not None:
            mean, cov = block.relaxed(codes, np.full(len(codes), time))
        if block.kind == LOWRANK:
            cov = np.array([unpack(row, block.d, block.kmax).precision() for row in cov])
        out.append((mean, cov))
    return out


def assert_same(left: Any, right: Any, tolerance: float) -> None:
    for (mean, cov), (other_mean, other_cov) in zip(left, right):
        np.testing.assert_allclose(mean, other_mean, atol=tolerance, rtol=tolerance)
        np.testing.assert_allclose(cov, other_cov, atol=tolerance, rtol=tolerance)


def off(left: GLMix, right: GLMix, data: Table) -> float:
    """Root of the mean of Δθᵀ V⁻¹ Δθ / d over the blocks of one row (full blocks)."""
    design, total = left.design(data, learn=False)[0], 0.0
    for a, b in zip(left.blocks, right.blocks):
        code = int(entity_codes(b, design)[0])
        move = a.mean[code] - b.mean[code]
        total += float(move @ np.linalg.solve(dense(b.cov[code]), move)) / b.d
    return float(np.sqrt(total / len(left.blocks)))


def far(left: GLMix, right: GLMix) -> float:
    """Largest distance of a coefficient, in posterior standard deviations of the right model (full blocks)."""
    worst = 0.0
    for a, b in zip(left.blocks, right.blocks):
        n = b.entities
        sd = np.sqrt(np.array([np.diag(dense(row)) for row in b.cov[:n]])).reshape(n, b.d)
        worst = max(worst, float((np.abs(a.mean[:n] - b.mean[:n]) / sd).max(initial=0.0)))
    return worst


KINDS = [("full", False), ("full", True), ("diagonal", False), ("lowrank", False)]


@pytest.mark.parametrize(("kind", "forgetting"), list(product(KINDS, FORGETTING)))
@pytest.mark.parametrize("link", LINKS)
def test_right_after_the_event_retraction_restores_every_block(link: str, kind: Any, forgetting: str) -> None:
    m = model(link, kind[0], forgetting, kind[1])
    m.partial_fit(table(1, 80, link))
    one = table(2, 1, link, 1.0005e9)
    m.design(one, learn=True)
    time = float(one["t"][0])
    before = posteriors(m, time)
    counts = [block.counts[: block.entities].copy() for block in m.blocks]
    learned = m.partial_fit(one)
    flipped, label = m.fork(), 1.0 - one["y"] if link == "logit" else one["y"] + 1.0
    # Exact to rounding: no other event came in between.
    assert m.retract(one, learned.events).status.tolist() == [APPLIED]
    assert_same(posteriors(m, time), before, 1e-12 if kind[0] != "lowrank" else 1e-9)
    for block, count in zip(m.blocks, counts):
        np.testing.assert_array_equal(block.counts[: block.entities], count)
    corrected = flipped.correct(one, label, learned.events)
    again = m.partial_fit({**one, "y": label})
    np.testing.assert_allclose(corrected.events.label, again.events.label)
    if forgetting == "walking":
        return  # learning it again has walked one event further
    assert_same(posteriors(flipped), posteriors(m), 1e-11 if kind[0] != "lowrank" else 1e-9)
    assert corrected.events.label.tolist() == label.tolist()
    np.testing.assert_allclose(corrected.events.margin, again.events.margin, atol=1e-11)


@pytest.mark.parametrize("kind", ["full", "diagonal", "lowrank"])
def test_float32_storage_is_restored_to_its_precision(kind: str) -> None:
    m = model("logit", kind, "stabilised", dtype="float32")
    m.partial_fit(table(1, 80, "logit"))
    one = table(2, 1, "logit", 1.0005e9)
    m.design(one, learn=True)
    before = posteriors(m, float(one["t"][0]))
    learned = m.partial_fit(one)
    assert m.retract(one, learned.events).applied == 1
    assert_same(posteriors(m, float(one["t"][0])), before, 2e-5)


def test_a_late_event_is_taken_back_with_the_weight_it_had() -> None:
    m = model("logit", "full", "stabilised")
    data = table(3, 60, "logit")
    m.partial_fit(data)
    one = table(4, 1, "logit", float(data["t"][-1]) - 2 * HALF)
    m.design(one, learn=True)
    before = posteriors(m)
    learned = m.partial_fit(one)
    assert learned.events.discount[0] < 0.5
    m.retract(one, learned.events)
    assert_same(posteriors(m), before, 1e-12)


@pytest.mark.parametrize("form", ["never", "stabilised"])
@given(seed=st.integers(0, 10_000), at=st.integers(0, 29))
@settings(max_examples=25, deadline=None)
def test_identity_link_one_block_is_exact_however_much_came_after(form: str, seed: int, at: int) -> None:
    data, forgetting = table(seed, 30, "identity"), FORGETTING[form]
    m, never = single("identity", forgetting), single("identity", forgetting)
    for other in (m, never):
        other.design(data, learn=True)
    learned, row = m.partial_fit(data), np.array([at])
    flipped, new = m.fork(), data["y"][row] + 1.5
    # Without the row; its entity's clock must still have ticked.
    never.partial_fit({**data, "w": np.where(np.arange(30) == at, 1e-300, data["w"])})
    assert m.retract(rows(data, row), learned.events.take(row)).applied == 1
    assert_same(posteriors(m), posteriors(never), 1e-8)
    right = single("identity", forgetting)
    right.design(data, learn=True)
    right.partial_fit({**data, "y": np.where(np.arange(30) == at, data["y"] + 1.5, data["y"])})
    covariance = flipped.blocks[1].cov.copy()
    flipped.correct(rows(data, row), new, learned.events.take(row))
    assert_same(posteriors(flipped), posteriors(right), 1e-8)
    np.testing.assert_array_equal(flipped.blocks[1].cov, covariance)


@pytest.mark.parametrize(("verb", "most", "raw"), [("correct", 0.02, 0.25), ("retract", 0.004, 0.1)])
def test_logistic_corrections_of_a_batch_fit(verb: str, most: float, raw: float) -> None:
    """Median error in posterior sd against an exact refit: flips 0.44 → 0.009, deletions 0.14 → 0.0007 there."""
    errors, untouched = [], []
    for seed in range(40):
        data = table(seed, 60, "logit")
        data |= {"user": np.zeros(60, int), "w": np.ones(60)}
        data["y"] = (np.random.default_rng([seed, 1]).random(60) < 1 / (1 + np.exp(-data["x"]))).astype(float)
        m, exact = single("logit", mode="minibatch"), single("logit", mode="minibatch")
        verdicts, at = m.try_learn(data), np.array([seed])
        assert verdicts.accepted
        weight, label = data["w"].copy(), data["y"].copy()
        if verb == "retract":
            weight[at] = 1e-300
        else:
            label[at] = 1.0 - label[at]
        exact.partial_fit({**data, "w": weight, "y": label})
        untouched.append(far(m, exact))
        if verb == "retract":
            m.retract(rows(data, at), verdicts.events.take(at))
        else:
            m.correct(rows(data, at), label[at], verdicts.events.take(at))
        errors.append(far(m, exact))
    assert np.median(untouched) > raw
    assert np.median(errors) < most


@pytest.mark.parametrize("forgetting", ["never", "stabilised", "reverting"])
@pytest.mark.parametrize("link", LINKS)
def test_long_after_in_several_blocks_most_of_the_event_is_gone(link: str, forgetting: str) -> None:
    left, with_shares, raw = [], [], []
    for seed in range(12):
        data = table(seed, 60, link)
        m, never = model(link, forgetting=forgetting), model(link, forgetting=forgetting)
        for other in (m, never):
            other.design(data, learn=True)
        first, at = rows(data, slice(0, 30)), np.array([29])
        verdicts = m.try_learn(first, shares=True)
        m.partial_fit(rows(data, slice(30, 60)))
        never.partial_fit({**data, "w": np.where(np.arange(60) == 29, 1e-300, data["w"])})
        raw.append(off(m, never, rows(data, at)))
        for shares, found in ((False, left), (True, with_shares)):
            events = (
                verdicts.events
                if shares
                else LearnedEvents.of(m.design(first, learn=True)[0], verdicts.events.columns())
            )
            twin = m.fork()
            assert twin.retract(rows(data, at), events.take(at)).applied == 1
            found.append(off(twin, never, rows(data, at)))
    assert np.median(left) < 1.2 * np.median(raw)
    # With forgetting, thirty hours later, hardly anything was left to take back.
    assert np.median(with_shares) < max(0.6 * np.median(raw), 0.02)


def test_corrections_follow_each_other() -> None:
    m = model("logit")
    data = table(5, 40, "logit")
    learned = m.partial_fit(data).events
    before, last = posteriors(m), np.array([39])
    there = m.correct(rows(data, last), 1.0 - data["y"][last], learned.take(last))
    back = m.correct(rows(data, last), data["y"][last], there.events)
    assert_same(posteriors(m), before, 1e-12)
    m.retract(rows(data, last), back.events)
    never = model("logit")
    never.design(data, learn=True)
    never.partial_fit(rows(data, slice(0, 39)))
    assert_same(posteriors(m), posteriors(never), 1e-12)


def test_all_events_backwards_lead_to_the_prior() -> None:
    m = model("identity")
    data = table(6, 25, "identity")
    m.design(data, learn=True)
    prior, learned = posteriors(m), m.partial_fit(data).events
    backwards = np.arange(24, -1, -1)
    assert m.retract(rows(data, backwards), learned.take(backwards)).applied == 25
    assert_same(posteriors(m), prior, 1e-9)
