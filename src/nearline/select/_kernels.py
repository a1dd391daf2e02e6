"""Draws that decide row after row, compiled when first used; every one has the same source as its Python twin."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_NEAR = 1e-9
_TINY = 1e-12
_SWEEPS = 5


@njit(cache=True, nogil=True)
def duel(pi: Any, u: Any) -> Any:
    """Positions kept by the pivotal method on pi in order, u one uniform number a row."""
    n = pi.shape[0]
    p = pi.copy()
    i = 0
    for j in range(1, n):
        a, b = p[i], p[j]
        if a < _NEAR or a > 1 - _NEAR:
            i = j
            continue
        if b < _NEAR or b > 1 - _NEAR:
            continue
        total = a + b
        if total <= 1:
            keep = u[j] * total < a
            p[i], p[j] = (total, 0.0) if keep else (0.0, total)
        else:
            keep = u[j] * (2 - total) < 1 - b
            p[i], p[j] = (1.0, total - 1) if keep else (total - 1, 1.0)
        if p[i] < _NEAR or p[i] > 1 - _NEAR:
            i = j
    return np.flatnonzero(p > 0.5)


@njit(cache=True, nogil=True)
def null_vector(A: Any, out: Any) -> None:
    """A vector u != 0 with A u = 0 for a wide A (rows < columns), by elimination with row pivots; A is used up."""
    rows, columns = A.shape
    free = rows
    for c in range(rows):  # columns before c hold one pivot each, in their own row
        at = c + np.argmax(np.abs(A[c:, c]))
        if abs(A[at, c]) < _TINY:
            free = c
            break
        for k in range(c, columns):
            A[c, k], A[at, k] = A[at, k], A[c, k]
        for r in range(rows):
            if r != c and A[r, c] != 0.0:
                factor = A[r, c] / A[c, c]
                for k in range(c, columns):
                    A[r, k] -= factor * A[c, k]
    out[:] = 0.0
    out[free] = 1.0
    for c in range(free):
        out[c] = -A[c, free] / A[c, c]


@njit(cache=True, nogil=True)
def step(p: Any, u: Any, draw: float) -> None:
    """Move p along +u or -u to the face of the cube, with the probabilities that keep E[p]."""
    up, down = np.inf, np.inf
    for k in range(p.shape[0]):
        if u[k] > 0:
            up, down = min(up, (1 - p[k]) / u[k]), min(down, p[k] / u[k])
        elif u[k] < 0:
            up, down = min(up, -p[k] / u[k]), min(down, (p[k] - 1) / u[k])
    by = up if draw * (up + down) < down else -down
    for k in range(p.shape[0]):
        p[k] += by * u[k]
        if p[k] < _NEAR:
            p[k] = 0.0
        elif p[k] > 1 - _NEAR:
            p[k] = 1.0


@njit(cache=True, nogil=True)
def fly(pi: Any, rows: Any, draws: Any) -> Any:
    """Positions chosen by the cube method; rows (n, Q) are a_i / pi_i, the size first; draws at least n numbers."""
    n, Q = rows.shape
    held = np.empty(Q + 1, np.int64)
    p, u = pi.copy(), np.empty(Q + 1)
    part = np.empty(Q + 1)
    count, following, used = 0, 0, 0
    while Q > 0:
        while count < Q + 1 and following < n:
            if _NEAR < p[following] < 1 - _NEAR:
                held[count] = following
                count += 1
            following += 1
        if count < Q + 1:
            Q -= 1
            continue
        A = np.empty((Q, Q + 1))
        for k in range(Q + 1):
            part[k] = p[held[k]]
            for r in range(Q):
                A[r, k] = rows[held[k], r]
        null_vector(A, u[: Q + 1])
        step(part[: Q + 1], u[: Q + 1], draws[used])
        used += 1
        kept = 0
        for k in range(Q + 1):
            p[held[k]] = part[k]
            if 0.0 < part[k] < 1.0:
                held[kept] = held[k]
                kept += 1
        count = kept
    return np.flatnonzero(p > 0.5)


@njit(cache=True, nogil=True)
def dot(x: Any, y: Any) -> Any:
    """Their product, summed in order: no BLAS, the same bits everywhere."""
    total = 0.0
    for k in range(x.shape[0]):
        total += x[k] * y[k]
    return total


@njit(cache=True, nogil=True)
def pursue(A: Any, target: Any, b: int, ridge: float) -> Any:
    """Weights (n) of orthogonal matching pursuit: the row that fits the residual best, then all weights again."""
    n = A.shape[0]
    w, left, square = np.zeros(n), target.copy(), np.empty(n)
    chosen = np.empty(b, np.int64)
    taken = np.zeros(n, np.bool_)
    for i in range(n):
        square[i] = dot(A[i], A[i])
    for count in range(b):
        best, at = 0.0, -1
        for i in range(n):
            fit = 0.0 if taken[i] else dot(A[i], left)
            if fit > best:
                best, at = fit, i
        if at < 0:
            break
        chosen[count], taken[at] = at, True
        for _ in range(_SWEEPS):
            for k in range(count + 1):
                i = chosen[k]
                new = max(0.0, (dot(A[i], left) + w[i] * square[i]) / (square[i] + ridge))
                left += (w[i] - new) * A[i]
                w[i] = new
    return w
