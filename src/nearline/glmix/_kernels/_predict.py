"""What the model says of one row, compiled: its margin z and that margin's variance s, as every entity stands by then.

z = offset + Σ_b x_bᵀ μ_b and s = Σ_b x_bᵀ S_b x_b. An entity never seen (code −1) stands at the prior. Nothing here
writes a posterior: what has been forgotten since the last update is forgotten on a copy.
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from nearline.glmix._kernels._blocks import times
from nearline.glmix._kernels._forget import block_at
from nearline.glmix._kernels._lanes import (
    INLINE,
    INNER,
    call,
    floats,
    fma,
    fused,
    int32s,
    ints,
    pointer,
    put,
    spread,
    take,
    take_first,
    total,
)
from nearline.glmix._kernels._records import DENSE, DIAGONAL, FULL, LOWRANK, PLAN

STEP = PLAN.itemsize


@njit(**INLINE)
def walk(b: Any, like: Any) -> None:
    """Random-walk variance q that each coefficient has gained by now, never beyond its prior variance."""
    dims, q, event, second = ints(b.walk_dims), floats(b.q), floats(b.walk_event), floats(b.walk_second)
    cov, cov0, dt = pointer(b.cov, like), pointer(b.cov0, like), max(b.since, 0.0)
    for k in range(b.walking):
        j = dims[k]
        p = j if b.kind == DIAGONAL else j * (j + 1) // 2 + j
        gained = min(fused(second[j], dt, event[j]), cov0[p] - cov[p])
        q[j] = gained if gained > 0.0 and not math.isnan(b.since) else 0.0


@njit(**INLINE)
def locate(rows: Any, plan: int, like: Any, r: int, i: int) -> Any:
    """Point block r at the posterior of row i's entity as it is by row i's time."""
    b, e = block_at(plan + r * STEP), int32s(rows.entities)[r * rows.n + i]
    b.entity = e
    if e < 0:
        b.mean = b.mu0
        b.cov = b.cov0
        b.since = math.nan
    else:
        b.mean = b.mean_at + e * b.mean_step
        b.cov = b.cov_at + e * b.cov_step
        b.since = floats(rows.time)[i] - floats(b.last_at)[e]
        if b.relax != 0 and not math.isnan(b.since):
            call(b.relax, plan + r * STEP)
    if b.walking > 0:
        walk(b, like)
    return b


@njit(**INLINE)
def gather(rows: Any, b: Any, i: int) -> None:
    """Row i's features on the block's own dimensions."""
    indptr, indices, values = ints(rows.indptr), int32s(rows.indices), floats(rows.values)
    local, slots, entries, used = int32s(b.local), ints(b.slots), floats(b.entries), 0
    for p in range(indptr[i], indptr[i + 1]):
        j = local[indices[p]]
        if j >= 0:
            slots[used] = j
            entries[used] = values[p]
            used += 1
    b.used = used


@njit(**INLINE)
def dot(p: Any, q: Any, d: int) -> Any:
    """Σ p_j q_j over d numbers."""
    whole, a = d - d % 4, spread(0.0)
    for k in range(0, whole, 4):
        a = fma(take(p, k), take(q, k), a)
    if whole < d:
        a = fma(take_first(p, whole, d - whole), take_first(q, whole, d - whole), a)
    return total(a)


@njit(**INLINE)
def add(x: Any, p: Any, d: int) -> None:
    """Add in place, x += p, over d numbers."""
    whole, one = d - d % 4, spread(1.0)
    for k in range(0, whole, 4):
        put(x, k, fma(one, take(p, k), take(x, k)))
    for k in range(whole, d):
        x[k] += p[k]


@njit(**INLINE)
def write_out(b: Any) -> None:
    """Write a block's sparse entries as a dense design; a loadings block has none and gets zeros."""
    x, slots, entries = floats(b.x), ints(b.slots), floats(b.entries)
    for k in range(0, b.d, 4):
        put(x, k, spread(0.0))
    if b.of < 0:
        for p in range(b.used):
            x[slots[p]] += entries[p]
    b.used = DENSE


@njit(**INLINE)
def last_of(b: Any) -> Any:
    """The last dimension that a sparse design touches, −1 for none."""
    slots, last = ints(b.slots), -1
    for p in range(b.used):
        last = max(last, slots[p])
    return last


@njit(**INLINE)
def lay_out(plan: int, R: int, like: Any) -> None:
    """Write out the designs of the loadings, of the blocks that they load on, and where features are many.

    Many of the dimensions up to the last that the row touches: those after it must not decide how sums are rounded.

    The margin holds β_uᵀ γ_m; linearised at the means, γ_m has the design μ_u and β_u's gains the mean of γ_m.
    """
    for r in range(R):
        b = block_at(plan + r * STEP)
        b.top = b.d - 1 if b.of >= 0 or b.loaded else last_of(b)
        if b.of >= 0 or b.loaded or (3 * b.used > b.top + 1 and b.kind == FULL):
            write_out(b)
    for r in range(R):
        b = block_at(plan + r * STEP)
        if b.of >= 0:
            of = block_at(plan + b.of * STEP)
            add(floats(b.x), pointer(of.mean, like), b.d)
            add(floats(of.x), pointer(b.mean, like), b.d)


@njit(**INNER)
def margin(rows: Any, plan: int, R: int, like: Any, i: int) -> Any:
    """Margin z of row i; leaves every block pointing at its posterior."""
    z = floats(rows.offset)[i]
    for r in range(R):
        b = locate(rows, plan, like, r, i)
        if b.of < 0:
            gather(rows, b, i)
            mean, slots, entries = pointer(b.mean, like), ints(b.slots), floats(b.entries)
            for p in range(b.used):
                z += entries[p] * mean[slots[p]]
    for r in range(R):
        b = block_at(plan + r * STEP)
        if b.of >= 0:
            of = block_at(plan + b.of * STEP)
            z += dot(pointer(b.mean, like), pointer(of.mean, like), b.d)
    return z


@njit(**INNER)
def variance(plan: int, R: int, like: Any) -> Any:
    """Variance s of the row that `margin` has just seen; leaves S x, or what stands for it, in every block.

    A locked block is taken at its mean, as if that were known.
    """
    lay_out(plan, R, like)
    s = 0.0
    for r in range(R):
        b = block_at(plan + r * STEP)
        if b.locked:
            continue
        if b.kind == LOWRANK:
            call(b.project, plan + r * STEP)
            s += b.own
        else:
            s += times(b, like)
    return s
