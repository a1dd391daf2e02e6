"""What is held out is never learned, by anything, and is what the gate judges by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from tests.loop.parts import Bench, history, rows, same_model

from nearline import ConfigError, GLMix
from nearline.gate import HoldOut, PublishSettings
from nearline.loop import Gating, judge_held_out
from nearline.loop._learner import Learner

HOLDOUT = HoldOut(("member", "price"), share=0.3)
GATING = Gating(PublishSettings(negative_flips=0.5, minimum=100), holdout=HOLDOUT)


class HoldingOut(Bench):
    """A bench whose learner holds out three in ten."""

    def _learner(self) -> Learner:
        return Learner(
            self.storage, self.policy, self.safety, lambda version: self.models[version], self.guard,
            batch=self.batch, holdout=HOLDOUT,
        )  # fmt: skip


def lived(bench: Bench, ticks: int = 40) -> None:
    rng = np.random.default_rng(5)
    for tick in range(ticks):
        members = rng.integers(0, 10, 20)
        positions = bench.predict(rows(members.tolist(), seed=tick))
        bench.happened(positions, (rng.random(20) < (1 + members) / 11).astype(float).tolist())
        bench.tick()


def out_of(bench: Bench) -> np.ndarray:
    return HOLDOUT.of(bench.storage.predictions.read(0))


def wise(bench: Bench, flipped: bool = False) -> GLMix:
    model = GLMix(bench.base.schema, bench.base.fixed, bench.base.random)
    past = history(4_000)
    past["clicked"] = (np.random.default_rng(0).random(4_000) < (1 + past["member"]) / 11) != flipped
    model.partial_fit(past)
    return model


def test_held_out_predictions_are_not_learned_and_say_so() -> None:
    bench = HoldingOut()
    lived(bench)
    out = out_of(bench)
    assert 0.2 < out.mean() < 0.4
    action = dict(bench.examples("prediction", "action"))
    assert {action[p] for p in np.flatnonzero(out)} == {"held_out"}
    assert {action[p] for p in np.flatnonzero(~out)} == {"learn"}
    assert bench.learner.counts["held_out"] == out.sum()
    assert bench.held().keys() == set(np.flatnonzero(~out).tolist())


def test_the_model_is_that_of_a_service_without_them() -> None:
    bench, other = HoldingOut(), Bench()
    rng = np.random.default_rng(1)
    for tick in range(5):
        given = rows(rng.integers(0, 10, 20).tolist(), seed=tick)
        label = rng.integers(0, 2, 20).astype(float)
        positions = bench.predict(given)
        kept = np.flatnonzero(~out_of(bench)[positions])
        bench.happened(positions, label.tolist())
        fewer = other.predict({name: [values[k] for k in kept] for name, values in given.items()})
        other.happened(fewer, label[kept].tolist())
        bench.tick()
        other.tick()
    assert same_model(bench.model, other.model)


def test_corrections_and_retractions_of_them_change_the_evidence_only() -> None:
    bench = HoldingOut()
    lived(bench)
    before = bench.model.replica()
    out = np.flatnonzero(out_of(bench))
    bench.happened(out[:2].tolist(), 1.0, kind="correct")
    bench.happened(out[2:5].tolist(), None, kind="retract")
    bench.tick()
    assert same_model(bench.model, before)
    verdict = judge_held_out(wise(bench), bench.base, bench.storage.predictions, bench.storage.examples, GATING)
    assert verdict.checks[0].value == len(out) - 3


def test_candidates_are_judged_by_them() -> None:
    bench = HoldingOut()
    lived(bench)
    logs = bench.storage.predictions, bench.storage.examples
    played: list[float] = []
    better = judge_held_out(wise(bench), bench.base, *logs, GATING, progress=played.append)
    assert played == [1.0]
    assert better.checks[0].value == out_of(bench).sum()
    assert better.passed, better.reasons
    worse = judge_held_out(wise(bench, flipped=True), bench.base, *logs, GATING)
    assert any(reason.startswith("loss") for reason in worse.reasons)
    few = judge_held_out(wise(bench), bench.base, *logs, replace(GATING, rows=120))
    assert few.checks[0].value == 120


def test_history_is_learned_without_them_and_columns_must_exist() -> None:
    table = pa.table(history(1_000))
    train = HOLDOUT.train(table)
    assert train.num_rows == (~HOLDOUT.of(table)).sum()
    assert not HOLDOUT.of(train).any()
    with pytest.raises(ConfigError, match="by \\['colour'\\], which the table does not have"):
        HoldOut(("colour",)).of(table)
    for wrong in ((), 0.5), (("member",), 0.0), (("member",), 1.0):
        with pytest.raises(ConfigError, match="a hold-out needs columns"):
            HoldOut(*wrong)  # type: ignore[arg-type]
