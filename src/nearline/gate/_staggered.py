"""A confidence sequence over recent examples: two that start anew, half a window apart; the longer one speaks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearline._confidence import Bounds, ConfidenceSequence

Floats = NDArray[np.float64]


class Staggered:
    """Covers the last window/2 to window observations (all of them at first); each sequence has its own alpha.

    `companion` is the mean, over the same observations, of a second number that is known exactly.
    """

    def __init__(self, bound: float, alpha: float, window: int) -> None:
        self._bound, self._alpha, self._half = bound, alpha, max(window // 2, 1)
        self._old, self._new = (ConfidenceSequence(bound, alpha) for _ in range(2))
        self._old_sum, self._new_sum = 0.0, 0.0

    def update(self, x: ArrayLike, companion: ArrayLike | None = None) -> None:
        """Take observations in their order, wherever a sequence has to start anew among them."""
        values = np.asarray(x, np.float64)
        others = np.zeros(len(values)) if companion is None else np.asarray(companion, np.float64)
        while len(values):
            if self._new.n == self._half:
                self._turn()
            n = self._half - self._new.n
            self._take(values[:n], others[:n])
            values, others = values[n:], others[n:]

    def _turn(self) -> None:
        """The older sequence holds a whole window and goes; the younger one, with half of it, takes its place."""
        self._old, self._old_sum = self._new, self._new_sum
        self._new, self._new_sum = ConfidenceSequence(self._bound, self._alpha), 0.0

    def _take(self, x: Floats, companion: Floats) -> None:
        # at the start both see the same
        for sequence in (self._old, self._new):
            sequence.update(x)
        self._old_sum += float(companion.sum())
        self._new_sum += float(companion.sum())

    def bounds(self) -> Bounds:
        """The interval of the longer sequence."""
        return self._old.bounds()

    def companion(self) -> float:
        """Mean of the second number over the observations of `bounds`; NaN without any."""
        return self._old_sum / self._old.n if self._old.n else math.nan

    def state(self) -> dict[str, Any]:
        """All it remembers, for JSON."""
        return {"old": self._old.state(), "new": self._new.state(), "sums": [self._old_sum, self._new_sum]}

    @classmethod
    def load(cls, bound: float, alpha: float, window: int, state: Mapping[str, Any]) -> Self:
        """The one that gave this state."""
        staggered = cls(bound, alpha, window)
        staggered._old, staggered._new = (ConfidenceSequence.load(bound, alpha, state[k]) for k in ("old", "new"))
        staggered._old_sum, staggered._new_sum = state["sums"]
        return staggered
