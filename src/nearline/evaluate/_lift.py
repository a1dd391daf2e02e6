"""How much of what a full refit gains is kept by something cheaper or fresher."""

from __future__ import annotations

from collections.abc import Iterable

from numpy.typing import ArrayLike

from nearline.evaluate._clustered import Ratio, clustered_ratio
from nearline.evaluate._rows import floats, ratio, weights


def lift_captured(method: float, fixed: float, batch: float) -> float:
    """Share of the gain of a full refit that a method keeps: (method − fixed) / (batch − fixed), 1.0 = all of it.

    NaN when the refit gains nothing. Source: the measure of "% lift" on AUC, any metric will do.

    >>> round(lift_captured(method=0.6893, fixed=0.6050, batch=0.6896), 3)
    0.996
    """
    return ratio(method - fixed, batch - fixed)


def loss_captured(
    method: ArrayLike,
    fixed: ArrayLike,
    batch: ArrayLike,
    weight: ArrayLike | None = None,
    clusters: Iterable[ArrayLike] = (),
) -> Ratio:
    """`lift_captured` of mean losses, from the losses of the same rows (n), with its error.

    Σ w (fixed − method) / Σ w (fixed − batch), a ratio of paired sums: `interval` covers it where the full refit gains
    something beyond doubt. `clusters` are entity codes (n), as for `clustered_ratio`.

    >>> found = loss_captured(method=[0.5, 0.6] * 10, fixed=[1.0, 1.0] * 10, batch=[0.5, 0.5] * 10)
    >>> round(found.estimate, 2), [round(end, 2) for end in found.interval(0.95)]
    (0.9, [0.85, 0.95])
    """
    method, fixed, batch = floats(method, "method"), floats(fixed, "fixed"), floats(batch, "batch")
    w = weights(weight, len(method))
    return clustered_ratio(w * (fixed - method), w * (fixed - batch), clusters)
