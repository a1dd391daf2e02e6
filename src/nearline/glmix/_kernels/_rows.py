"""The rows of one entity, compiled: gathered from the minibatch, laid out densely, multiplied and squared.

A row's entries are `values[start:stop]` at local dimensions `indices[start − shift : stop − shift]`; a dense design has
`width` entries on every row, which share one index list. `position` maps a local dimension to its place in the solve:
itself, or its rank among the dimensions that the entity's rows touch.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nearline.glmix._kernels._linalg import LEAF, ONCE
from nearline.glmix._kernels._scalar import derivatives, loss

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# A solve is sparse when less than this share of its dense design is filled.
SPARSE = 0.3

# Columns of `given` and rows of `slope`.
LABEL, WEIGHT, OFFSET = 0, 1, 2
FIRST, SECOND = 0, 1


class Batch(NamedTuple):
    """The rows of a minibatch in an effect's local dimensions; `width` is 0 for CSR, else the length of every row."""

    indptr: Ints  # n + 1, or empty
    indices: NDArray[np.int32]  # nnz, or width
    values: Floats  # nnz, or n · width
    width: int
    label: Floats
    weight: Floats
    offset: Floats


class Groups(NamedTuple):
    """Which rows belong to which entity: entity e owns rows order[ptr[e] : ptr[e+1]] and state row codes[e]."""

    codes: Ints  # E
    ptr: Ints  # E + 1
    order: Ints  # n


@njit(**LEAF)
def eights(n: int) -> int:
    """The next multiple of eight: vectorised loops of such a length leave no scalar remainder."""
    return (n + 7) & -8


@njit(**LEAF)
def span(batch: Batch, i: int) -> tuple[int, int, int]:
    """(start, stop, shift) of row i's entries."""
    if batch.width > 0:
        return i * batch.width, (i + 1) * batch.width, i * batch.width
    return batch.indptr[i], batch.indptr[i + 1], 0


@njit(**ONCE)
def gather(batch: Batch, groups: Groups, e: int, rows: Any, given: Any) -> tuple[int, int]:
    """Collect entity e's rows of positive weight; (rows, entries), or (−1, 0) where a weight is no weight."""
    n = 0
    entries = 0
    for q in range(groups.ptr[e], groups.ptr[e + 1]):
        i = groups.order[q]
        if batch.weight[i] == 0.0:
            continue
        if not 0.0 < batch.weight[i] < math.inf:
            return -1, 0
        start, stop, _ = span(batch, i)
        entries += stop - start
        rows[n] = i
        given[n, LABEL], given[n, WEIGHT], given[n, OFFSET] = batch.label[i], batch.weight[i], batch.offset[i]
        n += 1
    return n, entries


@njit(**LEAF)
def touch(batch: Batch, rows: Any, n: int, position: Any, touched: Any) -> int:
    """Number the dimensions that n rows touch, in order of appearance; `position` must be −1 throughout."""
    count = 0
    for r in range(n):
        start, stop, shift = span(batch, rows[r])
        for q in range(start, stop):
            j = batch.indices[q - shift]
            if batch.values[q] != 0.0 and position[j] < 0:
                position[j] = count
                touched[count] = j
                count += 1
    return count


@njit(**LEAF)
def lay_rows(batch: Batch, rows: Any, n: int, d: int, plain: bool, position: Any, X: Any) -> None:
    """Dense rows into X (n, d), zero to the next multiples of two and eight; `plain` rows are dense already."""
    for r in range(n):
        start, stop, shift = span(batch, rows[r])
        if plain:
            for j in range(d):
                X[r, j] = batch.values[start + j]
        else:
            for j in range(d):
                X[r, j] = 0.0
            for q in range(start, stop):
                if batch.values[q] != 0.0:
                    X[r, position[batch.indices[q - shift]]] += batch.values[q]
        for j in range(d, eights(d)):
            X[r, j] = 0.0
    if n & 1:
        for j in range(eights(d)):
            X[n, j] = 0.0


