"""Minibatch mode for entities of one or two rows on packed covariances, compiled: most of a young stream.

The equations are `nearline.glmix._kernels._newton.dual`'s, with everything that n ≤ 2 allows. The stored triangle is
read once, for V Xᵀ of both rows, and written once, with the rank-2 downdate; a missing second row is one of weight 0.

    M = L⁻¹ S X V,   LLᵀ = I + S K S,   V_new = V − MᵀM
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from nearline.glmix._kernels._eights import EIGHT
from nearline.glmix._kernels._lanes import (
    INLINE,
    INNER,
    LINE,
    diagonal_of,
    floats,
    fma,
    fused,
    mirrored,
    pack,
    pointer,
    prefetch,
    put,
    spread,
    take,
    take_first,
    total,
    totals,
    unless_positive,
)
from nearline.glmix._kernels._linalg import CONVERGED, NOT_POSITIVE_DEFINITE
from nearline.glmix._kernels._memory import Outcome, Pairs, Rows
from nearline.glmix._kernels._pair_mode import mode_of_two, split
from nearline.glmix._kernels._pair_modes import (
    A0,
    A1,
    DECREMENT,
    EVIDENCE,
    F0,
    F1,
    F2,
    FIELDS,
    K00,
    K01,
    K11,
    O0,
    O1,
    SOLVED,
    STEPS,
    W0,
    W1,
    Y0,
    Y1,
    modes_of_eight,
)
from nearline.glmix._kernels._rows import LABEL, OFFSET, WEIGHT, Batch, Groups, lay_rows
from nearline.glmix._kernels._scalar import LOGIT, loss

AHEAD = 3
"""Entities between the one whose memory is asked for and the one that is updated."""


@njit(**INLINE)
def fetch_lines(start: int, size: int) -> None:
    """Start loading the bytes start … start + size − 1."""
    for at in range(start & -LINE, start + size, LINE):
        prefetch(at)


@njit(**INLINE)
def add_block(cov: Any, j: int, b: Any, r: Any, x: Any, y: Any, v: Any, u: Any, diagonal: Any) -> None:
    """What four rows j … j + 3 of S, at `b`, add to v = S x and u = S y; `r` is what they hold from column j."""
    b0, b1, b2, b3 = b
    r0, r1, r2, r3 = r
    f0, f1, f2, f3 = spread(x[j]), spread(x[j + 1]), spread(x[j + 2]), spread(x[j + 3])
    g0, g1, g2, g3 = spread(y[j]), spread(y[j + 1]), spread(y[j + 2]), spread(y[j + 3])
    one, zero = spread(1.0), spread(0.0)
    p0 = p1 = p2 = p3 = q0 = q1 = q2 = q3 = zero
    for k in range(0, j, 4):
        xk, yk = take(x, k), take(y, k)
        c0, c1, c2, c3 = take(cov, b0 + k), take(cov, b1 + k), take(cov, b2 + k), take(cov, b3 + k)
        p0, p1, p2, p3 = fma(c0, xk, p0), fma(c1, xk, p1), fma(c2, xk, p2), fma(c3, xk, p3)
        q0, q1, q2, q3 = fma(c0, yk, q0), fma(c1, yk, q1), fma(c2, yk, q2), fma(c3, yk, q3)
        # What is there comes last, so that these four rows need not wait for the four before.
        put(v, k, fma(fma(c0, f0, fma(c1, f1, fma(c2, f2, fma(c3, f3, zero)))), one, take(v, k)))
        put(u, k, fma(fma(c0, g0, fma(c1, g1, fma(c2, g2, fma(c3, g3, zero)))), one, take(u, k)))
    # What lies beyond a row's diagonal is the next row's beginning: symmetry fills it in.
    s0, s1, s2 = mirrored(r0, r1, r2, r3, 0), mirrored(r0, r1, r2, r3, 1), mirrored(r0, r1, r2, r3, 2)
    put(v, j, fma(s0, f0, fma(s1, f1, fma(s2, f2, fma(r3, f3, totals(p0, p1, p2, p3))))))
    put(u, j, fma(s0, g0, fma(s1, g1, fma(s2, g2, fma(r3, g3, totals(q0, q1, q2, q3))))))
    put(diagonal, j, diagonal_of(r0, r1, r2, r3))


@njit(**INNER)
def times_two(cov: Any, d: int, ahead: int, width: int, x: Any, y: Any, v: Any, u: Any, diagonal: Any) -> None:
    """Products v ← S x and u ← S y and the diagonal of S, four rows at a time; all vectors to the next four places.

    On the way, the covariance `ahead` of numbers of `width` bytes starts loading: all at once would fill every buffer.
    """
    whole, b0 = d - d % 4, 0
    for j in range(0, whole, 4):
        fetch_lines(ahead + width * b0, width * (4 * j + 10))
        b1, b2, b3 = b0 + j + 1, b0 + 2 * j + 3, b0 + 3 * j + 6
        r = take(cov, b0 + j), take(cov, b1 + j), take(cov, b2 + j), take(cov, b3 + j)
        add_block(cov, j, (b0, b1, b2, b3), r, x, y, v, u, diagonal)
        b0 = b3 + j + 4
    if whole == d:
        return
    # A last block of fewer rows: its missing ones are read where its last one is, against zeros in x and y.
    fetch_lines(ahead + width * b0, width * (d * (d + 1) // 2 - b0))
    last = d * (d - 1) // 2
    b1, b2 = min(b0 + whole + 1, last), min(b0 + 2 * whole + 3, last)
    r0, r1 = take_first(cov, b0 + whole, 1), take_first(cov, b1 + whole, min(d - whole, 2))
    r2, none = take_first(cov, b2 + whole, d - whole), spread(0.0)
    add_block(cov, whole, (b0, b1, b2, last), (r0, r1, r2, none), x, y, v, u, diagonal)
    one, zero = spread(1.0), spread(0.0)
    kept = pack(1.0, 1.0 * min(d - whole - 1, 1), 1.0 * max(d - whole - 2, 0), 0.0)
    put(v, whole, fma(take(v, whole), kept, zero))
    put(u, whole, fma(take(u, whole), kept, zero))
    put(diagonal, whole, fma(spread(-1.0), kept, fma(one, one, take(diagonal, whole))))


@njit(**INLINE)
def reduced(cov: Any, at: int, f: Any, g: Any, mk: Any, nk: Any) -> Any:
    """Four numbers of a row of S − m mᵀ − n nᵀ, with f and g minus the row's own m and n."""
    return fma(f, mk, fma(g, nk, take(cov, at)))


