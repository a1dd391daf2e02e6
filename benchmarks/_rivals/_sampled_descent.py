"""scipy's block coordinate descent on a sample of the entities, in step with exact solves of all of them.

The other entities are solved by nearline, block by block and to the mode, so that the offsets and warm starts of the
next block are those that the rival would have come to itself. Its seconds are the sample's, scaled to all entities.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import nearline as nl
from benchmarks._rivals import _entity_scipy as rival
from nearline.features import Design
from nearline.glmix._terms import Terms

Floats = NDArray[np.float64]
PARTS = 3  # of the sample, for the spread


class SampledDescent:
    """The rival's time for a fit.

    Attributes
    ----------
    seconds
        Processor seconds of all cycles so far, once for each third of the sample.
    objective
        Φ after every cycle, as the exact solves leave it.
    apart
        The most that an exact solve's objective lies from the rival's, relative.
    """

    def __init__(self, known: nl.GLMix, design: Design, sample: int) -> None:
        self.model, self.design = known.fork(), design
        self.model.reset()
        self.terms = Terms(self.model.blocks, known.encoder.n_slots, design)
        self.names = [block.name for block in self.model.blocks]
        rng = np.random.default_rng(0)
        self.entities = [self._sampled(r, sample, rng) for r in range(len(self.names))]
        self.seconds, self.apart = np.zeros(PARTS), 0.0
        self.objective: list[float] = []

    def run(self, cycles: int, tolerance: float) -> None:
        """Descend until a cycle changes Φ by less than `tolerance` of it, or so many cycles; then covariances."""
        for cycle in range(1, cycles + 1):
            for r in range(len(self.names)):
                self._solve(r)
            self.objective.append(self._objective())
            if cycle > 1 and self.objective[-2] - self.objective[-1] <= tolerance * self.objective[-1]:
                break
        for r in range(len(self.names)):
            offset, v, block = self.terms.offset(r), self._variance(r), self.model.blocks[r]
            spent = [
                rival.covariance_seconds(entity, block.mean[code].astype(np.float64), offset[entity.rows], v)
                for code, entity in self.entities[r]
            ]
            self._count(r, spent)

    def _sampled(self, r: int, sample: int, rng: np.random.Generator) -> list[tuple[int, rival.Entity]]:
        """Entities of block r, their codes and rows: of the fixed effect its one, as a sparse matrix."""
        local, codes, d = self.terms.local_design(r), self.terms.codes[r], self.model.blocks[r].d
        X = rival.csr_matrix((local.values, local.indices, local.indptr), shape=(self.design.rows, d))
        if self.names[r] == "fixed":
            return [(0, rival.Entity(X, self.design.label, np.arange(self.design.rows)))]
        seen = np.unique(codes)
        chosen = rng.choice(seen, min(sample, len(seen)), replace=False)
        rows = [np.flatnonzero(codes == code) for code in chosen]
        return [(int(c), rival.Entity(X[at].toarray(), self.design.label[at], at)) for c, at in zip(chosen, rows)]

    def _solve(self, r: int) -> None:
        """One block: the sample by scipy, against the clock, then all entities exactly."""
        block, offset, v = self.model.blocks[r], self.terms.offset(r), self._variance(r)
        starts = [block.mean[code].astype(np.float64) for code, _ in self.entities[r]]
        solved = [
            rival.timed(entity, start, offset[entity.rows], v) for (_, entity), start in zip(self.entities[r], starts)
        ]
        self._count(r, [seconds for seconds, _ in solved])
        self.model.fit(self.design, cycles=1, warm=True, locked=[name for name in self.names if name != self.names[r]])
        self.terms.refresh(r)
        for (code, entity), (_, theta) in zip(self.entities[r], solved):
            own, mode = offset[entity.rows], block.mean[code].astype(np.float64)
            apart = rival.objective(entity, mode, own, v)[0] / rival.objective(entity, theta, own, v)[0] - 1.0
            self.apart = max(self.apart, abs(apart))

    def _count(self, r: int, spent: list[float]) -> None:
        """Add the sample's seconds, scaled to all entities of block r; the fixed effect is counted whole."""
        everyone = len(np.unique(self.terms.codes[r]))
        self.seconds += [np.mean(spent[part::PARTS] or spent) * everyone for part in range(PARTS)]

    def _variance(self, r: int) -> Floats:
        block = self.model.blocks[r]
        v = block.belief.variance0(block.columns)
        if self.names[r] == "fixed":
            v[0] = 1e6  # nearline's free intercept
        return v

    def _objective(self) -> float:
        eta, y = self.terms.margin, self.design.label
        loss = float((np.maximum(eta, 0.0) - y * eta + np.log1p(np.exp(-np.abs(eta)))).sum())
        means = [block.mean[: block.entities].astype(np.float64) for block in self.model.blocks]
        return loss + sum(float((m**2 / self._variance(r)).sum()) / 2.0 for r, m in enumerate(means))
