"""Serving, compiled: margins of one request's rows in one call, with what the fixed effect alone says.

It gives up Python's lock, as the other kernels do: it scores all requests of one turn of a server's event loop, and
meanwhile the recorder writes those of the turn before.

Found on disk by this file's text alone: who changes `_predict` or the layout of `PLAN` must touch it (`PLAN` last
gained `top`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nearline.glmix._kernels._forget import block_at
from nearline.glmix._kernels._lanes import LINE, floats, ints, pointer, prefetch, record_at
from nearline.glmix._kernels._linalg import LEAF
from nearline.glmix._kernels._plan import (
    _PLAN_COLUMNS,
    Sizes,
    _Keep,
    address,
    plan_of,
    standing,
)
from nearline.glmix._kernels._predict import STEP, margin, variance
from nearline.glmix._kernels._records import ROWS, Blocks

ADDRESSES = ("mean_at", "cov_at", "last_at", "count_at")

AHEAD, MOST = 8, 8 * LINE
"""Rows, and bytes of a mean, whose loading is started before they are needed."""

rows_at = record_at(ROWS)


@njit(**LEAF)
def clamp(entities: Any, known: Any) -> None:
    """Entities (R, n) in place: −1 for those that the block has not met."""
    for r in range(entities.shape[0]):
        for i in range(entities.shape[1]):
            if not 0 <= entities[r, i] < known[r]:
                entities[r, i] = -1


@njit(**LEAF)
def fetch(plan: int, entities: Any, i: int) -> None:
    """Start loading the means that row i is scored with: rows hop between entities faster than memory answers."""
    for r in range(entities.shape[0]):
        e = entities[r, i]
        if e >= 0:
            b = block_at(plan + r * STEP)
            prefetch(b.last_at + 8 * e)
            start = b.mean_at + e * b.mean_step
            for at in range(start & -LINE, start + min(b.mean_step, MOST), LINE):
                prefetch(at)


@njit(**LEAF)
def serve(
    record: Any, plan: int, like: Any, indptr: Any, indices: Any, values: Any, entities: Any, offset: Any, time: Any,
    known: Any, room: Any, out: Any, variances: bool,
) -> bool:  # fmt: skip
    """Margins into out[0], offset + xᵀb, the fixed effect's part, into out[1], variances where asked for into out[2].

    Block 0 is the fixed effect. `record` is room for a ROWS record; `room` holds how many slots, and entries of a row,
    there is memory for. False, and nothing is scored, where there are more.
    """
    n, R = entities.shape[1], entities.shape[0]
    for i in range(n):
        if indptr[i + 1] - indptr[i] > room[1]:
            return False
    for p in range(indptr[0], indptr[n]):
        if not 0 <= indices[p] < room[0]:
            return False
    clamp(entities, known)
    record[0], record[1], record[2] = n, indptr.ctypes.data, indices.ctypes.data
    record[3], record[4] = values.ctypes.data, entities.ctypes.data
    record[7], record[8] = offset.ctypes.data, time.ctypes.data
    rows, stored = rows_at(record.ctypes.data), pointer(0, like)
    for i in range(min(n, AHEAD)):
        fetch(plan, entities, i)
    for i in range(n):
        if i + AHEAD < n:
            fetch(plan, entities, i + AHEAD)
        out[0, i] = margin(rows, plan, R, stored, i)
        b, alone = block_at(plan), offset[i]
        mean, slots, entries = pointer(b.mean, stored), ints(b.slots), floats(b.entries)
        for p in range(b.used):
            alone += entries[p] * mean[slots[p]]
        out[1, i] = alone
        if variances:
            out[2, i] = variance(plan, R, stored)
    return True


class Prepared:
    """Kernel records of a model's blocks that outlive a call: everything about them but one request's rows."""

    def __init__(self, b: Blocks, sizes: Sizes) -> None:
        self._keep = _Keep([b])
        self._like, self._plan = b.like, plan_of(standing(b), sizes, self._keep)
        self._plan_at = address(self._plan)
        self._record = np.zeros(len(ROWS.names or ()), np.int64)
        self._room = np.array([b.local.shape[1], sizes[3]])

    def move(self, addresses: dict[str, list[int]]) -> None:
        """Renew where the posteriors stand: one address per block for each of `ADDRESSES`."""
        for name in ADDRESSES:
            self._plan[:, _PLAN_COLUMNS[name]] = addresses[name]

    def score(
        self, rows: tuple[NDArray[Any], ...], entities: NDArray[np.int32], known: NDArray[np.int64],
        out: NDArray[np.float64], variances: bool,
    ) -> bool:  # fmt: skip
        """Score n rows; False where a row has more entries, or later slots, than there is memory for.

        Parameters
        ----------
        rows
            Their indptr, indices, values, offset and time.
        entities, known
            Codes (R, n), overwritten; and how many entities each block has met.
        out
            float64 (3, n): margins, those of the fixed effect alone, and variances where asked for.
        """
        indptr, indices, values, offset, time = map(np.ascontiguousarray, rows, _ROW_DTYPES)
        return bool(
            serve(
                self._record, self._plan_at, self._like, indptr, indices, values, entities, offset, time, known,
                self._room, out, variances,
            )
        )  # fmt: skip


_ROW_DTYPES = (np.int64, np.int32, np.float64, np.float64, np.float64)
