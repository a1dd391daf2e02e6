"""Candidates played against the ledger: what is served is no worse than itself, harm is refused, and sight is fair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.loop.parts import Bench, history, rows, trained

from nearline import ConfigError, GLMix
from nearline.gate import PublishSettings, Verdict
from nearline.loop import Cutoff, Gating, judge
from nearline.loop._cost import TURNS, latencies, size
from nearline.loop._trial import Trial
from nearline.store import Record, Version

GATING = Gating(PublishSettings(negative_flips=0.2, minimum=100))


def lived(mode: str = "event", ticks: int = 40) -> Bench:
    """A service that learned for a while what its members like: their number says it."""
    bench = Bench(trained(mode=mode))
    rng = np.random.default_rng(5)
    for tick in range(ticks):
        members = rng.integers(0, 10, 20)
        positions = bench.predict(rows(members.tolist(), seed=tick))
        bench.happened(positions, (rng.random(20) < (1 + members) / 11).astype(float).tolist())
        bench.tick()
    return bench


def judged(bench: Bench, candidate: GLMix, cutoff: int = 0, gating: Gating = GATING) -> Verdict:
    return judge(
        candidate, Cutoff(cutoff, 0), bench.storage.predictions, bench.storage.examples, gating, safety=bench.safety
    )  # fmt: skip


def failed(verdict: Verdict) -> set[str]:
    return {check.name for check in verdict.checks if not check.passed}


def test_the_base_played_again_is_live_to_the_bit() -> None:
    bench = lived()
    before = bench.base.block("member").mean.copy()
    verdict = judged(bench, bench.base)
    assert verdict.passed, verdict.reasons
    loss = verdict.checks[1]
    assert (loss.value, loss.interval) == (0.0, (0.0, 0.0))
    assert verdict.checks[0].value == 800
    assert (bench.base.block("member").mean == before).all()


def test_corrections_are_learned_as_live_learned_them() -> None:
    """Corrected and retracted along the way: the base played again is still live to the bit."""
    bench = Bench()
    rng = np.random.default_rng(3)
    for tick in range(12):
        positions = bench.predict(rows(rng.integers(0, 10, 20).tolist(), seed=tick))
        bench.happened(positions, rng.integers(0, 2, 20).astype(float).tolist())
        bench.tick()
        bench.happened(positions[:4], (1.0 - rng.integers(0, 2, 4)).tolist(), kind="correct")
        bench.happened(positions[4:6], None, kind="retract")
        bench.tick()
    verdict = judged(bench, bench.base)
    loss = verdict.checks[1]
    assert (loss.value, loss.interval) == (0.0, (0.0, 0.0))
    assert verdict.checks[0].value == 12 * 18


def test_what_a_version_holds_can_be_corrected_after_its_cut_off() -> None:
    bench = Bench()
    positions = bench.predict(rows(list(range(10)) * 20))
    bench.happened(positions, 0.0)
    bench.tick()
    cut, version = bench.storage.examples.end, bench.model.replica()
    bench.happened(positions[:50], 1.0, kind="correct")
    bench.tick()
    later = bench.predict(rows(list(range(10)) * 20, seed=1))
    bench.happened(later, 1.0)
    bench.tick()
    logs = bench.storage.predictions, bench.storage.examples
    verdict = judge(version, Cutoff(cut, 0, ((0, cut),)), *logs, GATING, safety=bench.safety)
    assert verdict.checks[1].interval == (0.0, 0.0)


def test_a_later_version_is_judged_on_what_came_after_it() -> None:
    bench = lived()
    verdict = judged(bench, bench.model, cutoff=bench.storage.examples.end)
    assert failed(verdict) == {"examples"}
    assert verdict.checks[0].value == 0


@pytest.mark.parametrize("mode", ["event", "minibatch"])
def test_a_model_of_flipped_labels_is_refused_though_it_learns(mode: str) -> None:
    bench = lived(mode)
    flipped = GLMix(bench.base.schema, bench.base.fixed, bench.base.random, mode=mode)
    rng = np.random.default_rng(0)
    past = history(4_000)
    past["clicked"] = rng.random(4_000) > (1 + past["member"]) / 11
    flipped.partial_fit(past)
    verdict = judged(bench, flipped)
    assert "loss" in failed(verdict)
    assert verdict.checks[1].value > 0.05


def test_a_model_that_knows_the_members_passes() -> None:
    bench = lived()
    wise = GLMix(bench.base.schema, bench.base.fixed, bench.base.random)
    past = history(4_000)
    past["clicked"] = np.random.default_rng(0).random(4_000) < (1 + past["member"]) / 11
    wise.partial_fit(past)
    verdict = judged(bench, wise)
    assert verdict.checks[1].value < 0
    assert verdict.passed, verdict.reasons


def test_labels_are_those_of_the_end() -> None:
    """What was corrected counts as corrected, what was taken back not at all."""
    bench = Bench()
    positions = bench.predict(rows(list(range(10)) * 2))
    bench.happened(positions, 0.0)
    bench.tick()
    bench.happened(positions[:3], 1.0, kind="correct")
    bench.happened(positions[3:5], None, kind="retract")
    bench.tick()
    trial = Trial("logit", bench.storage.predictions, GATING)
    for _, batch in bench.storage.examples.batches(0):
        trial.add(batch, np.zeros(batch.num_rows))
    position, label, *_ = trial._collected()
    assert position.tolist() == [*positions[:3], *positions[5:]]
    assert label.tolist() == [1.0] * 3 + [0.0] * 15


def test_slices_are_recorded_columns_and_numbers_come_in_quarters() -> None:
    bench = lived()
    gating = Gating(PublishSettings(minimum=100, slice_minimum=50), slices=("ad", "price"), entities=("member",))
    verdict = judged(bench, bench.base, gating=gating)
    names = {(piece.key, piece.value) for piece in verdict.slices}
    assert {key for key, _ in names} == {"ad", "price"}
    assert len([value for key, value in names if key == "price"]) == 4
    with pytest.raises(ConfigError, match="colour"):
        judged(bench, bench.base, gating=Gating(slices=("colour",)))
    with pytest.raises(ConfigError, match="rows"):
        Gating(rows=0)


def test_the_newest_examples_count() -> None:
    bench = lived()
    assert judged(bench, bench.base, gating=Gating(GATING.publish, rows=150)).checks[0].value == 150


def test_the_cut_off_of_a_version_is_its_position_or_when_it_was_made() -> None:
    bench = lived(ticks=5)
    examples, predictions = bench.storage.examples, bench.storage.predictions

    def record(created: float, **positions: int) -> Record:
        return Record(Version(1), created, "ann", "fit", None, {}, positions, "", Path(), "")

    assert Cutoff.of(record(0.0, examples=30), examples, predictions) == Cutoff(30, 0)
    assert Cutoff.of(record(0.0, start=10, examples=30), examples, predictions) == Cutoff(30, 0, ((10, 30),))
    assert Cutoff.of(record(1_001.5), examples, predictions) == Cutoff(0, 40)
    verdict = judge(bench.base, Cutoff(0, 40), predictions, examples, GATING, safety=bench.safety)
    assert verdict.checks[0].value == 60


def test_costs_are_measured_side_by_side() -> None:
    bench = lived(ticks=3)
    taken = bench.storage.predictions.read(0)
    ticks = iter(range(10**6))
    found = latencies([bench.base, bench.model], taken, lambda: float(next(ticks)))
    assert found == [1.0, 1.0]
    assert TURNS >= 100


def test_the_size_of_a_saved_model(tmp_path: Path) -> None:
    saved = trained().save(tmp_path / "model")
    assert size(saved) == sum(path.stat().st_size for path in saved.iterdir())
