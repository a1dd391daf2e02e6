"""The batch layer: all blocks fitted to history by block coordinate descent.

    Φ(Θ) = Σ_n w_n ℓ(y_n, η_n) + Σ_blocks Σ_e ½ (θ_e − μ0)ᵀ Λ0 (θ_e − μ0) + Σ_j λ_j |b_j|

The intercept of a fixed effect is not penalised where that is left free (`Fixed.free_intercept`): its Λ0 is then 1e-6,
in the fit alone. Every block is solved with the others' current scores as its offset, in the order given, by default
that of declaration: most stable block first. Φ is convex without loadings, and never increases; where a low-rank entity
has more than 256 rows, its solve is an approximation in pieces (`nearline.glmix._lowrank_block`) and so is the optimum.
The precisions are each block's own (conditional on the other blocks). Both sides of a product are solved with what is
not known of the other (`nearline.glmix._products`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nearline._errors import ConfigError
from nearline.features import Design
from nearline.glmix import _layout, _links, _products, _progress
from nearline.glmix._codes import FULL
from nearline.glmix._effects import INTERCEPT, Fixed, Prior, by_column
from nearline.glmix._fit._extrapolate import Extrapolation
from nearline.glmix._fit._part import Part
from nearline.glmix._fit._report import BlockFit, Convergence
from nearline.glmix._packed import unpack
from nearline.glmix._state import Belief, Block
from nearline.glmix._terms import Terms

Floats = NDArray[np.float64]
Clock = Callable[[], float]


# Where a cycle lowers Φ by less than this share of it, plain descent finishes.
STEADY = 1e-9


@dataclass(frozen=True, slots=True)
class Plan:
    """How a descent goes: cycles and tolerance, which blocks in which order, from where, and who watches."""

    cycles: int
    tolerance: float
    locked: frozenset[str] = frozenset()
    threads: int = 1
    warm: bool = False
    order: tuple[str, ...] = ()
    progress: bool = False
    clock: Clock = float  # always 0.0


def fit(blocks: Sequence[Block], n_slots: int, design: Design, link: str, plan: Plan) -> Convergence:
    """Fit every block that is not locked; `warm` starts the descent at its current means, else at its prior's."""
    parts = [
        Part.of(blocks[r], r, _layout.entity_codes(blocks[r], design), design) for r in _free(blocks, plan)
    ]  # fmt: skip
    for part in parts:
        part.start(plan.warm)
    beliefs = [block.belief for block in blocks]
    for block in blocks:
        block.belief = _freed(block)
    try:
        descent = _Descent(Terms(blocks, n_slots, design), _links.by_name(link), plan, parts)
        return descent.settle(not (design.rows and parts) or descent.run())
    finally:
        for block, belief in zip(blocks, beliefs):
            block.belief = belief


def _free(blocks: Sequence[Block], plan: Plan) -> list[int]:
    """Numbers of the blocks that are solved, in order: those named first, then the others as they were declared."""
    names = [block.name for block in blocks]
    for name in plan.order:
        if plan.order.count(name) > 1 or name in plan.locked:
            raise ConfigError(f"fit(order=...) names {name!r}, which is locked or named twice; leave it out")
    ordered = [names.index(name) for name in plan.order] + [r for r, n in enumerate(names) if n not in plan.order]
    return [r for r in ordered if blocks[r].d and names[r] not in plan.locked]


FREE = 1e6
"""Prior variance of an unpenalised intercept."""


def _freed(block: Block) -> Belief:
    """A block's belief with its intercept unpenalised, where that was left free."""
    belief = block.belief
    if not (isinstance(block.effect, Fixed) and block.effect.free_intercept):
        return belief
    given = belief.prior.variance
    known = dict(given) if isinstance(given, Mapping) else {"*": given}
    variance = {**known, INTERCEPT: max(FREE, belief.prior.variance_of(INTERCEPT))}
    return replace(belief, prior=Prior(variance, belief.prior.mean))


