"""One event replaced by another, or by nothing, in one block's posterior N(μ, V), H = V⁻¹.

What an event taught a block is a Gaussian factor along its design x: precision ω with a pull. To replace
(ω1, pull A1) by (ω2, pull A2), both as they weigh today,

    H ← H + (ω2 − ω1) x xᵀ,    V ← V − Δ/(1 + Δ q) u uᵀ,    μ ← μ + (A2 − A1) V_new x

with u = V x, q = xᵀ u, Δ = ω2 − ω1. Deletion is ω2 = A2 = 0. Right after the event A1 is its step a, and this is the
exact inverse of the update. Neither the variance along x nor any coefficient's is lifted above the prior's:
ω1 ≤ 1/q − 1/q0, and the like.
*Derived; Sherman and Morrison.*

Examples
--------
>>> mean, cov = np.array([0.5]), np.array([0.5])  # N(0, 1) after y = 1 with unit noise: a = 0.5, ω = 1
>>> full(mean, cov, np.ones(1), 1.0, np.ones(1), Change(1.0, 0.0, 0.5, 0.0))
(array([0.]), array([1.]))
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearline.glmix._lowrank import LowRank

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST = 1e-6
"""Refuse to divide by a 1 − ω q at or below this: the block holds less along x than is to be taken from it."""


class ImpossibleError(ValueError):
    """The posterior would not stay positive definite."""


@dataclass(frozen=True, slots=True)
class Change:
    """Old and new precision along x, and old and new pull, as they weigh today."""

    omega1: float
    omega2: float
    pull1: float
    pull2: float


@lru_cache(maxsize=64)
def places(d: int) -> tuple[Ints, Ints, Ints]:
    """(rows, columns) of a packed lower triangle, and the place of each entry of the (d, d) matrix in it."""
    rows, columns = np.tril_indices(d)
    matrix = np.empty((d, d), np.int64)
    matrix[rows, columns] = matrix[columns, rows] = np.arange(len(rows))
    return rows, columns, matrix


def kept(omega: float, q: float, q0: float) -> float:
    """Precision that can be taken from a block along x, at most 1/q − 1/q0.

    Raises
    ------
    ImpossibleError
        When 1 − ω q ≤ `LEAST`.

    Examples
    --------
    >>> kept(1.0, q=0.5, q0=1.0), kept(1.5, q=0.5, q0=1.0)
    (1.0, 1.0)
    """
    if not 1.0 - omega * q > LEAST:
        raise ImpossibleError
    return min(omega, max(1.0 / q - 1.0 / q0, 0.0)) if q > 0.0 and q0 > 0.0 else omega


def full(
    mean: Floats, cov: Floats, x: Floats, q0: float, v0: Floats, change: Change
) -> tuple[Floats, Floats]:  # fmt: skip
    """(mean (d), packed covariance) after the change; x is (d), v0 (d) the prior's variances."""
    rows, columns, matrix = places(len(mean))
    u = cov[matrix] @ x
    q = float(x @ u)
    most = headroom(cov[matrix.diagonal()], u, v0)
    delta = change.omega2 - min(kept(change.omega1, q, q0), most / (1.0 + most * q) if most < np.inf else np.inf)
    u_new = u / (1.0 + delta * q)
    return mean + (change.pull2 - change.pull1) * u_new, cov - delta * u_new[rows] * u[columns]


def headroom(variance: Floats, u: Floats, v0: Floats) -> float:
    """Largest γ for which no variance in V + γ u uᵀ exceeds the prior's, but for rounding.

    Examples
    --------
    >>> round(headroom(np.array([0.5, 1.0]), np.array([0.5, 0.0]), np.ones(2)), 4)
    2.0
    """
    moved = u != 0.0
    room = np.maximum(v0[moved] * (1.0 + 1e-6) - variance[moved], 0.0)
    return float((room / np.square(u[moved])).min(initial=np.inf))


def diagonal(mean: Floats, cov: Floats, x: Floats, v0: Floats, change: Change) -> tuple[Floats, Floats]:
    """(mean, variances) after the change: a diagonal block gained 1/V_jj += h x_j², and its step was a V_before x."""
    taken = 1.0 - change.omega1 * x * x * cov
    if not (taken > LEAST).all():
        raise ImpossibleError
    before = np.minimum(cov / taken, np.maximum(v0, cov))
    return mean + (change.pull2 - change.pull1) * before * x, before / (1.0 + change.omega2 * x * x * before)


