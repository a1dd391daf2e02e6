"""A metric within each entity, and its mean over entities with an interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearline._errors import DataError
from nearline.evaluate._clustered import clustered_ratio
from nearline.evaluate._resample import Interval
from nearline.evaluate._rows import paired, totals

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Grouped:
    """A metric of each entity.

    Attributes
    ----------
    entity
        Names (G), sorted.
    value, weight
        The metric of each, NaN where its rows leave it undefined, and the sum of its rows' weights (G).
    """

    entity: NDArray[np.generic]
    value: Floats
    weight: Floats

    def mean(self, level: float = 0.95, equal: bool = False) -> Interval:
        """Σ_g W_g v_g / Σ_g W_g over entities where it is defined, and its interval by the delta method.

        Entities are what is independent, so the interval needs no resampling; with `equal` each counts alike. NaN where
        it is defined nowhere.

        >>> found = Grouped(np.arange(20), np.tile([0.4, 0.6], 10), np.ones(20)).mean()
        >>> round(found.estimate, 2), round(found.low, 3), round(found.high, 3)
        (0.5, 0.452, 0.548)
        """
        known = ~np.isnan(self.value) & (self.weight > 0)
        w = np.ones(int(known.sum())) if equal else self.weight[known]
        if not len(w):
            return Interval(math.nan, math.nan, math.nan)
        found = clustered_ratio(w * self.value[known], w)
        return Interval(found.estimate, *found.interval(level))


def grouped(
    metric: Callable[[Floats, Floats, Floats], float],
    y: ArrayLike,
    p: ArrayLike,
    entity: ArrayLike,
    weight: ArrayLike | None = None,
) -> Grouped:
    """metric(y, p, weight) within each entity.

    Examples
    --------
    >>> from nearline.evaluate import log_loss
    >>> found = grouped(log_loss, [1, 0, 1], [0.5, 0.5, 1.0], ["ann", "ann", "bob"])
    >>> found.entity.tolist(), found.value.round(3).tolist(), found.weight.tolist()
    (['ann', 'bob'], [0.693, 0.0], [2.0, 1.0])
    """
    y, p, w = paired(y, p, weight)
    names, code = coded(entity, len(y))
    order = np.argsort(code, kind="stable")
    cuts = np.cumsum(np.bincount(code, minlength=len(names)))
    ends = zip([0, *cuts[:-1].tolist()], cuts.tolist())
    y, p, ordered = y[order], p[order], w[order]
    value = np.array([metric(y[a:b], p[a:b], ordered[a:b]) for a, b in ends], np.float64)
    return Grouped(names, value, totals(code, w, len(names)))


def coded(entity: ArrayLike, n: int) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
    """Sorted names of the entities, and each row's number among them (n)."""
    names, code = np.unique(np.asarray(entity), return_inverse=True)
    if len(code) != n:
        raise DataError(f"entity has {len(code)} rows, y has {n}", fix="pass one entity per row")
    return names, code.astype(np.int64)
