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
# Spare places at the end of every vector and row, so that loops may run to the next multiple of eight.
_SPARE = 8
_PAIR_FIELDS = 18


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
        at, given, e = np.zeros(n, np.int64), _matrix(n, 3), n + _SPARE
        return cls(at, given, _vector(e), _vector(e), _matrix(2, e), none, none.copy())


class Primal(NamedTuple):
    """Memory for a solve in d coefficients; every vector has d places and every matrix d², and some to spare."""

    mean: Floats
    theta: Floats
    ahead: Floats
    step: Floats
    diagonal: Floats  # diag(H)
    row: Floats  # at least TILE places
    P: Floats
    H: Floats
    X: Floats  # (d, TILE): dense columns

    @classmethod
    def of(cls, vectors: int, matrices: int) -> Primal:
        """Memory for as many coefficients as `matrices`, with vectors of `vectors` for the dual to share."""
        e, m = vectors + _SPARE, matrices + _SPARE
        mean, theta, ahead, step, diagonal = (_vector(e) for _ in range(5))
        P, H, row = _matrix(m, m), _matrix(m, m), _vector(max(e, TILE))
        return cls(mean, theta, ahead, step, diagonal, row, P, H, _matrix(m, TILE))


class Dual(NamedTuple):
    """Memory for a solve in n rows; every vector has n places and every matrix n², and some to spare."""

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
        k = n + _SPARE
        a, a_ahead, Ka, Ka_ahead, residual, root = (_vector(k) for _ in range(6))
        return cls(a, a_ahead, Ka, Ka_ahead, residual, root, _matrix(k, k), _matrix(k, k))


class Pairs(NamedTuple):
    """Memory for eight entities of one or two rows, side by side."""

    shared: Floats  # (3, d): rows x and y, and a new mean
    own: Floats  # (8 · 3, d): for each entity V x and V y, then the rows of M, and diag(V)
    numbers: Floats  # (fields, 8): see `_pair_modes`
    who: Ints  # (8, 2): entity, state row

    @classmethod
    def of(cls, d: int) -> Pairs:
        """Memory for d dimensions."""
        e = d + _SPARE
        return cls(_aligned(3, e), _aligned(8 * 3, e), _aligned(_PAIR_FIELDS, 8), np.zeros((8, 2), np.int64))


class Full(NamedTuple):
    """Memory of the kernel for packed covariances."""

    rows: Rows
    primal: Primal
    dual: Dual
    S: Floats  # (d, d): prior covariance, or the posterior's
    Z: Floats  # (d, d): inverse of a factor
    X: Floats  # (k, d): dense rows
    VX: Floats  # (k, d)
    pairs: Pairs

    @classmethod
    def of(cls, d: int, most_rows: int, most_entries: int) -> Full:
        """Memory for entities of at most `most_rows` rows."""
        k, e = min(most_rows, d), d + _SPARE
        rows, primal, dual = Rows.of(most_rows, d), Primal.of(d, d), Dual.of(k)
        X, VX = _matrix(k + 2, e), _matrix(k + 2, e)
        return cls(rows, primal, dual, _matrix(e, e), _matrix(e, e), X, VX, Pairs.of(d))


class Diagonal(NamedTuple):
    """Memory of the kernel for variances."""

    rows: Rows
    primal: Primal
    dual: Dual
    variance: Floats  # t: prior variances of the touched dimensions
    X: Floats  # (k, t): dense rows
    VX: Floats  # (k, t)

    @classmethod
    def of(cls, d: int, most_rows: int, most_entries: int) -> Diagonal:
        """Memory for entities of at most `most_rows` rows that touch at most `most_entries` dimensions."""
        t = min(d, most_entries)
        k = min(most_rows, t)
        rows, primal, dual, e = Rows.of(most_rows, d), Primal.of(t, k), Dual.of(k), t + _SPARE
        return cls(rows, primal, dual, _vector(t), _matrix(k + 2, e), _matrix(k + 2, e))


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


def _aligned(rows: int, columns: int) -> Floats:
    """A matrix whose rows begin with a cache line: no four or eight numbers at a multiple of as many span two."""
    line = 64 // 8
    columns = -(-columns // line) * line
    room = np.zeros(rows * columns + _APART + line)
    first = -(room.ctypes.data // 8) % line
    return room[first : first + rows * columns].reshape(rows, columns)
