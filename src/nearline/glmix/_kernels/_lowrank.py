"""Low-rank plus diagonal posteriors, one flat row of floats per entity, updated in place without allocation.

Every function works on one entity's row (float32 or float64; all arithmetic is float64), reads H = diag(h) + Q Qᵀ from
it and takes a float64 `scratch` of at least `scratch_size(d, kmax)` numbers, of any content. `nearline.glmix._lowrank`
states the layout and the equations, and is the NumPy twin. The row also keeps L, the Cholesky factor of
M = I + Qᵀ diag(1/h) Q, as pairs high + low of the row's own dtype: a new column adds one row to L, so an event costs
O(nnz k + k²) for its variance and O(d k) for its step; only `compress` (and the folds) form M again.

A design x is its first `nnz` pairs (idx, val) over the block's own dimensions, 0 <= idx < d; an index that occurs
twice counts twice. Columns from the count of used ones up to kmax are zero in every record: that is what lets `append`
write the touched coordinates only.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nearline.glmix._kernels._lowrank_linalg import (
    OPTIONS,
    Floats,
    backward,
    cholesky,
    dot,
    forward,
    invert,
    jacobi,
    leading,
    times,
)

Ints = NDArray[np.integer[Any]]


@njit(**OPTIONS)
def records(row: Floats, d: int, kmax: int) -> Floats:
    """View of the row as d records (Q_j0 … Q_j,kmax−1, h_j)."""
    head = 1 + kmax * (kmax + 1)
    return row[head : head + d * (kmax + 1)].reshape(d, kmax + 1)


@njit(**OPTIONS)
def square(scratch: Floats, kmax: int, which: int) -> Floats:
    """View of one of the two kmax × kmax work matrices in scratch."""
    first = 4 * kmax + which * kmax * kmax
    return scratch[first : first + kmax * kmax].reshape(kmax, kmax)


@njit(**OPTIONS)
def dense(scratch: Floats, d: int, kmax: int, which: int) -> Floats:
    """View of one of the two dense vectors (d) in scratch."""
    first = 4 * kmax + 2 * kmax * kmax + which * d
    return scratch[first : first + d]


@njit(**OPTIONS)
def load(row: Floats, k: int, kmax: int, L: Floats) -> None:
    """L ← the stored Cholesky factor of M, high plus low parts."""
    low, p = kmax * (kmax + 1) // 2, 1
    for i in range(k):
        high_part, low_part, out = row[p : p + i + 1], row[low + p : low + p + i + 1], L[i]
        for j in range(i + 1):
            out[j] = np.float64(high_part[j]) + np.float64(low_part[j])
        p += i + 1


@njit(**OPTIONS)
def _store(row: Floats, i: int, kmax: int, values: Floats) -> None:
    """Write row i of the factor, split so that float32 storage keeps about 48 bits of it."""
    low, p = kmax * (kmax + 1) // 2, 1 + i * (i + 1) // 2
    for j in range(i + 1):
        row[p + j] = values[j]
        row[low + p + j] = values[j] - np.float64(row[p + j])


@njit(**OPTIONS)
def gram(S: Floats, d: int, k: int, f: Floats, A: Floats) -> None:
    """A ← I + Qᵀ diag(f) Q. Four records at a time: the k × k sums are then read and written a quarter as often."""
    for i in range(k):
        A[i, :k] = 0.0
        A[i, i] = 1.0
    whole = d - d % 4
    for j in range(0, whole, 4):
        q0, q1, q2, q3 = S[j], S[j + 1], S[j + 2], S[j + 3]
        for i in range(k):
            g0, g1, g2, g3 = f[j] * q0[i], f[j + 1] * q1[i], f[j + 2] * q2[i], f[j + 3] * q3[i]
            out = A[i]
            for m in range(k):
                out[m] += g0 * q0[m] + g1 * q1[m] + g2 * q2[m] + g3 * q3[m]
    for j in range(whole, d):
        q = S[j]
        for i in range(k):
            for m in range(k):
                A[i, m] += f[j] * q[i] * q[m]


@njit(**OPTIONS)
def refactor(row: Floats, d: int, kmax: int, scratch: Floats) -> None:
    """Form M = I + Qᵀ diag(1/h) Q from the row and store its Cholesky factor, zero beyond k."""
    S, L, k = records(row, d, kmax), square(scratch, kmax, 0), int(row[0])
    f = dense(scratch, d, kmax, 0)
    row[1 : 1 + kmax * (kmax + 1)] = 0.0
    for j in range(d):
        f[j] = 1.0 / np.float64(S[j, kmax])
    gram(S, d, k, f, L)
    cholesky(L, k)
    for i in range(k):
        _store(row, i, kmax, L[i])


@njit(**OPTIONS)
def start(row: Floats, d: int, kmax: int, precision: Floats) -> None:
    """The prior: h = precision (d), no columns."""
    row[: 1 + kmax * (kmax + 1) + d * (kmax + 1)] = 0.0
    S = records(row, d, kmax)
    for j in range(d):
        S[j, kmax] = precision[j]


@njit(**OPTIONS)
def grow(row: Floats, d_old: int, d_new: int, kmax: int, precision: Floats) -> None:
    """Append dimensions d_old … d_new − 1 at the prior (precision is indexed by dimension); no number moves."""
    S = records(row, d_new, kmax)
    for j in range(d_old, d_new):
        S[j] = 0.0
        S[j, kmax] = precision[j]


@njit(**OPTIONS)
def project(row: Floats, d: int, kmax: int, idx: Ints, val: Floats, nnz: int, scratch: Floats) -> float:
    """Score variance s = xᵀ H⁻¹ x in O(nnz k + k²); leaves u = M⁻¹ Qᵀ diag(1/h) x in scratch[:k], for `shift`."""
    S, L, k = records(row, d, kmax), square(scratch, kmax, 0), int(row[0])
    u, x, diagonal = scratch[:kmax], dense(scratch, d, kmax, 0), 0.0
    u[:k] = 0.0
    for p in range(nnz):
        x[idx[p]] = 0.0
    for p in range(nnz):
        x[idx[p]] += val[p]
    for p in range(nnz):
        q = S[idx[p]]
        f = val[p] / np.float64(q[kmax])
        diagonal += f * x[idx[p]]
        for i in range(k):
            u[i] += f * q[i]
    load(row, k, kmax, L)
    explained = forward(L, k, u)
    backward(L, k, u)
    return float(max(diagonal - explained, 0.0))


@njit(**OPTIONS)
def _subtract(S: Floats, d: int, k: int, kmax: int, u: Floats, a: float, out: Floats) -> None:
    """Subtract a diag(1/h) Q u from `out`."""
    for j in range(d):
        q, total = S[j], 0.0
        for i in range(k):
            total += q[i] * u[i]
        if total != 0.0:
            out[j] -= a * total / np.float64(q[kmax])


@njit(**OPTIONS)
def shift(
    row: Floats, d: int, kmax: int, idx: Ints, val: Floats, nnz: int, a: float, mean: Floats, scratch: Floats
) -> None:
    """Move the mean by a H⁻¹ x, after `project` of the same x on the same row with the same scratch; O(d k)."""
    S = records(row, d, kmax)
    for p in range(nnz):
        mean[idx[p]] += a * val[p] / np.float64(S[idx[p], kmax])
    _subtract(S, d, int(row[0]), kmax, scratch[:kmax], a, mean)


@njit(**OPTIONS)
def solve_sparse(row: Floats, d: int, kmax: int, idx: Ints, val: Floats, nnz: int, v: Floats, scratch: Floats) -> float:
    """v[:d] ← H⁻¹ x; returns s = xᵀ H⁻¹ x."""
    s = float(project(row, d, kmax, idx, val, nnz, scratch))
    v[:d] = 0.0
    shift(row, d, kmax, idx, val, nnz, 1.0, v, scratch)
    return s


@njit(**OPTIONS)
def solve_dense(row: Floats, d: int, kmax: int, y: Floats, scratch: Floats) -> None:
    """y[:d] ← H⁻¹ y, in place."""
    S, L, k = records(row, d, kmax), square(scratch, kmax, 0), int(row[0])
    u = scratch[:kmax]
    u[:k] = 0.0
    for j in range(d):
        q = S[j]
        y[j] /= np.float64(q[kmax])
        for i in range(k):
            u[i] += y[j] * q[i]
    load(row, k, kmax, L)
    forward(L, k, u)
    backward(L, k, u)
    _subtract(S, d, k, kmax, u, 1.0, y)


@njit(**OPTIONS)
def block_weight(curvature: float, s_total: float, s_block: float) -> float:
    """ω = wD / (1 + wD (s − s_b)): the precision that one block gains along x from a joint update of all blocks."""
    return curvature / (1.0 + curvature * max(s_total - s_block, 0.0))


@njit(**OPTIONS)
def append(
    row: Floats, d: int, kmax: int, rank: int, idx: Ints, val: Floats, nnz: int, weight: float, scratch: Floats
) -> None:
    """H += weight x xᵀ, as one more column √weight x; a full buffer is compressed to `rank` columns first.

    Nothing happens for weight <= 0. The factor gains the row (L⁻¹ Qᵀ diag(1/h) q, √(1 + weight s)), computed from the
    column q as stored, so that float32 storage stays consistent with itself.
    """
    if nnz == 0 or not weight > 0.0:
        return
    if int(row[0]) == kmax:
        compress(row, d, kmax, min(rank, kmax - 1), scratch)
    S, L, k = records(row, d, kmax), square(scratch, kmax, 0), int(row[0])
    new, root, pivot = scratch[kmax : 2 * kmax], math.sqrt(weight), 1.0
    new[: k + 1] = 0.0
    fresh = dense(scratch, d, kmax, 0)
    for p in range(nnz):
        S[idx[p], k] += root * val[p]
        fresh[idx[p]] = 1.0
    for p in range(nnz):
        q = S[idx[p]]
        f = fresh[idx[p]] * q[k] / np.float64(q[kmax])
        fresh[idx[p]] = 0.0
        pivot += f * q[k]
        for i in range(k):
            new[i] += f * q[i]
    load(row, k, kmax, L)
    pivot -= forward(L, k, new)
    new[k] = math.sqrt(max(pivot, 1.0))
    _store(row, k, kmax, new)
    row[0] = k + 1


@njit(**OPTIONS)
def last_used(row: Floats, d: int, kmax: int) -> int:
    """Records up to the last one with a column: those after it enter no sum, so that none rounds otherwise for them."""
    S, k = records(row, d, kmax), int(row[0])
    while d > 0:
        q = S[d - 1]
        for i in range(k):
            if q[i] != 0.0:
                return d
        d -= 1
    return 0


@njit(**OPTIONS)
def compress(row: Floats, d: int, kmax: int, rank: int, scratch: Floats) -> None:
    """Keep the `rank` directions of diag(h)^(−1/2) Q with the largest singular values; diag(H) stays exact.

    They are the leading eigenvectors (rows of V) of M: Q ← Q Vᵀ, and h grows by what each record lost of its length.
    """
    k = int(row[0])
    if k <= rank:
        return
    d = last_used(row, d, kmax)
    S, V, W = records(row, d, kmax), square(scratch, kmax, 0), square(scratch, kmax, 1)
    turned, norms = scratch[kmax : 2 * kmax], scratch[2 * kmax : 3 * kmax]
    load(row, k, kmax, V)
    for i in range(k):
        for j in range(k):
            W[j, i] = V[i, j] if j <= i else 0.0
    jacobi(W, k, norms)
    leading(W, k, norms, rank, V)
    for j in range(d):
        _turn(S[j], k, kmax, rank, V, turned)
    row[0] = rank
    refactor(row, d, kmax, scratch)


@njit(**OPTIONS)
def _turn(q: Floats, k: int, kmax: int, rank: int, V: Floats, turned: Floats) -> None:
    """One record of `compress`: q ← V q, and the squared length that this loses goes to its h."""
    times(V, rank, k, q, turned)
    q[kmax] += max(dot(q, q, k) - dot(turned, turned, rank), 0.0)
    q[:rank] = turned[:rank]
    q[rank:k] = 0.0


@njit(**OPTIONS)
def variance(q: Floats, k: int, kmax: int, inverse: Floats, t: Floats) -> float:
    """Marginal variance (H⁻¹)_jj = 1/h − ||L⁻¹ q||² / h² of the coefficient with record q, from L⁻¹; t is work."""
    h = np.float64(q[kmax])
    times(inverse, k, k, q, t)
    return float(max(1.0 - dot(t, t, k) / h, 0.0) / h)


@njit(**OPTIONS)
def inverse_factor(row: Floats, k: int, kmax: int, scratch: Floats) -> Floats:
    """L⁻¹, in the second work matrix of scratch."""
    L: Floats = square(scratch, kmax, 0)
    out: Floats = square(scratch, kmax, 1)
    load(row, k, kmax, L)
    invert(L, k, out)
    return out


@njit(**OPTIONS)
def variances(row: Floats, d: int, kmax: int, out: Floats, scratch: Floats) -> None:
    """All marginal variances, out[:d] ← diag(H⁻¹); O(d k²)."""
    S, k = records(row, d, kmax), int(row[0])
    inverse = inverse_factor(row, k, kmax, scratch)
    for j in range(d):
        out[j] = variance(S[j], k, kmax, inverse, scratch[kmax : 2 * kmax])


@njit(**OPTIONS)
def log_determinant(row: Floats, d: int, kmax: int) -> float:
    """Log-determinant of the precision, log |H| = Σ log h_j + 2 Σ log L_ii."""
    S, total, low, diagonal = records(row, d, kmax), 0.0, kmax * (kmax + 1) // 2, 0
    for j in range(d):
        total += math.log(np.float64(S[j, kmax]))
    for i in range(int(row[0])):
        diagonal += i + 1
        total += 2.0 * math.log(np.float64(row[diagonal]) + np.float64(row[low + diagonal]))
    return total


@njit(**OPTIONS)
def draw(row: Floats, d: int, kmax: int, mean: Floats, xi: Floats, scale: float, out: Floats, scratch: Floats) -> None:
    """One draw of N(mean, scale H⁻¹): out = mean + √scale H⁻¹ (√h ξ₁ + Q ξ₂), xi = d + kmax standard normals (ξ₁, ξ₂).

    The bracket has covariance diag(h) + Q Qᵀ = H, so its solution has covariance H⁻¹ H H⁻¹ = H⁻¹ exactly.
    """
    S, k, root = records(row, d, kmax), int(row[0]), math.sqrt(scale)
    for j in range(d):
        q = S[j]
        out[j] = math.sqrt(np.float64(q[kmax])) * xi[j] + dot(q, xi[d:], k)
    solve_dense(row, d, kmax, out, scratch)
    for j in range(d):
        out[j] = mean[j] + root * out[j]
