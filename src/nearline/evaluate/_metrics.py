"""Metrics with exact definitions, in NumPy only.

Symbols: n rows, labels y, predictions p, weights w (1 when none are given), W = Σ_n w_n. All take array-likes of
shape (n,) and return a float. A metric that its rows leave undefined (no rows, or one class only where two are
needed) is NaN, so that curves over windows and entities need no special case. Lengths that differ, NaN, negative
weights and labels other than 0 and 1 raise `DataError`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearline._errors import ConfigError, DataError

Floats = NDArray[np.float64]
Metric = Callable[[Floats, Floats], float]

_EPS = float(np.finfo(np.float64).eps)


def auc(y: ArrayLike, p: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Probability that a positive is scored above a negative, a tie counting one half.

    AUC = Σ_{i: y=1} Σ_{j: y=0} w_i w_j ([p_i > p_j] + ½ [p_i = p_j]) / (Σ_{y=1} w_i Σ_{y=0} w_j), by one sort.
    NaN when a class is absent.

    >>> auc([0, 1, 0, 1], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    positive, negative = _by_score(*_binary(y, p, weight))
    pairs = float(positive.sum() * negative.sum())
    return _ratio(_dot(positive, np.cumsum(negative) - negative / 2), pairs)


def pr_auc(y: ArrayLike, p: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Area under precision over recall, as a step function (average precision); no interpolation.

    AP = Σ_k (R_k − R_{k−1}) P_k over the distinct scores from the highest down, P_k and R_k being the precision and
    recall of the rows scored at least that. NaN without positives.

    >>> round(pr_auc([0, 1, 0, 1], [0.1, 0.4, 0.35, 0.8]), 6)
    1.0
    """
    positive, negative = (side[::-1] for side in _by_score(*_binary(y, p, weight)))
    hits, shown = np.cumsum(positive), np.cumsum(positive + negative)
    precision = np.divide(hits, shown, out=np.zeros_like(hits), where=shown > 0)
    return _ratio(_dot(positive, precision), float(positive.sum()))


def log_loss(y: ArrayLike, p: ArrayLike, weight: ArrayLike | None = None, clip: float = _EPS) -> float:
    """Mean negative log likelihood in nats: −Σ_n w_n (y_n log p_n + (1 − y_n) log(1 − p_n)) / W.

    p is clipped to [clip, 1 − clip], so that one confident mistake costs −log(clip) and not infinity.

    >>> round(log_loss([1, 0], [0.8, 0.2]), 6)
    0.223144
    """
    y, p, w = _binary(y, _probability(p), weight)
    p = np.clip(p, clip, 1 - clip)
    return _mean(-np.log(np.where(y == 1, p, 1 - p)), w)


def brier(y: ArrayLike, p: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean squared error of a probability: Σ_n w_n (y_n − p_n)² / W.

    >>> round(brier([1, 0], [0.8, 0.4]), 6)
    0.1
    """
    y, p, w = _binary(y, _probability(p), weight)
    return _mean((y - p) ** 2, w)


def normalised_entropy(y: ArrayLike, p: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Log loss over that of always predicting the base rate q: NE = L(y, p) / −(q log q + (1 − q) log(1 − q)).

    1 is worthless, 0 is perfect; unlike log loss it does not improve when positives become rare. NaN with one class.
    Source: He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook", ADKDD 2014, eq. 3.

    >>> normalised_entropy([1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25])
    1.0
    """
    loss, rate = log_loss(y, p, weight), _mean(_floats(y, "y"), _weights(weight, np.size(y)))
    if not 0 < rate < 1:
        return float("nan")
    return float(loss / -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate)))


