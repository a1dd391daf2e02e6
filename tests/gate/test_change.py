"""Changes of the world: seen soon, not where there are none, not by a model that is only wrong as it always was."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline import ConfigError
from nearline.gate import ChangeDetector, ChangeSettings
from nearline.glmix._links import by_name
from nearline.glmix._predictive import excess

TICK = 150


def alarms(detector: ChangeDetector, y: np.ndarray, z: np.ndarray, s: np.ndarray | None = None) -> list[int]:
    """Examples seen at every alarm, ticks of 150."""
    s = np.zeros(len(y)) if s is None else s
    cuts = range(0, len(y), TICK)
    return [k + TICK for k in cuts if detector.observe(y[k : k + TICK], z[k : k + TICK], s[k : k + TICK])]


def clicks(rng: np.random.Generator, margin: np.ndarray) -> np.ndarray:
    return (rng.random(len(margin)) < 1 / (1 + np.exp(-margin))).astype(float)


@pytest.mark.parametrize(
    ("link", "draw"),
    [
        ("logit", lambda rng, z, s: clicks(rng, z)),
        ("identity", lambda rng, z, s: rng.normal(z, np.sqrt(s + 1.0))),
        ("log", lambda rng, z, s: rng.poisson(np.exp(z))),
    ],
)
def test_the_excess_has_mean_zero_where_the_predictive_distribution_is_right(link: str, draw: object) -> None:
    rng = np.random.default_rng(1)
    z = rng.normal(-0.5, 1.0, 200_000)
    s = np.full(len(z), 0.5 if link == "identity" else 0.0)
    x = excess(by_name(link), draw(rng, z, s), z, s, np.ones(len(z)))  # type: ignore[operator]
    assert abs(x.mean()) < 5 * x.std() / np.sqrt(len(x))


def test_the_excess_of_a_click_is_its_loss_less_the_entropy() -> None:
    # p = 1/4: L = log 4, H = −(1/4) log(1/4) − (3/4) log(3/4)
    found = excess(by_name("logit"), np.ones(1), np.array([np.log(1 / 3)]), np.array([np.nan]), np.ones(1))
    assert found[0] == pytest.approx(np.log(4) - 0.25 * np.log(4) - 0.75 * np.log(4 / 3), abs=1e-12)


def test_no_alarm_while_the_model_is_right() -> None:
    # 30 streams of 30,000: with alpha = 0.001 more than one alarm has probability below 0.0005
    found = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        z = rng.normal(-1.0, 1.2, 30_000)
        found += len(alarms(ChangeDetector(ChangeSettings()), clicks(rng, z), z)) > 0
    assert found <= 1


@pytest.mark.parametrize("slope", [0.6, 1.6])
def test_a_model_that_is_always_wrong_is_not_a_changed_world(slope: float) -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(-1.0, 1.2, 60_000)
    off = excess(by_name("logit"), clicks(rng, truth), slope * truth, 0 * truth, 0 * truth).mean()
    assert abs(off) > 0.05
    assert alarms(ChangeDetector(ChangeSettings()), clicks(rng, truth), slope * truth) == []


@pytest.mark.parametrize("before", [3_000, 60_000])
@pytest.mark.parametrize(("kept", "nats", "soon"), [(0.0, 0.25, 600), (0.35, 0.17, 1_500), (0.5, 0.13, 2_000)])
def test_a_change_is_seen_soon(kept: float, nats: float, soon: int, before: int) -> None:
    delays, after = [], 4_500
    for seed in range(8):
        rng = np.random.default_rng(seed)
        truth = rng.normal(0.0, 1.2, before + after)
        model = truth.copy()
        model[before:] = kept * truth[before:] + np.sqrt(1 - kept**2) * rng.normal(0.0, 1.2, after)
        y = clicks(rng, truth - 0.85)
        off = excess(by_name("logit"), y[before:], model[before:] - 0.85, np.zeros(after), np.ones(after)).mean()
        assert off == pytest.approx(nats, abs=0.04)
        found = alarms(ChangeDetector(ChangeSettings()), y, model - 0.85)
        delays.append(found[0] - before)
    assert min(delays) > 0
    assert np.mean(delays) < soon


def test_after_an_alarm_the_model_has_time_to_learn() -> None:
    rng = np.random.default_rng(5)
    z = rng.normal(0.0, 1.5, 40_000)
    y = clicks(rng, -z)  # wrong for ever
    detector = ChangeDetector(ChangeSettings(cooldown=9_000, minimum=300))
    warm = rng.normal(0.0, 1.5, 3_000)
    assert alarms(detector, clicks(rng, warm), warm) == []
    found = alarms(detector, y, z)
    assert len(found) >= 2
    assert found[1] - found[0] >= 9_000


def test_a_cold_model_is_not_surprised_by_what_it_does_not_know() -> None:
    from nearline import Fixed, GLMix, Random, Schema

    rng = np.random.default_rng(7)
    n = 30_000
    user, item = rng.integers(0, 400, n), rng.integers(0, 40, n)
    margin = rng.normal(0, 0.7, 400)[user] + rng.normal(0, 0.5, 40)[item] - 1.0
    table = {"user": user, "item": item, "y": clicks(rng, margin)}
    model = GLMix(Schema(label="y"), Fixed(), [Random("user"), Random("item")])
    seen = model.progressive(table, variances=True)
    assert alarms(ChangeDetector(ChangeSettings(minimum=150)), table["y"], seen.margin, seen.variance) == []


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), cut=st.integers(0, 40), minimum=st.integers(1, 2_000))
def test_what_it_remembers_fits_into_json_and_goes_on_to_the_bit(seed: int, cut: int, minimum: int) -> None:
    rng, chosen = np.random.default_rng(seed), ChangeSettings(minimum=minimum, cooldown=700)
    z = rng.normal(0.0, 2.0, 40 * TICK)
    y = clicks(rng, np.where(np.arange(len(z)) < 20 * TICK, z, -z))
    one, other, said = ChangeDetector(chosen), ChangeDetector(chosen), []
    for k in range(40):
        if k == cut:
            other = ChangeDetector.load(chosen, json.loads(json.dumps(other.state())))
        rows = slice(k * TICK, (k + 1) * TICK)
        said.append([d.observe(y[rows], z[rows], 0 * z[rows]) for d in (one, other)])
    assert all(a == b for a, b in said)
    assert one.state() == other.state()
    assert any(a for a, _ in said)


def test_the_reason_has_the_numbers() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(0, 1.5, 20_000)
    detector = ChangeDetector(ChangeSettings())
    detector.observe(clicks(rng, z), z, 0 * z)
    reason = detector.observe(clicks(rng, -z[:3_000]), z[:3_000], np.zeros(3_000))
    assert "nats per example above what the model expects" in reason
    assert "needed 1e+03" in reason


def test_rows_without_a_margin_or_weight_are_passed_over() -> None:
    detector = ChangeDetector(ChangeSettings())
    assert detector.observe([1.0, 1.0, np.nan], [np.nan, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 1.0]) == ""
    assert detector.seen == 0


def test_evidence_of_other_settings_does_not_carry_over() -> None:
    old = ChangeDetector(ChangeSettings())
    old.observe(np.ones(100), np.zeros(100), np.zeros(100))
    assert old.seen == 100
    assert ChangeDetector.load(ChangeSettings(alpha=0.01), old.state()).seen == 0
    assert ChangeDetector.load(ChangeSettings(), None).seen == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": 0.0},
        {"bound": -1.0},
        {"tolerance": 2.0},
        {"minimum": 0},
        {"cooldown": -1},
        {"share": 0.0},
        {"share": 1.5},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ChangeSettings(**wrong)  # type: ignore[arg-type]
