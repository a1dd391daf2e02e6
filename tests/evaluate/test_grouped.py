"""Means over entities, what is kept of a gain, ageing, and metrics by name."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from nearline import ConfigError, DataError, evaluate
from nearline.evaluate import (
    Grouped,
    age_of_entity,
    age_of_model,
    bootstrap_interval,
    grouped,
    loss_captured,
    named,
    reliability,
    staleness_curve,
)


def data(seed: int = 0, n: int = 2_000, users: int = 40) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    user = rng.integers(0, users, n).astype(np.int32)
    p = np.clip(rng.beta(2, 4, n) + rng.normal(0, 0.1, users)[user], 0.01, 0.99)
    return (rng.random(n) < p).astype(float), p, user, rng.gamma(2.0, size=n)


def test_grouped_is_the_metric_of_each_entity_alone() -> None:
    y, p, user, w = data()
    found = grouped(evaluate.log_loss, y, p, user, w)
    for code in (0, 7, 39):
        own = user == code
        assert found.value[code] == pytest.approx(sk.log_loss(y[own], p[own], sample_weight=w[own]))
    assert found.mean().estimate == pytest.approx(sk.log_loss(y, p, sample_weight=w))
    assert found.mean(equal=True).estimate == pytest.approx(found.value.mean())


def test_the_interval_is_that_of_a_clustered_bootstrap() -> None:
    y, p, user, _ = data()
    found = grouped(evaluate.brier, y, p, user).mean()
    drawn = bootstrap_interval(evaluate.brier, y, p, np.random.default_rng(0), cluster=user, draws=2_000)
    assert found.high - found.low == pytest.approx(drawn.high - drawn.low, rel=0.1)
    assert found.estimate == pytest.approx(drawn.estimate)


def test_the_interval_covers() -> None:
    rng, covered = np.random.default_rng(1), 0
    for _ in range(400):
        value = rng.normal(0.5, 0.2, 30)
        interval = Grouped(np.arange(30), value, np.ones(30)).mean()
        covered += interval.low <= 0.5 <= interval.high
    assert covered >= 400 * 0.95 - 3 * np.sqrt(400 * 0.95 * 0.05)


def test_nothing_is_known_without_entities() -> None:
    assert np.isnan(Grouped(np.arange(2), np.full(2, np.nan), np.ones(2)).mean().estimate)


def test_loss_captured_is_the_lift_of_mean_losses_and_its_interval_covers() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(300):
        fixed, batch = rng.gamma(2.0, size=800) + 0.5, rng.gamma(1.5, size=800)
        method = fixed - 0.8 * (fixed - batch) + rng.normal(0, 0.5, 800)
        found = loss_captured(method, fixed, batch)
        assert found.estimate == pytest.approx(evaluate.lift_captured(method.mean(), fixed.mean(), batch.mean()))
        low, high = found.interval(0.95)
        covered += low <= 0.8 <= high
    assert covered >= 300 * 0.95 - 3 * np.sqrt(300 * 0.95 * 0.05)


def test_reliability_has_an_interval_that_holds_the_truth() -> None:
    rng, held = np.random.default_rng(3), []
    for _ in range(100):
        p = rng.random(2_000)
        table = reliability(rng.random(2_000) < p, p)
        held += ((table.low <= table.predicted) & (table.predicted <= table.high)).tolist()
    assert np.mean(held) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / len(held)) - 0.005
    y, p, _, w = data()
    even, weighted = (reliability(y, p, weight=weight) for weight in (None, w))
    assert (weighted.high - weighted.low).mean() > (even.high - even.low).mean()


def test_staleness_is_the_mean_loss_by_age() -> None:
    rng = np.random.default_rng(4)
    age, w, user = rng.exponential(10.0, 3_000), rng.gamma(2.0, size=3_000), rng.integers(0, 30, 3_000)
    loss = 0.3 + 0.01 * age + rng.normal(0, 0.1, 3_000)
    curve = staleness_curve(loss, age, [0, 5, 20, 40, 1e9, 2e9], w, [user])
    assert curve.lower.tolist() == [0, 5, 20, 40]
    for k, (low, high) in enumerate(zip(curve.lower, curve.upper)):
        rows = (age >= low) & (age < high)
        assert curve.loss[k] == pytest.approx(np.average(loss[rows], weights=w[rows]))
        assert curve.rows[k] == rows.sum()
    assert (np.diff(curve.loss) > 0).all()
    assert (curve.low < curve.loss).all()
    assert (curve.loss < curve.high).all()
    with pytest.raises(DataError, match="edges"):
        staleness_curve(loss, age, [1, 1])
    with pytest.raises(DataError, match="age"):
        staleness_curve(loss, age[:3], [0, 1])


def test_ages_are_since_the_last_update_and_the_last_event() -> None:
    time = np.array([0.0, 1.0, 1.0, 4.0, 9.0])
    assert age_of_model(time, [1.0, 5.0]).tolist() == [np.inf, 0.0, 0.0, 3.0, 4.0]
    assert age_of_model(time, []).tolist() == [np.inf] * 5
    assert age_of_entity(time, [3, 3, 4, 3, 4]).tolist() == [np.inf, 1.0, np.inf, 3.0, 8.0]


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("auc", lambda y, p, w: sk.roc_auc_score(y, p, sample_weight=w)),
        ("pr_auc", lambda y, p, w: sk.average_precision_score(y, p, sample_weight=w)),
        ("log_loss", lambda y, p, w: sk.log_loss(y, p, sample_weight=w)),
        ("brier", lambda y, p, w: sk.brier_score_loss(y, p, sample_weight=w)),
        ("rmse", lambda y, p, w: sk.root_mean_squared_error(y, p, sample_weight=w)),
    ],
)
def test_metrics_by_name_are_those_of_scikit_learn(name: str, oracle: object) -> None:
    y, p, _, w = data(5)
    found = named(name, "logit", []).value(y, p, w, {})
    assert found.estimate == pytest.approx(oracle(y, p, w))  # type: ignore[operator]
    assert np.isnan(found.low)


def test_poisson_metrics_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(6)
    mean, w = rng.gamma(2.0, size=500), rng.gamma(2.0, size=500)
    y = rng.poisson(mean).astype(float)
    assert evaluate.poisson_deviance(y, mean, w) == pytest.approx(sk.mean_poisson_deviance(y, mean, sample_weight=w))
    other = mean * rng.gamma(20.0, 0.05, size=500)
    change = evaluate.poisson_loss(y, other, w) - evaluate.poisson_loss(y, mean, w)
    deviance = evaluate.poisson_deviance(y, other, w) - evaluate.poisson_deviance(y, mean, w)
    assert change == pytest.approx(deviance / 2)


def test_metrics_by_entity_are_means_with_intervals() -> None:
    y, p, user, w = data(7)
    entities = {"user_id": user}
    by_auc = named("auc by user_id", "logit", entities).value(y, p, w, entities)
    assert by_auc.estimate == pytest.approx(evaluate.grouped_auc(y, p, user, w))
    assert by_auc.low < by_auc.estimate < by_auc.high
    ndcg = named("ndcg@3 by user_id", "logit", entities).value(y, p, w, entities)
    assert ndcg == evaluate.ndcg_at_k(y, p, user, 3, w).mean()
    unknown = np.where(user < 5, -1, user)
    left = named("brier by user_id", "logit", entities).value(y, p, w, {"user_id": unknown})
    assert left.estimate == pytest.approx(evaluate.brier(y[user >= 5], p[user >= 5], w[user >= 5]))


@pytest.mark.parametrize(
    ("name", "link", "message"),
    [
        ("auk", "logit", "there is no metric 'auk' for the logit link; it is one of log_loss, brier"),
        ("auc", "log", "there is no metric 'auc' for the log link; it is one of rmse, poisson_deviance"),
        ("ndcg@10", "logit", "ndcg@k by KEY"),
        ("auc@3", "logit", "there is no metric"),
        ("auc by film", "logit", "'film' is no entity key of the model; it is one of"),
        ("precision@3 by user_id", "identity", "there is no metric"),
    ],
)
def test_names_that_are_none_are_refused_with_those_that_are(name: str, link: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        named(name, link, ["user_id"])
