"""One block's part in a batch fit: its rows, their weights, and a solve given the other blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearline.features import Design
from nearline.glmix import _fold, _links, _products
from nearline.glmix._block import BlockResult, Grouping, LocalDesign, group
from nearline.glmix._codes import DIAGONAL, FULL, LOWRANK, NEVER, PER_UPDATE
from nearline.glmix._effects import INTERCEPT, Fixed, Random
from nearline.glmix._fit import _sampling
from nearline.glmix._fit._entities import Entities, suits
from nearline.glmix._fit._fixed import FixedMode, solve_fixed
from nearline.glmix._fit._posterior import EXACTLY, LOW_RANK, LOWER_BOUND
from nearline.glmix._lowrank_block import solve_block
from nearline.glmix._state import Block
from nearline.glmix._terms import Terms

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(slots=True)
class Part:
    """What a block learns from, the same in every cycle, and what its last solve came to.

    Attributes
    ----------
    grouping, weight
        The rows that it learns from, by entity, and the weight of every row (n) in this block: by age, and by sampling.
    kept
        State rows of the entities that have too few rows for a new model.
    rows
        Rows of positive weight that it learns from.
    gained
        What the log evidence of the last solve is short of (`_products.evidence_short_of`).
    """

    block: Block
    number: int
    grouping: Grouping
    weight: Floats
    kept: Ints
    rows: int
    result: BlockResult | None = None
    solver: FixedMode | Entities | None = None
    gained: float = 0.0
    design: LocalDesign | None = None
    given_up: Floats | float = 0.0

    @classmethod
    def of(cls, block: Block, number: int, codes: NDArray[np.int32], design: Design) -> Part:
        """Choose a block's rows from a design whose rows belong to the entities `codes` (n)."""
        # A row of weight 0 is no row.
        grouping = group(np.where(design.weight > 0, codes, -1).astype(np.int32), len(block.mean))
        weight, kept = design.weight * _age_weight(block, codes, grouping, design), np.zeros(0, np.int64)
        effect = block.effect
        if isinstance(effect, Fixed):
            weight = _sampling.fewer_negatives(design.label, weight, effect.fit)
        if isinstance(effect, Random):
            _sampling.check(effect.fit, block.name, block.belief.independent)
            grouping, kept = _sampling.enough_rows(grouping, effect.fit.least_rows)
            grouping, weight = _sampling.reservoir(grouping, weight, effect.fit)
        rows = int(np.count_nonzero(weight[grouping.order] > 0.0))
        return cls(block, number, grouping, weight, kept, rows)

    def start(self, warm: bool) -> None:
        """Return every entity to the prior, but those too small for a new model that have one, and, warm, the means."""
        block = self.block
        had = self.kept[block.counts[self.kept] > 0]
        saved = [array[had].copy() for array in (block.mean, block.cov, block.last, block.counts)]
        means = block.mean[self.grouping.codes] if warm else None
        block.reset()
        if means is not None:
            block.mean[self.grouping.codes] = means
        for array, rows in zip((block.mean, block.cov, block.last, block.counts), saved):
            array[had] = rows

    def solve(self, terms: Terms, link: _links.Link, threads: int, *, exact: bool) -> None:
        """Solve the block given the others, in place, and refresh its terms.

        Unless it is to be `exact`, one Newton step that descends will do: before the last cycle more is of no use.
        """
        label, offset, partners = terms.design.label, terms.offset(self.number), terms.partners(self.number)
        if not partners and suits(self.block, self.grouping, self._local(terms)):
            if self.solver is None:
                design = self._local(terms)
                self.solver = Entities(self.block, self.grouping, design, label, self.weight, link, threads)
            assert isinstance(self.solver, Entities)
            self.solver.solve(offset + self.given_up, exact=exact)
        elif isinstance(self.block.effect, Fixed):
            local = self._local(terms)
            self.solver = solve_fixed(self.block, self.grouping, local, label, self.weight, offset, link, exact=exact)
        elif partners:
            self._solve_product(terms, link, threads)
        else:
            self.block.mean[self.grouping.codes], self.block.cov[self.grouping.codes] = self.block.prior_arrays()
            self.result = solve_block(
                self.block, self.grouping, self._local(terms), label, self.weight, offset + self.given_up, link=link,
                threads=threads,
            )  # fmt: skip
        if self.solver is not None:
            self.result = self.solver.result
        own = self.solver.terms(isinstance(self.given_up, np.ndarray)) if isinstance(self.solver, Entities) else None
        if own is None:
            terms.refresh(self.number)
        else:
            terms.terms[self.number] = own

    def _solve_product(self, terms: Terms, link: _links.Link, threads: int) -> None:
        """Solve one side of a product with what is not known of the other."""
        block, codes, prior = self.block, self.grouping.codes, self.block.prior_arrays()
        curvature = self.weight * link.curvature(terms.design.label, terms.margin)
        _products.set_priors(block, self.grouping, terms.partners(self.number), curvature)
        before = block.mean[codes], block.cov[codes]
        self.result = solve_block(
            block, self.grouping, terms.local_design(self.number), terms.design.label, self.weight,
            terms.offset(self.number), link=link, threads=threads,
        )  # fmt: skip
        block.mean[self.result.failed_codes], block.cov[self.result.failed_codes] = prior
        self.gained = _products.evidence_short_of(block, self.grouping, *before)

    def _local(self, terms: Terms) -> LocalDesign:
        """The block's design, without the features that its entities give up."""
        effect = self.block.effect
        if self.design is None:
            self.design = terms.local_design(self.number)
            if isinstance(effect, Random) and effect.fit.features_per_row is not None:
                intercept = self.block.columns.index(INTERCEPT) if effect.intercept else -1
                self.design, self.given_up = _sampling.fewer_features(
                    self.design, self.grouping, terms.design.label, self.weight, effect.fit.features_per_row,
                    intercept, self.block.belief.mu0(self.block.columns),
                )  # fmt: skip
        return self.design

    def settle(self, design: Design) -> BlockResult:
        """Finish after the last cycle: posteriors, and the times and counts of all that were solved."""
        if self.solver is not None:
            self.result = self.solver.settle()
        assert self.result is not None
        solved = self.result.status == 0
        codes = self.grouping.codes[solved]
        self.block.last[codes] = self.grouping.last(design.time)[solved]
        self.block.counts[codes] = np.diff(self.grouping.ptr)[solved]
        return self.result

    @property
    def gradient_norm(self) -> float:
        """‖∇Φ‖₂ over the block's coefficients as its turn came; NaN for low-rank entities and sides of a product."""
        return float("nan") if self.solver is None else self.solver.gradient_norm

    @property
    def variances(self) -> str:
        """What the block's variances are."""
        if isinstance(self.solver, FixedMode):
            return self.solver.variances
        return {FULL: EXACTLY, LOWRANK: LOW_RANK, DIAGONAL: LOWER_BOUND}[self.block.kind]


def _age_weight(block: Block, codes: NDArray[np.int32], grouping: Grouping, design: Design) -> Floats:
    """Weight 2^(−age/τ) of each row, age counted back from its entity's last row: what streaming would leave of it."""
    if block.belief.form in (NEVER, PER_UPDATE):
        return np.ones(design.rows)
    newest = np.zeros(len(block.mean))
    newest[grouping.codes] = grouping.last(design.time)
    return _fold.late_factor(np.maximum(newest[codes] - design.time, 0.0), block.belief.rate)
