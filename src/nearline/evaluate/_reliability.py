"""Whether what is promised happens as often as promised.

Symbols, shapes and errors as in `_losses`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearline._errors import ConfigError
from nearline.evaluate._clustered import wilson_interval
from nearline.evaluate._rows import average, binary, dot, paired, probability, ratio, totals

Floats = NDArray[np.float64]


def calibration_ratio(y: ArrayLike, p: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean prediction over mean outcome, Σ_n w_n p_n / Σ_n w_n y_n: 1 is calibrated, above 1 promises too much.

    NaN when the outcomes sum to 0.

    >>> calibration_ratio([1, 0, 0, 1], [0.5, 0.25, 0.25, 0.5])
    0.75
    """
    y, p, w = paired(y, p, weight)
    return ratio(dot(w, p), dot(w, y))


@dataclass(frozen=True)
class Reliability:
    """One row per bin that holds weight: edges, weight, mean prediction and mean outcome (arrays of one length).

    `low` and `high` are the ends of the outcome's Wilson interval, of as many rows as the weights are worth:
    (Σ w)² / Σ w².
    """

    lower: Floats
    upper: Floats
    weight: Floats
    predicted: Floats
    actual: Floats
    low: Floats
    high: Floats


def reliability(
    y: ArrayLike,
    p: ArrayLike,
    bins: int = 10,
    weight: ArrayLike | None = None,
    strategy: str = "width",
    level: float = 0.95,
) -> Reliability:
    """Mean prediction against mean outcome in bins (lower, upper] of the prediction; empty bins are left out.

    `strategy` "width" cuts [0, 1] into equal parts, "quantile" cuts at the quantiles of p (equal counts).
    `level` is the coverage of the intervals. Raises `ConfigError` for another strategy or bins < 1.

    >>> reliability([0, 1, 1], [0.1, 0.2, 0.9], bins=2).actual.tolist()
    [0.5, 1.0]
    """
    if bins < 1 or strategy not in ("width", "quantile"):
        raise ConfigError(f'bins must be >= 1 and strategy "width" or "quantile"; got {bins}, {strategy!r}')
    y, p, w = binary(y, probability(p), weight)
    levels = np.linspace(0, 1, bins + 1)
    edges = levels if strategy == "width" or not len(p) else np.percentile(p, levels * 100)
    code = np.searchsorted(edges[1:-1], p)
    mass, predicted, actual, square = (totals(code, v, bins) for v in (w, w * p, w * y, w * w))
    held = mass > 0
    mass, actual = mass[held], actual[held] / mass[held]
    worth = mass**2 / square[held]
    ends = [wilson_interval(share, n, level) for share, n in zip(actual.tolist(), worth.tolist())]
    low, high = np.array(ends).reshape(-1, 2).T
    return Reliability(edges[:-1][held], edges[1:][held], mass, predicted[held] / mass, actual, low, high)


def expected_calibration_error(
    y: ArrayLike, p: ArrayLike, bins: int = 10, weight: ArrayLike | None = None, strategy: str = "width"
) -> float:
    """Weighted mean gap between prediction and outcome over bins: ECE = Σ_b w_b |p̄_b − ȳ_b| / W.

    Bins as in `reliability`. Source: Naeini, Cooper, Hauskrecht, AAAI 2015, in its binary form.

    >>> round(expected_calibration_error([0, 1, 1], [0.1, 0.2, 0.9], bins=2), 6)
    0.266667
    """
    table = reliability(y, p, bins, weight, strategy)
    return average(np.abs(table.predicted - table.actual), table.weight)
