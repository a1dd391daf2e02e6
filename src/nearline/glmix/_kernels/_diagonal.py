"""Minibatch mode for diagonal posteriors, compiled: a joint solve over the dimensions that an entity's rows touch.

The other dimensions are independent of it and stay as they are. Afterwards the diagonal of the precision is kept,
1/V_jj ← H_jj = 1/V_jj + Σ_n w_n D_n x_nj².
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from nearline.glmix._kernels._linalg import CONVERGED, LEAF, NOT_POSITIVE_DEFINITE, ONCE
from nearline.glmix._kernels._memory import Diagonal, Dual, Outcome, Primal, Rows
from nearline.glmix._kernels._minibatch import inner_products
from nearline.glmix._kernels._newton import Mode, dual, primal, report, without_rows
from nearline.glmix._kernels._rows import OFFSET, SPARSE, Batch, Groups, eights, gather, lay_rows, touch

# A variance of 0 holds its coefficient where it is; the primal, which divides by variances, takes this one for it.
LOCKED = 1e-300


@njit(**ONCE)
def diagonal_dual(
    link: int, batch: Batch, n: int, t: int, rows: Rows, p: Primal, w: Dual, variance: Any, X: Any, VX: Any
) -> Mode:
    """Solve in the rows; θ into p.theta and diag(H) into p.diagonal."""
    lay_rows(batch, rows.at, n, t, False, rows.position, X)
    for r in range(n):
        total = 0.0
        for j in range(t):
            total += X[r, j] * p.mean[j]
        for j in range(t):
            VX[r, j] = variance[j] * X[r, j]
        for j in range(t, eights(t)):
            VX[r, j] = 0.0
        rows.given[r, OFFSET] += total
    inner_products(X, VX, n, t, w.K)
    mode: Mode = dual(link, n, rows, w)
    for j in range(t):
        p.theta[j] = p.mean[j]
        p.diagonal[j] = 1.0 / variance[j]
    for r in range(n):
        for j in range(t):
            p.theta[j] += w.a[r] * VX[r, j]
            p.diagonal[j] += (w.root[r] * X[r, j]) ** 2
    return mode


@njit(**ONCE)
def diagonal_primal(
    link: int, batch: Batch, n: int, t: int, sparse: bool, rows: Rows, p: Primal, variance: Any
) -> Mode:
    """Solve in the touched coefficients with P = diag(1/v); θ into p.theta and diag(H) into p.diagonal."""
    root = 0.0
    for j in range(t):
        for c in range(t):
            p.P[j, c] = 0.0
        v = max(variance[j], LOCKED)
        p.P[j, j] = 1.0 / v
        root += 0.5 * math.log(v)
    mode: Mode = primal(link, batch, n, t, False, sparse, rows, p)
    return Mode(mode.status, mode.steps, mode.decrement, mode.penalty, mode.log_root + root)


@njit(**LEAF)
def update_diagonal(
    link: int, batch: Batch, groups: Groups, schedule: Any, start: int, stride: int, memory: Diagonal, means: Any,
    covs: Any, outcome: Outcome,
) -> None:  # fmt: skip
    """Update the entities schedule[start::stride] on variances."""
    rows, p, w, variance, X, VX = memory
    for s in range(start, schedule.shape[0], stride):
        e = schedule[s]
        n, entries = gather(batch, groups, e, rows.at, rows.given)
        mode = without_rows(n)
        t = 0
        if n > 0:
            c = groups.codes[e]
            t = touch(batch, rows.at, n, rows.position, rows.touched)
            sound = True
            for q in range(t):
                p.mean[q], variance[q] = means[c, rows.touched[q]], covs[c, rows.touched[q]]
                sound = sound and variance[q] >= 0.0
            if not sound:
                mode = Mode(NOT_POSITIVE_DEFINITE, 0, math.inf, 0.0, 0.0)
            elif n < t:
                mode = diagonal_dual(link, batch, n, t, rows, p, w, variance, X, VX)
            else:
                mode = diagonal_primal(link, batch, n, t, entries < SPARSE * n * t, rows, p, variance)
            for q in range(t):
                rows.position[rows.touched[q]] = -1
                if mode.status == CONVERGED:
                    means[c, rows.touched[q]], covs[c, rows.touched[q]] = p.theta[q], 1.0 / p.diagonal[q]
        report(link, e, n, t, rows, mode, p, outcome)
