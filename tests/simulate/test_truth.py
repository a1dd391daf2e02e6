"""The truth of the marketplace: probabilities by the stated equation, calibrated, and gone stale in a day."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from tests.simulate.parts import SMALL

from nearline import evaluate, simulate
from nearline.simulate import Market, Marketplace
from nearline.simulate._config import DAY, START


def test_the_truth_at_each_event_is_the_probability_in_the_table(small):
    market, member, ad = Market(SMALL), small["member_id"].to_numpy(), small["ad_id"].to_numpy()
    stamp, p = small["timestamp"].to_numpy(), small["true_probability"].to_numpy()
    for row in [*range(0, SMALL.events, 211), 5, 0]:  # the last two go back in time
        truth = market.at(stamp[row])
        assert truth.start <= stamp[row] < truth.end
        assert truth.probability(member[row : row + 1], ad[row : row + 1])[0] == p[row]
        assert ad[row] in truth.live
    assert market.next_events(SMALL.events).equals(small)


def test_the_logit_is_the_equation_of_the_module():
    market = Market(SMALL)
    truth = market.at(START + 1000.0)
    who, c = truth.population, truth.coefficients
    m, a = 7, 11
    x, v = who.member_design[m], who.ad_design[a]
    x_fixed = np.r_[who.fixed_member_design[m], who.fixed_ad_design[a]]
    score = truth.intercept + x_fixed @ c.fixed + v @ c.member[m] + x @ (c.campaign[who.campaign[a]] + c.ad[a])
    assert truth.logit([m], [a])[0] == pytest.approx(score, abs=1e-12)
    assert truth.probability([m], [a])[0] == pytest.approx(1 / (1 + np.exp(-score)), abs=1e-12)


def test_true_probabilities_are_calibrated_in_every_bin(demo):
    y, p = demo["clicked"].to_numpy(), demo["true_probability"].to_numpy()
    table = evaluate.reliability(y, p, 20)
    error = np.sqrt(table.predicted * (1 - table.predicted) / table.weight)
    assert (np.abs(table.actual - table.predicted) < 4 * error).all()


def test_bayes_is_log_loss_and_auc_of_the_truth(demo):
    y, p = demo["clicked"].to_numpy(), demo["true_probability"].to_numpy()
    best = simulate.bayes(demo)
    assert best["log_loss"] == pytest.approx(log_loss(y, p), abs=1e-10)
    assert best["auc"] == pytest.approx(roc_auc_score(y, p), abs=1e-10)
    assert np.isnan(simulate.bayes(demo.filter(pa.array(y == 1)))["auc"])


@pytest.mark.parametrize("seed", range(4))
def test_the_default_market_rewards_personalisation(seed):
    config = Marketplace(seed=seed, events=100_000)
    market = Market(config)
    table = market.next_events(config.events)
    y, m, a = (table[name].to_numpy() for name in ("clicked", "member_id", "ad_id"))
    who = market.at(START).population
    X = np.hstack([who.fixed_member_design[m], who.fixed_ad_design[a]])
    half = len(y) // 2
    fixed = LogisticRegression(max_iter=500).fit(X[:half], y[:half]).predict_proba(X[half:])[:, 1]
    assert 0.87 < simulate.bayes(table)["auc"] < 0.90
    assert 0.65 < roc_auc_score(y[half:], fixed) < 0.75
    assert 0.14 < y.mean() < 0.26


def test_the_truth_of_yesterday_loses_to_the_truth_of_now():
    config = Marketplace(events=60_000, shocks=())
    market = Market(config)
    table = market.next_events(config.events)
    late = table.slice(config.events // 2)
    y, m, a = (late[name].to_numpy() for name in ("clicked", "member_id", "ad_id"))
    begin = late["timestamp"][0].as_py()
    losses = []
    for days_old in (0.5, 1.0, 2.0):
        losses.append(log_loss(y, market.at(begin - days_old * DAY).probability(m, a)))
    assert simulate.bayes(late)["log_loss"] + 0.03 < losses[0] < losses[1] < losses[2]
