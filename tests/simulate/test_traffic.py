"""Traffic keeps its word: the marketplace's events on the clock of the wall, shock and wave at their second."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline import _errors, simulate
from nearline.simulate import Delay, Market, Marketplace, Request, Traffic
from nearline.simulate._config import DAY, START

MARKET = Marketplace(members=80, ads=60, campaigns=6, days=2.0, ad_lifetime=0.5, step=300.0)
TRAFFIC = Traffic(MARKET, duration=60.0, rate=200.0, batch=16, delay=Delay(mean=3.0, shape=2.0, never=0.1), seed=4)


def all_of(requests: Iterable[Request], name: str) -> np.ndarray:
    return np.concatenate([np.atleast_1d(getattr(one, name)) for one in requests])


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    return list(TRAFFIC)


def test_the_same_values_give_the_same_traffic(requests: list[Request]) -> None:
    for one, again in zip(requests, TRAFFIC, strict=True):
        assert one.rows.equals(again.rows)
        np.testing.assert_array_equal(one.outcome_at, again.outcome_at)
    assert not requests[0].rows.equals(next(iter(replace(TRAFFIC, seed=5))).rows)


def test_past_and_requests_are_the_stream(requests: list[Request]) -> None:
    stream, past = simulate.stream(TRAFFIC.marketplace), TRAFFIC.past(start=1000.0)
    assert past.num_rows + TRAFFIC.size == stream.num_rows
    assert past.drop_columns(["timestamp", "outcome_time"]).equals(
        stream.slice(0, past.num_rows).drop_columns(["timestamp", "outcome_time"])
    )
    rows = pa.concat_tables([one.rows for one in requests])
    assert rows.equals(stream.slice(past.num_rows).select(rows.column_names))
    np.testing.assert_array_equal(all_of(requests, "label"), stream["clicked"].to_numpy()[past.num_rows :])
    assert not {"clicked", "true_probability", "outcome_time", "event_id"} & set(rows.column_names)


def test_rows_come_at_the_rate_before_and_after_the_start(requests: list[Request]) -> None:
    times = TRAFFIC.past(start=1000.0)["timestamp"].to_numpy()
    assert np.all(np.diff(times) >= 0)
    assert 999.9 < times[-1] < 1000.0
    assert len(times) / (1000.0 - times[0]) == pytest.approx(200, rel=0.06)
    at = all_of(requests, "at")
    assert 0 <= at[0] <= at[-1] < 60
    assert np.all(np.diff(at) >= 0)
    assert {len(one.label) for one in requests[:-1]} == {16}
    in_tenths = np.histogram(at, bins=10, range=(0, 60))[0]
    assert np.all(np.abs(in_tenths * 16 / 6 - 200) < 5 * np.sqrt(200 * 6) / 6 + 16 / 6)


def test_outcomes_come_after_a_gamma_delay_on_the_wall_or_never(requests: list[Request]) -> None:
    waited = np.concatenate([one.outcome_at - one.at for one in requests])
    come = waited[~np.isnan(waited)]
    assert np.mean(np.isnan(waited)) == pytest.approx(0.1, abs=0.015)
    assert come.min() >= 0
    assert come.mean() == pytest.approx(3.0, rel=0.05)
    assert come.var() == pytest.approx(3.0**2 / 2, rel=0.15)  # gamma: mean² / shape


def test_labels_are_drawn_from_the_probabilities(requests: list[Request]) -> None:
    p, y = all_of(requests, "probability"), all_of(requests, "label")
    assert abs(np.mean(y - p)) < 4 * np.sqrt(np.mean(p * (1 - p)) / len(p))
    assert abs(np.mean((y - p) * p)) < 4 * np.sqrt(np.mean(p**3 * (1 - p)) / len(p))


def test_a_shock_comes_at_its_second() -> None:
    traffic = replace(TRAFFIC, shock_at=20.0, shock=1.0)
    market = Market(traffic.marketplace)
    second = START + DAY * 2 * 0.3 + traffic.warp * np.array([19.99, 20.01, 40.0])
    before, after = (market.at(t).coefficients.ad.copy() for t in second[:2])
    assert abs(np.corrcoef(before.ravel(), after.ravel())[0, 1]) < 0.25
    calm = Market(replace(traffic, shock_at=None).marketplace)
    before, after = (calm.at(t).coefficients.ad.copy() for t in second[:2])
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.99


def first_seen(traffic: Traffic) -> np.ndarray:
    """The second at which each ad that comes after the start is first asked for."""
    old = set(traffic.past(0.0)["ad_id"].to_pylist())
    first: dict[int, float] = {}
    for one in traffic:
        for ad in one.rows["ad_id"].to_pylist():
            if ad not in old:
                first.setdefault(ad, one.at)
    return np.array(list(first.values()))


def test_a_wave_of_new_ads_comes_at_its_second() -> None:
    wave = first_seen(replace(TRAFFIC, cold_start_at=30.0, wave=0.6))
    share = np.mean((wave >= 30) & (wave < 32))
    assert share > 0.6
    assert np.mean((wave >= 28) & (wave < 30)) < 0.2
    calm = first_seen(TRAFFIC)
    assert np.mean((calm >= 30) & (calm < 32)) < 0.2


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 1), day=st.floats(0, 1.9), seed=st.integers(0, 100))
def test_ids_grow_in_order_of_birth_whatever_the_waves(share: float, day: float, seed: int) -> None:
    market = Market(replace(MARKET, waves=((day, share),), events=10, seed=seed))
    assert np.all(np.diff(market._population.born) >= 0)


def test_all_events_before_the_start_are_counted_even_where_there_are_none() -> None:
    bare = replace(TRAFFIC, history=0.0, duration=5.0)
    assert bare.past(0.0).num_rows == 0
    assert bare.size == 1000 == sum(len(one.label) for one in bare)


@pytest.mark.parametrize(
    ("name", "value"),
    [("duration", 0), ("rate", -1), ("batch", 0), ("history", 1.0), ("shock_at", 60.0), ("cold_start_at", -1.0)],
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(_errors.ConfigError, match=name):
        replace(TRAFFIC, **{name: value})


@pytest.mark.parametrize("waves", [((-1.0, 0.5),), ((1.0, -0.5),), ((0.5, 0.6), (1.0, 0.6))])
def test_impossible_waves_are_refused(waves: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(_errors.ConfigError, match="waves"):
        replace(MARKET, waves=waves)
