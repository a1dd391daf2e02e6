"""Event mode, compiled: one joint update of all blocks after each event, in covariance form.

For one event with stacked design x, block-diagonal covariance S, margin z = offset + μᵀx and s = xᵀSx, the mode lies on
the line μ + a S x, so the update of every block at once is a one-dimensional solve for the new margin η:

    η = z − s w g(η),    a = −w g(η),    c = w D(η) / (1 + w D(η) s),    μ += a S x,    S −= c (S x)(S x)ᵀ

Cross-block covariance that the event creates is dropped. However a stream is cut into calls, and whenever levels appear
in it, the same events leave the same bits (`nearline.glmix._kernels._lanes` tells why).
The NumPy twin is `nearline.glmix._oracle`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from nearline.glmix._kernels._blocks import downdate
from nearline.glmix._kernels._forget import LN2, block_at
from nearline.glmix._kernels._lanes import (
    INLINE,
    INNER,
    LINE,
    bytes_,
    call,
    floats,
    int32s,
    ints,
    pointer,
    prefetch,
    record_at,
)
from nearline.glmix._kernels._linalg import LEAF
from nearline.glmix._kernels._plan import address, job
from nearline.glmix._kernels._predict import STEP, margin, variance
from nearline.glmix._kernels._records import LOWRANK, REVERTING, ROWS, STABILISED, Blocks, Rows
from nearline.glmix._kernels._scalar import IDENTITY, LOG, LOGIT, derivatives

MAX_STEPS = 60
# Within this distance of the root Halley's next error is below 1e-11, and so is that of the series for g and D there.
CLOSE = 2e-4
# At most this much of the next event's posterior is asked for ahead; the rest streams in by itself.
AHEAD = 64 * LINE

rows_at = record_at(ROWS)


@njit(**INNER)
def solve_margin(link: int, y: float, sw: float, z: float) -> tuple[float, float]:
    """Slopes (g, D) at the root of f(η) = η − z + s w g(η), the margin after the update, by Halley inside a bracket.

        η ← η − f f′ / (f′² − ½ f f″),    f′ = 1 + s w D,    f″ = s w D′,    D′ = D (1 − 2p) (logit), D (log)

    f grows at least as fast as η, so the root lies between η and η − f(η). A step out of the
    bracket, or not half the one before, is replaced by halving the bracket.
    """
    eta = z
    if link == LOG and z > 1.0 and sw > 0.0:
        # A root η > 0 has e^η ≤ y + z / sw: start there, not where e^z may overflow.
        eta = min(z, max(0.0, math.log(y + z / sw)))
    g, D = derivatives(link, y, eta)
    if link == IDENTITY:
        return g / (1.0 + sw), D
    f = eta - z + sw * g
    low, high = min(eta, eta - f), max(eta, eta - f)
    if link == LOG and g < 0.0 and eta == z:
        high = min(high, math.log(y))
    last = 2.0 * (high - low)
    for _ in range(MAX_STEPS):
        if f > 0.0:
            high = eta
        else:
            low = eta
        D1, D2 = D, D
        if link == LOGIT:
            D1, D2 = D * (1.0 - 2.0 * (g + y)), D * (1.0 - 6.0 * D)
        slope = 1.0 + sw * D
        step = -f * slope / (slope * slope - 0.5 * f * sw * D1)
        if not low <= eta + step <= high or 2.0 * abs(step) > last:
            step = 0.5 * (low + high) - eta
        elif abs(step) <= CLOSE:
            # From η where that magnifies the error of η less, otherwise from the series at the last point.
            near = g + step * (D + 0.5 * step * (D1 + step * D2 / 3.0))
            return ((z - eta - step) / sw if sw * D > 1.0 else near), D + step * (D1 + 0.5 * step * D2)
        eta, last = eta + step, abs(step)
        g, D = derivatives(link, y, eta)
        f = eta - z + sw * g
    return g, D


@njit(**INLINE)
def late(plan: int, R: int) -> float:
    """Discount 2^(−s/τ) of an event older by s than its entities' last update; 1 when none is."""
    factor = 1.0
    for r in range(R):
        b = block_at(plan + r * STEP)
        if not b.locked and (b.form == REVERTING or b.form == STABILISED) and b.since < 0.0 < b.rate:
            factor = min(factor, math.exp(LN2 * b.since / b.rate))
    return factor


