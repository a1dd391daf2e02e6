"""Confidence sequences: the inequality they rest on, the boundary by another way, coverage at all times at once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import logsumexp

from nearline import ConfigError, DataError
from nearline._confidence import _PSI, _SCALED, boundary
from nearline.gate import ConfidenceSequence
from nearline.gate._staggered import Staggered

SLOW = np.sqrt(0.05 * 0.95 / 200)


@given(st.floats(-1.0, 30.0))
def test_the_inequality_behind_it(xi: float) -> None:
    # exp(λξ − ψ(λ)ξ²) ≤ 1 + λξ for ξ ≥ −c, with c = 1
    assert (np.exp(_SCALED * xi - _PSI * xi**2) <= (1 + _SCALED * xi) * (1 + 1e-12)).all()


@pytest.mark.parametrize("variance", [0.0, 0.3, 40.0, 1e4, 1e9])
@pytest.mark.parametrize("c", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("alpha", [0.2, 0.025, 1e-6])
def test_the_boundary_solves_its_equation(variance: float, c: float, alpha: float) -> None:
    rate = _SCALED / c
    psi = (-np.log(1 - c * rate) - c * rate) / c**2

    def excess(u: float) -> float:
        return float(logsumexp(rate * u - psi * variance, b=1 / len(rate)) + np.log(alpha))

    assert boundary(variance, c, alpha) == pytest.approx(brentq(excess, 0, 1e7, rtol=1e-12), rel=1e-8)


def test_the_boundary_is_near_the_law_of_the_iterated_logarithm() -> None:
    # a fixed time would need √(2 V log(1/α)): the price of all times stays below a factor of two
    for variance in (1e2, 1e4, 1e6, 1e8):
        ratio = boundary(variance, 1.0, 0.025) / np.sqrt(2 * variance * np.log(1 / 0.025))
        assert 1.0 < ratio < 2.0


STREAMS = {
    "rare outcomes": lambda rng, n: ((rng.random(n) < 0.02) - 0.02, np.zeros(n)),
    "the worst of both ends": lambda rng, n: (rng.choice([-1.0, 1.0], n), np.zeros(n)),
    "a mean that moves": lambda rng, n: (m := 0.4 * np.sin(np.arange(n) / 300), m + rng.uniform(-0.5, 0.5, n))[::-1],
}


@pytest.mark.parametrize("name", STREAMS)
def test_it_covers_at_all_times_at_once(name: str) -> None:
    rng, missed = np.random.default_rng(11), 0
    for _ in range(200):
        x, mean = STREAMS[name](rng, 2000)
        sequence, wrong, truth = ConfidenceSequence(1.0, 0.05), False, np.cumsum(mean) / np.arange(1, 2001)
        for k in range(0, 2000, 25):
            sequence.update(x[k : k + 25])
            bounds = sequence.bounds()
            wrong |= not bounds.low <= truth[k + 24] <= bounds.high
        missed += wrong
    assert missed / 200 <= 0.05 + 3 * SLOW


def test_it_narrows_with_the_variance_and_with_n() -> None:
    rng = np.random.default_rng(5)
    widths = {}
    for scale in (0.1, 1.0):
        for n in (500, 50_000):
            sequence = ConfidenceSequence(1.0, 0.05)
            sequence.update(rng.uniform(-scale, scale, n))
            widths[scale, n] = sequence.bounds().high - sequence.bounds().low
    assert widths[0.1, 50_000] < 0.2 * widths[1.0, 50_000]
    assert widths[1.0, 50_000] < 0.15 * widths[1.0, 500]
    # Hoeffding's interval at one fixed time, for comparison: 2 √(2 log(2/α) / n)
    assert widths[0.1, 50_000] < 0.25 * 2 * np.sqrt(2 * np.log(2 / 0.05) / 50_000)


@given(st.lists(st.floats(-1, 1), max_size=60), st.lists(st.integers(0, 60), max_size=5))
def test_any_cutting_gives_the_same_interval(x: list[float], cuts: list[int]) -> None:
    whole, parts = ConfidenceSequence(1.0), ConfidenceSequence(1.0)
    whole.update(x)
    edges = [0, *sorted(cuts), 60]
    for a, b in pairwise(edges):
        parts.update(x[a:b])
    a, b = whole.bounds(), parts.bounds()
    np.testing.assert_allclose([a.mean, a.low, a.high, a.n], [b.mean, b.low, b.high, b.n], atol=1e-12)


def test_the_interval_by_hand() -> None:
    x, sums, variance = [0.9, 0.9, -0.2, -1.0, 0.4], 0.0, 0.0
    for i, value in enumerate(x):
        expected = min(max(sums / (i + 1), -0.5), 0.5)
        variance, sums = variance + (value - expected) ** 2, sums + value
    sequence = ConfidenceSequence(1.0, 0.5)
    sequence.update(x)
    assert sequence._variance == pytest.approx(variance)
    radius = boundary(variance, 1.5, 0.25) / 5
    assert sequence.bounds().mean == pytest.approx(0.2)
    assert sequence.bounds().low == pytest.approx(max(0.2 - radius, -1))
    sequence.update(x * 200)
    assert 0.2 - sequence.bounds().low == pytest.approx(sequence.bounds().high - 0.2)
    assert sequence.bounds().high - 0.2 == pytest.approx(boundary(sequence._variance, 1.5, 0.25) / 1005)


def test_before_the_first_observation_all_is_possible() -> None:
    bounds = ConfidenceSequence(2.0).bounds()
    assert (np.isnan(bounds.mean), bounds.low, bounds.high, bounds.n) == (True, -2.0, 2.0, 0)


@pytest.mark.parametrize("x", [[1.5], [np.nan], [[0.0]]])
def test_observations_outside_the_bound_are_refused(x: object) -> None:
    with pytest.raises(DataError, match="within ±1"):
        ConfidenceSequence(1.0).update(x)


@pytest.mark.parametrize(("bound", "alpha", "name"), [(0.0, 0.1, "bound"), (np.inf, 0.1, "bound"), (1.0, 1.0, "alpha")])
def test_settings_that_make_no_sense(bound: float, alpha: float, name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        ConfidenceSequence(bound, alpha)


@given(st.integers(0, 90), st.lists(st.integers(0, 90), max_size=6))
def test_staggered_holds_the_last_half_to_whole_window(n: int, cuts: list[int]) -> None:
    x, staggered = np.linspace(-1, 1, 90)[:n], Staggered(1.0, 0.05, window=20)
    edges = [0, *sorted(cuts), 90]
    for a, b in pairwise(edges):
        staggered.update(x[a:b], 10 * x[a:b])
    held = staggered.bounds().n
    assert held == n if n <= 20 else 10 <= held <= 20
    if n:
        assert staggered.bounds().mean == pytest.approx(x[n - held :].mean())
        assert staggered.companion() == pytest.approx(10 * x[n - held :].mean())
    else:
        assert np.isnan(staggered.companion())