@njit(**LEAF)
def lay_columns(batch: Batch, rows: Any, first: int, last: int, d: int, plain: bool, position: Any, X: Any) -> None:
    """Dense columns of rows[first:last] into X (d, last − first), zero to the next multiple of four."""
    for j in range((d + 3) & -4):
        for r in range(last - first):
            X[j, r] = 0.0
    for r in range(last - first):
        start, stop, shift = span(batch, rows[first + r])
        if plain:
            for j in range(d):
                X[j, r] = batch.values[start + j]
            continue
        for q in range(start, stop):
            if batch.values[q] != 0.0:
                X[position[batch.indices[q - shift]], r] += batch.values[q]


@njit(**LEAF)
def margins(batch: Batch, rows: Any, n: int, given: Any, position: Any, theta: Any, eta: Any) -> None:
    """Margins offset + X theta into eta (n), from the sparse rows."""
    for r in range(n):
        start, stop, shift = span(batch, rows[r])
        total = given[r, OFFSET]
        for q in range(start, stop):
            if batch.values[q] != 0.0:
                total += batch.values[q] * theta[position[batch.indices[q - shift]]]
        eta[r] = total


@njit(**LEAF)
def column_margins(X: Any, n: int, d: int, given: Any, theta: Any, eta: Any) -> None:
    """Margins offset + X theta into eta (n), from dense columns; theta is zero to the next multiple of four."""
    for r in range(n):
        eta[r] = given[r, OFFSET]
    for j in range(0, d, 4):
        f0, f1, f2, f3 = theta[j], theta[j + 1], theta[j + 2], theta[j + 3]
        for r in range(n):
            eta[r] += f0 * X[j, r] + f1 * X[j + 1, r] + f2 * X[j + 2, r] + f3 * X[j + 3, r]


@njit(**LEAF)
def slopes(link: int, n: int, given: Any, eta: Any, slope: Any) -> None:
    """First and second derivatives at eta times the weights, w∘g and w∘D, into the rows of slope."""
    for r in range(n):
        g, D = derivatives(link, given[r, LABEL], eta[r])
        slope[FIRST, r], slope[SECOND, r] = given[r, WEIGHT] * g, given[r, WEIGHT] * D


@njit(**LEAF)
def total_loss(link: int, n: int, given: Any, eta: Any) -> float:
    """Σ_n w_n ℓ(y_n, η_n)."""
    total = 0.0
    for r in range(n):
        total += given[r, WEIGHT] * loss(link, given[r, LABEL], eta[r])
    return total


@njit(**LEAF)
def add_dense(X: Any, first: int, n: int, d: int, slope: Any, row: Any, H: Any) -> None:
    """H (lower) += Xᵀ W X and H[d] += Xᵀ (w∘g), from the dense columns of n rows, the first of them row `first`."""
    for j in range(d + 1):
        if j < d:
            for r in range(n):
                row[r] = slope[SECOND, first + r] * X[j, r]
        else:
            for r in range(n):
                row[r] = slope[FIRST, first + r]
        for c in range(0, min(j + 1, d), 4):
            t0 = t1 = t2 = t3 = 0.0
            for r in range(n):
                x = row[r]
                t0 += x * X[c, r]
                t1 += x * X[c + 1, r]
                t2 += x * X[c + 2, r]
                t3 += x * X[c + 3, r]
            H[j, c] += t0
            H[j, c + 1] += t1
            H[j, c + 2] += t2
            H[j, c + 3] += t3


@njit(**LEAF)
def add_sparse(batch: Batch, rows: Any, n: int, d: int, position: Any, slope: Any, H: Any) -> None:
    """As `add_dense`, from the sparse entries; a dimension that a row repeats counts as their sum."""
    for r in range(n):
        start, stop, shift = span(batch, rows[r])
        for q in range(start, stop):
            if batch.values[q] == 0.0:
                continue
            j = position[batch.indices[q - shift]]
            H[d, j] += slope[FIRST, r] * batch.values[q]
            f = slope[SECOND, r] * batch.values[q]
            for p in range(start, stop):
                if batch.values[p] != 0.0:
                    c = position[batch.indices[p - shift]]
                    if c <= j:
                        H[j, c] += f * batch.values[p]
