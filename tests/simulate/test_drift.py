"""Drift of the stated law: half-lives, sizes, shocks, and ads that come and go."""

from __future__ import annotations

import numpy as np
import pytest

from nearline.simulate import Drift, Market, Marketplace
from nearline.simulate._config import DAY, START


def test_coefficients_are_stationary_with_the_stated_half_life():
    # OU: Var β(t) = size², Corr(β(0), β(t)) = 2^(−t / half_life)
    drift = Drift(member_size=2.0, member_half_life=1.0, ad_half_life=0.5, campaign_half_life=0.25)
    market = Market(Marketplace(members=3000, ads=2000, campaigns=500, days=2.0, events=0, drift=drift, shocks=()))
    first, later = market.at(START).coefficients, market.at(START + 1.0 * DAY).coefficients
    for name, size, correlation in (("member", 2.0, 0.5), ("ad", drift.ad_size, 0.25), ("campaign", 0.7, 2.0**-4)):
        before, after = getattr(first, name).ravel(), getattr(later, name).ravel()
        assert before.std() == pytest.approx(size, rel=0.03)
        assert after.std() == pytest.approx(size, rel=0.03)
        assert np.corrcoef(before, after)[0, 1] == pytest.approx(correlation, abs=0.03)


def test_each_effect_adds_its_size_to_the_spread_of_the_score():
    drift = Drift()
    market = Market(Marketplace(members=2000, ads=2000, campaigns=400, events=0))
    who, c = market.at(START).population, market.at(START).coefficients
    pairs = np.random.default_rng(0).permutation(2000)
    spread = {
        "member": np.einsum("ij,ij->i", who.ad_design[pairs], c.member).std(),
        "ad": np.einsum("ij,ij->i", who.member_design[pairs], c.ad).std(),
        "campaign": np.einsum("ij,ij->i", who.member_design[pairs], c.campaign[who.campaign]).std(),
    }
    for name, value in spread.items():
        assert value == pytest.approx(getattr(drift, f"{name}_size"), rel=0.1)


def test_without_drift_nothing_moves_but_the_set_of_live_ads():
    config = Marketplace(members=60, ads=40, days=2.0, events=0, drift=Drift.off(), shocks=(), ad_lifetime=0.2)
    market = Market(config)
    first, last = market.at(START), market.at(START + 2.0 * DAY - 1)
    for before, after in zip(first.coefficients, last.coefficients):
        np.testing.assert_array_equal(before, after)
    assert set(first.live.tolist()).isdisjoint(last.live.tolist())


def test_a_shock_moves_the_ads_and_only_the_ads_at_its_second():
    config = Marketplace(members=200, ads=400, days=1.0, events=0, drift=Drift.off(), shocks=((0.3003, 0.6),))
    market, moment = Market(config), START + 0.3003 * DAY
    before, after = market.at(moment - 0.01).coefficients, market.at(moment).coefficients
    np.testing.assert_array_equal(before.member, after.member)
    np.testing.assert_array_equal(before.fixed, after.fixed)
    # β becomes √(1 − .6²) β + .6 · noise
    assert np.corrcoef(before.ad.ravel(), after.ad.ravel())[0, 1] == pytest.approx(0.8, abs=0.02)
    assert after.ad.std() == pytest.approx(before.ad.std(), rel=0.03)


def test_ads_come_and_go_and_events_show_live_ads_only(demo):
    market = Market(Marketplace())
    stamp, ad = demo["timestamp"].to_numpy(), demo["ad_id"].to_numpy()
    ids = np.unique(ad)
    seen = np.array([np.ptp(stamp[ad == k]) / DAY for k in ids])
    assert len(ids) > 280
    assert 1.0 < seen.mean() < 2.2  # two days, cut short at both ends of the week
    day = ((stamp - START) // DAY).astype(int)
    alive = [set(ad[day == k].tolist()) for k in range(7)]
    assert len(alive[6] - alive[0]) > 50
    assert all(40 <= len(market.at(START + k * DAY).live) <= 100 for k in range(7))
