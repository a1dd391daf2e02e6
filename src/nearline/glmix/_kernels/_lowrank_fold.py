"""What time does to a low-rank plus diagonal posterior, in place: forgetting, reversion to the prior, random walks.

Arguments are those of `_lowrank`; `prior` is the diagonal Λ0 (d) of the base prior's precision and `base` its mean μ0.
All cost O(d k²) and a factorisation, so decay by elapsed time is best left to the next touch of the entity: each fold
is a semigroup in time, up to rounding.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from nearline.glmix._kernels._lowrank import (
    dense,
    gram,
    inverse_factor,
    records,
    refactor,
    solve_dense,
    square,
    variance,
)
from nearline.glmix._kernels._lowrank_linalg import OPTIONS, Floats, cholesky, invert, times


@njit(**OPTIONS)
def forget(
    row: Floats, d: int, kmax: int, delta: float, prior: Floats, mean: Floats, base: Floats, scratch: Floats
) -> None:
    """Stabilised forgetting: H ← δ H + (1−δ) Λ0 =: P and mean ← P⁻¹ (δ H mean + (1−δ) Λ0 base); exact.

    h ← Λ0 + δ (h − Λ0),  Q ← √δ Q,  mean −= (1−δ) P⁻¹ Λ0 (mean − base). Nothing happens at δ = 1.
    """
    if delta == 1.0:
        return
    S, k, root = records(row, d, kmax), int(row[0]), math.sqrt(delta)
    for j in range(d):
        q = S[j]
        q[kmax] = prior[j] + delta * (q[kmax] - prior[j])
        for i in range(k):
            q[i] *= root
    refactor(row, d, kmax, scratch)
    y = dense(scratch, d, kmax, 0)
    for j in range(d):
        y[j] = (1.0 - delta) * prior[j] * (mean[j] - base[j])
    solve_dense(row, d, kmax, y, scratch)
    for j in range(d):
        mean[j] -= y[j]


@njit(**OPTIONS)
def drift(row: Floats, d: int, kmax: int, keep: float, noise: Floats, scratch: Floats) -> None:
    """Additive drift H⁻¹ ← keep H⁻¹ + diag(noise), exactly and with no new column; keep, noise >= 0, not both 0.

    With f = noise / (keep + h noise) and R = I + Qᵀ diag(f) Q = C Cᵀ, Woodbury's identity twice gives
    h ← h / (keep + h noise),  Q ← diag(√keep / (keep + h noise)) Q C⁻ᵀ.
    """
    S, k = records(row, d, kmax), int(row[0])
    R, inverse = square(scratch, kmax, 0), square(scratch, kmax, 1)
    t, f, root = scratch[kmax : 2 * kmax], dense(scratch, d, kmax, 0), math.sqrt(keep)
    for j in range(d):
        f[j] = noise[j] / (keep + np.float64(S[j, kmax]) * noise[j])
    gram(S, d, k, f, R)
    cholesky(R, k)
    invert(R, k, inverse)
    for j in range(d):
        q = S[j]
        shrink = 1.0 / (keep + np.float64(q[kmax]) * noise[j])
        times(inverse, k, k, q, t)
        for i in range(k):
            q[i] = root * shrink * t[i]
        q[kmax] *= shrink
    refactor(row, d, kmax, scratch)


@njit(**OPTIONS)
def revert(
    row: Floats, d: int, kmax: int, a: float, prior: Floats, mean: Floats, base: Floats, scratch: Floats
) -> None:
    """Reversion to the prior (Ornstein-Uhlenbeck): mean ← base + a (mean − base), H⁻¹ ← a² H⁻¹ + (1−a²) Λ0⁻¹; exact."""
    if a == 1.0:
        return
    noise = dense(scratch, d, kmax, 1)
    for j in range(d):
        mean[j] = base[j] + a * (mean[j] - base[j])
        noise[j] = (1.0 - a * a) / prior[j]
    drift(row, d, kmax, a * a, noise, scratch)


@njit(**OPTIONS)
def walk(row: Floats, d: int, kmax: int, growth: Floats, prior: Floats, scratch: Floats) -> None:
    """Random walk: add growth[j] to each marginal variance, never taking one beyond its prior variance 1/prior[j]."""
    S, k = records(row, d, kmax), int(row[0])
    t, noise, any_noise = scratch[kmax : 2 * kmax], dense(scratch, d, kmax, 1), False
    inverse = inverse_factor(row, k, kmax, scratch)
    for j in range(d):
        noise[j] = 0.0
        if growth[j] > 0.0:
            room = 1.0 / prior[j] - variance(S[j], k, kmax, inverse, t)
            noise[j] = max(min(growth[j], room), 0.0)
            any_noise = any_noise or noise[j] > 0.0
    if any_noise:
        drift(row, d, kmax, 1.0, noise, scratch)
