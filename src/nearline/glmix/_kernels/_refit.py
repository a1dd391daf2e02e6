"""Many entities of a batch fit, compiled: the mode of each from where it is, and its posterior once all is over.

Rows are sorted by entity, so that an entity's entries lie together and every cycle reads them in order. Where prior
coefficients are independent, an entity is solved in the dimensions that its rows touch; the others stay at the prior,
which is what the full problem comes to. The twin in NumPy is `nearline.glmix._solve.solve`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nearline.glmix._kernels._linalg import (
    CONVERGED,
    LEAF,
    NON_FINITE,
    NOT_CONVERGED,
    ONCE,
    back_substitute,
    factor,
    invert_factor,
    log_diagonal,
)
from nearline.glmix._kernels._newton import ARMIJO, MAX_HALVINGS, MAX_STEPS, SAFE_CHANGE
from nearline.glmix._kernels._scalar import IDENTITY, derivatives, loss

Floats = NDArray[np.float64]

# A row with at least this share of an entity's dimensions is squared as a dense one.
DENSE = 0.4


class Sorted(NamedTuple):
    """Rows in the order of their entities: entity e of state row codes[e] owns rows ptr[e] … ptr[e+1] − 1.

    Its t dimensions are touched[first[e] : first[e+1]]; `places` are the rows' dimensions as numbers among these.
    """

    codes: NDArray[np.int64]
    ptr: NDArray[np.int64]
    indptr: NDArray[np.int64]
    places: NDArray[np.int32]
    values: Floats
    label: Floats
    weight: Floats
    first: NDArray[np.int64]
    touched: NDArray[np.int32]


class Prior(NamedTuple):
    """Mean μ0 (d) and precision, (1, d) where coefficients are independent, else (d, d)."""

    mean: Floats
    precision: Floats


class Memory(NamedTuple):
    """Working memory for entities of at most n rows in d dimensions."""

    theta: Floats
    step: Floats
    row: Floats
    change: Floats  # n
    H: Floats
    Z: Floats
    V: Floats

    @classmethod
    def of(cls, n: int, d: int) -> Memory:
        """Memory with some to spare at every end."""
        theta, step, row = np.zeros((3, d + 8))
        H, Z, V = np.zeros((3, d + 8, d + 8))
        return cls(theta, step, row, np.zeros(n), H, Z, V)


class Solved(NamedTuple):
    """What each entity's solve came to; `squared` is ‖∇f‖² where it began."""

    status: NDArray[np.int8]
    steps: NDArray[np.int32]
    evidence: Floats
    change: Floats
    decrement: Floats
    squared: Floats

    @classmethod
    def of(cls, entities: int) -> Solved:
        """Room for as many entities."""
        status, steps = np.zeros(entities, np.int8), np.zeros(entities, np.int32)
        evidence, change, decrement = np.full((3, entities), np.nan)
        return cls(status, steps, evidence, change, decrement, np.zeros(entities))


@njit(**LEAF)
def localise(ptr: Any, indptr: Any, indices: Any, position: Any, first: Any, touched: Any) -> None:
    """Number the dimensions of each entity's rows, in place of `indices`; sets first (E + 1) and touched.

    `position` (d) is −1 throughout, and is again after. `sort_rows` then puts each row in the order of these numbers.
    """
    total = 0
    for e in range(ptr.shape[0] - 1):
        first[e] = total
        for q in range(indptr[ptr[e]], indptr[ptr[e + 1]]):
            j = indices[q]
            if position[j] < 0:
                position[j] = total - first[e]
                touched[total] = j
                total += 1
            indices[q] = position[j]
        for k in range(first[e], total):
            position[touched[k]] = -1
    first[ptr.shape[0] - 1] = total


@njit(**LEAF)
def sort_rows(indptr: Any, places: Any, values: Any) -> None:
    """Sort each row's entries by dimension, in place."""
    for r in range(indptr.shape[0] - 1):
        for q in range(indptr[r] + 1, indptr[r + 1]):
            place, value = places[q], values[q]
            p = q - 1
            while p >= indptr[r] and places[p] > place:
                places[p + 1], values[p + 1] = places[p], values[p]
                p -= 1
            places[p + 1], values[p + 1] = place, value


@njit(**LEAF)
def add_square(H: Any, row: Any, t: int, places: Any, values: Any, start: int, stop: int, g: float, D: float) -> None:
    """H (lower) += D z zᵀ and H[t] += g z for one row's entries z, sorted by dimension."""
    if (stop - start) < DENSE * t:
        for q in range(start, stop):
            j, x = places[q], values[q]
            f = D * x
            H[t, j] += g * x
            H[j, j] += f * x
            for p in range(start, q):
                H[j, places[p]] += f * values[p]
                if places[p] == j:
                    H[j, j] += f * values[p]
        return
    for k in range(t):
        row[k] = 0.0
    for q in range(start, stop):
        row[places[q]] += values[q]
    for j in range(t):
        f = D * row[j]
        H[t, j] += g * row[j]
        for k in range(j + 1):
            H[j, k] += f * row[k]


