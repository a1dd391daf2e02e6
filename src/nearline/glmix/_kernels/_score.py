"""Scoring, compiled: margins and their variances under the posterior as it has relaxed by now, writing no state.

z = offset + Σ_b x_bᵀ μ_b and s = Σ_b x_bᵀ S_b x_b. An entity never seen (code −1) scores with the prior.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from nearline.glmix._kernels._blocks import fold, times
from nearline.glmix._kernels._records import DENSE, NEVER, REVERTING, Blocks, Rows, Scratch, view
from nearline.glmix._kernels._scalar import FASTMATH


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def scratch(R: int, D: int, P: int, K: int) -> Scratch:
    """Working memory for R blocks of at most D dimensions and P stored covariance numbers, K features a row."""
    X, v, M = np.zeros((R, D)), np.zeros((R, D)), np.zeros((R, D))
    slots, entries = np.zeros((R, K), np.int64), np.zeros((R, K))
    at = np.empty(15, np.int64)
    at[0], at[1], at[2], at[3], at[4] = (
        X.ctypes.data, v.ctypes.data, slots.ctypes.data, entries.ctypes.data, M.ctypes.data,
    )  # fmt: skip
    at[10:15] = np.array([D, D, K, K, D])
    at[5:10] = 8 * at[10:15]
    return Scratch(X, v, slots, entries, np.zeros(R, np.int64), M, np.zeros(P), np.zeros(R), at)


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def mean_of(b: Blocks, r: int, e: int) -> Any:
    """The stored mean (d) of entity e."""
    return view(b.mean_at[r] + e * b.d[r] * b.like.itemsize, b.d[r], b.like)


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def cov_of(b: Blocks, r: int, e: int) -> Any:
    """The stored covariance (size) of entity e."""
    return view(b.cov_at[r] + e * b.size[r] * b.like.itemsize, b.size[r], b.like)


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def last_of(b: Blocks, r: int, e: int) -> Any:
    """When entity e was last updated, as a one-element view."""
    return view(b.last_at[r] + e * 8, 1, b.rates)


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def relaxed(b: Blocks, r: int, e: int, time: float, covariance: bool, M: Any, S: Any) -> None:
    """Copy entity e of block r as it has relaxed by `time`: the mean to M, the covariance (where asked for) to S."""
    mean = mean_of(b, r, e)
    form = b.forms[r]
    for j in range(b.d[r]):
        M[j] = mean[j]
    # Only the stabilised forms move the mean through the covariance.
    whole = covariance or form > REVERTING
    if form == NEVER and not covariance:
        return
    size = b.size[r] if whole else 0
    cov = cov_of(b, r, e)
    for p in range(size):
        S[p] = cov[p]
    fold(
        b.kinds[r], form, b.rates[r], b.walks[r] and whole, time - last_of(b, r, e)[0], M[: b.d[r]], S[:size],
        b.mu0[r], b.cov0[r], b.walk_event[r], b.walk_second[r],
    )  # fmt: skip


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def sparse_design(rows: Rows, b: Blocks, i: int, r: int, w: Scratch) -> None:
    """Row i's features on block r's own dimensions."""
    count = 0
    for p in range(rows.indptr[i], rows.indptr[i + 1]):
        j = b.local[r, rows.indices[p]]
        if j >= 0:
            w.slots[r, count] = j
            w.entries[r, count] = rows.values[p]
            count += 1
    w.used[r] = count


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def lay_out(b: Blocks, w: Scratch) -> None:
    """Write out the dense designs of the blocks that loadings act on and of the loadings, from the means in `w.M`."""
    R = len(b.d)
    for r in range(R):
        if b.of[r] >= 0:
            for j in range(b.d[r]):
                w.X[r, j] = w.M[b.of[r], j]
            w.used[r] = DENSE
        elif b.loaded[r]:
            for j in range(b.d[r]):
                w.X[r, j] = 0.0
            for p in range(w.used[r]):
                w.X[r, w.slots[r, p]] += w.entries[r, p]
            w.used[r] = DENSE
    for r in range(R):
        if b.of[r] >= 0:
            for j in range(b.d[r]):
                w.X[b.of[r], j] += w.M[r, j]


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def margin(rows: Rows, b: Blocks, i: int, w: Scratch, dense: bool) -> float:
    """z of row i; leaves the relaxed means in `w.M` and, where `dense`, every block's design in `w`."""
    R = len(b.d)
    z = rows.offset[i]
    for r in range(R):
        e = rows.entities[r, i]
        if e < 0:
            for j in range(b.d[r]):
                w.M[r, j] = b.mu0[r, j]
        else:
            relaxed(b, r, e, rows.time[i], False, w.M[r], w.S)
    for r in range(R):
        if b.of[r] >= 0:
            for j in range(b.d[r]):
                z += w.M[b.of[r], j] * w.M[r, j]
        else:
            sparse_design(rows, b, i, r, w)
            for p in range(w.used[r]):
                z += w.entries[r, p] * w.M[r, w.slots[r, p]]
    if dense:
        lay_out(b, w)
    return z


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def variance(rows: Rows, b: Blocks, i: int, w: Scratch) -> float:
    """s of row i, after `margin` has laid out its designs."""
    s = 0.0
    for r in range(len(b.d)):
        e = rows.entities[r, i]
        if e < 0:
            for p in range(b.size[r]):
                w.S[p] = b.cov0[r, p]
        else:
            relaxed(b, r, e, rows.time[i], True, w.M[r], w.S)
        s += times(
            b.kinds[r], w.M[r, : b.d[r]], w.S[: b.size[r]], w.X[r], w.slots[r], w.entries[r], w.used[r], w.v[r]
        )[1]  # fmt: skip
    return s


@njit(cache=True, nogil=True, fastmath=FASTMATH, parallel=True)
def score(rows: Rows, b: Blocks, sizes: Any, parts: int, variances: bool, z: Any, s: Any) -> None:
    """Margins z and, where asked for, variances s of all rows; each part is one thread's contiguous share."""
    n = z.shape[0]
    R, D, P, K = sizes
    for part in prange(parts):
        w = scratch(R, D, P, K)
        for i in range(part * n // parts, (part + 1) * n // parts):
            z[i] = margin(rows, b, i, w, variances)
            if variances:
                s[i] = variance(rows, b, i, w)
