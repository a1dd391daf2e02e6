"""Working memory of the minibatch kernels, made once per call and thread, and what they report."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nearline.glmix._kernels._linalg import CONVERGED, LEAF, NON_FINITE, OPTIONS
from nearline.glmix._kernels._newton import Dual, Mode, Primal, Rows
from nearline.glmix._kernels._rows import TILE, total_loss

Floats = NDArray[np.float64]


class Outcome(NamedTuple):
    """What each entity's update came to; NaN where it failed."""

    status: NDArray[np.int8]
    steps: NDArray[np.int32]
    evidence: Floats
    change: Floats
    decrement: Floats


@njit(**OPTIONS)
def row_memory(n: int, d: int) -> Rows:
    """Memory for n rows of d local dimensions."""
    return Rows(
        np.empty(n, np.int64), np.empty((n, 3)), np.empty(n), np.empty(n), np.empty((2, n)), np.full(d, -1, np.int64),
        np.empty(d, np.int64),
    )  # fmt: skip


@njit(**OPTIONS)
def primal_memory(vectors: int, matrices: int) -> Primal:
    """Memory for a solve in as many coefficients as `matrices`, beside vectors of `vectors` dimensions."""
    e, m = vectors + 4, matrices + 4
    return Primal(
        np.zeros(e), np.zeros(e), np.zeros(e), np.zeros(e), np.zeros(e), np.zeros(max(e, TILE)), np.zeros((m, m)),
        np.zeros((m, m)), np.zeros((m, TILE)),
    )  # fmt: skip


@njit(**OPTIONS)
def dual_memory(n: int) -> Dual:
    """Memory for a solve in n rows."""
    k = n + 4
    return Dual(
        np.zeros(k), np.zeros(k), np.zeros(k), np.zeros(k), np.zeros(k), np.zeros(k), np.zeros((k, k)), np.zeros((k, k))
    )


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
