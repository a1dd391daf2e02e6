"""A minibatch for the low-rank entities of one block: `nearline.glmix._block.update_block` on low-rank rows.

An entity's rows are learned in pieces of at most 256, in their order; each piece takes the Laplace posterior of the one
before as its prior. For up to 256 rows the mode is the exact joint one under the posterior as stored. Beyond, it is
assumed-density filtering: exact for the identity link as long as nothing is compressed, close to it otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nearline.glmix._block import BlockResult, Grouping, LocalDesign, update_block
from nearline.glmix._codes import LOWRANK
from nearline.glmix._links import Link
from nearline.glmix._lowrank import scratch_size

if TYPE_CHECKING:
    from nearline.glmix._kernels._memory import Outcome
    from nearline.glmix._state import Block

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PIECE = 256


def solve_block(
    block: Block, grouping: Grouping, design: LocalDesign, y: Floats, w: Floats, offset: Floats, *, link: Link,
    threads: int = 1,
) -> BlockResult:  # fmt: skip
    """Update every entity of a block that has rows, in place, whatever its kind of posterior."""
    if block.kind != LOWRANK:
        return update_block(grouping, design, y, w, offset, block.mean, block.cov, link=link, threads=threads)
    from nearline.glmix._kernels._memory import Outcome

    outcome, E = Outcome.of(len(grouping.codes)), len(grouping.codes)
    parts = max(1, min(threads, E))

    def part(start: int) -> None:
        scratch = np.zeros(scratch_size(block.d, block.kmax, _longest(grouping)))
        for e in range(start, E, parts):
            _entity(block, grouping, e, design, (y, w, offset), link, scratch, outcome)

    # Entities share nothing, so no bit depends on how they are spread over threads.
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(part, range(parts)))
    return BlockResult(grouping, *outcome)


def _longest(grouping: Grouping) -> int:
    return min(int(np.diff(grouping.ptr).max(initial=0)), PIECE)


def _entity(
    block: Block, grouping: Grouping, e: int, design: LocalDesign, roles: tuple[Floats, Floats, Floats], link: Link,
    scratch: Floats, outcome: Outcome,
) -> None:  # fmt: skip
    """Learn one entity's pieces on a copy, which is stored only if all of them converge."""
    from nearline.glmix._kernels._lowrank_minibatch import solve_minibatch

    code, rows = grouping.codes[e], grouping.order[grouping.ptr[e] : grouping.ptr[e + 1]]
    mean, row = block.mean[code].astype(np.float64), block.cov[code].copy()
    evidence = 0.0
    for piece in _pieces(rows):
        status, steps, gained = solve_minibatch(
            link.code, row, block.d, block.kmax, block.effect.rank, mean, *_csr(design, piece),
            *(role[piece] for role in roles), scratch,
        )  # fmt: skip
        outcome.status[e], outcome.decrement[e] = _STATUS[status], np.nan
        outcome.steps[e] += steps
        evidence += gained
        if status:
            return
    outcome.evidence[e] = evidence
    outcome.change[e] = np.linalg.norm(mean - block.mean[code])
    block.mean[code], block.cov[code] = mean, row


# The kernel's CONVERGED, NOT_CONVERGED and FAILED as indices into `STATUSES`.
_STATUS = (0, 1, 3)


def _pieces(rows: Ints) -> Iterator[Ints]:
    for start in range(0, len(rows), PIECE):
        yield rows[start : start + PIECE]


def _csr(design: LocalDesign, rows: Ints) -> tuple[Ints, NDArray[np.int32], Floats]:
    """(indptr, indices, values) of some rows of a local design."""
    if design.values.ndim == 2:
        d = design.values.shape[1]
        indptr = np.arange(len(rows) + 1) * d
        return indptr, np.tile(np.arange(d, dtype=np.int32), len(rows)), design.values[rows].ravel()
    first, size = design.indptr[rows], np.diff(design.indptr)[rows]
    indptr = np.concatenate([[0], np.cumsum(size)])
    places = np.repeat(first - indptr[:-1], size) + np.arange(indptr[-1])
    return indptr, np.asarray(design.indices[places], np.int32), np.asarray(design.values[places], np.float64)
