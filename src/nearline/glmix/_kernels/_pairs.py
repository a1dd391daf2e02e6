"""Minibatch mode for entities of one or two rows on packed covariances, compiled: most of a young stream.

The equations are `nearline.glmix._kernels._newton.dual`'s, with everything that n ≤ 2 allows. The stored triangle is
read once, for V Xᵀ of both rows, and written once, with the rank-2 downdate; a missing second row is one of weight 0.
Entities wait until there are eight, whose modes are found side by side: between products and downdate they stay cached.

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
    floats,
    fma,
    pointer,
    put,
    spread,
    take,
    take_first,
    total,
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
)  # fmt: skip
from nearline.glmix._kernels._pair_products import downdate_two, fetch_lines, times_two
from nearline.glmix._kernels._rows import LABEL, OFFSET, WEIGHT, Batch, Groups, lay_rows
from nearline.glmix._kernels._scalar import LOGIT, loss

AHEAD = 5
"""Entities between the one whose memory is asked for and the one that is updated."""


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


# Merged into the kernel, as is `write_mean`: to pass all of these arrays on takes as long as a quarter of the update.
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
def mode_alone(link: int, p: Any) -> Any:
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
    """Rows M = L⁻¹ S (v, u) in place of v, u and mean ← stored + a_0 v + a_1 u; (‖a_0 v + a_1 u‖², is V_new_jj > 0)."""
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
