"""What one event does to one entity's block, compiled: multiply by its covariance, fold, downdate.

A block's covariance S_b is a packed lower triangle (full), a vector of variances (diagonal) or a low-rank record. Designs
are sparse (`used` entries) or, where loadings are involved, dense (`used` = DENSE).
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from nearline.glmix._kernels._folds import fold_reverting, fold_stabilised
from nearline.glmix._kernels._records import DENSE, DIAGONAL, PER_UPDATE, REVERTING, STABILISED
from nearline.glmix._kernels._scalar import FASTMATH

LN2 = math.log(2.0)


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def times(kind: int, mean: Any, cov: Any, x: Any, slots: Any, entries: Any, used: int, v: Any) -> tuple[float, float]:
    """(xᵀμ_b, xᵀS_b x), leaving S_b x in `v` (on the touched coordinates only for a diagonal block)."""
    d = mean.shape[0]
    z = 0.0
    s = 0.0
    if kind == DIAGONAL:
        if used == DENSE:
            for j in range(d):
                v[j] = cov[j] * x[j]
                z += mean[j] * x[j]
                s += v[j] * x[j]
        else:
            for p in range(used):
                j = slots[p]
                v[j] = cov[j] * entries[p]
                z += mean[j] * entries[p]
                s += v[j] * entries[p]
        return z, s
    if used == DENSE:
        # Each stored number serves twice: as row j's dot product, then as column j's share.
        base = 0
        for j in range(d):
            a0, a1, a2, a3 = 0.0, 0.0, 0.0, 0.0
            whole = j - j % 4
            for k in range(0, whole, 4):
                a0 += cov[base + k] * x[k]
                a1 += cov[base + k + 1] * x[k + 1]
                a2 += cov[base + k + 2] * x[k + 2]
                a3 += cov[base + k + 3] * x[k + 3]
            for k in range(whole, j):
                a0 += cov[base + k] * x[k]
            v[j] = (a0 + a1) + (a2 + a3)
            base += j + 1
        base = 0
        for j in range(d):
            xj = x[j]
            for k in range(j + 1):
                v[k] += xj * cov[base + k]
            base += j + 1
        for j in range(d):
            z += mean[j] * x[j]
            s += v[j] * x[j]
        return z, s
    for j in range(d):
        v[j] = 0.0
    for p in range(used):
        j = slots[p]
        xj = entries[p]
        base = j * (j + 1) // 2
        for k in range(j + 1):
            v[k] += xj * cov[base + k]
        below = base + j
        for k in range(j + 1, d):
            below += k
            v[k] += xj * cov[below]
    for p in range(used):
        z += mean[slots[p]] * entries[p]
        s += v[slots[p]] * entries[p]
    return z, s


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def downdate(
    kind: int, a: float, c: float, wD: float, s: float, mean: Any, cov: Any, x: Any, slots: Any, entries: Any,
    used: int, v: Any,
) -> None:  # fmt: skip
    """μ_b += a v and S_b −= c v vᵀ; a diagonal block keeps its precisions' diagonal: 1/S_jj += w D x_j²."""
    d = mean.shape[0]
    if kind == DIAGONAL:
        if used == DENSE:
            for j in range(d):
                mean[j] += a * v[j]
                cov[j] /= 1.0 + wD * x[j] * v[j]
        else:
            for p in range(used):
                j = slots[p]
                mean[j] += a * v[j]
                cov[j] /= 1.0 + wD * entries[p] * v[j]
        return
    for j in range(d):
        mean[j] += a * v[j]
    base = 0
    for j in range(d):
        f = c * v[j]
        for k in range(j + 1):
            cov[base + k] -= f * v[k]
        base += j + 1


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def walk(kind: int, dt: float, cov: Any, cov0: Any, per_event: Any, per_second: Any) -> None:
    """Add random-walk variance to each coefficient, never beyond its prior variance."""
    for j in range(per_event.shape[0]):
        q = per_event[j] + per_second[j] * dt
        if q > 0.0:
            p = j if kind == DIAGONAL else j * (j + 1) // 2 + j
            cov[p] += max(0.0, min(q, cov0[p] - cov[p]))


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def fold(
    kind: int, form: int, rate: float, walks: bool, dt: float, mean: Any, cov: Any, mu0: Any, cov0: Any,
    per_event: Any, per_second: Any,
) -> None:  # fmt: skip
    """Relax one entity towards its prior by the `dt` seconds since its last update (NaN: it was never updated)."""
    if math.isnan(dt):
        return
    dt = max(dt, 0.0)
    if form == REVERTING and rate > 0.0 and dt > 0.0:
        fold_reverting(math.exp(-LN2 * dt / rate), mean, cov, mu0, cov0)
    elif form == STABILISED and rate > 0.0 and dt > 0.0:
        fold_stabilised(kind == DIAGONAL, math.exp(-LN2 * dt / rate), mean, cov, mu0, cov0)
    elif form == PER_UPDATE and rate < 1.0:
        fold_stabilised(kind == DIAGONAL, rate, mean, cov, mu0, cov0)
    if walks:
        walk(kind, dt, cov, cov0, per_event, per_second)