@njit(**LEAF)
def dot(places: Any, values: Any, start: int, stop: int, x: Any) -> float:
    """Product zᵀx of one row's entries with a vector of the solve."""
    total = 0.0
    for q in range(start, stop):
        total += values[q] * x[places[q]]
    return total


@njit(**LEAF)
def assemble(link: int, rows: Sorted, e: int, offset: Any, prior: Prior, t: int, memory: Memory) -> None:
    """H = P + Σ w D z zᵀ (lower) and, below it, ∇f at memory.theta."""
    H, theta, touched = memory.H, memory.theta, rows.touched[rows.first[e] : rows.first[e + 1]]
    places, values, indptr, scratch = rows.places, rows.values, rows.indptr, memory.row
    label, weight = rows.label, rows.weight
    independent = prior.precision.shape[0] == 1
    for j in range(t):
        for k in range(j + 1):
            H[j, k] = 0.0 if independent else prior.precision[touched[j], touched[k]]
        H[t, j] = 0.0
        if independent:
            H[j, j] = prior.precision[0, touched[j]]
            H[t, j] = H[j, j] * (theta[j] - prior.mean[touched[j]])
        else:
            for k in range(t):
                H[t, j] += prior.precision[touched[j], touched[k]] * (theta[k] - prior.mean[touched[k]])
    for r in range(rows.ptr[e], rows.ptr[e + 1]):
        if weight[r] == 0.0:
            continue
        start, stop = indptr[r], indptr[r + 1]
        g, D = derivatives(link, label[r], offset[r] + dot(places, values, start, stop, theta))
        add_square(H, scratch, t, places, values, start, stop, weight[r] * g, weight[r] * D)


@njit(**LEAF)
def value_at(link: int, rows: Sorted, e: int, offset: Any, prior: Prior, t: int, share: float, memory: Memory) -> float:
    """Value of f at theta − share · step, whose whole changes of the margins are in memory.change."""
    touched = rows.touched[rows.first[e] : rows.first[e + 1]]
    total = 0.0
    for j in range(t):
        moved = memory.theta[j] - share * memory.step[j] - prior.mean[touched[j]]
        if prior.precision.shape[0] == 1:
            total += 0.5 * prior.precision[0, touched[j]] * moved * moved
        else:
            for k in range(t):
                other = memory.theta[k] - share * memory.step[k] - prior.mean[touched[k]]
                total += 0.5 * prior.precision[touched[j], touched[k]] * moved * other
    for r in range(rows.ptr[e], rows.ptr[e + 1]):
        eta = offset[r] + dot(rows.places, rows.values, rows.indptr[r], rows.indptr[r + 1], memory.theta)
        if rows.weight[r] != 0.0:
            eta -= share * memory.change[r - rows.ptr[e]]
            total += rows.weight[r] * loss(link, rows.label[r], eta)
    return total


@njit(**LEAF)
def length(
    link: int, rows: Sorted, e: int, offset: Any, prior: Prior, t: int, decrement: float, memory: Memory
) -> float:
    """Longest step of 1, ½, ¼ … that is sure to descend or meets Armijo's condition; 0 when there is none."""
    places, values, indptr, step, change = rows.places, rows.values, rows.indptr, memory.step, memory.change
    largest = 0.0
    for r in range(rows.ptr[e], rows.ptr[e + 1]):
        moved = dot(places, values, indptr[r], indptr[r + 1], step)
        change[r - rows.ptr[e]] = moved
        largest = max(largest, abs(moved))
    if largest <= SAFE_CHANGE or link == IDENTITY:
        return 1.0
    value = value_at(link, rows, e, offset, prior, t, 0.0, memory)
    share = 1.0
    for _ in range(MAX_HALVINGS + 1):
        if value_at(link, rows, e, offset, prior, t, share, memory) <= value - ARMIJO * share * decrement:
            return share
        share *= 0.5
    return 0.0


