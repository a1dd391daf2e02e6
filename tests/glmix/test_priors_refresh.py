"""A new prior without a replay: what the data said is kept, a prior and back is the same posterior."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.glmix.priors_parts import NO_FIXED, SCHEMA, simulate, take, user

from nearline import Fixed, Forgetting, GLMix, Prior, Random, Schema
from nearline.glmix import _priors
from nearline.glmix._packed import unpack
from nearline.glmix._state import Block


def evidence_of(block: Block) -> tuple[np.ndarray, np.ndarray]:
    """Section 5.1: J = H − Λ0 and j = Hθ − Λ0 μ0 of every entity."""
    n, (mu0, cov0) = block.entities, block.prior_arrays()
    theta, cov = block.mean[:n], block.cov[:n]
    if block.cov_size == block.d:
        return 1 / cov - 1 / cov0, theta / cov - mu0 / cov0
    H, base = np.linalg.inv(unpack(cov)), np.linalg.inv(unpack(cov0))
    return H - base, np.einsum("eij,ej->ei", H, theta) - base @ mu0


def learned(posterior: Any = "full", **options: Any) -> GLMix:
    """A model of 80 users that has streamed, half of its users known and never learned from."""
    model = GLMix(SCHEMA, Fixed("a"), [user(posterior=posterior)], **options)
    data = simulate(np.eye(3), users=160, noise=None)
    model.design(data, learn=True)
    model.partial_fit(take(data, data["user"] < 80))
    return model


@pytest.mark.parametrize("posterior", ["full", "diagonal"])
def test_refreshing_priors_keeps_what_the_data_said(posterior: str) -> None:
    """Section 5.1: a new base prior needs no replay, J and j stay."""
    model = learned(posterior)
    block = model.block("user")
    J, j = evidence_of(block)
    fixed = model.block("fixed").mean.tobytes()
    changed = model.refresh_priors()
    assert changed.keys() == {"user"}
    assert changed["user"] is block.belief
    after = evidence_of(block)
    np.testing.assert_allclose(after[0][:80], J[:80], atol=1e-9)
    np.testing.assert_allclose(after[1][:80], j[:80], atol=1e-9)
    assert model.block("fixed").mean.tobytes() == fixed
    mean, cov = block.prior_arrays()
    np.testing.assert_array_equal(block.mean[80:160], np.tile(mean, (80, 1)))
    np.testing.assert_array_equal(block.cov[80:160], np.tile(cov, (80, 1)))


@pytest.mark.parametrize("posterior", ["full", "diagonal", "lowrank"])
def test_a_prior_and_back_is_the_same_posterior(posterior: str) -> None:
    model = learned(posterior)
    block = model.block("user")
    before = block.mean[:160].copy(), _priors.posteriors(block, np.arange(160))[1]
    old = block.belief
    other = replace(old, prior=Prior({"a": 0.1, "*": 7.0}, {"b": 2.0}))
    if posterior == "full":
        V = np.array([[2.0, 0.9, 0.1], [0.9, 0.5, 0.0], [0.1, 0.0, 0.3]])
        other = replace(old, mean=np.array([1.0, -1.0, 0.5]), covariance=V)
    _priors.rebase(block, other)
    assert np.abs(block.mean[:160] - before[0]).max() > 0.1
    _priors.rebase(block, old)
    np.testing.assert_allclose(block.mean[:160], before[0], atol=1e-8)
    np.testing.assert_allclose(_priors.posteriors(block, np.arange(160))[1], before[1], atol=1e-8)


def test_rebasing_equals_having_had_the_prior_all_along_under_the_identity_link() -> None:
    """Section 5.1: exact for linear loss, one block."""
    data = simulate(np.eye(3), users=40)
    one, two = (GLMix(SCHEMA, NO_FIXED, [user(prior)], link="identity") for prior in (Prior(1.0), Prior(0.2, 0.3)))
    for model in (one, two):
        model.partial_fit(data)
    _priors.rebase(one.block("user"), two.block("user").belief)
    np.testing.assert_allclose(one.block("user").mean[:40], two.block("user").mean[:40], atol=1e-8)
    np.testing.assert_allclose(one.block("user").cov[:40], two.block("user").cov[:40], atol=1e-8)


def test_refreshing_priors_is_a_step_of_expectation_maximisation() -> None:
    """Section 5.4, shrunk towards its diagonal by d/(d + E)."""
    model = learned()
    block = model.block("user")
    theta, V = block.mean[:80].copy(), unpack(block.cov[:80])
    belief = model.refresh_priors()["user"]
    # On a column of the fixed effect the mean is the fixed effect's to carry.
    shared = np.array([column in model.block("fixed").columns for column in block.columns])
    assert shared.any()
    assert not shared.all()
    np.testing.assert_allclose(belief.mean, np.where(shared, 0.0, theta.mean(axis=0)), atol=1e-12)
    centred = theta - belief.mean
    second = V.mean(axis=0) + centred.T @ centred / 80
    np.testing.assert_allclose(np.diag(belief.covariance), np.diag(second), rtol=1e-10)
    np.testing.assert_allclose(belief.covariance[0, 1], second[0, 1] * 80 / 83, rtol=1e-10)


def test_few_entities_keep_their_prior() -> None:
    model = learned()
    assert model.refresh_priors(least=81) == {}
    assert model.refresh_priors(least=80).keys() == {"user"}


def test_new_dimensions_after_a_refresh_follow_the_declared_prior() -> None:
    schema = Schema("y")
    model = GLMix(schema, NO_FIXED, [Random("user", on=["g"], prior=Prior(0.7))])
    rng = np.random.default_rng(0)
    rows = {"user": np.arange(100) % 60, "g": ["g0", "g1"] * 50, "y": rng.integers(0, 2, 100)}
    model.partial_fit(rows)
    model.refresh_priors()
    z = model.decision_function(rows)
    model.partial_fit({"user": [0], "g": ["g2"], "y": [1]})
    block = model.block("user")
    V0 = block.belief.V0(block.columns)
    assert block.d == 4
    np.testing.assert_array_equal(V0[3], [0.0, 0.0, 0.0, 0.7])
    np.testing.assert_array_equal(V0[:3, :3], block.belief.covariance)
    others = np.flatnonzero(rows["user"] != 0)
    np.testing.assert_array_equal(model.decision_function(rows)[others], z[others])


@pytest.mark.parametrize("mode", ["event", "minibatch"])
def test_priors_are_refreshed_every_so_many_events(mode: Any) -> None:
    data = simulate(np.eye(3), users=60, noise=None)
    automatic, manual = (GLMix(SCHEMA, Fixed("a"), [user()], mode=mode, refresh_every=n) for n in (240, None))
    for part in (slice(0, 240), slice(240, 480)):
        automatic.partial_fit(take(data, part))
        manual.partial_fit(take(data, part))
        manual.refresh_priors()
    for one, two in zip(automatic.blocks, manual.blocks):
        assert one.mean.tobytes() == two.mean.tobytes()
        assert one.cov.tobytes() == two.cov.tobytes()
    assert automatic.events_learned == 480


@pytest.mark.parametrize("cuts", [[], [1], [100, 239], [240], [241, 300, 477]])
def test_refreshes_fall_on_the_same_event_however_a_table_is_split(cuts: list[int]) -> None:
    """Rows of weight 0 and refused rows are not counted."""
    data = simulate(np.eye(3), users=60, noise=None)
    data["w"][::7] = 0.0
    data["a"][5] = 1e200
    whole, pieces = (GLMix(SCHEMA, Fixed("a"), [user()], refresh_every=100) for _ in range(2))
    for model in (whole, pieces):
        model.design(data, learn=True)
    learned_rows = whole.partial_fit(data).rows
    for start, stop in zip([0, *cuts], [*cuts, 480]):
        pieces.partial_fit(take(data, slice(start, stop)))
    assert whole.events_learned == pieces.events_learned == learned_rows
    assert learned_rows == np.count_nonzero(data["w"]) - 1
    for one, two in zip(whole.blocks, pieces.blocks):
        assert one.mean.tobytes() == two.mean.tobytes()
        assert one.cov.tobytes() == two.cov.tobytes()


def test_refreshing_leaves_posteriors_that_noise_made_less_sure_than_the_old_prior_as_they_are() -> None:
    """H − Λ0 + Λ0' of section 5.1 is no precision where a random walk has taken H below Λ0 in some direction."""
    data = simulate(np.diag([1.0, 0.01, 0.01]), users=80, noise=None)
    walk = Forgetting(walk_per_event={"(intercept)": 0.5})
    effect = Random("user", on=["a", "b"], prior=Prior(variance=4.0), forgetting=walk)
    model = GLMix(SCHEMA, Fixed(), [effect], refresh_every=100)
    model.partial_fit(data)
    V = unpack(model.block("user").cov[:80])
    assert np.linalg.eigvalsh(V).min() > 0
    assert np.isfinite(model.decision_function(data)).all()