def rmse(y: ArrayLike, prediction: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Root mean squared error, √(Σ_n w_n (y_n − ŷ_n)² / W), in the unit of y.

    >>> rmse([3.0, 5.0], [4.0, 4.0])
    1.0
    """
    y, prediction, w = _rows(y, prediction, weight)
    return float(np.sqrt(_mean((y - prediction) ** 2, w)))


def poisson_deviance(y: ArrayLike, mean: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean Poisson deviance, Σ_n w_n 2 (y_n log(y_n / μ_n) − y_n + μ_n) / W, with 0 log 0 = 0.

    Raises `DataError` where y < 0 or μ ≤ 0.

    >>> round(poisson_deviance([2, 0], [1.0, 0.5]), 6)
    0.886294
    """
    y, mean, w = _rows(y, mean, weight)
    if (y < 0).any() or (mean <= 0).any():
        raise DataError("poisson_deviance needs y >= 0 and mean > 0", fix="pass exp(score) as the mean")
    return _mean(2 * (y * np.log(np.where(y > 0, y, 1) / np.where(y > 0, mean, 1)) - y + mean), w)


def calibration_ratio(y: ArrayLike, p: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean prediction over mean outcome, Σ_n w_n p_n / Σ_n w_n y_n: 1 is calibrated, above 1 promises too much.

    NaN when the outcomes sum to 0.

    >>> calibration_ratio([1, 0, 0, 1], [0.5, 0.25, 0.25, 0.5])
    0.75
    """
    y, p, w = _rows(y, p, weight)
    return _ratio(_dot(w, p), _dot(w, y))


@dataclass(frozen=True)
class Reliability:
    """One row per bin that holds weight: its edges, weight, mean prediction and mean outcome (arrays of one length)."""

    lower: Floats
    upper: Floats
    weight: Floats
    predicted: Floats
    actual: Floats


def reliability(
    y: ArrayLike, p: ArrayLike, bins: int = 10, weight: ArrayLike | None = None, strategy: str = "width"
) -> Reliability:
    """Mean prediction against mean outcome in bins (lower, upper] of the prediction; empty bins are left out.

    `strategy` "width" cuts [0, 1] into equal parts, "quantile" cuts at the quantiles of p (equal counts).
    Raises `ConfigError` for another strategy or bins < 1.

    >>> reliability([0, 1, 1], [0.1, 0.2, 0.9], bins=2).actual.tolist()
    [0.5, 1.0]
    """
    if bins < 1 or strategy not in ("width", "quantile"):
        raise ConfigError(f'bins must be >= 1 and strategy "width" or "quantile"; got {bins}, {strategy!r}')
    y, p, w = _binary(y, _probability(p), weight)
    levels = np.linspace(0, 1, bins + 1)
    edges = levels if strategy == "width" or not len(p) else np.percentile(p, levels * 100)
    code = np.searchsorted(edges[1:-1], p)
    mass, predicted, actual = (_totals(code, v, bins) for v in (w, w * p, w * y))
    held = mass > 0
    mass = mass[held]
    return Reliability(edges[:-1][held], edges[1:][held], mass, predicted[held] / mass, actual[held] / mass)


def expected_calibration_error(
    y: ArrayLike, p: ArrayLike, bins: int = 10, weight: ArrayLike | None = None, strategy: str = "width"
) -> float:
    """Weighted mean gap between prediction and outcome over bins: ECE = Σ_b w_b |p̄_b − ȳ_b| / W.

    Bins as in `reliability`. Source: Naeini, Cooper, Hauskrecht, AAAI 2015, in its binary form.

    >>> round(expected_calibration_error([0, 1, 1], [0.1, 0.2, 0.9], bins=2), 6)
    0.266667
    """
    table = reliability(y, p, bins, weight, strategy)
    return _mean(np.abs(table.predicted - table.actual), table.weight)


def entity_auc(
    y: ArrayLike, p: ArrayLike, entity: ArrayLike, weight: ArrayLike | None = None
) -> tuple[NDArray[np.generic], Floats, Floats]:
    """AUC within each entity: (entities in sorted order, their AUC, their weight); NaN where one class is absent.

    >>> entity_auc([0, 1, 1, 0, 1], [0.1, 0.9, 0.2, 0.8, 0.5], ["a", "a", "b", "b", "c"])[1].tolist()
    [1.0, 0.0, nan]
    """
    y, p, w = _binary(y, p, weight)
    names, code = np.unique(np.asarray(entity), return_inverse=True)
    if len(code) != len(y):
        raise DataError(f"entity has {len(code)} rows, y has {len(y)}", fix="pass one entity per row")
    order = np.lexsort((p, code))
    y, p, w, code = y[order], p[order], w[order], code[order]
    start = _starts((p[1:] != p[:-1]) | (code[1:] != code[:-1]), len(p))
    positive, negative, owner = _sums(w * y, start), _sums(w * (1 - y), start), code[start]
    total, hits = _totals(owner, negative, len(names)), _totals(owner, positive, len(names))
    below = np.cumsum(negative) - negative / 2 - (np.cumsum(total) - total)[owner]
    won = _totals(owner, positive * below, len(names))
    pairs = total * hits
    return names, np.divide(won, pairs, out=np.full(len(names), np.nan), where=pairs > 0), total + hits


def grouped_auc(y: ArrayLike, p: ArrayLike, entity: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean of the AUC within each entity, weighted by the entity's weight, over entities with both classes.

    GAUC = Σ_e W_e AUC_e / Σ_e W_e: how well each entity's own rows are ranked, whatever the level of the entity.
    NaN when no entity has both classes. Source: Zhu et al., "Optimized Cost per Click in Taobao", KDD 2017, section 5.

    >>> grouped_auc([0, 1, 1, 0, 1], [0.1, 0.9, 0.2, 0.8, 0.5], ["a", "a", "b", "b", "c"])
    0.5
    """
    _, each, mass = entity_auc(y, p, entity, weight)
    known = ~np.isnan(each)
    return _mean(each[known], mass[known])


def lift_captured(method: float, fixed: float, batch: float) -> float:
    """Share of the gain of a full refit that a method keeps: (method − fixed) / (batch − fixed), 1.0 = all of it.

    NaN when the refit gains nothing. Source: the measure of "% lift" on AUC, any metric will do.

    >>> round(lift_captured(method=0.6893, fixed=0.6050, batch=0.6896), 3)
    0.996
    """
    return _ratio(method - fixed, batch - fixed)


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

    >>> y, p = np.tile([0, 1], 50), np.linspace(0, 1, 100)
    >>> gain = bootstrap_interval(auc, y, p + y, np.random.default_rng(0), baseline=p, draws=200)
    >>> gain.low < gain.estimate < gain.high
    True
    """
    if draws < 1 or not 0 < level < 1:
        raise ConfigError(f"draws must be >= 1 and 0 < level < 1; got {draws}, {level}")
    y, p, _ = _rows(y, p, None)
    other = None if baseline is None else _rows(y, baseline, None)[1]

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

    >>> windowed(brier, [1, 0, 1, 1], [1.0, 1.0, 1.0, 1.0], [0, 2, 4]).tolist()
    [0.5, 0.0]
    """
    y, p, _ = _rows(y, p, None)
    cuts = np.asarray(edges)
    if time is not None:
        clock = _floats(time, "time")
        if len(clock) != len(y) or (np.diff(clock) < 0).any():
            raise DataError("time must have one value per row and never fall", column="time", fix="sort by time")
        cuts = np.searchsorted(clock, cuts)
    if (np.diff(cuts) < 0).any():
        raise DataError("edges must not fall", fix="sort the edges")
    pairs = zip(cuts[:-1].tolist(), cuts[1:].tolist())
    return np.array([metric(y[a:b], p[a:b]) if b > a else np.nan for a, b in pairs], dtype=np.float64)


def _by_score(y: Floats, p: Floats, w: Floats) -> tuple[Floats, Floats]:
    """Weight of positives and of negatives at each distinct score, ascending."""
    order = np.argsort(p)
    p = p[order]
    start = _starts(p[1:] != p[:-1], len(p))
    # one random gather of ±w is cheaper than one for each class
    signed = np.where(y == 1, w, -w)[order]
    return _sums(np.maximum(signed, 0), start), _sums(np.maximum(-signed, 0), start)


def _starts(changed: NDArray[np.bool_], n: int) -> NDArray[np.intp]:
    return np.r_[0, np.flatnonzero(changed) + 1] if n else np.empty(0, dtype=np.intp)


def _sums(values: Floats, start: NDArray[np.intp]) -> Floats:
    # reduceat refuses an empty list of starts
    return np.add.reduceat(values, start) if len(start) else np.empty(0)


def _totals(code: NDArray[np.integer], values: Floats, size: int) -> Floats:
    return np.bincount(code, weights=values, minlength=size).astype(np.float64, copy=False)


def _row_resampler(n: int) -> Callable[[np.random.Generator], NDArray[np.int64]]:
    return lambda rng: rng.integers(0, n, n)


def _cluster_resampler(cluster: NDArray[np.generic], n: int) -> Callable[[np.random.Generator], NDArray[np.int64]]:
    if len(cluster) != n:
        raise DataError(f"cluster has {len(cluster)} rows, y has {n}", fix="pass one cluster per row")
    _, code, size = np.unique(cluster, return_inverse=True, return_counts=True)
    rows = np.split(np.argsort(code, kind="stable"), np.cumsum(size)[:-1])
    return lambda rng: np.concatenate([rows[k] for k in rng.integers(0, len(rows), len(rows))])


def _rows(y: ArrayLike, p: ArrayLike, weight: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    y, p = _floats(y, "y"), _floats(p, "p")
    if len(y) != len(p):
        raise DataError(f"y has {len(y)} rows, p has {len(p)}", fix="pass one prediction per label")
    return y, p, _weights(weight, len(y))


def _binary(y: ArrayLike, p: ArrayLike, weight: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    y, p, w = _rows(y, p, weight)
    if not ((y == 0) | (y == 1)).all():
        raise DataError("labels must be 0 or 1", column="y", fix="map the labels first")
    return y, p, w


def _probability(p: ArrayLike) -> Floats:
    p = _floats(p, "p")
    if len(p) and not 0 <= p.min() <= p.max() <= 1:
        raise DataError("probabilities must lie in [0, 1]", column="p", fix="pass probabilities, not logits")
    return p


def _weights(weight: ArrayLike | None, n: int) -> Floats:
    if weight is None:
        return np.ones(n)
    w = _floats(weight, "weight")
    if len(w) != n or (w < 0).any():
        raise DataError(f"weight must be {n} numbers >= 0", column="weight")
    return w


def _floats(values: ArrayLike, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or np.isnan(array).any():
        raise DataError("must be one-dimensional without NaN", column=name, fix="drop or fill the missing rows")
    return array


def _mean(values: Floats, w: Floats) -> float:
    return _ratio(_dot(w, values), float(w.sum()))


def _dot(a: Floats, b: Floats) -> float:
    return float(np.dot(a, b))


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below != 0 else float("nan")
