"""The past of a slice is weighed as what the data said: specification, section 4.2; acceptance 15."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.glmix.update_parts import KINDS, SCHEMA, model, one_block, precision, precision_of, state, table, take

from nearline import Fixed, GLMix, Prior, Random
from nearline.glmix import _minibatch_step
from nearline.glmix._packed import unpack
from nearline.glmix._past import Past


@given(omega=st.sampled_from([0.0, 0.3, 0.8, 1.0, 2.5]), posterior=st.sampled_from(KINDS))
@settings(max_examples=15, deadline=None)
def test_the_past_is_weighed_as_what_the_data_said(omega: float, posterior: str) -> None:
    """P = Λ0 + ω (H − Λ0),  P m = ω H θ + (1 − ω) Λ0 μ0."""
    learner = model(posterior)
    learner.update(table())
    block = learner.block("user")
    old = block.mean[:4].copy(), [precision_of(block, at) for at in range(4)]
    Past(omega).weigh(block, np.arange(4))
    base, mu0 = np.diag([1.0, 2.0]), np.array([0.3 * 0, 0.3])
    for at in range(4):
        H, P = old[1][at], precision_of(block, at)
        np.testing.assert_allclose(P, base + omega * (H - base), rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(P @ block.mean[at], omega * H @ old[0][at] + (1 - omega) * base @ mu0, atol=1e-8)


@pytest.mark.parametrize("posterior", KINDS)
@pytest.mark.parametrize("omega", [0.5, 2.0])
def test_as_published_the_precision_is_multiplied(posterior: str, omega: float) -> None:
    learner = model(posterior)
    learner.update(table())
    block = learner.block("user")
    old = block.mean[:4].copy(), [precision_of(block, at) for at in range(4)]
    Past(omega, stabilise=False).weigh(block, np.arange(4))
    np.testing.assert_array_equal(block.mean[:4], old[0])
    for at in range(4):
        np.testing.assert_allclose(precision_of(block, at), omega * old[1][at], rtol=1e-9)


def test_nothing_winds_up_or_down_however_often_the_past_is_weighed() -> None:
    """H ⪰ Λ0 for ever and forgotten coefficients go back to the base prior; as published their precision goes to 0."""
    kept, published = one_block(), one_block()
    first, later = table(users=1), table(1, users=1)
    later["c"] = np.zeros(60)
    for learner, stabilise in ((kept, True), (published, False)):
        learner.update(first)
        for _ in range(60):
            learner.update(take(later, slice(0, 3)), past_weight=0.5, stabilise=stabilise)
    H = precision(kept.block("user"), 0)
    assert np.linalg.eigvalsh(H - np.eye(3) / 0.5).min() > -1e-9
    assert H[2, 2] == pytest.approx(2.0)
    assert kept.block("user").mean[0, 2] == pytest.approx(0.0, abs=1e-9)
    assert precision(published.block("user"), 0)[2, 2] < 1e-9


def test_more_than_the_past_leaves_unseen_features_at_the_prior() -> None:
    learner = one_block()
    data = table(users=1)
    data["c"] = np.zeros(60)
    for start in range(0, 60, 10):
        learner.update(take(data, slice(start, start + 10)), past_weight=1.5)
    H = precision(learner.block("user"), 0)
    assert H[2, 2] == pytest.approx(2.0)
    assert H[0, 0] > 10.0


def test_each_block_has_its_own_weight() -> None:
    one, two, none = model(), model(), model()
    for learner in (one, two, none):
        learner.update(table(1))
    one.update(table(2), past_weight={"fixed": 0.2}, cycles=1)
    two.update(table(2), past_weight={"user": 0.2, "*": 1.0}, cycles=1)
    none.update(table(2), cycles=1)
    H = [[precision(m.block(name), 0)[0, 0] for name in ("fixed", "user")] for m in (one, two, none)]
    assert H[0][0] < 0.9 * H[2][0]
    assert H[1][1] < 0.9 * H[2][1]
    assert H[0][1] == pytest.approx(H[2][1], rel=0.05)


def test_priors_are_frozen_for_the_slice_and_the_blocks_share_no_residual() -> None:
    """Acceptance 15: the joint objective of the slice never rises from one cycle to the next."""
    learner = model()
    learner.update(table(1))
    found = []
    for cycles in (1, 2, 3, 5, 9, 40):
        after = learner.fork()
        after.update(table(2), cycles=cycles, tolerance=0.0)
        found.append(_objective(learner, after, table(2)))
    assert (np.diff(found) <= 1e-12).all()
    assert found[0] - found[-1] > 1e-4


def _objective(before: GLMix, after: GLMix, data: dict[str, Any]) -> float:
    eta = after.decision_function(data)
    total = float(data["w"] @ (np.logaddexp(0.0, eta) - data["y"] * eta))
    for old, new in zip(before.blocks, after.blocks):
        for at in range(old.entities):
            move = new.mean[at] - old.mean[at]
            total += 0.5 * float(move @ precision(old, at) @ move)
    return total


def test_evidence_weighs_the_past_by_whether_the_world_has_changed() -> None:
    """ω = 1 where the slice is what the past said, and the new truth is followed where it is not."""
    rng, n = np.random.default_rng(5), 400
    x = rng.normal(size=(4, n))
    u = rng.random((4, n))

    def slice_(k: int, slope: float) -> dict[str, Any]:
        y = (u[k] < 1 / (1 + np.exp(-slope * x[k]))).astype(int)
        return {"user": np.arange(n) % 5, "a": x[k], "b": x[k], "c": x[k], "y": y, "w": np.ones(n), "o": np.zeros(n)}

    learner = GLMix(SCHEMA, Fixed("a", prior=Prior(4.0)), [Random("user", prior=Prior(0.2))])
    learner.update(slice_(0, 1.5))
    same, changed, kept = learner.fork(), learner.fork(), learner.fork()
    assert same.update(slice_(1, 1.5), past_weight="auto").past_weight == 1.0
    done = changed.update(slice_(1, -1.5), past_weight="auto")
    assert isinstance(done.past_weight, float)
    assert done.past_weight < 0.5
    kept.update(slice_(1, -1.5))
    test = slice_(2, -1.5)
    losses = [np.logaddexp(0, z := m.decision_function(test)) - test["y"] * z for m in (changed, kept)]
    assert losses[0].mean() < losses[1].mean() - 0.05
    given = learner.fork()
    given.update(slice_(1, -1.5), past_weight=done.past_weight)
    assert state(given) == state(changed)


def test_the_evidence_of_a_linear_slice_is_its_marginal_likelihood() -> None:
    """One block, identity link: log N(y; o + X m, I/w + X P⁻¹ Xᵀ) up to the constant that every ω shares."""
    learner = one_block(link="identity", prior=Prior(0.5))
    learner.update(table(1, users=1, link="identity"))
    data = table(2, n=7, users=1, link="identity")
    design = learner.design(data, learn=True)[0]
    X, r = np.column_stack([data[c] for c in "abc"]), data["y"] - data["o"]
    found = []
    for omega in (1.0, 0.5, 0.1):
        descent = _minibatch_step.Descent(2, 0.0, Past(omega))
        ours = _minibatch_step.log_evidence(
            learner.blocks, learner.encoder.n_slots, design, "identity", descent, 1, frozenset()
        )
        twin = learner.fork()
        Past(omega).weigh(twin.block("user"), np.array([0]))
        block = twin.block("user")
        C = np.diag(1 / data["w"]) + X @ unpack(block.cov[0]) @ X.T
        e = r - X @ block.mean[0]
        exact = -0.5 * float(e @ np.linalg.solve(C, e)) - 0.5 * np.linalg.slogdet(C)[1]
        found.append(ours - exact)
    np.testing.assert_allclose(found, found[0], atol=1e-9)
