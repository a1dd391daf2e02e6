"""The marketplace keeps its word: the same rows however asked for, of the promised types, and settings checked."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulate.parts import SMALL

from nearline import _errors, simulate
from nearline.simulate import Delay, Drift, Market, Marketplace
from nearline.simulate._config import DAY, START


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
