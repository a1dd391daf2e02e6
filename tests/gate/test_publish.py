"""The publish gate on simulated candidates: equal ones pass, each kind of harm is refused by its own check."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from nearline import ConfigError, DataError, evaluate
from nearline.gate import Evidence, Gate, PublishGate, PublishSettings, Scores, Verdict

SETTINGS = PublishSettings(negative_flips=0.05)
N = 20_000


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


class World:
    """Labels of a logistic truth over users with their own level, and margins that are off by some noise."""

    def __init__(self, seed: int, n: int = N, users: int = 500) -> None:
        self.rng = np.random.default_rng(seed)
        self.user = self.rng.integers(0, users, n)
        self.truth = self.rng.normal(-1.0, 1.0, n) + self.rng.normal(0, 0.7, users)[self.user]
        self.label = (self.rng.random(n) < sigmoid(self.truth)).astype(float)
        self.country = np.array(["de", "fr", "it", "no"])[self.rng.integers(0, 4, n)]

    def margin(self, noise: float) -> np.ndarray:
        return self.truth + self.rng.normal(0, noise, len(self.truth))

    def check(
        self, live: np.ndarray, candidate: np.ndarray, settings: PublishSettings = SETTINGS, **more: float
    ) -> Verdict:
        evidence = Evidence(self.label, entities={"user": self.user}, slices={"country": self.country})
        return PublishGate(settings, evidence).check(Scores(live, latency=0.002, size=1e8), Scores(candidate, **more))


def failed(verdict: Verdict) -> set[str]:
    return {check.name for check in verdict.checks if not check.passed}


def test_a_better_candidate_passes_every_check() -> None:
    world = World(0)
    verdict = world.check(
        world.margin(0.6), world.margin(0.1), replace(SETTINGS, negative_flips=0.2), latency=0.0025, size=1.5e8
    )
    assert verdict.passed, verdict.reasons
    assert [check.name for check in verdict.checks] == [
        "examples", "loss", "calibration", "calibration_error", "negative_flips", "slices", "latency", "size",
    ]  # fmt: skip
    assert len(verdict.slices) == 4
    assert verdict.checks[1].value < 0


def test_the_live_model_itself_passes() -> None:
    world = World(1)
    live = world.margin(0.3)
    verdict = world.check(live, live)
    assert verdict.passed, verdict.reasons
    assert verdict.checks[1].interval == (0.0, 0.0)


@pytest.mark.parametrize(
    ("harm", "names"),
    [
        (lambda w, live: live + 0.3, {"loss", "calibration", "calibration_error", "slices"}),
        (lambda w, live: -live, {"loss", "negative_flips", "slices", "calibration", "calibration_error"}),
        (lambda w, live: np.where(w.country == "it", live - 1.0, live), {"loss", "slices", "calibration"}),
    ],
)
def test_harm_is_refused_by_its_checks(harm: object, names: set[str]) -> None:
    world = World(2)
    live = world.margin(0.1)
    verdict = world.check(live, harm(world, live))  # type: ignore[operator]
    assert not verdict.passed
    assert names <= failed(verdict)
    assert len(verdict.reasons) == len(failed(verdict))


def test_one_bad_slice_is_named_where_the_whole_gains() -> None:
    world = World(3)
    live = world.margin(0.8)
    better = np.where(world.country == "no", live + world.rng.normal(0, 0.9, N), world.margin(0.1))
    verdict = world.check(live, better, replace(SETTINGS, negative_flips=0.2))
    assert failed(verdict) == {"slices"}
    assert "1 of 4 lose more than 1.00%: country no" in verdict.reasons[0]
    worst = verdict.slices[0]
    assert (worst.key, worst.value, worst.worse) == ("country", "no", True)


def test_costs_are_compared_with_live_and_below_a_floor_with_nothing() -> None:
    world = World(4)
    live = world.margin(0.1)
    assert failed(world.check(live, live, latency=0.0031, size=2.1e8)) == {"latency", "size"}
    assert (
        failed(world.check(live, live, replace(SETTINGS, latency_floor=0.01, size_floor=1e9), latency=0.009, size=9e8))
        == set()
    )


def test_too_few_examples_are_no_evidence() -> None:
    world = World(5, n=300)
    verdict = world.check(world.margin(0.5), world.margin(0.1))
    assert failed(verdict) == {"examples"}
    assert verdict.reasons == ("examples: 300 with an outcome, 500 are needed",)


def test_what_cannot_be_told_from_worse_is_refused_and_says_how_many_examples_would_tell() -> None:
    world = World(6, n=1_000)
    verdict = world.check(world.margin(0.5), world.margin(0.5))
    assert "loss" in failed(verdict)
    reason = next(reason for reason in verdict.reasons if reason.startswith("loss"))
    assert "is allowed" in reason


def test_equal_models_are_seldom_called_worse_by_the_checks_of_harm() -> None:
    """Each of four checks, at confidence 0.95, may refuse one harmless candidate in twenty."""
    found = []
    for seed in range(60):
        world = World(100 + seed, n=3_000, users=100)
        verdict = world.check(world.margin(0.3), world.margin(0.3), replace(SETTINGS, negative_flips=0.08))
        found += [name for name in failed(verdict) if name != "loss"]
    assert len(found) <= 60 * 4 * 0.05 + 3 * np.sqrt(60 * 4 * 0.05 * 0.95)


def test_the_tolerance_is_kept_where_the_rows_of_an_entity_fail_together() -> None:
    """A candidate worse by the tolerance passes at most one time in twenty, though its errors come in entities."""
    passed = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        user = rng.integers(0, 60, 4_000)
        label = (rng.random(4_000) < 0.3).astype(float)
        live = np.full(4_000, np.log(0.3 / 0.7))
        added = rng.normal(0, 0.05, 60)
        # margins whose loss is the live one plus the user's own constant
        loss = -np.where(label == 1, np.log(0.3), np.log(0.7)) * (1 + 0.005 + added[user])
        p = np.exp(-loss)
        candidate = np.where(label == 1, np.log(p) - np.log1p(-p), np.log1p(-p) - np.log(p))
        evidence = Evidence(label, entities={"user": user})
        verdict = PublishGate(SETTINGS, evidence).check(Scores(live), Scores(candidate))
        passed += verdict.checks[1].passed
    assert passed <= 120 * 0.05 + 3 * np.sqrt(120 * 0.05 * 0.95)


def test_weights_count_as_copies_do() -> None:
    world = World(7, n=2_000)
    live, candidate = world.margin(0.3), world.margin(0.1)
    twice = np.r_[np.arange(2_000), np.arange(1_000)]
    weight = np.where(np.arange(2_000) < 1_000, 2.0, 1.0)
    gate = PublishGate(SETTINGS, Evidence(world.label, weight, {"user": world.user}))
    copies = PublishGate(SETTINGS, Evidence(world.label[twice], None, {"user": world.user[twice]}))
    one, other = (
        gate.check(Scores(live), Scores(candidate)),
        copies.check(Scores(live[twice]), Scores(candidate[twice])),
    )
    for a, b in zip(one.checks[1:3], other.checks[1:3]):
        assert (a.value, a.interval) == (pytest.approx(b.value), pytest.approx(b.interval))


def test_values_are_those_of_the_evaluators() -> None:
    world = World(8)
    live, candidate = world.margin(0.4), world.margin(0.2)
    checks = {check.name: check for check in world.check(live, candidate).checks}
    p = sigmoid(candidate)
    before = evaluate.log_loss(world.label, sigmoid(live))
    assert checks["loss"].value == pytest.approx(evaluate.log_loss(world.label, p) / before - 1)
    assert checks["calibration"].value == pytest.approx(evaluate.calibration_ratio(world.label, p))
    ece = evaluate.expected_calibration_error(world.label, p, bins=10, strategy="quantile")
    assert checks["calibration_error"].value == pytest.approx(ece, abs=1e-4)
    flips = np.mean(((live > 0) == world.label) & ((candidate > 0) != world.label))
    assert checks["negative_flips"].value == pytest.approx(flips)


@pytest.mark.parametrize("link", ["identity", "log"])
def test_other_links_are_judged_by_their_loss_and_slices(link: str) -> None:
    rng = np.random.default_rng(9)
    truth = rng.normal(0.5, 0.5, 5_000)
    label = rng.normal(truth, 0.5) if link == "identity" else rng.poisson(np.exp(truth)).astype(float)
    gate = PublishGate(replace(SETTINGS, link=link), Evidence(label, slices={"half": np.arange(5_000) % 2}))
    verdict = gate.check(Scores(truth + 0.3), Scores(truth))
    assert verdict.passed
    assert [check.name for check in verdict.checks] == ["examples", "loss", "slices"]
    assert not gate.check(Scores(truth), Scores(truth + 0.3)).passed


def test_a_verdict_is_plain_json() -> None:
    world = World(10)
    found = json.loads(json.dumps(world.check(world.margin(0.1), world.margin(0.4)).summary(), allow_nan=False))
    assert found["passed"] is False
    assert found["checks"][1]["limits"] == [None, 0.005]


def test_bad_input_is_refused() -> None:
    gate: Gate = PublishGate(SETTINGS, Evidence([0, 1]))
    with pytest.raises(DataError, match="column 'candidate', row 1: 1 margins are not finite"):
        gate.check(Scores([0.0, 0.0]), Scores([0.0, np.nan]))
    with pytest.raises(DataError, match="column 'live'"):
        gate.check(Scores([0.0]), Scores([0.0, 0.0]))
    with pytest.raises(DataError, match="label"):
        Evidence([0, np.nan])
    with pytest.raises(DataError, match="weight"):
        Evidence([0, 1], weight=[1, -1])
    with pytest.raises(DataError, match="user"):
        Evidence([0, 1], entities={"user": [1]})
    for wrong in ({"confidence": 0.4}, {"tolerance": -1.0}, {"minimum": 0}, {"calibration": (1.1, 1.2)}, {"link": "x"}):
        with pytest.raises(ConfigError):
            PublishSettings(**wrong)  # type: ignore[arg-type]
