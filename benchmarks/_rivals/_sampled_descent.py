"""scipy's block coordinate descent on a sample of the entities, beside nearline's own on all of them.

Both solve every block to its optimum, so that nearline's coefficients give the rival the offsets and warm starts that it
would have come to itself; its seconds are those of the sampled entities, scaled to all.
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
    excess, below
        The most that nearline's objective of a sampled entity is above the rival's, and below it, relative.
    """

    def __init__(self, model: nl.GLMix, known: nl.GLMix, design: Design, sample: int) -> None:
        self.model, self.design = known.fork(), design
        self.model.reset()
        self.terms = Terms(self.model.blocks, known.encoder.n_slots, design)
        self.names = [block.name for block in self.model.blocks]
        rng = np.random.default_rng(0)
        self.entities = [self._sampled(r, sample, rng) for r in range(len(self.names))]
        self.excess = self.below = 0.0

    def run(self, cycles: int) -> dict[str, list[float]]:
        """Processor seconds by method, once for each third of the sample."""
        total = {method: np.zeros(PARTS) for method in rival.METHODS}
        for cycle in range(cycles):
            for r, name in enumerate(self.names):
                for method, seconds in self._solve(r, name, last=cycle == cycles - 1).items():
                    total[method] += seconds
        return {method: seconds.tolist() for method, seconds in total.items()}

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

    def _solve(self, r: int, name: str, *, last: bool) -> dict[str, Floats]:
        block, offset = self.model.block(name), self.terms.offset(r)
        v = block.belief.variance0(block.columns)
        if name == "fixed":
            v[0] = 1e6  # nearline's free intercept
        spent = {method: np.zeros(len(self.entities[r])) for method in rival.METHODS}
        best = np.full(len(self.entities[r]), np.inf)
        for k, (code, entity) in enumerate(self.entities[r]):
            start, own = block.mean[code].astype(np.float64), offset[entity.rows]
            for method in rival.METHODS:
                spent[method][k], theta = rival.timed(method, entity, start, own, v)
                best[k] = min(best[k], rival.objective(entity, theta, own, v)[0])
            if last:
                extra = rival.covariance_seconds(entity, theta, own, v)
                for method in rival.METHODS:
                    spent[method][k] += extra
        self.model.fit(self.design, cycles=1, warm=True, locked=[other for other in self.names if other != name])
        self.terms.refresh(r)
        for k, (code, entity) in enumerate(self.entities[r]):
            mode = block.mean[code].astype(np.float64)
            apart = rival.objective(entity, mode, offset[entity.rows], v)[0] / best[k] - 1.0
            self.excess, self.below = max(self.excess, apart), min(self.below, apart)
        everyone = len(np.unique(self.terms.codes[r]))
        return {
            method: np.array([(seconds[part::PARTS] if len(seconds) > 1 else seconds).mean() for part in range(PARTS)])
            * everyone
            for method, seconds in spent.items()
        }
