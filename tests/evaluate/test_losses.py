"""Losses against scikit-learn, and at their edges."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from sklearn import metrics as sk
from tests.evaluate.metric_parts import TOLERANCE, scored

from nearline import evaluate as m


@given(scored())
def test_log_loss_brier_and_rmse_agree_with_sklearn(data):
    y, p, w = data
    assert m.log_loss(y, p, w) == pytest.approx(sk.log_loss(y, p, sample_weight=w), rel=TOLERANCE)
    assert m.brier(y, p, w) == pytest.approx(sk.brier_score_loss(y, p, sample_weight=w), abs=TOLERANCE)
    assert m.rmse(y, p, w) == pytest.approx(sk.root_mean_squared_error(y, p, sample_weight=w), abs=TOLERANCE)


@given(scored())
def test_normalised_entropy_divides_by_the_entropy_of_the_base_rate(data):
    y, p, w = data
    rate = np.average(y, weights=w)
    entropy = scipy.stats.entropy([rate, 1 - rate])
    assert m.normalised_entropy(y, p, w) == pytest.approx(sk.log_loss(y, p, sample_weight=w) / entropy, rel=TOLERANCE)


@given(scored())
def test_poisson_deviance_agrees_with_sklearn(data):
    y, p, w = data
    counts, mean = 7 * y, p + 0.1
    expected = sk.mean_poisson_deviance(counts, mean, sample_weight=w)
    assert m.poisson_deviance(counts, mean, w) == pytest.approx(expected, rel=TOLERANCE)


def test_log_loss_of_a_certain_mistake_is_finite():
    assert m.log_loss([1], [0.0]) == pytest.approx(-np.log(np.finfo(float).eps))
    assert m.log_loss([1], [0.0], clip=1e-3) == pytest.approx(-np.log(1e-3))
