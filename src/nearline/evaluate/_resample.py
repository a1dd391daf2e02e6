"""What a metric would have been on other rows: the bootstrap, and windows of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearline._errors import ConfigError, DataError
from nearline.evaluate._rows import floats, paired

Floats = NDArray[np.float64]
Metric = Callable[[Floats, Floats], float]


@dataclass(frozen=True)
class Interval:
    """A point estimate and the ends of its interval."""

    estimate: float
    low: float
    high: float


def bootstrap_interval(
    metric: Metric,
    y: ArrayLike,
    p: ArrayLike,
    rng: np.random.Generator,
    baseline: ArrayLike | None = None,
    cluster: ArrayLike | None = None,
    draws: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of metric(y, p), or of the paired difference metric(y, p) − metric(y, baseline).

    Rows are drawn with replacement, the same rows for both predictions. With `cluster` (one code per row) whole
    clusters are drawn, which is right when the rows of one user depend on each other. `level` is the coverage.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    >>> from nearline.evaluate import auc
    >>> y, p = np.tile([0, 1], 50), np.linspace(0, 1, 100)
    >>> gain = bootstrap_interval(auc, y, p + y, np.random.default_rng(0), baseline=p, draws=200)
    >>> gain.low < gain.estimate < gain.high
    True
    """
    if draws < 1 or not 0 < level < 1:
        raise ConfigError(f"draws must be >= 1 and 0 < level < 1; got {draws}, {level}")
    y, p, _ = paired(y, p, None)
    other = None if baseline is None else paired(y, baseline, None)[1]

    def value(rows: slice | NDArray[np.int64]) -> float:
        return metric(y[rows], p[rows]) - (0.0 if other is None else metric(y[rows], other[rows]))

    resample = _row_resampler(len(y)) if cluster is None else _cluster_resampler(np.asarray(cluster), len(y))
    drawn = [value(resample(rng)) for _ in range(draws)]
    low, high = np.nanpercentile(drawn, [50 * (1 - level), 50 * (1 + level)])
    return Interval(float(value(slice(None))), float(low), float(high))


def windowed(metric: Metric, y: ArrayLike, p: ArrayLike, edges: ArrayLike, time: ArrayLike | None = None) -> Floats:
    """The metric in each window: value k is metric(y[a:b], p[a:b]) with a, b = edges[k], edges[k + 1]; NaN if empty.

    Edges are row positions or, with `time` (n, non-decreasing), times; window k then holds the rows with
    edges[k] ≤ time < edges[k + 1].

    >>> from nearline.evaluate import brier
    >>> windowed(brier, [1, 0, 1, 1], [1.0, 1.0, 1.0, 1.0], [0, 2, 4]).tolist()
    [0.5, 0.0]
    """
    y, p, _ = paired(y, p, None)
    cuts = np.asarray(edges)
    if time is not None:
        clock = floats(time, "time")
        if len(clock) != len(y) or (np.diff(clock) < 0).any():
            raise DataError("time must have one value per row and never fall", column="time", fix="sort by time")
        cuts = np.searchsorted(clock, cuts)
    if (np.diff(cuts) < 0).any():
        raise DataError("edges must not fall", fix="sort the edges")
    pairs = zip(cuts[:-1].tolist(), cuts[1:].tolist())
    return np.array([metric(y[a:b], p[a:b]) if b > a else np.nan for a, b in pairs], dtype=np.float64)


def _row_resampler(n: int) -> Callable[[np.random.Generator], NDArray[np.int64]]:
    return lambda rng: rng.integers(0, n, n)


def _cluster_resampler(cluster: NDArray[np.generic], n: int) -> Callable[[np.random.Generator], NDArray[np.int64]]:
    if len(cluster) != n:
        raise DataError(f"cluster has {len(cluster)} rows, y has {n}", fix="pass one cluster per row")
    _, code, size = np.unique(cluster, return_inverse=True, return_counts=True)
    rows = np.split(np.argsort(code, kind="stable"), np.cumsum(size)[:-1])
    return lambda rng: np.concatenate([rows[k] for k in rng.integers(0, len(rows), len(rows))])
