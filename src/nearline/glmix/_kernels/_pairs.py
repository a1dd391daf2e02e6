"""Minibatch mode for entities of one or two rows on packed covariances, compiled: most of a young stream.

The equations are `nearline.glmix._kernels._newton.dual`'s, with everything that n ≤ 2 allows. The stored triangle is
read once, for V Xᵀ of both rows, and written once, with the rank-2 downdate; a missing second row is one of weight 0.

    M = L⁻¹ S X V,   LLᵀ = I + S K S,   V_new = V − MᵀM
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from nearline.glmix._kernels._lanes import (
    INLINE,
    INNER,
    LINE,
    first_lanes,
    floats,
    fma,
    fused,
    pack,
    pointer,
    prefetch,
    put,
    spread,
    take,
    take_first,
    total,
    totals,
)
from nearline.glmix._kernels._linalg import CONVERGED, NOT_POSITIVE_DEFINITE
from nearline.glmix._kernels._memory import Outcome, Rows
from nearline.glmix._kernels._pair_mode import mode_of_two, split
from nearline.glmix._kernels._rows import LABEL, OFFSET, WEIGHT, Batch, Groups, lay_rows
from nearline.glmix._kernels._scalar import loss

AHEAD = 3
"""Entities between the one whose memory is asked for and the one that is updated."""


@njit(**INNER)
def times_two(cov: Any, d: int, x: Any, y: Any, v: Any, u: Any, diagonal: Any) -> None:
    """Products v ← S x and u ← S y and the diagonal of S, four rows at a time; all vectors to the next four places."""
    whole, b0 = d - d % 4, 0
    for j in range(0, whole, 4):
        b1, b2, b3 = b0 + j + 1, b0 + 2 * j + 3, b0 + 3 * j + 6
        f0, f1, f2, f3 = spread(x[j]), spread(x[j + 1]), spread(x[j + 2]), spread(x[j + 3])
        g0, g1, g2, g3 = spread(y[j]), spread(y[j + 1]), spread(y[j + 2]), spread(y[j + 3])
        p0 = p1 = p2 = p3 = q0 = q1 = q2 = q3 = spread(0.0)
        for k in range(0, j, 4):
            xk, yk = take(x, k), take(y, k)
            c0, c1, c2, c3 = take(cov, b0 + k), take(cov, b1 + k), take(cov, b2 + k), take(cov, b3 + k)
            p0, p1, p2, p3 = fma(c0, xk, p0), fma(c1, xk, p1), fma(c2, xk, p2), fma(c3, xk, p3)
            q0, q1, q2, q3 = fma(c0, yk, q0), fma(c1, yk, q1), fma(c2, yk, q2), fma(c3, yk, q3)
            put(v, k, fma(c0, f0, fma(c1, f1, fma(c2, f2, fma(c3, f3, take(v, k))))))
            put(u, k, fma(c0, g0, fma(c1, g1, fma(c2, g2, fma(c3, g3, take(u, k))))))
        b0, b1, b2, b3 = b0 + j, b1 + j, b2 + j, b3 + j
        xj, yj = take(x, j), take(y, j)
        # What lies beyond a row's diagonal is the next row's beginning.
        r0, r1, r2, r3 = first_lanes(take(cov, b0), 1), take(cov, b1), take(cov, b2), take(cov, b3)
        p0, p1 = fma(r0, xj, p0), fma(first_lanes(r1, 2), xj, p1)
        q0, q1 = fma(r0, yj, q0), fma(first_lanes(r1, 2), yj, q1)
        p2, p3 = fma(first_lanes(r2, 3), xj, p2), fma(r3, xj, p3)
        q2, q3 = fma(first_lanes(r2, 3), yj, q2), fma(r3, yj, q3)
        r1, r2, r3 = first_lanes(r1, 1), first_lanes(r2, 2), first_lanes(r3, 3)
        put(v, j, fma(r1, f1, fma(r2, f2, fma(r3, f3, totals(p0, p1, p2, p3)))))
        put(u, j, fma(r1, g1, fma(r2, g2, fma(r3, g3, totals(q0, q1, q2, q3)))))
        put(diagonal, j, pack(cov[b0], cov[b1 + 1], cov[b2 + 2], cov[b3 + 3]))
        b0 = b3 + 4
    if whole < d:
        put(v, whole, spread(0.0))
        put(u, whole, spread(0.0))
        put(diagonal, whole, spread(1.0))
    for j in range(d - 1, whole - 1, -1):
        base, f, g = j * (j + 1) // 2, spread(x[j]), spread(y[j])
        p = q = spread(0.0)
        for k in range(0, whole, 4):
            c = take(cov, base + k)
            p, q = fma(c, take(x, k), p), fma(c, take(y, k), q)
            put(v, k, fma(c, f, take(v, k)))
            put(u, k, fma(c, g, take(u, k)))
        c = take_first(cov, base + whole, j + 1 - whole)
        p, q = fma(c, take(x, whole), p), fma(c, take(y, whole), q)
        c = take_first(cov, base + whole, j - whole)
        put(v, whole, fma(c, f, take(v, whole)))
        put(u, whole, fma(c, g, take(u, whole)))
        v[j] += total(p)
        u[j] += total(q)
        diagonal[j] = cov[base + j]


@njit(**INNER)
def downdate_two(cov: Any, d: int, m: Any, n: Any) -> None:
    """Downdate in place, S ← S − m mᵀ − n nᵀ, four rows at a time."""
    whole, b0 = d - d % 4, 0
    for j in range(0, whole, 4):
        b1, b2, b3 = b0 + j + 1, b0 + 2 * j + 3, b0 + 3 * j + 6
        f0, f1, f2, f3 = spread(-m[j]), spread(-m[j + 1]), spread(-m[j + 2]), spread(-m[j + 3])
        g0, g1, g2, g3 = spread(-n[j]), spread(-n[j + 1]), spread(-n[j + 2]), spread(-n[j + 3])
        for k in range(0, j, 4):
            mk, nk = take(m, k), take(n, k)
            put(cov, b0 + k, fma(f0, mk, fma(g0, nk, take(cov, b0 + k))))
            put(cov, b1 + k, fma(f1, mk, fma(g1, nk, take(cov, b1 + k))))
            put(cov, b2 + k, fma(f2, mk, fma(g2, nk, take(cov, b2 + k))))
            put(cov, b3 + k, fma(f3, mk, fma(g3, nk, take(cov, b3 + k))))
        downdate_row(cov, b0 + j, j, 1, m, n)
        downdate_row(cov, b1 + j, j, 2, m, n)
        downdate_row(cov, b2 + j, j, 3, m, n)
        put(cov, b3 + j, fma(f3, take(m, j), fma(g3, take(n, j), take(cov, b3 + j))))
        b0 = b3 + j + 4
    for j in range(whole, d):
        f, g = spread(-m[j]), spread(-n[j])
        for k in range(0, whole, 4):
            put(cov, b0 + k, fma(f, take(m, k), fma(g, take(n, k), take(cov, b0 + k))))
        downdate_row(cov, b0 + whole, whole, j + 1 - whole, m, n)
        b0 += j + 1


@njit(**INLINE)
def downdate_row(cov: Any, at: int, first: int, count: int, m: Any, n: Any) -> None:
    """The last `count` numbers of a row, the first of them in column `first`."""
    j = first + count - 1
    for k in range(count):
        cov[at + k] = fused(-m[j], m[first + k], fused(-n[j], n[first + k], cov[at + k]))


@njit(**INLINE)
def inner(p: Any, q: Any, d: int) -> Any:
    """Σ p_j q_j over vectors that are zero from d to the next multiple of four."""
    a = spread(0.0)
    for k in range(0, d, 4):
        a = fma(take(p, k), take(q, k), a)
    return total(a)


@njit(**INLINE)
def fetch_lines(start: int, size: int) -> None:
    """Start loading the bytes start … start + size − 1."""
    for at in range(start & -LINE, start + size, LINE):
        prefetch(at)


@njit(**INLINE)
def fetch_entity(batch: Batch, groups: Groups, e: int, means: Any, covs: Any) -> None:
    """Start loading an entity's mean, covariance and, where they are dense, rows."""
    code = groups.codes[e]
    fetch_lines(means.ctypes.data + code * means.strides[0], means.strides[0])
    fetch_lines(covs.ctypes.data + code * covs.strides[0], covs.strides[0])
    if batch.width > 0:
        for q in range(groups.ptr[e], groups.ptr[e + 1]):
            fetch_lines(batch.values.ctypes.data + 8 * groups.order[q] * batch.width, 8 * batch.width)


