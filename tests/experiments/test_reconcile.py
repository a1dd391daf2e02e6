"""A stream in small, served four ways: the late fit is the early one to the bit."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments import reconcile


@pytest.mark.parametrize("kind", reconcile.KINDS)
def test_late_and_early_end_with_the_same_bits(kind: str) -> None:
    run = reconcile.once(0, kind, reconcile.Size(20.0, 40.0, 300))
    assert run.distance == 0.0
    assert run.replayed > 50
    assert len(run.late) == len(run.none) == len(run.forgetful) > 200
    assert np.isfinite(run.late).all()
    assert run.dip(run.none) == 0.0
    assert abs(run.dip(run.late)) < 0.1
    assert not np.array_equal(run.late, run.none)


def test_bars_are_of_the_worse_kind_of_fit() -> None:
    flat, worse = np.zeros(100), np.full(100, 0.01)
    runs = [
        reconcile.Run("refit", worse + jitter, flat, flat, 0.0, 9) for jitter in (0.0, 0.002)
    ] + [reconcile.Run("fit", flat, flat, flat, 1e-12, 9)] * 2  # fmt: skip
    bars = {bar.name: bar for bar in reconcile.judged(runs)}
    assert bars["max_abs_difference"].value == 1e-12
    assert bars["log_loss_dip"].value == pytest.approx(0.011)
    assert bars["log_loss_dip_high"].value > bars["log_loss_dip"].value
    assert not bars["log_loss_dip"].passed
    assert "Not confirmed" in reconcile.section(list(bars.values()), [reconcile.dips(runs)], runs)
