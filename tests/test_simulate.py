"""The marketplace keeps its word: true probabilities, drift of the stated law, the same rows however asked for."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from nearline import _errors, evaluate, simulate
from nearline.simulate import Delay, Drift, Market, Marketplace
from nearline.simulate._config import DAY, START

SMALL = Marketplace(
    members=60, ads=30, campaigns=6, days=1.0, events=3_000, shocks=((0.5, 0.9),), ad_lifetime=0.3, seed=3
)


@pytest.fixture(scope="module")
def small() -> pa.Table:
    return simulate.stream(SMALL)


@pytest.fixture(scope="module")
def demo() -> pa.Table:
    return simulate.stream(Marketplace())


@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(0, 1500), min_size=1, max_size=6))
def test_the_rows_do_not_depend_on_how_many_are_asked_for(small, sizes):
    market = Market(SMALL)
    parts = [market.next_events(n) for n in [*sizes, SMALL.events]]
    assert pa.concat_tables(parts).combine_chunks().equals(small)
    assert market.next_events(10).num_rows == 0


@pytest.mark.parametrize("size", [1, 999, 3_000, 10_000])
def test_batches_are_the_stream_in_pieces(small, size):
    parts = list(simulate.batches(SMALL, size))
    assert {part.num_rows for part in parts[:-1]} <= {size}
    assert pa.concat_tables(parts).combine_chunks().equals(small)


def test_a_seed_is_a_marketplace(small):
    assert simulate.stream(SMALL).equals(small)
    other = simulate.stream(Marketplace(**{**_fields(SMALL), "seed": 4}))
    assert not other["member_id"].equals(small["member_id"])


def _fields(config: Marketplace) -> dict[str, object]:
    return {name: getattr(config, name) for name in config.__dataclass_fields__}


def test_columns_have_the_promised_types(small):
    text, lists = pa.string(), pa.list_(pa.string())
    expected = {
        "event_id": pa.int64(), "timestamp": pa.float64(), "member_id": pa.int64(), "ad_id": pa.int64(),
        "campaign_id": pa.int64(), "country": text, "device": text, "age_group": text, "interests": lists,
        "category": text, "advertiser": text, "price": pa.float64(), "formats": lists, "clicked": pa.int8(),
        "outcome_time": pa.float64(), "true_probability": pa.float64(),
    }  # fmt: skip
    assert {field.name: field.type for field in small.schema} == expected
    assert small["event_id"].to_pylist() == list(range(SMALL.events))
    assert small.drop_columns("outcome_time").to_pandas().notna().all().all()
    assert min(len(held) for held in small["interests"].to_pylist()) >= 1


def test_time_runs_forward_from_the_first_of_january_2026(small):
    stamp = small["timestamp"].to_numpy()
    assert (np.diff(stamp) >= 0).all()
    assert stamp[0] >= START == np.datetime64("2026-01-01", "s").astype(float)
    assert stamp[-1] < START + DAY
    # a constant rate: arrival times are uniform, Kolmogorov's distance at the 0.1 % level
    uniform = (stamp - START) / DAY
    assert np.abs(uniform - np.arange(len(stamp)) / len(stamp)).max() < 1.95 / np.sqrt(len(stamp))


def test_features_of_a_pair_are_those_of_its_events(small):
    market = Market(SMALL)
    names = market.features([0], [0]).column_names
    assert market.features(small["member_id"], small["ad_id"]).equals(small.select(names))
    assert market.members.num_rows == SMALL.members
    assert market.ads.num_rows == SMALL.ads


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


@given(
    ads=st.integers(1, 12),
    lifetime=st.floats(0.01, 3.0),
    campaigns=st.integers(1, 5),
    members=st.integers(1, 20),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_every_size_of_market_yields_all_its_events(ads, lifetime, campaigns, members, seed):
    config = Marketplace(
        members=members,
        ads=ads,
        campaigns=campaigns,
        days=0.5,
        events=200,
        ad_lifetime=lifetime,
        seed=seed,
        step=3600.0,
    )
    table = simulate.stream(config)
    assert table.num_rows == 200
    p = table["true_probability"].to_numpy()
    assert ((p > 0) & (p < 1)).all()


def test_outcomes_come_after_a_gamma_delay_or_never():
    delay = Delay(mean=1800.0, shape=2.0, never=0.1)
    table = simulate.stream(Marketplace(events=50_000, days=1.0, delay=delay))
    wait = table["outcome_time"].to_numpy() - table["timestamp"].to_numpy()
    assert table["outcome_time"].null_count / 50_000 == pytest.approx(0.1, abs=0.006)
    wait = wait[~np.isnan(wait)]
    assert wait.min() >= 0
    assert wait.mean() == pytest.approx(1800, rel=0.02)
    assert wait.var() == pytest.approx(1800**2 / 2, rel=0.06)


def test_a_million_events_take_less_than_ten_seconds():
    start = time.process_time()
    assert simulate.stream(Marketplace(events=1_000_000)).num_rows == 1_000_000
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Marketplace(members=0),
        lambda: Marketplace(days=float("inf")),
        lambda: Marketplace(base_rate=1.0),
        lambda: Marketplace(events=-1),
        lambda: Marketplace(shocks=((1.0, 1.5),)),
        lambda: Drift(member_half_life=0.0),
        lambda: Drift(ad_size=-1.0),
        lambda: Drift(ad_size=float("inf")),
        lambda: Delay(never=1.5),
        lambda: next(simulate.batches(SMALL, 0)),
        lambda: Market(SMALL).next_events(-1),
        lambda: simulate.random_effects(0, rho=1.5),
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(_errors.ConfigError):
        wrong()


def test_unknown_ids_and_times_are_refused():
    market = Market(SMALL)
    with pytest.raises(_errors.DataError, match="member_id"):
        market.at(START).logit([SMALL.members], [0])
    with pytest.raises(_errors.DataError, match="ad_id"):
        market.at(START).logit([0], [-1])
    with pytest.raises(_errors.DataError, match="outside"):
        market.at(START + 2 * DAY)
    with pytest.raises(_errors.DataError, match="member_id"):
        market.features([-1], [0])


def test_random_effects_have_the_stated_moments():
    data = simulate.random_effects(seed=1, rho=0.5, drift=True)
    assert data.X.shape == (25, 600, 20, 10)
    assert (data.X[..., 0] == 1).all()
    assert np.corrcoef(data.X[:, :, :, 1:].reshape(-1, 9).T) == pytest.approx(
        0.5 * np.eye(9) + 0.5 * np.ones((9, 9)), abs=0.01
    )
    assert data.offset.mean() == pytest.approx(-1, abs=0.01)
    assert data.offset.std() == pytest.approx(1, abs=0.01)
    step = np.sqrt(0.96) * data.coefficients[:-1] - data.coefficients[1:]
    assert step.std() == pytest.approx(0.14, abs=0.002)
    assert data.coefficients[-1].std() == pytest.approx(0.7, abs=0.03)
    assert data.y.mean() == pytest.approx(data.probability.mean(), abs=0.005)
    still = simulate.random_effects(seed=1, rho=0.5)
    np.testing.assert_array_equal(still.coefficients[0], still.coefficients[-1])


def test_a_random_effects_mini_batch_as_a_table():
    data = simulate.random_effects(seed=0, entities=4, batches=2, rows=3)
    table = data.table(1)
    assert table.num_rows == 12
    assert table["entity"].to_pylist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    np.testing.assert_array_equal(table["x9"].to_numpy().reshape(4, 3), data.X[1, :, :, 9])
    np.testing.assert_array_equal(table["y"].to_numpy().reshape(4, 3), data.y[1])


def _laplace(mean, precision, X, offset, y):
    """One Newton solve per entity of −log posterior, prior N(mean, precision⁻¹): new mean and precision."""
    theta = mean
    for _ in range(30):
        p = 1 / (1 + np.exp(-(np.einsum("erd,ed->er", X, theta) + offset)))
        gradient = np.einsum("edk,ek->ed", precision, theta - mean) + np.einsum("erd,er->ed", X, p - y)
        hessian = precision + np.einsum("erd,er,erk->edk", X, p * (1 - p), X)
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        theta = theta - step
        if np.abs(step).max() < 1e-8:
            break
    return theta, hessian


@pytest.mark.parametrize(
    ("rho", "drift", "expected", "tolerance"),
    [(0.0, False, 55.1, 1.5), (0.9, False, 82.0, 2.4), (0.0, True, 31.4, 2.1)],
)
def test_a_stale_model_captures_the_lift_of_the_reference_table(rho, drift, expected, tolerance):
    # specification 11.1, column "stale", three standard deviations; without drift the sequential posterior
    # with full covariance stands in for the batch refit (100.0 in the table), with drift it has 101.1
    data = simulate.random_effects(seed=0, rho=rho, drift=drift)
    mean, precision = np.zeros((600, 10)), np.broadcast_to(np.eye(10), (600, 10, 10))
    aucs = {"fixed": [], "stale": [], "full": []}
    means = [mean]
    for k in range(25):
        X, offset, y = data.X[k], data.offset[k], data.y[k]
        if k >= 12:
            for name, theta in (("fixed", means[0]), ("stale", means[1]), ("full", means[-1])):
                score = np.einsum("erd,ed->er", X, theta) + offset
                aucs[name].append(evaluate.auc(y.ravel(), score.ravel()))
        mean, precision = _laplace(mean, precision, X, offset, y)
        means.append(mean)
    fixed, old, full = (np.mean(aucs[name]) for name in ("fixed", "stale", "full"))
    lift = 100 * evaluate.lift_captured(old, fixed, full) * (1.011 if drift else 1.0)
    assert lift == pytest.approx(expected, abs=tolerance)
