"""Minibatch mode, compiled: every entity of a block takes all its rows at once and is written whole or left alone.

With fewer rows than dimensions (by the count of operations) the solve runs in the rows on the stored covariance, with
no d × d factorisation; else in the coefficients. Storage may be float32; everything inside is float64.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nearline.glmix._kernels._blocks import fold
from nearline.glmix._kernels._linalg import (
    CONVERGED,
    LEAF,
    NON_FINITE,
    NOT_POSITIVE_DEFINITE,
    ONCE,
    OPTIONS,
    factor,
    invert_factor,
    log_diagonal,
    mirror,
    pack,
    unpack,
)
from nearline.glmix._kernels._newton import Dual, Mode, Primal, Rows, dual, primal
from nearline.glmix._kernels._rows import OFFSET, SPARSE, TILE, Batch, Groups, gather, lay_rows, margins, total_loss

Floats = NDArray[np.float64]

# Newton steps that a typical update takes; only the choice between primal and dual depends on it.
TYPICAL_STEPS = 3.5


class Relaxation(NamedTuple):
    """How an entity's state relaxes towards its prior before its rows enter; `since` is NaN where it must not."""

    form: int  # NEVER | REVERTING | STABILISED | PER_UPDATE
    rate: float  # half-life in seconds, or δ
    walks: bool
    mu0: Floats  # d
    cov0: Floats  # like a row of the state's covariance
    walk_event: Floats  # d: variance per update
    walk_second: Floats  # d
    since: Floats  # E: seconds


class Outcome(NamedTuple):
    """What each entity's update came to; NaN where it failed."""

    status: NDArray[np.int8]
    steps: NDArray[np.int32]
    evidence: Floats
    change: Floats
    decrement: Floats


@njit(**LEAF)
def prefers_dual(n: int, d: int) -> bool:
    """Whether n rows are cheaper than d coefficients: 3nd² + n²d + s(n³/3 + 2n²) < s(d³/3 + nd² + 2d²)."""
    s = TYPICAL_STEPS
    rows, columns = float(n), float(d)
    in_rows = 3.0 * rows * columns**2 + rows**2 * columns + s * (rows**3 / 3.0 + 2.0 * rows**2)
    return n < d and in_rows < s * (columns**3 / 3.0 + rows * columns**2 + 2.0 * columns**2)


@njit(**OPTIONS)
def row_memory(n: int, d: int) -> Rows:
    """Memory for n rows of d local dimensions."""
    return Rows(
        np.empty(n, np.int64), np.empty((n, 3)), np.empty(n), np.empty(n), np.empty((2, n)), np.full(d, -1, np.int64),
        np.empty(d, np.int64),
    )  # fmt: skip


@njit(**OPTIONS)
def primal_memory(vectors: int, matrices: int) -> Primal:
    """Memory for a solve in as many coefficients as `matrices`, beside vectors of `vectors` dimensions."""
    e, m = vectors + 4, matrices + 4
    return Primal(
        np.zeros(e), np.zeros(e), np.zeros(e), np.zeros(e), np.zeros(e), np.zeros(max(e, TILE)), np.zeros((m, m)),
        np.zeros((m, m)), np.zeros((m, TILE)),
    )  # fmt: skip


@njit(**OPTIONS)
def dual_memory(n: int) -> Dual:
    """Memory for a solve in n rows."""
    k = n + 4
    return Dual(
        np.zeros(k), np.zeros(k), np.zeros(k), np.zeros(k), np.zeros(k), np.zeros(k), np.zeros((k, k)), np.zeros((k, k))
    )


@njit(**OPTIONS)
def relax(kind: int, relaxation: Relaxation, e: int, mean: Any, cov: Any) -> None:
    """Relax entity e's copied state."""
    fold(
        kind, relaxation.form, relaxation.rate, relaxation.walks, relaxation.since[e], mean, cov, relaxation.mu0,
        relaxation.cov0, relaxation.walk_event, relaxation.walk_second,
    )  # fmt: skip


@njit(**LEAF)
def multiply_rows(S: Any, X: Any, n: int, d: int, VX: Any) -> None:
    """Products X S of n rows with a symmetric S into VX, two rows and four dimensions at a time."""
    for r in range(0, n, 2):
        for k in range(d):
            VX[r, k] = 0.0
            VX[r + 1, k] = 0.0
        for j in range(0, d, 4):
            a0, a1, a2, a3 = X[r, j], X[r, j + 1], X[r, j + 2], X[r, j + 3]
            b0, b1, b2, b3 = X[r + 1, j], X[r + 1, j + 1], X[r + 1, j + 2], X[r + 1, j + 3]
            if abs(a0) + abs(a1) + abs(a2) + abs(a3) + abs(b0) + abs(b1) + abs(b2) + abs(b3) == 0.0:
                continue
            for k in range(d):
                s0, s1, s2, s3 = S[j, k], S[j + 1, k], S[j + 2, k], S[j + 3, k]
                VX[r, k] += a0 * s0 + a1 * s1 + a2 * s2 + a3 * s3
                VX[r + 1, k] += b0 * s0 + b1 * s1 + b2 * s2 + b3 * s3


@njit(**LEAF)
def inner_products(X: Any, VX: Any, n: int, d: int, K: Any) -> None:
    """K (n, n) ← X VXᵀ, symmetric."""
    for r in range(n):
        for q in range(r + 1):
            total = 0.0
            for j in range(d):
                total += X[r, j] * VX[q, j]
            K[r, q] = total
            K[q, r] = total