@njit(**INNER)
def downdate_two(cov: Any, d: int, m: Any, n: Any) -> None:
    """Downdate in place, S ← S − m mᵀ − n nᵀ, four rows at a time."""
    for j in range(min(d, 4)):
        downdate_row(cov, j * (j + 1) // 2, j, m, n)
    whole, b0 = d - d % 4, 10
    for j in range(4, whole, 4):
        b1, b2, b3 = b0 + j + 1, b0 + 2 * j + 3, b0 + 3 * j + 6
        f0, f1, f2, f3 = spread(-m[j]), spread(-m[j + 1]), spread(-m[j + 2]), spread(-m[j + 3])
        g0, g1, g2, g3 = spread(-n[j]), spread(-n[j + 1]), spread(-n[j + 2]), spread(-n[j + 3])
        # Each row's last four, taken before the loop writes some of them: the same numbers twice.
        e0 = reduced(cov, b0 + j - 3, f0, g0, take(m, j - 3), take(n, j - 3))
        e1 = reduced(cov, b1 + j - 2, f1, g1, take(m, j - 2), take(n, j - 2))
        e2 = reduced(cov, b2 + j - 1, f2, g2, take(m, j - 1), take(n, j - 1))
        e3 = reduced(cov, b3 + j, f3, g3, take(m, j), take(n, j))
        for k in range(0, j, 4):
            mk, nk = take(m, k), take(n, k)
            put(cov, b0 + k, reduced(cov, b0 + k, f0, g0, mk, nk))
            put(cov, b1 + k, reduced(cov, b1 + k, f1, g1, mk, nk))
            put(cov, b2 + k, reduced(cov, b2 + k, f2, g2, mk, nk))
            put(cov, b3 + k, reduced(cov, b3 + k, f3, g3, mk, nk))
        put(cov, b0 + j - 3, e0)
        put(cov, b1 + j - 2, e1)
        put(cov, b2 + j - 1, e2)
        put(cov, b3 + j, e3)
        b0 = b3 + j + 4
    for j in range(max(whole, 4), d):
        f, g, left = spread(-m[j]), spread(-n[j]), j - 3
        e = reduced(cov, b0 + left, f, g, take(m, left), take(n, left))
        for k in range(0, whole, 4):
            put(cov, b0 + k, reduced(cov, b0 + k, f, g, take(m, k), take(n, k)))
        put(cov, b0 + left, e)
        b0 += j + 1


@njit(**INLINE)
def downdate_row(cov: Any, at: int, j: int, m: Any, n: Any) -> None:
    """One short row of S − m mᵀ − n nᵀ."""
    for k in range(j + 1):
        cov[at + k] = fused(-m[j], m[k], fused(-n[j], n[k], cov[at + k]))


@njit(**INLINE)
def fetch_covariance(code: int, covs: Any) -> None:
    """Start loading the covariance in state row `code`."""
    fetch_lines(covs.ctypes.data + code * covs.strides[0], covs.strides[0])


@njit(**INLINE)
def fetch_entity(batch: Batch, groups: Groups, e: int, means: Any) -> None:
    """Start loading an entity's mean and, where they are dense, rows."""
    code = groups.codes[e]
    fetch_lines(means.ctypes.data + code * means.strides[0], means.strides[0])
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
def rest_of(p: Any, k: int, d: int) -> Any:
    """The numbers p[k : k + 4], and zeros from d."""
    return take(p, k) if k + 4 <= d else take_first(p, k, d - k)


@njit(**INLINE)
def prepare_pair(
    batch: Batch, count: int, e: int, code: int, ahead: int, slot: int, rows: Rows, pairs: Pairs, means: Any, covs: Any
) -> None:
    """Put entity e, whose state is row `code`, into `slot` with the one or two rows that `gather` left in `rows`."""
    d, step, like = means.shape[1], pairs.shared.strides[0], pointer(0, means)
    x, y = floats(pairs.shared.ctypes.data), floats(pairs.shared.ctypes.data + step)
    v, u, diagonal = own(pairs, slot)
    mean = pointer(means.ctypes.data + code * means.strides[0], like)
    first = covs.ctypes.data
    lay_pair(batch, rows, count, d, pairs.shared)
    cov, fetched = pointer(first + code * covs.strides[0], like), first + ahead * covs.strides[0]
    times_two(cov, d, fetched, covs.itemsize, x, y, v, u, diagonal)
    xv = xu = yu = xm = ym = spread(0.0)
    for k in range(0, d, 4):
        xk, yk, vk, uk, mk = take(x, k), take(y, k), take(v, k), take(u, k), rest_of(mean, k, d)
        xv, xu, yu, xm, ym = fma(xk, vk, xv), fma(xk, uk, xu), fma(yk, uk, yu), fma(xk, mk, xm), fma(yk, mk, ym)
    p = floats(pairs.numbers.ctypes.data + 8 * slot)
    p[K00], p[K01], p[K11] = total(xv), total(xu), total(yu)
    p[Y0], p[W0], p[O0] = rows.given[0, LABEL], rows.given[0, WEIGHT], rows.given[0, OFFSET] + total(xm)
    p[Y1] = p[W1] = p[O1] = 0.0
    if count == 2:
        p[Y1], p[W1], p[O1] = rows.given[1, LABEL], rows.given[1, WEIGHT], rows.given[1, OFFSET] + total(ym)
    pairs.who[slot, 0], pairs.who[slot, 1] = e, code


@njit(**INLINE)
def own(pairs: Pairs, slot: int) -> Any:
    """(v, u, diagonal) of a slot."""
    step = pairs.own.strides[0]
    at = pairs.own.ctypes.data + 3 * slot * step
    return floats(at), floats(at + step), floats(at + 2 * step)


@njit(**INNER)
def finish_pairs(link: int, count: int, pairs: Pairs, means: Any, covs: Any, outcome: Outcome) -> None:
    """Solve and write the first `count` slots."""
    numbers = floats(pairs.numbers.ctypes.data)
    for slot in range(count, EIGHT):
        for field in range(FIELDS):
            numbers[EIGHT * field + slot] = 0.0
    if link == LOGIT:
        modes_of_eight(numbers)
    for slot in range(count):
        p, status = floats(pairs.numbers.ctypes.data + 8 * slot), CONVERGED
        if link != LOGIT or p[SOLVED] == 0.0:
            status = mode_alone(link, p)
        p[SOLVED] = write_mean(slot, status, p, pairs, means, outcome)
    # After all means: what `write_mean` has left in v and u is then out of the way of these stores.
    like = pointer(0, means)
    for slot in range(count):
        if numbers[SOLVED + slot] > 0.0:
            v, u, _ = own(pairs, slot)
            cov = pointer(covs.ctypes.data + pairs.who[slot, 1] * covs.strides[0], like)
            downdate_two(cov, means.shape[1], v, u)


@njit(**INNER)
def mode_alone(link: int, p: Any) -> int:
    """What `modes_of_eight` does, for the one pair whose numbers are at `p`; a status."""
    K = p[K00], p[K01], p[K11]
    solved = mode_of_two(link, (p[Y0], p[Y1]), (p[W0], p[W1]), (p[O0], p[O1]), K)
    status, steps, decrement, a0, a1, e0, e1, h0, h1 = solved
    p[STEPS], p[DECREMENT], p[A0], p[A1] = steps, decrement, a0, a1
    if status != CONVERGED:
        return status
    status, determinant, i0, tie, i2 = split(K, h0, h1)
    p[F0], p[F1], p[F2] = math.sqrt(h0) * i0, tie, math.sqrt(h1) * i2
    losses = p[W0] * loss(link, p[Y0], e0)
    if p[W1] > 0.0:
        losses += p[W1] * loss(link, p[Y1], e1)
    penalty = 0.5 * (a0 * (K[0] * a0 + K[1] * a1) + a1 * (K[1] * a0 + K[2] * a1))
    p[EVIDENCE] = -losses - penalty - 0.5 * math.log(determinant)
    return status


@njit(**INLINE)
def spread_out(d: int, p: Any, v: Any, u: Any, diagonal: Any, stored: Any, mean: Any) -> Any:
    """Rows M = L⁻¹ S (v, u) in place of v and u, mean ← stored + a_0 v + a_1 u; (‖a_0 v + a_1 u‖², is diag V_new > 0)."""
    f0, f1, f2, a0, a1 = spread(p[F0]), spread(p[F1]), spread(p[F2]), spread(p[A0]), spread(p[A1])
    one, minus, zero = spread(1.0), spread(-1.0), spread(0.0)
    change = bad = zero
    for k in range(0, d, 4):
        vk, uk = take(v, k), take(u, k)
        mk = fma(f0, vk, zero)
        nk = fma(f2, uk, fma(f1, mk, zero))
        put(v, k, mk)
        put(u, k, nk)
        moves = fma(a0, vk, fma(a1, uk, zero))
        change = fma(moves, moves, change)
        put(mean, k, fma(moves, one, rest_of(stored, k, d)))
        left = fma(fma(minus, mk, zero), mk, fma(fma(minus, nk, zero), nk, take(diagonal, k)))
        bad = fma(unless_positive(left), one, bad)
    return total(change), total(bad) == 0.0


@njit(**INLINE)
def write_mean(slot: int, status: int, p: Any, pairs: Pairs, means: Any, outcome: Outcome) -> float:
    """Write the mean of a slot's entity and what its update came to, where it succeeded; whether it did (1 or 0)."""
    e, code, d = pairs.who[slot, 0], pairs.who[slot, 1], means.shape[1]
    mean = floats(pairs.shared.ctypes.data + 2 * pairs.shared.strides[0])
    stored = pointer(means.ctypes.data + code * means.strides[0], pointer(0, means))
    v, u, diagonal = own(pairs, slot)
    change = 0.0
    if status == CONVERGED:
        change, positive = spread_out(d, p, v, u, diagonal, stored, mean)
        status = CONVERGED if positive else NOT_POSITIVE_DEFINITE
    outcome.status[e], outcome.steps[e], outcome.decrement[e] = status, int(p[STEPS]), p[DECREMENT]
    outcome.evidence[e] = outcome.change[e] = math.nan
    if status != CONVERGED:
        return 0.0
    outcome.evidence[e], outcome.change[e] = p[EVIDENCE], math.sqrt(change)
    for k in range(0, d - 3, 4):
        put(stored, k, take(mean, k))
    for j in range(d & -4, d):
        stored[j] = mean[j]
    return 1.0
