"""Importance sampling with replacement (Katharopoulos and Fleuret, arXiv 1803.00942)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nearline.select._rule import Draw, Rule
from nearline.select._scores import Floats, Scores, scaled
from nearline.select._state import SelectorState


@dataclass(frozen=True)
class Importance(Rule):
    """b draws with replacement, p_i = s_i / sum s over a presample of m rows, omega_i = 1/(m p_i).

    Worth it when tau = sqrt(m sum p^2), smoothed over windows, exceeds what scoring costs: (m + 3b)/(3b) when a forward
    pass is paid for scores, 1 when they are recorded. Below, b rows are drawn uniformly without replacement.

    Parameters
    ----------
    presample : int or None
        Rows that are scored; None takes the whole window.
    paid : bool
        Whether scores cost a forward pass.
    smoothing : float
        Share of the earlier tau in the next.
    """

    name: ClassVar[str] = "importance"
    unbiased: ClassVar[bool] = True
    fixed: ClassVar[bool] = False
    column: ClassVar[str | None] = "score"

    presample: int | None = None
    paid: bool = False
    smoothing: float = 0.9

    def _watch(self, scores: Scores, values: Floats, b: int, state: SelectorState) -> SelectorState:
        return state.put(tau=self._tau(values, state))

    def _draw(
        self, scores: Scores, values: Floats, b: int, rng: np.random.Generator, state: SelectorState | None
    ) -> Draw:
        n = len(values)
        m = min(self.presample or n, n)
        if self._tau(values, state) <= ((m + 3 * b) / (3 * b) if self.paid else 1.0 + 1e-12):
            return Draw(rng.choice(n, b, replace=False, shuffle=False), np.full(b, b / n))
        rows = np.arange(n) if m == n else np.sort(rng.choice(n, max(m, b), replace=False, shuffle=False))
        s = scaled(values[rows])
        p = s / s.sum() if s.any() else np.full(len(rows), 1.0 / len(rows))
        at = rng.choice(len(rows), b, p=p)
        return Draw(rows[at], b * p[at] if m == n else None, 1.0 / (len(rows) * p[at]))

    def _tau(self, values: Floats, state: SelectorState | None) -> float:
        s = scaled(values)
        now = float(np.sqrt(len(s) * (s @ s)) / s.sum()) if s.any() else 1.0
        before = float((state or SelectorState()).get("tau", [now])[0])
        return self.smoothing * before + (1 - self.smoothing) * now
