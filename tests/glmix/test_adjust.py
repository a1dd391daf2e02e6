"""Adjustments: what they change of a learned belief, and what they leave."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from nearline import ConfigError, Fixed, Forgetting, GLMix, Loadings, Numeric, Prior, Random, Schema
from nearline.glmix import Adjustment, adjust_priors

SCHEMA = Schema(label="y", time="t", columns={"a": Numeric(0, 1)})


def model() -> GLMix:
    forgetting = Forgetting(half_life=100.0, walk_per_event={"(intercept)": 0.01, "*": 0.002})
    user = Random("user", on=["a"], prior=Prior({"(intercept)": 2.0, "*": 0.5}), forgetting=forgetting)
    found = GLMix(SCHEMA, Fixed("a"), [user, Loadings("ad", of="user")])
    found.partial_fit({"user": [1, 2], "ad": [1, 1], "a": [0.5, -1.0], "y": [1, 0], "t": [0.0, 1.0]})
    return found


def test_variances_are_multiplied_by_column_and_posteriors_go_back_to_the_prior() -> None:
    found = model()
    adjust_priors(found, {"user": Adjustment(variance={"(intercept)": 3.0, "*": 0.5})})
    block = found.block("user")
    assert block.belief.variance0(block.columns).tolist() == [6.0, 0.25]
    assert block.belief.prior.variance_of("never seen") == 0.25
    np.testing.assert_array_equal(block.cov[0], block.prior_arrays()[1])
    assert block.counts[0] == 0
    assert found.block("fixed").counts[0] == 2


def test_a_learned_covariance_keeps_its_correlations() -> None:
    found = model()
    block = found.block("user")
    V = np.array([[1.0, 0.3], [0.3, 0.4]])
    block.belief = replace(block.belief, covariance=V)
    adjust_priors(found, {"user": Adjustment(variance={"(intercept)": 4.0})})
    np.testing.assert_allclose(block.belief.covariance, [[4.0, 0.6], [0.6, 0.4]])


def test_noise_replaces_what_was_learned_for_the_columns_named() -> None:
    found = model()
    adjust_priors(found, {"user": Adjustment(half_life=math.inf, walk_per_event={"(intercept)": 0.0})})
    forgetting = found.block("user").belief.forgetting
    assert forgetting.half_life is None
    assert forgetting.walk_per_event == {"(intercept)": 0.0, "*": 0.002}
    assert forgetting.walk_per_day == {}
    adjust_priors(found, {"user": Adjustment(walk_per_event=0.5, half_life=7.0)})
    forgetting = found.block("user").belief.forgetting
    assert (forgetting.half_life, forgetting.walk_per_event) == (7.0, 0.5)


def test_no_change_changes_no_bit() -> None:
    found, other = model(), model()
    adjust_priors(found, {block.name: Adjustment() for block in found.blocks})
    for one, two in zip(found.blocks, other.blocks):
        np.testing.assert_array_equal(one.belief.V0(one.columns), two.belief.V0(two.columns))
        assert one.belief.forgetting == two.belief.forgetting


def test_bad_changes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"Adjustment\(variance=...\) must be > 0 and finite, got 0"):
        Adjustment(variance={"a": 0.0})
    with pytest.raises(ConfigError, match=r"Adjustment\(half_life=...\) must be > 0"):
        Adjustment(half_life=0.0)
    with pytest.raises(ConfigError, match="walk_per_event"):
        adjust_priors(model(), {"user": Adjustment(walk_per_event=-1.0)})
    with pytest.raises(ConfigError, match="no effect is named 'usr'"):
        adjust_priors(model(), {"usr": Adjustment()})
    with pytest.raises(ConfigError, match="effect 'user': a change for 'b', but its columns are"):
        adjust_priors(model(), {"user": Adjustment(variance={"b": 2.0})})
