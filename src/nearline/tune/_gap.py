"""How much lower one sequence of losses is than another on the same rows, with an interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PARTS = 40
# Student's t, 97.5 %, 39 degrees of freedom.
T = 2.023


@dataclass(frozen=True, slots=True)
class Gap:
    """Relative difference of two mean losses, paired by row: g = 1 − Σ w l' / Σ w l, positive where l' is lower.

    The interval is Student's t over 40 consecutive parts of the stream, since neighbouring rows depend on each other.

    Attributes
    ----------
    before, after
        The mean losses.
    estimate, low, high
        The gap and its 95 % interval.

    Examples
    --------
    >>> loss = np.full(400, 0.5)
    >>> Gap.of(loss, 0.9 * loss, np.ones(400)).estimate.__round__(6)
    0.1
    """

    before: float
    after: float
    estimate: float
    low: float
    high: float

    @classmethod
    def of(cls, before: Floats, after: Floats, weight: Floats) -> Gap:
        """The gap from losses (n) before and after a change, and row weights (n)."""
        starts = np.unique(np.linspace(0, len(before), PARTS, endpoint=False).astype(np.int64))
        gains = np.add.reduceat((before - after) * weight, starts)
        total = float(np.dot(before, weight))
        count = float(weight.sum())
        estimate = float(gains.sum()) / total
        half = T * float(np.std(gains, ddof=1)) * math.sqrt(len(gains)) / total if len(gains) > 1 else math.inf
        return cls(total / count, float(np.dot(after, weight)) / count, estimate, estimate - half, estimate + half)

    @property
    def sure(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low > 0
