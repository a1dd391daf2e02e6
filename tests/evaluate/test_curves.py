"""The numbers behind the plots: windows, calibration, what an entity had seen before, gains by entity."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.evaluate.parts import made

from nearline import evaluate
from nearline.evaluate import _curves, _facts


@given(st.integers(1, 10**6))
def test_windows_cover_the_rows_without_an_empty_one(rows):
    edges = _curves.window_edges(rows)
    assert (edges[0], edges[-1]) == (0, rows)
    assert np.diff(edges).min() >= 1
    assert len(edges) <= 41


def test_windows_of_the_metric_are_the_metric_of_the_windows():
    facts = _facts.gather(made(2000))
    edges = _curves.window_edges(2000)
    p = facts.series[2].prediction
    for measure, metric in zip(facts.measures, (evaluate.log_loss, evaluate.auc)):
        expected = evaluate.windowed(metric, facts.result.label, p, edges)
        np.testing.assert_allclose(_curves.over_time(facts, measure, edges, p), expected)


def test_calibration_of_distinct_predictions_is_that_of_the_quantile_reliability():
    rng = np.random.default_rng(3)
    p = rng.random(4000)
    y, w = (rng.random(4000) < p).astype(float), rng.gamma(2.0, size=4000)
    found = _curves.calibration(y, p, w)
    expected = evaluate.reliability(y, p, 10, w, "quantile")
    np.testing.assert_allclose(found.predicted, expected.predicted, rtol=1e-9)
    np.testing.assert_allclose(found.actual, expected.actual, rtol=1e-9)
    assert found.rows.sum() == 4000
    # a calibrated forecast is within three of its standard errors
    assert np.all(np.abs(found.actual - found.predicted) < 3 * found.error)


def test_calibration_error_is_the_binomial_one_when_weights_are_equal():
    y = np.r_[np.ones(30), np.zeros(70)]
    found = _curves.calibration(y, np.full(100, 0.3), np.ones(100))
    assert found.error.tolist() == pytest.approx([math.sqrt(0.3 * 0.7 / 100)])


@given(st.lists(st.integers(-1, 4), max_size=60))
def test_events_before_counts_earlier_rows_of_the_entity(codes):
    seen: dict[int, int] = {}
    expected = []
    for code in codes:
        expected.append(-1 if code < 0 else seen.get(code, 0))
        seen[code] = seen.get(code, 0) + 1
    assert _curves.events_before(np.array(codes, dtype=np.int32)).tolist() == expected


@given(st.lists(st.integers(-1, 6), min_size=1, max_size=400), st.integers(0, 1000))
@settings(deadline=None)
def test_warming_groups_hold_every_known_row_once_and_keep_the_mean(codes, seed):
    code = np.array(codes, dtype=np.int32)
    found = _curves.warming(code)
    before = _curves.events_before(code)
    assert np.array_equal(found.group >= 0, code >= 0)
    assert found.least[0] == 0
    assert np.all(np.diff(found.least) > 0)
    known = found.group >= 0
    upper = np.r_[found.least[1:], np.inf][found.group[known]]
    assert np.all((found.least[found.group[known]] <= before[known]) & (before[known] < upper))
    gain = np.random.default_rng(seed).normal(size=len(code))
    mean, _ = found.mean(gain, np.ones(len(code)))
    rows = np.bincount(found.group[known], minlength=len(found.least))
    if known.any():
        assert np.nansum(mean * rows) == pytest.approx(gain[known].sum())


def test_gain_by_entity_is_the_weighted_mean_of_its_rows_and_skips_those_with_few():
    code = np.r_[np.repeat(np.arange(30), 6), np.full(3, 30), [-1]].astype(np.int32)
    rng = np.random.default_rng(4)
    gain, w = rng.normal(size=len(code)), rng.gamma(1.0, size=len(code))
    found = _curves.by_entity(code, gain, w)
    expected = [np.average(gain[code == e], weights=w[code == e]) for e in range(30)]
    np.testing.assert_allclose(found.gain, expected)
    assert (found.left_out, found.least) == (1, 5)
    assert found.better == np.mean(np.array(expected) > 0)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=50))
def test_histogram_of_few_gains_has_an_edge_at_zero_and_holds_them_all(gain):
    values = np.array(gain)
    edges = _curves.around_zero(values)
    assert len(edges) >= 2
    assert np.abs(edges).min() == 0 or values.min() > 0 or values.max() < 0
    assert np.histogram(values, edges)[0].sum() >= len(values) - np.sum(values == values.min())