@njit(**INLINE)
def lay_pair(batch: Batch, rows: Rows, count: int, d: int, X: Any) -> None:
    """Dense rows into X (2, d), zero to the next multiple of four; a missing second one is zero."""
    if batch.width == d:
        values = floats(batch.values.ctypes.data)
        for r in range(count):
            x, first = floats(X.ctypes.data + r * X.strides[0]), rows.at[r] * d
            for k in range(0, d, 4):
                put(x, k, take_first(values, first + k, min(d - k, 4)))
    else:
        lay_rows(batch, rows.at, count, d, False, rows.position, X)
    if count == 1:
        x = floats(X.ctypes.data + X.strides[0])
        for k in range(0, d, 4):
            put(x, k, spread(0.0))


@njit(**INLINE)
def all_positive(p: Any, d: int) -> bool:
    """Whether d numbers are all positive and finite."""
    fine = True
    for j in range(d):
        fine = fine and 0.0 < p[j] < math.inf
    return fine


@njit(**INNER)
def spread_out(d: int, v: Any, u: Any, a: Any, f: Any, m: Any, n: Any, mean: Any, diagonal: Any) -> Any:
    """Rows m, n of M = L⁻¹ S (v, u) from factors `f`, mean += a_0 v + a_1 u, diagonal −= m² + n²; ‖a_0 v + a_1 u‖²."""
    f0, f1, f2 = spread(f[0]), spread(f[1]), spread(f[2])
    a0, a1, one, minus, zero = spread(a[0]), spread(a[1]), spread(1.0), spread(-1.0), spread(0.0)
    change = zero
    for k in range(0, d, 4):
        vk, uk = take(v, k), take(u, k)
        mk = fma(f0, vk, zero)
        nk = fma(f2, uk, fma(f1, mk, zero))
        put(m, k, mk)
        put(n, k, nk)
        moves = fma(a0, vk, fma(a1, uk, zero))
        change = fma(moves, moves, change)
        put(mean, k, fma(moves, one, take(mean, k)))
        put(diagonal, k, fma(fma(minus, mk, zero), mk, fma(fma(minus, nk, zero), nk, take(diagonal, k))))
    return total(change)


