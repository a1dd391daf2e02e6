"""Recalibration: monotone, the identity where nothing is to mend, a known distortion undone, resumed to the bit."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from nearline import ConfigError, DataError, StateError
from nearline.recalibrate import RecalibrationSettings, Recalibrator
from nearline.recalibrate._curve import FLOOR, basis
from nearline.recalibrate._solve import Problem, posteriors

SETTINGS = RecalibrationSettings()
DAY = 86_400.0


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def world(seed: int, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """A truth on the logit scale, and labels."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(-1.0, 1.2, n)
    return truth, (rng.random(n) < sigmoid(truth)).astype(float)


def fed(found: Recalibrator, label: np.ndarray, margin: np.ndarray, batch: int = 500, **more: object) -> Recalibrator:
    for k in range(0, len(label), batch):
        rows = slice(k, k + batch)
        segment = more.get("segment")
        found.observe(
            label[rows],
            margin[rows],
            segment=None if segment is None else segment[rows],
            time=float(k),  # type: ignore[index]
        )
    return found


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 200), flip=st.booleans())
def test_the_map_rises_whatever_it_is_told(seed: int, n: int, flip: bool) -> None:
    rng = np.random.default_rng(seed)
    margin = rng.normal(0, 3, n)
    label = ((margin > 0) != flip).astype(float)
    segment = rng.integers(0, 3, n).astype(str)
    found = Recalibrator(SETTINGS)
    for _ in range(3):
        found.observe(label, margin, rng.gamma(1.0, size=n), segment)
    grid = np.linspace(-40, 40, 400)
    for name in ("0", "1", "2", "new"):
        assert (np.diff(found.transform(grid, np.full(400, name))) > 0).all()
        assert min(found.coefficients(name)[1:]) >= FLOOR


def test_new_it_is_the_identity() -> None:
    margin = np.array([-50.0, -1.0, 0.0, 3.0, 800.0, np.inf])
    found = Recalibrator(SETTINGS)
    np.testing.assert_allclose(found.transform(margin), margin, rtol=1e-14)
    assert found.apply(margin) is margin


def test_calibrated_scores_stay_as_they_are() -> None:
    switched = 0
    for seed in range(20):
        truth, label = world(seed, 5_000)
        found = fed(Recalibrator(SETTINGS), label, truth)
        switched += found.on
        assert np.abs(found.transform([-3.0, 0.0, 2.0]) - [-3.0, 0.0, 2.0]).max() < 0.35
    assert switched == 0


@pytest.mark.parametrize(
    ("distorted", "bound"),
    [
        (lambda truth: 2.0 * truth, 0.12),
        (lambda truth: truth + 0.7, 0.12),
        (lambda truth: 0.5 * truth - 0.4, 0.15),
        # overconfident above, right below: b and c differ
        (lambda truth: np.where(truth > 0, 1.8 * truth, truth), 0.3),
    ],
)
def test_a_known_distortion_is_undone(distorted: object, bound: float) -> None:
    truth, label = world(1, 60_000)
    margin = distorted(truth)  # type: ignore[operator]
    found = fed(Recalibrator(replace(SETTINGS, slope=1.0, level=1.0)), label, margin)
    assert found.on
    grid = np.quantile(truth, [0.02, 0.2, 0.5, 0.8, 0.98])
    assert np.abs(found.transform(distorted(grid)) - grid).max() < bound  # type: ignore[operator]
    assert found.gain.n < len(label)


def test_segments_are_mended_one_by_one_and_small_ones_follow_all() -> None:
    truth, label = world(2, 60_000)
    rng = np.random.default_rng(0)
    segment = rng.choice(["app", "web", "tv"], len(truth), p=[0.5, 0.498, 0.002])
    margin = truth + np.where(segment == "app", 0.5, np.where(segment == "web", -0.1, 0.3))
    found = fed(Recalibrator(SETTINGS), label, margin, segment=segment)
    for name, shift, within in (("app", 0.5, 0.12), ("web", -0.1, 0.12)):
        mended = found.transform(truth[:500] + shift, np.full(500, name))
        assert np.abs(np.mean(mended - truth[:500])) < within
    # a segment with a hundred examples stays near the map of all, and a new one is on it
    at = np.zeros(1)
    assert abs(found.transform(at, ["tv"])[0] - found.transform(at)[0]) < 0.3
    assert found.transform(at, ["radio"])[0] == found.transform(at)[0]


def test_it_is_switched_off_again_when_it_harms() -> None:
    truth, label = world(3, 40_000)
    found = fed(Recalibrator(replace(SETTINGS, window=20_000)), label, truth + 0.8)
    assert found.on
    # the model is mended overnight, and the map forgets nothing
    truth, label = world(4, 6_000)
    for k in range(0, 6_000, 500):
        found.observe(label[k : k + 500], truth[k : k + 500], time=1e6)
    assert not found.on
    assert found.apply(truth) is truth


def test_forgetting_follows_a_change() -> None:
    truth, label = world(5, 40_000)
    slow, fast = Recalibrator(replace(SETTINGS, half_life=None)), Recalibrator(replace(SETTINGS, half_life=DAY))
    for found in (slow, fast):
        for k in range(0, 40_000, 500):
            shift = 0.8 if k < 30_000 else -0.8
            rows = slice(k, k + 500)
            found.observe(label[rows], truth[rows] + shift, time=k / 500 * DAY / 4)
    errors = [abs(float(found.transform([-1.8])[0]) + 1.0) for found in (slow, fast)]
    assert errors[1] < 0.2 < errors[0]


