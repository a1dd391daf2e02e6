"""How good the first k of each entity's rows are, ordered by prediction.

Symbols: rows r = 0, 1, … of one entity from the highest prediction down, gains y_r, D_k = Σ_{r<k} y_r / log2(r + 2).

Rows of equal prediction have no order. Each metric is its mean over all of their orders, so that it depends neither on
the order of the rows nor on a random one: a block of m tied rows that begins at r gives each of its m places the mean
gain of the block. Source: McSherry and Najork, "Computing information retrieval performance measures efficiently in the
presence of tied scores", ECIR 2008.

A list has a weight, the sum of its rows' weights, which counts in the mean over entities; within it rows count alike.
Entities that leave a metric undefined are left out of the mean; NaN where none is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearline._errors import ConfigError, DataError
from nearline.evaluate._grouped import Grouped, coded
from nearline.evaluate._rows import paired, starts, sums, totals

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def precision_at_k(
    y: ArrayLike, p: ArrayLike, entity: ArrayLike, k: int = 10, weight: ArrayLike | None = None
) -> Grouped:
    """Share of the first k rows of an entity that are positive: Σ_{r<k} y_r / min(k, n).

    >>> precision_at_k([1, 0, 1, 0], [0.9, 0.8, 0.2, 0.1], ["a", "a", "b", "b"], k=1).mean().estimate
    1.0
    """
    found = _lists(y, p, entity, k, weight)
    return found.grouped(found.hits, np.minimum(k, found.rows))


def recall_at_k(y: ArrayLike, p: ArrayLike, entity: ArrayLike, k: int = 10, weight: ArrayLike | None = None) -> Grouped:
    """Share of an entity's positives that are among its first k rows: Σ_{r<k} y_r / Σ_r y_r; undefined without any.

    >>> recall_at_k([1, 1, 0, 0], [0.9, 0.2, 0.8, 0.1], ["a", "a", "a", "b"], k=2).mean().estimate
    0.5
    """
    found = _lists(y, p, entity, k, weight)
    return found.grouped(found.hits, found.positives)


def ndcg_at_k(y: ArrayLike, p: ArrayLike, entity: ArrayLike, k: int = 10, weight: ArrayLike | None = None) -> Grouped:
    """D_k over the D_k of the best order; gains y ≥ 0 may be graded. Undefined where all gains are 0.

    Source: Järvelin and Kekäläinen, ACM TOIS 20(4), 2002, with the linear gain.

    >>> round(ndcg_at_k([0, 1, 0], [0.9, 0.8, 0.1], ["a", "a", "a"], k=2).mean().estimate, 4)
    0.6309
    """
    found = _lists(y, p, entity, k, weight)
    return found.grouped(found.gain, found.best)


@dataclass(frozen=True)
class _Lists:
    """Per entity (sorted): rows, weight, positives, expected hits and DCG of the first k, and the best DCG."""

    names: NDArray[np.generic]
    weight: Floats
    rows: Ints
    positives: Floats
    hits: Floats
    gain: Floats
    best: Floats

    def grouped(self, above: Floats, below: Floats | Ints) -> Grouped:
        value = np.divide(above, below, out=np.full(len(self.names), np.nan), where=below > 0)
        return Grouped(self.names, value, self.weight)


def _lists(y: ArrayLike, p: ArrayLike, entity: ArrayLike, k: int, weight: ArrayLike | None) -> _Lists:
    if k < 1:
        raise ConfigError(f"k must be at least 1; got {k}")
    y, p, w = paired(y, p, weight)
    if (y < 0).any():
        raise DataError("gains must be >= 0", column="y", fix="shift or clip the gains first")
    names, code = coded(entity, len(y))
    size, n = np.bincount(code, minlength=len(names)), len(names)
    places = np.concatenate([[0.0], np.cumsum(np.arange(k) < k)])
    discounted = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(k) + 2))])
    hits, gain = (_first(code, p, y, size, reach) for reach in (places, discounted))
    return _Lists(names, totals(code, w, n), size, totals(code, y, n), hits, gain, _first(code, y, y, size, discounted))


def _first(code: Ints, score: Floats, y: Floats, size: Ints, reach: Floats) -> Floats:
    """Σ over blocks of tied rows of their mean gain times the places that they take among the first k.

    `reach[r]` is the worth of the first r places.
    """
    order = np.lexsort((-score, code))
    group, score, gain = code[order], score[order], y[order]
    start = starts((group[1:] != group[:-1]) | (score[1:] != score[:-1]), len(group))
    length = np.diff(np.append(start, len(group)))
    owner = group[start]
    rank = start - (np.cumsum(size) - size)[owner]
    k = len(reach) - 1
    worth = reach[np.minimum(rank + length, k)] - reach[np.minimum(rank, k)]
    return totals(owner, sums(gain, start) / length * worth, len(size))
