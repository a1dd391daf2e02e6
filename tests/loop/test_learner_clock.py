"""Which clock closes a window, and what is late."""

from __future__ import annotations

from tests.loop.parts import Bench, rows


def test_one_clock_that_is_far_ahead_closes_no_window() -> None:
    bench = Bench()
    honest = bench.predict(rows([1, 2]))
    bench.predict(rows([3]), time=9e9)
    bench.tick()
    bench.happened(honest[:1], 1.0, time=1_000.0 + 90.0)
    bench.happened(honest[:1], 1.0, time=9e9)
    bench.tick()
    assert "negative" not in bench.examples("action")
    assert bench.learner.join.watermark <= bench.now
    assert bench.held() == {0: 1.0}


def test_outcomes_that_wait_are_not_late() -> None:
    bench = Bench(batch=2)
    positions = bench.predict(rows([1, 2, 3, 4, 5]))
    bench.now += 50.0
    bench.happened(positions[:4], 1.0)
    bench.now += 500.0
    bench.predict(rows([9]))
    bench.tick()
    bench.tick()
    bench.tick()
    assert bench.examples("action") == ["learn"] * 4 + ["negative"]


def test_a_window_closes_by_the_clock_when_nothing_comes() -> None:
    bench = Bench()
    bench.predict(rows([1]), time=500.0)  # an event of the past, replayed
    bench.tick()
    assert bench.learner.join.watermark == 500.0 + 1.0 - 10.0
    bench.tick(110.0)
    assert bench.examples("action") == ["negative"]
