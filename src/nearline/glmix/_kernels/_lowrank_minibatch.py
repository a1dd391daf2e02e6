"""One entity's minibatch under a low-rank plus diagonal prior: Newton in the dual, then one new column per row.

The prior is N(m, H⁻¹) with H = diag(h) + Q Qᵀ, the rows x_n (n × d, sparse), η0 = o + X m, V = H⁻¹, K = X V Xᵀ. At the
mode θ = m + V Xᵀ a with a_n = −w_n g_n, and all Newton work is in n dimensions (specification, section 8):

    S = diag(√(w D)),   B = I + S K S,   u = S²(K a) − w∘g,   a ← u − S B⁻¹ S K u

K costs O(n nnz k + n² (nnz + k)), a step O(n³/3), the mean O(d k): meant for n up to a few hundred. The caller splits
a larger batch (each part then takes the last one's Laplace posterior as its prior).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from nearline.glmix._kernels._lowrank import Ints, append, dense, load, records, solve_dense, square
from nearline.glmix._kernels._lowrank_linalg import OPTIONS, Floats, backward, cholesky, dot, forward
from nearline.glmix._kernels._scalar import LOG, derivatives, loss

CONVERGED, NOT_CONVERGED, FAILED = 0, 1, 2
MAX_STEPS = 50
MAX_HALVINGS = 30
DECREMENT = 1e-12
# A Poisson margin moves at most this far in one step, so that e^η cannot overflow.
MAX_MOVE = 5.0


@njit(**OPTIONS)
def _matrix(scratch: Floats, d: int, kmax: int, n: int, which: int) -> Floats:
    """View of K (0) or B (1), n × n, in scratch."""
    first = 4 * kmax + 2 * kmax * kmax + 2 * d + which * n * n
    return scratch[first : first + n * n].reshape(n, n)


@njit(**OPTIONS)
def _vectors(scratch: Floats, d: int, kmax: int, n: int) -> Floats:
    """View of eight vectors of length n in scratch, as rows: a, η, η − η0, w g, √(w D), u, Δa, Δη."""
    first = 4 * kmax + 2 * kmax * kmax + 2 * d + 2 * n * n
    return scratch[first : first + 8 * n].reshape(8, n)


@njit(**OPTIONS)
def _whitened(scratch: Floats, d: int, kmax: int, n: int) -> Floats:
    """View of the rows L⁻¹ Qᵀ diag(1/h) x_n, n × kmax, in scratch."""
    first = 4 * kmax + 2 * kmax * kmax + 2 * d + 2 * n * n + 8 * n
    return scratch[first : first + n * kmax].reshape(n, kmax)


@njit(**OPTIONS)
def _covariance(
    row: Floats, d: int, kmax: int, indptr: Ints, idx: Ints, val: Floats, n: int, K: Floats, C: Floats, scratch: Floats
) -> None:
    """K ← X H⁻¹ Xᵀ = X diag(1/h) Xᵀ − C Cᵀ with rows C_n = L⁻¹ Qᵀ diag(1/h) x_n."""
    S, L, k, x = records(row, d, kmax), square(scratch, kmax, 0), int(row[0]), dense(scratch, d, kmax, 0)
    load(row, k, kmax, L)
    x[:] = 0.0
    for i in range(n):
        C[i, :k] = 0.0
        for p in range(indptr[i], indptr[i + 1]):
            q = S[idx[p]]
            f = val[p] / np.float64(q[kmax])
            x[idx[p]] += f
            for m in range(k):
                C[i, m] += f * q[m]
        forward(L, k, C[i])
        for j in range(i + 1):
            total = -dot(C[i], C[j], k)
            for p in range(indptr[j], indptr[j + 1]):
                total += val[p] * x[idx[p]]
            K[i, j] = total
            K[j, i] = total
        for p in range(indptr[i], indptr[i + 1]):
            x[idx[p]] = 0.0


@njit(**OPTIONS)
def _objective(link: int, label: Floats, weight: Floats, eta: Floats, a: Floats, moved: Floats) -> float:
    """ψ(a) = Σ w ℓ(y, η) + ½ aᵀ K a, with K a = η − η0 given as `moved`."""
    total = 0.0
    for i in range(eta.shape[0]):
        total += 0.5 * a[i] * moved[i]
        if weight[i] > 0.0:
            total += weight[i] * loss(link, label[i], eta[i])
    return total


@njit(**OPTIONS)
def _step(link: int, label: Floats, weight: Floats, K: Floats, B: Floats, work: Floats) -> float:
    """Newton's Δa and Δη = K Δa from the current a, η; returns the squared decrement, NaN when B has no factor."""
    a, eta, moved, g, s, u, da, de = work[0], work[1], work[2], work[3], work[4], work[5], work[6], work[7]
    n = a.shape[0]
    for i in range(n):
        slope, curvature = derivatives(link, label[i], eta[i])
        g[i], s[i] = (weight[i] * slope, math.sqrt(weight[i] * curvature)) if weight[i] > 0.0 else (0.0, 0.0)
        u[i] = s[i] * s[i] * moved[i] - g[i]
    for i in range(n):
        for j in range(i + 1):
            B[i, j] = s[i] * K[i, j] * s[j]
        B[i, i] += 1.0
        da[i] = s[i] * dot(K[i], u, n)
    if not cholesky(B, n):
        return math.nan
    forward(B, n, da)
    backward(B, n, da)
    for i in range(n):
        da[i] = u[i] - s[i] * da[i] - a[i]
    decrement = 0.0
    for i in range(n):
        de[i] = dot(K[i], da, n)
        decrement += da[i] * de[i] + s[i] * s[i] * de[i] * de[i]
    return decrement


