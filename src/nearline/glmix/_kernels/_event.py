"""Event mode, compiled: one joint update of all blocks after each event, in covariance form.

For one event with stacked design x, block-diagonal covariance S, margin z = offset + μᵀx and s = xᵀSx, the mode lies on
the line μ + a S x, so the update of every block at once is a one-dimensional solve for the new margin η:

    η = z − s w g(η),    a = −w g(η),    c = w D(η) / (1 + w D(η) s),    μ += a S x,    S −= c (S x)(S x)ᵀ

Cross-block covariance that the event creates is dropped. The NumPy twin is `nearline.glmix._oracle`.
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from nearline.glmix._kernels._blocks import LN2, downdate, fold, times
from nearline.glmix._kernels._records import NEVER, REVERTING, STABILISED, Blocks, Rows, Scratch, row, slots_of, view
from nearline.glmix._kernels._scalar import FASTMATH, IDENTITY, LOG, derivatives
from nearline.glmix._kernels._score import cov_of, last_of, lay_out, margin, mean_of, scratch, sparse_design, variance

# A Poisson margin moves at most this far in one Newton step, so that e^η cannot overflow.
MAX_STEP = 5.0
MAX_STEPS = 50


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def solve_margin(link: int, y: float, w: float, z: float, s: float) -> float:
    """The root of f(η) = η − z + s w g(η), the margin after the update: Newton, kept inside a bracket.

    f grows at least as fast as η, so the root lies between z and z − s w g(z).
    """
    if link == IDENTITY:
        return (z + s * w * y) / (1.0 + s * w)
    far = z - s * w * derivatives(link, y, z)[0]
    low, high = min(z, far), max(z, far)
    eta = z
    for _ in range(MAX_STEPS):
        g, D = derivatives(link, y, eta)
        f = eta - z + s * w * g
        if f > 0.0:
            high = eta
        else:
            low = eta
        step = f / (1.0 + s * w * D)
        if link == LOG:
            # e^η is convex: from the left a Newton step overshoots, and from the right it never does.
            step = max(step, -MAX_STEP)
        elif not low <= eta - step <= high:
            step = eta - 0.5 * (low + high)
        eta -= step
        if abs(step) <= 1e-10 * (1.0 + abs(eta)):
            break
    return eta


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def late(rows: Rows, b: Blocks, i: int) -> float:
    """Discount 2^(−s/τ) of an event older by s than its entities' last update; 1 when none is."""
    factor = 1.0
    for r in range(len(b.d)):
        if b.forms[r] == REVERTING or b.forms[r] == STABILISED:
            s = last_of(b, r, rows.entities[r, i])[0] - rows.time[i]
            if s > 0.0:
                factor = min(factor, math.exp(-LN2 * s / b.rates[r]))
    return factor


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def design(rows: Rows, b: Blocks, i: int, w: Scratch) -> None:
    """Relax every entity of row i to its time, in place, and lay out the designs of all blocks."""
    dense = False
    for r in range(len(b.d)):
        e = rows.entities[r, i]
        last = last_of(b, r, e)
        since = rows.time[i] - last[0]
        if b.forms[r] != NEVER or b.walks[r]:
            fold(
                b.kinds[r], b.forms[r], b.rates[r], b.walks[r], since, mean_of(b, r, e), cov_of(b, r, e), b.mu0[r],
                b.cov0[r], b.walk_event[r], b.walk_second[r],
            )  # fmt: skip
        if not since <= 0.0:
            last[0] = rows.time[i]
        if b.of[r] >= 0 or b.loaded[r]:
            dense = True
            mean = mean_of(b, r, e)
            for j in range(b.d[r]):
                w.M[r, j] = mean[j]
        if b.of[r] < 0:
            sparse_design(rows, b, i, r, w)
    if dense:
        lay_out(b, w)


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def learn(link: int, rows: Rows, b: Blocks, i: int, w: Scratch) -> tuple[float, float, bool]:
    """Learn row i; returns the margin and variance it had, and whether the update was finite and so applied."""
    R = len(b.d)
    weight = rows.weight[i] * late(rows, b, i)
    design(rows, b, i, w)
    z = rows.offset[i]
    s = 0.0
    for r in range(R):
        e = rows.entities[r, i]
        x_m, w.s[r] = times(
            b.kinds[r], mean_of(b, r, e), cov_of(b, r, e), row(w, 0, r), slots_of(w, r), row(w, 3, r),
            w.used[r], row(w, 1, r),
        )
        # A loading's product is already inside the margin of the effect it loads on.
        if b.of[r] < 0:
            z += x_m
        s += w.s[r]
    eta = solve_margin(link, rows.label[i], weight, z, s)
    g, D = derivatives(link, rows.label[i], eta)
    a = -weight * g
    h = weight * D
    c = h / (1.0 + h * s)
    if not (math.isfinite(a) and math.isfinite(c) and math.isfinite(z) and s >= 0.0):
        return z, s, False
    for r in range(R):
        e = rows.entities[r, i]
        downdate(
            b.kinds[r], a, c, h, w.s[r], mean_of(b, r, e), cov_of(b, r, e), row(w, 0, r), slots_of(w, r), row(w, 3, r),
            w.used[r], row(w, 1, r),
        )  # fmt: skip
        view(b.count_at[r] + e * 4, 1, rows.indices)[0] += 1
    return z, s, True


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def replay(
    link: int, rows: Rows, b: Blocks, stops: Any, sizes: Any, variances: bool, z: Any, s: Any, refused: Any
) -> None:
    """Predict, then learn, chunk by chunk: rows up to stops[k] are all scored before any of them is learned.

    Writes each row's margin z and variance s as predicted, and `refused` where an update was not finite: such a row
    changes nothing. Rows of weight 0 are scored and not learned.
    """
    R, D, P, K = sizes
    w = scratch(R, D, P, K)
    start = 0
    for stop in stops:
        if stop - start == 1 and rows.weight[start] != 0.0:
            z[start], s[start], ok = learn(link, rows, b, start, w)
            refused[start] = not ok
        else:
            for i in range(start, stop):
                z[i] = margin(rows, b, i, w, variances)
                if variances:
                    s[i] = variance(rows, b, i, w)
            for i in range(start, stop):
                if rows.weight[i] != 0.0:
                    refused[i] = not learn(link, rows, b, i, w)[2]
        start = stop
