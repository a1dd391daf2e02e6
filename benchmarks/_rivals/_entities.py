"""The per-entity task: a fresh prior, n rows of d features for each of E entities, one posterior update each.

Prior N(0, I), logistic loss, no forgetting; the posterior asked for is the mode θ and the full Hessian
H = I + Σ_i p_i (1 − p_i) x_i x_iᵀ at the mode. The first feature is the intercept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """`x` (E, n, d) with x[..., 0] = 1; `label` (E, n) is 0 or 1."""

    x: Floats
    label: Floats

    @property
    def entities(self) -> int:
        """Number of entities E."""
        return len(self.x)

    def head(self, entities: int) -> Task:
        """The first `entities` entities, for rivals too slow for all of them."""
        return Task(self.x[:entities], self.label[:entities])


@dataclass(frozen=True)
class Fitted:
    """Posteriors `theta` (E, d), `hessian` (E, d, d), and where the seconds went.

    `update` is the update itself. `conversion` turns arrays in memory into what the update takes, by the shortest way
    the rival's code allows. `documented` is the conversion the rival's own guide shows, where that is another.
    """

    theta: Floats
    hessian: Floats
    rows: int
    update: float
    conversion: float
    documented: float

    @property
    def entity_updates_per_s(self) -> float:
        """Entity updates per second from arrays to posterior, by the shortest conversion."""
        return len(self.theta) / (self.update + self.conversion)

    @property
    def rows_per_s(self) -> float:
        """Rows per second, from arrays to posterior."""
        return self.entity_updates_per_s * self.rows

    @property
    def update_only_per_s(self) -> float:
        """Entity updates per second, conversion left out."""
        return len(self.theta) / self.update

    @property
    def documented_per_s(self) -> float:
        """Entity updates per second by the conversion the rival's guide shows."""
        return len(self.theta) / (self.update + self.documented)


def task(entities: int, rows: int, features: int, seed: int = 0) -> Task:
    """Random entities: x ~ N(0, 1) beside the intercept, coefficients N(0, ½²), labels drawn from the model."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(entities, rows, features))
    x[:, :, 0] = 1.0
    truth = rng.normal(scale=0.5, size=(entities, features))
    margin = np.einsum("end,ed->en", x, truth)
    return Task(x, (rng.random((entities, rows)) < 1 / (1 + np.exp(-margin))).astype(np.float64))
