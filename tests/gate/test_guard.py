"""The guard on simulated traffic: it must not fire on equals, must fire on worse, and must survive a restart."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from nearline import ConfigError, DataError, StateError, evaluate
from nearline.gate import Guard, GuardSettings

SETTINGS = GuardSettings(alpha=0.05, window=1000)


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def traffic(rng: np.random.Generator, n: int, live: float, stale: float) -> tuple[np.ndarray, ...]:
    """Labels of a logistic truth, and margins off by noise of these standard deviations; the third knows the rate."""
    truth = rng.normal(-1.0, 1.2, n)
    label = (rng.random(n) < sigmoid(truth)).astype(float)
    return label, truth + rng.normal(0, live, n), truth + rng.normal(0, stale, n), np.full(n, -0.8)


def test_equals_are_left_alone_in_200_runs() -> None:
    rng, fired = np.random.default_rng(3), 0
    for _ in range(200):
        guard = Guard(SETTINGS)
        for tick in range(12):
            guard.observe(*traffic(rng, 250, 0.3, 0.3), time=float(tick))
        fired += guard.verdict().action == "roll back"
    assert fired <= 200 * 0.05 + 3 * math.sqrt(200 * 0.05 * 0.95)


@pytest.mark.parametrize("before", [0, 20_000])
def test_flipped_labels_are_seen_within_hundreds(before: int) -> None:
    rng, guard = np.random.default_rng(7), Guard(GuardSettings())
    if before:
        guard.observe(*traffic(rng, before, 0.1, 0.3))
    assert guard.verdict().action == "watching"
    label, live, stale, fixed = traffic(rng, 400, 0.1, 0.3)
    for k in range(0, 400, 40):
        rows = slice(k, k + 40)
        guard.observe(label[rows], -0.3 * live[rows], stale[rows], fixed[rows])
    verdict = guard.verdict()
    assert verdict.action == "roll back"
    assert "live is worse than stale: mean loss" in verdict.reason
    assert "needed 100" in verdict.reason


def test_a_roll_back_stays_until_restart() -> None:
    rng, guard = np.random.default_rng(7), Guard(GuardSettings())
    label, live, stale, fixed = traffic(rng, 2000, 0.1, 0.1)
    guard.observe(label, -live, stale, fixed)
    reason = guard.verdict().reason
    guard.observe(*traffic(rng, 5000, 0.1, 1.0))
    assert guard.verdict().reason == reason
    guard.restart()
    assert (guard.verdict().action, guard.verdict().reason) == ("watching", "no examples yet")
    assert guard.summary()["window"] == 5000
    guard.observe(*traffic(rng, 1000, 0.1, 1.0))
    assert guard.verdict().reason.startswith("live against stale over 1,000 examples: better by 0.")


def test_not_before_the_minimum() -> None:
    guard = Guard(GuardSettings(minimum=500))
    label = np.ones(499)
    guard.observe(label, -3 * label, 3 * label, label)
    assert guard.verdict().action == "watching"
    guard.observe([1.0], [0.0], [0.0], [0.0])
    assert guard.verdict().action == "roll back"


def test_worse_within_the_tolerance_is_no_reason() -> None:
    rng = np.random.default_rng(5)
    rows = traffic(rng, 20_000, 0.9, 0.0)
    for tolerance, action in ((0.0, "roll back"), (0.2, "watching")):
        guard = Guard(GuardSettings(tolerance=tolerance))
        guard.observe(*rows)
        assert guard.verdict().action == action


@pytest.mark.parametrize("link", ["logit", "identity", "log"])
def test_a_live_model_that_is_not_finite_is_rolled_back(link: str) -> None:
    guard, ones = Guard(GuardSettings(link=link)), np.ones(200)
    guard.observe(ones, np.nan * ones, ones, ones)
    guard.observe(ones, np.inf * ones, ones, ones)
    assert guard.verdict().action == "roll back"
    json.dumps(guard.summary(), allow_nan=False)


def test_a_stale_model_that_is_not_finite_is_not() -> None:
    guard, ones = Guard(GuardSettings()), np.ones(200)
    guard.observe(ones, ones, np.inf * ones, ones)
    assert guard.verdict().action == "watching"
    assert guard.summary()["lift_over_stale"]["mean"] == 2.0


def test_margins_beyond_single_precision() -> None:
    guard, ones = Guard(GuardSettings(link="identity")), np.ones(200)
    guard.observe(ones, 1e60 * ones, ones, ones)
    assert guard.verdict().action == "roll back"


def test_summary_is_what_the_metrics_say() -> None:
    rng, guard = np.random.default_rng(9), Guard(SETTINGS)
    label, live, stale, fixed = (column.astype(np.float32).astype(float) for column in traffic(rng, 3000, 0.2, 0.5))
    weight = rng.choice([0.25, 0.5, 1.0], 3000)
    for k in range(0, 3000, 700):
        rows = slice(k, k + 700)
        guard.observe(label[rows], live[rows], stale[rows], fixed[rows], weight[rows], time=float(k))
    summary, last = guard.summary(), slice(2000, 3000)
    assert summary["window"] == 1000
    for name, margin in (("live", live), ("stale", stale), ("fixed", fixed)):
        y, p, w = label[last], sigmoid(margin[last]), weight[last]
        assert summary[name]["log_loss"] == pytest.approx(evaluate.log_loss(y, p, w))
        assert summary[name]["auc"] == pytest.approx(evaluate.auc(y, p, w))
        assert summary[name]["calibration"] == pytest.approx(evaluate.calibration_ratio(y, p, w))
    y, right = label[last] > 0.5, (stale[last] > 0) == (label[last] > 0.5)
    flips = weight[last] @ (((live[last] > 0) != y) & right) / weight[last].sum()
    assert summary["negative_flips"] == pytest.approx(flips)
    loss = [np.logaddexp(0, margin) - label * margin for margin in (live, stale)]
    assert summary["lift_over_stale"]["mean"] == pytest.approx(np.clip(weight * (loss[1] - loss[0]), -2, 2).mean())
    assert summary["lift_over_stale"]["n"] == 3000
    assert 500 <= summary["lift_recent"]["n"] <= 1000
    assert [point["time"] for point in summary["series"]] == [0.0, 700.0, 1400.0, 2100.0, 2800.0]
    total = [evaluate.log_loss(label[:700], sigmoid(m[:700]), weight[:700]) for m in (live, stale, fixed)]
    assert [summary["series"][0][name] for name in ("live", "stale", "fixed")] == pytest.approx(total)


def test_the_calibration_interval_covers_and_tells() -> None:
    rng, missed = np.random.default_rng(6), 0
    for _ in range(100):
        guard = Guard(GuardSettings(window=500))
        wrong = False
        for _ in range(20):
            guard.observe(*traffic(rng, 100, 0.0, 0.0))
            low, high = guard.summary()["calibration_interval"]
            wrong |= not (low <= 1.0 and (high is None or high >= 1.0))
        missed += wrong
    # a fresh sequence every 250 examples, 5 % each: nine sequences are shown in a run
    assert missed / 100 <= 0.3
    label, live, stale, fixed = traffic(rng, 5000, 0.0, 0.0)
    guard = Guard(GuardSettings())
    guard.observe(label, live + 0.5, stale, fixed)
    low, high = guard.summary()["calibration_interval"]
    assert 1.0 < low < guard.summary()["live"]["calibration"] < high


def test_a_restart_changes_nothing() -> None:
    rng = np.random.default_rng(12)
    whole, reloaded = Guard(SETTINGS), Guard(SETTINGS)
    for tick in range(30):
        rows = traffic(rng, int(rng.integers(0, 200)), 0.5, 0.3)
        for guard in (whole, reloaded):
            guard.observe(*rows, time=float(tick))
        reloaded = Guard.load(SETTINGS, json.loads(json.dumps(reloaded.state())))
        assert reloaded.state() == whole.state()
        assert (reloaded.summary(), reloaded.verdict()) == (whole.summary(), whole.verdict())


def test_a_new_guard_says_so_and_nothing_is_nan() -> None:
    guard = Guard(GuardSettings())
    assert guard.verdict().reason == "no examples yet"
    guard.observe([], [], [], [])
    summary = guard.summary()
    assert (summary["window"], summary["live"]["log_loss"], summary["calibration_interval"]) == (0, None, None)
    json.dumps(summary, allow_nan=False)


def test_the_series_has_a_bounded_number_of_points_and_loses_nothing() -> None:
    guard = Guard(replace(SETTINGS, points=20, resolution=1.0))
    for tick in range(500):
        guard.observe([1.0], [0.0], [0.0], [0.0], time=1000.0 + 0.7 * tick)
    for tick in range(30):
        guard.observe([1.0], [0.0], [0.0], [0.0], time=1e6 * (tick + 1))
    buckets = guard._series.buckets()
    assert len(guard.summary()["series"]) <= 20
    assert sum(sums[0] for _, sums in buckets) == 530
    assert [time for time, _ in buckets] == sorted(time for time, _ in buckets)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (([1.0], [0.0, 0.0], [0.0], [0.0]), "'live'.*shape"),
        (([2.0], [0.0], [0.0], [0.0]), "labels do not suit the logit link"),
        (([np.nan], [0.0], [0.0], [0.0]), "labels do not suit the logit link"),
        (([1.0], [0.0], [0.0], [0.0], [-1.0]), "'weight'"),
    ],
)
def test_bad_input_is_refused_and_nothing_taken(rows: tuple, words: str) -> None:
    guard = Guard(GuardSettings())
    before = guard.state()
    with pytest.raises(DataError, match=words):
        guard.observe(*rows)
    assert guard.state() == before


def test_state_of_another_format_or_other_settings() -> None:
    state = Guard(GuardSettings()).state()
    with pytest.raises(StateError, match="format 9"):
        Guard.load(GuardSettings(), {**state, "version": 9})
    with pytest.raises(StateError, match="start a new Guard"):
        Guard.load(GuardSettings(bound=1.0), state)


@pytest.mark.parametrize(
    "change",
    [
        {"alpha": 0.0},
        {"bound": -1.0},
        {"link": "probit"},
        {"coverage": 1.0},
        {"threshold": 0.0},
        {"max_weight": 0.0},
        {"resolution": math.inf},
        {"minimum": 0},
        {"window": 1},
        {"points": 1},
        {"tolerance": 2.0},
    ],
)
def test_settings_that_make_no_sense(change: dict) -> None:
    with pytest.raises(ConfigError, match="|".join([*change, "link"])):
        GuardSettings(**change)
