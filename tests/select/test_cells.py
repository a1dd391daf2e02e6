"""Expected fresh norms by label and size of the record: `trust = "cells"`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nearline import select
from nearline.select import Scores, SelectorState
from nearline.select._cells import EDGES, cells, expected, observed

Fresh = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def learned(fresh_of: Fresh, windows: int = 80, n: int = 1_000) -> tuple[np.ndarray, np.ndarray, Scores]:
    """Probabilities that the rule has come to after some windows, the fresh norms and the scores of the next one."""
    rng, rule, state = np.random.default_rng(0), select.by_name("pps", floor=0.1, trust="cells"), SelectorState()
    for _ in range(windows):
        label, score = (rng.random(n) < 0.1).astype(float), rng.exponential(size=n)
        fresh = fresh_of(score, label, rng)
        chosen = rule(Scores(score=score, label=label), 0.1, rng, state)
        pi = np.full(n, np.nan)
        pi[chosen.index] = chosen.prob
        state = rule.learn(chosen.state, chosen, fresh[chosen.index])
    return pi[chosen.index], fresh[chosen.index], Scores(score=score, label=label).take(chosen.index)


def test_the_first_window_is_uniform() -> None:
    scores = Scores(score=np.arange(100.0), label=np.zeros(100))
    chosen = select.by_name("pps", trust="cells")(scores, 10, np.random.default_rng(0), SelectorState())
    np.testing.assert_allclose(chosen.weight, 1.0)


def test_records_that_are_right_are_followed() -> None:
    pi, _, scores = learned(lambda score, label, rng: 0.3 * score)
    assert np.corrcoef(pi, np.minimum(scores.score, np.quantile(scores.score, 0.9)))[0, 1] > 0.95


def test_labels_say_what_worthless_records_do_not() -> None:
    # The fresh norm depends on the label alone: ten times larger for a positive.
    pi, _, scores = learned(lambda score, label, rng: np.where(label > 0, 1.0, 0.1) * rng.uniform(0.8, 1.2, len(label)))
    positive = scores.label > 0
    assert pi[positive].mean() > 4 * pi[~positive].mean()
    assert pi[~positive].std() < 0.2 * pi[~positive].mean()


def test_shuffled_records_without_labels_come_to_uniform_draws() -> None:
    rng, rule, state = np.random.default_rng(1), select.by_name("pps", trust="cells"), SelectorState()
    for _ in range(80):
        score = rng.exponential(size=1_000)
        chosen = rule(Scores(score=score), 0.1, rng, state)
        state = rule.learn(chosen.state, chosen, rng.exponential(size=len(chosen)))
    assert chosen.weight.max() < 1.6


def test_the_expected_square_of_a_cell_is_its_weighted_mean_once_many_were_seen() -> None:
    rng = np.random.default_rng(2)
    label, x, f = (rng.random(4_000) < 0.3).astype(float), np.ones(4_000), rng.exponential(size=4_000)
    f[label > 0] *= 3
    state = observed(SelectorState(), x, cells(x, label), f, np.ones(4_000))
    ratio = expected(state, np.ones(2), cells(np.ones(2), np.array([0.0, 1.0])))
    wanted = np.sqrt((f[label > 0] ** 2).mean() / (f[label == 0] ** 2).mean())
    assert ratio[1] / ratio[0] == pytest.approx(wanted, rel=0.02)


def test_every_row_has_a_cell() -> None:
    label = np.array([0.0, 1.0, np.nan] * 4)
    code = cells(np.repeat([0.0, 0.3, 1.0, 1e300], 3), label)
    assert code.min() >= 0
    assert code.max() < 3 * (len(EDGES) + 1)
    assert len(np.unique(code)) == 12
