"""Exact solvers of loss matching agree with brute force (specification, section 12)."""

from __future__ import annotations

import sys
from itertools import combinations

import numpy as np
import pytest

from nearline import ConfigError, select
from nearline.select import Scores


def least_gap(loss: np.ndarray, b: int) -> float:
    means = [np.mean(rows) for rows in combinations(loss, b)]
    return float(np.min(np.abs(np.array(means) - loss.mean())) / loss.std())


@pytest.mark.parametrize("seed", range(12))
def test_milp_dp_and_brute_force_agree(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 13))
    b, loss = int(rng.integers(1, n)), rng.lognormal(size=n)
    best, scores = least_gap(loss, b), Scores(loss=loss)
    exact = select.by_name("milp", tol=1e-9)(scores, b, rng).report.gap
    assert exact == pytest.approx(best, abs=1e-6)
    levels = 2000
    delta = np.ptp(loss) / levels / loss.std()
    assert select.by_name("dp", levels=levels)(scores, b, rng).report.gap <= best + delta
    assert select.by_name("swap")(scores, b, rng).report.gap >= best - 1e-12


def test_dp_at_a_window_of_three_hundred_is_within_rounding() -> None:
    rng = np.random.default_rng(0)
    loss = rng.exponential(size=300)
    report = select.by_name("dp")(Scores(loss=loss), 30, rng).report
    assert report.gap <= np.ptp(loss) / 256 / 2 / loss.std()


def test_milp_at_128_is_within_its_tolerance() -> None:
    rng = np.random.default_rng(0)
    assert select.by_name("milp")(Scores(loss=rng.exponential(size=128)), 12, rng).report.gap <= 2e-4


def test_without_scipy_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ConfigError, match=r"pip install nearline\[bench\]"):
        select.by_name("milp")(Scores(loss=np.arange(5.0)), 2, np.random.default_rng(0))