@njit(**INNER)
def update_pair(
    link: int, batch: Batch, count: int, e: int, code: int, rows: Rows, work: Any, means: Any, covs: Any,
    outcome: Outcome,
) -> None:  # fmt: skip
    """Update entity e, whose state is row `code`, with the one or two rows that `gather` has left in `rows`."""
    d, at, step, like = means.shape[1], work.ctypes.data, work.strides[0], pointer(0, means)
    x, y, v, u = floats(at), floats(at + step), floats(at + 2 * step), floats(at + 3 * step)
    m, n, mean, diagonal = floats(at + 4 * step), floats(at + 5 * step), floats(at + 6 * step), floats(at + 7 * step)
    stored = pointer(means.ctypes.data + code * means.strides[0], like)
    cov = pointer(covs.ctypes.data + code * covs.strides[0], like)
    lay_pair(batch, rows, count, d, work)
    for k in range(0, d, 4):
        put(mean, k, take_first(stored, k, min(d - k, 4)))
    times_two(cov, d, x, y, v, u, diagonal)
    K = inner(x, v, d), inner(x, u, d), inner(y, u, d)
    y0, w0, o0 = rows.given[0, LABEL], rows.given[0, WEIGHT], rows.given[0, OFFSET]
    y1 = w1 = o1 = 0.0
    if count == 2:
        y1, w1, o1 = rows.given[1, LABEL], rows.given[1, WEIGHT], rows.given[1, OFFSET]
    o = o0 + inner(x, mean, d), o1 + inner(y, mean, d)
    status, steps, decrement, a0, a1, e0, e1, h0, h1 = mode_of_two(link, (y0, y1), (w0, w1), o, K)
    determinant, change = 1.0, 0.0
    if status == CONVERGED:
        status, determinant, i0, tie, i2 = split(K, h0, h1)
    if status == CONVERGED:
        factors = math.sqrt(h0) * i0, tie, math.sqrt(h1) * i2
        change = spread_out(d, v, u, (a0, a1), factors, m, n, mean, diagonal)
        if not all_positive(diagonal, d):
            status = NOT_POSITIVE_DEFINITE
    outcome.status[e], outcome.steps[e], outcome.decrement[e] = status, steps, decrement
    outcome.evidence[e] = outcome.change[e] = math.nan
    if status != CONVERGED:
        return
    losses = w0 * loss(link, y0, e0)
    if count == 2:
        losses += w1 * loss(link, y1, e1)
    penalty = 0.5 * (a0 * (K[0] * a0 + K[1] * a1) + a1 * (K[1] * a0 + K[2] * a1))
    outcome.evidence[e] = -losses - penalty - 0.5 * math.log(determinant)
    outcome.change[e] = math.sqrt(change)
    for j in range(d):
        stored[j] = mean[j]
    downdate_two(cov, d, m, n)