@njit(**LEAF)
def downdate(S: Any, w: Dual, n: int, d: int, VX: Any, row: Any, V: Any) -> bool:
    """Packed V ← S − MᵀM with M = L⁻¹ diag(root) VX, BB's factor L in w.B; False where its diagonal is not positive."""
    for r in range(n):
        for j in range(d):
            row[j] = w.root[r] * VX[r, j]
        for q in range(r):
            f = w.B[r, q]
            for j in range(d):
                row[j] -= f * VX[q, j]
        scale = 1.0 / w.B[r, r]
        for j in range(d):
            VX[r, j] = scale * row[j]
    for j in range(d):
        VX[n, j] = 0.0
    last = (n - 1) & -2
    base = 0
    positive = True
    for j in range(d):
        for r in range(0, last, 2):
            f, g = VX[r, j], VX[r + 1, j]
            for k in range(j + 1):
                S[j, k] -= f * VX[r, k] + g * VX[r + 1, k]
        f, g = VX[last, j], VX[last + 1, j]
        for k in range(j + 1):
            V[base + k] = S[j, k] - f * VX[last, k] - g * VX[last + 1, k]
        positive = positive and 0.0 < V[base + j] < math.inf
        base += j + 1
    return positive


@njit(**ONCE)
def full_dual(
    link: int, batch: Batch, n: int, d: int, rows: Rows, p: Primal, w: Dual, S: Any, X: Any, VX: Any, V: Any
) -> Mode:
    """Solve in the rows from the packed covariance V, which becomes the posterior's; θ into p.theta."""
    lay_rows(batch, rows.at, n, d, rows.position, X)
    unpack(V, d, S)
    multiply_rows(S, X, n, d, VX)
    inner_products(X, VX, n, d, w.K)
    margins(batch, rows.at, n, rows.given, rows.position, p.mean, rows.eta)
    for r in range(n):
        rows.given[r, OFFSET] = rows.eta[r]
    mode = dual(link, n, rows, w)
    if mode.status != CONVERGED:
        return mode
    for j in range(d):
        p.theta[j] = p.mean[j]
    for r in range(n):
        for j in range(d):
            p.theta[j] += w.a[r] * VX[r, j]
    if not downdate(S, w, n, d, VX, p.row, V):
        return Mode(NOT_POSITIVE_DEFINITE, mode.steps, mode.decrement, 0.0, 0.0)
    return mode


@njit(**ONCE)
def full_primal(
    link: int, batch: Batch, n: int, d: int, sparse: bool, rows: Rows, p: Primal, S: Any, Z: Any, V: Any
) -> Mode:
    """Solve in the coefficients with P = V⁻¹; the packed covariance V becomes H⁻¹, θ is in p.theta."""
    unpack(V, d, p.H)
    status = factor(p.H, d, d)
    if status != CONVERGED:
        return Mode(status, 0, math.inf, 0.0, 0.0)
    prior_root = log_diagonal(p.H, d)
    invert_factor(p.H, d, Z, p.row, p.P)
    mirror(p.P, d)
    mode = primal(link, batch, n, d, sparse, rows, p)
    if mode.status != CONVERGED:
        return mode
    invert_factor(p.H, d, Z, p.row, S)
    pack(S, d, V)
    return Mode(mode.status, mode.steps, mode.decrement, mode.penalty, mode.log_root + prior_root)


@njit(**LEAF)
def report(link: int, e: int, n: int, d: int, given: Any, eta: Any, mode: Mode, theta: Any, mean: Any, out: Outcome) -> None:
    """Record what entity e's update came to."""
    out.status[e], out.steps[e], out.decrement[e] = mode.status, mode.steps, mode.decrement
    out.evidence[e] = out.change[e] = 0.0 if n == 0 else math.nan
    if n > 0 and mode.status == CONVERGED:
        total = 0.0
        for j in range(d):
            total += (theta[j] - mean[j]) ** 2
        out.evidence[e] = -total_loss(link, n, given, eta) - mode.penalty - mode.log_root
        out.change[e] = math.sqrt(total)


@njit(**OPTIONS)
def update_full(
    link: int, batch: Batch, groups: Groups, relaxation: Relaxation, schedule: Any, start: int, stride: int,
    most_rows: int, means: Any, covs: Any, outcome: Outcome,
) -> None:  # fmt: skip
    """Update the entities schedule[start::stride], none with more than `most_rows` rows, on packed covariances."""
    d, size = means.shape[1], covs.shape[1]
    k = min(most_rows, d) + 4
    rows, p, w = row_memory(most_rows, d), primal_memory(d, d), dual_memory(k)
    S, Z, V = np.zeros((d + 4, d + 4)), np.zeros((d + 4, d + 4)), np.empty(size)
    X, VX = np.zeros((k, d + 4)), np.zeros((k, d + 4))
    for j in range(d):
        rows.position[j] = j
    for s in range(start, schedule.shape[0], stride):
        e = schedule[s]
        c = groups.codes[e]
        n, entries = gather(batch, groups, e, rows.at, rows.given)
        mode = Mode(CONVERGED if n == 0 else NON_FINITE, 0, 0.0 if n == 0 else math.inf, 0.0, 0.0)
        if n > 0:
            for j in range(d):
                p.mean[j] = means[c, j]
            for q in range(size):
                V[q] = covs[c, q]
            if relaxation.since[e] >= 0.0:
                relax(0, relaxation, e, p.mean[:d], V)
            if prefers_dual(n, d):
                mode = full_dual(link, batch, n, d, rows, p, w, S, X, VX, V)
            else:
                mode = full_primal(link, batch, n, d, entries < SPARSE * n * d, rows, p, S, Z, V)
            if mode.status == CONVERGED:
                for j in range(d):
                    means[c, j] = p.theta[j]
                for q in range(size):
                    covs[c, q] = V[q]
        report(link, e, n, d, rows.given, rows.eta, mode, p.theta, p.mean, outcome)
