"""The detector: fair by enumeration, equal to the sum over start times, false alarms and delays by simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearline import DataError
from nearline.gate import Detector
from nearline.gate._detector import _BETS, _cash


def by_definition(x: np.ndarray, bound: float) -> float:
    """E_n as the sum over all start times and bets."""
    cash, n = _cash(np.arange(len(x) + 1)), len(x)
    started = [(cash[j] - cash[j + 1]) * np.mean([np.prod(1 + bet / bound * x[j:]) for bet in _BETS]) for j in range(n)]
    return float(cash[n] + sum(started))


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=30), st.integers(0, 30))
def test_it_is_the_sum_over_start_times(x: list[float], cut: int) -> None:
    values, detector = np.array(x), Detector(2.0, 0.01)
    detector.update(values[:cut])
    detector.update(values[cut:])
    paths = [by_definition(values[: t + 1], 2.0) for t in range(len(x))]
    assert math.exp(detector.peak) == pytest.approx(max([1.0, *paths]), rel=1e-9)


def test_the_alarm_names_the_first_observation_that_gave_enough_evidence() -> None:
    x, detector = np.r_[np.zeros(20), np.ones(20)], Detector(1.0, 0.01)
    paths = [by_definition(x[: t + 1], 1.0) for t in range(len(x))]
    for k in range(0, 40, 7):
        detector.update(x[k : k + 7])
    assert detector.alarm == 1 + next(t for t, evidence in enumerate(paths) if evidence >= 100)


def test_it_is_a_fair_game() -> None:
    # x = ±b with equal chances has mean 0: E_n has mean 1 over all 2^n paths, not just at most 1
    paths = [by_definition(np.array(path), 1.0) for path in itertools.product([-1.0, 1.0], repeat=10)]
    assert np.mean(paths) == pytest.approx(1.0, abs=1e-12)


NULLS = {
    "the widest": lambda rng, n: rng.choice([-1.0, 1.0], n),
    "a rare loss against frequent small gains": lambda rng, n: np.where(rng.random(n) < 0.05, 0.95, -0.05),
    "better, then equal": lambda rng, n: rng.uniform(-1, 1, n) * 0.5 - 0.5 * (np.arange(n) < n // 2),
    "a variance that moves": lambda rng, n: rng.uniform(-1, 1, n) * np.abs(np.sin(np.arange(n) / 500)),
}


@pytest.mark.parametrize("name", NULLS)
def test_false_alarms_over_all_time(name: str) -> None:
    rng, alarms = np.random.default_rng(2), 0
    for _ in range(200):
        detector = Detector(1.0, 0.05)
        detector.update(NULLS[name](rng, 10_000))
        alarms += detector.alarm is not None
    assert alarms <= 200 * 0.05 + 3 * math.sqrt(200 * 0.05 * 0.95)


@pytest.mark.parametrize(("after", "within"), [(0, 250), (1_000, 300), (50_000, 450)])
def test_a_clear_change_is_seen_within_hundreds_however_late(after: int, within: int) -> None:
    rng = np.random.default_rng(8)
    for _ in range(10):
        detector = Detector(2.0, 0.01)
        detector.update(np.clip(rng.normal(-0.02, 0.3, after), -2, 2))
        assert detector.alarm is None
        detector.update(np.clip(rng.normal(0.3, 0.8, within), -2, 2))
        assert detector.alarm is not None
        assert after < detector.alarm <= after + within


def test_a_small_change_is_seen_too() -> None:
    detector, rng = Detector(2.0, 0.01), np.random.default_rng(4)
    detector.update(np.clip(rng.normal(0.02, 0.3, 20_000), -2, 2))
    assert detector.alarm is not None


def test_no_difference_is_no_evidence() -> None:
    detector = Detector(1.0, 0.01)
    detector.update(np.zeros(100_000))
    assert detector.peak == pytest.approx(0.0, abs=1e-9)


def test_the_first_alarm_stays() -> None:
    detector = Detector(1.0, 0.01)
    detector.update(np.ones(50))
    first = detector.alarm
    detector.update(-np.ones(500))
    assert first is not None
    assert (detector.alarm, detector.peak >= detector.threshold) == (first, True)


def test_state_round_trip() -> None:
    rng, detector = np.random.default_rng(1), Detector(1.0, 0.01)
    assert Detector.load(1.0, 0.01, detector.state()).state() == detector.state()
    detector.update(rng.uniform(-1, 1, 100))
    again, x = Detector.load(1.0, 0.01, detector.state()), rng.uniform(-0.5, 1, 100)
    for each in (detector, again):
        each.update(x)
    assert detector.state() == again.state()


def test_observations_outside_the_bound_are_refused() -> None:
    with pytest.raises(DataError, match="within ±1"):
        Detector(1.0, 0.01).update([1.1])
