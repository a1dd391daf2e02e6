"""What every metric keeps: integer weights are copies, the undefined is NaN, and bad input is named; lift captured."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.evaluate.metric_parts import TOLERANCE, scored

from nearline import _errors
from nearline import evaluate as m
from nearline.evaluate._ranking import entity_auc


@pytest.mark.parametrize(
    "metric", [m.auc, m.pr_auc, m.log_loss, m.brier, m.normalised_entropy, m.rmse, m.calibration_ratio]
)
@given(data=scored(weights=False), seed=st.integers(0, 1000))
def test_an_integer_weight_is_that_many_copies(metric, data, seed):
    y, p, _ = data
    w = np.random.default_rng(seed).integers(0, 4, len(y))
    w[:2] = 1
    assert metric(y, p, w) == pytest.approx(metric(np.repeat(y, w), np.repeat(p, w)), abs=TOLERANCE)


def test_lift_captured_reproduces_the_reference_table():
    # specification, section 11.2, ten batches: stale 90.6 %, full covariance 99.6 %
    assert m.lift_captured(0.6816, 0.6050, 0.6896) == pytest.approx(0.906, abs=1e-3)
    assert m.lift_captured(0.6893, 0.6050, 0.6896) == pytest.approx(0.996, abs=1e-3)
    assert np.isnan(m.lift_captured(0.7, 0.6, 0.6))


def test_undefined_values_are_nan_and_not_errors():
    for metric in (m.auc, m.normalised_entropy):
        assert np.isnan(metric([1, 1], [0.2, 0.3]))
    assert np.isnan(m.pr_auc([0, 0], [0.2, 0.3]))
    assert np.isnan(m.calibration_ratio([0, 0], [0.2, 0.3]))
    for metric in (m.auc, m.pr_auc, m.log_loss, m.brier, m.rmse, m.poisson_deviance, m.expected_calibration_error):
        assert np.isnan(metric([], []))
    assert np.isnan(m.grouped_auc([], [], []))
    assert m.auc([0, 1, 1], [0.5, 0.6, 0.1], [1, 1, 0]) == 1.0


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: m.auc([0, 2], [0.1, 0.2]), "labels must be 0 or 1"),
        (lambda: m.auc([-1, 1], [0.1, 0.2]), "labels must be 0 or 1"),
        (lambda: m.auc([0, 1], [0.1]), "1"),
        (lambda: m.auc([0, 1], [0.1, np.nan]), "NaN"),
        (lambda: m.auc([0, 1], [0.1, 0.2], [1, -1]), "weight"),
        (lambda: m.log_loss([0, 1], [0.1, 1.2]), "not logits"),
        (lambda: m.brier([0, 1], [-0.1, 0.2]), "not logits"),
        (lambda: m.poisson_deviance([1.0], [0.0]), "mean > 0"),
        (lambda: entity_auc([0, 1], [0.1, 0.2], [1]), "entity"),
        (lambda: m.windowed(m.brier, [0, 1], [0.1, 0.2], [2, 0]), "edges"),
        (lambda: m.windowed(m.brier, [0, 1], [0.1, 0.2], [0, 2], time=[2, 1]), "time"),
        (lambda: m.bootstrap_interval(m.auc, [0, 1], [0, 1], np.random.default_rng(0), cluster=[1]), "cluster"),
    ],
)
def test_bad_input_raises_a_data_error_that_names_the_trouble(call, word):
    with pytest.raises(_errors.DataError, match=word):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: m.reliability([0, 1], [0.1, 0.2], bins=0),
        lambda: m.reliability([0, 1], [0.1, 0.2], strategy="equal"),
        lambda: m.bootstrap_interval(m.auc, [0, 1], [0, 1], np.random.default_rng(0), draws=0),
        lambda: m.bootstrap_interval(m.auc, [0, 1], [0, 1], np.random.default_rng(0), level=1.0),
    ],
)
def test_bad_settings_raise_a_config_error(call):
    with pytest.raises(_errors.ConfigError):
        call()
