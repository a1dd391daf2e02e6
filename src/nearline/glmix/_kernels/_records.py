"""The records that the kernels take: rows of a design, blocks of a model, working memory.

A kernel reaches the posterior of entity e of block r by address, `mean_at[r] + e * d[r] * itemsize`: so one compiled kernel
serves any number of blocks, and no reference count is touched per event. Whoever builds `Blocks` keeps the arrays alive.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from nearline.glmix._kernels._scalar import FASTMATH

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FULL, DIAGONAL, LOWRANK = 0, 1, 2
NEVER, REVERTING, STABILISED, PER_UPDATE = 0, 1, 2, 3
DENSE = -1


class Rows(NamedTuple):
    """n rows: sparse features over slots, the entity of each block (−1: never seen), and the row's roles."""

    indptr: Ints  # n + 1
    indices: NDArray[np.int32]  # nnz: slot
    values: Floats  # nnz
    entities: NDArray[np.int32]  # (R, n)
    label: Floats
    weight: Floats
    offset: Floats
    time: Floats  # seconds


class Blocks(NamedTuple):
    """R blocks; every field but `local` and `like` has one entry per block."""

    local: NDArray[np.int32]  # (R, slots): the block's own dimension of a slot, or −1
    d: Ints
    size: Ints  # stored covariance numbers per entity
    kinds: Ints  # FULL | DIAGONAL | LOWRANK
    of: Ints  # the block that a loadings block loads on, or −1
    loaded: NDArray[np.bool_]  # some loadings block loads on this one
    forms: Ints  # NEVER | REVERTING | STABILISED | PER_UPDATE
    rates: Floats  # half-life in seconds, or δ
    walks: NDArray[np.bool_]  # any random-walk noise
    mean_at: Ints  # address of (E, d)
    cov_at: Ints  # address of (E, size)
    last_at: Ints  # address of (E) float64: time of the last update, NaN before the first
    count_at: Ints  # address of (E) int32: events learned
    mu0: Any  # (R, D)
    cov0: Any  # (R, P)
    walk_event: Floats  # (R, D): variance per event
    walk_second: Floats  # (R, D): variance per second
    like: Any  # empty array of the storage dtype


class Scratch(NamedTuple):
    """Working memory of one thread."""

    X: Floats  # (R, D) dense designs
    v: Floats  # (R, D) S x
    slots: Ints  # (R, K)
    entries: Floats  # (R, K)
    used: Ints  # (R): entries in use, or DENSE
    M: Floats  # (R, D) relaxed means
    S: Floats  # one relaxed covariance
    s: Floats  # (R) xᵀ S x
    at: Ints  # addresses of X, v, slots, entries, M: a row view by address costs no reference count


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(typing_context: Any, address: Any, like: Any) -> Any:
    """Pointer to elements of `like`'s dtype at an integer address."""
    pointer = types.CPointer(like.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(pointer))

    return pointer(types.int64, like), generate


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def view(address: int, size: int, like: Any) -> Any:
    """One-dimensional array of `size` elements at an address; owns nothing."""
    return carray(_pointer(address, like), (size,))


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def row(w: Scratch, field: int, r: int) -> Any:
    """Row r of X (0), v (1), entries (3) or M (4)."""
    return view(w.at[field] + r * w.at[5 + field], w.at[10 + field], w.S)


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def slots_of(w: Scratch, r: int) -> Any:
    """Row r of slots."""
    return view(w.at[2] + r * w.at[7], w.at[12], w.used)
