"""Low-rank blocks in event mode, compiled apart from the event kernels and only for models that have such a block.

The event kernels call these by address, as C functions of the address of one block's record: `project` before an event
is decided on, `absorb` once it is learned, `relax` before both where time has passed. `project` leaves in the block's
working memory what `absorb` needs, and writes nothing of the posterior.

What is compiled here is found on disk by this file's text alone: who changes `_lowrank`, `_lowrank_fold` or the layout
of `PLAN` must clear `__pycache__`, or old code runs; `PLAN` last gained `locked` and `top`.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import njit
from numba.np.numpy_support import carray

from nearline.glmix._kernels import _lowrank, _lowrank_fold
from nearline.glmix._kernels._forget import LN2, block_at
from nearline.glmix._kernels._lanes import ARRAYS, float32s, floats, ints, pointer
from nearline.glmix._kernels._linalg import OPTIONS
from nearline.glmix._kernels._records import DENSE, PER_UPDATE, REVERTING

_records, _project, _shift, _append = _lowrank.records, _lowrank.project, _lowrank.shift, _lowrank.append
_last_used = _lowrank.last_used
_forget, _revert, _walk = _lowrank_fold.forget, _lowrank_fold.revert, _lowrank_fold.walk


@njit(**ARRAYS)
def work_of(b: Any) -> Any:
    """The block's working memory, `scratch_size(d, kmax)` numbers."""
    return carray(floats(b.work), (4 * b.kmax + 2 * b.kmax * b.kmax + 2 * b.d,))


@njit(**ARRAYS)
def make_sparse(b: Any) -> None:
    """List the entries of a design that is written out (a block that loadings act on)."""
    if b.used != DENSE:
        return
    x, slots, entries, used = floats(b.x), ints(b.slots), floats(b.entries), 0
    for j in range(b.d):
        if x[j] != 0.0:
            slots[used], entries[used] = j, x[j]
            used += 1
    b.used = used


@njit(**ARRAYS)
def project(b: Any, like: Any) -> None:
    """s_b = x_bᵀ H_b⁻¹ x_b into `b.own`, NaN when it overflows; u = M⁻¹ Qᵀ diag(1/h) x into working memory."""
    make_sparse(b)
    row = carray(pointer(b.cov, like), (b.size,))
    slots, entries = carray(ints(b.slots), (b.used,)), carray(floats(b.entries), (b.used,))
    b.own = _project(row, b.d, b.kmax, slots, entries, b.used, work_of(b))
    S, bound = _records(row, b.d, b.kmax), 0.0
    for p in range(b.used):
        bound += entries[p] * entries[p] / S[slots[p], b.kmax]
    if not math.isfinite(bound):
        b.own = math.nan


@njit(**ARRAYS)
def absorb(b: Any, like: Any) -> None:
    """Store what the event teaches: μ_b + step H_b⁻¹ x and H_b + gain x xᵀ, from where `relax` has left them."""
    mean = carray(pointer(b.mean_at + b.entity * b.mean_step, like), (b.d,))
    row = carray(pointer(b.cov_at + b.entity * b.cov_step, like), (b.size,))
    if b.mean == b.own_mean:
        mean[:] = carray(pointer(b.mean, like), (b.d,))
        row[:] = carray(pointer(b.cov, like), (b.size,))
    slots, entries, work = carray(ints(b.slots), (b.used,)), carray(floats(b.entries), (b.used,)), work_of(b)
    _shift(row, b.d, b.kmax, slots, entries, b.used, b.step, mean, work)
    _append(row, b.d, b.kmax, b.rank, slots, entries, b.used, b.gain, work)


@njit(**ARRAYS)
def discount(b: Any) -> float:
    """Share δ, or OU's a, that is left of the posterior since its last update."""
    if b.form == PER_UPDATE:
        return float(b.rate)
    return math.exp(-LN2 * max(b.since, 0.0) / b.rate) if b.rate > 0.0 else 1.0


@njit(**ARRAYS)
def growth(b: Any) -> bool:
    """Random-walk variance gained by now, into `b.q`; whether there is any."""
    q, event, second, found = floats(b.q), floats(b.walk_event), floats(b.walk_second), False
    for j in range(b.d):
        q[j] = event[j] + second[j] * max(b.since, 0.0)
        found = found or q[j] > 0.0
    return found


@njit(**ARRAYS)
def touched(d: int, kmax: int, row: Any, start: Any, mean: Any, base: Any) -> int:
    """Dimensions up to the last that differs from the prior; those after it stay there whatever happens before."""
    d = _last_used(row, d, kmax)
    total = mean.shape[0]
    S, S0 = _records(row, total, kmax), _records(start, total, kmax)
    for j in range(total - 1, d - 1, -1):
        if mean[j] != base[j] or S[j, kmax] != S0[j, kmax]:
            return j + 1
    return d


@njit(**ARRAYS)
def relax(b: Any, like: Any) -> None:
    """Point a block at a copy of its entity: folded towards the prior first, then random-walk variance is added."""
    delta, walks = discount(b), growth(b)
    if delta >= 1.0 and not walks:
        return
    mean, row = carray(pointer(b.own_mean, like), (b.d,)), carray(pointer(b.own_cov, like), (b.size,))
    mean[:] = carray(pointer(b.mean, like), (b.d,))
    row[:] = carray(pointer(b.cov, like), (b.size,))
    base, start = carray(pointer(b.mu0, like), (b.d,)), carray(pointer(b.cov0, like), (b.size,))
    prior, work, S0 = carray(floats(b.v), (b.d,)), work_of(b), _records(start, b.d, b.kmax)
    for j in range(b.d):
        prior[j] = S0[j, b.kmax]
    d = touched(b.d, b.kmax, row, start, mean, base)
    if delta < 1.0 and b.form == REVERTING:
        _revert(row, d, b.kmax, delta, prior, mean, base, work)
    elif delta < 1.0:
        _forget(row, d, b.kmax, delta, prior, mean, base, work)
    if walks:
        _walk(row, d, b.kmax, carray(floats(b.q), (b.d,)), prior, work)
    b.mean = b.own_mean
    b.cov = b.own_cov


class Addresses(NamedTuple):
    """C functions of the address of one block's record."""

    relax: int
    project: int
    absorb: int


def _relax64(block: int) -> None:
    relax(block_at(block), floats(0))


def _relax32(block: int) -> None:
    relax(block_at(block), float32s(0))


def _project64(block: int) -> None:
    project(block_at(block), floats(0))


def _project32(block: int) -> None:
    project(block_at(block), float32s(0))


def _absorb64(block: int) -> None:
    absorb(block_at(block), floats(0))


def _absorb32(block: int) -> None:
    absorb(block_at(block), float32s(0))


_FUNCTIONS: Any = {
    8: {"relax": _relax64, "project": _project64, "absorb": _absorb64},
    4: {"relax": _relax32, "project": _project32, "absorb": _absorb32},
}


@cache
def _compiled(name: str, itemsize: int) -> int:
    compiled: Any = numba.cfunc("void(int64)", **OPTIONS)(_FUNCTIONS[itemsize][name])
    return int(compiled.address)


def addresses(dtype: np.dtype[Any], relaxes: bool) -> Addresses:
    """The three functions for storage of `dtype`, compiled at the first request; no `relax` (0) unless asked for."""
    size = dtype.itemsize
    return Addresses(_compiled("relax", size) if relaxes else 0, _compiled("project", size), _compiled("absorb", size))
