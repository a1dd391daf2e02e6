"""What one event does to one block, compiled: multiply by its covariance S_b, then downdate it.

S_b is a packed lower triangle (full) or a vector of variances (diagonal). A design is sparse (`used` entries) or
written out (`used` = DENSE). Random-walk variance that the event brings stays aside, as a vector q added to the
diagonal, until the event is learned: a refused event changes nothing.

Dimensions after the last one that a design touches cost little and, where they stand at the prior, change no bit:
`nearline.glmix._kernels._lanes` tells how sums are ordered.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from nearline.glmix._kernels._lanes import (
    INNER,
    floats,
    fma,
    fused,
    ints,
    pack,
    pointer,
    put,
    spread,
    take,
    take_first,
    total,
    totals,
)
from nearline.glmix._kernels._records import DENSE, DIAGONAL


@njit(**INNER)
def times_dense(cov: Any, d: int, x: Any, v: Any) -> None:
    """Product v ← S x, four rows at a time: each stored number serves its row and its column at once."""
    whole, b0 = d - d % 4, 0
    for j in range(0, whole, 4):
        b1, b2, b3 = b0 + j + 1, b0 + 2 * j + 3, b0 + 3 * j + 6
        f0, f1, f2, f3 = spread(x[j]), spread(x[j + 1]), spread(x[j + 2]), spread(x[j + 3])
        a0 = a1 = a2 = a3 = spread(0.0)
        for k in range(0, j, 4):
            xk = take(x, k)
            c0, c1, c2, c3 = take(cov, b0 + k), take(cov, b1 + k), take(cov, b2 + k), take(cov, b3 + k)
            a0, a1, a2, a3 = fma(c0, xk, a0), fma(c1, xk, a1), fma(c2, xk, a2), fma(c3, xk, a3)
            put(v, k, fma(c0, f0, fma(c1, f1, fma(c2, f2, fma(c3, f3, take(v, k))))))
        b0, b1, b2, b3 = b0 + j, b1 + j, b2 + j, b3 + j
        c10, c20, c21, c30, c31, c32 = cov[b1], cov[b2], cov[b2 + 1], cov[b3], cov[b3 + 1], cov[b3 + 2]
        out = fma(pack(cov[b0], c10, c20, c30), f0, totals(a0, a1, a2, a3))
        out = fma(pack(c10, cov[b1 + 1], c21, c31), f1, out)
        out = fma(pack(c20, c21, cov[b2 + 2], c32), f2, out)
        # Written as a whole: four scalar stores would stall the next rows' load of them.
        put(v, j, fma(pack(c30, c31, c32, cov[b3 + 3]), f3, out))
        b0 = b3 + 4
    # The rows left over, as if three zero rows followed: the last one first, as above.
    for j in range(d - 1, whole - 1, -1):
        base, f, a = j * (j + 1) // 2, spread(x[j]), spread(0.0)
        for k in range(0, whole, 4):
            c = take(cov, base + k)
            a = fma(c, take(x, k), a)
            put(v, k, fma(c, f, take(v, k)))
        v[j] = total(a)
    for k in range(whole, d):
        for j in range(whole, d):
            low, high = min(j, k), max(j, k)
            v[j] = fused(cov[high * (high + 1) // 2 + low], x[k], v[j])


@njit(**INNER)
def times_below(cov: Any, d: int, lead: int, x: Any, v: Any) -> None:
    """Rows lead … d − 1 of S x, for an x that is zero from `lead` on, a multiple of four below d."""
    j, b0 = lead, lead * (lead + 1) // 2
    while j + 4 <= d:
        b1, b2, b3 = b0 + j + 1, b0 + 2 * j + 3, b0 + 3 * j + 6
        a0 = a1 = a2 = a3 = spread(0.0)
        for k in range(0, lead, 4):
            xk = take(x, k)
            a0, a1 = fma(take(cov, b0 + k), xk, a0), fma(take(cov, b1 + k), xk, a1)
            a2, a3 = fma(take(cov, b2 + k), xk, a2), fma(take(cov, b3 + k), xk, a3)
        put(v, j, totals(a0, a1, a2, a3))
        b0 = b3 + j + 4
        j += 4
    while j < d:
        a0 = spread(0.0)
        for k in range(0, lead, 4):
            a0 = fma(take(cov, b0 + k), take(x, k), a0)
        v[j] = total(a0)
        b0 += j + 1
        j += 1


@njit(**INNER)
def times_sparse(cov: Any, d: int, slots: Any, entries: Any, used: int, v: Any) -> None:
    """Product v ← S x for a sparse x: per entry one stored row, then the column below it."""
    for k in range(0, d, 4):
        put(v, k, spread(0.0))
    for p in range(used):
        j, x = slots[p], entries[p]
        base, whole, f = j * (j + 1) // 2, (j + 1) - (j + 1) % 4, spread(x)
        for k in range(0, whole, 4):
            put(v, k, fma(take(cov, base + k), f, take(v, k)))
        for k in range(whole, j + 1):
            v[k] = fused(cov[base + k], x, v[k])
        below = base + j
        for k in range(j + 1, d):
            below += k
            v[k] = fused(cov[below], x, v[k])


@njit(**INNER)
def times_diagonal(b: Any, like: Any) -> Any:
    """s_b and v = (S_b + diag q) x of a diagonal block, on the coordinates that the event touches."""
    x, v, q, slots, entries = floats(b.x), floats(b.v), floats(b.q), ints(b.slots), floats(b.entries)
    cov, s = pointer(b.cov, like), 0.0
    if b.used == DENSE:
        a = spread(0.0)
        for j in range(0, b.d, 4):
            xj, n = take(x, j), min(b.d - j, 4)
            # S x + q x, the latter for nothing: q has room for four and is zero unless coefficients walk.
            vj = fma(take_first(cov, j, n), xj, spread(0.0))
            vj = fma(take(q, j), xj, vj)
            put(v, j, vj)
            a = fma(vj, xj, a)
        return total(a)
    for p in range(b.used):
        j = slots[p]
        v[j] = (cov[j] + q[j]) * entries[p]
        s += v[j] * entries[p]
    return s


@njit(**INNER)
def times(b: Any, like: Any) -> Any:
    """s_b = xᵀ (S_b + diag q) x, leaving (S_b + diag q) x in `b.v`."""
    if b.kind == DIAGONAL:
        return times_diagonal(b, like)
    d, walking, s = b.d, b.walking > 0, 0.0
    x, v, q, slots, entries = floats(b.x), floats(b.v), floats(b.q), ints(b.slots), floats(b.entries)
    if b.used != DENSE:
        times_sparse(pointer(b.cov, like), d, slots, entries, b.used, v)
        for p in range(b.used):
            if walking:
                v[slots[p]] = fused(q[slots[p]], entries[p], v[slots[p]])
        for p in range(b.used):
            s += v[slots[p]] * entries[p]
        return s
    lead = min(d, (b.top + 4) & -4)
    times_dense(pointer(b.cov, like), lead, x, v)
    if lead < d:
        times_below(pointer(b.cov, like), d, lead, x, v)
    a = spread(0.0)
    for k in range(0, lead, 4):
        vk, xk = take(v, k), take(x, k)
        if walking:
            vk = fma(take(q, k), xk, vk)
            put(v, k, vk)
        a = fma(vk, xk, a)
    return total(a)


@njit(**INNER)
def downdate_full(cov: Any, out: Any, d: int, c: float, v: Any) -> None:
    """Downdate, out ← S − c v vᵀ, four rows at a time; `out` may be S itself."""
    whole, b0 = d - d % 4, 0
    for j in range(0, whole, 4):
        b1, b2, b3 = b0 + j + 1, b0 + 2 * j + 3, b0 + 3 * j + 6
        v0, v1, v2 = v[j], v[j + 1], v[j + 2]
        g0, g1, g2, g3 = -c * v0, -c * v1, -c * v2, -c * v[j + 3]
        f0, f1, f2, f3 = spread(g0), spread(g1), spread(g2), spread(g3)
        for k in range(0, j, 4):
            vk = take(v, k)
            put(out, b0 + k, fma(f0, vk, take(cov, b0 + k)))
            put(out, b1 + k, fma(f1, vk, take(cov, b1 + k)))
            put(out, b2 + k, fma(f2, vk, take(cov, b2 + k)))
            put(out, b3 + k, fma(f3, vk, take(cov, b3 + k)))
        b0, b1, b2, b3 = b0 + j, b1 + j, b2 + j, b3 + j
        out[b0] = fused(g0, v0, cov[b0])
        out[b1], out[b1 + 1] = fused(g1, v0, cov[b1]), fused(g1, v1, cov[b1 + 1])
        out[b2], out[b2 + 1] = fused(g2, v0, cov[b2]), fused(g2, v1, cov[b2 + 1])
        out[b2 + 2] = fused(g2, v2, cov[b2 + 2])
        put(out, b3, fma(f3, take(v, j), take(cov, b3)))
        b0 = b3 + 4
    for j in range(whole, d):
        g, f = -c * v[j], spread(-c * v[j])
        for k in range(0, whole, 4):
            put(out, b0 + k, fma(f, take(v, k), take(cov, b0 + k)))
        for k in range(whole, j + 1):
            out[b0 + k] = fused(g, v[k], cov[b0 + k])
        b0 += j + 1


@njit(**INNER)
def downdate_diagonal(b: Any, like: Any, a: float, h: float, new_mean: Any, new_cov: Any) -> None:
    """μ_b += a v on the touched coordinates, and their precisions' diagonal grows: 1/S_jj += h x_j²."""
    x, v, q, slots, entries = floats(b.x), floats(b.v), floats(b.q), ints(b.slots), floats(b.entries)
    mean, cov, dims = pointer(b.mean, like), pointer(b.cov, like), ints(b.walk_dims)
    if b.mean == b.own_mean:
        for j in range(b.d):
            new_mean[j], new_cov[j] = mean[j], cov[j]
    for k in range(b.walking):
        new_cov[dims[k]] += q[dims[k]]
    if b.used == DENSE:
        for j in range(b.d):
            new_mean[j] = fused(a, v[j], new_mean[j])
            new_cov[j] /= fused(h * x[j], v[j], 1.0)
    for p in range(b.used):
        j = slots[p]
        new_mean[j] = fused(a, v[j], new_mean[j])
        new_cov[j] /= fused(h * entries[p], v[j], 1.0)


@njit(**INNER)
def downdate(b: Any, like: Any, a: float, c: float, h: float) -> None:
    """Store what the event teaches the entity: μ_b + a v and S_b + diag q − c v vᵀ."""
    new_mean = pointer(b.mean_at + b.entity * b.mean_step, like)
    new_cov = pointer(b.cov_at + b.entity * b.cov_step, like)
    if b.kind == DIAGONAL:
        downdate_diagonal(b, like, a, h, new_mean, new_cov)
        return
    d, v, q, dims = b.d, floats(b.v), floats(b.q), ints(b.walk_dims)
    mean, cov = pointer(b.mean, like), pointer(b.cov, like)
    for k in range(b.walking):
        j = dims[k]
        cov[j * (j + 1) // 2 + j] += q[j]
    whole, f = d - d % 4, spread(a)
    for k in range(0, whole, 4):
        put(new_mean, k, fma(f, take(v, k), take(mean, k)))
    for k in range(whole, d):
        new_mean[k] = fused(a, v[k], mean[k])
    downdate_full(cov, new_cov, d, c, v)
