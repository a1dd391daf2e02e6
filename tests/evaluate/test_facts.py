"""What a report is made of: which variants are compared, their losses and their colours."""

from __future__ import annotations

import numpy as np
import pytest
from tests.evaluate.parts import made

from nearline.evaluate import Outcome, Variant, _canvas, _facts


def test_comparison_prefers_the_daily_variant_then_the_slowest_then_what_does_not_learn():
    facts = _facts.gather(made(900))
    assert (facts.freshest.name, facts.slower.name, facts.baseline.name) == ("per event", "per day", "fixed only")
    facts = _facts.gather(made(900, kinds=("stale", "refit", "hour", "event")))
    assert (facts.slower.name, facts.baseline.name) == ("per hour", "stale batch")
    facts = _facts.gather(made(900, kinds=("stale", "refit", "event")))
    assert (facts.slower.name, facts.baseline.name) == ("refitted", "stale batch")
    facts = _facts.gather(made(900, kinds=("event",)))
    assert (facts.slower, facts.baseline) == (None, None)


def test_losses_add_up_to_the_metric_of_each_link():
    for link, key, root in (("logit", "log_loss", 1), ("log", "deviance", 1), ("identity", "rmse", 2)):
        facts = _facts.gather(made(400, link, weight=np.random.default_rng(2).gamma(1.0, size=400)))
        for series, value in zip(facts.series, facts.values(facts.measures[0])):
            mean = facts.total(series.loss) / facts.result.weight.sum()
            assert facts.measures[0].key == key
            assert mean ** (1 / root) == pytest.approx(value, rel=1e-9)
        mean = facts.total(facts.optimum.loss) / facts.result.weight.sum()
        assert mean ** (1 / root) == pytest.approx(facts.optimum.values[key], rel=1e-9)


def test_shades_follow_how_often_variants_update_and_never_run_out():
    outcomes = tuple(Outcome(Variant(f"v{k}", every=10**k), np.zeros(99), 1.0, 99 // 10**k + k) for k in range(9))
    colours = [s.colour for s in _facts.gather(made(99, outcomes=outcomes)).series]
    ranked = [c for _, c in sorted(zip([o.updates for o in outcomes], colours), reverse=True)]
    assert ranked == sorted(ranked)
    assert (ranked[0], ranked[-1]) == ("fresh0", "fresh5")
    assert set(colours) <= set(_canvas.PALETTE)
