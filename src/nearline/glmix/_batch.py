"""The batch layer: all blocks fitted to history by block coordinate descent.

    Φ(Θ) = Σ_n w_n ℓ(y_n, η_n) + Σ_blocks Σ_e ½ (θ_e − μ0)ᵀ Λ0 (θ_e − μ0)

The intercept of a fixed effect is not penalised where that is left free (`Fixed.free_intercept`): its Λ0 is then 1e-6,
in the fit alone. Every block is solved with the others' current scores as its offset, most stable block first. Φ is
convex without loadings, and never increases; where a low-rank entity has more than 256 rows, its solve is an
approximation in pieces (`nearline.glmix._lowrank_block`) and so is the optimum. The precisions are each block's own
(conditional on the other blocks). Both sides of a product are solved with what is not known of the other
(`nearline.glmix._products`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nearline.features import Design
from nearline.glmix import _fold, _layout, _links, _products
from nearline.glmix._block import BlockResult, Grouping, group
from nearline.glmix._codes import FULL, NEVER, PER_UPDATE
from nearline.glmix._effects import INTERCEPT, Fixed, Prior
from nearline.glmix._lowrank_block import solve_block
from nearline.glmix._packed import unpack
from nearline.glmix._state import Belief, Block
from nearline.glmix._terms import Terms

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Convergence:
    """How a batch fit went.

    Attributes
    ----------
    objective
        Φ after every cycle; where blocks forget, each block weighs rows by age, and with loadings the uncertainty of
        one side counts in the solve of the other: Φ is only a guide then.
    converged
        Whether the last cycle changed Φ by less than the tolerance.
    unsolved
        Entities per effect whose last solve did not converge; they kept their prior.
    log_evidence
        Laplace log p(data | prior) of every effect's blocks, the other effects' scores given.
    joint_log_evidence
        The same of all effects together, the loss counted once; curvature between effects is dropped.
    """

    objective: tuple[float, ...]
    converged: bool
    unsolved: dict[str, int]
    log_evidence: dict[str, float]
    joint_log_evidence: float


def fit(
    blocks: Sequence[Block], n_slots: int, design: Design, link: str, cycles: int, tolerance: float,
    locked: frozenset[str], threads: int, warm: bool = False,
) -> Convergence:  # fmt: skip
    """Fit every block that is not locked; `warm` starts the descent at its current means, else at its prior's."""
    free = [r for r, block in enumerate(blocks) if block.d and block.name not in locked]
    groups = {r: _grouping(blocks[r], _layout.entity_codes(blocks[r], design), design) for r in free}
    for r in free:
        _start(blocks[r], groups[r].codes if warm else _NOBODY)
    beliefs = [block.belief for block in blocks]
    for block in blocks:
        block.belief = _freed(block)
    try:
        return _descend(blocks, n_slots, design, link, cycles, tolerance, free, groups, threads)
    finally:
        for block, belief in zip(blocks, beliefs):
            block.belief = belief


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


def _descend(
    blocks: Sequence[Block], n_slots: int, design: Design, link: str, cycles: int, tolerance: float,
    free: Sequence[int], groups: dict[int, Grouping], threads: int,
) -> Convergence:  # fmt: skip
    terms = Terms(blocks, n_slots, design)
    results: dict[int, BlockResult] = {}
    # What an effect's evidence is beside the loss: log p of its mode under the prior, and how sharp the mode is.
    beside: dict[int, float] = {}
    history: list[float] = []
    converged = design.rows == 0 or not free
    for _ in range(0 if converged else cycles):
        for r in free:
            weight = design.weight * _age_weight(blocks[r], terms.codes[r], groups[r], design)
            results[r], gained = _solve(blocks[r], terms, r, groups[r], weight, link, threads)
            terms.refresh(r)
            beside[r] = results[r].log_evidence + gained + _loss(terms, link, weight, results[r].failed_rows)
        history.append(_objective(blocks, terms, free, groups, link))
        converged = len(history) > 1 and abs(history[-2] - history[-1]) <= tolerance * abs(history[-1])
        if converged:
            break
    for r, result in results.items():
        _mark(blocks[r], groups[r], result.status == 0, design)
    return Convergence(
        tuple(history), converged,
        {blocks[r].name: len(result.failed_codes) for r, result in results.items()},
        {blocks[r].name: result.log_evidence for r, result in results.items()},
        sum(beside.values()) - _loss(terms, link, design.weight) + _shared(terms, link, design.weight),
    )  # fmt: skip


