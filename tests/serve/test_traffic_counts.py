"""What the app counts of itself is about the last seconds, and takes no more room than they need."""

from __future__ import annotations

import pytest

from nearline.serve import _traffic


def test_only_the_last_seconds_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(_traffic, "monotonic", lambda: now[0])
    traffic = _traffic.Traffic()
    for _ in range(1_000):
        now[0] += 0.1
        traffic.add("/predict", 200, rows=20, seconds=0.004)
    assert len(traffic._recent["/predict"]) <= 102
    found = traffic.summary()
    assert found["predict_rps"] == pytest.approx(10.0, abs=0.2)
    assert found["rows_per_s"] == pytest.approx(200.0, abs=4.0)
    assert found["p99_ms"] == pytest.approx(4.0)
    assert traffic.rows["/predict"] == 20_000
