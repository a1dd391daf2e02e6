"""Adaptive trust in the records (specification, sections 5 and 12)."""

from __future__ import annotations

import numpy as np
import pytest

from nearline import NearlineWarning, select
from nearline.select import Scores, SelectorState


def last_share(fresh_of: object, windows: int = 60, n: int = 1000) -> float:
    rng, rule, state = np.random.default_rng(0), select.by_name("pps"), SelectorState()
    for _ in range(windows):
        score = rng.exponential(size=n)
        chosen = rule(Scores(score=score), 0.1, rng, state)
        state = rule.learn(chosen.state, chosen, fresh_of(score, rng)[chosen.index])
    return chosen.report.uniform_share


def test_the_uniform_share_tends_to_one_on_shuffled_scores() -> None:
    assert last_share(lambda score, rng: rng.permutation(score)) > 0.9


def test_the_uniform_share_tends_to_its_floor_on_fresh_scores() -> None:
    assert last_share(lambda score, rng: 0.3 * score) == 0.2


def test_half_noise_gives_half_the_trust() -> None:
    # f = (s + s') / 2 with s' independent of s and alike: the slope of f/mean(f) on s/mean(s) is a half.
    assert last_share(lambda score, rng: score + rng.permutation(score)) == pytest.approx(0.5, abs=0.1)


def test_the_slope_is_that_of_weighted_least_squares() -> None:
    rng = np.random.default_rng(1)
    rule, score = select.by_name("pps"), rng.exponential(size=500)
    chosen = rule(Scores(score=score), 80, rng, SelectorState())
    fresh = rng.exponential(size=80)
    state = rule.learn(chosen.state, chosen, fresh)
    w, x = 1 / chosen.prob, score[chosen.index]
    slope, _ = np.polyfit(x, fresh, 1, w=np.sqrt(w))
    assert select.kappa(state) == pytest.approx(slope * (w @ x) / (w @ fresh))


def test_maturity_scales_fresh_scores_like_the_recorded_ones() -> None:
    rng = np.random.default_rng(2)
    rule, score, a = select.by_name("pps"), rng.exponential(size=500), rng.uniform(0.1, 1, 500)
    chosen = rule(Scores(score=score, maturity=a), 100, rng, SelectorState())
    assert select.kappa(rule.learn(chosen.state, chosen, score[chosen.index])) == pytest.approx(1.0)


def test_without_state_the_floor_holds_and_with_one_the_first_window_is_uniform() -> None:
    rule, scores = select.by_name("pps"), Scores(score=np.arange(100.0))
    assert rule(scores, 10, np.random.default_rng(0)).report.uniform_share == 0.2
    first = rule(scores, 10, np.random.default_rng(0), SelectorState())
    assert first.report.uniform_share == 1.0
    np.testing.assert_allclose(first.weight, 1.0)


def test_a_loop_that_never_reports_fresh_scores_is_told() -> None:
    rule, scores, state = select.by_name("pps"), Scores(score=np.arange(100.0)), SelectorState()
    for t in range(9):
        state = rule(scores, 10, np.random.default_rng(t), state).state
    with pytest.warns(NearlineWarning, match=r"rule\.learn"):
        rule(scores, 10, np.random.default_rng(9), state)


def test_fresh_scores_that_are_not_numbers_change_nothing() -> None:
    rule = select.by_name("pps")
    chosen = rule(Scores(score=np.arange(100.0)), 10, np.random.default_rng(0), SelectorState())
    assert rule.learn(chosen.state, chosen, np.full(10, np.nan)) == chosen.state
