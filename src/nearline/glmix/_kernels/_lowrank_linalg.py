"""Dense linear algebra on the leading k × k corner of work matrices: Cholesky, triangular solves, Jacobi eigenvectors.

Written for k of a few tens (and n of a few hundred in the Cholesky factorisation), in place, without allocation.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nearline.glmix._kernels._scalar import FASTMATH

Floats = NDArray[np.floating[Any]]
OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": FASTMATH}
SWEEPS = 30
SETTLED = 1e-6


@njit(**OPTIONS)
def cholesky(A: Floats, n: int) -> bool:
    """A ← L with A = L Lᵀ, from and into the lower triangle; False when a pivot is not positive."""
    for i in range(n):
        row_i = A[i]
        for j in range(i + 1):
            row_j, total = A[j], 0.0
            for m in range(j):
                total += row_i[m] * row_j[m]
            rest = row_i[j] - total
            if j < i:
                row_i[j] = rest / row_j[j]
            elif rest > 0.0:
                row_i[i] = math.sqrt(rest)
            else:
                return False
    return True


@njit(**OPTIONS)
def forward(L: Floats, k: int, b: Floats) -> float:
    """Solve L b ← b in place; returns ||L⁻¹ b||²."""
    norm = 0.0
    for i in range(k):
        row, total = L[i], 0.0
        for j in range(i):
            total += row[j] * b[j]
        b[i] = (b[i] - total) / row[i]
        norm += b[i] * b[i]
    return norm


@njit(**OPTIONS)
def backward(L: Floats, k: int, b: Floats) -> None:
    """Solve Lᵀ b ← b in place."""
    for i in range(k - 1, -1, -1):
        row = L[i]
        b[i] /= row[i]
        for j in range(i):
            b[j] -= row[j] * b[i]


@njit(**OPTIONS)
def invert(L: Floats, k: int, out: Floats) -> None:
    """Lower triangle of `out` ← L⁻¹, and zeros above it."""
    for i in range(k):
        row = out[i]
        for j in range(k):
            row[j] = 1.0 if i == j else 0.0
        for m in range(i):
            above, f = out[m], L[i, m]
            for j in range(m + 1):
                row[j] -= f * above[j]
        for j in range(i + 1):
            row[j] /= L[i, i]


@njit(**OPTIONS)
def dot(a: Floats, b: Floats, k: int) -> float:
    """Inner product of the first k entries, in float64 whatever the storage."""
    total = 0.0
    for i in range(k):
        total += np.float64(a[i]) * np.float64(b[i])
    return total


@njit(**OPTIONS)
def times(V: Floats, rows: int, k: int, q: Floats, out: Floats) -> None:
    """out[:rows] ← V q. Four rows of V at a time: q is then read a quarter as often."""
    whole = rows - rows % 4
    for c in range(0, whole, 4):
        v0, v1, v2, v3 = V[c], V[c + 1], V[c + 2], V[c + 3]
        t0, t1, t2, t3 = 0.0, 0.0, 0.0, 0.0
        for i in range(k):
            t0 += q[i] * v0[i]
            t1 += q[i] * v1[i]
            t2 += q[i] * v2[i]
            t3 += q[i] * v3[i]
        out[c], out[c + 1], out[c + 2], out[c + 3] = t0, t1, t2, t3
    for c in range(whole, rows):
        out[c] = dot(q, V[c], k)


@njit(**OPTIONS)
def _rotate(W: Floats, p: int, q: int, k: int, norms: Floats) -> float:
    """Make rows p and q of W orthogonal; returns their squared cosine before. norms: squared lengths of the rows."""
    a, b = W[p], W[q]
    g = dot(a, b, k)
    squared = g * g / (norms[p] * norms[q])
    if squared <= 1e-31:
        return float(squared)
    gap = norms[q] - norms[p]
    t = math.copysign(2.0 * g, g * gap) / (abs(gap) + math.sqrt(gap * gap + 4.0 * g * g))
    cosine = 1.0 / math.sqrt(1.0 + t * t)
    sine = t * cosine
    for i in range(k):
        x, y = a[i], b[i]
        a[i] = cosine * x - sine * y
        b[i] = sine * x + cosine * y
    norms[p] -= t * g
    norms[q] += t * g
    return float(squared)


@njit(**OPTIONS)
def _sweep(W: Floats, k: int, norms: Floats) -> float:
    """Rotate every pair of rows once, in rounds of disjoint pairs; returns the largest squared cosine it met.

    The rounds are the circle method of a tournament; neighbours in a round are independent, so their rotations overlap.
    """
    worst, last = 0.0, k - 1 if k % 2 == 0 else k
    for turn in range(last):
        if last < k:
            worst = max(worst, _rotate(W, turn, last, k, norms))
        for i in range(1, (last + 1) // 2):
            p, q = turn + i, turn - i
            p = p - last if p >= last else p
            q = q + last if q < 0 else q
            worst = max(worst, _rotate(W, p, q, k, norms))
    return worst


@njit(**OPTIONS)
def jacobi(W: Floats, k: int, norms: Floats) -> None:
    """Rows of W ← orthonormal eigenvectors of WᵀW, norms ← its eigenvalues.

    Rotating the rows leaves WᵀW alone, so orthogonal rows are its eigenvectors scaled by roots of the eigenvalues
    (Hestenes 1958; on a Cholesky factor, Veselić & Hari 1989): no product of rotations need be kept. Convergence is
    quadratic: after a sweep that met cosines below 1e-6 only, they are near 1e-12.
    """
    for _ in range(SWEEPS):
        for i in range(k):
            norms[i] = dot(W[i], W[i], k)
        if _sweep(W, k, norms) <= SETTLED * SETTLED:
            break
    for i in range(k):
        norms[i] = dot(W[i], W[i], k)
        inverse = 1.0 / math.sqrt(norms[i])
        for j in range(k):
            W[i, j] *= inverse


@njit(**OPTIONS)
def leading(W: Floats, k: int, norms: Floats, rank: int, V: Floats) -> None:
    """V[c, :k] ← the eigenvector (row of W) of the c-th largest eigenvalue, c < rank; norms is used up."""
    for c in range(rank):
        best = 0
        for i in range(1, k):
            if norms[i] > norms[best]:
                best = i
        norms[best] = -1.0
        V[c, :k] = W[best, :k]
