"""Recalibration in the live loop: learned of raw scores, committed with them, served, and recorded beside the score."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import numpy as np
import pytest
from tests.loop.parts import Bench, rows, trained
from tests.loop.running import Clock, happened, opened, predict, published, turn

from nearline.loop._calibration import Calibration
from nearline.loop._learner import Learner
from nearline.recalibrate import Curve, RecalibrationSettings, Recalibrator
from nearline.serve import App

SETTINGS = RecalibrationSettings(alpha=0.05, window=100_000)


class Mended(Bench):
    """A bench whose learner recalibrates."""

    def _learner(self) -> Learner:
        return Learner(
            self.storage, self.policy, self.safety, lambda version: self.models[version], self.guard,
            batch=self.batch, recalibrate=SETTINGS,
        )  # fmt: skip


def lived(bench: Bench, ticks: int, seed: int = 0, rate: float = 0.02) -> None:
    """Far fewer clicks than the model of the history expects."""
    rng = np.random.default_rng(seed)
    for tick in range(ticks):
        positions = bench.predict(rows(rng.integers(0, 10, 20).tolist(), seed=seed + tick))
        bench.happened(positions, (rng.random(20) < rate).astype(float).tolist())
        bench.tick()


def test_the_map_is_learned_of_the_scores_that_were_served() -> None:
    bench = Mended()
    lived(bench, 10)
    found = Recalibrator(SETTINGS)
    table = bench.storage.examples.read(0)
    label, score, time = (table.column(name).to_numpy() for name in ("label", "score", "time"))
    for k in range(0, len(label), 20):
        part = slice(k, k + 20)
        found.observe(label[part], score[part], time=float(time[part].max()))
    assert bench.learner.calibration.state() == found.state()


def test_after_a_crash_it_goes_on_as_if_there_had_been_none() -> None:
    calm, crashed = Mended(), Mended()
    for k in range(4):
        lived(calm, 3, seed=k)
        lived(crashed, 3, seed=k)
        crashed.crash()
    assert crashed.learner.calibration.state() == calm.learner.calibration.state()
    assert calm.learner.calibration.summary()["examples"] == 240  # type: ignore[index]


def test_off_there_is_nothing() -> None:
    bench = Bench()
    lived(bench, 2)
    found = bench.learner.calibration
    assert (found.curve, found.state(), found.summary()) == (None, None, None)
    with bench.state.snapshot() as saved:
        assert "recalibration" not in saved.meta


def test_other_settings_begin_anew() -> None:
    found = Recalibrator(SETTINGS)
    found.observe([1.0, 0.0], [0.5, -0.5])
    kept = Calibration.of(SETTINGS, found.state())
    fresh = Calibration.of(RecalibrationSettings(level=0.1), found.state())
    assert kept.summary()["examples"] == 2  # type: ignore[index]
    assert fresh.summary()["examples"] == 0  # type: ignore[index]


@pytest.fixture
def mended(tmp_path: Path):
    clock = Clock()
    published(tmp_path / "state", trained(), clock=clock)
    loop = opened(tmp_path / "state", clock, recalibrate=SETTINGS)
    yield loop
    loop.close()


def test_what_is_served_is_mapped_and_the_ledger_holds_both(mended) -> None:
    loop, rng = mended, np.random.default_rng(0)
    assert loop.status()["recalibration"]["on"] is False
    assert loop.live.recalibrated
    # the learner's own map is set by hand: that a map is switched on by evidence is tested where it is learned
    loop.learner.calibration._found._switch.on = True
    loop.learner.calibration._found._all.mean = np.array([[-0.5, 0.7, 0.7]])
    happened(loop, predict(loop, rows(rng.integers(0, 10, 20).tolist())), rng.integers(0, 2, 20).astype(float))
    turn(loop)
    curve = loop.learner.calibration.curve
    assert isinstance(curve, Curve)
    scorer = loop.live.scorer
    design, _ = scorer.model.design({**rows([1, 2, 3]), "when": [1_000.0] * 3}, learn=False)
    scores = scorer.score(design)
    assert (scores.served == curve(scores.margin)).all()
    assert (scores.served != scores.margin).all()
    assert (scores.margin == scorer.model.decision_function(design)).all()
    assert loop.status()["recalibration"]["on"] is True
    assert "served" in loop.storage.predictions.schema.names


@pytest.mark.parametrize("sample", [False, True])
def test_over_http_the_probability_is_that_of_the_served_score_and_the_ledger_holds_both(mended, sample: bool) -> None:
    loop = mended
    loop.error = None
    loop.live.scorer.remap = Curve(-0.5, 0.7, 0.7)
    row = {"member": 3, "ad": "ad1", "price": 9.0, "when": loop.clock.now}

    async def asking() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=App(loop)), base_url="http://localhost"
        ) as client:
            return await client.post("/predict", json={"rows": [row], **({"sample": True} if sample else {})})

    answer = asyncio.run(asking())
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["predictions"]
    (kept,) = loop.storage.predictions.read(0).select(["score", "served"]).to_pylist()
    assert kept["served"] == pytest.approx(-0.5 + 0.7 * kept["score"])
    assert found["probability"] == pytest.approx(1 / (1 + np.exp(-kept["served"])))


def test_a_directory_can_begin_and_stop_to_recalibrate(tmp_path: Path) -> None:
    clock = Clock()
    published(tmp_path / "state", trained(), clock=clock)
    for settings in (None, SETTINGS, None):
        loop = opened(tmp_path / "state", clock, recalibrate=settings)
        ids = predict(loop, rows([1, 2, 3]))
        happened(loop, ids, 1.0)
        turn(loop)
        assert loop.live.recalibrated == (settings is not None)
        assert loop.learner.calibration.state() is None or settings is not None
        loop.close()
        clock.now += 1.0
