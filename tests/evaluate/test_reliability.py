"""Calibration against its definition and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import calibration
from tests.evaluate.metric_parts import TOLERANCE, scored

from nearline import evaluate as m


@given(scored())
def test_calibration_ratio_is_a_ratio_of_weighted_means(data):
    y, p, w = data
    assert m.calibration_ratio(y, p, w) == pytest.approx(np.average(p, weights=w) / np.average(y, weights=w))


@pytest.mark.parametrize(("ours", "theirs"), [("width", "uniform"), ("quantile", "quantile")])
@given(data=scored(weights=False), bins=st.integers(1, 12))
def test_reliability_is_sklearns_calibration_curve(ours, theirs, data, bins):
    y, p, _ = data
    if ours == "quantile":
        p = np.random.default_rng(len(p)).permutation(len(p)) / len(p)  # sklearn drops bins that ties make empty
    actual, predicted = calibration.calibration_curve(y, p, n_bins=bins, strategy=theirs)
    table = m.reliability(y, p, bins, strategy=ours)
    np.testing.assert_allclose(table.actual, actual, atol=TOLERANCE)
    np.testing.assert_allclose(table.predicted, predicted, atol=TOLERANCE)
    assert (table.lower <= table.predicted + 1e-12).all()
    assert (table.predicted <= table.upper + 1e-12).all()
    assert table.weight.sum() == len(y)


@given(scored())
def test_ece_is_the_weighted_mean_gap(data):
    y, p, w = data
    mass = np.ones(len(y)) if w is None else w
    code = np.ceil(p * 10 - 1e-12).astype(int)
    code[p == 0] = 1
    gaps = [abs((mass * (p - y))[code == b].sum()) for b in np.unique(code)]
    assert m.expected_calibration_error(y, p, 10, w) == pytest.approx(sum(gaps) / mass.sum(), abs=TOLERANCE)
