"""Serving, compiled: margins of one request's rows in one call, with what the fixed effect alone says.

Unlike the other kernels this one keeps Python's lock: it runs for some tens of microseconds, and a server's event loop
that lets go of the lock waits up to a switch interval (5 ms) to have it back while another thread learns.

Found on disk by this file's text alone: who changes `_predict` or the layout of `PLAN` must touch it (`PLAN` last
gained `top`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nearline.glmix._kernels._forget import block_at
from nearline.glmix._kernels._lanes import floats, int32s, ints, pointer, record_at
from nearline.glmix._kernels._linalg import LEAF
from nearline.glmix._kernels._plan import (
    _DTYPES,
    _FLOAT,
    _INT32,
    _PLAN_COLUMNS,
    Sizes,
    _Keep,
    address,
    plan_of,
    standing,
)
from nearline.glmix._kernels._predict import margin, variance
from nearline.glmix._kernels._records import ROWS, Blocks

ADDRESSES = ("mean_at", "cov_at", "last_at", "count_at")

HELD: Any = LEAF | {"nogil": False}

rows_at = record_at(ROWS)


@njit(**HELD)
def clamp(rows: Any, codes: Any, known: Any, R: int) -> None:
    """Entities of every block from codes by address (0: the fixed effect), −1 for those the block has not met."""
    out, n = int32s(rows.entities), rows.n
    for r in range(R):
        for i in range(n):
            e = 0 if codes[r] == 0 else int32s(codes[r])[i]
            out[r * n + i] = e if 0 <= e < known[r] else -1


@njit(**HELD)
def serve(rows_address: int, plan: int, R: int, like: Any, codes: Any, known: Any, fixed: Any, variances: bool) -> None:
    """Margins z and, where asked for, variances s of all rows, and into `fixed` offset + xᵀb, the fixed effect's part.

    Block 0 is the fixed effect.
    """
    rows, stored = rows_at(rows_address), pointer(0, like)
    clamp(rows, codes, known, R)
    z, s, offset = floats(rows.z), floats(rows.s), floats(rows.offset)
    for i in range(rows.n):
        z[i] = margin(rows, plan, R, stored, i)
        b, alone = block_at(plan), offset[i]
        mean, slots, entries = pointer(b.mean, stored), ints(b.slots), floats(b.entries)
        for p in range(b.used):
            alone += entries[p] * mean[slots[p]]
        fixed[i] = alone
        if variances:
            s[i] = variance(plan, R, stored)


class Prepared:
    """Kernel records of a model's blocks that outlive a call: everything about them but one request's rows."""

    def __init__(self, b: Blocks, sizes: Sizes) -> None:
        self._keep = _Keep([b])
        self._like, self._plan = b.like, plan_of(standing(b), sizes, self._keep)
        self._plan_at = address(self._plan)

    def move(self, addresses: dict[str, list[int]]) -> None:
        """Renew where the posteriors stand: one address per block for each of `ADDRESSES`."""
        for name in ADDRESSES:
            self._plan[:, _PLAN_COLUMNS[name]] = addresses[name]

    def score(
        self, rows: dict[str, NDArray[Any]], entities: list[Any], known: NDArray[np.int64], out: Any, variances: bool
    ) -> None:
        """Score n rows.

        Parameters
        ----------
        rows
            Their indptr, indices, values, offset and time.
        entities, known
            Codes (n) per block, None for the fixed effect; and how many entities the block has met.
        out
            float64 (3, n): margins, those of the fixed effect alone, and variances where asked for.
        """
        keep, n, R = _Keep(), out.shape[1], len(entities)
        z, chosen = address(out), np.empty((R, n), np.int32)
        at = {name: keep.address(array, _DTYPES.get(name, _FLOAT)) for name, array in rows.items()}
        own = (n, at["indptr"], at["indices"], at["values"], address(chosen), 0, 0, at["offset"], at["time"])
        record = np.array((*own, z, z + 16 * n, 0), np.int64)
        codes = np.array([0 if e is None else keep.address(e, _INT32) for e in entities], np.int64)
        serve(address(record), self._plan_at, R, self._like, codes, known, out[1], variances)
