"""The sentence of the report: what it claims is in the table, and no more than the rows can tell."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.evaluate.parts import made

from nearline import evaluate
from nearline.evaluate import Outcome, _facts, _headline, _words


def test_sentence_says_the_relative_change_of_the_log_loss_and_the_share_captured():
    result = made(20_000)
    y = result.label
    loss = {o.variant.name: evaluate.log_loss(y, result.prediction(o.variant.name)) for o in result.outcomes}
    best = evaluate.log_loss(y, result.truth)
    gain = 100 * (1 - loss["per event"] / loss["per day"])
    share = 100 * (loss["fixed only"] - loss["per event"]) / (loss["fixed only"] - best)
    said = _headline.headline(_facts.gather(result)).replace(_words.NBSP, " ")
    assert said == (
        f"Updating after every event instead of every day lowers log loss by {gain:.1f} % and captures {share:.0f} % "
        "of what could be gained over the fixed effect alone."
    )


def test_sentence_without_truth_names_both_aucs():
    result = made(5000, truth=False)
    auc = {row["variant"]: row["auc"] for row in result.table()}
    said = _headline.headline(_facts.gather(result))
    assert said.endswith(f"and takes AUC from {auc['per day']:.3f} to {auc['per event']:.3f}.")


def test_sentence_admits_a_loss():
    result = made(8000)
    margins = [o.margin for o in result.outcomes]
    swapped = tuple(
        Outcome(o.variant, m, o.seconds, o.updates) for o, m in zip(result.outcomes, [*margins[:-3], *margins[:-4:-1]])
    )
    assert " raises log loss by " in _headline.headline(_facts.gather(made(8000, outcomes=swapped)))


def test_sentence_claims_no_difference_that_the_rows_cannot_tell():
    result = made(400)
    jitter = result.outcomes[3].margin + np.random.default_rng(1).normal(0, 1e-3, 400)
    outcomes = (*result.outcomes[:-1], Outcome(result.outcomes[-1].variant, jitter, 1.0, 400))
    said = _headline.headline(_facts.gather(made(400, outcomes=outcomes)))
    assert "makes no difference to log loss that 400 events can tell" in said


@given(st.integers(0, 2**32), st.sampled_from(["logit", "identity", "log"]))
@settings(max_examples=20, deadline=None)
def test_change_is_that_of_the_metric_in_the_table_and_lies_in_its_interval(seed, link):
    facts = _facts.gather(made(300, link, seed=seed, weight=np.random.default_rng(seed).gamma(1.0, size=300)))
    old, new = facts.series[0], facts.series[-1]
    found = _headline.change(facts, old, new)
    values = facts.values(facts.measures[0])
    assert found.gain == pytest.approx(1 - values[-1] / values[0], abs=1e-9)
    assert found.low <= found.gain <= found.high


def test_interval_of_the_change_covers_at_its_level():
    """200 streams of two equally good variants: 95 % of the intervals hold 0, within three standard errors."""
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        base = made(800, kinds=("day", "event"), seed=seed)
        score = rng.normal(0, 1, 800)
        label = (rng.random(800) < 1 / (1 + np.exp(-score))).astype(float)
        outcomes = tuple(
            Outcome(o.variant, score + rng.normal(0, 0.5, 800), o.seconds, o.updates) for o in base.outcomes
        )
        facts = _facts.gather(made(800, outcomes=outcomes, label=label, truth=False))
        covered += not _headline.change(facts, *facts.series).clear
    assert 0.95 - 3 * math.sqrt(0.95 * 0.05 / 200) <= covered / 200
