"""Minibatch mode, compiled: every entity of a block takes all its rows at once and is written whole or left alone.

With fewer rows than dimensions (by the count of operations) the solve runs in the rows on the stored covariance, with
no d × d factorisation, and for one or two rows on a path of its own (`_pairs`); else in the coefficients. Storage may
be float32; everything inside is float64.
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from nearline.glmix._kernels._eights import EIGHT
from nearline.glmix._kernels._linalg import (
    CONVERGED,
    LEAF,
    NOT_POSITIVE_DEFINITE,
    ONCE,
    factor,
    invert_factor,
    log_diagonal,
    mirror,
    pack,
    unpack,
)
from nearline.glmix._kernels._memory import Dual, Full, Outcome, Primal, Rows
from nearline.glmix._kernels._newton import Mode, dual, primal, report, without_rows
from nearline.glmix._kernels._pairs import AHEAD, fetch_covariance, fetch_entity, finish_pairs, prepare_pair
from nearline.glmix._kernels._rows import OFFSET, SPARSE, Batch, Groups, eights, gather, lay_rows

# Newton steps that a typical update takes; only the choice between primal and dual depends on it.
TYPICAL_STEPS = 3.5


@njit(**LEAF)
def prefers_dual(n: int, d: int) -> bool:
    """Whether n rows are cheaper than d coefficients: 3nd² + n²d + s(n³/3 + 2n²) < s(d³/3 + nd² + 2d²)."""
    s = TYPICAL_STEPS
    rows, columns = float(n), float(d)
    in_rows = 3.0 * rows * columns**2 + rows**2 * columns + s * (rows**3 / 3.0 + 2.0 * rows**2)
    return n < d and in_rows < s * (columns**3 / 3.0 + rows * columns**2 + 2.0 * columns**2)


@njit(**LEAF)
def multiply_rows(S: Any, X: Any, n: int, d: int, VX: Any) -> None:
    """Products X S of n rows with a symmetric S into VX, two rows and four dimensions at a time."""
    padded = eights(d)
    for r in range(0, n, 2):
        for k in range(padded):
            VX[r, k] = 0.0
            VX[r + 1, k] = 0.0
        for j in range(0, d, 4):
            a0, a1, a2, a3 = X[r, j], X[r, j + 1], X[r, j + 2], X[r, j + 3]
            b0, b1, b2, b3 = X[r + 1, j], X[r + 1, j + 1], X[r + 1, j + 2], X[r + 1, j + 3]
            if abs(a0) + abs(a1) + abs(a2) + abs(a3) + abs(b0) + abs(b1) + abs(b2) + abs(b3) == 0.0:
                continue
            for k in range(padded):
                s0, s1, s2, s3 = S[j, k], S[j + 1, k], S[j + 2, k], S[j + 3, k]
                VX[r, k] += a0 * s0 + a1 * s1 + a2 * s2 + a3 * s3
                VX[r + 1, k] += b0 * s0 + b1 * s1 + b2 * s2 + b3 * s3


@njit(**LEAF)
def inner_products(X: Any, VX: Any, n: int, d: int, K: Any) -> None:
    """K (n, n) ← X VXᵀ, symmetric."""
    for r in range(n):
        for q in range(r + 1):
            total = 0.0
            for j in range(eights(d)):
                total += X[r, j] * VX[q, j]
            K[r, q] = total
            K[q, r] = total


@njit(**LEAF)
def prepare_downdate(S: Any, w: Dual, n: int, d: int, VX: Any, row: Any) -> bool:
    """M = L⁻¹ diag(root) VX in place of VX, with L the factor in w.B; whether the diagonal of S − MᵀM is positive."""
    padded = eights(d)
    for r in range(n):
        for j in range(padded):
            row[j] = w.root[r] * VX[r, j]
        for q in range(r):
            f = w.B[r, q]
            for j in range(padded):
                row[j] -= f * VX[q, j]
        scale = 1.0 / w.B[r, r]
        for j in range(padded):
            VX[r, j] = scale * row[j]
    for j in range(padded):
        VX[n, j] = 0.0
    for j in range(d):
        row[j] = S[j, j]
    for r in range(n):
        for j in range(padded):
            row[j] -= VX[r, j] * VX[r, j]
    positive = True
    for j in range(d):
        positive = positive and 0.0 < row[j] < math.inf
    return positive


@njit(**LEAF)
def write_downdate(S: Any, M: Any, n: int, d: int, cov: Any) -> None:
    """Packed cov ← S − MᵀM, two rows of M at a time; an odd n has a zero row to spare."""
    last = (n - 1) & -2
    base = 0
    for j in range(d):
        for r in range(0, last, 2):
            f, g = M[r, j], M[r + 1, j]
            for k in range(j + 1):
                S[j, k] -= f * M[r, k] + g * M[r + 1, k]
        f, g = M[last, j], M[last + 1, j]
        for k in range(j + 1):
            cov[base + k] = S[j, k] - f * M[last, k] - g * M[last + 1, k]
        base += j + 1


@njit(**ONCE)
def full_dual(link: int, batch: Batch, n: int, d: int, rows: Rows, p: Primal, w: Dual, S: Any, X: Any, VX: Any) -> Mode:
    """Solve in the rows from the covariance S; θ into p.theta, and the posterior covariance is S − MᵀM with M in VX."""
    lay_rows(batch, rows.at, n, d, batch.width == d, rows.position, X)
    multiply_rows(S, X, n, d, VX)
    inner_products(X, VX, n, d, w.K)
    for r in range(n):
        total = 0.0
        for j in range(d):
            total += X[r, j] * p.mean[j]
        rows.given[r, OFFSET] += total
    mode: Mode = dual(link, n, rows, w)
    if mode.status != CONVERGED:
        return mode
    for j in range(d):
        p.theta[j] = p.mean[j]
    for r in range(n):
        for j in range(d):
            p.theta[j] += w.a[r] * VX[r, j]
    if not prepare_downdate(S, w, n, d, VX, p.row):
        return Mode(NOT_POSITIVE_DEFINITE, mode.steps, mode.decrement, 0.0, 0.0)
    return mode


@njit(**ONCE)
def full_primal(link: int, batch: Batch, n: int, d: int, sparse: bool, rows: Rows, p: Primal, S: Any, Z: Any) -> Mode:
    """Solve in the coefficients from the covariance V in p.H, with P = V⁻¹; θ into p.theta and H⁻¹ into S (lower)."""
    status = factor(p.H, d, d)
    if status != CONVERGED:
        return Mode(status, 0, math.inf, 0.0, 0.0)
    prior_root = log_diagonal(p.H, d)
    invert_factor(p.H, d, Z, p.row, p.P)
    mirror(p.P, d)
    mode: Mode = primal(link, batch, n, d, batch.width == d, sparse, rows, p)
    if mode.status == CONVERGED:
        invert_factor(p.H, d, Z, p.row, S)
    return Mode(mode.status, mode.steps, mode.decrement, mode.penalty, mode.log_root + prior_root)


@njit(**LEAF)
def update_full(
    link: int, batch: Batch, groups: Groups, schedule: Any, start: int, stride: int, memory: Full, means: Any,
    covs: Any, outcome: Outcome,
) -> None:  # fmt: skip
    """Update the entities schedule[start::stride] on packed covariances."""
    d = means.shape[1]
    rows, p, w, S, Z, X, VX, pairs = memory
    waiting = 0
    for j in range(d):
        rows.position[j] = j
    for s in range(start, schedule.shape[0], stride):
        e = schedule[s]
        ahead = schedule[min(s + AHEAD * stride, schedule.shape[0] - 1)]
        fetch_entity(batch, groups, ahead, means)
        n, entries = gather(batch, groups, e, rows.at, rows.given)
        if 0 < n <= 2 < d:
            prepare_pair(batch, n, e, groups.codes[e], groups.codes[ahead], waiting, rows, pairs, means, covs)
            waiting += 1
            if waiting == EIGHT:
                finish_pairs(link, waiting, pairs, means, covs, outcome)
                waiting = 0
            continue
        fetch_covariance(groups.codes[ahead], covs)
        mode = without_rows(n)
        if n > 0:
            mean, cov = means[groups.codes[e]], covs[groups.codes[e]]
            for j in range(d):
                p.mean[j] = mean[j]
            in_rows = prefers_dual(n, d)
            unpack(cov, d, S if in_rows else p.H)
            if in_rows:
                mode = full_dual(link, batch, n, d, rows, p, w, S, X, VX)
            else:
                mode = full_primal(link, batch, n, d, entries < SPARSE * n * d, rows, p, S, Z)
            if mode.status == CONVERGED:
                for j in range(d):
                    mean[j] = p.theta[j]
                if in_rows:
                    write_downdate(S, VX, n, d, cov)
                else:
                    pack(S, d, cov)
        report(link, e, n, d, rows, mode, p, outcome)
    if waiting > 0:
        finish_pairs(link, waiting, pairs, means, covs, outcome)
