"""Ratios of sums with errors that respect dependence: the rows of one entity are not independent of each other.

Symbols: numerator a_i, denominator b_i, entity g(i), R = Σ_i a_i / Σ_i b_i, G entities. With the linearised residual of
an entity e_g = Σ_{i ∈ g} (a_i − R b_i),

    se(R) = √( G/(G−1) Σ_g e_g² ) / |Σ_i b_i|,      interval R ± t_{G−1} se(R).

A weighted mean is the ratio with a = w x, b = w; a calibration ratio has a = w p, b = w y. Source: Cameron and Miller,
"A practitioner's guide to cluster-robust inference", Journal of Human Resources 50(2), 2015, section II; the
linearisation is the delta method of Cochran, Sampling Techniques, 1977, section 6.3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

FEWEST = 10
"""With fewer entities than this their scatter says nothing of the error: the rows are taken as independent."""
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Ratio:
    """An estimate R, its standard error, and of how many independent parts it was found.

    Examples
    --------
    >>> found = Ratio(estimate=1.0, error=0.1, parts=11)
    >>> [round(end, 3) for end in found.interval(0.95)]
    [0.777, 1.223]
    >>> round(found.exceeds(0.8), 3)
    0.037
    """

    estimate: float
    error: float
    parts: int

    def interval(self, level: float) -> tuple[float, float]:
        """Both ends, which miss with probability 1 − level together."""
        room = self.room((1 + level) / 2)
        return self.estimate - room, self.estimate + room

    def room(self, confidence: float) -> float:
        """t_{G−1}(confidence) se: how far the estimate may lie to one side of what it estimates."""
        return t_quantile(confidence, self.parts - 1) * self.error if math.isfinite(self.error) else math.inf

    def exceeds(self, limit: float) -> float:
        """One-sided p-value against "what is estimated is at most `limit`"."""
        if not self.error > 0 or not math.isfinite(self.error):
            return float(not self.estimate > limit or math.isinf(self.error))
        t, dof = (self.estimate - limit) / self.error, self.parts - 1
        # the normal quantile of equal probability: Wallace, Annals of Mathematical Statistics 30, 1959
        z = (8 * dof + 1) / (8 * dof + 3) * math.sqrt(dof * math.log1p(t * t / dof))
        return _NORMAL.cdf(-math.copysign(z, t))


def clustered_ratio(numerator: ArrayLike, denominator: ArrayLike, clusters: Iterable[ArrayLike] = ()) -> Ratio:
    """Σ a / Σ b with its error.

    Parameters
    ----------
    numerator, denominator
        a and b, (n) each.
    clusters
        Any number of entity codes (n): the largest of their errors counts. Codes with fewer than `FEWEST` entities,
        and none at all, leave the rows independent. A negative code is an entity of its own.

    Examples
    --------
    Twice the same rows say no more than once, if one knows it:

    >>> x = np.random.default_rng(0).normal(size=100)
    >>> once = clustered_ratio(x, np.ones(100))
    >>> twice = clustered_ratio(np.r_[x, x], np.ones(200), [np.r_[np.arange(100), np.arange(100)]])
    >>> round(once.error, 6) == round(twice.error, 6)
    True
    """
    a, b = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    total = float(b.sum())
    if not total:
        return Ratio(math.nan, math.inf, len(a))
    estimate = float(a.sum()) / total
    residual = a - estimate * b
    sums = [s for s in (_by_cluster(residual, np.asarray(c)) for c in clusters) if len(s) >= FEWEST] or [residual]
    error, parts = max((_error(s, total), -len(s)) for s in sums)
    return Ratio(estimate, error, -parts)


def t_quantile(p: float, dof: int) -> float:
    """Quantile of Student's t by the expansion of Abramowitz and Stegun 26.7.5; for dof ≥ 9 to four digits.

    >>> round(t_quantile(0.975, 10), 3), round(t_quantile(0.95, 1000), 3)
    (2.228, 1.646)
    """
    if dof < FEWEST - 1:
        return math.inf
    x = _NORMAL.inv_cdf(p)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return float(x + sum(term / dof**k for k, term in enumerate(terms, start=1)))


def wilson_interval(share: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share found in n independent rows; it stays within [0, 1] and has a width even at 0 and 1.

    (share + z²/2n ± z √(share (1 − share)/n + z²/4n²)) / (1 + z²/n). Source: Wilson, JASA 22, 1927.

    >>> [round(end, 4) for end in wilson_interval(0.0, 100)]
    [0.0, 0.037]
    """
    if not n > 0:
        return 0.0, 1.0
    z = _NORMAL.inv_cdf((1 + level) / 2)
    middle, room = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (middle - room) / (1 + z * z / n)), min(1.0, (middle + room) / (1 + z * z / n))


def holm(p: ArrayLike) -> Floats:
    """p-values adjusted for their number: rejecting those ≤ α makes any false rejection at most α likely.

    p̃_(k) = max_{j ≤ k} min(1, (m − j + 1) p_(j)), in ascending order. Source: Holm, Scandinavian Journal of Statistics
    6(2), 1979.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted


def _by_cluster(residual: Floats, codes: NDArray[Any]) -> Floats:
    _, code = np.unique(codes, return_inverse=True)
    alone = codes < 0 if np.issubdtype(codes.dtype, np.signedinteger) else np.zeros(len(codes), bool)
    sums = np.asarray(np.bincount(code[~alone], residual[~alone]), np.float64)
    held = np.bincount(code[~alone], minlength=len(sums)) > 0
    return np.concatenate([sums[held], residual[alone]])


def _error(sums: Floats, total: float) -> float:
    n = len(sums)
    return math.sqrt(n / (n - 1) * float(sums @ sums)) / abs(total) if n > 1 else math.inf