class _Descent:
    """Cycles over the parts, with momentum between them where all lower one smooth Φ; exact solves at the end."""

    def __init__(self, terms: Terms, link: _links.Link, plan: Plan, parts: Sequence[Part]) -> None:
        self.terms, self.link, self.plan, self.parts = terms, link, plan, parts
        self.history: list[float] = []
        self.solves: list[BlockFit] = []
        # Scores from when an effect was solved: its evidence counts their loss.
        self.margins: dict[int, Floats] = {}
        self.penalties = {part.number: _penalty(part) for part in parts}
        self.momentum = Extrapolation(parts, terms) if Extrapolation.suits(parts, terms) else None

    def run(self) -> bool:
        """Descend until Φ stands still or the cycles are used up; whether it stands."""
        settled = False
        with _watched(self.plan, len(self.parts)) as tick:
            for cycle in range(1, self.plan.cycles + 1):
                exact = settled or cycle == self.plan.cycles or len(self.parts) == 1
                self.history.append(self._cycle(cycle, exact, tick))
                settled = settled or self._gained() <= self.plan.tolerance * abs(self.history[-1])
                if exact and (settled or cycle == self.plan.cycles):
                    break
                if self.momentum is not None and not settled and self._gained() > STEADY * abs(self.history[-1]):
                    self.momentum.apply(self.link)
                    self.penalties = {part.number: _penalty(part) for part in self.parts}
        return settled

    def _cycle(self, cycle: int, exact: bool, tick: Callable[[float], None]) -> float:
        """Solve every part once; Φ after the last."""
        design = self.terms.design
        for part in self.parts:
            began = self.plan.clock()
            part.solve(self.terms, self.link, self.plan.threads, exact=exact)
            self.margins[part.number], self.penalties[part.number] = self.terms.margin, _penalty(part)
            objective = _loss(design, self.link, self.terms.margin, design.weight) + sum(self.penalties.values())
            self.solves.append(_reported(part, cycle, objective, self.plan.clock() - began))
            tick(objective)
        return objective

    def _gained(self) -> float:
        return abs(self.history[-2] - self.history[-1]) if len(self.history) > 1 else float("inf")

    def settle(self, converged: bool) -> Convergence:
        """Posteriors, and the report."""
        design = self.terms.design
        results = {part.block.name: part.settle(design) for part in self.parts} if self.history else {}
        joint = -_loss(design, self.link, self.terms.margin, design.weight) + _shared(self.terms, self.link)
        for part in self.parts if results else ():
            result, margin = results[part.block.name], self.margins[part.number]
            lost = _loss(design, self.link, margin, part.weight, result.failed_rows)
            joint += result.log_evidence + part.gained + lost
        return Convergence(
            tuple(self.history), converged, {name: len(result.failed_codes) for name, result in results.items()},
            {name: result.log_evidence for name, result in results.items()}, joint, tuple(self.solves),
        )  # fmt: skip


def _watched(plan: Plan, blocks: int) -> AbstractContextManager[Callable[[float], None]]:
    """A progress bar that is told Φ after every solve, or nobody."""
    if not plan.progress:
        return nullcontext(lambda objective: None)
    return _progress.bar("fitting", plan.cycles * blocks)


def _reported(part: Part, cycle: int, objective: float, seconds: float) -> BlockFit:
    assert part.result is not None
    result = part.result
    return BlockFit(
        part.block.name, cycle, objective, part.gradient_norm, int(result.steps.sum()), result.counts, part.rows,
        part.variances, seconds,
    )  # fmt: skip


def _penalty(part: Part) -> float:
    """Σ_e ½ (θ_e − μ0)ᵀ Λ0 (θ_e − μ0) + Σ_j λ_j |b_j| of the entities that are solved."""
    block = part.block
    mu0 = block.belief.mu0(block.columns)
    means = block.mean[part.grouping.codes].astype(np.float64)
    centred = means - mu0
    if block.kind == FULL and not block.belief.independent:
        V0 = unpack(block.prior_arrays()[1])
        total = 0.5 * float((centred * np.linalg.solve(V0, centred.T).T).sum())
    else:
        total = 0.5 * float((centred**2 / block.belief.variance0(block.columns)).sum())
    if isinstance(block.effect, Fixed) and not block.effect.fit.plain:
        total += float(np.abs(means[0]) @ by_column(block.columns, block.effect.fit.l1_of))
    return total


def _loss(
    design: Design, link: _links.Link, margin: Floats, weight: Floats, without: NDArray[np.int64] | None = None
) -> float:
    """Σ_n w_n ℓ(y_n, η_n), but for some rows."""
    from nearline.glmix._kernels._csr import total_loss

    total = float(total_loss(link.code, design.label, margin, weight))
    if without is None or not len(without):
        return total
    return total - float(weight[without] @ link.loss(design.label[without], margin[without]))


def _shared(terms: Terms, link: _links.Link) -> float:
    """What the evidence gains by products whose sides are uncertain together."""
    products = [(r, of) for r, of in enumerate(terms.of) if of >= 0]
    if not products:
        return 0.0
    curvature = terms.design.weight * link.curvature(terms.design.label, terms.margin)
    return sum(
        _products.shared(terms.blocks[r], terms.codes[r], terms.blocks[of], terms.codes[of], curvature)
        for r, of in products
    )