_NOBODY = np.zeros(0, np.int64)


def _start(block: Block, keep: NDArray[np.int64]) -> None:
    """Return every entity to the prior but the means of `keep`, which are solved again anyway."""
    means = block.mean[keep]
    block.reset()
    block.mean[keep] = means


def _grouping(block: Block, codes: NDArray[np.int32], design: Design) -> Grouping:
    """Rows of positive weight by entity: a row of weight 0 is no row."""
    return group(np.where(design.weight > 0, codes, -1).astype(np.int32), len(block.mean))


def _solve(
    block: Block, terms: Terms, r: int, grouping: Grouping, weight: Floats, link: str, threads: int
) -> tuple[BlockResult, float]:
    """Solve a block given the others; also what its log evidence is short of (`_products.evidence_short_of`)."""
    partners, prior, gained = terms.partners(r), block.prior_arrays(), 0.0
    local, before = terms.local_design(r), (block.mean[:0], block.cov[:0])
    if partners:
        curvature = weight * _links.by_name(link).curvature(terms.design.label, terms.margin)
        _products.set_priors(block, grouping, partners, curvature)
        before = block.mean[grouping.codes], block.cov[grouping.codes]
    else:
        block.mean[grouping.codes], block.cov[grouping.codes] = prior
    result = solve_block(
        block, grouping, local, terms.design.label, weight, terms.offset(r), link=_links.by_name(link), threads=threads
    )
    if partners:
        block.mean[result.failed_codes], block.cov[result.failed_codes] = prior
        gained = _products.evidence_short_of(block, grouping, *before)
    return result, gained


def _age_weight(block: Block, codes: NDArray[np.int32], grouping: Grouping, design: Design) -> Floats:
    """Weight 2^(−age/τ) of each row, age counted back from its entity's last row: what streaming would leave of it."""
    if block.belief.form in (NEVER, PER_UPDATE):
        return np.ones(design.rows)
    newest = np.zeros(len(block.mean))
    newest[grouping.codes] = grouping.last(design.time)
    return _fold.late_factor(np.maximum(newest[codes] - design.time, 0.0), block.belief.rate)


def _mark(block: Block, grouping: Grouping, solved: NDArray[np.bool_], design: Design) -> None:
    codes = grouping.codes[solved]
    block.last[codes] = grouping.last(design.time)[solved]
    block.counts[codes] = np.diff(grouping.ptr)[solved]


def _objective(
    blocks: Sequence[Block], terms: Terms, free: Sequence[int], groups: dict[int, Grouping], link: str
) -> float:
    total = _loss(terms, link, terms.design.weight)
    for r in free:
        mu0, cov0 = blocks[r].prior_arrays()
        centred = blocks[r].mean[groups[r].codes].astype(np.float64) - mu0
        if blocks[r].kind == FULL:
            total += 0.5 * float((centred * np.linalg.solve(unpack(cov0), centred.T).T).sum())
        else:
            total += 0.5 * float((centred**2 / blocks[r].belief.variance0(blocks[r].columns)).sum())
    return total


def _loss(terms: Terms, link: str, weight: Floats, without: NDArray[np.int64] | None = None) -> float:
    """Σ_n w_n ℓ(y_n, η_n), but for some rows."""
    losses = _links.by_name(link).loss(terms.design.label, terms.margin) * weight
    return float(losses.sum() - (0.0 if without is None else losses[without].sum()))


def _shared(terms: Terms, link: str, weight: Floats) -> float:
    """What the evidence gains by products whose sides are uncertain together."""
    products = [(r, of) for r, of in enumerate(terms.of) if of >= 0]
    if not products:
        return 0.0
    curvature = weight * _links.by_name(link).curvature(terms.design.label, terms.margin)
    return sum(
        _products.shared(terms.blocks[r], terms.codes[r], terms.blocks[of], terms.codes[of], curvature)
        for r, of in products
    )
