"""Forgetting, compiled and in place, on one entity's mean and stored covariance.

`fold_reverting` is Ornstein-Uhlenbeck in covariance form; `fold_stabilised` is Lambda Learner's in precision form. The
NumPy twins are `nearline.glmix._fold.ornstein_uhlenbeck` and `.stabilised`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from nearline.glmix._kernels._lanes import fused
from nearline.glmix._kernels._scalar import FASTMATH


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def fold_reverting(a: float, mean: Any, cov: Any, mu0: Any, cov0: Any) -> None:
    """μ ← μ0 + a (μ − μ0), S ← a² S + (1 − a²) S0; an empty `cov` folds the mean alone.

    What stands at the prior stays there to the bit: when a dimension that no data has touched was made must not show.
    """
    for j in range(mean.shape[0]):
        mean[j] = fused(a, mean[j] - mu0[j], mu0[j])
    a2 = a * a
    rest = 1.0 - a2
    for p in range(cov.shape[0]):
        old, base = cov[p], cov0[p]
        cov[p] = base if old == base else fused(a2, old, rest * base)


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def invert_packed(packed: Any, out: Any) -> bool:
    """Invert a packed symmetric positive definite matrix into out (d × d, both triangles); False if it is not."""
    d = out.shape[0]
    for j in range(d):
        base = j * (j + 1) // 2
        for k in range(j + 1):
            total = float(packed[base + k])
            for q in range(k):
                total -= out[j, q] * out[k, q]
            if j == k:
                if not total > 0.0:
                    return False
                out[j, j] = np.sqrt(total)
            else:
                out[j, k] = total / out[k, k]
    # L⁻¹ in the lower triangle, column by column, then L⁻ᵀ L⁻¹.
    for k in range(d):
        out[k, k] = 1.0 / out[k, k]
        for j in range(k + 1, d):
            total = 0.0
            for q in range(k, j):
                total += out[j, q] * out[q, k]
            out[j, k] = -total / out[j, j]
    for j in range(d):
        for k in range(j + 1):
            total = 0.0
            for q in range(j, d):
                total += out[q, j] * out[q, k]
            out[k, j] = total
    for j in range(d):
        for k in range(j):
            out[j, k] = out[k, j]
    return True


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def touched(diagonal: bool, mean: Any, cov: Any, mu0: Any, cov0: Any) -> int:
    """Dimensions up to the last one that differs from the prior, or is tied to an earlier one by it."""
    for j in range(mean.shape[0] - 1, -1, -1):
        base = j if diagonal else j * (j + 1) // 2 + j
        alone = mean[j] == mu0[j] and cov[base] == cov0[base]
        if not diagonal:
            for k in range(base - j, base):
                alone = alone and cov[k] == 0.0 and cov0[k] == 0.0
        if not alone:
            return j + 1
    return 0


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def fold_stabilised(diagonal: bool, delta: float, mean: Any, cov: Any, mu0: Any, cov0: Any) -> None:
    """H ← δ H + (1 − δ) Λ0 and μ ← H⁻¹ (δ H_old μ + (1 − δ) Λ0 μ0), on stored covariances S = H⁻¹.

    Dimensions at the end that stand at the prior, apart from the others, stay as they are and decide no sum's order.
    """
    d = touched(diagonal, mean, cov, mu0, cov0)
    if diagonal:
        for j in range(d):
            old, base = delta / cov[j], (1.0 - delta) / cov0[j]
            mean[j] = (old * mean[j] + base * mu0[j]) / (old + base)
            cov[j] = 1.0 / (old + base)
        return
    P, base0 = np.empty((d, d)), np.empty((d, d))
    if not (invert_packed(cov, P) and invert_packed(cov0, base0)):
        return
    b = np.zeros(d)
    mixed = np.empty(d * (d + 1) // 2)
    for j in range(d):
        for k in range(d):
            b[j] += delta * P[j, k] * mean[k] + (1.0 - delta) * base0[j, k] * mu0[k]
            if k <= j:
                mixed[j * (j + 1) // 2 + k] = delta * P[j, k] + (1.0 - delta) * base0[j, k]
    if not invert_packed(mixed, P):
        return
    for j in range(d):
        total = 0.0
        for k in range(d):
            total += P[j, k] * b[k]
            if k <= j:
                cov[j * (j + 1) // 2 + k] = P[j, k]
        mean[j] = total
