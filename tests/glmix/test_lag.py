"""Fixed-lag smoothing: slices solved together with those before them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nearline import ConfigError, DataError, Fixed, GLMix, Prior, Random, Schema
from nearline.glmix import FixedLag

SCHEMA = Schema(label="y")


def model() -> GLMix:
    return GLMix(SCHEMA, Fixed("g"), [Random("user", prior=Prior(1.0)), Random("item", prior=Prior(1.0))])


def rows(seed: int, n: int = 40, users: int = 6) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    keys = {"user": rng.integers(0, users, n), "item": rng.integers(0, 5, n)}
    return {**keys, "g": rng.choice(["x", "y", f"z{seed}"], n), "y": rng.integers(0, 2, n)}


def joined(*slices: dict[str, Any]) -> dict[str, Any]:
    return {name: np.concatenate([part[name] for part in slices]) for name in slices[0]}


def state(of: GLMix) -> list[bytes]:
    return [x[: b.entities].tobytes() for b in of.blocks for x in (b.mean, b.cov, b.last, b.counts)]


def test_without_a_lag_it_is_the_update() -> None:
    plain, smoothed = model(), model()
    smoother = FixedLag(smoothed, lag=0)
    for seed in range(3):
        plain.update(rows(seed), past_weight=0.8)
        smoother.update(rows(seed), past_weight=0.8)
    assert state(plain) == state(smoothed)
    assert plain.events_learned == smoothed.events_learned == 120


def test_slices_within_the_lag_are_learned_as_one() -> None:
    """The posterior of before the window is the prior of all of it, and no row counts twice."""
    smoothed, together = model(), model()
    smoother = FixedLag(smoothed, lag=2)
    for seed in range(3):
        assert smoother.update(rows(seed)).rows == 40
    together.update(joined(rows(0), rows(1), rows(2)))
    assert state(smoothed) == state(together)
    assert smoothed.events_learned == 120


def test_the_window_moves_on() -> None:
    smoothed, twin = model(), model()
    smoother = FixedLag(smoothed, lag=1)
    smoother.update(rows(0))
    before_the_last_two = smoothed.fork()
    smoother.update(rows(1))
    smoother.update(rows(2))
    twin = before_the_last_two
    twin.update(joined(rows(1), rows(2)))
    assert state(smoothed) == state(twin)


def test_it_is_nearer_to_the_batch_fit_than_one_slice_after_the_other() -> None:
    """The covariance between blocks is what a lag keeps."""
    slices = [rows(seed, n=60) for seed in range(6)]
    exact, errors = model(), {}
    exact.update(joined(*slices), cycles=500, tolerance=1e-12)
    for lag in (0, 1, 3):
        learner = model()
        smoother = FixedLag(learner, lag)
        for part in slices:
            smoother.update(part, cycles=500, tolerance=1e-12)
        errors[lag] = float(np.abs(learner.decision_function(slices[0]) - exact.decision_function(slices[0])).mean())
    assert errors[0] > errors[1] > errors[3]


def test_what_is_learned_otherwise_becomes_the_past() -> None:
    smoothed, twin = model(), model()
    smoother = FixedLag(smoothed, lag=1)
    for learner in (smoothed, twin):
        step = smoother.update if learner is smoothed else learner.update
        step(rows(0))
        learner.partial_fit(rows(1))
        step(rows(2))
    assert state(smoothed) == state(twin)


def test_a_slice_that_cannot_be_read_changes_nothing() -> None:
    learner = model()
    smoother = FixedLag(learner, lag=1)
    smoother.update(rows(0))
    before = state(learner)
    with pytest.raises(DataError):
        smoother.update({**rows(1), "y": np.full(40, 7)})
    with pytest.raises(ConfigError):
        smoother.update(rows(0), past_weight=-1.0)
    assert state(learner) == before
    smoother.update(rows(1))
    together = model()
    together.update(joined(rows(0), rows(1)))
    np.testing.assert_allclose(learner.decision_function(rows(0)), together.decision_function(rows(0)), atol=1e-12)


def test_a_lag_is_a_number_of_slices() -> None:
    with pytest.raises(ConfigError, match=r"FixedLag\(lag=...\)"):
        FixedLag(model(), lag=-1)
