"""Small dense symmetric algebra, compiled: four dot products, or four added rows, per inner loop.

Matrices are the lower triangle of the leading d × d part of scratch with spare rows and columns. Rows below d
are right-hand sides that travel through the factorisation. Inner loops count from 0: from a variable start numba has to
allow for negative indices and the loop is not vectorised.
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from nearline.glmix._kernels._scalar import FASTMATH

# Status codes of a solve, in the order of `nearline.glmix._solve.STATUSES`.
CONVERGED, NOT_CONVERGED, NOT_POSITIVE_DEFINITE, NON_FINITE = 0, 1, 2, 3

OPTIONS: Any = {"cache": True, "nogil": True, "fastmath": FASTMATH, "error_model": "numpy"}
# The minibatch kernels allocate and keep nothing, so they count no references; ONCE is for what has a single caller.
LEAF: Any = OPTIONS | {"_nrt": False}
ONCE: Any = LEAF | {"inline": "always"}


@njit(**LEAF)
def factor(A: Any, d: int, rows: int) -> int:
    """A ← L with LLᵀ = A, rows d … rows−1 ← themselves times L⁻ᵀ; a status code.

    The factorisation itself decides whether A is finite and positive definite; nothing is added to its diagonal.
    """
    for j in range(d):
        pivot = A[j, j]
        for q in range(j):
            pivot -= A[j, q] * A[j, q]
        if not 0.0 < pivot < math.inf:
            return NOT_POSITIVE_DEFINITE if -math.inf < pivot <= 0.0 else NON_FINITE
        scale = 1.0 / math.sqrt(pivot)
        A[j, j] = pivot * scale
        i = j + 1
        while i + 4 <= rows:
            t0, t1, t2, t3 = A[i, j], A[i + 1, j], A[i + 2, j], A[i + 3, j]
            for q in range(j):
                a = A[j, q]
                t0 -= A[i, q] * a
                t1 -= A[i + 1, q] * a
                t2 -= A[i + 2, q] * a
                t3 -= A[i + 3, q] * a
            A[i, j], A[i + 1, j], A[i + 2, j], A[i + 3, j] = t0 * scale, t1 * scale, t2 * scale, t3 * scale
            i += 4
        while i < rows:
            t0 = A[i, j]
            for q in range(j):
                t0 -= A[i, q] * A[j, q]
            A[i, j] = t0 * scale
            i += 1
    return CONVERGED


@njit(**LEAF)
def back_substitute(L: Any, d: int, row: int, x: Any) -> None:
    """Solve Lᵀx = L[row, :d] into x (d)."""
    for j in range(d):
        x[j] = L[row, j]
    for j in range(d - 1, -1, -1):
        x[j] /= L[j, j]
        t = x[j]
        for c in range(j):
            x[c] -= t * L[j, c]


@njit(**LEAF)
def invert_factor(L: Any, d: int, Z: Any, row: Any, out: Any) -> None:
    """Inverse (LLᵀ)⁻¹ = ZᵀZ into out (lower triangle), through Z = L⁻¹ (lower, by rows); `row` (d + 4) is scratch."""
    padded = (d + 3) & -4
    for j in range(padded):
        for c in range(padded):
            Z[j, c] = 0.0
    for j in range(d):
        for c in range(padded):
            row[c] = 0.0
        for i in range(0, j, 4):
            # L's row stops at j: what lies beyond is another matrix's leftovers.
            f0 = L[j, i]
            f1 = L[j, i + 1] if i + 1 < j else 0.0
            f2 = L[j, i + 2] if i + 2 < j else 0.0
            f3 = L[j, i + 3] if i + 3 < j else 0.0
            for c in range(i + 4):
                row[c] += f0 * Z[i, c] + f1 * Z[i + 1, c] + f2 * Z[i + 2, c] + f3 * Z[i + 3, c]
        scale = 1.0 / L[j, j]
        for c in range(j):
            Z[j, c] = -scale * row[c]
        Z[j, j] = scale
        for c in range(j + 1):
            out[j, c] = 0.0
    for i in range(0, d, 4):
        for j in range(min(i + 4, d)):
            f0, f1, f2, f3 = Z[i, j], Z[i + 1, j], Z[i + 2, j], Z[i + 3, j]
            for c in range(j + 1):
                out[j, c] += f0 * Z[i, c] + f1 * Z[i + 1, c] + f2 * Z[i + 2, c] + f3 * Z[i + 3, c]


@njit(**LEAF)
def unpack(V: Any, d: int, S: Any) -> None:
    """Both triangles of S from packed V."""
    base = 0
    for j in range(d):
        for k in range(j + 1):
            S[j, k] = V[base + k]
        for k in range(j):
            S[k, j] = V[base + k]
        base += j + 1


@njit(**LEAF)
def pack(S: Any, d: int, V: Any) -> None:
    """Packed V from the lower triangle of S."""
    base = 0
    for j in range(d):
        for k in range(j + 1):
            V[base + k] = S[j, k]
        base += j + 1


@njit(**LEAF)
def mirror(A: Any, d: int) -> None:
    """Copy the lower triangle to the upper one."""
    for j in range(d):
        for c in range(j):
            A[c, j] = A[j, c]


@njit(**LEAF)
def log_diagonal(L: Any, d: int) -> float:
    """Σ_j log L_jj, with one logarithm for as many factors as a double holds."""
    total = 0.0
    product = 1.0
    for j in range(d):
        product *= L[j, j]
        if not 1e-150 < product < 1e150:
            total += math.log(product)
            product = 1.0
    return total + math.log(product)
