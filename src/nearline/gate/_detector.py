"""Evidence that a mean has risen above zero, however late, with one false alarm probability for all time.

Symbols: x_t ∈ [−b, b] observations. The hypothesis is E[x_t | past] ≤ 0 for all t. For a bet λ ∈ [0, 1/b) the factor
1 + λ x_t is ≥ 0 and, under the hypothesis, has mean ≤ 1. Money put on it at time j becomes Π_{i=j..t} (1 + λ x_i).
Start times share a unit of money: C_t = 1 / (1 + log(1 + t/h)) is not yet at stake after t observations and
w_t = C_{t−1} − C_t starts at t, so that

    A_t(λ) = (1 + λ x_t) (A_{t−1}(λ) + w_t),     E_t = C_t + mean over λ of A_t(λ)

is a supermartingale that starts at 1: an e-process. By Ville's inequality P(∃t: E_t ≥ 1/α) ≤ α, for all time, while the
money that starts just before a change makes the alarm late by only log(1/w_t) ≈ log t + 2 log log t over the growth.

The recursion is that of the Shiryaev–Roberts e-detector, with weights that sum to one in place of ones, which turns its
bound on the average run length into one on the probability of ever alarming. Sources: Shin, Ramdas, Rinaldo,
"E-detectors: a nonparametric framework for sequential change detection", New England Journal of Statistics in Data
Science 2(2), 2023; bets on bounded means: Waudby-Smith, Ramdas, "Estimating means of bounded random variables by
betting", JRSS B 86(1), 2024.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearline._confidence import bounded, check

Floats = NDArray[np.float64]

# bλ: from bold, for large changes, to timid, for small ones
_BETS = 0.8 * 2.0 ** -np.arange(8)
_PACE = 50.0


class Detector:
    """Sequential test of "the mean is not above zero" that sees late changes soon; O(1) memory.

    Parameters
    ----------
    bound : float
        b: observations lie in [−b, b].
    alpha : float
        Probability of ever alarming while the mean is not above zero.

    Attributes
    ----------
    n : int
        Observations so far.
    peak : float
        The largest log E_t so far; alarm when it is at least log(1/α).
    alarm : int or None
        n at the first alarm.

    Examples
    --------
    >>> detector, rng = Detector(bound=1.0, alpha=0.01), np.random.default_rng(0)
    >>> detector.update(rng.uniform(-1, 1, 20_000))
    >>> detector.alarm is None
    True
    >>> detector.update(rng.uniform(-0.7, 1, 5_000))
    >>> detector.alarm - 20_000
    362
    """

    def __init__(self, bound: float, alpha: float) -> None:
        check(bound, alpha)
        self.bound, self.alpha = float(bound), float(alpha)
        self.n, self.peak = 0, 0.0
        self.alarm: int | None = None
        self._log_wealth = np.full(len(_BETS), -np.inf)

    @property
    def threshold(self) -> float:
        """log(1/α)."""
        return math.log(1 / self.alpha)

    def update(self, x: ArrayLike) -> None:
        """Take observations in their order. Raises `DataError` outside [−b, b]."""
        x = bounded(x, self.bound)
        if not len(x):
            return
        cash = _cash(self.n + np.arange(len(x) + 1))
        growth = np.cumsum(np.log1p(np.outer(_BETS / self.bound, x)), axis=1)
        # A_t / Π_{i≤t} (1 + λ x_i) only grows: by w_t over the product before t
        stakes = np.log(-np.diff(cash)) - np.c_[np.zeros(len(_BETS)), growth[:, :-1]]
        wealth = growth + np.logaddexp.accumulate(np.c_[self._log_wealth, stakes], axis=1)[:, 1:]
        self._see(np.logaddexp(np.log(cash[1:]), np.logaddexp.reduce(wealth, axis=0) - math.log(len(_BETS))))
        self._log_wealth = wealth[:, -1].copy()

    def _see(self, evidence: Floats) -> None:
        over = evidence >= self.threshold
        if self.alarm is None and over.any():
            self.alarm = self.n + int(np.argmax(over)) + 1
        self.peak = max(self.peak, float(evidence.max()))
        self.n += len(evidence)

    def state(self) -> dict[str, Any]:
        """All it remembers, for JSON; no wealth at first is null."""
        wealth = None if self.n == 0 else self._log_wealth.tolist()
        return {"n": self.n, "peak": self.peak, "alarm": self.alarm, "log_wealth": wealth}

    @classmethod
    def load(cls, bound: float, alpha: float, state: Mapping[str, Any]) -> Self:
        """The detector that gave this state."""
        detector = cls(bound, alpha)
        detector.n, detector.peak, detector.alarm = state["n"], state["peak"], state["alarm"]
        if state["log_wealth"] is not None:
            detector._log_wealth = np.array(state["log_wealth"])
        return detector


def _cash(t: NDArray[np.integer]) -> Floats:
    return 1.0 / (1.0 + np.log1p(t / _PACE))
