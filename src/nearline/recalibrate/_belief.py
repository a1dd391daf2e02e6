"""What is known of the maps: of the one of all examples, or of every segment's deviation from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nearline.recalibrate._curve import FLOOR
from nearline.recalibrate._solve import Problem, posteriors

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Beliefs:
    """Gaussians over the three coefficients of maps, or of deviations, with one prior, towards which they forget.

    With discount γ the evidence counts γ times: J ← J₀ + γ (J − J₀), J (θ − m₀) ← γ J (θ − m₀).

    Attributes
    ----------
    mean, precision
        θ (S, 3) and J (S, 3, 3); the prior's for those that have learned nothing.
    """

    def __init__(self, mean: Floats, deviation: Floats, size: int = 0) -> None:
        self._mean, self._precision = mean, np.diag(deviation**-2.0)
        self.mean, self.precision = np.zeros((0, 3)), np.zeros((0, 3, 3))
        self.grow(size)

    def grow(self, size: int) -> None:
        """Begin further ones at the prior, until there are so many."""
        more = size - len(self.mean)
        self.mean = np.concatenate([self.mean, np.tile(self._mean, (more, 1))])
        self.precision = np.concatenate([self.precision, np.tile(self._precision, (more, 1, 1))])

    def forget(self, keep: float) -> None:
        """Let the evidence count `keep` times."""
        pull = keep * np.einsum("sij,sj->si", self.precision, self.mean - self._mean)
        self.precision = self._precision + keep * (self.precision - self._precision)
        self.mean = self._mean + np.linalg.solve(self.precision, pull[:, :, None])[:, :, 0]

    def learn(self, phi: Floats, offset: Floats, label: Floats, weight: Floats, code: Ints, base: Floats) -> None:
        """Take the rows (n) of a batch, of which row i belongs to `code[i]`.

        The slopes of `base` plus what is learned stay at the floor or above.
        """
        touched, code = np.unique(code, return_inverse=True)
        lower = np.broadcast_to(np.array([-np.inf, FLOOR - base[1], FLOOR - base[2]]), (len(touched), 3))
        problem = Problem(self.mean[touched], self.precision[touched], lower, phi, offset, label, weight, code)
        self.mean[touched], self.precision[touched] = posteriors(problem)

    def state(self) -> dict[str, Any]:
        """For JSON, to the bit."""
        return {"mean": self.mean.tolist(), "precision": self.precision.tolist()}

    def restore(self, state: Mapping[str, Any]) -> Self:
        """What `state` was of."""
        self.mean = np.array(state["mean"], np.float64).reshape(-1, 3)
        self.precision = np.array(state["precision"], np.float64).reshape(-1, 3, 3)
        return self
