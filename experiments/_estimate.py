"""Means over seeds with their intervals, and how a measured table is held against a reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearline.evaluate import auc

Floats = NDArray[np.float64]

# Student's t, 97.5 %, by degrees of freedom 1 … 15.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)


@dataclass(frozen=True)
class Estimate:
    """Mean of independent runs, their standard deviation and half the width of the mean's 95 % interval (Student's t).

    >>> Estimate.of([1.0, 2.0, 3.0]).text(2)
    '2.00 ± 2.48'
    """

    mean: float
    sd: float
    half: float
    runs: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Estimate:
        """The estimate from one number per run; its interval is infinite for a single run."""
        x = np.asarray(list(values), dtype=np.float64)
        if len(x) < 2:
            return cls(float(x.mean()), math.nan, math.inf, len(x))
        sd = float(x.std(ddof=1))
        return cls(float(x.mean()), sd, _T[min(len(x) - 1, len(_T)) - 1] * sd / math.sqrt(len(x)), len(x))

    def text(self, digits: int, scale: float = 1.0) -> str:
        """Mean ± half width, both times `scale`.

        >>> Estimate(0.9971, 0.001, 0.0012, 5).text(1, 100)
        '99.7 ± 0.1'
        """
        half = f" ± {self.half * scale:.{digits}f}" if math.isfinite(self.half) else ""
        return f"{self.mean * scale:.{digits}f}{half}"


def rank(label: Floats, margin: Floats) -> float:
    """AUC of a margin on the link scale: only its order matters.

    >>> rank(np.array([0.0, 1.0]), np.array([-3.0, 2.0]))
    1.0
    """
    return auc(label, margin)


def by_cluster(
    statistic: Callable[[Floats], float], cluster: NDArray[np.integer], seed: int, draws: int
) -> tuple[float, float]:
    """95 % bootstrap interval of `statistic(row weights)`, drawing whole clusters of rows with replacement.

    >>> by_cluster(lambda w: float(w.sum()), np.array([0, 0, 1, 1]), seed=0, draws=10)
    (4.0, 4.0)
    """
    _, code, size = np.unique(cluster, return_inverse=True, return_counts=True)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        drawn = np.bincount(rng.integers(0, len(size), len(size)), minlength=len(size))
        found.append(statistic(drawn[code].astype(np.float64)))
    low, high = np.nanquantile(found, [0.025, 0.975])
    return float(low), float(high)


def agreement(pairs: Sequence[tuple[str, float, float, float]]) -> tuple[int, list[str]]:
    """(cells that agree, the ones that do not in words) of (cell, measured, reference, tolerance)."""
    apart = [
        f"{cell}: {measured:.4g} where the reference is {reference:.4g} (tolerance {tolerance:.2g})"
        for cell, measured, reference, tolerance in pairs
        if not abs(measured - reference) <= tolerance + 1e-12
    ]
    return len(pairs) - len(apart), apart
