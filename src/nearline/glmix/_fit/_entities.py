"""The entities of a random effect in a batch fit: sorted rows, Newton steps from where they are, then posteriors."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nearline.glmix._block import BlockResult, Grouping, LocalDesign
from nearline.glmix._codes import FULL, LOWRANK
from nearline.glmix._effects import Fixed
from nearline.glmix._fit._newton import dense
from nearline.glmix._links import Link
from nearline.glmix._state import Block

if TYPE_CHECKING:
    from nearline.glmix._kernels._refit import Memory, Sorted

Floats = NDArray[np.float64]

# Newton decrement of the last step, which squares it: what is left is far below.
ENOUGH = 1e-6


def suits(block: Block, grouping: Grouping, design: LocalDesign) -> bool:
    """Whether the block's entities are few coefficients over many sparse rows, each solved with its own whole H.

    Low-rank ones are not, nor few rows under a joint prior; the fixed effect is while it asks for nothing beside.
    """
    if block.kind == LOWRANK:
        return False
    if isinstance(block.effect, Fixed):
        return block.effect.fit.plain and dense(block.d, len(design.indices), len(design))
    joint = block.kind == FULL and not block.belief.independent
    return not joint or 2 * len(grouping.order) >= block.d * len(grouping.codes)


def by_entity(grouping: Grouping, design: LocalDesign, label: Floats, weight: Floats, d: int, *, joint: bool) -> Sorted:
    """A design's rows in the order of their entities; each has the dimensions that its rows touch, or, `joint`, all."""
    from nearline.glmix._kernels._csr import gather
    from nearline.glmix._kernels._refit import Sorted, localise, sort_rows

    order = grouping.order
    indptr, places = np.empty(len(order) + 1, np.int64), np.empty(len(design.indices), np.int32)
    values = np.empty(len(design.values))
    total = gather(design.indptr, design.indices, design.values, order, indptr, places, values)
    places, values = places[:total], values[:total]
    entities = len(grouping.codes)
    first, touched = np.arange(entities + 1) * d, np.tile(np.arange(d, dtype=np.int32), entities)
    if not joint:
        touched = np.empty(min(len(places), entities * d), np.int32)
        localise(grouping.ptr, indptr, places, np.full(d, -1, np.int64), first, touched)
        touched = touched[: first[-1]].copy()
    sort_rows(indptr, places, values)
    return Sorted(grouping.codes, grouping.ptr, indptr, places, values, label[order], weight[order], first, touched)


class Entities:
    """A block's entities while it is fitted.

    Attributes
    ----------
    result
        What the last solve came to; its evidence is known after `settle`.
    gradient_norm
        ‖∇Φ‖₂ over the block's coefficients as the last solve found them.
    """

    result: BlockResult
    gradient_norm: float

    def __init__(
        self, block: Block, grouping: Grouping, design: LocalDesign, label: Floats, weight: Floats, link: Link,
        threads: int,
    ) -> None:  # fmt: skip
        from nearline.glmix._kernels._refit import Prior, Solved

        self.block, self.grouping, self.link, self.threads = block, grouping, link, threads
        belief, columns = block.belief, block.columns
        self._joint = block.kind == FULL and not belief.independent
        self._rows = by_entity(grouping, design, label, weight, block.d, joint=self._joint)
        P = np.linalg.inv(belief.V0(columns)) if self._joint else 1.0 / belief.variance0(columns)[None, :]
        self._prior, self._solved = Prior(belief.mu0(columns), P), Solved.of(len(grouping.codes))
        self._offset, self._n = np.zeros(len(grouping.order)), len(label)

    def solve(self, offset: Floats, *, exact: bool) -> None:
        """Move every entity to its mode given the others' scores (n), or, not `exact`, one Newton step towards it."""
        from nearline.glmix._kernels._refit import find_modes

        self._offset = offset[self.grouping.order]
        enough = ENOUGH if exact else np.inf
        self._spread(
            lambda first, last, memory: find_modes(
                self.link.code, self._rows, self._offset, self._prior, enough, first, last, memory, self.block.mean,
                self._solved,
            )
        )  # fmt: skip
        self.gradient_norm = float(np.sqrt(self._solved.squared[self._solved.status == 0].sum()))
        self._report()

    def terms(self, given_up: bool) -> Floats | None:
        """Scores of all rows (n), where all of them belong to entities that are solved."""
        from nearline.glmix._kernels._refit import find_terms

        if given_up or len(self.grouping.order) < self._n:
            return None
        out = np.empty(self._n)
        find_terms(self._rows, self.grouping.order, self.block.mean, np.empty(self.block.d), out)
        return out

    def settle(self) -> BlockResult:
        """Give every entity its posterior, under the scores of the last solve; one that has none keeps its prior."""
        from nearline.glmix._kernels._refit import find_posteriors

        mu0, cov0 = self.block.prior_arrays()
        P = self._prior.precision
        root = np.log(np.diagonal(np.linalg.cholesky(P))) if self._joint else 0.5 * np.log(P[0])
        self._spread(
            lambda first, last, memory: find_posteriors(
                self.link.code, self._rows, self._offset, self._prior, cov0, root, first, last, memory,
                self.block.mean, self.block.cov, self._solved,
            )
        )  # fmt: skip
        self._report()
        failed = self.result.failed_codes
        self.block.mean[failed], self.block.cov[failed] = mu0, cov0
        return self.result

    def _report(self) -> None:
        of = self._solved
        self.result = BlockResult(
            self.grouping, of.status.copy(), of.steps.copy(), of.evidence.copy(), of.change.copy(), of.decrement.copy()
        )

    def _spread(self, work: Callable[[int, int, Memory], None]) -> None:
        """Do the entities in as many runs of about equal rows as there are threads: they share nothing."""
        from nearline.glmix._kernels._refit import Memory

        entities = len(self.grouping.codes)
        if not entities:
            return
        longest = int(np.diff(self.grouping.ptr).max())
        parts = max(1, min(self.threads, entities))
        ends = np.searchsorted(self.grouping.ptr, np.linspace(0, len(self.grouping.order), parts + 1))
        ends[0], ends[-1] = 0, entities
        if parts == 1:
            work(0, entities, Memory.of(longest, self.block.d))
            return
        with ThreadPoolExecutor(parts) as pool:
            done = [pool.submit(work, a, b, Memory.of(longest, self.block.d)) for a, b in pairwise(ends)]
            for part in done:
                part.result()