def lowrank(
    mean: Floats, H: LowRank, x: Floats, q0: float, prior: Floats, rank: int, change: Change
) -> tuple[Floats, LowRank]:
    """(mean, precision) after the change; exact while nothing has been compressed away."""
    q = float(x @ H.solve(x))
    after = removed(H, x, kept(change.omega1, q, q0), prior)
    if change.omega2 > 0.0:
        after = after.compressed(rank).appended(x[None], [change.omega2])
    return mean + (change.pull2 - change.pull1) * after.solve(x), after


def removed(H: LowRank, x: Floats, omega: float, prior: Floats) -> LowRank:
    """H − ω x xᵀ in the form diag(h) + Q Qᵀ, with diag(H) exact and H ⪰ diag(prior).

    With A = diag(h)^(−½) Q and α the shortest solution of A α ≈ diag(h)^(−½) x, the columns lose what they hold of x,
    Q (I − ω α αᵀ) Qᵀ, and h loses the rest of ω x². Where x is a column still, that is exact; what compression has
    moved to the diagonal is taken from there.

    Examples
    --------
    >>> H = LowRank.prior([1.0, 1.0]).appended([[1.0, 2.0]], [0.5])
    >>> removed(H, np.array([1.0, 2.0]), 0.5, np.ones(2)).precision().round(12).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if omega <= 0.0 or not x.any():
        return H
    Q, inside = H.Q, np.zeros_like(x)
    if Q.shape[1]:
        root = np.sqrt(H.h)
        alpha = np.linalg.lstsq(Q / root[:, None], x / root, rcond=1e-10)[0]
        size = float(alpha @ alpha)
        share = min(omega * size, 1.0)
        if size > 0.0:
            # (I − (1 − √(1 − share)) e eᵀ) squared is I − share e eᵀ, with e = α/‖α‖.
            unit = alpha / np.sqrt(size)
            inside = Q @ unit
            Q = Q - (1.0 - np.sqrt(1.0 - share)) * np.outer(inside, unit)
            inside = inside * np.sqrt(share)
    # Columns that are gone make room for the next events.
    alive = np.square(Q).sum(axis=0) > 1e-28 * max(float(np.square(H.Q).sum()), 1e-300)
    # Random walks may have brought h below the prior already.
    return LowRank(np.maximum(H.h - (omega * x * x - inside * inside), np.minimum(prior, H.h)), Q[:, alive])


def weights(discount: float, omega: float, spread: float, reverting: bool) -> tuple[float, float]:
    """(precision along x today, share of the pull today) of an event whose block has since forgotten 1 − `discount`.

    Stabilised forgetting scales the event's factor: (δ ω, δ). A reverting posterior saw the state of then,
    β_then = μ0 + a (β − μ0) + N(0, (1 − a²) V0), through which the event speaks of a x with less precision,
    ω / (1 + ω (1 − a²) xᵀ V0 x); its design is a x.

    Examples
    --------
    >>> weights(0.5, 2.0, 1.0, False), weights(0.5, 2.0, 1.0, True)
    ((1.0, 0.5), (0.8, 0.4))
    """
    if not reverting:
        return discount * omega, discount
    share = 1.0 / (1.0 + omega * (1.0 - discount * discount) * spread)
    return share * omega, share


def variance_shares(c: float, s: float, q: Any, known: Any) -> Floats:
    """Each block's part s_b of the variance s that an event had, from the variances q along its design after it.

        q_b = s_b (1 − c s_b),    Σ_b s_b = s

    `known` (R) holds s_b where it is known otherwise, NaN elsewhere. All but the block with most left take the smaller
    root, that one the rest: exact right after the event, and no square root near its branch point.

    Examples
    --------
    >>> variance_shares(0.5, 1.5, [0.5, 0.375], [np.nan, np.nan]).round(12).tolist()
    [1.0, 0.5]
    """
    q, out = np.asarray(q, dtype=np.float64), np.array(known, dtype=np.float64)
    free = np.flatnonzero(np.isnan(out))
    if not len(free):
        return out
    root = np.sqrt(np.maximum(1.0 - 4.0 * c * q[free], 0.0))
    out[free] = 2.0 * q[free] / (1.0 + root)
    most = free[int(np.argmax(q[free]))]
    out[most] += s - out.sum()
    return np.clip(out, 0.0, s)
