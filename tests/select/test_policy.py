"""Conditions around a rule: hold-out, trimming, clipping, age (specification, sections 5 and 8)."""

from __future__ import annotations

import numpy as np
import pytest

from nearline import ConfigError, NearlineWarning, select
from nearline.select import Policy, Scores, by_name

RNG = np.random.default_rng


def regression(n: int = 400, outliers: int = 20, seed: int = 0) -> Scores:
    error = RNG(seed).normal(size=n) * 0.3
    error[:outliers] += 20.0
    return select.price_regression(error, np.zeros(n))


def test_held_rows_are_never_chosen_and_weights_stand_for_the_rest() -> None:
    held = np.arange(100) % 4 == 0
    chosen = Policy(by_name("pps"))(Scores(score=np.ones(100), held=held), 0.2, RNG(0))
    assert not held[chosen.index].any()
    assert len(chosen) == 15
    assert (chosen.report.n, chosen.report.held) == (75, 25)


def test_trimming_takes_the_outliers_out_and_says_which() -> None:
    chosen = Policy(by_name("swap"), task="regression", trim="mad")(regression(), 40, RNG(0))
    assert chosen.trimmed.tolist() == list(range(20))
    assert chosen.index.min() >= 20
    assert (chosen.report.trimmed, chosen.report.alarm) == (20, False)


def test_a_large_group_of_outliers_is_a_change_and_stays() -> None:
    chosen = Policy(by_name("swap"), task="regression", trim="mad")(regression(outliers=60), 40, RNG(0))
    assert (chosen.report.trimmed, chosen.report.alarm) == (0, True)


def test_trimming_looks_at_every_slice_by_itself() -> None:
    # Slice 1 lies elsewhere as a whole: over all rows it is an outlying fifth, by itself it is in order.
    error = np.r_[RNG(0).normal(size=80), RNG(1).normal(size=20) + 50]
    error[0] = 30.0
    found = select.trimmed_by_mad(error, np.repeat([0, 1], [80, 20]))
    assert np.flatnonzero(~found.keep).tolist() == [0]
    assert not found.alarm
    assert select.trimmed_by_mad(error).alarm


def test_equal_and_unknown_errors_are_kept() -> None:
    assert select.trimmed_by_mad(np.full(10, 3.0)).keep.all()
    assert select.trimmed_by_mad(np.full(10, np.nan)).keep.all()
    assert np.flatnonzero(~select.trimmed_by_mad(np.r_[np.zeros(99), 1e-6]).keep).tolist() == [99]


def test_clipping_lowers_the_probability_of_the_extreme_and_stays_unbiased() -> None:
    score = np.r_[np.ones(999), 1e6]
    plain, clipped = (
        Policy(by_name("pps"), task="binary", clip=clip)(Scores(score=score), 999, RNG(0)) for clip in (None, 0.995)
    )
    assert plain.prob[-1] == 1
    np.testing.assert_allclose(clipped.prob, 0.999)
    np.testing.assert_allclose(clipped.weight * clipped.prob, 0.999)


@pytest.mark.parametrize("limit", [{"max_age": 60.0}, {"max_version_lag": 3.0}])
def test_old_records_keep_their_place_with_the_mean_score(limit: dict[str, float]) -> None:
    old = np.arange(100) < 50
    scores = Scores(score=np.where(old, 100.0, 1.0), age=np.where(old, 61.0, 60.0), lag=np.where(old, 4.0, 3.0))
    chosen = Policy(by_name("pps"), **limit)(scores, 100, RNG(0))
    assert (chosen.report.stale, chosen.report.unknown) == (50, 0)
    np.testing.assert_allclose(chosen.recorded, 1.0)
    assert (chosen.report.age, chosen.report.lag) == (60.5, 3.5)


def test_an_unweighted_rule_for_probabilities_warns_once() -> None:
    with pytest.warns(NearlineWarning, match="not calibrated"):
        policy = Policy(by_name("biggest_k"), task="binary")
    policy(Scores(loss=np.arange(10.0)), 3, RNG(0))


@pytest.mark.parametrize(
    "wrong",
    [{"trim": "mad"}, {"trim": "mad", "task": "binary"}, {"clip": 0.9, "task": "regression"}, {"clip": 1.5}],
)
def test_what_would_delete_the_rare_class_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"trim|clip"):
        Policy(by_name("pps"), **wrong)


def test_sketches_that_are_stale_or_were_not_recorded_count_as_the_mean_and_are_counted() -> None:
    rng = np.random.default_rng(0)
    sketch = rng.normal(size=(200, 3))
    sketch[:20] = np.nan
    scores = Scores(score=np.ones(200), loss=np.ones(200), sketch=sketch, age=np.arange(200.0))
    rule = by_name("pps", sampler="cube", balance=("sketch",))
    assert rule(scores, 20, np.random.default_rng(0)).report.unsketched == 20
    assert Policy(rule, max_age=99.0)(scores, 20, np.random.default_rng(0)).report.unsketched == 120
    assert by_name("pps")(scores, 20, np.random.default_rng(0)).report.unsketched == 0
    assert np.isfinite(scores.sketch[20:]).all()  # what was given stays


def test_a_rule_says_its_name_and_what_is_not_usual_of_it() -> None:
    assert str(by_name("pps")) == "pps"
    rule = by_name("pps", floor=0.1, sampler="cube", balance=["sketch"])
    assert str(Policy(rule)) == 'pps(floor=0.1, sampler="cube", balance=["sketch"])'
    assert [name for name in select.names() if by_name(name).sketched] == ["gradmatch"]
    assert rule.sketched


def test_only_columns_of_scores_can_be_balanced() -> None:
    for name in ("pps", "cube"):
        with pytest.raises(ConfigError, match="balance: Scores has no column 'los'; it has loss"):
            by_name(name, **({"sampler": "cube"} if name == "pps" else {}), balance=("los",))
