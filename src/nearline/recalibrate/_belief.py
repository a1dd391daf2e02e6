"""What is known of the maps: of all examples, and of each segment's deviation from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nearline.recalibrate._curve import FLOOR, IDENTITY
from nearline.recalibrate._solve import posterior

Floats = NDArray[np.float64]


@dataclass
class Belief:
    """A Gaussian over the three coefficients of a map, or of a deviation, that forgets towards its prior.

    With discount γ the evidence counts γ times: J ← J₀ + γ (J − J₀), J (θ − m₀) ← γ J (θ − m₀).
    """

    prior_mean: Floats
    prior_precision: Floats
    mean: Floats = field(default_factory=lambda: np.zeros(0))
    precision: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    @classmethod
    def at(cls, mean: Floats, deviation: Floats) -> Self:
        """N(mean, diag(deviation²))."""
        precision = np.diag(deviation**-2.0)
        return cls(mean, precision, mean.copy(), precision.copy())

    def forget(self, keep: float) -> None:
        """Let the evidence count `keep` times."""
        if keep == 1.0:
            return
        pull = keep * self.precision @ (self.mean - self.prior_mean)
        self.precision = self.prior_precision + keep * (self.precision - self.prior_precision)
        self.mean = self.prior_mean + np.linalg.solve(self.precision, pull)

    def learn(self, phi: Floats, offset: Floats, label: Floats, weight: Floats, base: Floats) -> None:
        """Take a batch; the slopes of `base` plus what is learned stay at the floor or above."""
        lower = np.array([-np.inf, FLOOR - base[1], FLOOR - base[2]])
        self.mean, self.precision = posterior(self.mean, self.precision, phi, offset, label, weight, lower)

    def state(self) -> dict[str, Any]:
        """For JSON, to the bit."""
        return {"mean": self.mean.tolist(), "precision": self.precision.tolist()}

    def restore(self, state: Mapping[str, Any]) -> Self:
        """What `state` was of."""
        self.mean, self.precision = np.array(state["mean"]), np.array(state["precision"])
        return self


def of_all(level: float, slope: float) -> Belief:
    """The map of all examples, at first the identity."""
    return Belief.at(IDENTITY.copy(), np.array([level, slope, slope]))


def of_segment(deviation: float) -> Belief:
    """A segment's deviation from it, at first none."""
    return Belief.at(np.zeros(3), np.full(3, deviation))
