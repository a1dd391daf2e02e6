"""Working memory of the minibatch kernels, made once per call and thread; plain NumPy, so nothing to compile."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Rows per dense tile: 64 rows of 31 dimensions fill half of a first-level cache.
TILE = 64
# A vectorised loop falls back to its scalar form where the array that it writes begins within a vector's reach of one
# that it reads, which would make the last bit depend on addresses. No two arrays here are that close.
_APART = 64


class Rows(NamedTuple):
    """Memory for the n rows of one entity."""

    at: Ints  # n: row numbers
    given: Floats  # (n, 3): label, weight, offset
    eta: Floats  # n: margins at the current point
    ahead: Floats  # n: margins at the next one
    slope: Floats  # (2, n): w∘g and w∘D
    position: Ints  # d
    touched: Ints  # d

    @classmethod
    def of(cls, n: int, d: int) -> Rows:
        """Memory for n rows of d local dimensions."""
        none = np.full(d, -1, np.int64)
        return cls(np.zeros(n, np.int64), _matrix(n, 3), _vector(n), _vector(n), _matrix(2, n), none, none.copy())


class Primal(NamedTuple):
    """Memory for a solve in d coefficients; every vector has d + 4 places, every matrix (d + 4)²."""

    mean: Floats
    theta: Floats
    ahead: Floats
    step: Floats
    diagonal: Floats  # diag(H)
    row: Floats  # at least TILE places
    P: Floats
    H: Floats
    X: Floats  # (d + 4, TILE) dense columns

    @classmethod
    def of(cls, vectors: int, matrices: int) -> Primal:
        """Memory for as many coefficients as `matrices`, with vectors of `vectors` for the dual to share."""
        e, m = vectors + 4, matrices + 4
        mean, theta, ahead, step, diagonal = (_vector(e) for _ in range(5))
        P, H, row = _matrix(m, m), _matrix(m, m), _vector(max(e, TILE))
        return cls(mean, theta, ahead, step, diagonal, row, P, H, _matrix(m, TILE))


class Dual(NamedTuple):
    """Memory for a solve in n rows; every vector has n + 4 places, every matrix (n + 4)²."""

    a: Floats
    a_ahead: Floats
    Ka: Floats
    Ka_ahead: Floats
    residual: Floats  # a + w∘g
    root: Floats  # √(w D), the diagonal of S
    K: Floats
    B: Floats

    @classmethod
    def of(cls, n: int) -> Dual:
        """Memory for n rows."""
        k = n + 4
        a, a_ahead, Ka, Ka_ahead, residual, root = (_vector(k) for _ in range(6))
        return cls(a, a_ahead, Ka, Ka_ahead, residual, root, _matrix(k, k), _matrix(k, k))


class Full(NamedTuple):
    """Memory of the kernel for packed covariances."""

    rows: Rows
    primal: Primal
    dual: Dual
    S: Floats  # (d + 4)²: prior covariance, or the posterior's
    Z: Floats  # (d + 4)²: inverse of a factor
    X: Floats  # (k, d + 4): dense rows
    VX: Floats  # (k, d + 4)

    @classmethod
    def of(cls, d: int, most_rows: int, most_entries: int) -> Full:
        """Memory for entities of at most `most_rows` rows."""
        k, e = min(most_rows, d), d + 4
        square = (_matrix(e, e), _matrix(e, e), _matrix(k + 4, e), _matrix(k + 4, e))
        return cls(Rows.of(most_rows, d), Primal.of(d, d), Dual.of(k), *square)


class Diagonal(NamedTuple):
    """Memory of the kernel for variances."""

    rows: Rows
    primal: Primal
    dual: Dual
    variance: Floats  # t: prior variances of the touched dimensions
    X: Floats  # (k, t + 4): dense rows
    VX: Floats  # (k, t + 4)

    @classmethod
    def of(cls, d: int, most_rows: int, most_entries: int) -> Diagonal:
        """Memory for entities of at most `most_rows` rows that touch at most `most_entries` dimensions."""
        t = min(d, most_entries)
        k = min(most_rows, t)
        tall = (_vector(t), _matrix(k + 4, t + 4), _matrix(k + 4, t + 4))
        return cls(Rows.of(most_rows, d), Primal.of(t, k), Dual.of(k), *tall)


class Outcome(NamedTuple):
    """What each entity's update came to; NaN where it failed."""

    status: NDArray[np.int8]
    steps: NDArray[np.int32]
    evidence: Floats
    change: Floats
    decrement: Floats

    @classmethod
    def of(cls, entities: int) -> Outcome:
        """Room for as many entities."""
        status, steps = np.zeros(entities, np.int8), np.zeros(entities, np.int32)
        return cls(status, steps, *(np.full(entities, np.nan) for _ in range(3)))


def _vector(n: int) -> Floats:
    return np.zeros(n + _APART)[:n]


def _matrix(rows: int, columns: int) -> Floats:
    return np.zeros(rows * columns + _APART)[: rows * columns].reshape(rows, columns)
