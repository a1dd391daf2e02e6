"""Confidence sequences: an interval for a mean that holds at all times at once, whenever one looks and stops.

Symbols: x_i ∈ [−b, b] observations, μ_i = E[x_i | past], x̂_i a prediction made before x_i with |x̂_i| ≤ b/2,
c = 3b/2 ≥ |x_i − x̂_i|, S_t = Σ (x_i − μ_i), V_t = Σ (x_i − x̂_i)², ψ(λ) = (−log(1 − cλ) − cλ) / c².

For every λ ∈ [0, 1/c), exp(λ S_t − ψ(λ) V_t) is bounded by a supermartingale that starts at 1, and so is the mixture

    m(S, V) = Σ_k w_k exp(λ_k S − ψ(λ_k) V),   Σ_k w_k = 1.

By Ville's inequality P(∃t: m(S_t, V_t) ≥ 1/α) ≤ α. With u(V) the solution of m(u, V) = 2/α,

    | (1/t) Σ x_i − (1/t) Σ μ_i | ≤ u(V_t) / t   for all t at once with probability at least 1 − α.

The observations may depend on each other and their means may move: what is covered is the average of the μ_i. Source:
Howard, Ramdas, McAuliffe, Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of
Statistics 49(2), 2021, theorem 4 (empirical Bernstein), here with a mixture over a grid as its sub-exponential
boundary. The inequality behind it, exp(λξ − ψ(λ) ξ²) ≤ 1 + λξ for ξ ≥ −c, is from Fan, Grama, Liu, "Exponential
inequalities for martingales with applications", Electronic Journal of Probability 20, 2015.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearline._errors import ConfigError, DataError

Floats = NDArray[np.float64]

# cλ from 0.9 down to 10⁻⁴ by √2: for V/c² up to 10⁹ one of them is within 1.19 of the best λ, about √(2 log(2/α) / V).
_SCALED = 0.9 * 2.0 ** (-0.5 * np.arange(27))
_PSI = -np.log1p(-_SCALED) - _SCALED


@dataclass(frozen=True)
class Bounds:
    """A mean of n observations and the ends of its interval; without observations the mean is NaN."""

    mean: float
    low: float
    high: float
    n: int


class ConfidenceSequence:
    """Interval for the mean of a bounded stream, valid at every moment; O(1) memory.

    Parameters
    ----------
    bound : float
        b: observations lie in [−b, b].
    alpha : float
        Probability that the interval ever misses the mean.

    Raises `ConfigError` for a bound that is not positive and finite, or alpha outside (0, 1).

    Examples
    --------
    >>> sequence = ConfidenceSequence(bound=1.0, alpha=0.05)
    >>> sequence.update(np.random.default_rng(0).uniform(-0.1, 0.3, 2000))
    >>> bounds = sequence.bounds()
    >>> round(bounds.mean, 2), bounds.low < 0.1 < bounds.high, round(bounds.high - bounds.low, 3)
    (0.1, True, 0.026)
    """

    def __init__(self, bound: float, alpha: float = 0.05) -> None:
        check(bound, alpha)
        self.bound, self.alpha = float(bound), float(alpha)
        self.n, self._sum, self._variance = 0, 0.0, 0.0

    def update(self, x: ArrayLike) -> None:
        """Take observations in their order; x̂_i = clip(Σ_{j<i} x_j / i, ±b/2). Raises `DataError` outside [−b, b]."""
        x = bounded(x, self.bound)
        sums = self._sum + np.cumsum(x)
        expected = np.clip((sums - x) / (self.n + 1 + np.arange(len(x))), -self.bound / 2, self.bound / 2)
        self._variance += float(((x - expected) ** 2).sum())
        self._sum += float(x.sum())
        self.n += len(x)

    def bounds(self) -> Bounds:
        """The interval now; [−b, b] at first."""
        if not self.n:
            return Bounds(math.nan, -self.bound, self.bound, 0)
        mean, radius = self._sum / self.n, boundary(self._variance, 1.5 * self.bound, self.alpha / 2) / self.n
        return Bounds(mean, max(mean - radius, -self.bound), min(mean + radius, self.bound), self.n)

    def state(self) -> dict[str, Any]:
        """All it remembers, for JSON."""
        return {"n": self.n, "sum": self._sum, "variance": self._variance}

    @classmethod
    def load(cls, bound: float, alpha: float, state: Mapping[str, Any]) -> Self:
        """The sequence that gave this state."""
        sequence = cls(bound, alpha)
        sequence.n, sequence._sum, sequence._variance = state["n"], state["sum"], state["variance"]
        return sequence


def boundary(variance: float, c: float, alpha: float) -> float:
    """u(V): the sum that S_t exceeds at any time, where its variance is V, with probability at most α.

    Solves log m(u, V) = log(1/α) by Newton's method from the right: log m is convex and grows in u, so that the
    steps fall on the solution without passing it, and u is never too small.

    >>> round(boundary(100.0, 1.0, 0.025), 2)
    39.62
    """
    rate, target = _SCALED / c, math.log(1 / alpha)
    base = -_PSI * (variance / c**2) - math.log(len(rate))
    u = float(((target - base) / rate).min())
    for _ in range(100):
        terms = base + rate * u
        top = float(terms.max())
        share = np.exp(terms - top)
        total = float(share.sum())
        step = (top + math.log(total) - target) * total / float(share @ rate)
        if step <= 1e-10 * u:
            break
        u -= step
    return u


def check(bound: float, alpha: float) -> None:
    """Refuse a bound or an alpha that make no sense."""
    if not (math.isfinite(bound) and bound > 0):
        raise ConfigError(f"bound must be positive and finite; got {bound}")
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha must lie between 0 and 1; got {alpha}")


def bounded(x: ArrayLike, bound: float) -> Floats:
    """Observations as float64 (n). Raises `DataError` outside [−bound, bound]."""
    x = np.asarray(x, np.float64)
    if x.ndim != 1 or not (np.abs(x) <= bound).all():
        raise DataError(f"must be one-dimensional within ±{bound:g}", column="x", fix="clip the observations first")
    return x
