"""Clustered ratios against scipy, and by simulation: the interval covers as often as it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nearline.evaluate import Ratio, clustered_ratio, holm, wilson_interval
from nearline.evaluate._clustered import t_quantile


@pytest.mark.parametrize("dof", [9, 12, 30, 200, 10_000])
@pytest.mark.parametrize("p", [0.6, 0.9, 0.95, 0.975, 0.995])
def test_quantiles_and_p_values_are_those_of_student(dof: int, p: float) -> None:
    assert t_quantile(p, dof) == pytest.approx(stats.t.ppf(p, dof), rel=2e-4)
    t = stats.t.ppf(p, dof)
    assert Ratio(t, 1.0, dof + 1).exceeds(0.0) == pytest.approx(1 - p, rel=0.05, abs=2e-4)


def test_a_mean_of_independent_rows_has_the_textbook_interval() -> None:
    x = np.random.default_rng(0).normal(2.0, 3.0, 400)
    found = clustered_ratio(x, np.ones(400))
    assert found.interval(0.95) == pytest.approx(stats.ttest_1samp(x, 0).confidence_interval(0.95), rel=1e-3)
    assert found.exceeds(1.8) == pytest.approx(stats.ttest_1samp(x, 1.8, alternative="greater").pvalue, abs=1e-3)


def test_the_interval_covers_where_rows_of_an_entity_depend_on_each_other() -> None:
    covered = naive = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        entity = rng.integers(0, 50, 1_000)
        x = 1.0 + rng.normal(0, 1, 50)[entity] + rng.normal(0, 1, 1_000)
        low, high = clustered_ratio(x, np.ones(1_000), [entity]).interval(0.95)
        covered += low <= 1.0 <= high
        low, high = clustered_ratio(x, np.ones(1_000)).interval(0.95)
        naive += low <= 1.0 <= high
    assert covered >= 300 * 0.95 - 3 * np.sqrt(300 * 0.95 * 0.05)
    assert naive < 200


def test_the_widest_of_several_entities_counts_and_few_entities_do_not() -> None:
    rng = np.random.default_rng(1)
    user, item = rng.integers(0, 20, 500), rng.integers(0, 200, 500)
    x = rng.normal(0, 1, 20)[user] + rng.normal(0, 0.1, 500)
    both = clustered_ratio(x, np.ones(500), [item, user])
    assert both == clustered_ratio(x, np.ones(500), [user])
    assert both.parts == 20
    assert clustered_ratio(x, np.ones(500), [user % 3]) == clustered_ratio(x, np.ones(500))


def test_negative_codes_are_entities_of_their_own() -> None:
    x = np.random.default_rng(2).normal(size=50)
    assert clustered_ratio(x, np.ones(50), [np.full(50, -1)]).error == pytest.approx(
        clustered_ratio(x, np.ones(50)).error
    )


def test_nothing_is_known_of_no_weight_or_one_row() -> None:
    assert np.isnan(clustered_ratio([1.0], [0.0]).estimate)
    assert clustered_ratio([1.0], [1.0]).interval(0.9) == (-np.inf, np.inf)
    assert clustered_ratio([1.0], [1.0]).exceeds(0.0) == 1.0
    assert clustered_ratio(np.ones(20), np.ones(20)).exceeds(0.5) == 0.0


@settings(deadline=None)
@given(p=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20))
def test_holm_is_the_step_down_rule(p: list[float]) -> None:
    adjusted, m = holm(p), len(p)
    order = np.argsort(p, kind="stable")
    rejected = set()
    for k, place in enumerate(order.tolist()):
        if p[place] * (m - k) > 0.05:
            break
        rejected.add(place)
    assert set(np.flatnonzero(adjusted <= 0.05).tolist()) == rejected


@settings(deadline=None)
@given(n=st.integers(1, 2_000), data=st.data())
def test_wilson_is_that_of_scipy(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    low, high = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(k / n, n) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))
