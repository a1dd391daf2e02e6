"""Forgetting on a copy, compiled apart from the event kernels and only for models that forget.

The kernels call it by address, once per entity and event: so its loops over matrices are neither compiled for a model
that never forgets nor optimised again inside every kernel.

A compiled C function on disk is found by its own file and signature, neither of which shows the layout of `PLAN` or
the text of `_folds`: who changes them must touch this file and `_lowrank_event` too (`PLAN` last gained `locked` and
`top`). Low-rank blocks forget there.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numba
import numpy as np
from numba import njit
from numba.np.numpy_support import carray

from nearline.glmix._kernels._folds import fold_reverting, fold_stabilised
from nearline.glmix._kernels._lanes import ARRAYS, float32s, floats, pointer, record_at
from nearline.glmix._kernels._linalg import OPTIONS
from nearline.glmix._kernels._records import DIAGONAL, PER_UPDATE, PLAN, REVERTING

LN2 = math.log(2.0)

block_at = record_at(PLAN)


@njit(**ARRAYS)
def relax(b: Any, like: Any) -> None:
    """Point a block at a copy of its entity, folded towards the prior by what was forgotten since its last update."""
    delta = b.rate if b.form == PER_UPDATE else 1.0
    if b.form != PER_UPDATE and b.rate > 0.0:
        delta = math.exp(-LN2 * max(b.since, 0.0) / b.rate)
    if delta >= 1.0:
        return
    mean, cov = carray(pointer(b.own_mean, like), (b.d,)), carray(pointer(b.own_cov, like), (b.size,))
    mean_now, cov_now = pointer(b.mean, like), pointer(b.cov, like)
    for j in range(b.d):
        mean[j] = mean_now[j]
    for p in range(b.size):
        cov[p] = cov_now[p]
    mu0, cov0 = carray(pointer(b.mu0, like), (b.d,)), carray(pointer(b.cov0, like), (b.size,))
    if b.form == REVERTING:
        fold_reverting(delta, mean, cov, mu0, cov0)
    else:
        fold_stabilised(b.kind == DIAGONAL, delta, mean, cov, mu0, cov0)
    b.mean = b.own_mean
    b.cov = b.own_cov


def _relax64(block: int) -> None:
    relax(block_at(block), floats(0))


def _relax32(block: int) -> None:
    relax(block_at(block), float32s(0))


@cache
def relax_address(dtype: np.dtype[Any]) -> int:
    """Address of a C function of one block's address: `relax` on storage of `dtype`, compiled at the first request."""
    function = _relax64 if dtype == np.float64 else _relax32
    compiled: Any = numba.cfunc("void(int64)", **OPTIONS)(function)
    return int(compiled.address)
