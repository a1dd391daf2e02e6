"""Bootstrap intervals against SciPy's, and metrics of windows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from tests.evaluate.metric_parts import TOLERANCE, noisy, scored

from nearline import evaluate as m


def test_bootstrap_interval_is_scipys_percentile_interval_draw_for_draw():
    y, p = noisy(80)
    ours = m.bootstrap_interval(m.brier, y, p, np.random.default_rng(7), draws=300, level=0.9)
    theirs = scipy.stats.bootstrap(
        (y, p), lambda a, b: m.brier(a, b), paired=True, vectorized=False, method="percentile",
        n_resamples=300, confidence_level=0.9, rng=np.random.default_rng(7),
    ).confidence_interval  # fmt: skip
    assert ours.estimate == pytest.approx(sk.brier_score_loss(y, p))
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=TOLERANCE)


def test_a_paired_difference_is_narrower_than_either_part_and_sees_the_better_model():
    y, p = noisy(400)
    worse = np.clip(p + 0.05 * np.random.default_rng(1).standard_normal(400), 0.01, 0.99)
    gain = m.bootstrap_interval(m.log_loss, y, worse, np.random.default_rng(0), baseline=p, draws=400)
    alone = m.bootstrap_interval(m.log_loss, y, p, np.random.default_rng(0), draws=400)
    assert gain.estimate == pytest.approx(m.log_loss(y, worse) - m.log_loss(y, p))
    assert gain.low < gain.estimate < gain.high
    assert gain.high - gain.low < alone.high - alone.low


def test_clusters_widen_the_interval_when_their_rows_repeat_each_other():
    y, p = noisy(60)
    y, p, cluster = np.repeat(y, 20), np.repeat(p, 20), np.repeat(np.arange(60), 20)
    rows = m.bootstrap_interval(m.brier, y, p, np.random.default_rng(0), draws=300)
    whole = m.bootstrap_interval(m.brier, y, p, np.random.default_rng(0), cluster=cluster, draws=300)
    # 20 copies of a row carry the information of one: the standard error is √20 times larger
    assert (whole.high - whole.low) / (rows.high - rows.low) == pytest.approx(np.sqrt(20), rel=0.25)


def test_single_row_clusters_are_row_draws():
    y, p = noisy(50)
    rows = m.bootstrap_interval(m.auc, y, p, np.random.default_rng(3), draws=50)
    assert m.bootstrap_interval(m.auc, y, p, np.random.default_rng(3), cluster=np.arange(50), draws=50) == rows


@settings(max_examples=30)
@given(scored(weights=False), st.lists(st.integers(0, 60), min_size=2, max_size=6))
def test_windowed_is_the_metric_of_each_slice_by_row_and_by_time(data, edges):
    y, p, _ = data
    edges = sorted(min(e, len(y)) for e in edges)
    expected = [sk.brier_score_loss(y[a:b], p[a:b]) if b > a else np.nan for a, b in itertools.pairwise(edges)]
    np.testing.assert_allclose(m.windowed(m.brier, y, p, edges), expected, atol=TOLERANCE)
    clock = 100.0 + np.arange(len(y))
    by_time = m.windowed(m.brier, y, p, 100.0 + np.array(edges), time=clock)
    np.testing.assert_allclose(by_time, expected, atol=TOLERANCE)
