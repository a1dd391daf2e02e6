"""How far predictions are from what happened.

Symbols: n rows, labels y, predictions p, weights w (1 when none are given), W = Σ_n w_n. All take array-likes of
shape (n,) and return a float. A metric that its rows leave undefined (no rows, or one class only where two are
needed) is NaN, so that curves over windows and entities need no special case. Lengths that differ, NaN, negative
weights and labels other than 0 and 1 raise `DataError`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearline._errors import DataError
from nearline.evaluate._rows import average, binary, floats, paired, probability, weights

Floats = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)


def log_loss(y: ArrayLike, p: ArrayLike, weight: ArrayLike | None = None, clip: float = _EPS) -> float:
    """Mean negative log likelihood in nats: −Σ_n w_n (y_n log p_n + (1 − y_n) log(1 − p_n)) / W.

    p is clipped to [clip, 1 − clip], so that one confident mistake costs −log(clip) and not infinity.

    >>> round(log_loss([1, 0], [0.8, 0.2]), 6)
    0.223144
    """
    y, p, w = binary(y, probability(p), weight)
    p = np.clip(p, clip, 1 - clip)
    return average(-np.log(np.where(y == 1, p, 1 - p)), w)


def brier(y: ArrayLike, p: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean squared error of a probability: Σ_n w_n (y_n − p_n)² / W.

    >>> round(brier([1, 0], [0.8, 0.4]), 6)
    0.1
    """
    y, p, w = binary(y, probability(p), weight)
    return average((y - p) ** 2, w)


def normalised_entropy(y: ArrayLike, p: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Log loss over that of always predicting the base rate q: NE = L(y, p) / −(q log q + (1 − q) log(1 − q)).

    1 is worthless, 0 is perfect; unlike log loss it does not improve when positives become rare. NaN with one class.
    Source: He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook", ADKDD 2014, eq. 3.

    >>> normalised_entropy([1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25])
    1.0
    """
    loss, rate = log_loss(y, p, weight), average(floats(y, "y"), weights(weight, np.size(y)))
    if not 0 < rate < 1:
        return float("nan")
    return float(loss / -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate)))


def rmse(y: ArrayLike, prediction: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Root mean squared error, √(Σ_n w_n (y_n − ŷ_n)² / W), in the unit of y.

    >>> rmse([3.0, 5.0], [4.0, 4.0])
    1.0
    """
    y, prediction, w = paired(y, prediction, weight)
    return float(np.sqrt(average((y - prediction) ** 2, w)))


def poisson_deviance(y: ArrayLike, mean: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean Poisson deviance, Σ_n w_n 2 (y_n log(y_n / μ_n) − y_n + μ_n) / W, with 0 log 0 = 0.

    Raises `DataError` where y < 0 or μ ≤ 0.

    >>> round(poisson_deviance([2, 0], [1.0, 0.5]), 6)
    0.886294
    """
    y, mean, w = _counts(y, mean, weight)
    return average(2 * (y * np.log(np.where(y > 0, y, 1) / np.where(y > 0, mean, 1)) - y + mean), w)


def poisson_loss(y: ArrayLike, mean: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean Poisson negative log likelihood without its constant, Σ_n w_n (μ_n − y_n log μ_n) / W.

    Half the deviance plus what depends on y alone: it orders models as `poisson_deviance` does, and is the loss that
    the log link learns by. Raises `DataError` where y < 0 or μ ≤ 0.

    >>> round(poisson_loss([2, 0], [1.0, 0.5]), 6)
    0.75
    """
    y, mean, w = _counts(y, mean, weight)
    return average(mean - y * np.log(mean), w)


def _counts(y: ArrayLike, mean: ArrayLike, weight: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    y, mean, w = paired(y, mean, weight)
    if (y < 0).any() or (mean <= 0).any():
        raise DataError("Poisson metrics need y >= 0 and mean > 0", fix="pass exp(score) as the mean")
    return y, mean, w