@njit(**OPTIONS)
def _advance(work: Floats, t: float) -> None:
    """(a, η, η − η0) += t (Δa, Δη, Δη)."""
    for i in range(work.shape[1]):
        work[0, i] += t * work[6, i]
        work[1, i] += t * work[7, i]
        work[2, i] += t * work[7, i]


@njit(**OPTIONS)
def _search(link: int, label: Floats, weight: Floats, work: Floats) -> bool:
    """Armijo step-halving from a towards a + Δa; False when no step lowers ψ."""
    a, eta, moved, g, de = work[0], work[1], work[2], work[3], work[7]
    before, slope, widest = _objective(link, label, weight, eta, a, moved), 0.0, 0.0
    for i in range(a.shape[0]):
        slope += de[i] * (g[i] + a[i])
        widest = max(widest, abs(de[i]))
    t = min(1.0, MAX_MOVE / widest) if link == LOG else 1.0
    _advance(work, t)
    for _ in range(MAX_HALVINGS):
        # The last term lets rounding in ψ pass when a is the mode already.
        if _objective(link, label, weight, eta, a, moved) <= before + 1e-4 * t * slope + 1e-13 * (1.0 + abs(before)):
            return True
        t *= 0.5
        _advance(work, -t)
    return False


@njit(**OPTIONS)
def _newton(link: int, label: Floats, weight: Floats, K: Floats, B: Floats, work: Floats) -> tuple[int, int]:
    """Run the steps; returns (status, steps)."""
    for steps in range(1, MAX_STEPS + 1):
        decrement = _step(link, label, weight, K, B, work)
        if not math.isfinite(decrement):
            return FAILED, steps
        if decrement <= DECREMENT:
            _advance(work, 1.0)
            return CONVERGED, steps
        if not _search(link, label, weight, work):
            return NOT_CONVERGED, steps
    return NOT_CONVERGED, MAX_STEPS


@njit(**OPTIONS)
def _margins(mean: Floats, indptr: Ints, idx: Ints, val: Floats, offset: Floats, work: Floats) -> None:
    """Start at the prior mode: a = 0, η = η0 = o + X m."""
    for i in range(work.shape[1]):
        work[0, i], work[1, i], work[2, i] = 0.0, offset[i], 0.0
        for p in range(indptr[i], indptr[i + 1]):
            work[1, i] += val[p] * mean[idx[p]]


@njit(**OPTIONS)
def solve_minibatch(
    link: int,
    row: Floats,
    d: int,
    kmax: int,
    rank: int,
    mean: Floats,
    indptr: Ints,
    idx: Ints,
    val: Floats,
    label: Floats,
    weight: Floats,
    offset: Floats,
    scratch: Floats,
) -> tuple[int, int, float]:
    """Learn n = len(label) rows at once: the mode into `mean`, columns √(w D) x_n into `row`, `rank` kept at need.

    Row i has the pairs idx, val[indptr[i]:indptr[i + 1]]; `offset` (n) is everything else in its margin. An identity
    link takes w/φ as its weights. Returns (status, steps, log evidence), the evidence by Laplace's approximation

        log p(B) ≈ −l(θ) − ½ aᵀ K a − ½ log |B|

    Status is CONVERGED, NOT_CONVERGED or FAILED; unless it is CONVERGED, mean and row are as they were.
    scratch: `scratch_size(d, kmax, n)` numbers.
    """
    n = label.shape[0]
    K, B = _matrix(scratch, d, kmax, n, 0), _matrix(scratch, d, kmax, n, 1)
    work = _vectors(scratch, d, kmax, n)
    _covariance(row, d, kmax, indptr, idx, val, n, K, _whitened(scratch, d, kmax, n), scratch)
    _margins(mean, indptr, idx, val, offset, work)
    status, steps = _newton(link, label, weight, K, B, work)
    if status != CONVERGED:
        return status, steps, math.nan
    evidence = -_objective(link, label, weight, work[1], work[0], work[2])
    for i in range(n):
        evidence -= math.log(B[i, i])
    if not math.isfinite(evidence):
        return FAILED, steps, math.nan
    _learn(link, row, d, kmax, rank, mean, indptr, idx, val, label, weight, work, scratch)
    return status, steps, evidence


@njit(**OPTIONS)
def _learn(
    link: int,
    row: Floats,
    d: int,
    kmax: int,
    rank: int,
    mean: Floats,
    indptr: Ints,
    idx: Ints,
    val: Floats,
    label: Floats,
    weight: Floats,
    work: Floats,
    scratch: Floats,
) -> None:
    """Move the mean by V Xᵀ a, then append the rows with weight w D at the mode."""
    y = dense(scratch, d, kmax, 0)
    y[:] = 0.0
    for i in range(label.shape[0]):
        for p in range(indptr[i], indptr[i + 1]):
            y[idx[p]] += work[0, i] * val[p]
    solve_dense(row, d, kmax, y, scratch)
    for j in range(d):
        mean[j] += y[j]
    for i in range(label.shape[0]):
        first, size = indptr[i], indptr[i + 1] - indptr[i]
        curvature = weight[i] * derivatives(link, label[i], work[1, i])[1]
        append(row, d, kmax, rank, idx[first : first + size], val[first : first + size], size, curvature, scratch)
