"""How long outcomes waited, and who is busiest."""

from __future__ import annotations

import numpy as np
import pytest

from nearline.loop._meters import Busiest, Freshness


def test_freshness_is_of_the_last_minute() -> None:
    freshness = Freshness()
    assert freshness.summary(0.0) == {"p50_ms": None, "p99_ms": None}
    freshness.saw(100.0, np.array([90.0]))
    freshness.saw(120.0, np.array([119.9, 119.8, np.nan]))
    assert freshness.last_received == 119.9
    assert freshness.summary(120.0)["p50_ms"] == pytest.approx(200.0)
    assert freshness.summary(170.0)["p50_ms"] == pytest.approx(150.0)
    freshness.saw(300.0, np.array([]))
    assert freshness.summary(300.0) == {"p50_ms": None, "p99_ms": None}
    assert freshness.last_received == 119.9


def test_the_busiest_are_counted_from_the_first_event_on() -> None:
    busiest = Busiest()
    busiest.saw(1e9, "member", np.array([3, 3, 5, -1], np.int32))
    busiest.saw(1e9, "ad", np.array([3], np.int32))
    assert busiest.top(2) == [("member", 3, 2), ("member", 5, 1)]
    busiest.saw(1e9 + 61.0, "ad", np.array([3, 3, 3], np.int32))
    assert busiest.top(9) == [("ad", 3, 2), ("member", 3, 1)]  # halved after a minute
    busiest.clear()
    assert busiest.top(9) == []


def test_only_so_many_are_remembered() -> None:
    busiest = Busiest(most=10)
    busiest.saw(0.0, "member", np.repeat(np.arange(100, dtype=np.int32), np.arange(100) + 2))
    assert len(busiest.top(1_000)) == 10
    assert busiest.top(1)[0] == ("member", 99, 50)