def test_half_of_what_was_learned_counts_after_a_half_life() -> None:
    truth, label = world(6, 2_000)
    found = Recalibrator(replace(SETTINGS, half_life=DAY))
    found.observe(label, 2 * truth)
    prior, identity = np.diag(np.array([SETTINGS.level, SETTINGS.slope, SETTINGS.slope]) ** -2.0), [0.0, 1.0, 1.0]
    before = found._all.precision[0].copy()
    pull = before @ (found._all.mean[0] - identity)
    found._forget(DAY)
    np.testing.assert_allclose(found._all.precision[0] - prior, (before - prior) / 2)
    np.testing.assert_allclose(found._all.precision[0] @ (found._all.mean[0] - identity), pull / 2)
    found._forget(DAY / 2)
    np.testing.assert_allclose(found._all.precision[0] - prior, (before - prior) / 2)


def test_resumed_equals_never_stopped_to_the_bit() -> None:
    truth, label = world(7, 4_000)
    segment = np.random.default_rng(0).integers(0, 5, 4_000).astype(str)
    settings_ = replace(SETTINGS, half_life=3_000.0)
    whole, stopped = Recalibrator(settings_), Recalibrator(settings_)
    for k in range(0, 4_000, 250):
        rows = slice(k, k + 250)
        for found in (whole, stopped):
            found.observe(label[rows], 1.7 * truth[rows], segment=segment[rows], time=float(k))
        stopped = Recalibrator.load(settings_, json.loads(json.dumps(stopped.state(), allow_nan=False)))
    assert stopped.state() == whole.state()
    assert (stopped.transform(truth, segment) == whole.transform(truth, segment)).all()


def test_the_first_batch_is_the_batch_optimum_of_prior_and_likelihood() -> None:
    truth, label = world(8, 3_000)
    found = Recalibrator(SETTINGS)
    weight = np.random.default_rng(0).gamma(2.0, size=3_000)
    found.observe(label, 1.5 * truth, weight)
    phi, prior = basis(1.5 * truth), np.array([0.0, 1.0, 1.0])
    deviation = np.array([SETTINGS.level, SETTINGS.slope, SETTINGS.slope])

    def objective(theta: np.ndarray) -> float:
        eta = phi @ theta
        return 0.5 * (((theta - prior) / deviation) ** 2).sum() + weight @ (np.logaddexp(0, eta) - label * eta)

    best = optimize.minimize(objective, prior, method="BFGS", options={"gtol": 1e-8})
    np.testing.assert_allclose(found.coefficients(), best.x, atol=1e-4)


def test_bounds_are_met_as_by_a_solver_with_bounds() -> None:
    rng = np.random.default_rng(9)
    phi, label = rng.normal(size=(200, 3)), rng.integers(0, 2, 200).astype(float)
    lower = np.array([-np.inf, 0.3, -0.2])
    code = np.zeros(200, np.int64)
    problem = Problem(np.zeros((1, 3)), np.eye(3)[None], lower[None], phi, np.zeros(200), label, np.ones(200), code)
    (theta,), (precision,) = posteriors(problem)

    def objective(at: np.ndarray) -> float:
        eta = phi @ at
        return 0.5 * at @ at + (np.logaddexp(0, eta) - label * eta).sum()

    best = optimize.minimize(objective, np.array([0, 0.3, 0]), bounds=[(None, None), (0.3, None), (-0.2, None)])
    np.testing.assert_allclose(theta, best.x, atol=1e-4)
    assert (np.linalg.eigvalsh(precision) > 1).all()


def test_many_problems_at_once_are_each_its_own() -> None:
    rng = np.random.default_rng(10)
    phi, label, weight = rng.normal(size=(300, 3)), rng.integers(0, 2, 300).astype(float), rng.gamma(1.0, size=300)
    code = rng.integers(0, 12, 300)
    mean, lower = rng.normal(0, 0.1, (12, 3)), np.tile([-np.inf, -0.1, -np.inf], (12, 1))
    precision = np.tile(np.eye(3) * 2, (12, 1, 1))
    theta, curvature = posteriors(Problem(mean, precision, lower, phi, np.zeros(300), label, weight, code))
    for k in range(12):
        own = code == k
        alone = Problem(
            mean[k : k + 1], precision[:1], lower[:1], phi[own], np.zeros(own.sum()), label[own], weight[own],
            np.zeros(own.sum(), np.int64),
        )  # fmt: skip
        expected, spread = posteriors(alone)
        np.testing.assert_allclose(theta[k], expected[0], atol=1e-10)
        np.testing.assert_allclose(curvature[k], spread[0], rtol=1e-8, atol=1e-8)


def test_nothing_is_learned_of_nothing() -> None:
    found = Recalibrator(SETTINGS)
    before = found.state()
    found.observe([], [])
    found.observe([1.0], [np.nan])
    assert found.state() == before


def test_bad_input_is_refused() -> None:
    found = Recalibrator(SETTINGS)
    with pytest.raises(DataError, match="labels must be 0 or 1"):
        found.observe([2.0], [0.0])
    with pytest.raises(DataError, match="column 'margin'"):
        found.observe([1.0], [0.0, 1.0])
    with pytest.raises(DataError, match="column 'weight'"):
        found.observe([1.0], [0.0], [-1.0])
    with pytest.raises(DataError, match="column 'segment'"):
        found.observe([1.0], [0.0], segment=["a", "b"])
    with pytest.raises(StateError, match="format"):
        Recalibrator.load(SETTINGS, {})
    with pytest.raises(StateError, match="other settings"):
        Recalibrator.load(replace(SETTINGS, level=0.1), found.state())
    for wrong in ({"level": 0.0}, {"half_life": -1.0}, {"window": 0}, {"alpha": 2.0}):
        with pytest.raises(ConfigError):
            RecalibrationSettings(**wrong)  # type: ignore[arg-type]