@njit(**ONCE)
def mode(
    link: int, rows: Sorted, e: int, offset: Any, prior: Prior, t: int, enough: float, memory: Memory, solved: Solved
) -> int:
    """Newton from memory.theta, in place, until a whole step is taken at a decrement of `enough`; a status."""
    for step in range(1, MAX_STEPS + 1):
        assemble(link, rows, e, offset, prior, t, memory)
        if step == 1:
            for j in range(t):
                solved.squared[e] += memory.H[t, j] ** 2
        solved.steps[e] = step
        status: int = factor(memory.H, t, t + 1)
        if status != CONVERGED:
            return status
        decrement = 0.0
        for j in range(t):
            decrement += memory.H[t, j] ** 2
        solved.decrement[e] = decrement
        if not math.isfinite(decrement):
            return NON_FINITE
        back_substitute(memory.H, t, t, memory.step)
        share = length(link, rows, e, offset, prior, t, decrement, memory)
        if share == 0.0:
            return NOT_CONVERGED
        for j in range(t):
            memory.theta[j] -= share * memory.step[j]
        if decrement <= enough and share == 1.0:
            return CONVERGED
    return NOT_CONVERGED


@njit(**LEAF)
def enter(rows: Sorted, e: int, prior: Prior, memory: Memory, mean: Any) -> int:
    """Take entity e's coefficients, returning those that no row touches to the prior; how many are solved."""
    start = rows.first[e]
    t: int = rows.first[e + 1] - start
    for k in range(t):
        memory.theta[k] = mean[rows.touched[start + k]]
    for j in range(prior.mean.shape[0]):
        mean[j] = prior.mean[j]
    for k in range(t):
        mean[rows.touched[start + k]] = memory.theta[k]
    return t


@njit(**LEAF)
def find_modes(
    link: int, rows: Sorted, offset: Any, prior: Prior, enough: float, first: int, last: int, memory: Memory,
    means: Any, solved: Solved,
) -> None:  # fmt: skip
    """Move the means of entities first … last − 1 towards their modes; to the prior's where that fails."""
    for e in range(first, last):
        mean = means[rows.codes[e]]
        t = enter(rows, e, prior, memory, mean)
        solved.squared[e] = 0.0
        solved.status[e] = mode(link, rows, e, offset, prior, t, enough, memory, solved)
        for k in range(t):
            j = rows.touched[rows.first[e] + k]
            mean[j] = memory.theta[k] if solved.status[e] == CONVERGED else prior.mean[j]


@njit(**LEAF)
def find_terms(rows: Sorted, order: Any, means: Any, theta: Any, out: Any) -> None:
    """Set out_n = z_nᵀ θ_e for the rows n = order[r] of every entity."""
    for e in range(rows.codes.shape[0]):
        mean = means[rows.codes[e]]
        for k in range(rows.first[e + 1] - rows.first[e]):
            theta[k] = mean[rows.touched[rows.first[e] + k]]
        for r in range(rows.ptr[e], rows.ptr[e + 1]):
            out[order[r]] = dot(rows.places, rows.values, rows.indptr[r], rows.indptr[r + 1], theta)


@njit(**LEAF)
def find_posteriors(
    link: int, rows: Sorted, offset: Any, prior: Prior, cov0: Any, prior_root: Any, first: int, last: int,
    memory: Memory, means: Any, covs: Any, solved: Solved,
) -> None:  # fmt: skip
    """Covariances, packed or diagonal, and log evidence of entities at their modes; cov0 is the prior's row.

    `prior_root` (d) is the logarithm of the diagonal of the prior precision's factor.
    """
    d = prior.mean.shape[0]
    packed = covs.shape[1] != d or d == 1
    for e in range(first, last):
        if solved.status[e] != CONVERGED:
            continue
        cov = covs[rows.codes[e]]
        touched = rows.touched[rows.first[e] : rows.first[e + 1]]
        t = enter(rows, e, prior, memory, means[rows.codes[e]])
        assemble(link, rows, e, offset, prior, t, memory)
        for r in range(rows.ptr[e], rows.ptr[e + 1]):
            memory.change[r - rows.ptr[e]] = 0.0
        value = value_at(link, rows, e, offset, prior, t, 0.0, memory)
        moved = 0.0
        roots = 0.0
        for j in range(cov0.shape[0]):
            cov[j] = cov0[j]
        for k in range(t):
            if not packed:
                cov[touched[k]] = 1.0 / memory.H[k, k]
            moved += (memory.theta[k] - prior.mean[touched[k]]) ** 2
            roots += prior_root[touched[k]]
        status = factor(memory.H, t, t)
        solved.status[e] = status
        if status != CONVERGED:
            continue
        solved.evidence[e] = roots - value - log_diagonal(memory.H, t)
        solved.change[e] = math.sqrt(moved)
        if packed:
            invert_factor(memory.H, t, memory.Z, memory.step, memory.V)
            for k in range(t):
                for c in range(k + 1):
                    i, j = touched[k], touched[c]
                    cov[max(i, j) * (max(i, j) + 1) // 2 + min(i, j)] = memory.V[k, c]
