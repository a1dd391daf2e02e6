"""The records that the kernels take: rows of a design, blocks of a model.

A kernel reaches everything by address: entity e of block r has its mean at `mean_at[r] + e * d[r] * itemsize`. So one
compiled kernel serves any number of blocks and any mixture of read-only, mapped and growing arrays, and no reference is
counted per event. Whoever builds `Blocks` keeps the arrays alive.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nearline.glmix._codes import DIAGONAL, FULL, LOWRANK, NEVER, PER_UPDATE, REVERTING, STABILISED

__all__ = [
    "DENSE", "DIAGONAL", "FULL", "LOWRANK", "NEVER", "PER_UPDATE", "PLAN", "REVERTING", "ROWS", "STABILISED",
    "Blocks", "Rows",
]  # fmt: skip

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DENSE = -1
"""In place of a number of sparse entries: the design is written out."""


class Rows(NamedTuple):
    """n rows: sparse features over slots, the entity of each block (−1: never seen), and the row's roles."""

    indptr: Ints  # n + 1
    indices: NDArray[np.int32]  # nnz: slot, each at most once a row
    values: Floats  # nnz
    entities: NDArray[np.int32]  # (R, n)
    label: Floats
    weight: Floats
    offset: Floats
    time: Floats  # seconds


class Blocks(NamedTuple):
    """R blocks; every field but `local` and `like` has one entry per block; low-rank ones need `kmax` and `rank`."""

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
    kmax: Any = 0  # columns that a low-rank row has room for
    rank: Any = 0  # columns that compression keeps
    locked: Any = 0  # 1: counts with its mean alone, and is not updated


def _record(numbers: str, addresses: str, event: str, floats: str) -> np.dtype[Any]:
    whole = [(name, np.int64) for names in (numbers, addresses, event) for name in names.split()]
    return np.dtype(whole + [(name, np.float64) for name in floats.split()])


ROWS = _record("n", "indptr indices values entities label weight offset time z s refused", "", "")
"""`Rows` and the outputs of a kernel as addresses."""

PLAN = _record(
    "d size kind of loaded locked form walking mean_step cov_step kmax rank",
    "relax project absorb work mean_at cov_at last_at count_at local mu0 cov0 walk_event walk_second walk_dims"
    " x v q slots entries own_mean own_cov",
    "entity mean cov used top",
    "rate since own step gain",
)
"""One block as numbers and addresses: of its posteriors, its prior, its working memory; then where an event finds it.

`relax` is the address of the function that forgets (`_forget`), 0 where nothing changes with time; `walking`
dimensions, listed at `walk_dims`, gain random-walk variance. In an event, `mean` and `cov` are the addresses of the
posterior as of the event's time, `since` the seconds since its last update (NaN: none), `used` the entries of its
design and `top` the last dimension that they touch. A `locked` block counts with its mean alone and is not updated.

A low-rank block has the functions `project` and `absorb` (`_lowrank_event`) and its own working memory, `work`; in an
event they leave and take s_b (`own`), the step a along H⁻¹ x (`step`) and the precision ω gained along x (`gain`).
"""
