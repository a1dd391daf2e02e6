"""Damped Newton for one entity, compiled: in d coefficients (`primal`) or in n rows (`dual`).

The readable twins are `nearline.glmix._solve.solve` and `.solve_dual`; the equations are there. Each loop body sees a
point, accepts it, and aims at the next, so that every part of it is compiled in one place. No loop both sums and
stores: how such a loop is vectorised, and so its last bit, could depend on where arrays lie.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from numba import njit

from nearline.glmix._kernels._linalg import (
    CONVERGED,
    LEAF,
    NON_FINITE,
    NOT_CONVERGED,
    ONCE,
    back_substitute,
    factor,
    log_diagonal,
)
from nearline.glmix._kernels._memory import TILE, Dual, Outcome, Primal, Rows
from nearline.glmix._kernels._rows import (
    FIRST,
    OFFSET,
    SECOND,
    Batch,
    add_dense,
    add_sparse,
    column_margins,
    lay_columns,
    margins,
    slopes,
    total_loss,
)
from nearline.glmix._kernels._scalar import IDENTITY, LOG

TOLERANCE = 1e-12
MAX_STEPS = 50
ARMIJO = 1e-4
MAX_HALVINGS = 30
LOG_CAP = 5.0
SAFE_CHANGE = 1.5  # see nearline.glmix._solve
# |D'| ≤ D for all three losses, so the curvatures of a point whose margins are this close serve for the mode's own.
SAME_CURVATURE = 1e-9


class Mode(NamedTuple):
    """How a solve ended; `log_root` is Σ log of the last factor's diagonal, `penalty` the prior's part of f."""

    status: int
    steps: int
    decrement: float
    penalty: float
    log_root: float


@njit(**LEAF)
def quadratic(A: Any, d: int, left: Any, right: Any) -> float:
    """leftᵀ A right for a full symmetric A."""
    total = 0.0
    for j in range(d):
        inner = 0.0
        for c in range(d):
            inner += A[j, c] * right[c]
        total += left[j] * inner
    return total


@njit(**LEAF)
def multiply(A: Any, d: int, x: Any, out: Any) -> None:
    """Product A x into out."""
    for j in range(d):
        total = 0.0
        for c in range(d):
            total += A[j, c] * x[c]
        out[j] = total


@njit(**LEAF)
def largest_change(n: int, before: Any, after: Any) -> float:
    """Largest |after − before|, or NaN where any is NaN or infinite."""
    largest = 0.0
    total = 0.0
    for r in range(n):
        change = abs(after[r] - before[r])
        total += change
        largest = max(largest, change)
    return largest if math.isfinite(total) else math.nan


@njit(**LEAF)
def search(link: int, n: int, rows: Rows, largest: float, p0: float, p1: float, p2: float, decrement: float) -> float:
    """Longest step in 1, ½, ¼ … (from the log link's cap) that meets Armijo's condition; 0 when none does.

    The penalty along the line is p0 + p1 t + ½ p2 t². rows.ahead holds the margins of a full step, and is overwritten
    with those of the step found.
    """
    t = min(1.0, LOG_CAP / largest) if link == LOG else 1.0
    before = total_loss(link, n, rows.given, rows.eta) + p0
    scale = 1.0
    for _ in range(MAX_HALVINGS + 1):
        for r in range(n):
            rows.ahead[r] = rows.eta[r] + (t / scale) * (rows.ahead[r] - rows.eta[r])
        scale = t
        penalty = p0 + p1 * t + 0.5 * p2 * t * t
        if total_loss(link, n, rows.given, rows.ahead) + penalty <= before - ARMIJO * t * decrement:
            return t
        t *= 0.5
    return 0.0


@njit(**LEAF)
def shorten(link: int, n: int, d: int, rows: Rows, p: Primal, largest: float, decrement: float) -> float:
    """Step length for p.step, leaving the shortened point in p.ahead; 0 when there is none."""
    p0 = p1 = p2 = 0.0
    for j in range(d):
        for c in range(d):
            p0 += p.P[j, c] * (p.theta[j] - p.mean[j]) * (p.theta[c] - p.mean[c])
            p1 -= p.P[j, c] * (p.theta[j] - p.mean[j]) * p.step[c]
            p2 += p.P[j, c] * p.step[j] * p.step[c]
    t: float = search(link, n, rows, largest, 0.5 * p0, p1, p2, decrement)
    for j in range(d):
        p.ahead[j] = p.theta[j] - t * p.step[j]
    return t


@njit(**ONCE)
def primal(link: int, batch: Batch, n: int, d: int, plain: bool, sparse: bool, rows: Rows, p: Primal) -> Mode:
    """Mode with prior mean p.mean and precision p.P; leaves θ, the factor of H and diag(H) in p."""
    tiled = n > TILE
    for j in range(d, d + 4):
        p.mean[j] = p.ahead[j] = 0.0
    for j in range(d):
        p.ahead[j] = p.mean[j]
    if not sparse and not tiled:
        lay_columns(batch, rows.at, 0, n, d, plain, rows.position, p.X)
    decrement = math.inf
    done = False
    for steps in range(MAX_STEPS + 1):
        if sparse or tiled:
            margins(batch, rows.at, n, rows.given, rows.position, p.ahead, rows.ahead)
        else:
            column_margins(p.X, n, d, rows.given, p.ahead, rows.ahead)
        if steps > 0:
            largest = largest_change(n, rows.eta, rows.ahead)
            if not (math.isfinite(decrement) and math.isfinite(largest)):
                return Mode(NON_FINITE, steps, decrement, 0.0, 0.0)
            if largest > SAFE_CHANGE and link != IDENTITY and shorten(link, n, d, rows, p, largest, decrement) == 0.0:
                return Mode(NOT_CONVERGED, steps, decrement, 0.0, 0.0)
            done = decrement <= TOLERANCE
        for r in range(n):
            rows.eta[r] = rows.ahead[r]
        for j in range(d):
            p.theta[j] = p.ahead[j]
            p.step[j] = p.ahead[j] - p.mean[j]
        if done and largest <= SAME_CURVATURE:
            break
        slopes(link, n, rows.given, rows.eta, rows.slope)
        for j in range(d):
            total = 0.0
            for c in range(d):
                total += p.P[j, c] * p.step[c]
            p.H[d, j] = total
            for c in range(j + 1):
                p.H[j, c] = p.P[j, c]
        if sparse:
            add_sparse(batch, rows.at, n, d, rows.position, rows.slope, p.H)
        else:
            for first in range(0, n, TILE):
                last = min(n, first + TILE)
                if tiled:
                    lay_columns(batch, rows.at, first, last, d, plain, rows.position, p.X)
                add_dense(p.X, first, last - first, d, rows.slope, p.row, p.H)
        for j in range(d):
            p.diagonal[j] = p.H[j, j]
        status = factor(p.H, d, d + 1)
        if status != CONVERGED:
            return Mode(status, steps, decrement, 0.0, 0.0)
        if done:
            break
        back_substitute(p.H, d, d, p.step)
        decrement = 0.0
        for j in range(d):
            decrement += p.H[d, j] * p.H[d, j]
        for j in range(d):
            p.ahead[j] = p.theta[j] - p.step[j]
    if not done:
        return Mode(NOT_CONVERGED, steps, decrement, 0.0, 0.0)
    for j in range(d):
        p.step[j] = p.theta[j] - p.mean[j]
    return Mode(CONVERGED, steps, decrement, 0.5 * quadratic(p.P, d, p.step, p.step), log_diagonal(p.H, d))


@njit(**LEAF)
def step_two(n: int, rows: Rows, w: Dual) -> None:
    """Newton's a_ahead for one or two rows in closed form: a − (I + S²K)⁻¹ r, whose determinant is at least 1."""
    D0, K00, r0 = rows.slope[SECOND, 0], w.K[0, 0], w.residual[0]
    if n == 1:
        w.a_ahead[0] = w.a[0] - r0 / (1.0 + D0 * K00)
        return
    D1, K11, K01, r1 = rows.slope[SECOND, 1], w.K[1, 1], w.K[0, 1], w.residual[1]
    determinant = 1.0 + D0 * K00 + D1 * K11 + D0 * D1 * (K00 * K11 - K01 * K01)
    w.a_ahead[0] = w.a[0] - ((1.0 + D1 * K11) * r0 - D0 * K01 * r1) / determinant
    w.a_ahead[1] = w.a[1] - ((1.0 + D0 * K00) * r1 - D1 * K01 * r0) / determinant


@njit(**ONCE)
def dual(link: int, n: int, rows: Rows, w: Dual) -> Mode:
    """Mode over a, with θ = m + V Xᵀ a and margins offset + K a; leaves a, the factor of B and diag(S) in w."""
    for r in range(n):
        w.a[r] = w.a_ahead[r] = w.Ka[r] = 0.0
    decrement = math.inf
    done = False
    for steps in range(MAX_STEPS + 1):
        multiply(w.K, n, w.a_ahead, w.Ka_ahead)
        for r in range(n):
            rows.ahead[r] = rows.given[r, OFFSET] + w.Ka_ahead[r]
        if steps > 0:
            decrement = 0.0
            largest = 0.0
            for r in range(n):
                change = w.Ka_ahead[r] - w.Ka[r]
                decrement += (w.a_ahead[r] - w.a[r]) * change + rows.slope[SECOND, r] * change * change
                largest = max(largest, abs(change))
            if not math.isfinite(decrement):
                return Mode(NON_FINITE, steps, decrement, 0.0, 0.0)
            if largest > SAFE_CHANGE and link != IDENTITY:
                p0 = p1 = p2 = 0.0
                for r in range(n):
                    p0 += w.a[r] * w.Ka[r]
                    p1 += (w.a_ahead[r] - w.a[r]) * w.Ka[r]
                    p2 += (w.a_ahead[r] - w.a[r]) * (w.Ka_ahead[r] - w.Ka[r])
                t = search(link, n, rows, largest, 0.5 * p0, p1, p2, decrement)
                if t == 0.0:
                    return Mode(NOT_CONVERGED, steps, decrement, 0.0, 0.0)
                for r in range(n):
                    w.a_ahead[r] = w.a[r] + t * (w.a_ahead[r] - w.a[r])
                    w.Ka_ahead[r] = w.Ka[r] + t * (w.Ka_ahead[r] - w.Ka[r])
            done = decrement <= TOLERANCE
        for r in range(n):
            w.a[r], w.Ka[r], rows.eta[r] = w.a_ahead[r], w.Ka_ahead[r], rows.ahead[r]
        if done and largest <= SAME_CURVATURE and n > 2:
            break
        slopes(link, n, rows.given, rows.eta, rows.slope)
        for r in range(n):
            w.residual[r] = w.a[r] + rows.slope[FIRST, r]
        if n <= 2 and not done:
            step_two(n, rows, w)
            continue
        for r in range(n):
            w.root[r] = math.sqrt(rows.slope[SECOND, r])
        for r in range(n):
            total = 0.0
            for q in range(n):
                total += w.K[r, q] * w.residual[q]
            w.B[n, r] = w.root[r] * total
            for q in range(r + 1):
                w.B[r, q] = w.root[r] * w.K[r, q] * w.root[q]
            w.B[r, r] += 1.0
        status = factor(w.B, n, n + 1)
        if status != CONVERGED:
            return Mode(status, steps, decrement, 0.0, 0.0)
        if done:
            break
        back_substitute(w.B, n, n, w.a_ahead)
        for r in range(n):
            w.a_ahead[r] = w.a[r] - (w.residual[r] - w.root[r] * w.a_ahead[r])
    if not done:
        return Mode(NOT_CONVERGED, steps, decrement, 0.0, 0.0)
    penalty = 0.0
    for r in range(n):
        penalty += 0.5 * w.a[r] * w.Ka[r]
    return Mode(CONVERGED, steps, decrement, penalty, log_diagonal(w.B, n))


@njit(**LEAF)
def without_rows(n: int) -> Mode:
    """What an entity's update comes to before it is tried: nothing to do for no rows, else refused."""
    return Mode(CONVERGED if n == 0 else NON_FINITE, 0, 0.0 if n == 0 else math.inf, 0.0, 0.0)


@njit(**LEAF)
def report(link: int, e: int, n: int, d: int, rows: Rows, mode: Mode, p: Primal, outcome: Outcome) -> None:
    """Record what entity e's update came to: Laplace evidence, and ‖θ − m‖ over the d coefficients it solved for."""
    outcome.status[e], outcome.steps[e], outcome.decrement[e] = mode.status, mode.steps, mode.decrement
    outcome.evidence[e] = outcome.change[e] = 0.0 if n == 0 else math.nan
    if n > 0 and mode.status == CONVERGED:
        total = 0.0
        for j in range(d):
            total += (p.theta[j] - p.mean[j]) ** 2
        outcome.evidence[e] = -total_loss(link, n, rows.given, rows.eta) - mode.penalty - mode.log_root
        outcome.change[e] = math.sqrt(total)
