"""What the live benchmarks measure with: loads sent in time, freshness as a client sees it, growth between windows."""

from __future__ import annotations

import asyncio
import math
import os
import time

import numpy as np
import pytest

from benchmarks import _open_load, freshness, soak
from nearline.cli._http import Answer


async def _answer(status: int) -> Answer:
    return Answer(status, {}, b"")


async def _refused() -> Answer:
    raise ConnectionResetError


def test_every_keeps_its_times_whatever_the_answers_take() -> None:
    due: list[float] = []

    async def slow(at: float) -> None:
        due.append(at)
        await asyncio.sleep(0.2)

    began = time.perf_counter()
    asyncio.run(_open_load.every(0.01, began + 0.1, slow))
    assert len(due) in (10, 11)
    np.testing.assert_allclose(np.diff(due), 0.01, atol=1e-9)
    assert time.perf_counter() - began >= 0.2  # it waits for the last one


def test_a_request_counts_from_when_it_was_due() -> None:
    asked = _open_load.Asked()
    asyncio.run(asked.ask(time.perf_counter() - 1.0, _answer(200)))
    assert asked.percentiles(50)[0] >= 1000.0
    assert math.isnan(asked.percentiles(50, begin=time.perf_counter())[0])


def test_failures_are_counted_apart() -> None:
    asked = _open_load.Asked()
    for request in (_answer(429), _answer(429), _refused()):
        assert asyncio.run(asked.ask(0.0, request)) is None
    assert asked.failed == {"429": 2, "ConnectionResetError": 1}
    assert not asked.ms


def test_an_answer_has_learned_what_its_oldest_version_has() -> None:
    body = b'{"predictions":[{"prediction_id":"a-1","version":"2.1.40"},{"prediction_id":"a-2","version":"2.1.39"}]}'
    assert _open_load.learned(body) == 39


def test_freshness_waits_for_everything_sent_before_the_acknowledgement() -> None:
    run = freshness.Run(sent=100)
    run.acknowledged(50)
    run.used(99)
    assert run.fresh_ms == []
    assert run.percentiles(50) == [math.inf]  # never used is infinitely stale
    run.used(100)
    assert len(run.fresh_ms) == 50
    assert run.percentiles(50)[0] < 1000.0


def test_memory_and_processor_time_of_a_process() -> None:
    held = _open_load.memory_mb(os.getpid())
    assert held["all"] == pytest.approx(held["own"] + held["files"], rel=0.2)
    assert 0 < _open_load.cpu_seconds(os.getpid()) <= time.process_time() + 0.1


def test_growth_between_windows() -> None:
    asked, samples = _open_load.Asked(), soak.Samples()
    for second in range(100):
        asked.due.append(float(second))
        asked.ms.append(1.0 if second < 50 else 3.0)
        samples.at.append(float(second))
        samples.memory.append({"own": 10.0 + second, "files": 1.0, "all": 11.0 + second})
        samples.files.append(7)
    assert (soak.sliced_p99(asked, 10.0, 20.0), soak.sliced_p99(asked, 90.0, 100.0)) == (1.0, 3.0)
    assert samples.medians(10.0, 20.0) == {"own": 24.5, "files": 1.0, "all": 25.5, "handles": 7.0}