@njit(**INLINE)
def fetch_lines(start: int, size: int) -> None:
    """Start loading every cache line that holds some of the bytes start … start + size − 1, at most `AHEAD` of them."""
    for at in range(start & -LINE, start + min(size, AHEAD), LINE):
        prefetch(at)


@njit(**INLINE)
def fetch(rows: Any, b: Any, r: int, i: int) -> None:
    """Start loading row i's posterior in block r: events hop between entities faster than memory answers."""
    e = int32s(rows.entities)[r * rows.n + i]
    if e >= 0 and e != b.entity:
        fetch_lines(b.mean_at + e * b.mean_step, b.mean_step)
        fetch_lines(b.cov_at + e * b.cov_step, b.cov_step)
        prefetch(b.last_at + 8 * e)
        prefetch(b.count_at + 4 * e)


@njit(**INLINE)
def learn(link: int, rows: Any, plan: int, R: int, like: Any, i: int, n: int, alone: bool, variances: bool) -> None:
    """Learn row i of rows up to n; `alone`, it is predicted too. An update that is not finite is refused."""
    z = margin(rows, plan, R, like, i)
    s = variance(plan, R, like)
    if alone:
        floats(rows.z)[i] = z
        if variances:
            floats(rows.s)[i] = s
    time, weight = floats(rows.time)[i], floats(rows.weight)[i] * late(plan, R)
    g, D = solve_margin(link, floats(rows.label)[i], s * weight, z)
    a, h = -weight * g, weight * D
    c = h / (1.0 + h * s)
    finite = math.isfinite(a) and math.isfinite(c) and math.isfinite(z) and math.isfinite(time)
    if not (finite and 0.0 <= s < math.inf):
        bytes_(rows.refused)[i] = 1
        return
    for r in range(R):
        b = block_at(plan + r * STEP)
        if i + 8 < n:
            fetch(rows, b, r, i + 8)
        if b.entity >= 0 and not b.locked:
            if b.kind == LOWRANK:
                b.step, b.gain = a, h / (1.0 + h * max(s - b.own, 0.0))
                call(b.absorb, plan + r * STEP)
            else:
                downdate(b, like, a, c, h)
            int32s(b.count_at)[b.entity] += 1
            if not b.since <= 0.0:
                floats(b.last_at)[b.entity] = time


@njit(**LEAF)
def run(
    link: int, rows_address: int, plan: int, standing: int, R: int, like: Any, start: int, stops: int, chunks: int,
    learns: bool, variances: bool,
) -> None:  # fmt: skip
    """Rows from `start` on, in chunks up to each of the `chunks` numbers at address `stops`; see `replay`.

    They are scored by the records at `standing` and learned by those at `plan`.
    """
    rows, stored, n = rows_at(rows_address), pointer(0, like), ints(stops)[chunks - 1]
    z, s, weight = floats(rows.z), floats(rows.s), floats(rows.weight)
    for chunk in range(chunks):
        stop = ints(stops)[chunk]
        alone = learns and stop - start == 1 and weight[start] != 0.0 and plan == standing
        if not alone:
            for i in range(start, stop):
                z[i] = margin(rows, standing, R, stored, i)
                if variances:
                    s[i] = variance(standing, R, stored)
        if learns:
            for i in range(start, stop):
                if weight[i] != 0.0:
                    learn(link, rows, plan, R, stored, i, n, alone, variances)
        start = stop


def replay(
    link: int, rows: Rows, b: Blocks, stops: Any, sizes: Any, variances: bool, z: Any, s: Any, refused: Any
) -> None:
    """Predict, then learn, chunk by chunk: rows up to stops[k] are all scored before any of them is learned.

    Writes each row's margin z and, where asked for, variance s as predicted, and `refused` where an update was not
    finite: such a row changes nothing. Rows of weight 0 are scored and not learned. An entity of code −1 counts with
    its prior and is not stored.

    Raises
    ------
    StateError
        When an output is not contiguous or not of its dtype: float64 for z and s, bool for `refused`.
    """
    ends = np.ascontiguousarray(stops, np.int64)
    task, keep = job(rows, b, sizes, z, s, refused)
    if len(ends):
        run(link, *task, 0, address(ends), len(ends), True, variances)
    del keep
